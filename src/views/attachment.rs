//! The files of a message as clients see them: what they are, and where to fetch them.

use std::fmt;
use std::str::FromStr;

use hub_actors::MessageId;
use hub_actors::domain::{Attachment, AttachmentKind, Message};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// A file of a message.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Attachment)]
pub struct AttachmentView<'a> {
    #[schema(value_type = String)]
    id: AttachmentId,
    /// Where it can be fetched, with the same token as every other request.
    #[schema(value_type = String)]
    url: Address,
    /// `photo`, `video`, `voice`, `audio`, `sticker` or `document`.
    kind: &'static str,
    mime: Option<&'a str>,
    name: Option<&'a str>,
    /// In bytes.
    size: Option<u64>,
    /// Of sound and video, in seconds.
    duration: Option<u32>,
    /// In pixels.
    width: Option<u32>,
    /// In pixels.
    height: Option<u32>,
    /// A small JPEG as a data address.
    #[schema(value_type = Option<String>)]
    thumbnail: Option<Thumbnail<'a>>,
}

/// Names a file: its message and its place in it, written `<message id>.<place>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachmentId {
    pub message_id: MessageId,
    pub place: usize,
}

impl fmt::Display for AttachmentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.message_id, self.place)
    }
}

impl FromStr for AttachmentId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (message_id, place) = text.split_once('.').ok_or(())?;
        let message_id = message_id.parse().map_err(|_| ())?;
        let place: usize = place.parse().map_err(|_| ())?;
        let id = Self { message_id, place };
        // Only the form that the hub prints.
        if id.to_string() == text { Ok(id) } else { Err(()) }
    }
}

impl Serialize for AttachmentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Clone, Copy, Debug)]
struct Address(AttachmentId);

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("/api/media/{}", self.0))
    }
}

#[derive(Clone, Copy, Debug)]
struct Thumbnail<'a>(&'a [u8]);

impl Serialize for Thumbnail<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::display::Base64Display;
        use base64::engine::general_purpose::STANDARD;
        let text = Base64Display::new(self.0, &STANDARD);
        serializer.collect_str(&format_args!("data:image/jpeg;base64,{text}"))
    }
}

/// All files of a message, as a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attachments<'a>(pub &'a Message);

impl Serialize for Attachments<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let message_id = self.0.id;
        let attachments = self.0.attachments.iter().enumerate();
        serializer.collect_seq(attachments.map(|(place, file)| view(AttachmentId { message_id, place }, file)))
    }
}

/// Where a message's only or first file is: the address that came with it, or its place in this hub.
#[derive(Clone, Copy, Debug)]
pub(super) enum MediaUrl<'a> {
    Given(&'a str),
    Hub(MessageId),
}

impl<'a> MediaUrl<'a> {
    pub(super) fn of(message: &'a Message) -> Option<Self> {
        match &message.media_url {
            Some(url) => Some(Self::Given(url)),
            None => (!message.attachments.is_empty()).then_some(Self::Hub(message.id)),
        }
    }
}

impl Serialize for MediaUrl<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Given(url) => serializer.serialize_str(url),
            Self::Hub(message_id) => Address(AttachmentId { message_id, place: 0 }).serialize(serializer),
        }
    }
}

fn view(id: AttachmentId, file: &Attachment) -> AttachmentView<'_> {
    AttachmentView {
        id,
        url: Address(id),
        kind: match file.kind {
            AttachmentKind::Photo => "photo",
            AttachmentKind::Video => "video",
            AttachmentKind::Voice => "voice",
            AttachmentKind::Audio => "audio",
            AttachmentKind::Sticker => "sticker",
            AttachmentKind::Document => "document",
        },
        mime: file.mime.as_deref(),
        name: file.name.as_deref(),
        size: file.size,
        duration: file.duration,
        width: file.width,
        height: file.height,
        thumbnail: file.thumbnail.as_deref().map(Thumbnail),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_file_has_its_place_in_the_hub_and_never_shows_its_locator() {
        let mut message = samples::message();
        message.attachments = vec![Attachment {
            kind: AttachmentKind::Voice,
            locator: "canary".to_owned(),
            thumbnail: Some(vec![0xff, 0xd8]),
            ..Attachment::default()
        }];
        let json = serde_json::to_value(super::super::message(&message)).unwrap();
        let url = format!("/api/media/{}.0", message.id);
        assert_eq!(json["mediaUrl"], url.as_str());
        assert_eq!(json["attachments"][0]["url"], url.as_str());
        assert_eq!(json["attachments"][0]["thumbnail"], "data:image/jpeg;base64,/9g=");
        assert!(!json.to_string().contains("canary"));
        message.media_url = Some("https://example.com/a".to_owned());
        let json = serde_json::to_value(super::super::message(&message)).unwrap();
        assert_eq!(json["media_url"], "https://example.com/a");
    }
}
