//! Calls to Telegram for an open link: what ends the link or makes the account wait is told at once, whoever called.

use std::sync::Arc;
use std::time::Duration;

use grammers_tl_types::RemoteCall;
use hub_actors::Clock;
use hub_actors::ports::{LinkEnd, LinkFeed, LinkState};
use tokio::sync::mpsc;

use super::client::Connected;
use super::errors::CallError;
use super::session::HubSession;

/// Pauses before a call is made again that broke with its connection.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(700),
    Duration::from_secs(3),
];
/// The longest wait that a background call sits through; a longer one ends the link, which comes back later.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The line of one link.
pub(super) struct Line {
    pub(super) connected: Connected,
    pub(super) feed: Arc<dyn LinkFeed>,
    pub(super) clock: Clock,
    /// Where the end of the session is told. Only the first word counts.
    pub(super) end: mpsc::Sender<LinkEnd>,
}

impl Line {
    pub(super) fn session(&self) -> &Arc<HubSession> {
        self.connected.session()
    }

    /// Makes a call.
    pub(super) async fn call<R: RemoteCall>(&self, request: &R) -> Result<R::Return, CallError> {
        self.watch(self.connected.call(request).await)
    }

    /// Makes a call that changes nothing, again if need be: connections break, and Telegram asks for patience.
    pub(super) async fn ask<R: RemoteCall>(&self, request: &R) -> Result<R::Return, CallError> {
        let mut pauses = PAUSES.iter();
        loop {
            let error = match self.call(request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if error.terminal().is_some() {
                return Err(error);
            }
            if let Some(wait) = error.flood_wait().filter(|wait| *wait <= LONGEST_WAIT) {
                tokio::time::sleep(wait).await;
                continue;
            }
            // What Telegram refuses it refuses again.
            let is_refusal = error.rpc().is_some_and(|answer| (400..500).contains(&answer.code));
            match pauses.next() {
                Some(pause) if !is_refusal => tokio::time::sleep(*pause).await,
                _ => return Err(error),
            }
        }
    }

    fn watch<T>(&self, result: Result<T, CallError>) -> Result<T, CallError> {
        if let Err(error) = &result {
            if let Some(end) = error.terminal() {
                // Full: an end is on its way already.
                drop(self.end.try_send(end));
            } else if let Some(wait) = error.flood_wait() {
                let until = self.clock.now() + wait;
                self.feed.state(LinkState::FloodWait { until });
            }
        }
        result
    }
}
