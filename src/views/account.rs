//! A linked account as clients see it.

use hub_actors::domain::Account;
use hub_actors::{AccountId, ExternalId, UserId};
use serde::Serialize;
use utoipa::ToSchema;

use super::Timestamp;

/// A linked platform account. Its credentials are never part of it.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Account)]
pub struct AccountView<'a> {
    #[schema(value_type = String, format = Uuid)]
    id: AccountId,
    #[schema(value_type = String, format = Uuid)]
    user_id: UserId,
    #[serde(rename = "userId")]
    #[schema(value_type = String, format = Uuid)]
    user_id_camel: UserId,
    platform: &'a str,
    /// The account's id on its platform.
    #[schema(value_type = String)]
    platform_user_id: &'a ExternalId,
    #[serde(rename = "platformUserId")]
    #[schema(value_type = String)]
    platform_user_id_camel: &'a ExternalId,
    /// The name that the person knows it by.
    platform_username: Option<&'a str>,
    #[serde(rename = "platformUsername")]
    platform_username_camel: Option<&'a str>,
    /// False once it was disconnected; its conversations stay readable.
    is_active: bool,
    #[serde(rename = "isActive")]
    is_active_camel: bool,
    /// `connecting`, `live`, `catching_up`, `backoff`, `flood_wait`, `needs_login`, `revoked`, `failed` or `disabled`.
    state: &'static str,
    /// Why it is in that state, in words for the person.
    state_reason: Option<&'a str>,
    #[serde(rename = "stateReason")]
    state_reason_camel: Option<&'a str>,
    /// Until when it lasts, where that is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    state_until: Option<Timestamp>,
    #[serde(rename = "stateUntil")]
    #[schema(value_type = Option<String>, format = DateTime)]
    state_until_camel: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[serde(rename = "createdAt")]
    #[schema(value_type = String, format = DateTime)]
    created_at_camel: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    #[serde(rename = "updatedAt")]
    #[schema(value_type = String, format = DateTime)]
    updated_at_camel: Timestamp,
}

/// The account as a JSON object.
pub fn account(account: &Account) -> AccountView<'_> {
    AccountView {
        id: account.id,
        user_id: account.user_id,
        user_id_camel: account.user_id,
        platform: super::platform(&account.platform),
        platform_user_id: &account.external_id,
        platform_user_id_camel: &account.external_id,
        platform_username: account.name.as_deref(),
        platform_username_camel: account.name.as_deref(),
        is_active: account.is_active,
        is_active_camel: account.is_active,
        state: account.state.as_str(),
        state_reason: account.state_reason.as_deref(),
        state_reason_camel: account.state_reason.as_deref(),
        state_until: account.state_until.map(Timestamp),
        state_until_camel: account.state_until.map(Timestamp),
        created_at: Timestamp(account.created_at),
        created_at_camel: Timestamp(account.created_at),
        updated_at: Timestamp(account.updated_at),
        updated_at_camel: Timestamp(account.updated_at),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;

    #[test]
    fn it_never_shows_credentials() {
        let sample = samples::account();
        let text = serde_json::to_string(&super::account(&sample)).unwrap();
        assert!(!text.contains("whsec_canary"));
        assert!(text.contains(r#""isActive":true"#) && text.contains(r#""is_active":true"#));
        assert!(text.contains(r#""state":"live""#));
    }
}
