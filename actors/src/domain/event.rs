//! The steps of a user's stream.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::account::Account;
use super::conversation::Conversation;
use super::message::{Message, Reaction};
use crate::ids::{ConversationId, MessageId, Seq, UserId};

/// One committed step of a user's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub user_id: UserId,
    pub seq: Seq,
    pub kind: EventKind,
    pub at: OffsetDateTime,
}

/// What changed. Each variant carries what a client needs to follow without asking again. Stored as JSON under the
/// variant's name: with a tag inside, each read would take the whole event apart twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A message came in, or an own message was sent from another device.
    MessageReceived {
        message: Box<Message>,
        conversation: Box<Conversation>,
        /// From before the account was linked, or older than what the hub had: to be shown, not announced.
        #[serde(default)]
        is_history: bool,
    },
    /// A message was accepted by this hub and is queued. `client_id` is the sender's own id for it.
    MessageQueued {
        message: Box<Message>,
        conversation: Box<Conversation>,
        client_id: Option<String>,
    },
    MessageEdited {
        message: Box<Message>,
    },
    MessageDeleted {
        conversation_id: ConversationId,
        message_id: MessageId,
        /// When, in the platform's words: an empty message stays. None: it was the double of another one, and is gone.
        #[serde(default)]
        deleted_at: Option<OffsetDateTime>,
    },
    ReactionAdded {
        conversation_id: ConversationId,
        message_id: MessageId,
        reaction: Reaction,
    },
    ReactionRemoved {
        conversation_id: ConversationId,
        message_id: MessageId,
        reaction: Reaction,
    },
    /// An outgoing message moved on: the whole message, with its new status.
    StatusChanged {
        message: Box<Message>,
    },
    /// The conversation's profile or unread count changed; `read` are the messages that became read.
    ConversationChanged {
        conversation: Box<Conversation>,
        read: Vec<MessageId>,
    },
    AccountChanged {
        account: Box<Account>,
    },
}

impl EventKind {
    /// The name used in the database.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MessageReceived { .. } => "message_received",
            Self::MessageQueued { .. } => "message_queued",
            Self::MessageEdited { .. } => "message_edited",
            Self::MessageDeleted { .. } => "message_deleted",
            Self::ReactionAdded { .. } => "reaction_added",
            Self::ReactionRemoved { .. } => "reaction_removed",
            Self::StatusChanged { .. } => "status_changed",
            Self::ConversationChanged { .. } => "conversation_changed",
            Self::AccountChanged { .. } => "account_changed",
        }
    }

    /// The conversation that the step belongs to.
    pub fn conversation_id(&self) -> Option<ConversationId> {
        match self {
            Self::MessageReceived { conversation, .. }
            | Self::MessageQueued { conversation, .. }
            | Self::ConversationChanged { conversation, .. } => Some(conversation.id),
            Self::MessageEdited { message } | Self::StatusChanged { message } => Some(message.conversation_id),
            Self::MessageDeleted { conversation_id, .. }
            | Self::ReactionAdded { conversation_id, .. }
            | Self::ReactionRemoved { conversation_id, .. } => Some(*conversation_id),
            Self::AccountChanged { .. } => None,
        }
    }

    /// The conversation as it stands after the step, where the step carries it.
    pub fn conversation(&self) -> Option<&Conversation> {
        match self {
            Self::MessageReceived { conversation, .. }
            | Self::MessageQueued { conversation, .. }
            | Self::ConversationChanged { conversation, .. } => Some(conversation),
            _ => None,
        }
    }
}

/// A place in a user's stream, written `<epoch>:<seq>`. The epoch names one life of the database: when a dump was read back
/// it changes, and old positions are refused instead of silently skipping events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPosition {
    pub epoch: String,
    pub seq: Seq,
}

impl fmt::Display for StreamPosition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.epoch, self.seq)
    }
}

/// The text is not `<epoch>:<seq>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stream position is written <epoch>:<seq>, for example k3x9:42")]
pub struct InvalidPosition;

impl FromStr for StreamPosition {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (epoch, seq) = text.split_once(':').ok_or(InvalidPosition)?;
        let well_formed =
            !epoch.is_empty() && epoch.len() <= 32 && epoch.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let digits = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
        if !well_formed || !digits {
            return Err(InvalidPosition);
        }
        let seq = seq.parse().map_err(|_| InvalidPosition)?;
        Ok(Self {
            epoch: epoch.to_owned(),
            seq: Seq(seq),
        })
    }
}
