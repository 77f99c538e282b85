//! The sealed columns: which they are, and how values get in and out of them.

use hub_actors::ports::StoreError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::vault::{Place, SealError, Vault};

/// A column whose values are sealed.
#[derive(Clone, Copy, Debug)]
pub(super) struct SealedColumn {
    pub table: &'static str,
    pub column: &'static str,
}

const fn sealed(table: &'static str, column: &'static str) -> SealedColumn {
    SealedColumn { table, column }
}

pub(super) const CREDENTIALS: SealedColumn = sealed("connected_accounts", "credentials");
pub(super) const CONTENT: SealedColumn = sealed("messages", "content");
pub(super) const MEDIA_URL: SealedColumn = sealed("messages", "media_url");
pub(super) const ATTACHMENTS: SealedColumn = sealed("messages", "attachments");
pub(super) const LINK_MEMORY: SealedColumn = sealed("link_memory", "value");
pub(super) const EDIT: SealedColumn = sealed("message_edits", "content");
pub(super) const PARKED: SealedColumn = sealed("parked_events", "payload");
pub(super) const EVENT: SealedColumn = sealed("events", "payload");
pub(super) const OUTBOX: SealedColumn = sealed("outbox", "payload");
pub(super) const QUARANTINE: SealedColumn = sealed("quarantine", "body");
pub(super) const ANSWER: SealedColumn = sealed("idempotency_keys", "answer");
pub(super) const REPLACEMENT: SealedColumn = sealed("refresh_tokens", "replacement");

impl SealedColumn {
    fn place<'row>(&self, row: &'row [u8]) -> Place<'row> {
        Place {
            table: self.table,
            column: self.column,
            row,
        }
    }

    /// A key that another hub has made is loaded within seconds, so the value is not to blame.
    fn explain(&self, error: SealError) -> StoreError {
        let text = format!("{}.{}: {error}", self.table, self.column);
        match error {
            SealError::UnknownKey(_) | SealError::NoKey => StoreError::Unavailable(text),
            _ => StoreError::Failed(text),
        }
    }

    /// Seals a value for the row of that key.
    pub fn seal(&self, vault: &Vault, row: &[u8], plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        vault.seal(self.place(row), plain).map_err(|error| self.explain(error))
    }

    /// Opens the value of the row of that key.
    pub fn open(&self, vault: &Vault, row: &[u8], sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        vault.open(self.place(row), sealed).map_err(|error| self.explain(error))
    }

    /// Opens a value that is text.
    pub fn open_text(&self, vault: &Vault, row: &[u8], sealed: &[u8]) -> Result<String, StoreError> {
        String::from_utf8(self.open(vault, row, sealed)?)
            .map_err(|_| StoreError::Failed(format!("{}.{}: not UTF-8", self.table, self.column)))
    }

    /// Seals a value as JSON.
    pub fn seal_json(&self, vault: &Vault, row: &[u8], value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
        let plain = serde_json::to_vec(value)
            .map_err(|error| StoreError::Failed(format!("{}.{}: {error}", self.table, self.column)))?;
        self.seal(vault, row, &plain)
    }

    /// Opens a value that is JSON.
    pub fn open_json<T: DeserializeOwned>(&self, vault: &Vault, row: &[u8], sealed: &[u8]) -> Result<T, StoreError> {
        // serde_json quotes the offending value in some of its messages, so its message stays out of the error.
        serde_json::from_slice(&self.open(vault, row, sealed)?).map_err(|error| {
            let category = error.classify();
            StoreError::Failed(format!("{}.{}: JSON {category:?} error", self.table, self.column))
        })
    }
}

/// The row key of an edit: its message's UUID, then the time in microseconds since 1970, big-endian.
pub(super) fn edit_row(message_id: Uuid, at: OffsetDateTime) -> [u8; 24] {
    let microseconds = i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000)).unwrap_or(i64::MAX);
    let mut row = [0; 24];
    row[..16].copy_from_slice(message_id.as_bytes());
    row[16..].copy_from_slice(&microseconds.to_be_bytes());
    row
}

/// The row key of an idempotency key: its user's UUID, then the key's text.
pub(super) fn idempotency_row(user_id: Uuid, key: &str) -> Vec<u8> {
    [user_id.as_bytes(), key.as_bytes()].concat()
}

/// The row key of a remembered value: its account's UUID, then its name.
pub(super) fn memory_row(account_id: Uuid, name: &str) -> Vec<u8> {
    [account_id.as_bytes(), name.as_bytes()].concat()
}
