//! Translates the JSON of a delivery into domain events. A delivery is translated whole or not at all.

use hub_actors::ExternalId;
use hub_actors::domain::{ConversationProfile, DeliveryStatus, InboundEvent, InboundKind, InboundMessage, MessageKind};
use serde_json::Value;
use time::OffsetDateTime;

use super::fields::{FieldError, Fields, Problem};

/// Events taken in one delivery at most.
pub const MAX_EVENTS: usize = 1000;
/// Longest text of a message, in bytes.
pub(super) const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Longest emoji, in bytes: families and flags are long sequences.
const MAX_EMOJI_BYTES: usize = 64;
/// Longest reason of a failure, in bytes.
const MAX_REASON_BYTES: usize = 500;

/// What an event means where it leaves something out.
#[derive(Clone, Copy)]
pub(super) struct Defaults<'a> {
    /// The account's own id, the sender of its own messages.
    pub(super) own_id: &'a ExternalId,
    /// The time that the sender signed.
    pub(super) signed_at: OffsetDateTime,
    /// The hub's time.
    pub(super) received_at: OffsetDateTime,
}

/// Why a delivery cannot be translated. Says where, and never repeats content.
#[derive(Debug, thiserror::Error)]
pub(super) enum MapError {
    #[error("the body is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("the body must be an event object or an array of event objects")]
    NotEvents,
    #[error("the body holds {0} events, and at most {MAX_EVENTS} are taken in one delivery")]
    TooMany(usize),
    #[error("event {index}: must be an object")]
    NotObject { index: usize },
    #[error("event {index}: {error}")]
    Field { index: usize, error: FieldError },
}

/// The events of a delivery's body, in their order.
pub(super) fn events(body: &[u8], defaults: &Defaults<'_>) -> Result<Vec<InboundEvent>, MapError> {
    let body: Value = serde_json::from_slice(body)?;
    let events = match &body {
        Value::Object(_) => std::slice::from_ref(&body),
        Value::Array(events) => events.as_slice(),
        _ => return Err(MapError::NotEvents),
    };
    if events.len() > MAX_EVENTS {
        return Err(MapError::TooMany(events.len()));
    }
    let translate = |(index, value): (usize, &Value)| {
        let fields = value.as_object().map(Fields).ok_or(MapError::NotObject { index })?;
        event(fields, defaults).map_err(|error| MapError::Field { index, error })
    };
    events.iter().enumerate().map(translate).collect()
}

fn event(fields: Fields<'_>, defaults: &Defaults<'_>) -> Result<InboundEvent, FieldError> {
    // The type comes first: without it, no other complaint helps.
    let name = fields.filled_text("type", 64)?;
    let kind = match name {
        "message.received" => message(fields, defaults, false)?,
        "message.sent" => message(fields, defaults, true)?,
        "message.edited" => edited(fields, defaults)?,
        "message.deleted" => InboundKind::Deleted {
            message: message_id(fields)?,
            at: at(fields, defaults)?,
        },
        "reaction.added" => reaction(fields, defaults, true)?,
        "reaction.removed" => reaction(fields, defaults, false)?,
        "receipt.delivered" => receipt(fields, defaults, DeliveryStatus::Delivered)?,
        "receipt.read" => receipt(fields, defaults, DeliveryStatus::Read)?,
        "receipt.failed" => receipt(fields, defaults, DeliveryStatus::Failed)?,
        "typing" => {
            let sender = fields.object("sender")?;
            InboundKind::Typing {
                actor_id: sender.id("sender.id")?.to_owned(),
                actor_name: sender.name("sender.name")?,
            }
        }
        "conversation.updated" => InboundKind::Profile,
        _ => return Err(Problem::UnknownType.of("type")),
    };
    let conversation = fields.object("conversation")?;
    Ok(InboundEvent {
        conversation: conversation.id("conversation.id")?.into(),
        profile: ConversationProfile {
            participant_id: conversation
                .optional_id("conversation.participantId")?
                .map(str::to_owned),
            name: conversation.name("conversation.name")?,
            avatar_url: conversation.address("conversation.avatarUrl")?,
        },
        kind,
    })
}

fn message(fields: Fields<'_>, defaults: &Defaults<'_>, is_outgoing: bool) -> Result<InboundKind, FieldError> {
    let message = fields.object("message")?;
    let external_id = message.id("message.id")?.into();
    // Who sent an own message goes without saying.
    let sender = match message.optional_object("message.sender")? {
        None if !is_outgoing => return Err(Problem::Missing.of("message.sender")),
        sender => sender,
    };
    let (sender_id, sender_name) = match sender {
        None => (defaults.own_id.as_str(), None),
        Some(sender) => (sender.id("message.sender.id")?, sender.name("message.sender.name")?),
    };
    let text = message
        .optional_text("message.text", MAX_TEXT_BYTES)?
        .unwrap_or_default();
    let media_url = message.address("message.mediaUrl")?;
    if text.is_empty() && media_url.is_none() {
        return Err(Problem::NoContent.of("message.text"));
    }
    let kind = match message.optional_text("message.type", 64)? {
        None => MessageKind::Text,
        Some(name) => MessageKind::from_name(name).ok_or(Problem::UnknownKind.of("message.type"))?,
    };
    Ok(InboundKind::Message(Box::new(InboundMessage {
        external_id,
        sender_id: sender_id.to_owned(),
        sender_name,
        text: text.to_owned(),
        kind,
        media_url,
        attachments: Vec::new(),
        reply_to: message.optional_id("message.replyTo")?.map(ExternalId::from),
        is_outgoing,
        is_read: message.flag("message.isRead")?,
        is_history: false,
        sent_at: message.time("message.sentAt", defaults.signed_at, defaults.received_at)?,
    })))
}

fn edited(fields: Fields<'_>, defaults: &Defaults<'_>) -> Result<InboundKind, FieldError> {
    let message = fields.object("message")?;
    // An edit may take the text away, from a picture for example, but must say so.
    let text = message.optional_text("message.text", MAX_TEXT_BYTES)?;
    Ok(InboundKind::Edited {
        message: message.id("message.id")?.into(),
        text: text.ok_or(Problem::Missing.of("message.text"))?.to_owned(),
        at: at(fields, defaults)?,
    })
}

fn reaction(fields: Fields<'_>, defaults: &Defaults<'_>, is_active: bool) -> Result<InboundKind, FieldError> {
    Ok(InboundKind::Reaction {
        message: message_id(fields)?,
        actor_id: fields.object("sender")?.id("sender.id")?.to_owned(),
        emoji: fields.filled_text("emoji", MAX_EMOJI_BYTES)?.to_owned(),
        is_active,
        at: at(fields, defaults)?,
    })
}

fn receipt(fields: Fields<'_>, defaults: &Defaults<'_>, status: DeliveryStatus) -> Result<InboundKind, FieldError> {
    let reason = fields.optional_text("reason", MAX_REASON_BYTES)?;
    Ok(InboundKind::Receipt {
        message: message_id(fields)?,
        status,
        reason: reason.filter(|_| status == DeliveryStatus::Failed).map(str::to_owned),
        at: at(fields, defaults)?,
    })
}

fn message_id(fields: Fields<'_>) -> Result<ExternalId, FieldError> {
    Ok(fields.object("message")?.id("message.id")?.into())
}

fn at(fields: Fields<'_>, defaults: &Defaults<'_>) -> Result<OffsetDateTime, FieldError> {
    fields.time("at", defaults.signed_at, defaults.received_at)
}

#[cfg(test)]
mod tests;
