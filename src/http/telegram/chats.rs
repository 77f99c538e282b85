//! The chats of a Telegram account under Telegram's own ids, as older clients know them. They read what the hub has and
//! send as every other message is sent.

use actix_web::http::StatusCode;
use actix_web::web::ServiceConfig;
use actix_web::{HttpResponse, web};
use hub_actors::domain::{Account, Conversation, DeliveryStatus, Message, MessageKind, NewMessage, Refusal};
use hub_actors::{ExternalId, MessageId, OutboxId};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::account;
use crate::http::body::JsonBody;
use crate::http::input::{Fields, MAX_TEXT};
use crate::http::{ApiError, AppState, Identity, send};
use crate::store::MessageRange;

/// Chats in the list.
const MAX_DIALOGS: i64 = 500;
/// Messages of a chat.
const MESSAGES: i64 = 50;

/// Registers the routes.
pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(web::resource("/api/telegram/{account_id}/dialogs").route(web::get().to(dialogs)))
        .service(web::resource("/api/telegram/{account_id}/messages/{chat_id}").route(web::get().to(messages)))
        .service(web::resource("/api/telegram/{account_id}/send/{chat_id}").route(web::post().to(send_text)));
}

/// The chats of an account, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct DialogList {
    dialogs: Vec<Dialog>,
}

/// A chat.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dialog {
    /// Telegram's id: of a person as it is, of a basic group negative, of a channel or supergroup below -1000000000000.
    #[schema(value_type = String)]
    id: ExternalId,
    name: Option<String>,
    is_user: bool,
    is_group: bool,
    is_channel: bool,
    unread_count: i32,
    /// Of the newest message, in seconds since 1970.
    date: Option<i64>,
}

impl From<Conversation> for Dialog {
    fn from(conversation: Conversation) -> Self {
        let id: i64 = conversation.external_id.as_str().parse().unwrap_or_default();
        let is_channel = id < -1_000_000_000_000;
        Self {
            id: conversation.external_id,
            name: conversation.participant_name,
            is_user: id > 0,
            is_group: id < 0 && !is_channel,
            is_channel,
            unread_count: conversation.unread_count,
            date: conversation.last_message_at.map(OffsetDateTime::unix_timestamp),
        }
    }
}

/// The newest messages of a chat, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatMessages {
    messages: Vec<ChatMessage>,
}

/// A message.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChatMessage {
    /// Telegram's id; the hub's for one that is not sent yet.
    id: String,
    text: String,
    sender_id: String,
    sender_name: Option<String>,
    /// In seconds since 1970.
    date: i64,
    /// Whether the person sent it.
    out: bool,
}

impl From<Message> for ChatMessage {
    fn from(message: Message) -> Self {
        let id = message.external_id.as_ref().map(ToString::to_string);
        Self {
            id: id.unwrap_or_else(|| message.id.to_string()),
            text: message.content,
            sender_id: message.sender_id,
            sender_name: message.sender_name,
            date: message.sent_at.unix_timestamp(),
            out: message.is_outgoing,
        }
    }
}

/// A text to send.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the body, which is read field by field")]
struct TextBody {
    text: String,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct SentText {
    success: bool,
    message: ChatMessage,
}

/// Lists the chats of an account.
#[utoipa::path(
    get, path = "/api/telegram/{account_id}/dialogs", tag = "telegram",
    params(("account_id" = uuid::Uuid, Path, description = "The account")),
    responses(
        (status = 200, description = "The chats", body = DialogList),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "No such account, or not the caller's"),
    )
)]
pub(in crate::http) async fn dialogs(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let account = account(&state, &identity, &path).await?;
    let conversations = state
        .store
        .conversations_of_account(identity.user_id, account.id, MAX_DIALOGS);
    let conversations = conversations.await?;
    Ok(HttpResponse::Ok().json(DialogList {
        dialogs: conversations.into_iter().map(Dialog::from).collect(),
    }))
}

/// Lists the newest messages of a chat.
#[utoipa::path(
    get, path = "/api/telegram/{account_id}/messages/{chat_id}", tag = "telegram",
    params(
        ("account_id" = uuid::Uuid, Path, description = "The account"),
        ("chat_id" = String, Path, description = "Telegram's id of the chat"),
    ),
    responses(
        (status = 200, description = "The messages, the newest first", body = ChatMessages),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "No such account or chat, or not the caller's"),
    )
)]
pub(in crate::http) async fn messages(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let (account_id, chat) = path.into_inner();
    let account = account(&state, &identity, &account_id).await?;
    let conversation = conversation(&state, &account, chat).await?;
    let range = MessageRange {
        limit: MESSAGES,
        offset: 0,
        before: None,
    };
    let page = state.store.messages(identity.user_id, conversation.id, &range).await?;
    let messages = page.ok_or(Refusal::NoConversation)?.messages;
    Ok(HttpResponse::Ok().json(ChatMessages {
        messages: messages.into_iter().map(ChatMessage::from).collect(),
    }))
}

/// Sends a text to a chat.
#[utoipa::path(
    post, path = "/api/telegram/{account_id}/send/{chat_id}", tag = "telegram", request_body = TextBody,
    params(
        ("account_id" = uuid::Uuid, Path, description = "The account"),
        ("chat_id" = String, Path, description = "Telegram's id of the chat"),
    ),
    responses(
        (status = 200, description = "Telegram has taken it", body = SentText),
        (status = 202, description = "Stored: on its way", body = SentText),
        (status = 400, description = "The text is missing or too long"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "No such account or chat, or not the caller's"),
        (status = 409, description = "The account is disconnected"),
        (status = 502, description = "Telegram refused it"),
    )
)]
pub(in crate::http) async fn send_text(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<(String, String)>,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, ApiError> {
    let (account_id, chat) = path.into_inner();
    let account = account(&state, &identity, &account_id).await?;
    let mut fields = Fields::of(&body);
    let text = fields.required("text", MAX_TEXT).map(str::to_owned);
    let text = fields.errors.or(text)?;
    let conversation = conversation(&state, &account, chat).await?;
    let now = state.clock.now();
    let new = NewMessage {
        id: MessageId::generate(now),
        outbox_id: OutboxId::generate(now),
        conversation_id: conversation.id,
        text: text.unwrap_or_default(),
        kind: MessageKind::Text,
        media_url: None,
        reply_to: None,
        client_id: None,
        idempotency: None,
    };
    let patience = send::Preference::Wait.patience(&state.settings.outbox);
    let message = state.tree.send(identity.user_id, new, patience).await?.message;
    let status = match message.status {
        DeliveryStatus::Failed => {
            let reason = message
                .status_reason
                .unwrap_or_else(|| "Telegram refused the message".to_owned());
            return Err(ApiError::new(StatusCode::BAD_GATEWAY, "SEND_FAILED", reason));
        }
        DeliveryStatus::Queued | DeliveryStatus::Sending | DeliveryStatus::Unknown => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    };
    Ok(HttpResponse::build(status).json(SentText {
        success: true,
        message: message.into(),
    }))
}

async fn conversation(state: &AppState, account: &Account, chat: String) -> Result<Conversation, ApiError> {
    // Any other text is the id of no chat.
    chat.parse::<i64>().map_err(|_| Refusal::NoConversation)?;
    let chat = ExternalId::from(chat);
    let found = state.store.conversation_of_chat(account.user_id, account.id, &chat);
    Ok(found.await?.ok_or(Refusal::NoConversation)?)
}
