//! What a platform reports, in the hub's words.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::conversation::ConversationProfile;
use super::message::{Attachment, DeliveryStatus, MessageKind};
use crate::ids::ExternalId;

/// One thing that happened in one chat of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundEvent {
    /// The chat's id on the platform.
    pub conversation: ExternalId,
    /// What the platform tells about the chat in the same breath.
    pub profile: ConversationProfile,
    pub kind: InboundKind,
}

/// What happened. `at` is the platform's time where it gives one, else when it reached the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum InboundKind {
    /// A message arrived, or the person's own message was sent from another device.
    Message(Box<InboundMessage>),
    Edited {
        message: ExternalId,
        text: String,
        at: OffsetDateTime,
    },
    Deleted {
        message: ExternalId,
        at: OffsetDateTime,
    },
    Reaction {
        message: ExternalId,
        actor_id: String,
        emoji: String,
        is_active: bool,
        at: OffsetDateTime,
    },
    /// An own message was `Delivered`, `Read` or `Failed`.
    Receipt {
        message: ExternalId,
        status: DeliveryStatus,
        reason: Option<String>,
        at: OffsetDateTime,
    },
    /// Everything up to this message was seen: what came in, by the person on another device; with `by_peer`, what the
    /// person sent, by the other side.
    SeenUpTo {
        message: ExternalId,
        by_peer: bool,
        at: OffsetDateTime,
    },
    /// Somebody is writing. Shown to who is online, never stored.
    Typing {
        actor_id: String,
        actor_name: Option<String>,
    },
    /// Only the chat's profile changed.
    Profile,
}

/// A message as the platform delivered it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundMessage {
    pub external_id: ExternalId,
    pub sender_id: String,
    pub sender_name: Option<String>,
    pub text: String,
    pub kind: MessageKind,
    pub media_url: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    pub reply_to: Option<ExternalId>,
    /// True for the person's own message.
    pub is_outgoing: bool,
    /// True when the platform says that the person has seen it already.
    pub is_read: bool,
    /// True for a message from before the account was linked, or from before the hub's oldest: shown, not announced.
    #[serde(default)]
    pub is_history: bool,
    pub sent_at: OffsetDateTime,
}

impl InboundKind {
    /// The message that the event is about.
    pub fn message(&self) -> Option<&ExternalId> {
        match self {
            Self::Message(message) => Some(&message.external_id),
            Self::Edited { message, .. }
            | Self::Deleted { message, .. }
            | Self::Reaction { message, .. }
            | Self::Receipt { message, .. }
            | Self::SeenUpTo { message, .. } => Some(message),
            Self::Typing { .. } | Self::Profile => None,
        }
    }
}
