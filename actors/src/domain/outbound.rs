//! What must still go out to a platform.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::message::MessageKind;
use crate::ids::{AccountId, ConversationId, ExternalId, MessageId, OutboxId, Seq, UserId};

/// What is asked of the platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutboundAction {
    Send {
        text: String,
        kind: MessageKind,
        media_url: Option<String>,
        reply_to: Option<ExternalId>,
    },
    Edit {
        message: ExternalId,
        text: String,
    },
    Delete {
        message: ExternalId,
    },
    React {
        message: ExternalId,
        emoji: String,
        is_active: bool,
    },
    /// The person has read the conversation up to this message.
    Read {
        message: ExternalId,
    },
}

impl OutboundAction {
    /// The message that the action changes once the platform has taken it.
    pub fn changed(&self) -> Option<&ExternalId> {
        match self {
            Self::Edit { message, .. } | Self::Delete { message } | Self::React { message, .. } => Some(message),
            Self::Send { .. } | Self::Read { .. } => None,
        }
    }
}

/// Where an outbox entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboxState {
    /// Waiting for its turn or for its next try.
    Queued,
    /// Stored before the first byte leaves, where the platform has no key that makes a repeat safe.
    Sending,
    /// Failed, or of unknown fate: kept, so that a retry by the person uses the same key.
    Stopped,
}

impl OutboxState {
    const ALL: [Self; 3] = [Self::Queued, Self::Sending, Self::Stopped];

    /// The name used in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Stopped => "stopped",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// One thing that must still go out. Its id is chosen before the first try and is the key that the platform dedups by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEntry {
    pub id: OutboxId,
    pub user_id: UserId,
    pub account_id: AccountId,
    pub conversation_id: ConversationId,
    /// The chat's id on the platform.
    pub conversation_external_id: ExternalId,
    /// The message whose status follows this entry; none for a read mark.
    pub message_id: Option<MessageId>,
    pub action: OutboundAction,
    pub state: OutboxState,
    /// Tries made so far.
    pub attempts: i32,
    /// Not before this time.
    pub due_at: OffsetDateTime,
    /// The stream number under which it was accepted: the order in which entries of a conversation leave.
    pub order: Seq,
    pub created_at: OffsetDateTime,
}

/// The platform took it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The id that the platform gave it, where it tells.
    pub external_id: Option<ExternalId>,
}
