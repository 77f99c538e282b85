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

use hub_actors::domain::{Idempotency, NewMessage, Refusal};
use hub_actors::ports::StoreError;
use hub_actors::tree::CommandError;
use hub_actors::{ConversationId, MessageId, OutboxId};
use serde_json::{Value, json};

use crate::cluster::limits::LimitClass;
use crate::http::send::SendRequest;
use crate::http::{AppState, resolve_reply, session_is_live};
use crate::vault::tokens::Claims;

/// Longest id that a client may give its command, in characters.
const MAX_CLIENT_ID: usize = 200;

/// A command.
#[derive(Debug, PartialEq)]
pub(super) enum Command {
    /// Is the hub there?
    Ping { timestamp: Value },
    /// It concerns a conversation.
    Act(Act),
}

/// A command that concerns a conversation, checked.
#[derive(Debug, PartialEq)]
pub(super) struct Act {
    pub(super) conversation_id: ConversationId,
    /// The client's own id for it, as it came.
    client_id: Option<String>,
    wish: Wish,
}

#[derive(Debug, PartialEq)]
enum Wish {
    Send(SendRequest),
    /// One message, or all.
    Read(Option<MessageId>),
    Typing,
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
    if !raw.is_object() {
        let message = "This is not a command: an object with `event` and `data` is".to_owned();
        return Err(failure("INVALID_JSON", message, false));
    }
    let event = raw.get("event").and_then(Value::as_str).unwrap_or_default();
    let nothing = json!({});
    let data = raw.get("data").filter(|data| !data.is_null()).unwrap_or(&nothing);
    read(event, &raw, data).map_err(|message| CommandFailure {
        command: event.chars().take(32).collect(),
        client_id: client_id(data).ok().flatten(),
        ..failure("VALIDATION_ERROR", message, false)
    })
}

/// A text of the data; null counts as absent.
fn text<'a>(data: &'a Value, name: &str) -> Result<Option<&'a str>, String> {
    match data.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name}: must be a text")),
    }
}

/// An id of the data.
fn id<T: FromStr<Err: Display>>(data: &Value, name: &str) -> Result<Option<T>, String> {
    let id = text(data, name)?.map(str::parse).transpose();
    id.map_err(|error| format!("{name}: {error}"))
}

fn client_id(data: &Value) -> Result<Option<String>, String> {
    let id = text(data, "clientId")?;
    if id.is_some_and(|id| id.is_empty() || id.chars().count() > MAX_CLIENT_ID || id.chars().any(char::is_control)) {
        return Err("clientId: between 1 and 200 characters, no control characters".to_owned());
    }
    Ok(id.map(str::to_owned))
}

fn read(event: &str, raw: &Value, data: &Value) -> Result<Command, String> {
    if !data.is_object() {
        return Err("data: must be an object".to_owned());
    }
    let client_id = client_id(data)?;
    let conversation_id = || id(data, "conversationId")?.ok_or_else(|| "conversationId: is required".to_owned());
    let (conversation_id, wish) = match event {
        "ping" => {
            let timestamp = raw.get("timestamp").cloned().unwrap_or_default();
            return Ok(Command::Ping { timestamp });
        }
        "typing" => (conversation_id()?, Wish::Typing),
        "read" => (conversation_id()?, Wish::Read(id(data, "messageId")?)),
        "send" => (conversation_id()?, Wish::Send(send(data)?)),
        _ => return Err("event: ping, send, read or typing".to_owned()),
    };
    Ok(Command::Act(Act {
        conversation_id,
        client_id,
        wish,
    }))
}

/// The rules are those of `POST /api/messages/:id/send`; here the client has to give its message an id.
fn send(data: &Value) -> Result<SendRequest, String> {
    let request = SendRequest::from_json(data).map_err(|errors| {
        let sentences = |value: &Value| match value {
            Value::Array(all) => all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
            other => other.to_string(),
        };
        let fields = errors
            .0
            .iter()
            .map(|(name, value)| format!("{name}: {}", sentences(value)));
        fields.collect::<Vec<_>>().join("; ")
    })?;
    match request.client_id {
        Some(_) => Ok(request),
        None => Err("clientId: is required".to_owned()),
    }
}

/// Carries a command out and answers with the frame's content; none when the session has ended.
pub(super) async fn run(state: &AppState, claims: &Claims, act: Act) -> Option<Value> {
    let name = match &act.wish {
        Wish::Send(_) => "send",
        Wish::Read(_) => "read",
        Wish::Typing => "typing",
    };
    let client_id = act.client_id.clone();
    let result = match session_is_live(state, claims.sid).await {
        Ok(false) => return None,
        Ok(true) => carry_out(state, claims, act).await,
        Err(error) => Err(error.into()),
    };
    Some(match result {
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
    })
}

async fn carry_out(state: &AppState, claims: &Claims, act: Act) -> Result<Value, CommandFailure> {
    let (user_id, conversation_id) = (claims.sub, act.conversation_id);
    let key = format!("user:{user_id}");
    if !state.limiter.check(LimitClass::Standard, &key).await.allowed {
        return Err(too_many());
    }
    match act.wish {
        Wish::Send(request) => {
            let new = new_message(state, claims, conversation_id, request).await?;
            let answer = state.tree.send(user_id, new, None).await?;
            fail::fail_point!("socket.committed");
            Ok(json!({
                "messageId": answer.message.id,
                "conversationId": answer.message.conversation_id,
                "status": answer.message.status,
                "repeated": answer.is_repeat,
            }))
        }
        Wish::Read(Some(message_id)) => {
            state.tree.read_message(user_id, conversation_id, message_id).await?;
            Ok(json!({ "conversationId": conversation_id, "messageId": message_id }))
        }
        Wish::Read(None) => {
            state.tree.read_conversation(user_id, conversation_id).await?;
            Ok(json!({ "conversationId": conversation_id }))
        }
        Wish::Typing => {
            state.tree.typing(user_id, conversation_id).await?;
            Ok(json!({ "conversationId": conversation_id }))
        }
    }
}

/// The client's own id is the idempotency key: a client that lost its socket before the `ack` just sends again.
async fn new_message(
    state: &AppState,
    claims: &Claims,
    conversation_id: ConversationId,
    request: SendRequest,
) -> Result<NewMessage, CommandFailure> {
    let fingerprint = state.store.fingerprint(request.canonical(conversation_id).as_bytes());
    let reply_to = match &request.reply_to {
        Some(text) => Some(
            resolve_reply(state, claims.sub, conversation_id, text)
                .await?
                .map_err(|problem| failure("VALIDATION_ERROR", format!("replyTo: {problem}"), false))?,
        ),
        None => None,
    };
    let now = state.clock.now();
    Ok(NewMessage {
        id: MessageId::generate(now),
        outbox_id: OutboxId::generate(now),
        conversation_id,
        text: request.content,
        kind: request.kind,
        media_url: request.media_url,
        reply_to,
        idempotency: request.client_id.as_ref().map(|id| Idempotency {
            key: format!("socket:{id}"),
            fingerprint,
        }),
        client_id: request.client_id,
    })
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

impl From<StoreError> for CommandFailure {
    fn from(error: StoreError) -> Self {
        failure("UNAVAILABLE", error.to_string(), true)
    }
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
        let Command::Act(Act {
            wish: Wish::Send(good), ..
        }) = good
        else {
            panic!("a send")
        };
        assert_eq!((good.content.as_str(), good.client_id.as_deref()), ("hi", Some("c1")));
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
        let long = "x".repeat(201);
        for (event, field, wrong) in [
            ("send", "conversationId", json!(5)),
            ("read", "messageId", json!(5)),
            ("send", "clientId", json!(5)),
            ("typing", "clientId", json!("")),
            ("read", "clientId", json!(long)),
            ("send", "content", json!(5)),
            ("send", "messageType", json!(5)),
            ("send", "mediaUrl", json!(5)),
            ("send", "replyTo", json!("\u{0}")),
        ] {
            let mut data = json!({ "conversationId": CONVERSATION, "content": "x", "clientId": "c" });
            data[field] = wrong;
            let failure = parse(&json!({ "event": event, "data": data }).to_string()).unwrap_err();
            assert!(
                failure.message.starts_with(&format!("{field}: ")),
                "{}",
                failure.message
            );
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
