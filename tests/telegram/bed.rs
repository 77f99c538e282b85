//! A test DC, a hub that talks to it, and people who log in.

use std::time::Duration;

use messaging_hub::settings::Settings;
use secrecy::SecretString;
use serde_json::{Value, json};
use telegram_dc::{DcConfig, NewAccount, NewMedia, NewMessage, NewUser, Peer, Placed, TelegramDc};

use crate::support::{Client, Hub, Kind, Socket, until};

pub const SEED: &str = "the-hub's-own-tests";
pub const PASSWORD: &str = " a second password ";

/// A DC and a hub on it.
pub struct Bed {
    pub dc: TelegramDc,
    pub hub: Hub,
}

impl Bed {
    pub async fn start(kind: Kind) -> Self {
        let dc = dc().await;
        let hub = Hub::start_with(kind, settings(&dc)).await;
        Self { dc, hub }
    }
}

/// A test DC with Telegram's usual manners.
pub async fn dc() -> TelegramDc {
    let config = DcConfig {
        seed: SEED.to_owned(),
        keys: 512,
        ..DcConfig::default()
    };
    TelegramDc::start(config).await.expect("the DC starts")
}

/// The addresses of a DC, as the setting wants them.
pub fn addresses(dc: &TelegramDc) -> String {
    let centers = dc.addrs.iter().map(|(id, address)| format!("{id}={address}"));
    centers.collect::<Vec<_>>().join(",")
}

/// Leads a hub to a DC.
pub fn settings(dc: &TelegramDc) -> impl FnOnce(&mut Settings) + use<> {
    let addresses = addresses(dc);
    move |settings| {
        let telegram = &mut settings.platforms.telegram;
        telegram.app_id = Some("12345".to_owned());
        telegram.app_secret = Some(SecretString::from("0123456789abcdef0123456789abcdef"));
        telegram.dc = Some(addresses);
        telegram.test_key_seed = Some(SecretString::from(SEED));
    }
}

/// A person who can log in at the DC.
pub async fn account(dc: &TelegramDc, phone: &str, password: Option<&str>) -> i64 {
    let account = NewAccount {
        phone: phone.to_owned(),
        first_name: format!("Owner {phone}"),
        password: password.map(str::to_owned),
        ..NewAccount::default()
    };
    dc.add_account(account).await.expect("an account")
}

/// Somebody to talk to.
pub async fn friend(dc: &TelegramDc, name: &str) -> i64 {
    let user = NewUser {
        first_name: name.to_owned(),
        ..NewUser::default()
    };
    dc.add_user(user).await.expect("a user")
}

/// Somebody writes to an account.
pub async fn write(dc: &TelegramDc, account: i64, from: i64, text: &str) -> Placed {
    post(dc, account, from, text, None).await
}

/// Somebody writes to an account, with a file.
pub async fn post(dc: &TelegramDc, account: i64, from: i64, text: &str, media: Option<NewMedia>) -> Placed {
    let message = NewMessage {
        account: Some(account),
        peer: Some(Peer::User(from)),
        text: text.to_owned(),
        media,
        ..NewMessage::default()
    };
    dc.push_message(message).await.expect("it is written").remove(0)
}

/// Logs a user of the hub in with a code; the account's id.
pub async fn log_in(user: &Client, phone: &str) -> String {
    let hash = ask_code(user, phone).await;
    let done = verify(user, phone, &hash, "12345", None).await;
    assert_eq!(done["success"], true, "{done}");
    text(&done["accountId"])
}

/// Asks for a code; its hash.
pub async fn ask_code(user: &Client, phone: &str) -> String {
    let asked = user
        .post("/api/telegram/auth/phone", &json!({ "phoneNumber": phone }))
        .await
        .expect(200);
    assert_eq!(asked["success"], true);
    text(&asked["phoneCodeHash"])
}

pub fn verification(phone: &str, hash: &str, code: &str, password: Option<&str>) -> Value {
    let mut body = json!({ "phoneNumber": phone, "phoneCode": code, "phoneCodeHash": hash });
    if let Some(password) = password {
        body["password"] = json!(password);
    }
    body
}

pub async fn verify(user: &Client, phone: &str, hash: &str, code: &str, password: Option<&str>) -> Value {
    let body = verification(phone, hash, code, password);
    user.post("/api/telegram/auth/verify", &body).await.expect(200)
}

/// Waits until the account is in a state; the account.
pub async fn state(user: &Client, account: &str, state: &str) -> Value {
    until(&format!("the account is {state}"), async || {
        let accounts = user.get("/api/oauth/accounts").await.expect(200);
        let accounts = accounts["accounts"].as_array().expect("accounts").clone();
        accounts
            .into_iter()
            .find(|one| one["id"] == account && one["state"] == state)
    })
    .await
}

/// The conversations of the user's Telegram accounts.
pub async fn conversations(user: &Client) -> Vec<Value> {
    let page = user
        .get("/api/conversations?platform=telegram&limit=500&max_read=500")
        .await
        .expect(200);
    page["conversations"].as_array().expect("conversations").clone()
}

/// Waits for the conversation with that name; its id.
pub async fn conversation(user: &Client, name: &str) -> String {
    let found = until(&format!("the chat {name}"), async || {
        let all = conversations(user).await;
        all.into_iter().find(|one| one["participant_name"] == name)
    })
    .await;
    text(&found["id"])
}

/// The newest messages of a conversation, the newest first.
pub async fn messages(user: &Client, conversation: &str) -> Vec<Value> {
    let page = user
        .get(&format!("/api/messages/{conversation}?limit=200"))
        .await
        .expect(200);
    page["messages"].as_array().expect("messages").clone()
}

/// Waits for a message with that text.
pub async fn message(user: &Client, conversation: &str, content: &str) -> Value {
    until(&format!("the message {content}"), async || {
        let all = messages(user, conversation).await;
        all.into_iter().find(|one| one["content"] == content)
    })
    .await
}

/// Waits for a live message of that text on a socket.
pub async fn live_message(socket: &mut Socket, content: &str) -> Value {
    loop {
        let frame = socket.next_named("new_message").await;
        if frame["data"]["message"]["content"] == content {
            return frame;
        }
    }
}

#[track_caller]
pub fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("a text, not {value}"))
        .to_owned()
}

/// Waits until something is so at the DC, or fails.
pub const SOON: Duration = Duration::from_secs(20);
