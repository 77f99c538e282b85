//! Accounts of people: register, login, refresh, logout, me.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::ServiceConfig;
use actix_web::{HttpRequest, HttpResponse, web};
use hub_actors::{SessionId, UserId};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::AppState;
use super::body::JsonBody;
use super::error::ApiError;
use super::identity::Identity;
use super::input::Fields;
use super::media;
use crate::store::{NewRefreshToken, Rotation, User};
use crate::vault::passwords::{self, PasswordError};
use crate::vault::tokens::{self, TokenError, TokenPair};
use crate::views::Timestamp;

/// Longest e-mail address, in bytes (RFC 3696, erratum 1690).
const MAX_EMAIL: usize = 254;
/// Longest refresh token that is looked at, in characters: far longer than any that is given out.
const MAX_REFRESH_TOKEN: usize = 10_000;
/// Shortest password, in characters, after trimming.
const MIN_PASSWORD: usize = 8;

/// Registers the routes of this file.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(web::resource("/api/auth/register").route(web::post().to(register)))
        .service(web::resource("/api/auth/login").route(web::post().to(login)))
        .service(web::resource("/api/auth/refresh").route(web::post().to(refresh)))
        .service(web::resource("/api/auth/logout").route(web::post().to(logout)))
        .service(web::resource("/api/auth/me").route(web::get().to(me)));
}

/// What register and login take.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents the request; its fields are read one by one")]
pub struct SignIn {
    /// Stored in lower case.
    #[schema(max_length = 254, format = Email)]
    email: String,
    /// Trimmed; at most 72 bytes in UTF-8.
    #[schema(min_length = 8)]
    password: String,
}

/// What refresh and logout take.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents the request; its fields are read one by one")]
#[schema(rename_all = "camelCase")]
pub struct RefreshRequest {
    refresh_token: String,
}

/// A pair of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokensView {
    /// For `Authorization: Bearer`.
    pub access_token: String,
    /// For the next pair; works once.
    pub refresh_token: String,
}

impl From<TokenPair> for TokensView {
    fn from(pair: TokenPair) -> Self {
        Self {
            access_token: pair.access,
            refresh_token: pair.refresh,
        }
    }
}

/// A person.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserView {
    #[schema(value_type = uuid::Uuid)]
    id: UserId,
    email: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            email: user.email,
            created_at: Timestamp(user.created_at),
            updated_at: Timestamp(user.updated_at),
        }
    }
}

/// The answer of register and login. Known clients look for the tokens in two places.
#[derive(Serialize, ToSchema)]
pub struct SignedIn {
    user: UserView,
    #[serde(flatten)]
    refreshed: Refreshed,
}

/// The answer of refresh. Known clients look for the tokens in two places.
#[derive(Serialize, ToSchema)]
pub struct Refreshed {
    tokens: TokensView,
    #[serde(flatten)]
    top_level: TokensView,
}

impl From<TokensView> for Refreshed {
    fn from(tokens: TokensView) -> Self {
        Self {
            top_level: tokens.clone(),
            tokens,
        }
    }
}

/// The answer of me. Known clients look for the fields in two places.
#[derive(Serialize, ToSchema)]
pub struct Me {
    #[serde(flatten)]
    top_level: UserView,
    user: UserView,
}

/// The answer of logout.
#[derive(Serialize, ToSchema)]
pub struct LoggedOut {
    message: &'static str,
}

/// Creates a person and signs them in.
#[utoipa::path(
    post, path = "/api/auth/register", tag = "auth", security(()), request_body = SignIn,
    responses(
        (status = 201, body = SignedIn),
        (status = 400, description = "A field is missing or wrong"),
        (status = 409, description = "USER_EXISTS, or REGISTRATION_CLOSED"),
        (status = 429, description = "Too many attempts from this address"),
    )
)]
pub(super) async fn register(
    state: web::Data<AppState>,
    request: HttpRequest,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, ApiError> {
    if !state.settings.auth.allow_registration {
        return Err(ApiError::registration_closed());
    }
    let (email, password) = credentials(&body, true)?;
    let hash = passwords::hash(password).await?;
    let user = state
        .store
        .create_user(&email, &hash)
        .await?
        .ok_or_else(|| ApiError::conflict("USER_EXISTS", "User with this email already exists"))?;
    let signed_in = sign_in(&state, user).await?;
    let cookie = media::cookie(&request, &state, signed_in.refreshed.tokens.access_token.clone());
    Ok(HttpResponse::Created().cookie(cookie).json(signed_in))
}

/// Signs a person in: begins a session.
#[utoipa::path(
    post, path = "/api/auth/login", tag = "auth", security(()), request_body = SignIn,
    responses(
        (status = 200, body = SignedIn),
        (status = 400, description = "A field is missing or wrong"),
        (status = 401, description = "AUTHENTICATION_FAILED: the same for an unknown address and a wrong password"),
        (status = 429, description = "Too many attempts from this address"),
    )
)]
pub(super) async fn login(
    state: web::Data<AppState>,
    request: HttpRequest,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, ApiError> {
    let (email, password) = credentials(&body, false)?;
    let (user, hash) = state.store.user_by_email(&email).await?.unzip();
    let fits = passwords::verify(password, hash).await?;
    let Some(user) = user.filter(|_| fits) else {
        let words = "Invalid email or password";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "AUTHENTICATION_FAILED", words));
    };
    let signed_in = sign_in(&state, user).await?;
    let cookie = media::cookie(&request, &state, signed_in.refreshed.tokens.access_token.clone());
    Ok(HttpResponse::Ok().cookie(cookie).json(signed_in))
}

/// Exchanges a refresh token for a new pair. Within a short grace after its use the same token answers with the same new
/// pair, so that two tabs that refresh at once stay signed in; later, its reuse ends the whole session.
#[utoipa::path(
    post, path = "/api/auth/refresh", tag = "auth", security(()), request_body = RefreshRequest,
    responses(
        (status = 200, body = Refreshed),
        (status = 400, description = "The field is missing or wrong"),
        (status = 401, description = "TOKEN_REFRESH_FAILED: invalid, expired or revoked"),
        (status = 429, description = "Too many attempts from this address"),
    )
)]
pub(super) async fn refresh(
    state: web::Data<AppState>,
    request: HttpRequest,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, ApiError> {
    let token = refresh_token(&body)?;
    let claims = state.tokens.verify_refresh(&token).map_err(|error| match error {
        TokenError::Expired => refresh_failed("Refresh token has expired"),
        TokenError::Invalid => refresh_failed("Invalid refresh token"),
    })?;
    let pair = state
        .tokens
        .issue(claims.sub, &claims.email, claims.sid)
        .map_err(|_| ApiError::internal())?;
    let new = new_refresh_token(&pair, claims.sub, claims.sid);
    let fresh = TokensView::from(pair);
    let replacement = serde_json::to_vec(&fresh).map_err(|_| ApiError::internal())?;
    let grace = Duration::from_secs(state.settings.auth.refresh_grace_seconds);
    let rotation = state
        .store
        .rotate_session(tokens::hash(&token), &new, &replacement, grace)
        .await?;
    let answer = match rotation {
        Rotation::Rotated => fresh,
        Rotation::Repeated { replacement } => serde_json::from_slice(&replacement).map_err(|_| ApiError::internal())?,
        Rotation::Reused { session_id } => {
            tracing::warn!(user_id = %claims.sub, %session_id, "a used refresh token came again: the session is revoked");
            metrics::counter!("hub_refresh_reuse_total").increment(1);
            end_session(&state, claims.sub, session_id);
            return Err(refresh_failed("Refresh token has been revoked"));
        }
        Rotation::Revoked => return Err(refresh_failed("Refresh token has been revoked")),
        Rotation::Expired => return Err(refresh_failed("Refresh token has expired")),
        Rotation::Unknown => return Err(refresh_failed("Invalid refresh token")),
    };
    let cookie = media::cookie(&request, &state, answer.access_token.clone());
    Ok(HttpResponse::Ok().cookie(cookie).json(Refreshed::from(answer)))
}

/// Ends the session of a refresh token, with its sockets. Answers the same for a token that is not known.
#[utoipa::path(
    post, path = "/api/auth/logout", tag = "auth", security(()), request_body = RefreshRequest,
    responses((status = 200, body = LoggedOut), (status = 400, description = "The field is missing or wrong"))
)]
pub(super) async fn logout(
    state: web::Data<AppState>,
    request: HttpRequest,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, ApiError> {
    let token = refresh_token(&body)?;
    // One that has expired still names its session, whose sockets may live on.
    if let Ok(claims) = state.tokens.read_refresh(&token)
        && let Some(session) = state.store.end_session_by_token(tokens::hash(&token)).await?
    {
        end_session(&state, claims.sub, session);
    }
    let cookie = media::no_cookie(&request, &state);
    Ok(HttpResponse::Ok().cookie(cookie).json(LoggedOut {
        message: "Logged out successfully",
    }))
}

/// Who is signed in.
#[utoipa::path(
    get, path = "/api/auth/me", tag = "auth",
    responses(
        (status = 200, body = Me),
        (status = 401, description = "UNAUTHORIZED, INVALID_TOKEN_FORMAT or SESSION_ENDED"),
        (status = 403, description = "TOKEN_EXPIRED or INVALID_TOKEN"),
    )
)]
pub(super) async fn me(state: web::Data<AppState>, identity: Identity) -> Result<HttpResponse, ApiError> {
    let user = state
        .store
        .user(identity.user_id)
        .await?
        .ok_or_else(ApiError::unauthorized)?;
    let user = UserView::from(user);
    Ok(HttpResponse::Ok().json(Me {
        top_level: user.clone(),
        user,
    }))
}

async fn sign_in(state: &AppState, user: User) -> Result<SignedIn, ApiError> {
    let session = SessionId::generate(state.clock.now());
    let pair = state
        .tokens
        .issue(user.id, &user.email, session)
        .map_err(|_| ApiError::internal())?;
    state
        .store
        .start_session(&new_refresh_token(&pair, user.id, session))
        .await?;
    Ok(SignedIn {
        user: user.into(),
        refreshed: TokensView::from(pair).into(),
    })
}

fn new_refresh_token(pair: &TokenPair, user_id: UserId, session_id: SessionId) -> NewRefreshToken {
    NewRefreshToken {
        id: pair.refresh_id,
        session_id,
        user_id,
        token_hash: tokens::hash(&pair.refresh),
        expires_at: pair.refresh_expires_at,
    }
}

fn end_session(state: &AppState, user: UserId, session: SessionId) {
    state.sessions.ended(session);
    state.tree.end_session(user, session);
}

fn refresh_failed(text: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "TOKEN_REFRESH_FAILED", text)
}

fn refresh_token(body: &Value) -> Result<String, ApiError> {
    let mut fields = Fields::of(body);
    let token = fields.required("refreshToken", MAX_REFRESH_TOKEN).map(str::to_owned);
    fields.errors.or(token)?.ok_or_else(ApiError::internal)
}

/// Reads address and password. A new password must be long enough; an old one is only compared.
fn credentials(body: &Value, is_new: bool) -> Result<(String, SecretString), ApiError> {
    let mut fields = Fields::of(body);
    let email = fields.required("email", MAX_EMAIL).map(str::to_lowercase);
    let password = fields.required_or_number("password", usize::MAX);
    if email.as_ref().is_some_and(|email| !is_email(email)) {
        fields.errors.add("email", "Enter a valid email address.");
    }
    if let Some(password) = &password {
        if is_new && password.chars().count() < MIN_PASSWORD {
            let sentence = format!("Ensure this field has at least {MIN_PASSWORD} characters.");
            fields.errors.add("password", sentence);
        } else if password.len() > passwords::MAX_BYTES {
            fields.errors.add("password", PasswordError::TooLong.to_string());
        }
    }
    let both = email.zip(password.map(SecretString::from));
    fields.errors.or(both)?.ok_or_else(ApiError::internal)
}

/// The syntax of an address: a dot-atom (RFC 5322, section 3.2.3), an `@` and a domain name with at least one dot, or
/// `localhost`. Quoted names and address literals are not taken: no mail provider gives them out.
fn is_email(text: &str) -> bool {
    let Some((name, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let is_atom = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte))
    };
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || character == '-' || is_international(character))
    };
    let is_top = |label: &str| !label.bytes().all(|byte| byte.is_ascii_digit()) && label.chars().count() > 1;
    // RFC 5321, section 4.5.3.1.1: at most 64 bytes before the @.
    text.len() <= MAX_EMAIL
        && name.len() <= 64
        && name.split('.').all(is_atom)
        && domain.split('.').all(is_label)
        && (domain == "localhost" || domain.rsplit_once('.').is_some_and(|(_, top)| is_top(top)))
}

fn is_international(character: char) -> bool {
    !character.is_ascii() && character.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn credentials_of(body: &str, is_new: bool) -> Result<(String, SecretString), ApiError> {
        credentials(&serde_json::from_str(body).unwrap(), is_new)
    }

    fn refusal(email: &str, password: &str, is_new: bool) -> Option<String> {
        let body = serde_json::json!({"email": email, "password": password});
        credentials_of(&body.to_string(), is_new)
            .err()
            .map(|error| error.message)
    }

    #[test]
    fn addresses_are_lower_case_and_passwords_trimmed() {
        let (email, password) =
            credentials_of(r#"{"email":" Alice@Example.COM ","password":"  12345678 "}"#, true).unwrap();
        assert_eq!(email, "alice@example.com");
        assert_eq!(password.expose_secret(), "12345678");
    }

    #[test]
    fn a_new_password_has_eight_characters_and_at_most_72_bytes() {
        let address = "a@example.com";
        let too_short = Some("password: Ensure this field has at least 8 characters.".to_owned());
        let too_long = Some("password: Ensure this field has no more than 72 bytes.".to_owned());
        assert_eq!(refusal(address, "1234567", true), too_short);
        assert_eq!(refusal(address, " 1234567 ", true), too_short);
        assert_eq!(refusal(address, "1234567", false), None);
        assert_eq!(refusal(address, "éééééééé", true), None);
        assert_eq!(refusal(address, &"x".repeat(72), true), None);
        for is_new in [true, false] {
            assert_eq!(refusal(address, &"x".repeat(73), is_new), too_long);
            assert_eq!(refusal(address, &"é".repeat(37), is_new), too_long);
        }
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let error = credentials_of("{}", true).unwrap_err();
        assert_eq!(
            error.message,
            "email: This field is required. password: This field is required."
        );
    }

    #[test]
    fn addresses_have_a_syntax() {
        for address in [
            "a@example.com",
            "a.b+c_d@sub.example.co",
            "x@localhost",
            "a@bücher.example",
            "o'neil@x-y.io",
            "1@2.org",
        ] {
            assert!(is_email(address), "{address}");
        }
        for address in [
            "",
            "a",
            "@",
            "a@",
            "@example.com",
            "a@example",
            "a b@example.com",
            "a@@example.com",
            ".a@example.com",
            "a.@example.com",
            "a..b@example.com",
            "a@example..com",
            "a@-example.com",
            "a@example-.com",
            "a@example.com.",
            "a@1.2.3.4",
            "a@[1.2.3.4]",
            "a@example.c",
            "a\n@example.com",
            "a@exa mple.com",
            "<a@example.com>",
            &format!("{}@example.com", "a".repeat(65)),
            &format!("a@{}.com", "b".repeat(64)),
        ] {
            assert!(!is_email(address), "{address}");
        }
        let long = format!("a@{}com", "bbbbbbbbb.".repeat(26));
        assert_eq!(
            refusal(&long, "12345678", true).as_deref(),
            Some("email: Ensure this field has no more than 254 characters.")
        );
    }

    #[test]
    fn the_answers_carry_the_tokens_in_both_places() {
        let tokens = TokensView {
            access_token: "a".to_owned(),
            refresh_token: "r".to_owned(),
        };
        let json = serde_json::to_value(Refreshed::from(tokens)).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"tokens": {"accessToken": "a", "refreshToken": "r"}, "accessToken": "a", "refreshToken": "r"})
        );
    }
}
