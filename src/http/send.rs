//! Sending a message: what is asked, what was answered before, and what is answered now.

mod reply;
mod request;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse, web};
use hub_actors::domain::{Idempotency, NewMessage};
use hub_actors::ports::StoreError;
use hub_actors::{ConversationId, ExternalId, MessageId, OutboxId, UserId};
use utoipa::ToSchema;

pub use reply::{NotSent, Pending, Sent};
pub(super) use reply::{Preference, Reply};
pub use request::SendRequest;

use super::body::JsonBody;
use super::{ApiError, AppState, Identity, path_id};
use reply::SavedAnswer;

/// Longest idempotency key, in characters.
const MAX_KEY: usize = 255;

const KEY_HEADER: &str = "Idempotency-Key";

/// Registers the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config.service(web::resource("/api/messages/{conversation_id}/send").route(web::post().to(send)));
}

/// A message to send.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "it describes the body, which is read field by field to name every wrong one"
)]
struct SendBody {
    /// The text: at most 10,000 characters, not blank.
    content: String,
    /// `text`, `image`, `video` or `file`; also `messageType`. Default `text`.
    message_type: Option<String>,
    /// Also `mediaUrl`.
    media_url: Option<String>,
    /// The id of the message that this one answers: the hub's, or the platform's.
    #[schema(rename = "replyTo")]
    reply_to: Option<String>,
    /// The client's own id for it, which comes back in the event `new_message`.
    #[schema(rename = "clientId")]
    client_id: Option<String>,
}

/// Sends a message. It is stored before anything is answered; with an `Idempotency-Key` a repeated request gets the
/// first one's answer.
#[utoipa::path(
    post, path = "/api/messages/{conversation_id}/send", tag = "messages",
    params(
        ("conversation_id" = uuid::Uuid, Path, description = "The conversation"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`: do not wait for the platform"),
    ),
    request_body = SendBody,
    responses(
        (status = 201, description = "The platform has taken it", body = Sent),
        (status = 202, description = "Stored: on its way, or of unknown fate", body = Pending),
        (status = 400, description = "A field is wrong", body = Object,
            example = json!({"error": {"content": ["This field is required."]}})),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "No such conversation, or not the caller's"),
        (status = 409, description = "The key was used for another request, or the account is disconnected"),
        (status = 502, description = "The platform refused it", body = NotSent),
        (status = 503, description = "The hub is busy or its database is away; repeat it with the same key"),
    )
)]
pub(super) async fn send(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<String>,
    request: HttpRequest,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, ApiError> {
    let conversation_id: ConversationId = path_id(&path)?;
    let user_id = identity.user_id;
    let preference = Preference::of(request.headers());
    let key = idempotency_key(request.headers())?;
    let wanted = SendRequest::from_json(&body)?;
    let idempotency = key.map(|key| Idempotency {
        key,
        fingerprint: state.store.fingerprint(wanted.canonical(conversation_id).as_bytes()),
    });
    fail::fail_point!("send.parsed");
    if let Some(known) = &idempotency
        && let Some(saved) = state.store.answer(user_id, &known.key).await?
    {
        return SavedAnswer::parse(&saved)?.replay(known.fingerprint, preference);
    }
    let now = state.clock.now();
    let reply_to = match &wanted.reply_to {
        Some(text) => Some(
            resolve_reply(&state, user_id, conversation_id, text)
                .await?
                .map_err(|problem| ApiError::validation("replyTo", problem.to_string()))?,
        ),
        None => None,
    };
    fail::fail_point!("send.looked_up");
    let new = NewMessage {
        id: MessageId::generate(now),
        outbox_id: OutboxId::generate(now),
        conversation_id,
        text: wanted.content,
        kind: wanted.kind,
        media_url: wanted.media_url,
        reply_to,
        client_id: wanted.client_id,
        idempotency: idempotency.clone(),
    };
    let patience = preference.patience(&state.settings.outbox);
    let answer = state.tree.send(user_id, new, patience).await?;
    fail::fail_point!("send.committed");
    let is_repeat = answer.is_repeat && idempotency.is_some();
    let mut reply = Reply::of(&answer.message, StatusCode::CREATED);
    if let Some(Idempotency { key, fingerprint }) = idempotency {
        // Whoever saves first decides what everyone with this key is answered. When it cannot be saved, the request
        // fails although the message is stored: its repetition finds the message by the key.
        let saved = SavedAnswer::new(fingerprint, &reply).to_json()?;
        let stored = state.store.save_answer(user_id, &key, saved).await?;
        fail::fail_point!("send.answer_saved");
        reply = SavedAnswer::parse(&stored)?.reply()?;
    }
    fail::fail_point!("send.before_response");
    Ok(reply.response(preference, is_repeat))
}

/// Why the message to be answered cannot be named to the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReplyProblem {
    #[error("The platform does not know this message yet.")]
    NotSentYet,
    #[error("This message is in another conversation.")]
    Elsewhere,
}

/// The message that is answered, by the platform's id. The client may name it by the hub's id, which only helps while
/// the platform knows the message; any other text is taken as the platform's own.
pub(crate) async fn resolve_reply(
    state: &AppState,
    user_id: UserId,
    conversation_id: ConversationId,
    text: &str,
) -> Result<Result<ExternalId, ReplyProblem>, StoreError> {
    if let Ok(id) = text.parse::<MessageId>()
        && let Some(message) = state.store.message(user_id, id).await?
    {
        if message.conversation_id != conversation_id {
            return Ok(Err(ReplyProblem::Elsewhere));
        }
        return Ok(message.external_id.ok_or(ReplyProblem::NotSentYet));
    }
    Ok(Ok(ExternalId::from(text)))
}

/// The key of a request, if it has one.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(KEY_HEADER);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.as_bytes();
    let is_good = (1..=MAX_KEY).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
    if !is_good || values.next().is_some() {
        let sentence = "Give one key of 1 to 255 visible ASCII characters.";
        return Err(ApiError::validation(KEY_HEADER, sentence));
    }
    Ok(value.to_str().ok().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    fn key(values: &[&[u8]]) -> Result<Option<String>, ApiError> {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value).unwrap();
            headers.append(HeaderName::from_static("idempotency-key"), value);
        }
        idempotency_key(&headers)
    }

    #[test]
    fn a_key_is_visible_ascii() {
        assert_eq!(key(&[]).ok(), Some(None));
        assert_eq!(key(&[b"k-1"]).ok(), Some(Some("k-1".to_owned())));
        assert!(key(&[&[b'x'; 255]]).is_ok());
        for wrong in [b"".as_slice(), b"a b", "\u{e9}".as_bytes(), &[b'x'; 256]] {
            assert!(key(&[wrong]).is_err(), "{wrong:?}");
        }
        assert!(key(&[b"a", b"a"]).is_err());
    }
}
