//! Messages to write, and what may happen to them.

use serde::{Deserialize, Serialize};

use super::Peer;

/// A file to hang on a message. The bytes are given, or made from `size` and `seed`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewMedia {
    /// What it is.
    pub kind: MediaKind,
    /// MIME type; a fitting one if absent.
    pub mime: Option<String>,
    /// File name.
    pub name: Option<String>,
    /// Bytes as base64.
    pub base64: Option<String>,
    /// Or: this many made-up bytes.
    pub size: usize,
    /// Makes made-up bytes differ.
    pub seed: u64,
    /// Width in pixels.
    pub width: Option<i32>,
    /// Height in pixels.
    pub height: Option<i32>,
    /// Seconds of a voice message or video.
    pub duration: Option<i32>,
    /// DC that holds the file; elsewhere `303 FILE_MIGRATE_n`.
    pub dc: Option<i32>,
}

/// Kinds of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    /// A picture in Telegram's own sizes.
    #[default]
    Photo,
    /// Any file.
    Document,
    /// A voice message.
    Voice,
    /// A video.
    Video,
}

/// A message that is an event rather than a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// A group was made.
    Created(String),
    /// The title changed.
    Title(String),
    /// People were added, or joined by themselves.
    Joined(Vec<i64>),
    /// Somebody left or was removed.
    Left(i64),
    /// A message was pinned (the message replied to).
    Pinned,
    /// A contact joined Telegram.
    SignedUp,
}

/// A formatted part of a text, in UTF-16 units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewEntity {
    /// `bold`, `italic`, `code`, `pre`, `strike`, `url` or `link`.
    pub kind: String,
    /// Where it starts.
    pub offset: i32,
    /// How long it is.
    pub length: i32,
    /// Target of a `link`.
    #[serde(default)]
    pub url: String,
}

/// A message as somebody other than the client under test writes it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewMessage {
    /// The account whose private chat this is; not needed for groups and channels.
    pub account: Option<i64>,
    /// The chat.
    pub peer: Option<Peer>,
    /// Who writes. In a private chat the other person, unless this says the account itself (a message
    /// from its phone). In a channel nobody, unless given.
    pub from: Option<i64>,
    /// The text.
    pub text: String,
    /// Formatted parts.
    pub entities: Vec<NewEntity>,
    /// Message replied to, by the id it has for `account` (or in the channel).
    pub reply_to: Option<i32>,
    /// Seconds since 1970; now if absent.
    pub date: Option<i32>,
    /// A file.
    pub media: Option<NewMedia>,
    /// An event instead of a text.
    pub service: Option<Service>,
    /// Store it, but do not push it: the client finds out by a gap.
    pub lost: bool,
}

/// Names one message: by the account that sees it, or by its channel.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageRef {
    /// The account; not needed for channels.
    #[serde(default)]
    pub account: Option<i64>,
    /// The chat.
    pub peer: Peer,
    /// The id it has there.
    pub id: i32,
}

/// Many messages at once, stored without pushes: the past of a chat.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewHistory {
    /// The account; not needed for groups and channels.
    #[serde(default)]
    pub account: Option<i64>,
    /// The chat.
    pub peer: Peer,
    /// Who writes; see [`NewMessage::from`].
    #[serde(default)]
    pub from: Option<i64>,
    /// How many.
    pub count: u32,
    /// Texts are this and a number from 1.
    #[serde(default = "message_text")]
    pub text: String,
    /// Date of the first; every next one is a second later. If absent they end now.
    #[serde(default)]
    pub first_date: Option<i32>,
}

fn message_text() -> String {
    "message".into()
}

/// New content of a message.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// The message.
    pub message: MessageRef,
    /// Its new text.
    pub text: String,
    /// Store it, but do not push it.
    #[serde(default)]
    pub lost: bool,
}

/// Messages to delete, for everybody.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// The account whose ids these are; not needed for channels.
    #[serde(default)]
    pub account: Option<i64>,
    /// The chat.
    pub peer: Peer,
    /// The ids.
    pub ids: Vec<i32>,
    /// Delete them, but do not push it.
    #[serde(default)]
    pub lost: bool,
}

/// A reaction by somebody.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct React {
    /// The message.
    pub message: MessageRef,
    /// Who reacts.
    pub user: i64,
    /// The emoji; `None` takes the reaction back.
    #[serde(default)]
    pub emoji: Option<String>,
}

/// Somebody types.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Typing {
    /// The account that sees it; not needed for groups and channels.
    #[serde(default)]
    pub account: Option<i64>,
    /// The chat.
    pub peer: Peer,
    /// Who types; in a private chat the peer if absent.
    #[serde(default)]
    pub user: Option<i64>,
    /// `typing`, `cancel`, `record_voice` or `upload_photo`.
    #[serde(default)]
    pub action: TypingAction,
}

/// What somebody is doing in a chat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TypingAction {
    /// Writing a text.
    #[default]
    Typing,
    /// Stopped.
    Cancel,
    /// Recording a voice message.
    RecordVoice,
    /// Uploading a photo.
    UploadPhoto,
}

/// Messages were read.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// The account.
    pub account: i64,
    /// The chat.
    pub peer: Peer,
    /// Up to this id; 0 = everything.
    #[serde(default)]
    pub max_id: i32,
    /// `inbox`: the account read it (on its phone). `outbox`: the others read what the account wrote.
    pub side: ReadSide,
}

/// Whose messages were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadSide {
    /// Those of others, by the account.
    Inbox,
    /// Those of the account, by others.
    Outbox,
}
