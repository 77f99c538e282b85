//! Logging in to Telegram: with a code and a second password, or by scanning a code on the screen.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::ServiceConfig;
use actix_web::{HttpResponse, web};
use hub_actors::login::LoginProgress;
use hub_actors::ports::{LoginAnswer, LoginError, LoginRequest};
use hub_actors::{AccountId, LoginId, PlatformId};
use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::body::JsonBody;
use crate::http::input::Fields;
use crate::http::{ApiError, AppState, Identity, path_id};
use crate::platforms::TELEGRAM;
use crate::views::Timestamp;

/// Longest number, code and hash, in characters.
const MAX_FIELD: usize = 100;
/// Longest second password, in characters.
const MAX_PASSWORD: usize = 1_000;
/// Side of the picture of a code, in pixels.
const QR_SIDE: u32 = 280;

/// Registers the routes.
pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(web::resource("/api/telegram/auth/phone").route(web::post().to(phone)))
        .service(web::resource("/api/telegram/auth/verify").route(web::post().to(verify)))
        .service(web::resource("/api/telegram/auth/qr").route(web::post().to(qr)))
        .service(web::resource("/api/telegram/auth/status/{attempt}").route(web::get().to(status)));
}

/// A number to log in with.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes the body, which is read field by field")]
struct PhoneBody {
    /// With its country code, for example +4915112345678.
    phone_number: String,
}

/// A code was sent.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CodeSent {
    success: bool,
    /// Names the login; to be given back with the code. Good for ten minutes.
    #[schema(value_type = String, format = Uuid)]
    phone_code_hash: LoginId,
    /// The same, for `status`.
    #[schema(value_type = String, format = Uuid)]
    attempt: LoginId,
}

/// The next step of a login.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes the body, which is read field by field")]
struct VerifyBody {
    phone_number: Option<String>,
    /// What Telegram sent.
    phone_code: Option<String>,
    /// What `phone` answered, or the `attempt` of `qr`.
    phone_code_hash: String,
    /// The account's second password, once it is asked for.
    password: Option<String>,
}

/// How far a login has come.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoginStatus {
    success: bool,
    #[schema(value_type = String, format = Uuid)]
    attempt: LoginId,
    /// `code`, `password`, `scan` or `done`: what comes next.
    step: &'static str,
    /// Whether the second password is wanted.
    need_password: bool,
    /// What is to be scanned, as text: `tg://login?token=…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// The same as a picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    svg: Option<String>,
    /// Until when it is good; ask again by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// The linked account.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    account_id: Option<AccountId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
}

/// Begins a login: Telegram sends a code to the number. A newer login with the same number ends the older one.
#[utoipa::path(
    post, path = "/api/telegram/auth/phone", tag = "telegram", request_body = PhoneBody,
    responses(
        (status = 200, description = "A code was sent", body = CodeSent),
        (status = 400, description = "The number is not valid, banned, or has no account"),
        (status = 401, description = "Not signed in"),
        (status = 409, description = "Somebody else is logging in with this number"),
        (status = 429, description = "Too many tries: wait as long as `Retry-After` says"),
        (status = 503, description = "Telegram cannot be reached, or this hub has no Telegram application yet"),
    )
)]
pub(in crate::http) async fn phone(
    identity: Identity,
    state: web::Data<AppState>,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, ApiError> {
    let mut fields = Fields::of(&body);
    let number = fields.required("phoneNumber", MAX_FIELD).map(str::to_owned);
    let number = fields.errors.or(number)?;
    let number = number
        .as_deref()
        .and_then(international)
        .ok_or(LoginError::InvalidPhone)?;
    let request = LoginRequest::Phone(number);
    let begun = state
        .tree
        .begin_login(identity.user_id, PlatformId::from(TELEGRAM), request);
    match begun.await? {
        (id, LoginProgress::Code) => Ok(HttpResponse::Ok().json(CodeSent {
            success: true,
            phone_code_hash: id,
            attempt: id,
        })),
        (id, progress) => Ok(answer(id, progress)),
    }
}

/// Takes the code and, when it is asked for, the second password.
#[utoipa::path(
    post, path = "/api/telegram/auth/verify", tag = "telegram", request_body = VerifyBody,
    responses(
        (status = 200, description = "The account is linked, or `needPassword`", body = LoginStatus),
        (status = 400, description = "The code or the password is wrong, or the login has to be started again"),
        (status = 401, description = "Not signed in"),
        (status = 429, description = "Too many tries: wait as long as `Retry-After` says"),
        (status = 503, description = "Telegram or the database cannot be reached: repeat it"),
    )
)]
pub(in crate::http) async fn verify(
    identity: Identity,
    state: web::Data<AppState>,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, ApiError> {
    let mut fields = Fields::of(&body);
    let hash = fields.required("phoneCodeHash", MAX_FIELD);
    // A code that is not typed yet is a wrong one, and without its turn none is needed.
    let code = fields.value(&["phoneCode"]).and_then(|(_, value)| value.as_str());
    let code = code.filter(|code| code.chars().nth(MAX_FIELD).is_none());
    // A password may begin or end with a space.
    let password = fields.value(&["password"]).and_then(|(_, value)| value.as_str());
    let password = password.filter(|password| !password.is_empty() && password.chars().nth(MAX_PASSWORD).is_none());
    let hash = fields.errors.or(hash)?;
    let id: LoginId = hash.unwrap_or_default().parse().map_err(|_| LoginError::Lost)?;
    let next = |step| state.tree.answer_login(identity.user_id, id, step);
    let mut progress = next(LoginAnswer::Look).await?;
    if progress == LoginProgress::Code {
        let code: String = code
            .unwrap_or_default()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        progress = next(LoginAnswer::Code(code)).await?;
    }
    if progress == LoginProgress::Password
        && let Some(password) = password
    {
        progress = next(LoginAnswer::Password(password.to_owned())).await?;
    }
    Ok(answer(id, progress))
}

/// Begins a login by a code on the screen, which is scanned with the Telegram app of a device that is logged in already
/// (Settings, Devices, Link Desktop Device). Ask `status` every few seconds what became of it.
#[utoipa::path(
    post, path = "/api/telegram/auth/qr", tag = "telegram",
    responses(
        (status = 200, description = "Scan this", body = LoginStatus),
        (status = 401, description = "Not signed in"),
        (status = 503, description = "Telegram cannot be reached, or this hub has no Telegram application yet"),
    )
)]
pub(in crate::http) async fn qr(identity: Identity, state: web::Data<AppState>) -> Result<HttpResponse, ApiError> {
    let begun = state
        .tree
        .begin_login(identity.user_id, PlatformId::from(TELEGRAM), LoginRequest::Qr);
    let (id, progress) = begun.await?;
    Ok(answer(id, progress))
}

/// How far a login has come. A code on the screen is replaced here before it expires.
#[utoipa::path(
    get, path = "/api/telegram/auth/status/{attempt}", tag = "telegram",
    params(("attempt" = uuid::Uuid, Path, description = "The login")),
    responses(
        (status = 200, description = "How far it has come", body = LoginStatus),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "There is no such login (any more), or it is not the caller's: start again"),
    )
)]
pub(in crate::http) async fn status(
    identity: Identity,
    state: web::Data<AppState>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id: LoginId = path_id(&path)?;
    let looked = state.tree.answer_login(identity.user_id, id, LoginAnswer::Look);
    match looked.await {
        Ok(progress) => Ok(answer(id, progress)),
        Err(LoginError::Lost) => Err(ApiError::not_found("LOGIN_LOST", sentence(&LoginError::Lost))),
        Err(error) => Err(error.into()),
    }
}

fn answer(id: LoginId, progress: LoginProgress) -> HttpResponse {
    let mut status = LoginStatus {
        success: false,
        attempt: id,
        step: "code",
        need_password: false,
        token: None,
        svg: None,
        expires_at: None,
        account_id: None,
        username: None,
    };
    match progress {
        LoginProgress::Code => {}
        LoginProgress::Password => (status.step, status.need_password) = ("password", true),
        LoginProgress::Qr { url, expires_at } => {
            (status.step, status.expires_at) = ("scan", Some(Timestamp(expires_at)));
            status.svg = picture(&url);
            status.token = Some(url);
        }
        LoginProgress::Done { account_id, username } => {
            (status.step, status.success) = ("done", true);
            (status.account_id, status.username) = (Some(account_id), username);
        }
    }
    HttpResponse::Ok().json(status)
}

/// The text as a QR code; none for one that is too long, which a login token never is.
fn picture(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
    let mut picture = code.render::<svg::Color<'_>>();
    Some(picture.min_dimensions(QR_SIDE, QR_SIDE).build())
}

/// A number as Telegram wants it: a plus sign and digits. People write it with spaces, dashes, dots and brackets, and
/// 00 for the plus sign.
fn international(text: &str) -> Option<String> {
    let plain: String = text.chars().filter(|one| !" -./()\u{a0}".contains(*one)).collect();
    let digits = plain
        .strip_prefix('+')
        .or_else(|| plain.strip_prefix("00"))
        .unwrap_or(&plain);
    // ITU-T E.164: at most 15 digits.
    let is_number = (5..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| format!("+{digits}"))
}

/// The error's words as a sentence.
fn sentence(error: &LoginError) -> String {
    let text = error.to_string();
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}", first.unwrap_or_default(), characters.as_str())
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        let later = |code| Self {
            retryable: true,
            retry_after: Some(Duration::from_secs(5)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, sentence(&error))
        };
        match &error {
            LoginError::FloodWait(wait) => Self {
                retryable: true,
                retry_after: Some(*wait),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "FLOOD_WAIT", sentence(&error))
            },
            LoginError::NumberBusy => Self::conflict("NUMBER_BUSY", sentence(&error)),
            LoginError::Unreachable => later("TELEGRAM_UNREACHABLE"),
            LoginError::NotStored => later("NOT_STORED"),
            LoginError::Busy => later("BUSY"),
            LoginError::NotConfigured(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "NOT_CONFIGURED", sentence(&error))
            }
            LoginError::InvalidPhone
            | LoginError::BannedPhone
            | LoginError::NotRegistered
            | LoginError::WrongCode
            | LoginError::ExpiredCode
            | LoginError::WrongPassword
            | LoginError::OutOfTurn
            | LoginError::Lost
            | LoginError::Refused(_) => Self::new(StatusCode::BAD_REQUEST, "LOGIN_FAILED", sentence(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_plus_sign_and_digits() {
        for text in ["+49 151 1234567", "0049-151/1234567", "49 (151) 123.45.67"] {
            assert_eq!(international(text).as_deref(), Some("+491511234567"), "{text}");
        }
        for text in ["", "+", "+49x", "12345678901234567", "+1234", "++4915112345"] {
            assert_eq!(international(text), None, "{text}");
        }
    }

    #[test]
    fn a_token_is_drawn_and_an_error_is_a_sentence() {
        let svg = picture("tg://login?token=AQIDBAUGBwgJCgsMDQ4PEA").unwrap();
        assert!(svg.contains("<svg") && !svg.contains("<script"), "{svg}");
        let error = ApiError::from(LoginError::Lost);
        assert_eq!(error.message, "The login was interrupted: start again");
        let error = ApiError::from(LoginError::FloodWait(Duration::from_secs(7)));
        assert_eq!((error.status.as_u16(), error.retry_after_seconds()), (429, Some(7)));
    }
}
