//! A message and what can happen to it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::ids::{ConversationId, ExternalId, MessageId};

/// What a message carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    #[default]
    Text,
    Image,
    Video,
    File,
    /// Something that the platform reports rather than a person says: joined, pinned, renamed.
    System,
}

impl MessageKind {
    const ALL: [Self; 5] = [Self::Text, Self::Image, Self::Video, Self::File, Self::System];

    /// The name used in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "image",
            Self::Video => "video",
            Self::File => "file",
            Self::System => "system",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// How far a message has come. Outgoing messages climb from `Queued` to `Read`; incoming ones are `Received`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// Came in from the platform.
    Received,
    /// Committed, waiting for its turn.
    Queued,
    /// Being handed to the platform.
    Sending,
    /// The answer was lost and the platform has no key to ask with: it may or may not have been sent.
    Unknown,
    /// Refused by the platform, or given up.
    Failed,
    /// Taken by the platform.
    Sent,
    /// On the recipient's device.
    Delivered,
    /// Seen by the recipient.
    Read,
}

impl DeliveryStatus {
    const ALL: [Self; 8] = [
        Self::Received,
        Self::Queued,
        Self::Sending,
        Self::Unknown,
        Self::Failed,
        Self::Sent,
        Self::Delivered,
        Self::Read,
    ];

    /// The name used in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Evidence only ever climbs: a later `delivered` never takes back a `read`, and proof of delivery settles
    /// `unknown` and `failed`.
    pub fn rank(self) -> u8 {
        match self {
            Self::Received | Self::Queued => 0,
            Self::Sending => 1,
            Self::Unknown | Self::Failed => 2,
            Self::Sent => 3,
            Self::Delivered => 4,
            Self::Read => 5,
        }
    }

    /// True while the message may still go out by itself.
    pub fn is_on_its_way(self) -> bool {
        matches!(self, Self::Queued | Self::Sending)
    }
}

/// One person's reaction to a message. A removed one is kept, so that an older "added" that comes late stays removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaction {
    pub actor_id: String,
    pub emoji: String,
    pub is_active: bool,
    pub at: OffsetDateTime,
}

/// One edit of a message: the text it got, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    pub at: OffsetDateTime,
    pub content: String,
}

/// A file that belongs to a message. The bytes stay on the platform until somebody looks at them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub kind: AttachmentKind,
    pub mime: Option<String>,
    pub name: Option<String>,
    /// In bytes.
    pub size: Option<u64>,
    /// Of sound and video, in seconds.
    pub duration: Option<u32>,
    /// In pixels.
    pub width: Option<u32>,
    /// In pixels.
    pub height: Option<u32>,
    /// A small JPEG, at most 20 KiB.
    pub thumbnail: Option<Vec<u8>>,
    /// Where the platform keeps it. Only its adapter understands it; never given to a client.
    pub locator: String,
}

/// What a file is to a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachmentKind {
    Photo,
    Video,
    Voice,
    Audio,
    Sticker,
    #[default]
    Document,
}

/// A message of a conversation, its content opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub id: MessageId,
    pub conversation_id: ConversationId,
    /// The message's id on the platform; none until the platform has taken an outgoing one.
    pub external_id: Option<ExternalId>,
    pub sender_id: String,
    pub sender_name: Option<String>,
    pub content: String,
    pub kind: MessageKind,
    pub media_url: Option<String>,
    /// Added after the first release, so older events lack it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// The platform's id of the message that this one answers.
    pub reply_to: Option<ExternalId>,
    pub is_outgoing: bool,
    pub is_read: bool,
    pub status: DeliveryStatus,
    /// Why it failed or is unknown, in words for the person.
    pub status_reason: Option<String>,
    pub reactions: Vec<Reaction>,
    pub sent_at: OffsetDateTime,
    pub delivered_at: Option<OffsetDateTime>,
    pub read_at: Option<OffsetDateTime>,
    pub edited_at: Option<OffsetDateTime>,
    pub deleted_at: Option<OffsetDateTime>,
    pub created_at: OffsetDateTime,
    /// True for what was sent through this hub; false for what a platform told of, also the person's own. Added later, so
    /// older events lack it.
    #[serde(default)]
    pub is_sent_here: bool,
}
