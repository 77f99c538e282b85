//! Storage, as the tree needs it.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::link::{Lease, LinkMemory};
use crate::domain::{Account, Append, Appended, Event, OutboxEntry, Refusal};
use crate::ids::{AccountId, ConversationId, ExternalId, OutboxId, PlatformId, Seq, UserId};

/// Storage could not do it. Nothing was stored, unless `Unknown`.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection, or none in time.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// The connection broke while committing: it may or may not be stored. Every append is safe to repeat.
    #[error("the database connection broke while committing: {0}")]
    Unknown(String),
    /// The database refused a statement, or a row could not be read.
    #[error("the database refused: {0}")]
    Failed(String),
}

/// Why an append has no effect.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The rules refuse it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Storage could not do it; safe to repeat.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rules panicked on it, or the database refuses it even alone: it will never work.
    #[error("the change cannot be applied: {0}")]
    Poison(String),
    /// The queue before the journal is full, or its actor is being restarted: try again shortly.
    #[error("the hub is busy")]
    Busy,
}

/// Asks for the events of one user after a number.
#[derive(Clone, Debug)]
pub struct StreamRead {
    pub user_id: UserId,
    pub after: Seq,
    /// At most so many events.
    pub limit: usize,
}

/// A part of a user's stream.
#[derive(Clone, Debug, Default)]
pub struct StreamPage {
    /// In order, without a gap, beginning right after the asked number; empty when there is none.
    pub events: Vec<Event>,
    /// The whole stream's bounds at that moment.
    pub state: StreamState,
}

/// The bounds of a user's stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamState {
    /// The last number given out; 0 when there is none.
    pub last: Seq,
    /// Events up to this number have been deleted by retention; 0 when none.
    pub trimmed: Seq,
}

impl StreamState {
    /// True when every event after `after` is still there.
    pub fn covers(&self, after: Seq) -> bool {
        after >= self.trimmed && after <= self.last
    }
}

/// What a conversation actor knows of its conversation without loading it whole.
#[derive(Clone, Debug)]
pub struct ConversationHead {
    pub id: ConversationId,
    pub user_id: UserId,
    pub account_id: AccountId,
    pub platform: PlatformId,
    pub external_id: ExternalId,
}

/// Outbox entries that were read.
#[derive(Clone, Debug, Default)]
pub struct OutboxPage {
    /// Those that still wait or are being sent.
    pub entries: Vec<OutboxEntry>,
    /// Those that cannot be opened or understood, and why. They stay as they are, so that a key that comes later opens them.
    pub unreadable: Vec<(OutboxId, StoreError)>,
}

/// A delivery that could not be mapped: kept sealed, for a person to look at.
#[derive(Clone, Debug)]
pub struct QuarantinedDelivery {
    pub user_id: UserId,
    pub account_id: AccountId,
    pub reason: String,
    pub body: bytes::Bytes,
}

/// An account that a person has just logged in to.
#[derive(Clone, Debug)]
pub struct NewLink {
    pub user_id: UserId,
    pub platform: PlatformId,
    /// The account's id on the platform.
    pub external_id: ExternalId,
    pub name: Option<String>,
    pub memory: LinkMemory,
}

/// Storage.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Commits a batch in one transaction. On success every append has its own answer, in order: refused ones left no
    /// trace. On an error nothing of the batch is stored (or, for [`StoreError::Unknown`], perhaps all of it).
    async fn commit(&self, batch: Vec<Append>) -> Result<Vec<Result<Appended, AppendError>>, StoreError>;

    /// Reads parts of several users' streams with one statement. The answers are in the order of the questions. A page ends
    /// before an event that cannot be read; where that is the first, the answer is [`StoreError::Failed`], now and ever.
    async fn read_streams(&self, reads: &[StreamRead]) -> Result<Vec<Result<StreamPage, StoreError>>, StoreError>;

    /// Unread messages of each platform of the user's active accounts, zeros included.
    async fn unread_counts(&self, user_id: UserId) -> Result<Vec<(PlatformId, i64)>, StoreError>;

    /// The account with its credentials opened, also when it is disconnected.
    async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError>;

    /// The conversation's owner and names.
    async fn conversation_head(&self, id: ConversationId) -> Result<Option<ConversationHead>, StoreError>;

    /// The id of the account's conversation with this chat, if there is one.
    async fn conversation_id(
        &self,
        account_id: AccountId,
        chat: &ExternalId,
    ) -> Result<Option<ConversationId>, StoreError>;

    /// The ids of all outbox entries in state `queued` or `sending`, ascending.
    async fn pending_outbox(&self) -> Result<Vec<OutboxId>, StoreError>;

    /// Those of these outbox entries that are in state `queued` or `sending`.
    async fn outbox(&self, ids: &[OutboxId]) -> Result<OutboxPage, StoreError>;

    /// Keeps a delivery that could not be mapped, its body sealed.
    async fn quarantine(&self, delivery: QuarantinedDelivery) -> Result<(), StoreError>;

    /// Deletes what has outlived its retention: old events, parked events, idempotency keys, expired tokens, OAuth
    /// states, usage logs. Returns the number of rows.
    async fn retain(&self) -> Result<u64, StoreError>;

    /// Renews the leases that `owner` holds, and takes those of active accounts of these platforms that nobody holds any
    /// more, in one statement. Returns all that it holds now, for the next `length`. Accounts that wait for their person are
    /// left out.
    async fn lease_accounts(
        &self,
        owner: Uuid,
        platforms: &[PlatformId],
        length: Duration,
    ) -> Result<Vec<Lease>, StoreError>;

    /// Gives up what `owner` holds, so that another hub need not wait: all, or one account's.
    async fn release_leases(&self, owner: Uuid, only: Option<AccountId>) -> Result<(), StoreError>;

    /// What the account's link remembers, opened.
    async fn link_memory(&self, account_id: AccountId) -> Result<LinkMemory, StoreError>;

    /// Erases what the account's link remembers.
    async fn forget_link(&self, account_id: AccountId) -> Result<(), StoreError>;

    /// Links an account whose login has succeeded. One that the user had linked before keeps its id, its conversations
    /// and whatever the new memory does not name.
    async fn link_account(&self, link: NewLink) -> Result<Account, StoreError>;

    /// The chats of the account in which these messages are known, as (message, chat).
    async fn chats_of(
        &self,
        account_id: AccountId,
        messages: &[ExternalId],
    ) -> Result<Vec<(ExternalId, ExternalId)>, StoreError>;

    /// One life of the database; see [`crate::domain::StreamPosition`].
    fn epoch(&self) -> &str;
}
