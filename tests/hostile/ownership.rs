//! Somebody else's things are answered like things that do not exist, and stay as they are: every route of the OpenAPI
//! document, and every command of the socket.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::document::{Operation, operations};
use crate::support::{self, Answer, Client, Correspondent, Reply};
use crate::target::Target;

/// An id that nothing has.
pub const NOBODY: &str = "0190a3c4-0000-7000-8000-00000000abcd";

/// Routes on which no person acts. What they may tell and change is tested elsewhere.
const NOT_PERSONAL: [(&str, &str); 6] = [
    // A stranger's delivery is refused by its signature (P25), which is looked at once there is an account with a secret.
    ("POST", "/api/webhooks/custom/{account_id}"),
    ("GET", "/api/oauth/connect/{platform}"),
    // Not set up, whatever it is about.
    ("POST", "/api/messages/{conversation_id}/ai-assist"),
    ("GET", "/api/admin/tree"),
    ("POST", "/api/admin/rotate-key"),
    ("GET", "/metrics"),
];

struct Owner {
    client: Client,
    account: String,
    conversation: String,
    message: String,
    failed: String,
    /// The first file of a message, if it had one.
    file: String,
}

impl Owner {
    async fn new(target: &Target) -> Self {
        let (client, peer) = (target.user().await, Correspondent::start());
        let channel = client.link(&peer).await;
        let conversation = client.receive(&channel, "chat", "message", "hello").await;
        peer.reply("chat", [Reply::Refuse(400, None)]);
        let failed = client.send(&conversation, "fails", None).await.expect(502);
        let page = client.get(&format!("/api/messages/{conversation}")).await.expect(200);
        let message = page["messages"][1]["id"].as_str().unwrap();
        Self {
            file: format!("{message}.0"),
            failed: failed["messageId"].as_str().unwrap().to_owned(),
            message: message.to_owned(),
            account: channel.account_id,
            conversation,
            client,
        }
    }

    /// The owner's ids that may stand at a place or in a parameter of this name.
    fn ids(&self, operation: &Operation, name: &str) -> Vec<&str> {
        match name {
            "account_id" => vec![&self.account],
            "conversation_id" => vec![&self.conversation],
            "message_id" => vec![&self.message, &self.failed],
            // Of a conversation, or of a message.
            "id" => vec![&self.conversation, &self.message, &self.failed],
            "attachment_id" => vec![&self.file],
            "chat_id" | "attempt" => vec![&self.conversation],
            "before" => vec![&self.message],
            other => panic!("{}: teach this test what a {other} is", operation.name()),
        }
    }

    /// All that the owner can see.
    async fn sight(&self) -> Vec<Value> {
        let mut sight = Vec::new();
        for path in [
            "/api/auth/me",
            "/api/oauth/accounts",
            "/api/conversations",
            "/api/messages",
            "/api/messages/unread/count",
        ] {
            sight.push(self.client.get(path).await.expect(200));
        }
        sight.extend(self.client.events().await);
        sight
    }
}

/// What an answer tells, without what differs from one to the next: `Connection` depends on whether the body had arrived.
fn told(answer: &Answer) -> (u16, String, BTreeMap<String, String>) {
    let headers = answer.headers.iter();
    let headers = headers
        .filter(|(name, _)| {
            !name.as_str().starts_with("x-r")
                && !matches!(name.as_str(), "date" | "connection" | "access-control-expose-headers")
        })
        .map(|(name, value)| (name.to_string(), format!("{value:?}")));
    (answer.status.as_u16(), answer.text.clone(), headers.collect())
}

async fn ask(client: &Client, operation: &Operation, path: &str) -> Answer {
    let mut request = client.request(operation.method.clone(), path);
    if let Some(body) = &operation.body {
        request = request.json(body);
    } else if operation.method != Method::GET {
        request = request.json(&json!({}));
    }
    support::answer(request).await
}

fn is_personal(operation: &Operation) -> bool {
    !NOT_PERSONAL.contains(&(operation.method.as_str(), operation.path.as_str()))
}

/// Parameters of a query that name a thing. A new one that is neither here nor among the plain ones fails the test.
fn names_a_thing(operation: &Operation, name: &str) -> bool {
    let plain = [
        "limit",
        "offset",
        "max_read",
        "platform",
        "since",
        "after",
        "overlap_seconds",
    ];
    assert!(
        name == "before" || plain.contains(&name),
        "{}: what is {name}?",
        operation.name()
    );
    name == "before"
}

#[test]
fn a_foreign_id_is_answered_like_one_that_does_not_exist() {
    let target = Target::start();
    target.run(async {
        let (owner, stranger) = (Owner::new(&target).await, Owner::new(&target).await);
        let operations: Vec<Operation> = operations(&owner.client)
            .await
            .into_iter()
            .filter(is_personal)
            .collect();
        let before = owner.sight().await;
        let mut tried = 0;
        for operation in &operations {
            for place in &operation.places {
                for id in owner.ids(operation, place) {
                    let nobody = match place.as_str() {
                        "attachment_id" => format!("{NOBODY}.0"),
                        _ => NOBODY.to_owned(),
                    };
                    for id_or_guess in [id, &id.to_uppercase()] {
                        let unknown = if id == id_or_guess {
                            nobody.clone()
                        } else {
                            nobody.to_uppercase()
                        };
                        let foreign = ask(
                            &stranger.client,
                            operation,
                            &operation.path_with(|_| id_or_guess.to_owned()),
                        )
                        .await;
                        let unknown = ask(&stranger.client, operation, &operation.path_with(|_| unknown.clone())).await;
                        assert_eq!(told(&foreign), told(&unknown), "{}", operation.name());
                        assert!(
                            matches!(foreign.status.as_u16(), 403 | 404),
                            "{}: {foreign:?}",
                            operation.name()
                        );
                        tried += 1;
                    }
                }
            }
            // A foreign thing beside one's own.
            for name in operation.query.iter().filter(|name| names_a_thing(operation, name)) {
                for id in owner.ids(operation, name) {
                    let own = operation.path_with(|place| stranger.ids(operation, place)[0].to_owned());
                    let foreign = ask(&stranger.client, operation, &format!("{own}?{name}={id}")).await;
                    let unknown = ask(&stranger.client, operation, &format!("{own}?{name}={NOBODY}")).await;
                    assert_eq!(told(&foreign), told(&unknown), "{}", operation.name());
                    tried += 1;
                }
            }
        }
        assert!(tried >= 20, "only {tried} foreign ids");
        println!("{tried} foreign ids");
        // Without an id a route shows one's own things only.
        for operation in operations
            .iter()
            .filter(|one| one.method == Method::GET && one.places.is_empty())
        {
            let text = ask(&stranger.client, operation, &operation.path).await.text;
            for id in [
                &owner.account,
                &owner.conversation,
                &owner.message,
                &owner.failed,
                &owner.client.user_id,
            ] {
                assert!(
                    !text.contains(id.as_str()),
                    "{} shows somebody else's {id}",
                    operation.name()
                );
            }
        }
        assert_eq!(owner.sight().await, before, "the owner's things have changed");
    });
    target.assert_well();
}

#[test]
fn a_command_on_a_foreign_thing_is_answered_like_one_on_nothing() {
    let target = Target::start();
    target.run(async {
        let (owner, stranger) = (Owner::new(&target).await, Owner::new(&target).await);
        let before = owner.sight().await;
        let (mut live, _) = owner.client.socket(None).await;
        let (mut socket, _) = stranger.client.socket(None).await;
        let (chat, message) = (owner.conversation.as_str(), owner.message.as_str());
        let own = stranger.conversation.as_str();
        let command = |event: &str, conversation: &str, message: Option<&str>| {
            let data =
                json!({ "conversationId": conversation, "messageId": message, "content": "x", "clientId": "mine" });
            json!({ "event": event, "data": data })
        };
        for (event, foreign, unknown) in [
            ("send", (chat, None), (NOBODY, None)),
            ("read", (chat, None), (NOBODY, None)),
            ("read", (chat, Some(message)), (NOBODY, Some(NOBODY))),
            ("read", (own, Some(message)), (own, Some(NOBODY))),
            ("typing", (chat, None), (NOBODY, None)),
        ] {
            socket.send(&command(event, foreign.0, foreign.1)).await;
            let to_foreign = socket.next().await;
            socket.send(&command(event, unknown.0, unknown.1)).await;
            let to_unknown = socket.next().await;
            assert_eq!(to_foreign, to_unknown, "{event}");
            assert_eq!(to_foreign["data"]["code"], "NOT_FOUND", "{event}: {to_foreign}");
        }
        live.send(&json!({ "event": "ping", "timestamp": 1 })).await;
        assert_eq!(
            live.next().await["event"],
            "pong",
            "nothing but the pong reaches the owner"
        );
        assert_eq!(owner.sight().await, before, "the owner's things have changed");
    });
    target.assert_well();
}

#[test]
fn a_foreign_token_or_session_opens_nothing_of_the_owner() {
    let target = Target::start();
    target.run(async {
        let (owner, stranger) = (Owner::new(&target).await, Owner::new(&target).await);
        // The session is part of the signed token: one's own refresh token cannot end or renew somebody else's.
        let renewed = stranger
            .client
            .post(
                "/api/auth/refresh",
                &json!({ "refreshToken": stranger.client.refresh_token }),
            )
            .await;
        let renewed = renewed.expect(200);
        let mut again = stranger.client.clone();
        again.keep(&renewed);
        assert_eq!(
            again.get("/api/auth/me").await.expect(200)["id"],
            stranger.client.user_id.as_str()
        );
        again
            .post("/api/auth/logout", &json!({ "refreshToken": again.refresh_token }))
            .await
            .expect(200);
        again.get("/api/auth/me").await.expect(401);
        owner.client.get("/api/auth/me").await.expect(200);
        // An access token is no refresh token, whoever's it is.
        let access = owner.client.token.clone();
        stranger
            .client
            .post("/api/auth/logout", &json!({ "refreshToken": access }))
            .await
            .expect(200);
        stranger
            .client
            .post("/api/auth/refresh", &json!({ "refreshToken": access }))
            .await
            .expect(401);
        owner.client.get("/api/auth/me").await.expect(200);
    });
    target.assert_well();
}
