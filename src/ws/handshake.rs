//! Who may open a socket, and from where.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpRequest, HttpResponse, web};
use hub_actors::domain::StreamPosition;
use serde::Deserialize;
use url::Url;

use super::socket::Socket;
use super::transport;
use super::wire::Wire;
use crate::http::{ApiError, AppState, bearer, check_session};
use crate::vault::tokens::Claims;

/// Registers the socket's two addresses.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/ws/messages/", web::get().to(open))
        .route("/ws/messages", web::get().to(open));
}

#[derive(Deserialize)]
struct Parameters {
    token: Option<String>,
    since: Option<String>,
}

/// Opens a socket. The access token comes as `?token=`, as `Authorization: Bearer`, or as the second of the
/// sub-protocols `bearer, <token>`: the first form is the old frontend's, the last is for browsers that want no token
/// in an address.
async fn open(
    request: HttpRequest,
    payload: web::Payload,
    parameters: web::Query<Parameters>,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    check_origin(&request, &state)?;
    let claims = claims(&request, parameters.token.as_deref(), &state)?;
    check_session(&state, claims.sid).await.map_err(refusal)?;
    let since = parameters
        .since
        .as_deref()
        .map(str::parse::<StreamPosition>)
        .transpose();
    let since = since.map_err(|error| ApiError::validation("since", error.to_string()))?;
    let wire = Arc::new(Wire::new(state.settings.websocket.buffer_bytes));
    let max_frame_bytes = state.settings.websocket.max_frame_bytes;
    let socket = Socket::new(state, claims, since, Arc::clone(&wire));
    transport::start(socket, wire, &request, payload, max_frame_bytes)
        .map_err(|error| ApiError::bad_request(error.to_string()))
}

/// The old backend answers every failed handshake with 403, and browsers show no difference.
fn refused(code: &'static str, message: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, code, message)
}

/// The same for who is refused elsewhere with 401; a database that is away stays a 503.
fn refusal(error: ApiError) -> ApiError {
    let status = match error.status {
        StatusCode::UNAUTHORIZED => StatusCode::FORBIDDEN,
        status => status,
    };
    ApiError { status, ..error }
}

fn claims(request: &HttpRequest, query: Option<&str>, state: &AppState) -> Result<Claims, ApiError> {
    let headers = request.headers();
    // A header of another kind, such as a proxy's own, says nothing about the person.
    let bearer = || bearer(headers).ok().flatten();
    let token = query.or_else(bearer).or_else(|| sub_protocol(headers));
    let token = token.ok_or_else(|| refused("UNAUTHORIZED", "An access token is missing"))?;
    state
        .tokens
        .verify_for_socket(token, state.settings.auth.socket_grace)
        .map_err(|_| refused("INVALID_TOKEN", "Invalid access token"))
}

fn sub_protocol(headers: &HeaderMap) -> Option<&str> {
    let offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let (scheme, token) = offered.split_once(',')?;
    (scheme.trim() == "bearer").then(|| token.trim())
}

/// Browsers say which page opens a socket, and no other check protects it from a foreign page: the origin must be the
/// hub's own or one of the configured ones. Programs send none.
fn check_origin(request: &HttpRequest, state: &AppState) -> Result<(), ApiError> {
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let is_own = origin
        .split_once("://")
        .is_some_and(|(_, origin_host)| origin_host.eq_ignore_ascii_case(host));
    let server = &state.settings.server;
    let mut allowed = server.public_url.iter().chain(&server.cors_origins);
    if is_own || allowed.any(|url| is_same_origin(url, origin)) {
        return Ok(());
    }
    Err(refused(
        "FORBIDDEN_ORIGIN",
        "This origin may not open a socket: add it to server.cors_origins",
    ))
}

/// Whether two addresses have one scheme, host and port (RFC 6454, section 5), however they are written.
fn is_same_origin(one: &str, other: &str) -> bool {
    let origin = |text| Url::parse(text).ok().map(|url| url.origin());
    origin(one).is_some_and(|one| origin(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_compared_and_not_its_text() {
        for url in [
            "https://hub.example.org",
            "https://hub.example.org/base",
            "https://hub.example.org:443",
            "HTTPS://Hub.Example.ORG/",
        ] {
            assert!(is_same_origin(url, "https://hub.example.org"), "{url}");
            for other in [
                "http://hub.example.org",
                "https://hub.example.org:8443",
                "https://hub.example.org.evil.example",
                "https://evil.example",
                "null",
                "",
            ] {
                assert!(!is_same_origin(url, other), "{url} {other}");
            }
        }
        assert!(
            !is_same_origin("data:x", "data:x"),
            "what has no origin has none in common"
        );
    }
}
