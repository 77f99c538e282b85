//! Accounts of the custom channel: made, changed, and given a new signing secret.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use hub_actors::domain::{Account, AccountState, Refusal};
use hub_actors::{AccountId, ExternalId, PlatformId};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::body::JsonBody;
use crate::http::input::{Fields, Query};
use crate::http::{ApiError, AppState, Identity, path_id};
use crate::platforms::CUSTOM;
use crate::platforms::address::{self, MAX_URL_BYTES};
use crate::platforms::custom::{Link, ROTATION_OVERLAP};
use crate::store::NewAccount;
use crate::views::{self, AccountView};

/// Longest name of an account, in characters.
const MAX_NAME: usize = 255;
/// Active accounts of the custom channel that one person may have.
const MAX_ACCOUNTS: usize = 1_000;

/// The field of the credentials that holds the address to call.
const OUTBOUND_URL: &str = "outboundUrl";

/// Registers the routes.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/api/accounts/custom").route(web::post().to(create)))
        .service(web::resource("/api/accounts/custom/{account_id}").route(web::patch().to(update)))
        .service(web::resource("/api/accounts/custom/{account_id}/rotate-secret").route(web::post().to(rotate)));
}

/// An account of the custom channel; when it is changed, what is left out stays.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(
    dead_code,
    reason = "it describes the body, which is read field by field to name every wrong one"
)]
pub struct CustomAccount {
    /// The name that the person knows it by: at most 255 characters.
    name: String,
    /// Where the hub posts what is to be sent: http or https, at most 2,000 bytes, not in a private network unless
    /// the hub allows that.
    outbound_url: String,
}

/// A linked account and, when it is new, its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct LinkedAccount<'a> {
    account: AccountView<'a>,
    /// Signs what goes in and out. It is shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// A new signing secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewSecret {
    /// It is shown this once.
    secret: String,
}

/// Makes an account of the custom channel.
#[utoipa::path(
    post, path = "/api/accounts/custom", tag = "accounts",
    request_body = CustomAccount,
    responses(
        (status = 201, description = "The account and its secret, shown this once", body = LinkedAccount),
        (status = 400, description = "A field is wrong, or the address must not be called"),
        (status = 401, description = "Not signed in"),
        (status = 409, description = "There are too many accounts"),
    )
)]
pub(in crate::http) async fn create(
    identity: Identity,
    state: web::Data<AppState>,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, ApiError> {
    let wanted = Wanted::of(&state, &body, true)?;
    let (Some(name), Some(outbound_url)) = (wanted.name, wanted.outbound_url) else {
        return Err(ApiError::bad_request("name and outboundUrl are required"));
    };
    let accounts = state.store.accounts(identity.user_id).await?;
    let active = accounts
        .iter()
        .filter(|account| account.is_active && account.platform.as_str() == CUSTOM);
    if active.count() >= MAX_ACCOUNTS {
        let text = format!("There are {MAX_ACCOUNTS} accounts of the custom channel already: disconnect one first.");
        return Err(ApiError::conflict("TOO_MANY_ACCOUNTS", text));
    }
    let id = AccountId::generate(state.clock.now());
    let (credentials, secret) = Link::create(&outbound_url);
    let new = NewAccount {
        id,
        user_id: identity.user_id,
        platform: PlatformId::from(CUSTOM),
        // There is nobody else to give it a name on the channel.
        external_id: ExternalId::from(id.to_string()),
        name: Some(name),
        credentials,
        state: AccountState::Connecting,
    };
    let account = state.store.create_account(new).await?;
    let account = go_live(&state, account).await;
    Ok(HttpResponse::Created().json(LinkedAccount {
        account: views::account(&account),
        secret: Some(secret.reveal()),
    }))
}

/// Changes the name or the address of an account of the custom channel.
#[utoipa::path(
    patch, path = "/api/accounts/custom/{account_id}", tag = "accounts",
    params(("account_id" = uuid::Uuid, Path, description = "The account")),
    request_body = CustomAccount,
    responses(
        (status = 200, description = "The account as it is now", body = LinkedAccount),
        (status = 400, description = "A field is wrong, or the address must not be called"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "No such account of this channel, or it is disconnected, or not the caller's"),
    )
)]
pub(in crate::http) async fn update(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<String>,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, ApiError> {
    let id: AccountId = path_id(&path)?;
    let wanted = Wanted::of(&state, &body, false)?;
    let now = state.clock.now();
    let changed = state
        .store
        .change_account(identity.user_id, id, CUSTOM, |account| {
            if let Some(name) = wanted.name {
                account.name = Some(name);
            }
            if let Some(url) = wanted.outbound_url {
                account
                    .credentials
                    .0
                    .insert(OUTBOUND_URL.to_owned(), Value::String(url));
            }
            // Until it is told as live again, so that the person hears of it.
            account.state = AccountState::Connecting;
            account.state_reason = None;
            account.state_until = None;
            account.updated_at = now;
        })
        .await?;
    let (account, ()) = changed.ok_or(Refusal::NoAccount)?;
    let account = go_live(&state, account).await;
    Ok(HttpResponse::Ok().json(LinkedAccount {
        account: views::account(&account),
        secret: None,
    }))
}

/// Gives an account of the custom channel a new signing secret. The old one is accepted for another 24 hours, or as
/// long as is asked.
#[utoipa::path(
    post, path = "/api/accounts/custom/{account_id}/rotate-secret", tag = "accounts",
    params(
        ("account_id" = uuid::Uuid, Path, description = "The account"),
        ("overlap_seconds" = Option<i64>, Query, description = "How long the old secret is still accepted: 0 (after a \
            leak) to 86400; default 86400"),
    ),
    responses(
        (status = 200, description = "The new secret, shown this once", body = NewSecret),
        (status = 400, description = "overlap_seconds is not what it must be"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "No such account of this channel, or it is disconnected, or not the caller's"),
    )
)]
pub(in crate::http) async fn rotate(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let id: AccountId = path_id(&path)?;
    let longest = i64::try_from(ROTATION_OVERLAP.as_secs()).unwrap_or_default();
    let overlap = Query::of(&request).number("overlap_seconds", 0..=longest)?;
    let overlap = overlap.and_then(|seconds| u64::try_from(seconds).ok());
    let overlap = overlap.map_or(ROTATION_OVERLAP, Duration::from_secs);
    let now = state.clock.now();
    let changed = state
        .store
        .change_account(identity.user_id, id, CUSTOM, |account| {
            let (credentials, secret) = Link::rotate(&account.credentials, now, overlap);
            account.credentials = credentials;
            secret
        })
        .await?;
    let (_, secret) = changed.ok_or(Refusal::NoAccount)?;
    state.tree.reload_account(id);
    Ok(HttpResponse::Ok().json(NewSecret {
        secret: secret.reveal(),
    }))
}

/// The fields of a body, checked.
struct Wanted {
    name: Option<String>,
    outbound_url: Option<String>,
}

impl Wanted {
    fn of(state: &AppState, body: &Value, is_new: bool) -> Result<Self, ApiError> {
        let allow_private = state.settings.platforms.custom.allow_private_networks;
        Self::read(body, is_new, allow_private)
    }

    fn read(body: &Value, is_new: bool, allow_private: bool) -> Result<Self, ApiError> {
        let mut fields = Fields::of(body);
        let mut text = |name: &'static str, max: usize| {
            let is_absent = fields.value(&[name]).is_none();
            let text = if is_absent && !is_new {
                None
            } else {
                fields.required(name, max)
            };
            text.map(str::to_owned)
        };
        let name = text("name", MAX_NAME);
        let outbound_url = text(OUTBOUND_URL, MAX_URL_BYTES);
        if name.as_ref().is_some_and(|name| name.chars().any(char::is_control)) {
            fields.errors.add("name", "Control characters are not allowed.");
        }
        if let Some(url) = &outbound_url
            && let Err(error) = address::check_url(url, allow_private)
        {
            fields.errors.add(OUTBOUND_URL, error.to_string());
        }
        let wanted = Self { name, outbound_url };
        fields
            .errors
            .or(wanted)
            .map_err(|errors| ApiError::invalid_fields(errors.0))
    }
}

/// Tells the tree and the person that the account is ready. The account stands already and its secret is shown only
/// once, so a failure here is not one of the request: its connection takes messages in every state but `disabled`.
async fn go_live(state: &AppState, mut account: Account) -> Account {
    state.tree.reload_account(account.id);
    let told = state
        .tree
        .set_account_state(account.user_id, account.id, AccountState::Live, None);
    match told.await {
        Ok(()) => account.state = AccountState::Live,
        Err(error) => tracing::warn!(account = %account.id, %error, "an account was linked but not reported as live"),
    }
    account
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn errors(body: &Value, is_new: bool) -> Vec<String> {
        let error = Wanted::read(body, is_new, false).err();
        let fields = error.and_then(|error| error.field_errors);
        fields
            .map(|fields| fields.keys().cloned().collect())
            .unwrap_or_default()
    }

    #[test]
    fn a_new_account_needs_a_name_and_an_address_that_may_be_called() {
        let good = json!({"name": " Shop ", "outboundUrl": "https://example.com/hook"});
        let wanted = Wanted::read(&good, true, false).ok().unwrap();
        assert_eq!(wanted.name.as_deref(), Some("Shop"));
        assert_eq!(wanted.outbound_url.as_deref(), Some("https://example.com/hook"));
        let loopback = json!({"name": "Shop", "outboundUrl": "http://127.0.0.1:9000/hook"});
        assert_eq!(errors(&loopback, true), [OUTBOUND_URL]);
        assert!(Wanted::read(&loopback, true, true).is_ok());
        for (body, wrong) in [
            (json!({}), vec!["name", OUTBOUND_URL]),
            (
                json!({"name": "a\u{0}", "outboundUrl": "ftp://example.com"}),
                vec!["name", OUTBOUND_URL],
            ),
            (
                json!({"name": "x".repeat(256), "outboundUrl": "https://example.com"}),
                vec!["name"],
            ),
            (json!({"name": 5, "outboundUrl": null}), vec!["name", OUTBOUND_URL]),
            (
                json!({"name": "x", "outboundUrl": format!("https://example.com/{}", "x".repeat(2_000))}),
                vec![OUTBOUND_URL],
            ),
            (json!("x"), vec!["non_field_errors"]),
        ] {
            assert_eq!(errors(&body, true), wrong, "{body}");
        }
    }

    #[test]
    fn a_change_may_leave_out_what_stays() {
        assert_eq!(errors(&json!({}), false), Vec::<String>::new());
        assert_eq!(errors(&json!({"name": ""}), false), ["name"]);
        assert_eq!(errors(&json!({"outboundUrl": null}), false), [OUTBOUND_URL]);
    }
}
