//! Sending: what is answered when, repetitions, retries, and disconnecting.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::bed::{Bed, Slot, assert_both_casings, assert_utc, column, slot};
use crate::on_both_databases;
use crate::support::{self, Client, Correspondent, Hub, Kind, Reply, answer};

/// A hub whose answers wait one second for the platform.
static HASTY: Slot = slot();

on_both_databases!(a_repeated_request_gets_the_answer_of_the_first);

async fn a_repeated_request_gets_the_answer_of_the_first(kind: Kind) {
    let hub = Hub::start(kind).await;
    let (user, peer) = (hub.user().await, Correspondent::start());
    let channel = user.link(&peer).await;
    let chat = user.receive(&channel, "c1", "m1", "hello").await;

    let first = user.send(&chat, "once", Some("key-1")).await;
    let again = user.send(&chat, " once ", Some("key-1")).await;
    first.expect(201);
    again.expect(201);
    assert_eq!(first.text, again.text, "to the byte");
    assert!(!first.headers.contains_key("idempotency-replayed"));
    assert_eq!(again.headers["idempotency-replayed"], "true");

    let other = user.send(&chat, "twice", Some("key-1")).await.expect(409);
    assert_eq!(
        other,
        json!({ "error": "This Idempotency-Key was used for another request." })
    );
    let stranger = hub.user().await;
    let theirs = stranger.link(&peer).await;
    let their_chat = stranger.receive(&theirs, "c9", "m1", "hello").await;
    stranger.send(&their_chat, "once", Some("key-1")).await.expect(201);

    let parallel = (0..16).map(|_| user.send(&chat, "sixteen", Some("key-2")));
    let answers = futures_util::future::join_all(parallel).await;
    assert!(
        answers
            .iter()
            .all(|one| one.status == 201 && one.text == answers[0].text)
    );
    let firsts = answers
        .iter()
        .filter(|one| !one.headers.contains_key("idempotency-replayed"));
    assert_eq!(firsts.count(), 1, "one is the first");
    let sent: Vec<_> = peer.messages().into_iter().map(|(_, _, text)| text).collect();
    assert_eq!(
        sent,
        ["once", "once", "sixteen"],
        "two people's `once`, and no other twice"
    );
    assert!(peer.received().iter().all(|one| one.is_signed));
    hub.stop().await;
}

#[test]
fn a_sent_message_is_answered_201_with_the_message() {
    support::run(async {
        let bed = Bed::usual();
        let (user, peer, channel) = bed.linked().await;
        let chat = user.receive(&channel, "c1", "m1", "hello").await;
        let body = json!({ "content": "  look  ", "messageType": "image", "media_url": "https://example.org/x.png" });
        let sent = user
            .post(&format!("/api/messages/{chat}/send"), &body)
            .await
            .expect(201);
        let message = &sent["message"];
        assert_eq!(sent["success"], true);
        assert_both_casings(message);
        for (field, value) in [
            ("content", json!("look")),
            ("status", json!("sent")),
            ("is_outgoing", json!(true)),
            ("is_read", json!(true)),
            ("message_type", json!("image")),
            ("media_url", json!("https://example.org/x.png")),
            ("conversation_id", json!(chat)),
        ] {
            assert_eq!(message[field], value, "{field}");
        }
        assert_utc(&message["sent_at"]);
        let (id, platform_chat, text) = peer.messages().pop().unwrap();
        assert_eq!((platform_chat.as_str(), text.as_str()), ("c1", "look"));
        assert_eq!(message["platform_message_id"], format!("external-{id}"));

        let body = json!({ "content": "yes", "replyTo": message["id"] });
        let answered = user
            .post(&format!("/api/messages/{chat}/send"), &body)
            .await
            .expect(201);
        assert_eq!(answered["message"]["reply_to"], message["platform_message_id"]);
    });
}

#[test]
fn respond_async_is_answered_right_after_the_commit() {
    support::run(async {
        let bed = Bed::usual();
        let (user, peer, channel) = bed.linked().await;
        let chat = user.receive(&channel, "c1", "m1", "hello").await;
        peer.reply("c1", [Reply::Late(Duration::from_millis(400))]);
        let answer = user.try_send(&chat, "later", None, true).await.unwrap();
        let pending = answer.expect(202);
        assert_eq!(answer.headers["preference-applied"], "respond-async");
        assert_eq!(pending["pendingId"], pending["message"]["id"]);
        assert_eq!(
            (&pending["success"], &pending["message"]["status"]),
            (&json!(true), &json!("queued"))
        );
        assert!(pending["note"].as_str().unwrap().contains("on its way"));
        let status = support::until("the message is sent", async || {
            let page = user.get(&format!("/api/messages/{chat}?limit=1")).await.expect(200);
            let message = page["messages"][0].clone();
            (message["status"] == "sent").then_some(message)
        });
        assert_eq!(status.await["id"], pending["message"]["id"]);
    });
}

#[test]
fn a_page_learns_what_has_not_gone_out() {
    support::run(async {
        let bed = Bed::usual();
        let (user, peer, channel) = bed.linked().await;
        let other = bed.user().await;
        let chat = user.receive(&channel, "c1", "m1", "hello").await;
        peer.reply("c1", [Reply::Late(Duration::from_secs(1)), Reply::Refuse(400, None)]);
        let pending = async |user: &Client, header: &'static str| {
            let request = user.request(Method::GET, "/api/platforms/instagram/pending");
            let list = answer(request.header(header, "same-origin")).await.expect(200);
            assert_eq!(list["count"], list["pendingMessages"].as_array().unwrap().len());
            list["pendingMessages"].clone()
        };
        assert_eq!(pending(&user, "sec-fetch-site").await, json!([]));
        let late = user.try_send(&chat, "late", None, true).await.unwrap().expect(202);
        let list = pending(&user, "sec-fetch-site").await;
        assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
        assert_eq!(list[0]["id"], late["pendingId"]);
        assert_eq!(list[0]["conversationId"], chat.as_str());
        assert_eq!(list[0]["accountId"], channel.account_id.as_str());
        assert_utc(&list[0]["createdAt"]);
        for header in ["origin", "referer"] {
            assert_eq!(pending(&user, header).await[0]["id"], late["pendingId"], "{header}");
        }
        assert_eq!(pending(&other, "sec-fetch-site").await, json!([]), "another's");
        assert_eq!(pending(&user, "x-other").await, json!([]), "a program's");
        let refused = user.send(&chat, "refused", None).await.expect(502);
        let list = pending(&user, "sec-fetch-site").await;
        assert_eq!(column(&list, "id"), [refused["messageId"].as_str().unwrap()]);
        bed.client().get("/api/platforms/instagram/pending").await.expect(401);
    });
}

#[test]
fn suggestions_are_refused_in_words() {
    support::run(async {
        let bed = Bed::usual();
        let user = bed.user().await;
        let path = format!("/api/messages/{}/ai-assist", crate::bed::NOBODY);
        bed.client().post(&path, &json!({})).await.expect(401);
        let refused = user.post(&path, &json!({ "action": "suggest" })).await.expect(503);
        assert_eq!(
            refused,
            json!({ "error": "AI suggestions are not set up on this hub." })
        );
    });
}

#[test]
fn a_refused_message_is_502_and_can_be_tried_again_under_its_first_id() {
    support::run(async {
        let bed = Bed::usual();
        let (user, peer, channel) = bed.linked().await;
        let chat = user.receive(&channel, "c1", "m1", "hello").await;
        peer.reply("c1", [Reply::Refuse(400, None), Reply::Refuse(422, None)]);
        let failed = user.send(&chat, "please", None).await.expect(502);
        assert!(failed["error"].is_string(), "{failed}");
        assert_eq!(failed["status"], "failed");
        let id = failed["messageId"].as_str().unwrap();
        let retry = format!("/api/messages/{id}/retry");
        let again = user.post(&retry, &json!({})).await.expect(502);
        assert_eq!(again["messageId"], id);
        let stored = user.get(&format!("/api/messages/{chat}?limit=1")).await.expect(200);
        assert_eq!(stored["messages"][0]["status"], "failed");
        assert_eq!(
            stored["messages"][0]["status_reason"], again["error"],
            "the reason stays to be read"
        );

        let sent = user.post(&retry, &json!({})).await.expect(200);
        assert_eq!(
            (&sent["message"]["id"], &sent["message"]["status"]),
            (&json!(id), &json!("sent"))
        );
        let refused = user.post(&retry, &json!({})).await.expect(409);
        let text = "Only a failed message, or one of unknown fate, can be tried again.";
        assert_eq!(refused, json!({ "error": text }));
        assert_eq!(peer.messages().len(), 1, "the platform has it once");
    });
}

#[test]
fn a_busy_platform_is_answered_202_after_the_patience() {
    support::run(async {
        let bed = Bed::shared(&HASTY, |settings| settings.outbox.answer_seconds = 1);
        let (user, peer, channel) = bed.linked().await;
        let chat = user.receive(&channel, "c1", "m1", "hello").await;
        peer.reply("c1", [Reply::Refuse(503, None), Reply::Refuse(503, Some(2))]);
        let begun = hub_actors::clock::instant();
        let pending = user.send(&chat, "patience", Some("k")).await.expect(202);
        let took = begun.elapsed();
        assert!(
            took >= Duration::from_millis(900) && took < Duration::from_secs(5),
            "{took:?}"
        );
        assert_eq!(pending["pendingId"], pending["message"]["id"]);
        support::until("it is sent in the end", async || {
            (peer.messages().len() == 1).then_some(())
        })
        .await;
        let replayed = user.send(&chat, "patience", Some("k")).await;
        assert_eq!(
            replayed.expect(202)["pendingId"],
            pending["pendingId"],
            "the answer stays what it was"
        );
    });
}

#[test]
fn a_disconnected_account_takes_and_sends_nothing_and_stays_readable() {
    support::run(async {
        let bed = Bed::usual();
        let (user, peer, channel) = bed.linked().await;
        let chat = user.receive(&channel, "c1", "m1", "hello").await;
        let before = user.events().await.len();
        for _ in 0..2 {
            let path = format!("/api/oauth/disconnect/{}", channel.account_id);
            let done = user.delete(&path).await.expect(200);
            assert_eq!(
                done,
                json!({ "success": true, "message": "Account disconnected successfully" })
            );
        }
        let events = user.events().await.split_off(before);
        assert_eq!(events.len(), 1, "one event, however often");
        assert_eq!(events[0]["event"], "connection_update");
        assert_eq!(events[0]["data"]["account"]["isActive"], false);

        let late = user
            .deliver(&channel, "m2", &support::received("c1", "m2", "late"))
            .await
            .expect(404);
        assert_eq!(
            late,
            json!({ "error": "There is no such account, or it is disconnected" })
        );
        let refused = user.send(&chat, "late", None).await.expect(409);
        assert_eq!(
            refused,
            json!({ "error": "The account is disconnected. Link it again first." })
        );
        assert_eq!(
            user.get("/api/conversations").await.expect(200)["count"],
            0,
            "hidden from the list"
        );
        let count = user.get("/api/messages/unread/count").await.expect(200);
        assert_eq!(count, json!({ "total": 0, "byPlatform": {} }));
        user.get(&format!("/api/conversations/{chat}")).await.expect(200);
        let page = user.get(&format!("/api/messages/{chat}")).await.expect(200);
        assert_eq!(page["count"], 1, "readable by its id");
        let accounts = user.get("/api/oauth/accounts").await.expect(200);
        assert_both_casings(&accounts["accounts"][0]);
        assert_eq!(accounts["accounts"][0]["is_active"], false);
        assert!(!accounts.to_string().contains("whsec_"));
        assert!(peer.messages().is_empty());
    });
}

#[test]
fn a_new_secret_works_at_once_and_the_old_one_as_long_as_asked() {
    support::run(async {
        let bed = Bed::usual();
        let (user, peer, old) = bed.linked().await;
        let rotate = async |query: &str| {
            let path = format!("/api/accounts/custom/{}/rotate-secret{query}", old.account_id);
            let secret = user.post(&path, &json!({})).await.expect(200)["secret"]
                .as_str()
                .unwrap()
                .to_owned();
            support::Channel { secret, ..old.clone() }
        };
        let deliver = async |user: &Client, channel: &support::Channel, id: &str| {
            user.deliver(channel, id, &support::received("c1", id, "x"))
                .await
                .status
                .as_u16()
        };
        let new = rotate("").await;
        assert_ne!(new.secret, old.secret);
        assert_eq!(deliver(&user, &old, "m1").await, 200);
        assert_eq!(deliver(&user, &new, "m2").await, 200);
        let newest = rotate("?overlap_seconds=0").await;
        assert_eq!(deliver(&user, &new, "m3").await, 401);
        assert_eq!(deliver(&user, &newest, "m4").await, 200);

        let path = format!("/api/accounts/custom/{}", old.account_id);
        let renamed: Value = answer(user.request(Method::PATCH, &path).json(&json!({ "name": "New name" })))
            .await
            .expect(200);
        assert_eq!(renamed["account"]["platform_username"], "New name");
        assert!(renamed.get("secret").is_none(), "it is shown once only");
        peer.trust(&newest.secret);
        let chat = user.conversation("c1").await.unwrap();
        user.send(&chat, "signed with the newest", None).await.expect(201);
        assert!(peer.received().last().unwrap().is_signed);
    });
}
