//! The list of conversations, and one of them.

use actix_web::{HttpRequest, HttpResponse, web};
use hub_actors::domain::Refusal;
use hub_actors::{ConversationId, PlatformId};
use serde::Serialize;
use utoipa::ToSchema;

use super::input::{MAX_OFFSET, Query};
use super::{ApiError, AppState, Identity, path_id};
use crate::store::ConversationFilter;
use crate::views::{self, ConversationView};

/// Conversations in one answer at most.
const MAX_LIMIT: i64 = 500;
/// Conversations in one answer where the request names a platform but no limit.
const USUAL_LIMIT: i64 = 50;
/// Read conversations of one platform where the request does not say.
const USUAL_READ: i64 = 10;
/// Read conversations of all platforms together where the request does not say: a page that looks for the header of an
/// open chat asks for the list without parameters and must find it there.
const USUAL_READ_OF_ALL: i64 = 200;

/// Registers the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource(["/api/conversations", "/api/conversations/"]).route(web::get().to(list)))
        .service(web::resource("/api/conversations/{conversation_id}").route(web::get().to(detail)));
}

/// A page of conversations: all unread ones, newest first, then the newest read ones.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConversationList<'a> {
    conversations: Vec<ConversationView<'a>>,
    /// How many are in this answer.
    count: usize,
    /// How many there are: the unread ones and the read ones up to `max_read`.
    total: i64,
    /// How many conversations are unread.
    unread_count: i64,
    /// How many conversations are read, up to `max_read`.
    read_count: i64,
    limit: i64,
    offset: i64,
    /// `<epoch>:<seq>`: what is newer than this answer follows after this place of the stream.
    position: String,
}

/// A conversation and the place in the stream from which on it may have changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConversationDetail<'a> {
    #[serde(flatten)]
    conversation: ConversationView<'a>,
    /// `<epoch>:<seq>`: what is newer than this answer follows after this place of the stream.
    position: String,
}

/// Lists the conversations of the caller's active accounts.
#[utoipa::path(
    get, path = "/api/conversations", tag = "conversations",
    params(
        ("platform" = Option<String>, Query, description = "Only this platform"),
        ("limit" = Option<i64>, Query, description = "From 1; more than 500 is 500; default 50 of one platform, 250 of all"),
        ("offset" = Option<i64>, Query, description = "How many to leave out; default 0"),
        ("max_read" = Option<i64>, Query, description = "Read ones, at most 500; default 10 of one platform, 200 of all"),
    ),
    responses(
        (status = 200, description = "A page of conversations", body = ConversationList),
        (status = 400, description = "A parameter is not what it must be"),
        (status = 401, description = "Not signed in"),
    )
)]
pub(super) async fn list(
    identity: Identity,
    state: web::Data<AppState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let filter = filter(&Query::of(&request))?;
    // Read before the state: an event between the two is then delivered twice rather than never.
    let position = state.store.stream_position(identity.user_id).await?;
    let page = state.store.conversations(identity.user_id, &filter).await?;
    Ok(HttpResponse::Ok().json(ConversationList {
        count: page.conversations.len(),
        total: page.unread + page.read,
        unread_count: page.unread,
        read_count: page.read,
        limit: filter.limit,
        offset: filter.offset,
        position: position.to_string(),
        conversations: page.conversations.iter().map(views::conversation).collect(),
    }))
}

/// Shows one conversation of the caller.
#[utoipa::path(
    get, path = "/api/conversations/{conversation_id}", tag = "conversations",
    params(("conversation_id" = uuid::Uuid, Path, description = "The conversation")),
    responses(
        (status = 200, description = "The conversation", body = ConversationDetail),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "No such conversation, or not the caller's"),
    )
)]
pub(super) async fn detail(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id: ConversationId = path_id(&path)?;
    let position = state.store.stream_position(identity.user_id).await?;
    let conversation = state.store.conversation(identity.user_id, id).await?;
    let conversation = conversation.ok_or(Refusal::NoConversation)?;
    Ok(HttpResponse::Ok().json(ConversationDetail {
        conversation: views::conversation(&conversation),
        position: position.to_string(),
    }))
}

fn filter(query: &Query) -> Result<ConversationFilter, ApiError> {
    let platform = query.text("platform").filter(|name| !name.is_empty());
    if platform.is_some_and(|name| !is_platform_name(name)) {
        let text = "platform must be the short name of a platform, such as telegram";
        return Err(ApiError::bad_request(text));
    }
    let limit = query.at_most("limit", 1..=MAX_LIMIT)?;
    let offset = query.number("offset", 0..=MAX_OFFSET)?;
    let max_read = query.at_most("max_read", 0..=MAX_LIMIT)?;
    let (usual_limit, usual_read) = match platform {
        Some(_) => (USUAL_LIMIT, USUAL_READ),
        None => (USUAL_LIMIT + USUAL_READ_OF_ALL, USUAL_READ_OF_ALL),
    };
    Ok(ConversationFilter {
        platform: platform.map(PlatformId::from),
        max_read: max_read.unwrap_or(usual_read),
        limit: limit.unwrap_or(usual_limit),
        offset: offset.unwrap_or(0),
    })
}

/// Whether a text could be the short name of a platform.
pub(super) fn is_platform_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    (1..=50).contains(&name.len()) && name.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn filter(query: &str) -> Result<ConversationFilter, ApiError> {
        let request = TestRequest::with_uri(&format!("/api/conversations?{query}")).to_http_request();
        super::filter(&Query::of(&request))
    }

    #[test]
    fn all_platforms_together_show_more_read_conversations() {
        let one = filter("platform=facebook").ok().unwrap();
        assert_eq!((one.limit, one.offset, one.max_read), (50, 0, 10));
        let all = filter("").ok().unwrap();
        assert_eq!((all.limit, all.max_read), (250, 200));
        let asked = filter("max_read=3&limit=5&offset=2").ok().unwrap();
        assert_eq!((asked.limit, asked.offset, asked.max_read), (5, 2, 3));
        let much = filter("max_read=501&limit=1000").ok().unwrap();
        assert_eq!((much.limit, much.max_read), (500, 500));
    }

    #[test]
    fn what_is_no_number_or_no_platform_is_refused() {
        for query in [
            "limit=abc",
            "limit=0",
            "offset=-1",
            "max_read=1e3",
            "platform=%00",
            "platform=A",
        ] {
            assert!(filter(query).is_err(), "{query}");
        }
    }
}
