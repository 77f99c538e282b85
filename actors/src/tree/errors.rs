//! What became of a delivery, and why a command or a delivery has no effect.

use crate::domain::Refusal;
use crate::mailbox::CallError;
use crate::ports::AppendError;

/// Why a command has no effect.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommandError {
    /// The rules refuse it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The conversation's platform does not take a text of that length.
    #[error("content: this platform takes at most {limit} characters")]
    TextTooLong {
        /// In characters.
        limit: usize,
    },
    /// A queue is full: try again shortly. Nothing was stored.
    #[error("the hub is busy; try again in a moment")]
    Busy,
    /// Storage, or the part of the hub that does this, is away. Safe to repeat under the same Idempotency-Key.
    #[error("{0}")]
    Unavailable(String),
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// All it carries is committed; `events` of it were new.
    Committed { events: usize },
    /// It could not be understood, and is kept sealed for a person to look at.
    Quarantined,
}

/// Why a delivery was not taken. Some of it may be stored, nothing of it is promised to be; the platform should come again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliverError {
    #[error("there is no such account")]
    NoAccount,
    #[error("{0}")]
    Unsigned(String),
    #[error("{0}")]
    Stale(String),
    #[error("the hub is busy; try again in a moment")]
    Busy,
    #[error("{0}")]
    Unavailable(String),
    /// The actor that worked on it crashed. [`Tree::deliver`] tries again and never returns this.
    #[error("the part of the hub that does this is restarting")]
    Crashed,
}

impl From<CallError> for CommandError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Full => Self::Busy,
            CallError::Gone | CallError::GaveUp | CallError::TimedOut => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<AppendError> for CommandError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Refused(refusal) => Self::Refused(refusal),
            AppendError::Busy => Self::Busy,
            AppendError::Store(_) | AppendError::Poison(_) => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<CallError> for DeliverError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Full => Self::Busy,
            CallError::Gone => Self::Crashed,
            CallError::GaveUp | CallError::TimedOut => Self::Unavailable(error.to_string()),
        }
    }
}
