//! A platform, as the tree needs it.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use time::OffsetDateTime;

use super::link::LiveAdapter;
use crate::domain::{Account, InboundEvent, OutboundAction, Receipt, SendError};
use crate::ids::{ExternalId, OutboxId, PlatformId};

/// What makes a repeated send safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendKey {
    /// The platform dedups by the outbox entry's id: after a lost answer the send is simply repeated.
    Forever,
    /// There is no key: a lost answer leaves the message `unknown`, never blindly resent.
    None,
}

/// What a platform can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    pub send_key: SendKey,
    pub edit: bool,
    pub delete: bool,
    pub reactions: bool,
    /// Whether the platform wants to be told what the person has read.
    pub read: bool,
    pub typing: bool,
    /// Longest text, in characters.
    pub max_text: usize,
}

/// One webhook delivery, exactly as it came.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Header names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub received_at: OffsetDateTime,
}

impl Delivery {
    /// The only value of a header; none when it is absent or repeated.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .headers
            .iter()
            .filter(|(header, _)| header == name)
            .map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (Some(value), None) => Some(value),
            _ => None,
        }
    }
}

/// Why a delivery is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// Signature missing or wrong: nothing is stored.
    #[error("{0}")]
    Unsigned(&'static str),
    /// The sender's clock is off, or it is a replay: nothing is stored.
    #[error("{0}")]
    Stale(&'static str),
    /// Properly signed, but not understood: kept in quarantine and answered as taken.
    #[error("{0}")]
    Unmappable(String),
}

/// One request to a platform.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// The outbox entry's id: the same for every try.
    pub key: OutboxId,
    /// The chat's id on the platform.
    pub conversation: ExternalId,
    pub action: OutboundAction,
}

/// The person is writing.
#[derive(Clone, Debug)]
pub struct TypingNotice {
    pub conversation: ExternalId,
}

/// One platform. Implementations hold no state of an account: all they need is handed to them.
#[async_trait]
pub trait Adapter: Send + Sync + 'static {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Checks where a delivery comes from, over its raw bytes, and translates it.
    ///
    /// # Errors
    /// Says why it is not taken; see [`ReceiveError`] for what follows.
    fn receive(&self, account: &Account, delivery: &Delivery) -> Result<Vec<InboundEvent>, ReceiveError>;

    /// Makes one try. Returns within the adapter's own time limit.
    ///
    /// # Errors
    /// Says what is known of the message's fate; the outbox decides what follows.
    async fn send(&self, account: &Account, outbound: &Outbound) -> Result<Receipt, SendError>;

    /// The platform's other side, when it holds its accounts open instead of being called. Sends and typing then go
    /// through the open link.
    fn live(&self) -> Option<&dyn LiveAdapter> {
        None
    }

    /// Tells the platform that the person is writing. Lost without a word when it fails: it is a courtesy.
    async fn typing(&self, account: &Account, notice: &TypingNotice);
}

/// The platforms that this hub has, by name.
#[derive(Clone, Default)]
pub struct Adapters(Arc<HashMap<PlatformId, Arc<dyn Adapter>>>);

impl Adapters {
    /// The given platforms.
    pub fn new(adapters: impl IntoIterator<Item = (PlatformId, Arc<dyn Adapter>)>) -> Self {
        Self(Arc::new(adapters.into_iter().collect()))
    }

    /// The platforms whose accounts are held open.
    pub fn live(&self) -> Vec<PlatformId> {
        let live = self.0.iter().filter(|(_, adapter)| adapter.live().is_some());
        live.map(|(platform, _)| platform.clone()).collect()
    }

    /// The adapter of that name; none for an account whose platform has been switched off.
    pub fn get(&self, platform: &PlatformId) -> Option<&Arc<dyn Adapter>> {
        self.0.get(platform)
    }
}
