//! Deliveries: bodies and the headers that sign them, from strangers and from a platform that has gone mad.

use proptest::prelude::*;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use crate::support::{self, Answer, Channel, Client, Correspondent, received, sign};
use crate::target::{Outcome, Target};
use crate::{answers, tokens};

const FIELDS: [&str; 12] = [
    "/type",
    "/conversation",
    "/conversation/id",
    "/conversation/name",
    "/conversation/avatarUrl",
    "/message",
    "/message/id",
    "/message/sender/id",
    "/message/sender/name",
    "/message/text",
    "/message/sentAt",
    "/message/replyTo",
];

const TYPES: [&str; 11] = [
    "message.received",
    "message.sent",
    "message.edited",
    "message.deleted",
    "reaction.added",
    "reaction.removed",
    "receipt.delivered",
    "receipt.read",
    "receipt.failed",
    "typing",
    "conversation.updated",
];

fn event(kind: &str) -> Value {
    let mut event = received("chat", "message", "text");
    event["type"] = json!(kind);
    event["sender"] = json!({ "id": "peer", "name": "Peer" });
    event["emoji"] = json!("\u{1f44d}");
    event
}

/// A body that may be anything.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let changed = (
        prop::sample::select(&TYPES[..]),
        prop::sample::select(&FIELDS[..]),
        tokens::any_token(),
    );
    let changed = changed.prop_map(|(kind, field, token)| tokens::put(&event(kind), field, &token).into_bytes());
    let many = (1..1_100_usize, tokens::any_token()).prop_map(|(count, token)| {
        let event = event("message.received").to_string();
        format!("[{}{token}]", format!("{event},").repeat(count)).into_bytes()
    });
    prop_oneof![
        6 => changed,
        1 => many,
        2 => prop::collection::vec(any::<u8>(), 0..2_000),
        1 => tokens::any_token().prop_map(String::into_bytes),
    ]
}

/// A header's value: any bytes that a client can put into one, or something that looks right.
fn any_header() -> impl Strategy<Value = Vec<u8>> {
    let now = support::now();
    let bytes = prop::collection::vec(prop_oneof![32..=126_u8, 128..=255_u8, Just(9)], 0..300);
    let likely = prop::sample::select(vec![
        String::new(),
        "v1,".to_owned(),
        "v1,AAAA".to_owned(),
        format!("v1,{}", "A".repeat(44)),
        "v1,=".repeat(3_000),
        "v1,AAAA ".repeat(3_000),
        now.to_string(),
        format!("0{now}"),
        i64::MIN.to_string(),
        u64::MAX.to_string(),
        "999999999999".to_owned(),
        "1e9".to_owned(),
        "a.b".to_owned(),
        "x".repeat(256),
    ]);
    prop_oneof![bytes, likely.prop_map(String::into_bytes)]
}

async fn deliver(client: &Client, path: &str, body: Vec<u8>, headers: [(&str, &[u8]); 3]) -> Answer {
    let mut request = client.http.post(format!("http://{}{path}", client.address));
    for (name, value) in headers {
        request = request.header(name, HeaderValue::from_bytes(value).expect("a header's bytes"));
    }
    support::answer(request.header("content-type", "application/json").body(body)).await
}

/// The person can read all that came in.
async fn assert_readable(person: &Client) {
    person.events().await;
    let list = person
        .get("/api/conversations?max_read=500&limit=500")
        .await
        .expect(200);
    for conversation in list["conversations"].as_array().unwrap() {
        let id = conversation["id"].as_str().unwrap();
        person.get(&format!("/api/messages/{id}")).await.expect(200);
    }
}

async fn linked(target: &Target) -> (Client, Channel) {
    let person = target.user().await;
    let channel = person.link(&Correspondent::start()).await;
    (person, channel)
}

#[test]
fn a_genuine_delivery_of_anything_is_taken() {
    let target = Target::start();
    let (person, channel) = target.run(linked(&target));
    let path = format!("/api/webhooks/custom/{}", channel.account_id);
    let take = async |(body, content_type): (Vec<u8>, Option<Vec<u8>>)| -> Outcome {
        let now = support::now();
        let signature = sign(&channel.secret, "id", now, &body);
        let (time, extra) = (now.to_string(), content_type.unwrap_or_default());
        let headers = [
            ("webhook-id", b"id".as_slice()),
            ("webhook-timestamp", time.as_bytes()),
            ("webhook-signature", signature.as_bytes()),
        ];
        let mut request = person.http.post(format!("http://{}{path}", person.address));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.header(
            "content-type",
            HeaderValue::from_bytes(&extra).expect("a header's bytes"),
        );
        let answer = support::answer(request.body(body)).await;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    };
    target.try_all(250, &(any_body(), prop::option::of(any_header())), take);
    target.run(async {
        person.receive(&channel, "after", "after", "still here").await;
        assert_readable(&person).await;
    });
    target.assert_well();
}

#[test]
fn whatever_is_not_signed_is_refused() {
    let target = Target::start();
    let (person, channel) = target.run(linked(&target));
    let path = format!("/api/webhooks/custom/{}", channel.account_id);
    let refuse = async |(body, id, time, signature): (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>)| -> Outcome {
        let headers = [
            ("webhook-id", id.as_slice()),
            ("webhook-timestamp", time.as_slice()),
            ("webhook-signature", signature.as_slice()),
        ];
        let answer = deliver(&person, &path, body, headers).await;
        answers::check(&Method::POST, &path, &answer)?;
        if answer.status == 401 {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    };
    target.try_all(200, &(any_body(), any_header(), any_header(), any_header()), refuse);
    target.run(async {
        let events = person.events().await;
        let of_chats = events.iter().filter(|event| event["event"] == "new_message").count();
        assert_eq!(of_chats, 0, "nothing is stored");
    });
    target.assert_well();
}
