//! What a send is answered with, and how the answer is kept for repetitions.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use hub_actors::MessageId;
use hub_actors::domain::{DeliveryStatus, Message, Refusal};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::ApiError;
use crate::settings::OutboxSettings;
use crate::views::{self, MessageView};

const REPLAYED_HEADER: &str = "Idempotency-Replayed";

/// The platform has taken the message.
#[derive(Debug, Serialize, ToSchema)]
pub struct Sent<'a> {
    message: MessageView<'a>,
    success: bool,
}

/// The message is stored; its status follows in the stream.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pending<'a> {
    success: bool,
    message: MessageView<'a>,
    /// The message's id.
    #[schema(value_type = String, format = Uuid)]
    pending_id: MessageId,
    /// What that means, in words for the person.
    note: &'a str,
}

/// The platform refused the message. It is kept, and can be tried again.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotSent<'a> {
    /// Why, in words for the person.
    error: &'a str,
    #[schema(value_type = String, format = Uuid)]
    message_id: MessageId,
    status: &'static str,
}

/// Whether the caller waits for the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    /// Yes, for a while.
    Wait,
    /// `Prefer: respond-async` (RFC 7240, section 4.1).
    RespondAsync,
}

impl Preference {
    /// What the headers ask for; preferences that the hub does not know are ignored, as the RFC wants.
    pub fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all("Prefer").filter_map(|value| value.to_str().ok());
        let mut preferences = values.flat_map(|value| value.split(',')).map(|preference| {
            let (name, _parameters) = preference.split_once(';').unwrap_or((preference, ""));
            name.trim()
        });
        if preferences.any(|name| name.eq_ignore_ascii_case("respond-async")) {
            Self::RespondAsync
        } else {
            Self::Wait
        }
    }

    /// How long the answer waits for the platform; none for not at all.
    pub fn patience(self, settings: &OutboxSettings) -> Option<Duration> {
        let wanted = Duration::from_secs(settings.answer_seconds);
        (self == Self::Wait && !wanted.is_zero()).then_some(wanted)
    }
}

/// A written answer about a message that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    status: StatusCode,
    body: String,
}

impl Reply {
    /// What the message's status is answered with; `sent` is the status of success.
    pub fn of(message: &Message, sent: StatusCode) -> Self {
        let view = views::message(message);
        let reason = message.status_reason.as_deref();
        let pending = |note| Pending {
            success: true,
            message: view,
            pending_id: message.id,
            note,
        };
        match message.status {
            DeliveryStatus::Queued | DeliveryStatus::Sending => Self::json(
                StatusCode::ACCEPTED,
                &pending("The message is stored and on its way to the platform; its status follows in the stream."),
            ),
            DeliveryStatus::Unknown => {
                let usual = "The platform did not answer, so it is not known whether the message was sent.";
                Self::json(StatusCode::ACCEPTED, &pending(reason.unwrap_or(usual)))
            }
            DeliveryStatus::Failed => Self::json(
                StatusCode::BAD_GATEWAY,
                &NotSent {
                    error: reason.unwrap_or("The platform refused the message"),
                    message_id: message.id,
                    status: message.status.as_str(),
                },
            ),
            DeliveryStatus::Received | DeliveryStatus::Sent | DeliveryStatus::Delivered | DeliveryStatus::Read => {
                let body = Sent {
                    message: view,
                    success: true,
                };
                Self::json(sent, &body)
            }
        }
    }

    fn json(status: StatusCode, body: &impl Serialize) -> Self {
        match serde_json::to_string(body) {
            Ok(body) => Self { status, body },
            Err(error) => {
                tracing::error!(%error, "an answer could not be written as JSON");
                let body = r#"{"error":"An unexpected error occurred"}"#.to_owned();
                Self {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    body,
                }
            }
        }
    }

    /// The HTTP answer.
    pub fn response(self, preference: Preference, is_repeat: bool) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response.content_type("application/json");
        if preference == Preference::RespondAsync {
            response.insert_header(("Preference-Applied", "respond-async"));
        }
        if is_repeat {
            response.insert_header((REPLAYED_HEADER, "true"));
        }
        response.body(self.body)
    }
}

/// An answer as it is kept for repetitions.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedAnswer {
    fingerprint: String,
    status: u16,
    body: String,
}

impl SavedAnswer {
    pub(super) fn new(fingerprint: [u8; 32], reply: &Reply) -> Self {
        Self {
            fingerprint: hex::encode(fingerprint),
            status: reply.status.as_u16(),
            body: reply.body.clone(),
        }
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>, ApiError> {
        serde_json::to_vec(self).map_err(|error| damaged(&error))
    }

    pub(super) fn parse(saved: &[u8]) -> Result<Self, ApiError> {
        serde_json::from_slice(saved).map_err(|error| damaged(&error))
    }

    pub(super) fn reply(self) -> Result<Reply, ApiError> {
        let status = StatusCode::from_u16(self.status).map_err(|error| damaged(&error))?;
        let body = self.body;
        Ok(Reply { status, body })
    }

    pub(super) fn replay(self, fingerprint: [u8; 32], preference: Preference) -> Result<HttpResponse, ApiError> {
        if self.fingerprint != hex::encode(fingerprint) {
            return Err(Refusal::KeyReused.into());
        }
        Ok(self.reply()?.response(preference, true))
    }
}

fn damaged(error: &dyn std::error::Error) -> ApiError {
    tracing::error!(%error, "a saved answer is damaged");
    ApiError::internal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::samples;
    use actix_web::http::header::{HeaderName, HeaderValue};
    use serde_json::Value;

    fn reply(status: DeliveryStatus, reason: Option<&str>) -> (u16, Value) {
        let message = Message {
            is_outgoing: true,
            status,
            status_reason: reason.map(str::to_owned),
            ..samples::message()
        };
        let reply = Reply::of(&message, StatusCode::CREATED);
        (reply.status.as_u16(), serde_json::from_str(&reply.body).unwrap())
    }

    #[test]
    fn each_status_has_its_answer() {
        let id = "00000000-0000-0000-0000-000000000001";
        for status in [DeliveryStatus::Sent, DeliveryStatus::Delivered, DeliveryStatus::Read] {
            let (code, body) = reply(status, None);
            assert_eq!((code, &body["success"]), (201, &Value::Bool(true)));
            assert_eq!(body["message"]["id"], id);
            assert!(body.get("pendingId").is_none());
        }
        for (status, name) in [(DeliveryStatus::Queued, "queued"), (DeliveryStatus::Sending, "sending")] {
            let (code, body) = reply(status, None);
            assert_eq!((code, &body["pendingId"]), (202, &Value::from(id)));
            assert_eq!(body["message"]["status"], name);
            for field in ["id", "content", "senderName", "isOutgoing", "sentAt", "conversation_id"] {
                assert!(body["message"].get(field).is_some(), "{field}");
            }
        }
        let (code, body) = reply(DeliveryStatus::Unknown, Some("No answer came"));
        assert_eq!((code, &body["note"]), (202, &Value::from("No answer came")));
        let (code, body) = reply(DeliveryStatus::Failed, Some("Too long"));
        assert_eq!(code, 502);
        assert_eq!(
            body,
            serde_json::json!({"error": "Too long", "messageId": id, "status": "failed"})
        );
    }

    #[test]
    fn a_saved_answer_comes_back_only_for_the_same_request() {
        let reply = Reply::of(&samples::message(), StatusCode::CREATED);
        let saved = SavedAnswer::new([7; 32], &reply).to_json().unwrap();
        let again = SavedAnswer::parse(&saved)
            .unwrap()
            .replay([7; 32], Preference::Wait)
            .unwrap();
        assert_eq!(again.status(), StatusCode::CREATED);
        assert_eq!(again.headers().get(REPLAYED_HEADER).unwrap(), "true");
        let other = SavedAnswer::parse(&saved).unwrap().replay([8; 32], Preference::Wait);
        assert_eq!(other.unwrap_err().status, StatusCode::CONFLICT);
        assert_eq!(SavedAnswer::parse(&saved).unwrap().reply().unwrap(), reply);
        assert!(SavedAnswer::parse(b"{}").is_err());
    }

    #[test]
    fn only_respond_async_does_not_wait() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(HeaderName::from_static("prefer"), HeaderValue::from_static(value));
            }
            Preference::of(&headers)
        };
        for values in [
            &["respond-async"][..],
            &["wait=5, Respond-Async"],
            &["return=minimal", "respond-async;x=1"],
        ] {
            assert_eq!(of(values), Preference::RespondAsync, "{values:?}");
        }
        for values in [&[][..], &["respond"], &["wait=100"]] {
            assert_eq!(of(values), Preference::Wait, "{values:?}");
        }
        let settings = OutboxSettings::default();
        assert_eq!(Preference::RespondAsync.patience(&settings), None);
        assert_eq!(
            Preference::Wait.patience(&settings),
            Some(Duration::from_secs(settings.answer_seconds))
        );
    }
}
