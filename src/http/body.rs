//! Reading JSON bodies, and saying clearly what is wrong with one.

use actix_web::dev::Payload;
use actix_web::error::JsonPayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use serde_json::{Map, Value, json};

use super::AppState;
use super::error::ApiError;
use super::patience::is_too_slow;

/// How `web::Json` reads bodies, up to so many bytes, and how it refuses them.
pub fn json(limit: usize) -> web::JsonConfig {
    web::JsonConfig::default()
        .limit(limit)
        .error_handler(move |error, request| refuse(&error, request, limit).into())
}

fn refuse(error: &JsonPayloadError, request: &HttpRequest, limit: usize) -> ApiError {
    match error {
        JsonPayloadError::ContentType => unsupported_media_type(request),
        JsonPayloadError::Overflow { .. } | JsonPayloadError::OverflowKnownLength { .. } => ApiError::too_large(limit),
        JsonPayloadError::Deserialize(error) => refuse_json(error),
        JsonPayloadError::Payload(error) if is_too_slow(error) => ApiError::too_slow(),
        _ => ApiError::bad_request("The request body could not be read."),
    }
}

fn unsupported_media_type(request: &HttpRequest) -> ApiError {
    let media_type = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "VALIDATION_ERROR",
        format!("Unsupported media type \"{media_type}\" in request."),
    )
}

/// Not JSON at all, or JSON of another form than the route takes.
fn refuse_json(error: &serde_json::Error) -> ApiError {
    if error.is_data() {
        ApiError::bad_request(format!("Invalid data. {error}"))
    } else {
        ApiError::bad_request(format!("JSON parse error - {error}"))
    }
}

/// A JSON object whose fields are checked one by one, so that the answer names every wrong one. An empty body counts as an
/// empty object.
#[derive(Debug, Default)]
pub struct JsonObject {
    fields: Map<String, Value>,
    errors: Map<String, Value>,
}

impl FromRequest for JsonObject {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let reading = web::Bytes::from_request(request, payload);
        let request = request.clone();
        Box::pin(async move {
            let body = reading.await.map_err(|error| refuse_payload(error, &request))?;
            if body.is_empty() {
                return Ok(Self::default());
            }
            let is_json = request
                .mime_type()
                .ok()
                .flatten()
                .is_some_and(|mime| mime.essence_str() == "application/json");
            if !is_json {
                return Err(unsupported_media_type(&request).into());
            }
            Ok(Self::parse(&body)?)
        })
    }
}

fn refuse_payload(error: Error, request: &HttpRequest) -> Error {
    let is_too_large = error.as_response_error().status_code() == StatusCode::PAYLOAD_TOO_LARGE;
    match request.app_data::<web::Data<AppState>>() {
        Some(state) if is_too_large => ApiError::too_large(state.settings.server.max_body_bytes).into(),
        _ => error,
    }
}

impl JsonObject {
    /// Reads an object.
    ///
    /// # Errors
    /// When the bytes are not JSON or not an object.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let value: Value = serde_json::from_slice(body).map_err(|error| refuse_json(&error))?;
        let kind = match value {
            Value::Object(fields) => {
                return Ok(Self {
                    fields,
                    errors: Map::new(),
                });
            }
            Value::Array(_) => "list",
            Value::String(_) => "str",
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
            Value::Null => "null",
        };
        Err(ApiError::bad_request(format!(
            "Invalid data. Expected a dictionary, but got {kind}."
        )))
    }

    /// A required text, trimmed; a number counts as its digits. None is remembered as an error of the field.
    pub fn text(&mut self, field: &str) -> Option<String> {
        let text = match self.fields.get(field) {
            None => Err("This field is required."),
            Some(Value::Null) => Err("This field may not be null."),
            Some(Value::String(text)) if text.contains('\0') => Err("Null characters are not allowed."),
            Some(Value::String(text)) if text.trim().is_empty() => Err("This field may not be blank."),
            Some(Value::String(text)) => Ok(text.trim().to_owned()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            Some(_) => Err("Not a valid string."),
        };
        match text {
            Ok(text) => Some(text),
            Err(error) => {
                self.wrong(field, error);
                None
            }
        }
    }

    /// Remembers what is wrong with a field.
    pub fn wrong(&mut self, field: &str, text: &str) {
        self.errors.insert(field.to_owned(), json!([text]));
    }

    /// Refuses when any field is wrong.
    ///
    /// # Errors
    /// 400 that names every wrong field.
    pub fn finish(self) -> Result<(), ApiError> {
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(ApiError::invalid_fields(self.errors))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message_of(body: &str, field: &str) -> Option<String> {
        let mut object = JsonObject::parse(body.as_bytes()).unwrap();
        object.text(field);
        object.finish().err().map(|error| error.message)
    }

    #[test]
    fn each_way_to_be_wrong_has_its_words() {
        let table = [
            (r"{}", Some("p: This field is required.")),
            (r#"{"p":null}"#, Some("p: This field may not be null.")),
            (r#"{"p":"  "}"#, Some("p: This field may not be blank.")),
            (r#"{"p":[]}"#, Some("p: Not a valid string.")),
            (r#"{"p":{}}"#, Some("p: Not a valid string.")),
            (r#"{"p":true}"#, Some("p: Not a valid string.")),
            (r#"{"p":"a\u0000b"}"#, Some("p: Null characters are not allowed.")),
            (r#"{"p":" x "}"#, None),
            (r#"{"p":12345678}"#, None),
        ];
        for (body, expected) in table {
            assert_eq!(message_of(body, "p").as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn texts_are_trimmed() {
        let mut object = JsonObject::parse(br#"{"p":" x ","n":12}"#).unwrap();
        assert_eq!(object.text("p").as_deref(), Some("x"));
        assert_eq!(object.text("n").as_deref(), Some("12"));
    }

    #[test]
    fn only_an_object_is_taken() {
        for (body, expected) in [
            ("[]", "Invalid data. Expected a dictionary, but got list."),
            ("\"a\"", "Invalid data. Expected a dictionary, but got str."),
            ("5", "Invalid data. Expected a dictionary, but got number."),
            ("null", "Invalid data. Expected a dictionary, but got null."),
        ] {
            assert_eq!(JsonObject::parse(body.as_bytes()).unwrap_err().message, expected);
        }
        let deep = "[".repeat(100_000);
        for body in ["{", "{a:1}", "{\"a\":1}x", "\u{FEFF}{}", "'x'", &deep] {
            let error = JsonObject::parse(body.as_bytes()).unwrap_err();
            assert!(error.message.starts_with("JSON parse error - "), "{}", error.message);
            assert_eq!(error.status, StatusCode::BAD_REQUEST);
        }
        assert!(JsonObject::parse(b"{\"a\":\"\xFF\"}").is_err());
    }
}
