//! Messages: recent ones, those of a conversation, unread counters, and the marks that they are read.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use hub_actors::domain::{Message, Refusal};
use hub_actors::ports::Store as _;
use hub_actors::{ConversationId, MessageId, UserId};
use quick_cache::sync::Cache;
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

use super::input::{MAX_OFFSET, Query};
use super::{ApiError, AppState, Identity, actions, path_id, send};
use crate::store::MessageRange;
use crate::views::{self, MessageView};

/// Messages of a conversation in one answer at most.
const MAX_LIMIT: i64 = 200;
/// Messages of a conversation where the request does not say how many.
const USUAL_LIMIT: i64 = 50;
/// Older messages asked of the platform at once, at least.
const OLDER: usize = 50;
/// How long a request for messages waits for the platform.
const OLDER_PATIENCE: Duration = Duration::from_secs(5);
/// Conversations remembered as complete.
const COMPLETE: usize = 50_000;
/// Recent messages of all conversations in one answer.
const RECENT_LIMIT: i64 = 100;

/// Registers the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    let conversation_read = "/api/messages/conversation/{conversation_id}/read";
    config
        .service(web::resource(["/api/messages", "/api/messages/"]).route(web::get().to(recent)))
        .service(web::resource("/api/messages/unread/count").route(web::get().to(unread)))
        .service(web::resource(conversation_read).route(web::patch().to(read_conversation)))
        .service(web::resource("/api/messages/{message_id}/read").route(web::patch().to(read)))
        .service(web::resource("/api/messages/{message_id}/retry").route(web::post().to(retry)))
        .service(
            web::resource("/api/messages/{id}")
                .route(web::get().to(of_conversation))
                .route(web::patch().to(actions::edit))
                .route(web::delete().to(actions::delete)),
        );
}

/// Recent messages, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecentMessages<'a> {
    messages: Vec<MessageView<'a>>,
    count: usize,
    /// `<epoch>:<seq>`: what is newer than this answer follows after this place of the stream.
    position: String,
}

/// A page of a conversation, the newest message first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageList<'a> {
    messages: Vec<MessageView<'a>>,
    /// How many are in this answer.
    count: usize,
    /// How many the conversation has.
    total: i64,
    limit: i64,
    offset: i64,
    /// Whether there are older ones.
    has_more: bool,
    /// `<epoch>:<seq>`: what is newer than this answer follows after this place of the stream.
    position: String,
}

/// Unread messages.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnreadCount<'a> {
    total: i64,
    /// By platform, with a zero for each that has none.
    by_platform: BTreeMap<&'a str, i64>,
}

/// Lists the newest messages of the caller's active accounts, at most 100.
#[utoipa::path(
    get, path = "/api/messages", tag = "messages",
    params(("since" = Option<String>, Query, description = "Only messages sent after this RFC 3339 time")),
    responses(
        (status = 200, description = "Recent messages", body = RecentMessages),
        (status = 400, description = "`since` is not a time"),
        (status = 401, description = "Not signed in"),
    )
)]
pub(super) async fn recent(
    identity: Identity,
    state: web::Data<AppState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let query = Query::of(&request);
    let since = query.text("since").filter(|text| !text.is_empty()).map(moment);
    let since = since.transpose()?;
    let position = state.store.stream_position(identity.user_id).await?;
    let messages = state
        .store
        .messages_since(identity.user_id, since, RECENT_LIMIT)
        .await?;
    Ok(HttpResponse::Ok().json(RecentMessages {
        count: messages.len(),
        position: position.to_string(),
        messages: messages.iter().map(views::message).collect(),
    }))
}

/// Counts the caller's unread messages.
#[utoipa::path(
    get, path = "/api/messages/unread/count", tag = "messages",
    responses(
        (status = 200, description = "Unread messages by platform", body = UnreadCount),
        (status = 401, description = "Not signed in"),
    )
)]
pub(super) async fn unread(identity: Identity, state: web::Data<AppState>) -> Result<HttpResponse, ApiError> {
    let counts = state.store.unread_counts(identity.user_id).await?;
    let by_platform = views::count_by_platform(counts.iter().map(|(platform, count)| (platform, *count)));
    Ok(HttpResponse::Ok().json(UnreadCount {
        total: by_platform.values().sum(),
        by_platform,
    }))
}

/// Lists the messages of a conversation, the newest first. Where the hub has no older ones and the account is held open, its
/// platform is asked for them.
#[utoipa::path(
    get, path = "/api/messages/{id}", tag = "messages",
    params(
        ("id" = uuid::Uuid, Path, description = "The conversation"),
        ("limit" = Option<i64>, Query, description = "From 1; more than 200 is 200; default 50"),
        ("offset" = Option<i64>, Query, description = "How many of the newest to leave out; default 0"),
        ("before" = Option<uuid::Uuid>, Query, description = "Only messages older than this one"),
    ),
    responses(
        (status = 200, description = "A page of messages", body = MessageList),
        (status = 400, description = "A parameter is not what it must be"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "No such conversation, or not the caller's"),
    )
)]
pub(super) async fn of_conversation(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let id: ConversationId = path_id(&path)?;
    let range = range(&Query::of(&request))?;
    let position = state.store.stream_position(identity.user_id).await?;
    // One more than asked for tells whether there are older ones, with a cursor as with an offset.
    let probe = MessageRange {
        limit: range.limit + 1,
        ..range
    };
    let denied = || ApiError::forbidden("Access denied to this conversation");
    let page = state.store.messages(identity.user_id, id, &probe).await?;
    let mut page = page.ok_or_else(denied)?;
    let missing = probe.limit - i64::try_from(page.messages.len()).unwrap_or(probe.limit);
    if missing > 0 && fetch_older(&state, identity.user_id, id, &page.messages, &range, missing).await {
        let again = state.store.messages(identity.user_id, id, &probe).await?;
        page = again.ok_or_else(denied)?;
    }
    let limit = usize::try_from(range.limit).unwrap_or_default();
    let has_more = page.messages.len() > limit;
    page.messages.truncate(limit);
    Ok(HttpResponse::Ok().json(MessageList {
        count: page.messages.len(),
        total: page.total,
        limit: range.limit,
        offset: range.offset,
        has_more,
        position: position.to_string(),
        messages: page.messages.iter().map(views::message).collect(),
    }))
}

/// Marks one message as read. Repeating it changes nothing.
#[utoipa::path(
    patch, path = "/api/messages/{message_id}/read", tag = "messages",
    params(("message_id" = uuid::Uuid, Path, description = "The message")),
    responses(
        (status = 200, description = "It is read"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "No such message, or not the caller's"),
    )
)]
pub(super) async fn read(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id: MessageId = path_id(&path)?;
    let message = state
        .store
        .message(identity.user_id, id)
        .await?
        .ok_or(Refusal::NoMessage)?;
    let tree = &state.tree;
    tree.read_message(identity.user_id, message.conversation_id, id).await?;
    Ok(HttpResponse::Ok().json(json!({"success": true, "message": "Message marked as read"})))
}

/// Marks all messages of a conversation as read. Repeating it changes nothing.
#[utoipa::path(
    patch, path = "/api/messages/conversation/{conversation_id}/read", tag = "messages",
    params(("conversation_id" = uuid::Uuid, Path, description = "The conversation")),
    responses(
        (status = 200, description = "All its messages are read"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "No such conversation, or not the caller's"),
    )
)]
pub(super) async fn read_conversation(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id: ConversationId = path_id(&path)?;
    state.tree.read_conversation(identity.user_id, id).await?;
    Ok(HttpResponse::Ok().json(json!({"success": true, "message": "All messages marked as read"})))
}

/// Tries a failed message, or one of unknown fate, again, under the key of its first try. Repeated while the message
/// is on its way, it changes nothing.
#[utoipa::path(
    post, path = "/api/messages/{message_id}/retry", tag = "messages",
    params(
        ("message_id" = uuid::Uuid, Path, description = "The message"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`: do not wait for the platform"),
    ),
    responses(
        (status = 200, description = "It was sent"),
        (status = 202, description = "It is on its way, or its fate is not known"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "No such message, or not the caller's"),
        (status = 409, description = "It went out already, or its account is disconnected"),
        (status = 502, description = "The platform refused it again"),
        (status = 503, description = "The hub is busy; nothing was changed"),
    )
)]
pub(super) async fn retry(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let id: MessageId = path_id(&path)?;
    let message = state
        .store
        .message(identity.user_id, id)
        .await?
        .ok_or(Refusal::NoMessage)?;
    let preference = send::Preference::of(request.headers());
    let patience = preference.patience(&state.settings.outbox);
    let answer = state
        .tree
        .retry(identity.user_id, message.conversation_id, id, patience);
    let answer = answer.await?;
    let reply = send::Reply::of(&answer.message, actix_web::http::StatusCode::OK);
    Ok(reply.response(preference, false))
}

/// Asks the platform for messages older than the hub has, where the account is held open. True when some have come. When
/// the platform does not answer soon, there is just what is there.
async fn fetch_older(
    state: &AppState,
    user_id: UserId,
    id: ConversationId,
    known: &[Message],
    range: &MessageRange,
    missing: i64,
) -> bool {
    if state.complete.0.get(&id).is_some() {
        return false;
    }
    let Ok(Some(conversation)) = state.store.conversation(user_id, id).await else {
        return false;
    };
    if !state.tree.is_live(&conversation.platform) {
        return false;
    }
    // Not every message has the platform's id: those that are still to be sent have none.
    let oldest = known.iter().rev().find_map(|message| message.external_id.clone());
    let before = match (oldest, range.before) {
        (Some(oldest), _) => Some(oldest),
        (None, Some(before)) => match state.store.message(user_id, before).await {
            Ok(Some(message)) if message.external_id.is_some() => message.external_id,
            _ => return false,
        },
        (None, None) if range.offset == 0 => None,
        (None, None) => return false,
    };
    let wanted = usize::try_from(missing).unwrap_or_default().max(OLDER);
    let fetch = state.tree.fetch_history(user_id, id, before, wanted);
    match tokio::time::timeout(OLDER_PATIENCE, fetch).await {
        Ok(Ok(count)) => {
            if count < wanted {
                state.complete.0.insert(id, ());
            }
            count > 0
        }
        Ok(Err(error)) => {
            tracing::debug!(conversation_id = %id, %error, "older messages are not there now");
            false
        }
        // They may still come, and are there for the next request.
        Err(_) => false,
    }
}

/// Conversations of which the hub has the first message, so that the platform is not asked again each time somebody scrolls
/// up to it. Bounded; what is forgotten is asked once more.
#[derive(Debug)]
pub struct Complete(Cache<ConversationId, ()>);

impl Complete {
    /// Messages were deleted: nothing is known to be complete any more.
    pub(super) fn forget(&self) {
        self.0.clear();
    }
}

impl Default for Complete {
    fn default() -> Self {
        Self(Cache::new(COMPLETE))
    }
}

fn range(query: &Query) -> Result<MessageRange, ApiError> {
    let limit = query.at_most("limit", 1..=MAX_LIMIT)?;
    let offset = query.number("offset", 0..=MAX_OFFSET)?;
    let before = query.text("before").filter(|text| !text.is_empty()).map(|text| {
        text.parse()
            .map_err(|_| ApiError::bad_request("before must be the id of a message"))
    });
    Ok(MessageRange {
        limit: limit.unwrap_or(USUAL_LIMIT),
        offset: offset.unwrap_or(0),
        before: before.transpose()?,
    })
}

/// Reads a time. A `+` that was not escaped arrives as a space, and without an offset it is UTC.
fn moment(text: &str) -> Result<OffsetDateTime, ApiError> {
    let parse = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok();
    parse(text)
        .or_else(|| parse(&text.replace(' ', "+")))
        .or_else(|| parse(&format!("{text}Z")))
        .ok_or_else(|| ApiError::bad_request("since must be an RFC 3339 time such as 2026-01-02T03:04:05Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;
    use time::macros::datetime;

    fn range(query: &str) -> Result<MessageRange, ApiError> {
        let request = TestRequest::with_uri(&format!("/api/messages/x?{query}")).to_http_request();
        super::range(&Query::of(&request))
    }

    #[test]
    fn a_page_has_bounds() {
        let usual = range("").ok().unwrap();
        assert_eq!((usual.limit, usual.offset, usual.before), (50, 0, None));
        let before = range("limit=200&before=00000000-0000-0000-0000-00000000000a")
            .ok()
            .unwrap();
        assert!(before.before.is_some());
        assert_eq!(range("limit=201").ok().unwrap().limit, 200);
        for query in [
            "limit=0",
            "limit=-1",
            "offset=x",
            "before=x",
            "before=0000000A-0000-0000-0000-000000000000",
        ] {
            assert!(range(query).is_err(), "{query}");
        }
    }

    #[test]
    fn since_is_a_time() {
        let expected = datetime!(2026-01-02 03:04:05 UTC);
        for text in [
            "2026-01-02T03:04:05Z",
            "2026-01-02T03:04:05.000000Z",
            "2026-01-02T05:04:05+02:00",
            "2026-01-02T05:04:05 02:00",
            "2026-01-02T03:04:05",
        ] {
            assert_eq!(moment(text).ok(), Some(expected), "{text}");
        }
        for text in ["yesterday", "2026-02-30T00:00:00Z", "2026", "1767323045"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
