//! What a person sent lately that has not gone out (yet), under the address at which the known page asks after every platform.

use std::time::Duration;

use actix_web::http::header::{self, HeaderMap};
use actix_web::web::ServiceConfig;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::{ApiError, AppState, Identity};
use crate::store::PendingMessage;
use crate::views::Timestamp;

/// Messages in the answer.
const MOST: i64 = 100;
/// How long ago a message may have been sent. The page asks for one minute and then gives up.
const LATELY: Duration = Duration::from_mins(10);

/// Registers the routes.
pub fn routes(config: &mut ServiceConfig) {
    config.service(web::resource("/api/platforms/instagram/pending").route(web::get().to(pending)));
}

/// Messages that have not gone out, the newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingList {
    pending_messages: Vec<PendingView>,
    count: usize,
}

/// A message that has not gone out. It says nothing with which somebody could send it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingView {
    /// The message's id, which is the `pendingId` that it was answered with.
    #[schema(value_type = String, format = Uuid)]
    id: uuid::Uuid,
    #[schema(value_type = String, format = Uuid)]
    account_id: uuid::Uuid,
    #[schema(value_type = String, format = Uuid)]
    conversation_id: uuid::Uuid,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<PendingMessage> for PendingView {
    fn from(message: PendingMessage) -> Self {
        Self {
            id: message.id.0,
            account_id: message.account_id.0,
            conversation_id: message.conversation_id.0,
            created_at: Timestamp(message.created_at),
        }
    }
}

/// Lists the caller's messages of the last ten minutes that are on their way, were refused, or are of unknown fate, whatever
/// their platform. Only a browser is told: the page takes an id that is missing here for sent. A program that relays
/// Instagram's messages asks at the same address, and the hub has nothing for it to relay.
#[utoipa::path(
    get, path = "/api/platforms/instagram/pending", tag = "messages",
    responses(
        (status = 200, description = "What has not gone out, at most 100, the newest first", body = PendingList),
        (status = 401, description = "Not signed in"),
    )
)]
pub(super) async fn pending(
    identity: Identity,
    state: web::Data<AppState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let messages = if is_browser(request.headers()) {
        let since = state.clock.now() - LATELY;
        state.store.pending_messages(identity.user_id, since, MOST).await?
    } else {
        Vec::new()
    };
    Ok(HttpResponse::Ok().json(PendingList {
        count: messages.len(),
        pending_messages: messages.into_iter().map(PendingView::from).collect(),
    }))
}

/// Whether a page asks. Browsers name the page by one of these headers (Fetch Metadata, RFC 6454, RFC 9110): which one
/// depends on the scheme and on whether the page is the hub's own. Programs send none of them.
fn is_browser(headers: &HeaderMap) -> bool {
    headers.contains_key("sec-fetch-site")
        || headers.contains_key(header::ORIGIN)
        || headers.contains_key(header::REFERER)
}
