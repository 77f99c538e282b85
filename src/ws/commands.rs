//! What a client may ask over its socket. Every command is answered by exactly one frame.
//!
//! `{"event":"ping","timestamp":1}` → `{"event":"pong","timestamp":1}`
//! `{"event":"send","data":{"conversationId","content","clientId","messageType"?,"mediaUrl"?,"replyTo"?}}`,
//! `{"event":"read","data":{"conversationId","messageId"?,"clientId"?}}`,
//! `{"event":"typing","data":{"conversationId","clientId"?}}`
//! → `{"event":"ack","data":{"command","clientId","messageId"?,"status"?,"repeated"?}}`
//! or `{"event":"error","data":{"command","clientId","code","message","retryable"}}`.

use std::fmt::Display;
use std::str::FromStr;

use hub_actors::domain::{Idempotency, MessageKind, NewMessage, Refusal};
use hub_actors::tree::CommandError;
use hub_actors::{ConversationId, ExternalId, MessageId, OutboxId, UserId};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::cluster::limits::LimitClass;
use crate::http::{AppState, MAX_TEXT, resolve_reply};

/// Longest id that a client may give its command, in bytes.
const MAX_CLIENT_ID: usize = 200;

/// A command.
#[derive(Debug, PartialEq)]
pub(super) enum Command {
    Ping {
        timestamp: Value,
    },
    Send(Send),
    Read {
        conversation_id: ConversationId,
        message_id: Option<MessageId>,
        client_id: Option<String>,
    },
    Typing {
        conversation_id: ConversationId,
        client_id: Option<String>,
    },
}

/// The `send` command, checked.
#[derive(Debug, PartialEq)]
pub(super) struct Send {
    conversation_id: ConversationId,
    content: String,
    client_id: String,
    kind: MessageKind,
    media_url: Option<String>,
    reply_to: Option<String>,
}

/// Why a command was not carried out.
#[derive(Debug, PartialEq)]
pub(super) struct CommandFailure {
    command: String,
    client_id: Option<String>,
    code: &'static str,
    message: String,
    retryable: bool,
}

impl CommandFailure {
    /// The frame's content.
    pub(super) fn to_frame(&self) -> Value {
        let data = json!({
            "command": self.command,
            "clientId": self.client_id,
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
        });
        json!({ "event": "error", "data": data })
    }
}

/// Reads a command.
///
/// # Errors
/// Says which field is missing or wrong.
pub(super) fn parse(text: &str) -> Result<Command, CommandFailure> {
    let raw: Value = serde_json::from_str(text)
        .map_err(|error| failure("INVALID_JSON", format!("This is not a command: {error}"), false))?;
    let Value::Object(raw) = raw else {
        let message = "This is not a command: an object with `event` and `data` is".to_owned();
        return Err(failure("INVALID_JSON", message, false));
    };
    let event = raw.get("event").and_then(Value::as_str).unwrap_or_default();
    let nothing = Map::new();
    let (data, is_data) = match raw.get("data") {
        None | Some(Value::Null) => (&nothing, true),
        Some(Value::Object(data)) => (data, true),
        Some(_) => (&nothing, false),
    };
    let given_id = data
        .get("clientId")
        .and_then(Value::as_str)
        .filter(|id| is_client_id(id));
    let command = if is_data {
        read(event, &raw, data)
    } else {
        Err("data: must be an object".to_owned())
    };
    command.map_err(|message| CommandFailure {
        command: event.chars().take(32).collect(),
        client_id: given_id.map(str::to_owned),
        ..failure("VALIDATION_ERROR", message, false)
    })
}

/// A text of the data; null counts as absent.
fn text<'a>(data: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match data.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name}: must be a text")),
    }
}

/// An id of the data.
fn id<T: FromStr<Err: Display>>(data: &Map<String, Value>, name: &str) -> Result<Option<T>, String> {
    let id = text(data, name)?.map(str::parse).transpose();
    id.map_err(|error| format!("{name}: {error}"))
}

fn is_client_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= MAX_CLIENT_ID && !id.chars().any(char::is_control)
}

fn read(event: &str, raw: &Map<String, Value>, data: &Map<String, Value>) -> Result<Command, String> {
    let client_id = text(data, "clientId")?;
    if client_id.is_some_and(|id| !is_client_id(id)) {
        return Err("clientId: between 1 and 200 bytes, no control characters".to_owned());
    }
    let client_id = client_id.map(str::to_owned);
    let conversation_id = || id(data, "conversationId")?.ok_or_else(|| "conversationId: is required".to_owned());
    match event {
        "ping" => Ok(Command::Ping {
            timestamp: raw.get("timestamp").cloned().unwrap_or_default(),
        }),
        "typing" => Ok(Command::Typing {
            conversation_id: conversation_id()?,
            client_id,
        }),
        "read" => Ok(Command::Read {
            message_id: id(data, "messageId")?,
            conversation_id: conversation_id()?,
            client_id,
        }),
        "send" => Ok(Command::Send(send(data, conversation_id()?, client_id)?)),
        _ => Err("event: ping, send, read or typing".to_owned()),
    }
}

fn send(data: &Map<String, Value>, conversation_id: ConversationId, client_id: Option<String>) -> Result<Send, String> {
    let content = text(data, "content")?
        .map(str::trim)
        .filter(|content| !content.is_empty());
    let content = content.ok_or("content: is required and may not be blank")?;
    if content.chars().count() > MAX_TEXT || content.contains('\0') {
        return Err("content: at most 10,000 characters, none of them NUL".to_owned());
    }
    let kind = match text(data, "messageType")? {
        None => MessageKind::Text,
        Some(name) => MessageKind::from_name(name)
            .filter(|kind| *kind != MessageKind::System)
            .ok_or("messageType: text, image, video or file")?,
    };
    let media_url = text(data, "mediaUrl")?;
    if media_url.is_some_and(|text| !is_media_url(text)) {
        return Err("mediaUrl: an http or https URL of at most 1,000 characters".to_owned());
    }
    let reply_to = text(data, "replyTo")?;
    if reply_to.is_some_and(|text| text.is_empty() || text.len() > 255 || text.chars().any(char::is_control)) {
        return Err("replyTo: between 1 and 255 bytes, no control characters".to_owned());
    }
    Ok(Send {
        conversation_id,
        content: content.to_owned(),
        client_id: client_id.ok_or("clientId: is required")?,
        kind,
        media_url: media_url.map(str::to_owned),
        reply_to: reply_to.map(str::to_owned),
    })
}

/// The same rule as for `POST /api/messages/:id/send`.
fn is_media_url(text: &str) -> bool {
    let is_web = |url: url::Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    let is_clean = !text
        .chars()
        .any(|character| character.is_control() || character.is_whitespace());
    text.chars().count() <= 1_000 && is_clean && url::Url::parse(text).is_ok_and(is_web)
}

/// Carries a command out and answers with the frame's content.
pub(super) async fn run(state: &AppState, user_id: UserId, command: Command) -> Value {
    let (name, client_id) = match &command {
        Command::Ping { .. } => ("ping", None),
        Command::Send(send) => ("send", Some(send.client_id.clone())),
        Command::Read { client_id, .. } => ("read", client_id.clone()),
        Command::Typing { client_id, .. } => ("typing", client_id.clone()),
    };
    let decision = state
        .limiter
        .check(LimitClass::Standard, &format!("user:{user_id}"))
        .await;
    let result = if decision.allowed {
        carry_out(state, user_id, command).await
    } else {
        Err(too_many())
    };
    match result {
        Ok(mut data) => {
            data["command"] = json!(name);
            data["clientId"] = json!(client_id);
            json!({ "event": "ack", "data": data })
        }
        Err(failure) => CommandFailure {
            command: name.to_owned(),
            client_id,
            ..failure
        }
        .to_frame(),
    }
}

async fn carry_out(state: &AppState, user_id: UserId, command: Command) -> Result<Value, CommandFailure> {
    match command {
        Command::Ping { .. } => Ok(json!({})),
        Command::Send(send) => {
            let reply_to = match &send.reply_to {
                Some(text) => resolve_reply(state, user_id, send.conversation_id, text)
                    .await
                    .map_err(|error| failure("UNAVAILABLE", error.to_string(), true))?
                    .map(Some)
                    .map_err(|problem| failure("VALIDATION_ERROR", format!("replyTo: {problem}"), false))?,
                None => None,
            };
            let answer = state
                .tree
                .send(user_id, new_message(state, send, reply_to), None)
                .await?;
            fail::fail_point!("socket.committed");
            Ok(json!({
                "messageId": answer.message.id,
                "conversationId": answer.message.conversation_id,
                "status": answer.message.status,
                "repeated": answer.is_repeat,
            }))
        }
        Command::Read {
            conversation_id,
            message_id: Some(message_id),
            ..
        } => {
            state.tree.read_message(user_id, conversation_id, message_id).await?;
            Ok(json!({ "conversationId": conversation_id, "messageId": message_id }))
        }
        Command::Read {
            conversation_id,
            message_id: None,
            ..
        } => {
            state.tree.read_conversation(user_id, conversation_id).await?;
            Ok(json!({ "conversationId": conversation_id }))
        }
        Command::Typing { conversation_id, .. } => {
            state.tree.typing(user_id, conversation_id).await?;
            Ok(json!({ "conversationId": conversation_id }))
        }
    }
}

/// The client's own id is the idempotency key: a client that lost its socket before the `ack` just sends again.
fn new_message(state: &AppState, send: Send, reply_to: Option<ExternalId>) -> NewMessage {
    let mut fingerprint = Sha256::new();
    for part in [
        &send.conversation_id.to_string(),
        &send.content,
        send.kind.as_str(),
        send.media_url.as_deref().unwrap_or(""),
        send.reply_to.as_deref().unwrap_or(""),
    ] {
        fingerprint.update((part.len() as u64).to_be_bytes());
        fingerprint.update(part.as_bytes());
    }
    let now = state.clock.now();
    NewMessage {
        id: MessageId::generate(now),
        outbox_id: OutboxId::generate(now),
        conversation_id: send.conversation_id,
        text: send.content,
        kind: send.kind,
        media_url: send.media_url,
        reply_to,
        idempotency: Some(Idempotency {
            key: format!("socket:{}", send.client_id),
            fingerprint: fingerprint.finalize().into(),
        }),
        client_id: Some(send.client_id),
    }
}

fn failure(code: &'static str, message: String, retryable: bool) -> CommandFailure {
    CommandFailure {
        command: String::new(),
        client_id: None,
        code,
        message,
        retryable,
    }
}

fn too_many() -> CommandFailure {
    failure(
        "RATE_LIMIT_EXCEEDED",
        "Rate limit exceeded. Please try again later.".to_owned(),
        true,
    )
}

impl From<CommandError> for CommandFailure {
    fn from(error: CommandError) -> Self {
        let message = error.to_string();
        match error {
            CommandError::Refused(Refusal::NoConversation | Refusal::NoMessage | Refusal::NoAccount) => {
                failure("NOT_FOUND", message, false)
            }
            CommandError::Refused(Refusal::KeyReused) => failure("CLIENT_ID_REUSED", message, false),
            CommandError::Refused(_) => failure("REFUSED", message, false),
            CommandError::TextTooLong { .. } => failure("VALIDATION_ERROR", message, false),
            CommandError::Busy => failure("BUSY", message, true),
            CommandError::Unavailable(_) => failure("UNAVAILABLE", message, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONVERSATION: &str = "0198c1de-7a00-7000-8000-000000000001";

    #[test]
    fn commands_are_read_or_refused_by_field() {
        let send = |data: &str| parse(&format!(r#"{{"event":"send","data":{data}}}"#));
        let good = send(&format!(
            r#"{{"conversationId":"{CONVERSATION}","content":" hi ","clientId":"c1"}}"#
        ))
        .unwrap();
        let Command::Send(good) = good else { panic!("a send") };
        assert_eq!((good.content.as_str(), good.client_id.as_str()), ("hi", "c1"));
        let refused = [
            (r#"{"content":"x","clientId":"c"}"#.to_owned(), "conversationId"),
            (
                r#"{"conversationId":"UPPER","content":"x","clientId":"c"}"#.to_owned(),
                "conversationId",
            ),
            (
                format!(r#"{{"conversationId":"{CONVERSATION}","content":"  ","clientId":"c"}}"#),
                "content",
            ),
            (
                format!(r#"{{"conversationId":"{CONVERSATION}","content":"x"}}"#),
                "clientId",
            ),
            (
                format!(r#"{{"conversationId":"{CONVERSATION}","content":"x","clientId":"c","messageType":"audio"}}"#),
                "messageType",
            ),
            (
                format!(r#"{{"conversationId":"{CONVERSATION}","content":"x","clientId":"c","mediaUrl":"nonsense"}}"#),
                "mediaUrl",
            ),
        ];
        for (data, field) in refused {
            let failure = send(&data).unwrap_err();
            assert!(failure.message.starts_with(field), "{field}: {}", failure.message);
        }
        for field in [
            "conversationId",
            "messageId",
            "clientId",
            "content",
            "messageType",
            "mediaUrl",
            "replyTo",
        ] {
            let event = if field == "messageId" { "read" } else { "send" };
            let mut data = json!({ "conversationId": CONVERSATION, "content": "x", "clientId": "c" });
            data[field] = json!(5);
            let failure = parse(&json!({ "event": event, "data": data }).to_string()).unwrap_err();
            assert_eq!(failure.message, format!("{field}: must be a text"));
        }
        assert_eq!(
            parse(r#"{"event":"read","data":[]}"#).unwrap_err().message,
            "data: must be an object"
        );
        for text in ["[", "[]", "null", "5"] {
            assert_eq!(parse(text).unwrap_err().code, "INVALID_JSON", "{text}");
        }
        assert!(parse(r#"{"event":"dance"}"#).unwrap_err().message.starts_with("event:"));
    }
}
