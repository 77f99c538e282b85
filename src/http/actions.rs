//! What a person does to a message that is on its platform: edits it, deletes it, reacts to it. The message changes when the
//! platform has taken it.

use actix_web::http::StatusCode;
use actix_web::web::ServiceConfig;
use actix_web::{HttpRequest, HttpResponse, web};
use hub_actors::domain::{Act, NewAction, Refusal};
use hub_actors::tree::Acted;
use hub_actors::{ConversationId, MessageId, OutboxId};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::body::JsonBody;
use super::input::{Fields, MAX_TEXT};
use super::{ApiError, AppState, Identity, path_id, send};
use crate::views::{self, MessageView};

/// Longest emoji, in characters: families and flags are made of many.
const MAX_EMOJI: usize = 32;

/// Registers the routes. `edit` and `delete` share their address with the messages of a conversation, in `messages`.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(
            web::resource("/api/messages/{message_id}/reactions")
                .route(web::post().to(add_reaction))
                .route(web::delete().to(remove_reaction)),
        )
        .service(web::resource("/api/messages/{conversation_id}/ai-assist").route(web::post().to(assist)));
}

/// A new text.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the body, which is read field by field")]
struct EditBody {
    /// At most 10,000 characters, not blank.
    content: String,
}

/// A reaction.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the body, which is read field by field")]
struct ReactionBody {
    emoji: String,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActedOn<'a> {
    success: bool,
    /// Whether it is still on its way: the message then changes later, in the stream.
    pending: bool,
    /// As it is now.
    message: MessageView<'a>,
}

/// Gives an own message another text.
#[utoipa::path(
    patch, path = "/api/messages/{id}", tag = "messages", request_body = EditBody,
    params(
        ("id" = uuid::Uuid, Path, description = "The message"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`: do not wait for the platform"),
    ),
    responses(
        (status = 200, description = "The platform has taken it", body = ActedOn),
        (status = 202, description = "It is on its way", body = ActedOn),
        (status = 400, description = "The text is missing or too long"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "No such message, or not the caller's, or it is deleted"),
        (status = 409, description = "It is not the caller's own, not on the platform, or the account is disconnected"),
        (status = 502, description = "The platform refused it or cannot do it"),
    )
)]
pub(super) async fn edit(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<String>,
    request: HttpRequest,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, ApiError> {
    let text = field(&body, "content", MAX_TEXT)?;
    act(identity, &state, &path, &request, Act::Edit { text }).await
}

/// Deletes a message, for everybody where the platform does that.
#[utoipa::path(
    delete, path = "/api/messages/{id}", tag = "messages",
    params(
        ("id" = uuid::Uuid, Path, description = "The message"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`: do not wait for the platform"),
    ),
    responses(
        (status = 200, description = "The platform has taken it", body = ActedOn),
        (status = 202, description = "It is on its way", body = ActedOn),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "No such message, or not the caller's, or it is deleted already"),
        (status = 409, description = "It is not on the platform, or the account is disconnected"),
        (status = 502, description = "The platform refused it or cannot do it"),
    )
)]
pub(super) async fn delete(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    act(identity, &state, &path, &request, Act::Delete).await
}

/// Reacts to a message.
#[utoipa::path(
    post, path = "/api/messages/{message_id}/reactions", tag = "messages", request_body = ReactionBody,
    params(
        ("message_id" = uuid::Uuid, Path, description = "The message"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`: do not wait for the platform"),
    ),
    responses(
        (status = 200, description = "The platform has taken it", body = ActedOn),
        (status = 202, description = "It is on its way", body = ActedOn),
        (status = 400, description = "The emoji is missing"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "No such message, or not the caller's, or it is deleted"),
        (status = 409, description = "It is not on the platform, or the account is disconnected"),
        (status = 502, description = "The platform refused it or cannot do it"),
    )
)]
pub(super) async fn add_reaction(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<String>,
    request: HttpRequest,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, ApiError> {
    let emoji = field(&body, "emoji", MAX_EMOJI)?;
    let is_active = true;
    act(identity, &state, &path, &request, Act::React { emoji, is_active }).await
}

/// Takes a reaction back.
#[utoipa::path(
    delete, path = "/api/messages/{message_id}/reactions", tag = "messages", request_body = ReactionBody,
    params(
        ("message_id" = uuid::Uuid, Path, description = "The message"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`: do not wait for the platform"),
    ),
    responses(
        (status = 200, description = "The platform has taken it", body = ActedOn),
        (status = 202, description = "It is on its way", body = ActedOn),
        (status = 400, description = "The emoji is missing"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "No such message, or not the caller's, or it is deleted"),
        (status = 409, description = "It is not on the platform, or the account is disconnected"),
        (status = 502, description = "The platform refused it or cannot do it"),
    )
)]
pub(super) async fn remove_reaction(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<String>,
    request: HttpRequest,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, ApiError> {
    let emoji = field(&body, "emoji", MAX_EMOJI)?;
    let is_active = false;
    act(identity, &state, &path, &request, Act::React { emoji, is_active }).await
}

/// Would suggest what to answer; this hub has no model to ask.
#[utoipa::path(
    post, path = "/api/messages/{conversation_id}/ai-assist", tag = "messages",
    params(("conversation_id" = uuid::Uuid, Path, description = "The conversation")),
    responses(
        (status = 401, description = "Not signed in"),
        (status = 503, description = "It is not set up on this hub"),
    )
)]
pub(super) async fn assist(_identity: Identity, path: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let _: ConversationId = path_id(&path)?;
    Err(ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "NOT_CONFIGURED",
        "AI suggestions are not set up on this hub.",
    ))
}

fn field(body: &Value, name: &'static str, max: usize) -> Result<String, ApiError> {
    let mut fields = Fields::of(body);
    let text = fields.required(name, max).map(str::to_owned);
    fields.errors.or(text)?.ok_or_else(ApiError::internal)
}

async fn act(
    identity: Identity,
    state: &AppState,
    path: &str,
    request: &HttpRequest,
    act: Act,
) -> Result<HttpResponse, ApiError> {
    let id: MessageId = path_id(path)?;
    let find = || state.store.message(identity.user_id, id);
    let message = find().await?.ok_or(Refusal::NoMessage)?;
    let new = NewAction {
        outbox_id: OutboxId::generate(state.clock.now()),
        conversation_id: message.conversation_id,
        message_id: id,
        act,
    };
    let patience = send::Preference::of(request.headers()).patience(&state.settings.outbox);
    let (status, pending) = match state.tree.act_on_message(identity.user_id, new, patience).await? {
        Acted::Done => (StatusCode::OK, false),
        Acted::OnItsWay => (StatusCode::ACCEPTED, true),
        Acted::Refused(reason) => return Err(ApiError::new(StatusCode::BAD_GATEWAY, "REFUSED", reason)),
    };
    let message = find().await?.ok_or(Refusal::NoMessage)?;
    Ok(HttpResponse::build(status).json(ActedOn {
        success: true,
        pending,
        message: views::message(&message),
    }))
}
