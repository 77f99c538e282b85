//! The one error that handlers answer with. Its shape is chosen at the edge, see [`super::shape`].

use std::fmt;
use std::time::Duration;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use hub_actors::domain::Refusal;
use hub_actors::ports::StoreError;
use hub_actors::tree::CommandError;
use serde_json::{Map, Value, json};

use super::shape::{self, Shape};
use crate::vault::passwords::PasswordError;

/// How long a caller should wait when the hub is busy.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// An answer that is not a success.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// A name that programs can match.
    pub code: &'static str,
    /// Words for the person.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// More for programs, in the object shape only.
    pub details: Option<Box<Value>>,
    /// Earliest useful moment of a repetition, counted from now.
    pub retry_after: Option<Duration>,
    /// Which fields are wrong and why: the field's name -> list of texts.
    pub field_errors: Option<Box<Map<String, Value>>>,
    /// The methods that the route knows, for 405.
    pub allow: Option<String>,
    /// Answer with the plain page that unrouted paths get, whatever the path.
    pub html_404: bool,
    /// How it is written where the answer is made from it without a look at the path.
    pub shape: Shape,
}

impl ApiError {
    /// Stands for the name of a field where the body as a whole is wrong.
    pub(super) const WHOLE_BODY: &str = "non_field_errors";

    /// An error of this status, code and text.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retryable: false,
            details: None,
            retry_after: None,
            field_errors: None,
            allow: None,
            html_404: false,
            shape: Shape::Object,
        }
    }

    /// 400: one field is wrong.
    pub fn validation(field: &str, text: impl Into<String>) -> Self {
        let mut fields = Map::new();
        fields.insert(field.to_owned(), json!([text.into()]));
        Self::invalid_fields(fields)
    }

    /// 400: several fields are wrong; every value is a list of texts.
    pub fn invalid_fields(fields: Map<String, Value>) -> Self {
        let message = fields
            .iter()
            .flat_map(|(field, texts)| texts.as_array().into_iter().flatten().map(move |text| (field, text)))
            .filter_map(|(field, text)| match text.as_str()? {
                text if field == Self::WHOLE_BODY => Some(text.to_owned()),
                text => Some(format!("{field}: {text}")),
            })
            .collect::<Vec<_>>()
            .join(" ");
        Self {
            field_errors: Some(Box::new(fields)),
            ..Self::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message)
        }
    }

    /// 400: the request as a whole is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message)
    }

    /// 401: nobody has signed in.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "User not authenticated")
    }

    /// 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", message)
    }

    /// 404: the route exists, the thing does not (or is not the caller's).
    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// 404: there is no such route; also for a path segment that is not an id, and for a trailing slash too many.
    pub fn not_routed() -> Self {
        Self {
            html_404: true,
            ..Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", "Not found.")
        }
    }

    /// 405, with the methods that the route knows, separated by commas.
    pub fn method_not_allowed(method: &Method, allow: String) -> Self {
        Self {
            allow: Some(allow),
            ..Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "VALIDATION_ERROR",
                format!("Method \"{method}\" not allowed."),
            )
        }
    }

    /// 409.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 409: the operator lets nobody register. Not 403: known clients take that for a token that has run out, and do not show
    /// the words.
    pub fn registration_closed() -> Self {
        Self::conflict(
            "REGISTRATION_CLOSED",
            "This hub takes no new people: ask whoever runs it",
        )
    }

    /// 408: the body took longer than `server.body_seconds` to arrive.
    pub fn too_slow() -> Self {
        Self {
            retryable: true,
            ..Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "REQUEST_TIMEOUT",
                "The request body took too long to arrive.",
            )
        }
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "VALIDATION_ERROR",
            format!("The request body is larger than {limit} bytes."),
        )
    }

    /// 429 by a rate limit.
    pub fn too_many(limit: u32, window: Duration, retry_after: Duration) -> Self {
        let seconds = whole_seconds(retry_after);
        Self {
            retryable: true,
            retry_after: Some(retry_after),
            details: Some(Box::new(json!({
                "limit": limit,
                "windowMs": u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
                "retryAfter": seconds,
            }))),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "RATE_LIMIT_EXCEEDED",
                "Rate limit exceeded. Please try again later.",
            )
        }
    }

    /// 503: a queue is full. Nothing was accepted.
    pub fn busy() -> Self {
        Self {
            retryable: true,
            retry_after: Some(BUSY_PAUSE),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "BUSY",
                "The hub is busy. Please try again.",
            )
        }
    }

    /// 503: something that the hub needs is away. Nothing was accepted, unless the answer to a commit was lost: to be
    /// repeated under the same key or id.
    pub fn unavailable() -> Self {
        Self {
            retryable: true,
            retry_after: Some(BUSY_PAUSE),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "SERVICE_UNAVAILABLE",
                "The service is temporarily unavailable. Please try again.",
            )
        }
    }

    /// 500: a fault of the hub. What it was stands in the log only.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL_ERROR",
            "An unexpected error occurred",
        )
    }

    /// The same error with more for programs.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// The pause in whole seconds for `Retry-After` (RFC 9110, section 10.2.3), at least one.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(whole_seconds)
    }
}

/// Reads an id from a path segment; what is not a lower-case hyphenated UUID is a path that does not exist.
///
/// # Errors
/// The answer of an unrouted path.
pub fn path_id<Id: std::str::FromStr>(segment: &str) -> Result<Id, ApiError> {
    segment.parse().map_err(|_| ApiError::not_routed())
}

fn whole_seconds(pause: Duration) -> u64 {
    pause.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).max(1)
}

impl fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: {}", self.status.as_u16(), self.code, self.message)
    }
}

impl std::error::Error for ApiError {}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    /// In its own shape; [`super::shape::render_errors`] writes it anew where the path wants another.
    fn error_response(&self) -> HttpResponse {
        let rendered = shape::render(self, self.shape);
        let mut response = HttpResponse::build(self.status);
        response.content_type(rendered.content_type);
        if let Some(seconds) = self.retry_after_seconds() {
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        if let Some(allow) = &self.allow {
            response.insert_header((header::ALLOW, allow.as_str()));
        }
        response.body(rendered.body)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(reason) => {
                tracing::warn!(%reason, "the database is away");
                Self::unavailable()
            }
            StoreError::Unknown(reason) => {
                tracing::warn!(%reason, "the database broke off");
                Self::unavailable()
            }
            StoreError::Failed(reason) => {
                tracing::error!(%reason, "the database refused a statement");
                Self::internal()
            }
        }
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Refused(refusal) => refusal.into(),
            CommandError::TextTooLong { limit } => Self::validation(
                "content",
                format!("Ensure this field has no more than {limit} characters: the platform takes no more."),
            ),
            CommandError::Busy => Self::busy(),
            CommandError::Unavailable(reason) => {
                tracing::warn!(%reason, "the tree cannot do it now");
                Self::unavailable()
            }
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoAccount => Self::not_found("ACCOUNT_NOT_FOUND", "Account not found"),
            Refusal::NoConversation => {
                Self::not_found("CONVERSATION_NOT_FOUND", "Conversation not found or access denied")
            }
            Refusal::NoMessage => Self::not_found("MESSAGE_NOT_FOUND", "Message not found or access denied"),
            Refusal::AccountDisconnected => Self::conflict(
                "ACCOUNT_DISCONNECTED",
                "The account is disconnected. Link it again first.",
            ),
            Refusal::KeyReused => Self::conflict(
                "IDEMPOTENCY_KEY_REUSED",
                "This Idempotency-Key was used for another request.",
            ),
            Refusal::NotRetryable => Self::conflict(
                "NOT_RETRYABLE",
                "Only a failed message, or one of unknown fate, can be tried again.",
            ),
            Refusal::NotSent => Self::conflict("NOT_SENT", "The message is not on the platform (yet)."),
            Refusal::NotOwn => Self::conflict("NOT_OWN", "Only your own messages can be edited."),
            Refusal::Settled => Self::conflict("SETTLED", "The message went out already."),
            // Only what a platform reports can be parked or fenced: no request of a person meets these.
            Refusal::TooManyParked | Refusal::LeaseLost => Self::busy(),
        }
    }
}

impl From<PasswordError> for ApiError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::TooLong => Self::validation("password", error.to_string()),
            PasswordError::Busy => Self::busy(),
            PasswordError::Broken => {
                tracing::error!("a password hash is damaged or the blocking pool is gone");
                Self::internal()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_rounded_up_and_never_zero() {
        let error = |milliseconds| ApiError::too_many(100, Duration::from_mins(1), Duration::from_millis(milliseconds));
        assert_eq!(error(0).retry_after_seconds(), Some(1));
        assert_eq!(error(1001).retry_after_seconds(), Some(2));
        assert_eq!(error(58_000).retry_after_seconds(), Some(58));
    }

    #[test]
    fn every_wrong_field_is_named() {
        let mut fields = Map::new();
        fields.insert("email".to_owned(), json!(["This field is required."]));
        fields.insert("password".to_owned(), json!(["This field is required."]));
        let error = ApiError::invalid_fields(fields);
        assert_eq!(
            error.message,
            "email: This field is required. password: This field is required."
        );
    }

    #[test]
    fn only_the_printed_form_of_an_id_is_routed() {
        let id = "0190a3c4-0000-7000-8000-00000000abcd";
        assert!(path_id::<hub_actors::MessageId>(id).is_ok());
        for wrong in [&id.to_uppercase(), &id.replace('-', ""), "1", ""] {
            assert!(path_id::<hub_actors::MessageId>(wrong).unwrap_err().html_404, "{wrong}");
        }
    }
}
