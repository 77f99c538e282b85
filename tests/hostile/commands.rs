//! Commands over a socket: each is answered by exactly one frame, whatever it says.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::Correspondent;
use crate::target::{Outcome, Target};
use crate::tokens;

const FIELDS: [&str; 11] = [
    "/event",
    "/timestamp",
    "/data",
    "/data/conversationId",
    "/data/messageId",
    "/data/clientId",
    "/data/content",
    "/data/messageType",
    "/data/mediaUrl",
    "/data/replyTo",
    "/data/unknown",
];

fn command(event: &str, conversation: &str) -> Value {
    let data = json!({ "conversationId": conversation, "clientId": "mine", "content": "hello" });
    json!({ "event": event, "data": data })
}

/// The answer to one command, and then that of a ping, so that no command has two.
fn check(text: &str, field: &str, answer: &Value) -> Outcome {
    let data = &answer["data"];
    let message = data["message"].as_str().unwrap_or_default();
    let is_right = match answer["event"].as_str() {
        Some("ack") => data["command"].is_string(),
        Some("pong") => true,
        Some("error") => {
            // Without its data a command lacks whatever it needs first.
            let is_named = data["code"] != "VALIDATION_ERROR"
                || message.starts_with(&format!("{field}:"))
                || (field == "data" && message.starts_with("conversationId:"));
            data["code"].is_string()
                && !message.is_empty()
                && message.len() < 1_000
                && is_named
                && data["code"] != "UNAVAILABLE"
        }
        _ => false,
    };
    let shown: String = text.chars().take(200).collect();
    if is_right {
        Ok(())
    } else {
        Err(format!("{shown}: {answer}"))
    }
}

#[test]
fn every_command_has_one_answer_that_names_the_field() {
    let target = Target::start();
    let (person, conversation) = target.run(async {
        let person = target.user().await;
        let channel = person.link(&Correspondent::start()).await;
        let conversation = person.receive(&channel, "chat", "message", "hello").await;
        (person, conversation)
    });
    let say = async |text: String, field: &str| -> Outcome {
        if text.len() > 65_536 {
            return Ok(());
        }
        let (mut socket, _) = person.socket(None).await;
        socket.send_text(&text).await;
        socket.send(&json!({ "event": "ping", "timestamp": "the end" })).await;
        let mut answers = Vec::new();
        while answers.len() < 2 {
            let frame = socket.next().await;
            if frame["event"] == "pong" || frame["event"] == "ack" || frame["event"] == "error" {
                answers.push(frame);
            }
        }
        // A pong may overtake what is being committed.
        let end = answers
            .iter()
            .position(|answer| answer["timestamp"] == "the end")
            .ok_or("two answers")?;
        answers.remove(end);
        check(&text, field, &answers[0])
    };
    let commands = || prop::sample::select(vec!["ping", "send", "read", "typing"]);
    for field in FIELDS {
        for token in tokens::all() {
            for event in ["send", "read"] {
                let text = tokens::put(&command(event, &conversation), field, &token);
                let name = field.rsplit('/').next().unwrap();
                target
                    .run(say(text, name))
                    .unwrap_or_else(|problem| panic!("{problem}"));
            }
        }
    }
    let changed = (commands(), prop::sample::select(&FIELDS[..]), tokens::any_token());
    target.try_all(150, &changed, async |(event, field, token)| {
        let name = field.rsplit('/').next().unwrap_or_default();
        say(tokens::put(&command(event, &conversation), field, &token), name).await
    });
    target.run(async { person.get(&format!("/api/messages/{conversation}")).await.expect(200) });
    target.assert_well();
}
