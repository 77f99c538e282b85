//! Reading JSON bodies, and saying clearly what is wrong with one.

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use serde_json::{Value, json};

use super::AppState;
use super::error::ApiError;

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

/// A JSON body whose fields are read one by one, see [`super::input::Fields`], so that the answer names every wrong one. An
/// empty body counts as an empty object.
#[derive(Debug)]
pub struct JsonBody(pub Value);

impl FromRequest for JsonBody {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let reading = web::Bytes::from_request(request, payload);
        let request = request.clone();
        Box::pin(async move {
            let body = reading.await.map_err(|error| refuse_payload(error, &request))?;
            if body.is_empty() {
                return Ok(Self(json!({})));
            }
            let is_json = request
                .mime_type()
                .ok()
                .flatten()
                .is_some_and(|mime| mime.essence_str() == "application/json");
            if !is_json {
                return Err(unsupported_media_type(&request).into());
            }
            let body = serde_json::from_slice(&body)
                .map_err(|error| ApiError::bad_request(format!("JSON parse error - {error}")))?;
            Ok(Self(body))
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

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;
    use actix_web::test::TestRequest;

    use super::*;

    async fn read(media_type: &str, body: &[u8]) -> Result<Value, (u16, String)> {
        let (request, mut payload) = TestRequest::post()
            .insert_header((CONTENT_TYPE, media_type))
            .set_payload(body.to_vec())
            .to_http_parts();
        match JsonBody::from_request(&request, &mut payload).await {
            Ok(JsonBody(body)) => Ok(body),
            Err(error) => {
                let error = error.as_error::<ApiError>().unwrap();
                Err((error.status_code().as_u16(), error.message.clone()))
            }
        }
    }

    #[actix_web::test]
    async fn only_json_is_taken() {
        assert_eq!(read("text/plain", b"").await, Ok(json!({})));
        assert_eq!(read("application/json; charset=utf-8", b"[1]").await, Ok(json!([1])));
        let (status, message) = read("text/plain", b"{}").await.unwrap_err();
        assert_eq!(
            (status, message.as_str()),
            (415, "Unsupported media type \"text/plain\" in request.")
        );
        let deep = "[".repeat(100_000);
        for body in ["{", "{a:1}", "{\"a\":1}x", "\u{FEFF}{}", "'x'", &deep] {
            let (status, message) = read("application/json", body.as_bytes()).await.unwrap_err();
            assert!(status == 400 && message.starts_with("JSON parse error - "), "{message}");
        }
        assert!(read("application/json", b"{\"a\":\"\xFF\"}").await.is_err());
    }
}
