//! Who looks at a file. A page shows pictures by their address alone, and a browser sends no token with those: signing in
//! sets a cookie for this one path, which no script can read and no other site's page can send.

use actix_web::cookie::{Cookie, SameSite, time};
use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use hub_actors::UserId;

use crate::http::security::is_secure;
use crate::http::{ApiError, AppState, Identity};

const NAME: &str = "hub_media";
const PATH: &str = "/api/media";

/// The signed-in person who looks.
pub struct Viewer {
    pub(super) user_id: UserId,
}

impl FromRequest for Viewer {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let Some(cookie) = request.cookie(NAME).filter(|_| !has_token(request)) else {
            let identity = Identity::from_request(request, payload);
            return Box::pin(async move {
                let user_id = identity.await?.user_id;
                Ok(Self { user_id })
            });
        };
        let request = request.clone();
        Box::pin(async move {
            let state = request
                .app_data::<web::Data<AppState>>()
                .ok_or_else(ApiError::internal)?;
            // A page that has been open for a while shows new pictures without asking for anything else first.
            let grace = state.settings.auth.socket_grace;
            let claims = state.tokens.verify_for_socket(cookie.value(), grace);
            let claims = claims.map_err(|_| ApiError::unauthorized())?;
            let user_id = Identity::of(state, claims).await?.user_id;
            Ok(Self { user_id })
        })
    }
}

fn has_token(request: &HttpRequest) -> bool {
    request.headers().contains_key(actix_web::http::header::AUTHORIZATION)
}

/// The cookie that goes with an access token.
pub fn cookie(request: &HttpRequest, state: &AppState, access_token: String) -> Cookie<'static> {
    let life = state.settings.auth.refresh_ttl;
    build(
        request,
        state,
        access_token,
        time::Duration::try_from(life).unwrap_or_default(),
    )
}

/// Takes the cookie back.
pub fn no_cookie(request: &HttpRequest, state: &AppState) -> Cookie<'static> {
    build(request, state, String::new(), time::Duration::ZERO)
}

fn build(request: &HttpRequest, state: &AppState, value: String, life: time::Duration) -> Cookie<'static> {
    Cookie::build(NAME, value)
        .path(PATH)
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(is_secure(request, &state.settings.server))
        .max_age(life)
        .finish()
}
