//! P12: a snapshot with the events after its position is a fresh snapshot, after every action: a client that follows the
//! stream needs to ask nothing again. (The idea is Zulip's `verify_action`.)

use serde_json::{Value, json};

use super::follower::{Inbox, id};
use crate::on_both_databases;
use crate::support::{self, Channel, Client, Correspondent, Hub, Kind, Reply};

on_both_databases!(every_action_is_told_in_full);

/// Somebody whose every step is verified.
struct Bed {
    user: Client,
    channel: Channel,
    correspondent: Correspondent,
    deliveries: usize,
    kinds: Vec<String>,
}

impl Bed {
    /// Does something, waits until it is told by an event of that name (empty: by none) and nothing is under way, and
    /// compares.
    async fn verify(&mut self, what: &str, told: &str, action: impl AsyncFnOnce(&mut Self)) {
        let (mut inbox, position) = Inbox::read(&self.user).await;
        action(self).await;
        let user = &self.user;
        let (fresh, events) = support::until(what, async || {
            let after = |seq: i64| format!("/api/events?after={seq}&limit=1000");
            let events = user.get(&after(position)).await.expect(200)["events"]
                .as_array()
                .unwrap()
                .clone();
            let (fresh, now) = Inbox::read(user).await;
            // Nothing has happened while it was read.
            let last = events.last().map_or(Some(position), |event| event["seq"].as_i64());
            let is_still = last == Some(now) && user.get(&after(now)).await.expect(200)["events"] == json!([]);
            let is_done = told.is_empty() || events.iter().any(|event| event["event"] == told);
            (is_done && is_still && fresh.is_settled()).then_some((fresh, events))
        })
        .await;
        for event in &events {
            inbox.follow(event);
            self.kinds.push(event["event"].as_str().unwrap().to_owned());
        }
        for (name, left, right) in [
            ("accounts", &inbox.accounts, &fresh.accounts),
            ("conversations", &inbox.conversations, &fresh.conversations),
            ("messages", &inbox.messages, &fresh.messages),
        ] {
            for (id, value) in right {
                let followed = left
                    .get(id)
                    .unwrap_or_else(|| panic!("{what}: {name}: {value} is missing"));
                assert_eq!(followed, value, "{what}: {name}: followed, fresh; {events:#?}");
            }
            assert_eq!(left.len(), right.len(), "{what}: {name}");
        }
        assert_eq!(inbox.unread, fresh.unread, "{what}: unread");
    }

    async fn deliver(&mut self, event: &Value) {
        self.deliveries += 1;
        let id = format!("delivery{}", self.deliveries);
        self.user.deliver(&self.channel, &id, event).await.expect(200);
    }

    /// What comes in about a message of the chat.
    async fn about(&mut self, kind: &str, message: &str, further: Value) {
        let mut event = json!({ "type": kind, "conversation": { "id": "chat" }, "message": { "id": message } });
        for (name, value) in further.as_object().unwrap() {
            if name == "text" {
                event["message"]["text"] = value.clone();
            } else {
                event[name] = value.clone();
            }
        }
        self.deliver(&event).await;
    }

    async fn chat(&self) -> String {
        self.user.conversation("chat").await.expect("it is there")
    }

    async fn message(&self, external: &str) -> String {
        let page = self
            .user
            .get(&format!("/api/messages/{}?limit=200", self.chat().await))
            .await
            .expect(200);
        let messages = page["messages"].as_array().unwrap();
        id(messages
            .iter()
            .find(|one| one["platform_message_id"] == external)
            .expect("the message is there"))
    }

    /// Sends; the platform's id of what was sent last.
    async fn send(&self, text: &str) {
        let sent = self.user.send(&self.chat().await, text, Some(text)).await;
        assert!(
            sent.status.is_success() || sent.status == 502 || sent.status == 422,
            "{}",
            sent.text
        );
    }

    fn last_sent(&self) -> String {
        format!(
            "external-{}",
            self.correspondent.messages().last().expect("one was sent").0
        )
    }
}

async fn every_action_is_told_in_full(kind: Kind) {
    let hub = Hub::start(kind).await;
    let (user, correspondent) = (hub.user().await, Correspondent::start());
    let channel = user.link(&correspondent).await;
    let mut bed = Bed {
        user,
        channel,
        correspondent,
        deliveries: 0,
        kinds: Vec::new(),
    };
    incoming(&mut bed).await;
    outgoing(&mut bed).await;
    reading(&mut bed).await;
    accounts(&mut bed).await;
    for kind in [
        "new_message",
        "message_status_update",
        "message_edited",
        "message_deleted",
        "reaction_added",
        "reaction_removed",
        "conversation_update",
        "connection_update",
    ] {
        assert!(bed.kinds.iter().any(|one| one == kind), "no action has made {kind}");
    }
    hub.stop().await;
}

async fn incoming(bed: &mut Bed) {
    let peer = json!({ "id": "peer" });
    let reaction = json!({ "sender": peer, "emoji": "+1" });
    for (number, what) in ["a new conversation", "a message", "another", "a fourth"]
        .iter()
        .enumerate()
    {
        let event = support::received("chat", &format!("m{number}"), "hello");
        bed.verify(what, "new_message", async |bed| bed.deliver(&event).await)
            .await;
    }
    let image = json!({
        "type": "message.received", "conversation": { "id": "chat" },
        "message": { "id": "image", "sender": peer, "type": "image", "mediaUrl": "https://example.org/a.png" },
    });
    bed.verify("an image", "new_message", async |bed| bed.deliver(&image).await)
        .await;
    bed.verify("an edit", "message_edited", async |bed| {
        bed.about("message.edited", "m1", json!({ "text": "other words" }))
            .await;
    })
    .await;
    for message in ["m1", "m2"] {
        bed.verify("a reaction", "reaction_added", async |bed| {
            bed.about("reaction.added", message, reaction.clone()).await;
        })
        .await;
    }
    bed.verify("another reaction", "reaction_added", async |bed| {
        bed.about(
            "reaction.added",
            "m1",
            json!({ "sender": { "id": "other" }, "emoji": "-1" }),
        )
        .await;
    })
    .await;
    bed.verify("a reaction taken back", "reaction_removed", async |bed| {
        bed.about("reaction.removed", "m1", reaction.clone()).await;
    })
    .await;
    for message in ["m1", "image"] {
        bed.verify(
            "the deletion of an unread message",
            "conversation_update",
            async |bed| {
                bed.about("message.deleted", message, json!({})).await;
            },
        )
        .await;
    }
    bed.verify("what came before its message", "reaction_added", async |bed| {
        bed.about("message.edited", "late", json!({ "text": "edited before" }))
            .await;
        bed.about("reaction.added", "late", reaction.clone()).await;
        bed.deliver(&support::received("chat", "late", "first words")).await;
    })
    .await;
    bed.verify("a profile", "conversation_update", async |bed| {
        let profile = json!({ "id": "chat", "name": "Another name", "avatarUrl": "https://example.org/b.png" });
        bed.deliver(&json!({ "type": "conversation.updated", "conversation": profile }))
            .await;
    })
    .await;
    bed.verify("a conversation without messages", "conversation_update", async |bed| {
        let profile = json!({ "id": "empty", "name": "Nobody has written" });
        bed.deliver(&json!({ "type": "conversation.updated", "conversation": profile }))
            .await;
    })
    .await;
    bed.verify("a message from another client", "new_message", async |bed| {
        let message = json!({ "id": "own", "text": "by telephone" });
        bed.deliver(&json!({ "type": "message.sent", "conversation": { "id": "chat" }, "message": message }))
            .await;
    })
    .await;
}

async fn outgoing(bed: &mut Bed) {
    bed.verify("a send", "message_status_update", async |bed| bed.send("one").await)
        .await;
    for kind in ["receipt.delivered", "receipt.read"] {
        bed.verify(kind, "message_status_update", async |bed| {
            let sent = bed.last_sent();
            bed.about(kind, &sent, json!({})).await;
        })
        .await;
    }
    bed.verify(
        "a send that is not delivered after all",
        "message_status_update",
        async |bed| {
            bed.send("two").await;
            let sent = bed.last_sent();
            bed.about("receipt.failed", &sent, json!({ "reason": "unknown number" }))
                .await;
        },
    )
    .await;
    bed.verify("a send that is refused", "message_status_update", async |bed| {
        bed.correspondent.reply("chat", [Reply::Refuse(400, None)]);
        bed.send("three").await;
    })
    .await;
    bed.verify("its retry", "message_status_update", async |bed| {
        let page = bed
            .user
            .get(&format!("/api/messages/{}", bed.chat().await))
            .await
            .expect(200);
        let messages = page["messages"].as_array().unwrap();
        let failed = messages.iter().find(|one| one["content"] == "three").unwrap();
        assert_eq!(failed["status"], "failed");
        let answer = bed
            .user
            .post(&format!("/api/messages/{}/retry", id(failed)), &Value::Null)
            .await;
        assert!(answer.status.is_success(), "{}", answer.text);
    })
    .await;
    bed.verify(
        "an echo that comes before the answer",
        "message_status_update",
        async |bed| {
            bed.correspondent.reply("chat", [Reply::DoneThen(500)]);
            let chat = bed.chat().await;
            bed.user
                .try_send(&chat, "echoed", Some("echoed"), true)
                .await
                .unwrap()
                .expect(202);
            let sent = support::until("it has arrived", async || {
                let last = bed.correspondent.messages().pop()?;
                (last.2 == "echoed").then(|| format!("external-{}", last.0))
            })
            .await;
            bed.about("message.sent", &sent, json!({ "text": "echoed" })).await;
            support::until("it is sent", async || {
                let arrived = bed.correspondent.messages();
                (arrived.iter().filter(|one| one.2 == "echoed").count() == 2).then_some(())
            })
            .await;
        },
    )
    .await;
    bed.verify("the echo of a send, with a reaction", "reaction_added", async |bed| {
        bed.send("four").await;
        let sent = bed.last_sent();
        bed.about("message.sent", &sent, json!({ "text": "four" })).await;
        bed.about(
            "reaction.added",
            &sent,
            json!({ "sender": { "id": "peer" }, "emoji": "+1" }),
        )
        .await;
    })
    .await;
}

async fn reading(bed: &mut Bed) {
    bed.verify("one message read", "conversation_update", async |bed| {
        let message = bed.message("m2").await;
        bed.user
            .patch(&format!("/api/messages/{message}/read"), &Value::Null)
            .await
            .expect(200);
    })
    .await;
    bed.verify("the conversation read", "conversation_update", async |bed| {
        let path = format!("/api/messages/conversation/{}/read", bed.chat().await);
        bed.user.patch(&path, &Value::Null).await.expect(200);
    })
    .await;
    bed.verify("the deletion of a read message", "message_deleted", async |bed| {
        bed.about("message.deleted", "m2", json!({})).await;
    })
    .await;
}

async fn accounts(bed: &mut Bed) {
    bed.verify("credentials that are refused", "connection_update", async |bed| {
        bed.correspondent.reply("chat", [Reply::Refuse(401, None)]);
        bed.send("five").await;
    })
    .await;
    let account = format!("/api/accounts/custom/{}", bed.channel.account_id);
    bed.verify("a new secret, which nobody sees", "", async |bed| {
        bed.user
            .post(&format!("{account}/rotate-secret"), &Value::Null)
            .await
            .expect(200);
    })
    .await;
    bed.verify("another name", "connection_update", async |bed| {
        bed.user
            .patch(&account, &json!({ "name": "Another name" }))
            .await
            .expect(200);
    })
    .await;
    bed.verify("yet another name", "connection_update", async |bed| {
        bed.user
            .patch(&account, &json!({ "name": "Yet another" }))
            .await
            .expect(200);
    })
    .await;
    bed.verify("another account", "connection_update", async |bed| {
        bed.user.link(&bed.correspondent).await;
    })
    .await;
    bed.verify("an account disconnected", "connection_update", async |bed| {
        let path = format!("/api/oauth/disconnect/{}", bed.channel.account_id);
        bed.user.delete(&path).await.expect(200);
    })
    .await;
}
