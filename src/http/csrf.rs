//! `/api/csrf-token`, kept for clients that ask for one. Nothing checks it: the API takes bearer tokens only, which no other
//! site's page can send.

use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::web::ServiceConfig;
use actix_web::{HttpRequest, HttpResponse, web};
use rand::RngExt;
use rand::distr::Alphanumeric;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::security::is_secure;

const COOKIE: &str = "csrftoken";
/// A year, as known clients expect.
const COOKIE_LIFE: Duration = Duration::seconds(31_449_600);
const COOKIE_LENGTH: usize = 32;
const TOKEN_LENGTH: usize = 64;

/// Registers the routes of this file.
pub fn routes(config: &mut ServiceConfig) {
    config.service(web::resource("/api/csrf-token").route(web::get().to(csrf_token)));
}

/// The answer of `/api/csrf-token`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CsrfToken {
    /// 64 random letters and digits.
    csrf_token: String,
}

/// A token and a cookie for clients that ask for them.
#[utoipa::path(
    get, path = "/api/csrf-token", tag = "auth", security(()),
    responses((status = 200, body = CsrfToken))
)]
pub(super) async fn csrf_token(request: HttpRequest, state: web::Data<AppState>) -> HttpResponse {
    let cookie = Cookie::build(COOKIE, random_text(COOKIE_LENGTH))
        .path("/")
        .same_site(SameSite::Lax)
        .max_age(COOKIE_LIFE)
        .secure(is_secure(&request, &state.settings.server))
        .finish();
    HttpResponse::Ok().cookie(cookie).json(CsrfToken {
        csrf_token: random_text(TOKEN_LENGTH),
    })
}

fn random_text(length: usize) -> String {
    rand::rng()
        .sample_iter(Alphanumeric)
        .take(length)
        .map(char::from)
        .collect()
}
