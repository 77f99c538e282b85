//! Sends through the custom channel: one signed POST a try, and the table that says what its answer means.

use std::time::Duration;

use hub_actors::domain::{Account, OutboundAction, Receipt, SendError, SendFailure};
use hub_actors::ports::{Outbound, TypingNotice};
use hub_actors::{Clock, ExternalId, OutboxId};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::super::address::{self, Guard};
use super::super::client::{self, BodyError};
use super::link::{Link, LinkError};
use super::signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};

/// How long a 429 without `Retry-After` is heeded.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);
/// Shortest `Retry-After` that is believed: zero would make the hub hammer a receiver that is in trouble.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// Longest `Retry-After` that is believed.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
/// Typing that arrives late is wrong: it is given up soon.
const TYPING_TIMEOUT: Duration = Duration::from_secs(3);

/// Makes one try.
pub(super) async fn send(
    client: &Client,
    guard: Guard,
    clock: &Clock,
    account: &Account,
    outbound: &Outbound,
) -> Result<Receipt, SendError> {
    let key = outbound.key.to_string();
    let body = request_body(account, &key, outbound).to_string();
    let request = signed_request(client, guard, clock.now(), account, &key, body)?;
    let response = request.send().await.map_err(|error| transport_failure(&error))?;
    fail::fail_point!("custom.answered");
    if response.status().is_success() {
        // Only a message has an id that later events can name.
        let is_message = matches!(outbound.action, OutboundAction::Send { .. });
        let external_id = if is_message {
            Some(answered_id(response, &key).await?)
        } else {
            None
        };
        return Ok(Receipt { external_id });
    }
    Err(refusal(response, clock.now()).await)
}

/// Tells that the person is writing; whether it arrives does not matter.
pub(super) async fn typing(client: &Client, guard: Guard, clock: &Clock, account: &Account, notice: &TypingNotice) {
    let now = clock.now();
    let key = OutboxId::generate(now).to_string();
    let body = json!({
        "type": "typing",
        "accountId": account.id,
        "conversation": { "id": notice.conversation },
    });
    if let Ok(request) = signed_request(client, guard, now, account, &key, body.to_string()) {
        let outcome = request.timeout(TYPING_TIMEOUT).send().await;
        tracing::debug!(account = %account.id, arrived = outcome.is_ok(), "typing notice");
    }
}

/// The JSON of a request. It depends on nothing but the outbox entry, so every try carries the same bytes.
fn request_body(account: &Account, key: &str, outbound: &Outbound) -> Value {
    let (name, details) = match &outbound.action {
        OutboundAction::Send {
            text,
            kind,
            media_url,
            reply_to,
        } => {
            let mut message = json!({ "id": key, "text": text, "type": kind });
            if let Some(media_url) = media_url {
                message["mediaUrl"] = json!(media_url);
            }
            if let Some(reply_to) = reply_to {
                message["replyTo"] = json!(reply_to);
            }
            ("message.send", json!({ "message": message }))
        }
        OutboundAction::Edit { message, text } => {
            ("message.edit", json!({ "message": { "id": message, "text": text } }))
        }
        OutboundAction::Delete { message } => ("message.delete", json!({ "message": { "id": message } })),
        OutboundAction::React {
            message,
            emoji,
            is_active,
        } => {
            let name = if *is_active { "reaction.add" } else { "reaction.remove" };
            (name, json!({ "message": { "id": message }, "emoji": emoji }))
        }
        OutboundAction::Read { message } => ("conversation.read", json!({ "message": { "id": message } })),
    };
    let mut body = details;
    body["type"] = json!(name);
    body["accountId"] = json!(account.id);
    body["conversation"] = json!({ "id": outbound.conversation });
    body
}

fn signed_request(
    client: &Client,
    guard: Guard,
    now: OffsetDateTime,
    account: &Account,
    key: &str,
    body: String,
) -> Result<reqwest::RequestBuilder, SendError> {
    let link = Link::open(&account.credentials, now).map_err(|error| {
        let failure = match error {
            LinkError::NoAddress => SendFailure::Unsupported,
            LinkError::NoSecret => SendFailure::Unauthorized,
        };
        SendError::with_detail(failure, &error.to_string())
    })?;
    // Checked again at every try: a literal address never reaches the resolver that guards names.
    let url = address::check_url(&link.outbound_url, guard.allow_private)?;
    let timestamp = now.unix_timestamp();
    let signatures: Vec<String> = link
        .secrets
        .iter()
        .map(|secret| secret.sign(key, timestamp, body.as_bytes()))
        .collect();
    let request = client
        .post(url)
        .header(CONTENT_TYPE, "application/json")
        .header(ID_HEADER, key)
        .header(TIMESTAMP_HEADER, timestamp.to_string())
        .header(SIGNATURE_HEADER, signatures.join(" "))
        .body(body);
    Ok(request)
}

/// The id that the receiver gave the message. One that gives none knows it by the id that it was sent under.
async fn answered_id(response: Response, key: &str) -> Result<ExternalId, SendError> {
    let body = match client::read_body(response, client::MAX_ANSWER_BYTES).await {
        Ok(body) => body,
        // The receiver has the message, but its id for it may have been lost: asking again under the same key is safe.
        Err(BodyError::BrokeOff(_)) => return Err(SendError::new(SendFailure::AnswerLost)),
        Err(BodyError::TooLong(_)) => return Ok(key.into()),
    };
    let answer: Option<Value> = serde_json::from_slice(&body).ok();
    let id = answer
        .as_ref()
        .and_then(|answer| answer.get("id"))
        .and_then(Value::as_str);
    let is_usable = |id: &&str| !id.is_empty() && id.len() <= 255 && !id.contains('\0');
    Ok(id.filter(is_usable).unwrap_or(key).into())
}

/// No answer at all.
fn transport_failure(error: &reqwest::Error) -> SendError {
    if client::forbidden_address(error).is_some() {
        return SendError::new(SendFailure::ForbiddenAddress);
    }
    // The error's own text holds the address, which may hold a token of the receiver's.
    let failure = if error.is_connect() {
        SendFailure::Unreachable
    } else {
        SendFailure::AnswerLost
    };
    let detail = if error.is_timeout() { "no answer in time" } else { "" };
    SendError::with_detail(failure, detail)
}

/// An answer other than 2xx.
async fn refusal(response: Response, now: OffsetDateTime) -> SendError {
    let status = response.status();
    let wait = retry_after(response.headers(), now);
    let body = client::read_body(response, client::MAX_ANSWER_BYTES)
        .await
        .unwrap_or_default();
    let detail = match reason(&body) {
        Some(reason) => format!("{}: {reason}", status.as_u16()),
        None => format!("status {}", status.as_u16()),
    };
    SendError::with_detail(classify(status, wait), &detail)
}

/// What a status means. RFC 9110, section 15; 425 is RFC 8470, 429 is RFC 6585.
fn classify(status: StatusCode, wait: Option<Duration>) -> SendFailure {
    match (status.as_u16(), wait) {
        (408 | 425 | 500..=599, Some(after)) => SendFailure::RateLimited { after },
        (408 | 425 | 500..=599, None) => SendFailure::PlatformFailed,
        (429, wait) => SendFailure::RateLimited {
            after: wait.unwrap_or(DEFAULT_WAIT),
        },
        // The receiver does not accept the signature: no message will pass until the person has fixed the secret.
        (401, _) => SendFailure::Unauthorized,
        // 403 among them: it speaks of this message or chat, and must not stop the whole account.
        _ => SendFailure::Refused,
    }
}

/// `Retry-After` as seconds or as an HTTP date (RFC 9110, section 10.2.3), kept between
/// [`SHORTEST_WAIT`] and [`LONGEST_WAIT`].
fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_or(LONGEST_WAIT, Duration::from_secs)
    } else {
        let until = OffsetDateTime::from(httpdate::parse_http_date(text).ok()?);
        // A time that has passed means: as soon as possible.
        Duration::try_from(until - now).unwrap_or(Duration::ZERO)
    };
    Some(wait.clamp(SHORTEST_WAIT, LONGEST_WAIT))
}

/// What the receiver says about it: `{"error": "…"}`, `{"error": {"message": "…"}}`, `{"message": "…"}`, or plain text.
fn reason(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let Ok(answer) = serde_json::from_str::<Value>(text) else {
        let is_page = text.starts_with('<');
        return (!text.is_empty() && !is_page).then(|| text.to_owned());
    };
    let error = answer.get("error");
    let places = [
        error,
        error.and_then(|error| error.get("message")),
        answer.get("message"),
    ];
    let reason = places.into_iter().flatten().find_map(Value::as_str);
    reason.filter(|reason| !reason.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests;
