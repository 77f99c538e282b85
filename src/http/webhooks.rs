//! Where platforms deliver what happened.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use hub_actors::AccountId;
use hub_actors::ports::Delivery;
use hub_actors::tree::DeliverError;
use serde_json::json;

use super::patience::is_too_slow;
use super::{ApiError, AppState, path_id};

/// Registers the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config.service(web::resource("/api/webhooks/custom/{account_id}").route(web::post().to(custom)));
}

/// Takes a delivery for an account of the custom channel. The 200 comes after what it carries is committed, as events
/// or, where it cannot be understood, in quarantine; anything else means that not all of it was stored.
#[utoipa::path(
    post, path = "/api/webhooks/custom/{account_id}", tag = "webhooks", security(()),
    params(
        ("account_id" = uuid::Uuid, Path, description = "The account"),
        ("webhook-id" = String, Header, description = "The delivery's id, the same for every try"),
        ("webhook-timestamp" = i64, Header, description = "When it was signed, in seconds since 1970"),
        ("webhook-signature" = String, Header, description = "`v1,` and the base64 HMAC-SHA256; several may follow"),
    ),
    request_body(content = Object, description = "One event or a list of them", content_type = "application/json"),
    responses(
        (status = 200, description = "Committed", body = Object, example = json!({"ok": true})),
        (status = 401, description = "The signature is wrong, or older or newer than five minutes"),
        (status = 404, description = "No such account, or it is disconnected"),
        (status = 413, description = "The body is too long"),
        (status = 503, description = "Not all of it is stored: deliver it again, not before `Retry-After`"),
    )
)]
pub(super) async fn custom(
    state: web::Data<AppState>,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let account: AccountId = path_id(&path)?;
    let body = read(payload, state.settings.server.max_body_bytes).await?;
    fail::fail_point!("webhook.read");
    let delivery = Delivery {
        headers: headers(&request),
        body,
        received_at: state.clock.now(),
    };
    match state.tree.deliver(account, delivery).await {
        Ok(_) => {
            fail::fail_point!("webhook.before_response");
            Ok(HttpResponse::Ok().json(json!({"ok": true})))
        }
        Err(DeliverError::NoAccount) => {
            let text = "There is no such account, or it is disconnected";
            Err(ApiError::not_found("ACCOUNT_NOT_FOUND", text))
        }
        Err(DeliverError::Unsigned(reason) | DeliverError::Stale(reason)) => {
            Err(ApiError::new(StatusCode::UNAUTHORIZED, "INVALID_SIGNATURE", reason))
        }
        Err(DeliverError::Busy) => Err(ApiError::busy()),
        Err(error @ (DeliverError::Unavailable(_) | DeliverError::Crashed)) => {
            tracing::warn!(%account, %error, "a delivery could not be committed");
            Err(ApiError::unavailable())
        }
    }
}

/// The raw bytes, which are what the signature covers. Read by hand, so that a body that is too long or breaks off has
/// an answer in the shape of the other errors.
async fn read(payload: web::Payload, limit: usize) -> Result<Bytes, ApiError> {
    match payload.to_bytes_limited(limit).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if error.as_error().is_some_and(is_too_slow) => Err(ApiError::too_slow()),
        Ok(Err(_)) => Err(ApiError::bad_request("The body broke off before its end")),
        Err(_) => Err(ApiError::too_large(limit)),
    }
}

/// A value that is no text cannot be a signature; it is kept readable rather than left out, so that it still counts
/// as a repetition of its header.
fn headers(request: &HttpRequest) -> Vec<(String, String)> {
    let headers = request.headers().iter();
    headers
        .map(|(name, value)| {
            (
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn header_names_are_lower_case_and_repetitions_stay() {
        let request = TestRequest::post()
            .append_header(("Webhook-Id", "a"))
            .append_header(("WEBHOOK-ID", "b"))
            .to_http_request();
        let headers = headers(&request);
        let expected =
            [("webhook-id", "a"), ("webhook-id", "b")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(headers, expected);
    }
}
