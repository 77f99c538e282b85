//! What every answer carries and every request passes first: request ids, the log span, CORS, security headers, HTTPS.

use std::net::{IpAddr, SocketAddr};

use actix_cors::Cors;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{RequestHead, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse, web};
use tracing::field::{Empty, display};
use tracing::{Instrument, Span};
use url::Url;
use uuid::Uuid;

use super::AppState;
use crate::settings::{AddressRange, ServerSettings};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Longest request id that is taken over from the sender.
const MAX_REQUEST_ID: usize = 64;
/// Seconds for which a browser remembers the answer to a preflight.
const PREFLIGHT_SECONDS: usize = 3600;

fn sane_request_id(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    let is_sane = (1..=MAX_REQUEST_ID).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    is_sane.then(|| text.to_owned())
}

/// Who may call the API from a page of another origin.
pub fn cors(settings: &ServerSettings) -> Cors {
    let cors = Cors::default()
        .allowed_methods([
            Method::DELETE,
            Method::GET,
            Method::OPTIONS,
            Method::PATCH,
            Method::POST,
            Method::PUT,
        ])
        .allowed_headers([
            "accept",
            "accept-encoding",
            "authorization",
            "content-type",
            "dnt",
            "idempotency-key",
            "origin",
            "prefer",
            "user-agent",
            "x-csrftoken",
            "x-request-id",
            "x-requested-with",
        ])
        .expose_headers([
            "content-type",
            "idempotency-replayed",
            "preference-applied",
            "x-csrftoken",
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
            "retry-after",
            "x-request-id",
        ])
        .supports_credentials()
        .block_on_origin_mismatch(false)
        .max_age(PREFLIGHT_SECONDS);
    settings
        .cors_origins
        .iter()
        .fold(cors, |cors, origin| cors.allowed_origin(origin))
}

/// The content security policy of every answer.
#[derive(Clone, Debug)]
pub struct Policy(HeaderValue);

impl Policy {
    /// Scripts only from the hub itself. Styles may be inline: the documentation page and many single-page applications
    /// need that. Images and media come from the platforms' servers. Connections go to the hub, also as sockets, and to
    /// the configured origins.
    pub fn new(settings: &ServerSettings) -> Self {
        let mut connect = String::from("'self'");
        let origins = settings.public_url.iter().chain(&settings.cors_origins);
        for origin in origins.filter_map(|text| Url::parse(text).ok()) {
            let origin = origin.origin().ascii_serialization();
            // Both schemes begin with "http", so the socket's scheme is the same text with "ws".
            let socket = origin.replacen("http", "ws", 1);
            connect.push_str(&format!(" {origin} {socket}"));
        }
        let policy = format!(
            "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob: https:; \
             media-src 'self' blob: https:; font-src 'self' data:; connect-src {connect}; object-src 'none'; \
             base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        );
        Self(HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'self'")))
    }
}

/// Middleware around all that answers: gives each request an id (a sane one of the sender's is taken over) and a span in
/// the log, sends plain HTTP to HTTPS where the settings want it, and adds the id and the security headers to every answer.
/// The span holds the path without its query: the query may carry a token.
///
/// # Errors
/// Those of what is inside.
pub async fn guard<Body: MessageBody + 'static>(
    state: web::Data<AppState>,
    policy: web::Data<Policy>,
    request: ServiceRequest,
    next: Next<Body>,
) -> Result<ServiceResponse<EitherBody<Body>>, Error> {
    let settings = &state.settings.server;
    let id = request.headers().get(REQUEST_ID).and_then(sane_request_id);
    let id = id.unwrap_or_else(|| Uuid::new_v4().to_string());
    let scheme = forwarded_scheme(request.head(), &settings.trusted_proxies);
    let outcome = if settings.https_redirect
        && scheme == Some(Scheme::Http)
        && let Some(target) = https_target(&request, settings)
    {
        Ok(request.into_response(to_https(&target)).map_into_right_body())
    } else {
        let span = tracing::info_span!(
            "request",
            request_id = id.as_str(),
            method = request.method().as_str(),
            path = request.path(),
            user_id = Empty,
        );
        let outcome = next.call(request).instrument(span.clone()).await;
        let status = match &outcome {
            Ok(response) => response.status(),
            Err(error) => error.as_response_error().status_code(),
        };
        if status.is_server_error() {
            span.in_scope(|| tracing::warn!(status = status.as_u16(), "answered"));
        } else {
            span.in_scope(|| tracing::debug!(status = status.as_u16(), "answered"));
        }
        outcome.map(ServiceResponse::map_into_left_body)
    };
    let protect = move |headers: &mut HeaderMap| add_headers(headers, &policy, scheme, &id);
    match outcome {
        Ok(mut response) => {
            protect(response.headers_mut());
            Ok(response)
        }
        // For example of a panic: what is answered for it is made outside.
        Err(mut error) => {
            error.add_response_mapper(move |mut response| {
                protect(response.headers_mut());
                response
            });
            Err(error)
        }
    }
}

fn add_headers(headers: &mut HeaderMap, policy: &Policy, scheme: Option<Scheme>, id: &str) {
    for (name, value) in [
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, policy.0.clone());
    if scheme == Some(Scheme::Https) {
        headers.insert(
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000; includeSubDomains; preload"),
        );
    }
    if let Ok(id) = HeaderValue::try_from(id) {
        headers.insert(REQUEST_ID, id);
    }
}

/// Whether cookies may be kept from plain HTTP: the person is known to come by HTTPS.
pub(super) fn is_secure(request: &HttpRequest, settings: &ServerSettings) -> bool {
    let is_public = |url: &String| url.starts_with("https://");
    forwarded_scheme(request.head(), &settings.trusted_proxies) == Some(Scheme::Https)
        || settings.public_url.as_ref().is_some_and(is_public)
}

/// How the person reached the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// The scheme that a trusted proxy reports; none when no trusted proxy does.
pub(super) fn forwarded_scheme(head: &RequestHead, trusted: &[AddressRange]) -> Option<Scheme> {
    let peer = head.peer_addr?.ip();
    if !trusted.iter().any(|range| range.contains(peer)) {
        return None;
    }
    // With several proxies, the first word is about the person's own connection.
    let text = head.headers.get(FORWARDED_PROTO)?.to_str().ok()?;
    match text.split(',').next()?.trim() {
        scheme if scheme.eq_ignore_ascii_case("https") => Some(Scheme::Https),
        scheme if scheme.eq_ignore_ascii_case("http") => Some(Scheme::Http),
        _ => None,
    }
}

/// The same address with HTTPS: on the configured host where there is one, because the Host header is the sender's.
fn https_target(request: &ServiceRequest, settings: &ServerSettings) -> Option<String> {
    let authority = match &settings.public_url {
        Some(url) => Url::parse(url).ok()?.authority().to_owned(),
        None => {
            let host = request.headers().get(header::HOST)?.to_str().ok()?;
            let parsed = Url::parse(&format!("https://{host}/")).ok()?;
            // Only a plain host and port come back as they were.
            (parsed.authority() == host.to_ascii_lowercase() && parsed.username().is_empty())
                .then(|| host.to_owned())?
        }
    };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    Some(format!("https://{authority}{path}"))
}

fn to_https(target: &str) -> HttpResponse {
    // 308 keeps method and body (RFC 9110, section 15.4.9).
    HttpResponse::build(StatusCode::PERMANENT_REDIRECT)
        .insert_header((header::LOCATION, target))
        .finish()
}

/// Where a request comes from: the peer, or what trusted proxies say of the one before them. `X-Forwarded-For` is read from
/// its end, each proxy having added the peer that it saw; the first address that is no trusted proxy is the sender, and
/// whatever stands before it could be the sender's invention.
pub fn client_address(peer: Option<SocketAddr>, headers: &HeaderMap, trusted: &[AddressRange]) -> Option<IpAddr> {
    let is_trusted = |address: IpAddr| trusted.iter().any(|range| range.contains(address));
    let mut address = peer?.ip();
    if !is_trusted(address) {
        return Some(address);
    }
    let hops: Vec<&str> = headers
        .get_all(FORWARDED_FOR)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    for hop in hops.iter().rev() {
        let Some(parsed) = parse_hop(hop) else { break };
        address = parsed;
        if !is_trusted(address) {
            break;
        }
    }
    Some(address)
}

/// An address, with or without a port or brackets.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    hop.parse::<IpAddr>()
        .ok()
        .or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

/// Notes who the request is from, for the log.
pub(super) fn note_user(user: impl std::fmt::Display) {
    Span::current().record("user_id", display(user));
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn trusted() -> Vec<AddressRange> {
        vec!["10.0.0.0/8".parse().unwrap()]
    }

    #[test]
    fn forwarded_addresses_are_believed_only_from_trusted_proxies() {
        let table = [
            ("203.0.113.9:5", "1.2.3.4", "203.0.113.9"),
            ("10.0.0.1:5", "", "10.0.0.1"),
            ("10.0.0.1:5", "1.2.3.4", "1.2.3.4"),
            ("10.0.0.1:5", "6.6.6.6, 1.2.3.4", "1.2.3.4"),
            ("10.0.0.1:5", "6.6.6.6, 1.2.3.4, 10.0.0.2", "1.2.3.4"),
            ("10.0.0.1:5", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("10.0.0.1:5", "1.2.3.4, nonsense", "10.0.0.1"),
            ("10.0.0.1:5", "nonsense, 1.2.3.4:80", "1.2.3.4"),
            ("10.0.0.1:5", "[2001:db8::1]:443", "2001:db8::1"),
            ("10.0.0.1:5", "[2001:db8::1]", "2001:db8::1"),
        ];
        for (peer, forwarded, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(FORWARDED_FOR, HeaderValue::from_static(forwarded));
            let address = client_address(peer.parse().ok(), &headers, &trusted());
            assert_eq!(address, expected.parse().ok(), "{peer} {forwarded}");
        }
    }

    #[test]
    fn several_headers_count_as_one_list() {
        let mut headers = HeaderMap::new();
        headers.append(FORWARDED_FOR, HeaderValue::from_static("6.6.6.6"));
        headers.append(FORWARDED_FOR, HeaderValue::from_static("1.2.3.4"));
        let address = client_address("10.0.0.1:5".parse().ok(), &headers, &trusted());
        assert_eq!(address, "1.2.3.4".parse().ok());
    }

    #[test]
    fn only_sane_request_ids_are_taken_over() {
        let sane = |text: &str| HeaderValue::try_from(text).ok().as_ref().and_then(sane_request_id);
        assert_eq!(sane("abc-1_2.3").as_deref(), Some("abc-1_2.3"));
        for wrong in ["", "a b", "a\"b", "a{b}", &"x".repeat(65), "é"] {
            assert_eq!(sane(wrong), None, "{wrong}");
        }
    }

    fn scheme(peer: &str, proto: &str) -> Option<Scheme> {
        let request = TestRequest::default()
            .peer_addr(peer.parse().unwrap())
            .insert_header((FORWARDED_PROTO, proto))
            .to_srv_request();
        forwarded_scheme(request.head(), &trusted())
    }

    #[test]
    fn the_scheme_is_believed_only_from_trusted_proxies() {
        assert_eq!(scheme("10.0.0.1:5", "https"), Some(Scheme::Https));
        assert_eq!(scheme("10.0.0.1:5", "HTTP"), Some(Scheme::Http));
        assert_eq!(scheme("10.0.0.1:5", "https, http"), Some(Scheme::Https));
        assert_eq!(scheme("10.0.0.1:5", "gopher"), None);
        assert_eq!(scheme("203.0.113.9:5", "https"), None);
    }

    fn target(public_url: Option<&str>, host: &str) -> Option<String> {
        let settings = ServerSettings {
            public_url: public_url.map(str::to_owned),
            ..ServerSettings::default()
        };
        let request = TestRequest::with_uri("/a/b?c=d")
            .insert_header((header::HOST, host))
            .to_srv_request();
        https_target(&request, &settings)
    }

    #[test]
    fn the_redirect_goes_to_the_hubs_own_host() {
        let configured = Some("https://hub.example.org");
        assert_eq!(
            target(configured, "evil.example").as_deref(),
            Some("https://hub.example.org/a/b?c=d")
        );
        assert_eq!(
            target(None, "hub.example:8443").as_deref(),
            Some("https://hub.example:8443/a/b?c=d")
        );
        for host in ["evil.example/x", "user@evil.example", "evil.example#", "", "a b"] {
            assert_eq!(target(None, host), None, "{host}");
        }
    }

    #[test]
    fn the_policy_allows_the_hub_and_the_configured_origins_only() {
        let settings = ServerSettings {
            public_url: Some("https://hub.example.org/base".to_owned()),
            cors_origins: vec!["http://localhost:5173".to_owned()],
            ..ServerSettings::default()
        };
        let Policy(policy) = Policy::new(&settings);
        let policy = policy.to_str().unwrap();
        assert!(policy.contains(
            "connect-src 'self' https://hub.example.org wss://hub.example.org http://localhost:5173 ws://localhost:5173;"
        ));
        assert!(policy.contains("script-src 'self';") && policy.contains("frame-ancestors 'none'"));
    }
}
