//! Tests of the translation of deliveries.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn translate(body: &[u8]) -> Result<Vec<InboundEvent>, MapError> {
    let signed_at = OffsetDateTime::from_unix_timestamp(1_700_000_000).expect("a time");
    let own_id = ExternalId::from("me");
    events(
        body,
        &Defaults {
            own_id: &own_id,
            signed_at,
            received_at: signed_at + time::Duration::SECOND,
        },
    )
}

fn one(event: &Value) -> InboundKind {
    let mut events = translate(event.to_string().as_bytes()).expect("a good event");
    assert_eq!(events.len(), 1);
    let event = events.remove(0);
    assert_eq!(event.conversation.as_str(), "c1");
    event.kind
}

fn refusal(body: &Value) -> String {
    translate(body.to_string().as_bytes())
        .expect_err("a bad delivery")
        .to_string()
}

fn received() -> Value {
    json!({
        "type": "message.received",
        "conversation": { "id": "c1", "name": "Ada", "avatarUrl": "https://example.com/ada.png", "color": "red" },
        "message": {
            "id": "m1", "sender": { "id": "ada", "name": "Ada" }, "text": "h\u{e9}llo \u{1f600}", "type": "image",
            "mediaUrl": "https://example.com/x.png", "replyTo": "m0", "sentAt": "2023-11-14T23:13:20.1234567+01:00",
        },
        "unknown": [1, 2, 3],
    })
}

/// The good event with one field replaced. The path is that of the error, so `message.text` is `/message/text`.
fn with(path: &str, value: Value) -> Value {
    let mut event = received();
    let mut place = &mut event;
    for key in path.split('.') {
        place = &mut place[key];
    }
    *place = value;
    event
}

#[test]
fn a_message_is_translated_field_by_field() {
    let events = translate(received().to_string().as_bytes()).expect("a good event");
    assert_eq!(events[0].profile.name.as_deref(), Some("Ada"));
    assert_eq!(
        events[0].profile.avatar_url.as_deref(),
        Some("https://example.com/ada.png")
    );
    let InboundKind::Message(message) = &events[0].kind else {
        panic!("a message")
    };
    assert_eq!(message.text, "h\u{e9}llo \u{1f600}");
    assert_eq!(
        (message.sender_id.as_str(), message.sender_name.as_deref()),
        ("ada", Some("Ada"))
    );
    assert_eq!(
        (message.kind, message.is_outgoing, message.is_read),
        (MessageKind::Image, false, false)
    );
    assert_eq!(message.reply_to, Some(ExternalId::from("m0")));
    // In UTC, and cut to microseconds.
    assert_eq!(message.sent_at.unix_timestamp_nanos(), 1_700_000_000_123_456_000);
    assert!(message.sent_at.offset().is_utc());
}

#[test]
fn escapes_and_raw_text_mean_the_same() {
    let escaped = br#"{"type":"message.received","conversation":{"id":"c1"},"message":{"id":"m1",
        "sender":{"id":"ada"},"text":"h\u00e9llo \ud83d\ude00"}}"#;
    let events = translate(escaped).expect("a good event");
    let InboundKind::Message(message) = &events[0].kind else {
        panic!("a message")
    };
    assert_eq!(message.text, "h\u{e9}llo \u{1f600}");
    assert_eq!(
        message.sent_at.unix_timestamp(),
        1_700_000_000,
        "the signed time stands in"
    );
    assert!(
        translate(br#"{"type":"\ud83d"}"#).is_err(),
        "half a character is no text"
    );
    assert!(
        translate(b"{\"type\":\"\xff\"}").is_err(),
        "neither are bytes that are not UTF-8"
    );
}

#[test]
fn every_type_of_event_is_known() {
    let chat = json!({ "id": "c1" });
    let about = json!({ "id": "m1", "text": "new" });
    let event = |name: &str| {
        one(&json!({
            "type": name, "conversation": chat, "message": about, "sender": { "id": "ada", "name": "Ada" },
            "emoji": "\u{1f44d}", "reason": "gone", "at": 1_700_000_000_500_i64,
        }))
    };
    let at = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_500_000_000).expect("a time");
    let message = ExternalId::from("m1");
    let receipt = |status, reason: Option<&str>| InboundKind::Receipt {
        message: message.clone(),
        status,
        reason: reason.map(str::to_owned),
        at,
    };
    let reaction = |is_active| InboundKind::Reaction {
        message: message.clone(),
        actor_id: "ada".to_owned(),
        emoji: "\u{1f44d}".to_owned(),
        is_active,
        at,
    };
    let edited = InboundKind::Edited {
        message: message.clone(),
        text: "new".to_owned(),
        at,
    };
    assert_eq!(event("message.edited"), edited);
    assert_eq!(
        event("message.deleted"),
        InboundKind::Deleted {
            message: message.clone(),
            at
        }
    );
    assert_eq!(event("reaction.added"), reaction(true));
    assert_eq!(event("reaction.removed"), reaction(false));
    assert_eq!(event("receipt.delivered"), receipt(DeliveryStatus::Delivered, None));
    assert_eq!(event("receipt.read"), receipt(DeliveryStatus::Read, None));
    assert_eq!(event("receipt.failed"), receipt(DeliveryStatus::Failed, Some("gone")));
    let typing = InboundKind::Typing {
        actor_id: "ada".to_owned(),
        actor_name: Some("Ada".to_owned()),
    };
    assert_eq!(event("typing"), typing);
    assert_eq!(event("conversation.updated"), InboundKind::Profile);
    let InboundKind::Message(own) = event("message.sent") else {
        panic!("a message")
    };
    assert!(own.is_outgoing);
    assert_eq!(own.sender_id, "me");
}

#[test]
fn a_delivery_holds_one_event_or_many() {
    let many = |count: usize| Value::Array(vec![received(); count]);
    let count = |body: &Value| translate(body.to_string().as_bytes()).map(|events| events.len()).ok();
    assert_eq!(count(&many(0)), Some(0));
    assert_eq!(count(&many(MAX_EVENTS)), Some(MAX_EVENTS));
    let complaint = "the body holds 1001 events, and at most 1000 are taken in one delivery";
    assert_eq!(refusal(&many(MAX_EVENTS + 1)), complaint);
    assert_eq!(
        refusal(&json!("x")),
        "the body must be an event object or an array of event objects"
    );
    assert_eq!(refusal(&json!([received(), 5])), "event 1: must be an object");
    assert_eq!(refusal(&json!([received(), {}])), "event 1: type is missing");
    assert!(translate(b"").is_err());
    assert!(translate("[".repeat(100_000).as_bytes()).is_err(), "nesting is bounded");
}

#[test]
fn each_complaint_names_the_field_and_the_problem() {
    let long = |bytes: usize| json!("x".repeat(bytes));
    for (field, value, problem) in [
        ("type", json!(null), "is missing"),
        ("type", json!(5), "must be a string"),
        (
            "type",
            json!("message.send"),
            "is not a type of event that the hub knows",
        ),
        ("conversation", json!(null), "is missing"),
        ("conversation", json!("c1"), "must be an object"),
        ("conversation.id", json!(null), "is missing"),
        ("conversation.id", json!(5), "must be a string"),
        ("conversation.id", json!(""), "must not be empty"),
        ("conversation.id", long(256), "is longer than 255 bytes"),
        ("conversation.id", json!("a\u{0}b"), "must not contain a NUL character"),
        ("conversation.name", long(256), "is longer than 255 bytes"),
        ("conversation.name", json!({}), "must be a string"),
        (
            "conversation.avatarUrl",
            json!("/ada.png"),
            "must be a complete http or https address",
        ),
        ("conversation.participantId", json!(""), "must not be empty"),
        ("message", json!([]), "must be an object"),
        ("message.id", json!(7), "must be a string"),
        ("message.sender", json!(null), "is missing"),
        ("message.sender.id", json!(null), "is missing"),
        ("message.sender.name", json!(true), "must be a string"),
        ("message.text", json!(["a"]), "must be a string"),
        ("message.text", long(MAX_TEXT_BYTES + 1), "is longer than 65536 bytes"),
        ("message.text", json!("a\u{0}"), "must not contain a NUL character"),
        (
            "message.type",
            json!("audio"),
            "is none of text, image, video, file, system",
        ),
        (
            "message.mediaUrl",
            json!("javascript:alert(1)"),
            "must be a complete http or https address",
        ),
        (
            "message.mediaUrl",
            json!("https://example.com/a b"),
            "must be a complete http or https address",
        ),
        ("message.mediaUrl", long(2001), "is longer than 2000 bytes"),
        ("message.replyTo", json!(1), "must be a string"),
        ("message.isRead", json!("yes"), "must be true or false"),
        ("message.sentAt", json!("yesterday"), TIME),
        ("message.sentAt", json!("2023-11-14T23:13:20"), TIME),
        ("message.sentAt", json!(1_700_000_000_000.5), TIME),
        ("message.sentAt", json!(u64::MAX), TIME),
        ("message.sentAt", json!(true), TIME),
        ("message.sentAt", json!(1_700_000_000), EARLY),
        ("message.sentAt", json!("1999-12-31T23:59:59Z"), EARLY),
        ("message.sentAt", json!(i64::MIN), EARLY),
        ("message.sentAt", json!("2023-11-16T00:00:00Z"), LATE),
        ("message.sentAt", json!(i64::MAX), LATE),
    ] {
        assert_eq!(
            refusal(&json!([received(), with(field, value)])),
            format!("event 1: {field} {problem}")
        );
    }
    let mut empty = with("message.text", json!(""));
    empty["message"]["mediaUrl"] = json!(null);
    assert_eq!(
        refusal(&empty),
        "event 0: message.text and message.mediaUrl are both empty"
    );
}

const TIME: &str = "must be a time: RFC 3339 text with its offset, or whole milliseconds since 1970";
const EARLY: &str = "lies before the year 2000: milliseconds since 1970 are meant, not seconds";
const LATE: &str = "lies more than a day ahead of the hub's clock";

#[test]
fn limits_are_inclusive_and_empty_names_tell_nothing() {
    let at_the_limit = |field, bytes| translate(with(field, json!("x".repeat(bytes))).to_string().as_bytes());
    assert!(at_the_limit("conversation.id", 255).is_ok());
    assert!(at_the_limit("message.text", MAX_TEXT_BYTES).is_ok());
    let events = translate(with("conversation.name", json!("")).to_string().as_bytes()).expect("a good event");
    assert_eq!(events[0].profile.name, None);
}

/// JSON that is sometimes nearly right: real keys, real types of event, and anything in their places.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("type".to_owned()),
        Just("conversation".to_owned()),
        Just("message".to_owned()),
        Just("sender".to_owned()),
        Just("id".to_owned()),
        Just("text".to_owned()),
        Just("sentAt".to_owned()),
        Just("at".to_owned()),
        Just("mediaUrl".to_owned()),
        Just("message.received".to_owned()),
        Just("message.edited".to_owned()),
        Just("reaction.added".to_owned()),
        Just("receipt.failed".to_owned()),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(word.clone(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_makes_it_panic(body in any_json(), field in 0_usize..8) {
        let _ = translate(body.to_string().as_bytes());
        let paths = ["type", "conversation", "conversation.id", "message", "message.sender", "message.text",
            "message.sentAt", "message.mediaUrl"];
        let _ = translate(with(paths[field], body).to_string().as_bytes());
    }

    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = translate(&body);
    }

    #[test]
    fn every_time_taken_is_sane(milliseconds in any::<i64>()) {
        if let Ok(events) = translate(with("message.sentAt", json!(milliseconds)).to_string().as_bytes()) {
            let InboundKind::Message(message) = &events[0].kind else { panic!("a message") };
            prop_assert_eq!(message.sent_at.unix_timestamp_nanos(), i128::from(milliseconds) * 1_000_000);
        }
    }
}
