//! Carries the correspondent's events to the hub: signed, and again under the same webhook-id until the hub has them.

use std::time::Duration;

use hub_actors::{Clock, MessageId};
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use super::screen::Screen;
use crate::platforms::custom::Secret;
use crate::platforms::custom::signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};

/// Waits between the tries; when all are used up the event is given up, which the screen says.
const PAUSES: [Duration; 6] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// The way from the correspondent to the hub.
#[derive(Clone)]
pub(super) struct Courier {
    pub(super) client: Client,
    /// The account's webhook address.
    pub(super) url: String,
    pub(super) secret: Secret,
    pub(super) clock: Clock,
    pub(super) screen: Screen,
}

impl Courier {
    /// An id that no earlier run has used.
    pub(super) fn fresh_id(&self) -> String {
        MessageId::generate(self.clock.now()).to_string()
    }

    /// Now, as events write it.
    pub(super) fn timestamp(&self) -> Value {
        json!(self.clock.now().format(&Rfc3339).ok())
    }

    /// Delivers one event. A try that fails is made again: the hub takes a message only once, however often it comes.
    pub(super) async fn deliver(&self, event: Value) {
        let id = format!("evt_{}", self.fresh_id());
        let body = event.to_string();
        let mut reason = String::new();
        for pause in PAUSES {
            match self.try_once(&id, &body).await {
                Ok(()) => return,
                Err(error) => reason = error,
            }
            tokio::time::sleep(pause).await;
        }
        self.screen.warning(&format!(
            "{} did not reach the hub: {reason}",
            event["type"].as_str().unwrap_or("an event")
        ));
    }

    async fn try_once(&self, id: &str, body: &str) -> Result<(), String> {
        let timestamp = self.clock.now().unix_timestamp();
        let request = self
            .client
            .post(&self.url)
            .header(CONTENT_TYPE, "application/json")
            .header(ID_HEADER, id)
            .header(TIMESTAMP_HEADER, timestamp.to_string())
            .header(SIGNATURE_HEADER, self.secret.sign(id, timestamp, body.as_bytes()))
            .body(body.to_owned());
        match request.send().await {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => Err(format!("status {}", response.status().as_u16())),
            Err(error) => Err(error.without_url().to_string()),
        }
    }
}
