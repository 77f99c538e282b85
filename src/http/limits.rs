//! The gate before the routes: checks the access token once, counts the request, refuses what is too much.

use std::net::IpAddr;
use std::time::Instant;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{RequestHead, ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, web};
use hub_actors::Clock;
use hub_actors::clock::instant;
use quick_cache::sync::Cache;
use time::format_description::well_known::Rfc3339;

pub use crate::cluster::limits::{Backend, Decision, LimitClass, Limiter, WINDOW};

use super::AppState;
use super::error::ApiError;
use super::identity::{CheckedClaims, access_claims};
use super::security::{client_address, note_user};
use super::shape::is_under;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
/// Senders that are remembered for a wrong guess.
const SUSPECTS: usize = 10_000;

/// What the gate does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    /// The limit that it counts against; none: it is not counted.
    class: Option<LimitClass>,
    /// Whether an access token is read, and a wrong one refused whatever the route.
    reads_token: bool,
}

impl Plan {
    fn of(method: &Method, path: &str) -> Self {
        let plan = |class, reads_token| Self { class, reads_token };
        let is_any = |roots: &[&str]| roots.iter().any(|root| is_under(path, root));
        // Webhooks are signed and bounded by their own queues; a platform that is told to slow down would give up.
        let free = ["/api/csrf-token", "/api/webhooks", "/api/docs", "/api/openapi.json"];
        if method == Method::OPTIONS || !is_under(path, "/api") || is_any(&free) {
            plan(None, false)
        } else if is_any(&["/api/auth/register", "/api/auth/login", "/api/auth/refresh"]) {
            plan(Some(LimitClass::Strict), false)
        } else if is_any(&[
            "/api/telegram/auth/phone",
            "/api/telegram/auth/verify",
            "/api/telegram/auth/qr",
        ]) {
            plan(Some(LimitClass::Strict), true)
        } else if is_any(&["/api/media"]) {
            // A page shows dozens of pictures at once; how many are fetched at once is bounded where they are fetched.
            plan(None, true)
        } else if is_any(&["/api/auth/logout", "/api/admin"]) {
            plan(Some(LimitClass::Standard), false)
        } else {
            plan(Some(LimitClass::Standard), true)
        }
    }
}

/// Middleware: see the head of this file.
///
/// # Errors
/// Those of the routes; its own refusals are answers.
pub async fn gate<Body: MessageBody + 'static>(
    state: web::Data<AppState>,
    request: ServiceRequest,
    next: Next<Body>,
) -> Result<ServiceResponse<EitherBody<Body>>, Error> {
    // As the router reads it: an escaped letter must not lead around the limits.
    let plan = Plan::of(request.method(), request.match_info().as_str());
    let claims = if plan.reads_token {
        access_claims(request.headers(), &state.tokens)
    } else {
        Ok(None)
    };
    let decision = match plan.class {
        Some(class) => {
            let key = match &claims {
                Ok(Some(claims)) => format!("user:{}", claims.sub),
                _ => sender_key(request.head(), &state),
            };
            let decision = state.limiter.check(class, &key).await;
            if !decision.allowed {
                metrics::counter!("hub_rate_limited_total", "class" => class.as_str()).increment(1);
                let error = ApiError::too_many(decision.limit, WINDOW, decision.retry_after);
                return Ok(refuse(request, error, Some(decision), &state.clock));
            }
            Some(decision)
        }
        None => None,
    };
    match claims {
        Err(error) => return Ok(refuse(request, error, decision, &state.clock)),
        Ok(Some(claims)) => {
            note_user(claims.sub);
            request.extensions_mut().insert(CheckedClaims(claims));
        }
        Ok(None) => {}
    }
    let mut response = next.call(request).await?;
    if let Some(decision) = decision {
        describe(response.headers_mut(), &decision, &state.clock);
    }
    Ok(response.map_into_left_body())
}

fn refuse<Body>(
    request: ServiceRequest,
    error: ApiError,
    decision: Option<Decision>,
    clock: &Clock,
) -> ServiceResponse<EitherBody<Body>> {
    // Made from the error itself, so that it is still known outside, where it gets its shape.
    let mut response = request.error_response(error);
    if let Some(decision) = decision {
        describe(response.headers_mut(), &decision, clock);
    }
    response.map_into_right_body()
}

/// Passes on whether a sender knows a secret, where who knows it is not counted: one who has not known it lately is, and
/// cannot guess faster than [`LimitClass::Standard`] lets anybody ask.
///
/// # Errors
/// That of the outcome, or 429.
pub(super) async fn limit_guesses<Proof>(
    request: &HttpRequest,
    state: &AppState,
    outcome: Result<Proof, ApiError>,
) -> Result<Proof, ApiError> {
    let key = sender_key(request.head(), state);
    let is_wrong = matches!(&outcome, Err(error) if error.status == StatusCode::FORBIDDEN);
    if !state.guesses.is_suspect(&key, is_wrong) {
        return outcome;
    }
    let decision = state.limiter.check(LimitClass::Standard, &key).await;
    if decision.allowed {
        outcome
    } else {
        Err(ApiError::too_many(decision.limit, WINDOW, decision.retry_after))
    }
}

/// Who has guessed wrong lately. Bounded: a sender that is forgotten is one that has just begun.
pub struct Guesses(Cache<String, Instant>);

impl Default for Guesses {
    fn default() -> Self {
        Self(Cache::new(SUSPECTS))
    }
}

impl Guesses {
    fn is_suspect(&self, sender: &str, is_wrong: bool) -> bool {
        if is_wrong {
            self.0.insert(sender.to_owned(), instant());
        }
        self.0.get(sender).is_some_and(|since| since.elapsed() < WINDOW)
    }
}

/// Tells the sender what is left. The moment of the reset is RFC 3339, in UTC.
fn describe(headers: &mut HeaderMap, decision: &Decision, clock: &Clock) {
    headers.insert(LIMIT, HeaderValue::from(decision.limit));
    headers.insert(REMAINING, HeaderValue::from(decision.remaining));
    let reset = (clock.now() + decision.reset_after).format(&Rfc3339);
    if let Some(reset) = reset.ok().and_then(|reset| HeaderValue::try_from(reset).ok()) {
        headers.insert(RESET, reset);
    }
}

/// The counter of a sender who is nobody yet.
fn sender_key(head: &RequestHead, state: &AppState) -> String {
    let proxies = &state.settings.server.trusted_proxies;
    address_key(client_address(head.peer_addr, head.headers(), proxies))
}

/// The counter of an address. Of IPv6 the first 64 bits count: one customer has at least so many addresses (RFC 6177).
fn address_key(address: Option<IpAddr>) -> String {
    match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => format!("address:{address}"),
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("address:{a:x}:{b:x}:{c:x}:{d:x}")
        }
        None => "address:unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::App;
    use actix_web::body::BoxBody;
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, call_service, init_service, read_body};

    use super::*;
    use crate::http::shape::render_errors;

    async fn refuse_all(
        request: ServiceRequest,
        _next: Next<BoxBody>,
    ) -> Result<ServiceResponse<EitherBody<BoxBody>>, Error> {
        let error = ApiError::too_many(20, WINDOW, Duration::from_secs(3));
        let decision = Decision {
            allowed: false,
            limit: 20,
            remaining: 0,
            reset_after: WINDOW,
            retry_after: Duration::from_secs(3),
        };
        Ok(refuse(request, error, Some(decision), &Clock::system()))
    }

    #[actix_web::test]
    async fn a_refusal_has_its_headers_and_the_shape_of_its_path() {
        let app = init_service(App::new().wrap(from_fn(refuse_all)).wrap(from_fn(render_errors))).await;
        let request = TestRequest::get().uri("/api/conversations").to_request();
        let response = call_service(&app, request).await;
        assert_eq!(response.status().as_u16(), 429);
        let header = |name| response.headers().get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(
            (
                header("retry-after"),
                header("x-ratelimit-limit"),
                header("x-ratelimit-remaining")
            ),
            ("3".to_owned(), "20".to_owned(), "0".to_owned())
        );
        let body = read_body(response).await;
        assert_eq!(body, r#"{"error":"Rate limit exceeded. Please try again later."}"#);
    }

    #[test]
    fn each_path_has_its_limit() {
        let free = (None, false);
        let strict = (Some(LimitClass::Strict), false);
        let standard = (Some(LimitClass::Standard), true);
        let table = [
            (Method::GET, "/health", free),
            (Method::GET, "/", free),
            (Method::GET, "/assets/app.js", free),
            (Method::GET, "/ws/messages/", free),
            (Method::GET, "/metrics", free),
            (Method::GET, "/api/docs/index.html", free),
            (Method::GET, "/api/openapi.json", free),
            (Method::GET, "/api/csrf-token", free),
            (Method::POST, "/api/webhooks/custom/1", free),
            (Method::POST, "/api/webhooksx", standard),
            (Method::OPTIONS, "/api/messages", free),
            (Method::POST, "/api/auth/register", strict),
            (Method::POST, "/api/auth/login", strict),
            (Method::POST, "/api/auth/refresh", strict),
            (
                Method::POST,
                "/api/telegram/auth/verify",
                (Some(LimitClass::Strict), true),
            ),
            (Method::POST, "/api/auth/logout", (Some(LimitClass::Standard), false)),
            (Method::GET, "/api/admin/tree", (Some(LimitClass::Standard), false)),
            (Method::GET, "/api/auth/me", standard),
            (Method::GET, "/api/messages", standard),
            (Method::GET, "/api/nothing", standard),
        ];
        for (method, path, (class, reads_token)) in table {
            assert_eq!(Plan::of(&method, path), Plan { class, reads_token }, "{method} {path}");
        }
    }

    #[test]
    fn one_customer_has_one_counter() {
        let key = |text: &str| address_key(Some(text.parse().unwrap()));
        assert_eq!(key("192.0.2.7"), key("::ffff:192.0.2.7"));
        assert_ne!(key("192.0.2.7"), key("192.0.2.8"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
    }

    #[test]
    fn the_headers_say_what_is_left() {
        let decision = Decision {
            allowed: true,
            limit: 100,
            remaining: 58,
            reset_after: Duration::from_secs(25),
            retry_after: Duration::ZERO,
        };
        let mut headers = HeaderMap::new();
        describe(&mut headers, &decision, &Clock::system());
        assert_eq!(headers.get(LIMIT).unwrap(), "100");
        assert_eq!(headers.get(REMAINING).unwrap(), "58");
        let reset = headers.get(RESET).unwrap().to_str().unwrap();
        assert!(reset.ends_with('Z') && reset.contains('T'), "{reset}");
    }
}
