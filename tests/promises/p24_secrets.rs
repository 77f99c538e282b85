//! P24: secrets and what people write are sealed, each value with a nonce and the id of its key; keys rotate while the
//! hub works; nothing of it stands in the log, however much is logged, nor in plain in the database.

use std::cell::Cell;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::on_both_databases;
use crate::support::{
    self, ADMIN_TOKEN, Channel, Client, Correspondent, Database, Hub, JWT_SECRET, Kind, PASSWORD, Process, Reply,
};

on_both_databases!(canaries_stay_where_they_belong);

/// A word that stands nowhere by chance.
const CANARY: &str = "canary-7b1f";
/// Everything that our own code has to say, and what the database's client would say of every statement.
const TALKATIVE: &str = "info,messaging_hub=trace,hub_actors=trace,tokio_postgres::query=trace";

async fn canaries_stay_where_they_belong(kind: Kind) {
    let database = Database::fresh(kind).await;
    let process = Process::start_with(&database, &[("HUB__LOG__FILTER", TALKATIVE)]).await;
    let mut user = process.client();
    user.register().await;
    let correspondent = Correspondent::start();
    let channel = user.link(&correspondent).await;
    let mut secrets = vec![
        PASSWORD.to_owned(),
        ADMIN_TOKEN.to_owned(),
        JWT_SECRET.to_owned(),
        channel.secret.trim_start_matches("whsec_").to_owned(),
    ];
    secrets.extend(sign_on_and_fail(&mut user).await);
    use_everything(&user, &channel, &correspondent).await;
    secrets.extend([user.token.clone().unwrap(), user.refresh_token.clone().unwrap()]);
    user.post("/api/auth/logout", &json!({ "refreshToken": user.refresh_token }))
        .await
        .expect(200);
    let operator = Client {
        token: Some(ADMIN_TOKEN.to_owned()),
        ..process.client()
    };
    operator.get("/api/admin/tree").await.expect(200);
    let metrics = operator.get("/metrics").await.text;
    let rows = if kind == Kind::Postgres {
        dump(&database).await
    } else {
        String::new()
    };
    let log = process.log();
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "the log is as talkative as can be"
    );
    assert!(log.contains("quarantine"), "it tells of what went wrong");
    assert!(!log.contains("with parameters"), "{}", around(&log, "with parameters"));
    let (status, _) = process.terminate().await;
    assert!(status.success(), "{status}");

    secrets.push(CANARY.to_owned());
    for secret in &secrets {
        for (place, text) in [("log", &log), ("metrics", &metrics), ("database", &rows)] {
            for form in forms(secret) {
                assert!(!text.contains(&form), "{place}: {}", around(text, &form));
            }
        }
        if kind == Kind::Embedded {
            search_files(database.folder(), secret);
        }
    }
}

/// The text as it is, and as it looks in a dump of bytes or in base64.
fn forms(secret: &str) -> [String; 2] {
    [
        secret.to_owned(),
        secret.bytes().map(|byte| format!("{byte:02x}")).collect(),
    ]
}

fn around(text: &str, found: &str) -> String {
    let line = text.lines().find(|line| line.contains(found)).unwrap_or_default();
    line.chars().take(400).collect()
}

/// Tokens that were used, right and wrong ones.
async fn sign_on_and_fail(user: &mut Client) -> Vec<String> {
    let wrong = json!({ "email": user.email, "password": format!("{CANARY} guessed") });
    user.post("/api/auth/login", &wrong).await.expect(401);
    let body = format!(r#"{{"email": "{CANARY}", "password": "{CANARY}"#);
    let malformed = user
        .request(Method::POST, "/api/auth/login")
        .header("content-type", "application/json");
    support::answer(malformed.body(body)).await.expect(400);
    let mut used = vec![user.token.clone().unwrap(), user.refresh_token.clone().unwrap()];
    let refresh = json!({ "refreshToken": user.refresh_token });
    let tokens = user.post("/api/auth/refresh", &refresh).await.expect(200);
    user.keep(&tokens);
    user.post("/api/auth/refresh", &refresh).await.expect(200);
    let broken = Client {
        token: Some(format!("{CANARY}.{CANARY}.{CANARY}")),
        ..user.clone()
    };
    broken.get("/api/auth/me").await.expect(403);
    let url = format!("ws://{}/ws/messages/?token={CANARY}", user.address);
    assert!(support::Socket::try_open(url.as_str()).await.is_err());
    used.push(user.token.clone().unwrap());
    used
}

/// Every way in and out, well and ill.
async fn use_everything(user: &Client, channel: &Channel, correspondent: &Correspondent) {
    let text = |what: &str| format!("{CANARY} {what}");
    let chat = user.receive(channel, "chat", "m1", &text("received")).await;
    let message = json!({ "id": "m1" });
    let conversation = json!({ "id": "chat" });
    let (sender, at) = (json!({ "id": "peer" }), "2026-01-02T03:04:05Z");
    let events = json!([
        { "type": "message.edited", "conversation": conversation, "at": at,
          "message": { "id": "m1", "text": text("edited") } },
        { "type": "message.edited", "conversation": conversation, "at": at,
          "message": { "id": "early", "text": text("parked") } },
        { "type": "reaction.added", "conversation": conversation, "message": message, "sender": sender,
          "emoji": "👍", "at": at },
        { "type": "message.received", "conversation": conversation,
          "message": { "id": "m2", "sender": sender, "mediaUrl": format!("https://example.org/{CANARY}.png"), "type": "image" } },
        { "type": "message.sent", "conversation": conversation, "message": { "id": "m3", "text": text("sent elsewhere") } },
    ]);
    user.deliver(channel, "events", &events).await.expect(200);
    let odd = json!({ "type": "message.received", "conversation": conversation, "message": { "text": text("odd") } });
    user.deliver(channel, "odd", &odd).await.expect(200);
    user.deliver(channel, "odder", &json!(text("odder"))).await.expect(200);
    let forged = Channel {
        secret: format!("whsec_{}", STANDARD.encode("another secret of thirty-two bytes")),
        ..channel.clone()
    };
    user.deliver(&forged, "forged", &support::received("chat", "m4", &text("forged")))
        .await
        .expect(401);

    user.send(&chat, &text("sent"), Some("key-1")).await.expect(201);
    user.send(&chat, &text("sent otherwise"), Some("key-1"))
        .await
        .expect(409);
    correspondent.reply("chat", [Reply::Refuse(503, None), Reply::Refuse(400, None)]);
    let failed = user.send(&chat, &text("refused"), Some("key-2")).await;
    assert!(!failed.status.is_success(), "{}", failed.text);
    let malformed = format!(r#"{{"content": "{CANARY} malformed"#);
    let request = user.request(Method::POST, &format!("/api/messages/{chat}/send"));
    support::answer(request.header("content-type", "application/json").body(malformed))
        .await
        .expect(400);
    user.send(&chat, &text(&"long".repeat(5_000)), None).await.expect(400);
    user.get(&format!("/api/messages/{chat}")).await.expect(200);

    let (mut socket, _) = user.socket(None).await;
    let command = |name: &str| json!({ "event": name, "data": { "conversationId": chat, "content": text(name), "clientId": "c1" } });
    for (command, answer) in [(command("send"), "ack"), (command("dance"), "error")] {
        socket.send(&command).await;
        socket.next_named(answer).await;
    }
    socket.send_text(&format!("{CANARY} no command")).await;
    socket.next_named("error").await;
    let all_sent = async || {
        let messages = correspondent.messages();
        messages.iter().any(|(_, _, sent)| *sent == text("send")).then_some(())
    };
    support::until("what the socket was given goes out", all_sent).await;
}

/// Every column of every table, as text.
async fn dump(database: &Database) -> String {
    let tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'";
    let mut rows = String::new();
    for table in database.query(tables).await {
        for row in database.query(&format!("SELECT t::text FROM {table} t")).await {
            rows.push_str(&row);
            rows.push('\n');
        }
    }
    assert!(
        rows.contains("person"),
        "addresses of people are not secret, and show that this reads what is there"
    );
    rows
}

/// Every file of an embedded database, its log of changes included.
fn search_files(folder: &Path, secret: &str) {
    let mut grep = Command::new("grep");
    grep.args([
        "--recursive",
        "--text",
        "--fixed-strings",
        "--files-with-matches",
        "-e",
        secret,
    ]);
    let found = grep.arg(folder).output().expect("grep runs");
    let files = String::from_utf8_lossy(&found.stdout);
    assert_eq!(found.status.code(), Some(1), "{secret} stands in {files}");
}

#[test]
fn a_key_rotates_while_the_hub_works() {
    support::run(async {
        let hub = Hub::start(Kind::Postgres).await;
        let user = hub.user().await;
        let channel = user.link(&Correspondent::start()).await;
        let chat = user.receive(&channel, "chat", "m0", "the same").await;
        let finished = Rc::new(Cell::new(false));
        let work = actix_rt::spawn(work(user.clone(), channel.clone(), chat, Rc::clone(&finished)));
        let operator = Client {
            token: Some(ADMIN_TOKEN.to_owned()),
            ..hub.client()
        };
        let mut rounds = 0;
        while rounds < if support::is_long() { 10 } else { 1 } {
            rounds += 1;
            let started = operator.post("/api/admin/rotate-key", &Value::Null).await.expect(202);
            let key = started["keyId"].as_i64().unwrap();
            // The new key is used when every hub has had the time to load it; the old one counts as replaced when every
            // transaction that may have used it has ended. Both go by the database's clock.
            tokio::time::sleep(Duration::from_secs(2)).await;
            hub.database
                .query(&format!(
                    "UPDATE vault_keys SET current_from = now() - interval '1 hour' WHERE id = {key} RETURNING id"
                ))
                .await;
            support::until("the old key is replaced", async || {
                let keys = hub
                    .database
                    .query("SELECT id FROM vault_keys WHERE replaced_at IS NULL");
                (keys.await == [key.to_string()]).then_some(())
            })
            .await;
        }
        finished.set(true);
        let written = work.await.expect("no request fails");
        let events = user.events().await;
        super::history::assert_gapless(&events);
        let messages = super::history::messages(&events);
        assert_eq!(messages.len(), written + 1);
        assert!(messages.iter().all(|entry| entry.text == "the same"), "all can be read");
        println!("P24: {rounds} rotations, {written} messages meanwhile");
        check_seals(&hub.database, rounds + 1).await;
        hub.stop().await;
    });
}

/// Writes and reads without a pause; how many messages came and went.
async fn work(user: Client, channel: Channel, chat: String, finished: Rc<Cell<bool>>) -> usize {
    let mut count = 0;
    while !finished.get() {
        count += 1;
        let id = format!("m{count}");
        user.deliver(&channel, &id, &support::received("chat", &id, "the same"))
            .await
            .expect(200);
        count += 1;
        let sent = user.send(&chat, "the same", Some(&format!("k{count}"))).await;
        assert!(sent.status.is_success(), "{}", sent.text);
        user.get(&format!("/api/messages/{chat}")).await.expect(200);
    }
    count
}

/// Format 1, the id of a key, a nonce of twelve bytes that is used once.
async fn check_seals(database: &Database, key: i32) {
    let columns = [
        ("messages", "content"),
        ("events", "payload"),
        ("connected_accounts", "credentials"),
        ("idempotency_keys", "answer"),
    ];
    let values: Vec<String> = columns
        .iter()
        .map(|(table, column)| format!("SELECT {column} AS value FROM {table} WHERE {column} IS NOT NULL"))
        .collect();
    let values = values.join(" UNION ALL ");
    let ask = async |what: &str| {
        database
            .query(&format!("SELECT {what} FROM ({values}) AS sealed"))
            .await
            .remove(0)
    };
    let all = ask("count(*)").await;
    assert!(all.parse::<usize>().unwrap() > 20, "{all}");
    assert_eq!(
        ask("count(DISTINCT substring(value FROM 6 FOR 12))").await,
        all,
        "no nonce is used twice"
    );
    let header = format!("01{key:08x}");
    let with_key = ask(&format!(
        "count(*) FILTER (WHERE substring(value FROM 1 FOR 5) = '\\x{header}')"
    ))
    .await;
    assert_eq!(
        with_key, all,
        "everything is sealed with the newest key, which it names"
    );
}
