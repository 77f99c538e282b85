//! Looking for what is new, and starting over.

use std::time::Duration;

use actix_web::web::ServiceConfig;
use actix_web::{HttpResponse, web};
use hub_actors::domain::{Account, AccountState, Refusal};
use serde_json::json;

use super::account;
use crate::http::{ApiError, AppState, Identity};
use crate::platforms::telegram;

/// How long an answer waits for the first list of chats.
const LIST_PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks whether it is there.
const LOOK: Duration = Duration::from_millis(250);

/// Registers the routes.
pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(web::resource("/api/telegram/{account_id}/sync").route(web::post().to(sync)))
        .service(web::resource("/api/telegram/{account_id}/reset").route(web::post().to(reset)));
}

/// Looks for what is new, in the background: what is found follows in the stream. A live account hears of everything by
/// itself, so this only hurries it, and is answered at once. For one whose chats are just being listed the answer waits until
/// they are, at most 20 seconds: a page asks for them next.
#[utoipa::path(
    post, path = "/api/telegram/{account_id}/sync", tag = "telegram",
    params(("account_id" = uuid::Uuid, Path, description = "The account")),
    responses(
        (status = 200, description = "It is looked for", body = Object,
            example = json!({"success": true, "message": "Looking for new messages"})),
        (status = 401, description = "Not signed in, or with `needsReconnect`: the account has to be linked again",
            body = Object, example = json!({"error": "Link the account again.", "needsReconnect": true})),
        (status = 404, description = "No such account, or not the caller's"),
    )
)]
pub(in crate::http) async fn sync(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let account = account(&state, &identity, &path).await?;
    if let Some(refusal) = needs_reconnect(&account) {
        return Ok(refusal);
    }
    state.tree.refresh_link(account.id);
    match tokio::time::timeout(LIST_PATIENCE, listed(&state, account)).await {
        Ok(outcome) => outcome?,
        Err(_) => tracing::debug!("the list of chats takes long"),
    }
    Ok(HttpResponse::Ok().json(json!({"success": true, "message": "Looking for new messages"})))
}

/// Waits until the chats of an account are listed, or its link is held up.
async fn listed(state: &AppState, mut account: Account) -> Result<(), ApiError> {
    while matches!(account.state, AccountState::Connecting | AccountState::CatchingUp) {
        tokio::time::sleep(LOOK).await;
        let found = state.store.find_account(account.user_id, account.id).await?;
        account = found.ok_or(Refusal::NoAccount)?;
    }
    Ok(())
}

/// Deletes the account's conversations and messages and fetches them again from Telegram. What still has to go out, or has
/// failed, stays with its conversation.
#[utoipa::path(
    post, path = "/api/telegram/{account_id}/reset", tag = "telegram",
    params(("account_id" = uuid::Uuid, Path, description = "The account")),
    responses(
        (status = 200, description = "They are deleted and are being fetched", body = Object,
            example = json!({"success": true, "message": "The conversations are being fetched again"})),
        (status = 401, description = "Not signed in, or with `needsReconnect`: the account has to be linked again"),
        (status = 404, description = "No such account, or not the caller's"),
    )
)]
pub(in crate::http) async fn reset(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let account = account(&state, &identity, &path).await?;
    if let Some(refusal) = needs_reconnect(&account) {
        return Ok(refusal);
    }
    // A long history takes its time: who hangs up meanwhile does not leave the account without its link.
    let reset = actix_web::rt::spawn(async move {
        let deleted = state
            .store
            .reset_account(account.user_id, account.id, telegram::FIRM_MEMORY);
        deleted.await?;
        state.complete.forget();
        state.tree.account_reset(account.user_id, account.id).await?;
        Ok::<_, ApiError>(())
    });
    reset.await.map_err(|_| ApiError::internal())??;
    Ok(HttpResponse::Ok().json(json!({"success": true, "message": "The conversations are being fetched again"})))
}

/// The answer for an account that only its person can make work again.
fn needs_reconnect(account: &Account) -> Option<HttpResponse> {
    if account.is_active && !account.state.waits_for_person() {
        return None;
    }
    let usual = "Telegram does not know this session any more: link the account again.";
    let error = account.state_reason.as_deref().unwrap_or(usual);
    Some(HttpResponse::Unauthorized().json(json!({"error": error, "needsReconnect": true})))
}
