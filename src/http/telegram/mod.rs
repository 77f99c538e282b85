//! What lives here: the routes of Telegram accounts: logins, their chats, looking for what is new, starting over.
//! Who calls it: `http`.
//! What it may not know: Telegram's protocol, SQL.

pub mod auth;
pub mod chats;
pub mod sync;

use actix_web::web::ServiceConfig;
use hub_actors::AccountId;
use hub_actors::domain::{Account, Refusal};

use super::{ApiError, AppState, Identity, path_id};
use crate::platforms::TELEGRAM;

/// Registers the routes.
pub fn routes(config: &mut ServiceConfig) {
    config
        .configure(auth::routes)
        .configure(chats::routes)
        .configure(sync::routes);
}

/// The caller's Telegram account, also when it is disconnected.
async fn account(state: &AppState, identity: &Identity, id: &str) -> Result<Account, ApiError> {
    let id: AccountId = path_id(id)?;
    let account = state.store.find_account(identity.user_id, id).await?;
    let account = account.filter(|account| account.platform.as_str() == TELEGRAM);
    Ok(account.ok_or(Refusal::NoAccount)?)
}
