//! The shapes of errors, and the middleware that gives every failure the shape that its path's clients read.

use std::panic::AssertUnwindSafe;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, error::PayloadError};
use futures_util::FutureExt;
use serde_json::json;

use super::error::ApiError;
use super::patience::is_too_slow;

/// The page of unrouted paths.
const NOT_FOUND_PAGE: &str = include_str!("../../web/not-found.html");

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// How a failure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `{"error":{"code","message","retryable"[,"details"][,"retryAfter"]}}`
    Object,
    /// `{"error":"text"}`: the clients of these paths show the value of `error` as it is.
    Text,
    /// `{"error":{"field":["text"]}}` when fields are wrong, else as [`Shape::Text`].
    Fields,
}

impl Shape {
    /// The shape that the clients of this route read.
    pub fn of(method: &Method, path: &str) -> Self {
        let text_roots = ["/api/conversations", "/api/messages", "/api/telegram", "/api/webhooks"];
        if is_under(path, "/api/messages") && path.ends_with("/send") && method == Method::POST {
            Self::Fields
        } else if text_roots.iter().any(|root| is_under(path, root))
            || (method == Method::GET && path == "/api/oauth/accounts")
            || is_under(path, "/api/platforms/gmail/debug")
        {
            Self::Text
        } else {
            Self::Object
        }
    }
}

/// True for the path itself and for what lies below it, not for names that merely begin alike.
pub(super) fn is_under(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A failure, written.
#[derive(Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The media type.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

/// Writes an error in a shape.
pub fn render(error: &ApiError, shape: Shape) -> Rendered {
    if error.html_404 {
        return Rendered {
            content_type: HTML,
            body: NOT_FOUND_PAGE.to_owned(),
        };
    }
    let body = match (shape, &error.field_errors) {
        (Shape::Fields, Some(fields)) => json!({ "error": fields }),
        (Shape::Object, fields) => {
            let mut object = json!({"code": error.code, "message": error.message, "retryable": error.retryable});
            if let Some(details) = &error.details {
                object["details"] = (**details).clone();
            } else if let Some(fields) = fields {
                object["details"] = json!({ "fields": fields });
            }
            if let Some(seconds) = error.retry_after_seconds() {
                object["retryAfter"] = json!(seconds);
            }
            json!({ "error": object })
        }
        // The text that these clients know for it.
        (_, _) if error.code == "UNAUTHORIZED" => json!({"error": "Unauthorized"}),
        (_, _) => json!({ "error": error.message }),
    };
    Rendered {
        content_type: JSON,
        body: body.to_string(),
    }
}

/// Middleware: writes every failure in the shape that the path wants. A panic of a handler becomes a plain 500.
///
/// # Errors
/// When a middleware inside failed without an answer, or a handler panicked.
pub async fn render_errors<Body: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<Body>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let method = request.method().clone();
    // As the router reads it, escapes resolved.
    let path = request.match_info().as_str();
    let (shape, is_api) = (Shape::of(&method, path), is_under(path, "/api"));
    match AssertUnwindSafe(next.call(request)).catch_unwind().await {
        Ok(Ok(response)) => match error_of(&response, &method, is_api) {
            Some(error) => Ok(rewrite(response, &error, shape)),
            None => Ok(response.map_into_boxed_body()),
        },
        Ok(Err(error)) => Err(shaped(of_actix_error(&error, None), shape)),
        Err(_panic) => {
            tracing::error!(%method, "a handler panicked");
            Err(shaped(ApiError::internal(), shape))
        }
    }
}

/// The request is gone, and with it the way to answer it here: the error takes its shape along.
fn shaped(error: ApiError, shape: Shape) -> Error {
    ApiError { shape, ..error }.into()
}

fn rewrite<Body: MessageBody + 'static>(
    response: ServiceResponse<Body>,
    error: &ApiError,
    shape: Shape,
) -> ServiceResponse<BoxBody> {
    let rendered = render(error, shape);
    response.map_body(|head, _| {
        head.status = error.status;
        let headers = head.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(rendered.content_type));
        if let Some(seconds) = error.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        BoxBody::new(rendered.body)
    })
}

/// The failure that an answer stands for; none when it is a success or an answer that a handler wrote by itself.
fn error_of<Body: MessageBody>(response: &ServiceResponse<Body>, method: &Method, is_api: bool) -> Option<ApiError> {
    if let Some(error) = response.response().error() {
        return Some(of_actix_error(error, Some(response.status())));
    }
    let is_bare = matches!(response.response().body().size(), BodySize::None | BodySize::Sized(0));
    match response.status() {
        StatusCode::METHOD_NOT_ALLOWED if is_bare => {
            let allow = response
                .headers()
                .get(header::ALLOW)
                .and_then(|allow| allow.to_str().ok());
            Some(ApiError::method_not_allowed(
                method,
                allow.unwrap_or_default().to_owned(),
            ))
        }
        StatusCode::NOT_FOUND if is_bare && is_api => Some(ApiError::not_routed()),
        _ => None,
    }
}

/// Translates what actix-web itself refuses.
fn of_actix_error(error: &Error, status: Option<StatusCode>) -> ApiError {
    if let Some(error) = error.as_error::<ApiError>() {
        return error.clone();
    }
    if matches!(error.as_error::<PayloadError>(), Some(PayloadError::Overflow)) {
        return ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "VALIDATION_ERROR",
            "The request body is too large.",
        );
    }
    if error.as_error::<PayloadError>().is_some_and(is_too_slow) {
        return ApiError::too_slow();
    }
    let status = status.unwrap_or_else(|| error.as_response_error().status_code());
    match status {
        StatusCode::NOT_FOUND => ApiError::not_routed(),
        status if status.is_client_error() => ApiError::new(status, "VALIDATION_ERROR", error.to_string()),
        status => {
            tracing::error!(status = status.as_u16(), %error, "an answer failed");
            ApiError::internal()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, call_service, init_service, read_body};
    use actix_web::{App, HttpResponse, web};

    use super::*;

    #[test]
    fn each_path_has_its_shape() {
        let table = [
            (Method::GET, "/api/conversations", Shape::Text),
            (Method::GET, "/api/conversations/", Shape::Text),
            (Method::GET, "/api/conversationsx", Shape::Object),
            (Method::GET, "/api/messages/unread/count", Shape::Text),
            (Method::POST, "/api/messages/1/send", Shape::Fields),
            (Method::GET, "/api/messages/1/send", Shape::Text),
            (Method::PATCH, "/api/messages/1/read", Shape::Text),
            (Method::POST, "/api/telegram/auth/phone", Shape::Text),
            (Method::POST, "/api/webhooks/custom/1", Shape::Text),
            (Method::GET, "/api/oauth/accounts", Shape::Text),
            (Method::POST, "/api/oauth/accounts", Shape::Object),
            (Method::DELETE, "/api/oauth/disconnect/1", Shape::Object),
            (Method::POST, "/api/auth/login", Shape::Object),
            (Method::GET, "/api/platforms/gmail/debug/1", Shape::Text),
            (Method::GET, "/api/platforms/gmail/emails/1", Shape::Object),
            (Method::GET, "/api/events", Shape::Object),
            (Method::GET, "/", Shape::Object),
        ];
        for (method, path, shape) in table {
            assert_eq!(Shape::of(&method, path), shape, "{method} {path}");
        }
    }

    #[test]
    fn the_page_of_unrouted_paths_has_179_bytes() {
        let rendered = render(&ApiError::not_routed(), Shape::Text);
        assert_eq!((rendered.content_type, rendered.body.len()), (HTML, 179));
    }

    #[test]
    fn an_error_is_written_in_every_shape() {
        let error = ApiError::validation("content", "This field is required.");
        assert_eq!(
            render(&error, Shape::Fields).body,
            r#"{"error":{"content":["This field is required."]}}"#
        );
        assert_eq!(
            render(&error, Shape::Text).body,
            r#"{"error":"content: This field is required."}"#
        );
        let object: serde_json::Value = serde_json::from_str(&render(&error, Shape::Object).body).unwrap();
        assert_eq!(
            object,
            json!({"error": {
                "code": "VALIDATION_ERROR",
                "message": "content: This field is required.",
                "retryable": false,
                "details": {"fields": {"content": ["This field is required."]}},
            }})
        );
        assert_eq!(
            render(&ApiError::unauthorized(), Shape::Text).body,
            r#"{"error":"Unauthorized"}"#
        );
        let limited = ApiError::too_many(100, Duration::from_mins(1), Duration::from_secs(58));
        let object: serde_json::Value = serde_json::from_str(&render(&limited, Shape::Object).body).unwrap();
        assert_eq!(
            object["error"]["details"],
            json!({"limit": 100, "windowMs": 60_000, "retryAfter": 58})
        );
        assert_eq!(
            render(&limited, Shape::Fields).body,
            r#"{"error":"Rate limit exceeded. Please try again later."}"#
        );
    }

    async fn refuse() -> Result<HttpResponse, ApiError> {
        Err(ApiError::forbidden("No."))
    }

    async fn panic() -> HttpResponse {
        panic!("on purpose")
    }

    #[actix_web::test]
    async fn the_middleware_gives_every_failure_its_shape() {
        let app = init_service(
            App::new()
                .wrap(from_fn(render_errors))
                .route("/api/messages/1", web::get().to(refuse))
                .route("/api/auth/me", web::get().to(refuse))
                .service(web::resource("/api/auth/login").route(web::post().to(refuse))),
        )
        .await;
        let texts = [
            ("/api/messages/1", StatusCode::FORBIDDEN, r#"{"error":"No."}"#),
            (
                "/api/auth/me",
                StatusCode::FORBIDDEN,
                r#"{"error":{"code":"FORBIDDEN","message":"No.","retryable":false}}"#,
            ),
            (
                "/api/auth/login",
                StatusCode::METHOD_NOT_ALLOWED,
                r#"{"error":{"code":"VALIDATION_ERROR","message":"Method \"GET\" not allowed.","retryable":false}}"#,
            ),
            ("/api/nothing", StatusCode::NOT_FOUND, NOT_FOUND_PAGE),
        ];
        for (path, status, body) in texts {
            let response = call_service(&app, TestRequest::get().uri(path).to_request()).await;
            assert_eq!(response.status(), status, "{path}");
            assert_eq!(read_body(response).await, body, "{path}");
        }
    }

    #[actix_web::test]
    async fn a_panic_becomes_a_plain_500_in_the_shape_of_its_path() {
        let app = init_service(
            App::new()
                .wrap(from_fn(render_errors))
                .route("/api/auth/me", web::get().to(panic))
                .route("/api/conversations", web::get().to(panic)),
        )
        .await;
        for (path, body) in [
            (
                "/api/auth/me",
                r#"{"error":{"code":"INTERNAL_ERROR","message":"An unexpected error occurred","retryable":false}}"#,
            ),
            ("/api/conversations", r#"{"error":"An unexpected error occurred"}"#),
        ] {
            let call = actix_web::dev::Service::call(&app, TestRequest::get().uri(path).to_request());
            let response = call.await.unwrap_err().error_response();
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "{path}");
            let written = actix_web::body::to_bytes(response.into_body()).await.ok().unwrap();
            assert_eq!(written, body, "{path}");
        }
    }
}
