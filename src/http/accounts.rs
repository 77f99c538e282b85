//! Linked platform accounts: the list, disconnecting, and the accounts of the custom channel.

mod custom;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use hub_actors::AccountId;
use hub_actors::domain::{AccountState, Refusal};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

// A glob, because the descriptions that `utoipa::path` makes of the handlers have to come with them.
pub use custom::*;

use super::{ApiError, AppState, Identity, path_id};
use crate::views::{self, AccountView};

/// What the person reads at an account that they disconnected.
const DISCONNECTED: &str = "You disconnected this account.";

/// Registers the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/api/oauth/accounts").route(web::get().to(list)))
        .service(web::resource("/api/oauth/connect/{platform}").route(web::get().to(connect)))
        .service(web::resource("/api/oauth/refresh/{account_id}").route(web::post().to(refresh)))
        .service(web::resource("/api/oauth/disconnect/{account_id}").route(web::delete().to(disconnect)))
        .configure(custom::routes);
}

/// The caller's linked accounts, the newest first, disconnected ones included.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccountList<'a> {
    accounts: Vec<AccountView<'a>>,
}

/// Lists the caller's linked accounts.
#[utoipa::path(
    get, path = "/api/oauth/accounts", tag = "accounts",
    responses(
        (status = 200, description = "The accounts, the newest first", body = AccountList),
        (status = 401, description = "Not signed in"),
    )
)]
pub(super) async fn list(identity: Identity, state: web::Data<AppState>) -> Result<HttpResponse, ApiError> {
    let accounts = state.store.accounts(identity.user_id).await?;
    Ok(HttpResponse::Ok().json(AccountList {
        accounts: accounts.iter().map(views::account).collect(),
    }))
}

/// Would begin linking an account at its platform; no platform of this hub has that yet.
#[utoipa::path(
    get, path = "/api/oauth/connect/{platform}", tag = "accounts",
    params(("platform" = String, Path, description = "The platform")),
    responses(
        (status = 400, description = "The platform is not set up on this hub, or is not linked this way"),
        (status = 401, description = "Not signed in"),
    )
)]
pub(super) async fn connect(_identity: Identity, path: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let platform: String = path.chars().take(50).collect();
    let text = match platform.as_str() {
        crate::platforms::TELEGRAM => {
            "A Telegram account is linked with POST /api/telegram/auth/phone or /api/telegram/auth/qr.".to_owned()
        }
        crate::platforms::CUSTOM => {
            "An account of the custom channel is made with POST /api/accounts/custom, not by signing in.".to_owned()
        }
        _ => format!("The platform \"{platform}\" is not set up on this hub."),
    };
    Err(ApiError::new(StatusCode::BAD_REQUEST, "INVALID_PLATFORM", text))
}

/// Would fetch a new access token from the account's platform; no platform of this hub has such tokens yet.
#[utoipa::path(
    post, path = "/api/oauth/refresh/{account_id}", tag = "accounts",
    params(("account_id" = uuid::Uuid, Path, description = "The account")),
    responses(
        (status = 400, description = "The account's platform has no tokens to refresh"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "No such account, or it is disconnected, or not the caller's"),
    )
)]
pub(super) async fn refresh(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id: AccountId = path_id(&path)?;
    let account = state.store.find_account(identity.user_id, id).await?;
    let account = account.filter(|account| account.is_active).ok_or(Refusal::NoAccount)?;
    let platform = views::platform(&account.platform);
    let text = format!("An account of the platform \"{platform}\" has no token to refresh.");
    Err(ApiError::new(StatusCode::BAD_REQUEST, "INVALID_PLATFORM", text))
}

/// Disconnects an account: its session on the platform is ended, its credentials are erased, its conversations stay
/// readable. Repeating it changes nothing.
#[utoipa::path(
    delete, path = "/api/oauth/disconnect/{account_id}", tag = "accounts",
    params(("account_id" = uuid::Uuid, Path, description = "The account")),
    responses(
        (status = 200, description = "It is disconnected", body = Object,
            example = json!({"success": true, "message": "Account disconnected successfully"})),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "No such account, or not the caller's"),
    )
)]
pub(super) async fn disconnect(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id: AccountId = path_id(&path)?;
    let account = state.store.find_account(identity.user_id, id).await?;
    let account = account.ok_or(Refusal::NoAccount)?;
    if account.is_active && state.tree.is_live(&account.platform) {
        // While the account is still active, so that its link can say goodbye to the platform.
        state.tree.end_link(id).await?;
    }
    if !state.store.disconnect_account(identity.user_id, id).await? {
        return Err(Refusal::NoAccount.into());
    }
    // From here on nothing goes in or out by the account, whatever becomes of the event that tells of it. The reason
    // differs from what the store has just written, so the event is made exactly once.
    state.tree.reload_account(id);
    let reason = Some(DISCONNECTED.to_owned());
    let told = state
        .tree
        .set_account_state(identity.user_id, id, AccountState::Disabled, reason);
    told.await?;
    Ok(HttpResponse::Ok().json(json!({"success": true, "message": "Account disconnected successfully"})))
}
