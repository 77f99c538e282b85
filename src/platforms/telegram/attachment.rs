//! What a message carries, as the hub knows it, and the note by which the file is found again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use grammers_session::types::PeerId;
use grammers_tl_types::{self as tl, enums};
use hub_actors::domain::{Attachment, AttachmentKind, MessageKind};
use serde::{Deserialize, Serialize};

use super::thumbnail;

/// Where Telegram keeps a file: the JSON behind [`Attachment::locator`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Locator {
    pub(super) kind: FileKind,
    pub(super) id: i64,
    pub(super) access_hash: i64,
    /// Base64. Expires; then the message is asked for a new one.
    pub(super) reference: String,
    pub(super) center: i32,
    /// Which size of a photo; empty for the file itself.
    pub(super) size_name: String,
    /// In bytes.
    pub(super) size: u64,
    /// The dialog and the message that carry it.
    pub(super) dialog: i64,
    pub(super) message: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FileKind {
    Photo,
    Document,
}

impl Locator {
    /// The place, as `upload.getFile` wants it.
    pub(super) fn location(&self) -> enums::InputFileLocation {
        // A reference that cannot be read is an expired one: Telegram says so, and a new one is fetched.
        let file_reference = STANDARD.decode(&self.reference).unwrap_or_default();
        match self.kind {
            FileKind::Photo => tl::types::InputPhotoFileLocation {
                id: self.id,
                access_hash: self.access_hash,
                file_reference,
                thumb_size: self.size_name.clone(),
            }
            .into(),
            FileKind::Document => tl::types::InputDocumentFileLocation {
                id: self.id,
                access_hash: self.access_hash,
                file_reference,
                thumb_size: self.size_name.clone(),
            }
            .into(),
        }
    }
}

/// The file that a message carries, and what kind of message that makes it; none where it carries none.
pub(super) fn attachment(
    media: &enums::MessageMedia,
    dialog: PeerId,
    message: i32,
) -> Option<(MessageKind, Attachment)> {
    let dialog = dialog.bot_api_dialog_id()?;
    match media {
        enums::MessageMedia::Photo(media) => {
            let Some(enums::Photo::Photo(photo)) = &media.photo else {
                return None;
            };
            Some((MessageKind::Image, of_photo(photo, dialog, message)?))
        }
        enums::MessageMedia::Document(media) => {
            let Some(enums::Document::Document(document)) = &media.document else {
                return None;
            };
            let attachment = of_document(document, dialog, message);
            let kind = match attachment.kind {
                AttachmentKind::Video => MessageKind::Video,
                AttachmentKind::Photo => MessageKind::Image,
                _ => MessageKind::File,
            };
            Some((kind, attachment))
        }
        _ => None,
    }
}

/// Name, width, height and bytes of the largest size.
fn largest(sizes: &[enums::PhotoSize]) -> Option<(&str, i32, i32, i32)> {
    let sized = sizes.iter().filter_map(|size| match size {
        enums::PhotoSize::Size(size) => Some((size.r#type.as_str(), size.w, size.h, size.size)),
        enums::PhotoSize::Progressive(size) => {
            Some((size.r#type.as_str(), size.w, size.h, size.sizes.last().copied()?))
        }
        _ => None,
    });
    sized.max_by_key(|(_, width, height, _)| i64::from(*width) * i64::from(*height))
}

fn of_photo(photo: &tl::types::Photo, dialog: i64, message: i32) -> Option<Attachment> {
    let (size_name, width, height, size) = largest(&photo.sizes)?;
    let locator = Locator {
        kind: FileKind::Photo,
        id: photo.id,
        access_hash: photo.access_hash,
        reference: STANDARD.encode(&photo.file_reference),
        center: photo.dc_id,
        size_name: size_name.to_owned(),
        size: u64::try_from(size).unwrap_or(0),
        dialog,
        message,
    };
    Some(Attachment {
        kind: AttachmentKind::Photo,
        mime: Some("image/jpeg".to_owned()),
        size: Some(locator.size),
        width: u32::try_from(width).ok(),
        height: u32::try_from(height).ok(),
        thumbnail: thumbnail::pick(&photo.sizes),
        locator: written(&locator),
        ..Attachment::default()
    })
}

fn of_document(document: &tl::types::Document, dialog: i64, message: i32) -> Attachment {
    let locator = Locator {
        kind: FileKind::Document,
        id: document.id,
        access_hash: document.access_hash,
        reference: STANDARD.encode(&document.file_reference),
        center: document.dc_id,
        size_name: String::new(),
        size: u64::try_from(document.size).unwrap_or(0),
        dialog,
        message,
    };
    let mut attachment = Attachment {
        kind: AttachmentKind::Document,
        mime: Some(document.mime_type.clone()).filter(|mime| !mime.is_empty()),
        size: Some(locator.size),
        thumbnail: document.thumbs.as_deref().and_then(thumbnail::pick),
        locator: written(&locator),
        ..Attachment::default()
    };
    for attribute in &document.attributes {
        describe(&mut attachment, attribute);
    }
    attachment
}

/// Takes over one attribute. A sticker is a sticker whatever else is said of it.
fn describe(attachment: &mut Attachment, attribute: &enums::DocumentAttribute) {
    let is_sticker = attachment.kind == AttachmentKind::Sticker;
    match attribute {
        enums::DocumentAttribute::Filename(file) => attachment.name = Some(file.file_name.clone()),
        enums::DocumentAttribute::ImageSize(size) => {
            attachment.width = u32::try_from(size.w).ok();
            attachment.height = u32::try_from(size.h).ok();
        }
        enums::DocumentAttribute::Video(video) => {
            attachment.width = u32::try_from(video.w).ok();
            attachment.height = u32::try_from(video.h).ok();
            attachment.duration = Some(whole_seconds(video.duration));
            if !is_sticker {
                attachment.kind = AttachmentKind::Video;
            }
        }
        enums::DocumentAttribute::Audio(audio) => {
            attachment.duration = u32::try_from(audio.duration).ok();
            attachment.kind = if audio.voice {
                AttachmentKind::Voice
            } else {
                AttachmentKind::Audio
            };
        }
        enums::DocumentAttribute::Sticker(_) | enums::DocumentAttribute::CustomEmoji(_) => {
            attachment.kind = AttachmentKind::Sticker;
        }
        enums::DocumentAttribute::Animated | enums::DocumentAttribute::HasStickers => {}
    }
}

/// Videos count in fractions of a second.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is clamped before, and a cast of a number that is none gives zero"
)]
fn whole_seconds(duration: f64) -> u32 {
    duration.clamp(0.0, f64::from(u32::MAX)).round() as u32
}

fn written(locator: &Locator) -> String {
    serde_json::to_string(locator).unwrap_or_default()
}
