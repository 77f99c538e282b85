//! A message as clients see it.

use hub_actors::domain::{Message, Reaction};
use hub_actors::{ConversationId, ExternalId, MessageId};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::Timestamp;
use super::attachment::{AttachmentView, Attachments, MediaUrl};

/// A message.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Message)]
pub struct MessageView<'a> {
    #[schema(value_type = String, format = Uuid)]
    id: MessageId,
    #[schema(value_type = String, format = Uuid)]
    conversation_id: ConversationId,
    #[serde(rename = "conversationId", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    conversation_id_camel: Option<ConversationId>,
    /// The message's id on its platform; null until the platform has taken an outgoing one.
    #[schema(value_type = Option<String>)]
    platform_message_id: Option<&'a ExternalId>,
    #[serde(rename = "platformMessageId")]
    #[schema(value_type = Option<String>)]
    platform_message_id_camel: Option<&'a ExternalId>,
    sender_id: &'a str,
    #[serde(rename = "senderId")]
    sender_id_camel: &'a str,
    sender_name: Option<&'a str>,
    #[serde(rename = "senderName")]
    sender_name_camel: Option<&'a str>,
    content: &'a str,
    /// `text`, `image`, `video`, `file` or `system`.
    message_type: &'static str,
    #[serde(rename = "messageType")]
    message_type_camel: &'static str,
    /// Where the file, or the first of several, can be fetched.
    #[schema(value_type = Option<String>)]
    media_url: Option<MediaUrl<'a>>,
    #[serde(rename = "mediaUrl")]
    #[schema(value_type = Option<String>)]
    media_url_camel: Option<MediaUrl<'a>>,
    #[schema(value_type = Vec<AttachmentView>)]
    attachments: Attachments<'a>,
    /// The platform's id of the message that this one answers.
    #[schema(value_type = Option<String>)]
    reply_to: Option<&'a ExternalId>,
    #[serde(rename = "replyTo")]
    #[schema(value_type = Option<String>)]
    reply_to_camel: Option<&'a ExternalId>,
    is_outgoing: bool,
    #[serde(rename = "isOutgoing")]
    is_outgoing_camel: bool,
    is_read: bool,
    #[serde(rename = "isRead")]
    is_read_camel: bool,
    /// `received`, or of an outgoing message `queued`, `sending`, `sent`, `delivered`, `read`, `failed`, `unknown`.
    status: &'static str,
    /// Why it failed or is unknown, in words for the person.
    status_reason: Option<&'a str>,
    #[serde(rename = "statusReason")]
    status_reason_camel: Option<&'a str>,
    #[schema(value_type = Vec<ReactionView>)]
    reactions: ActiveReactions<'a>,
    #[schema(value_type = String, format = DateTime)]
    sent_at: Timestamp,
    #[serde(rename = "sentAt")]
    #[schema(value_type = String, format = DateTime)]
    sent_at_camel: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    delivered_at: Option<Timestamp>,
    #[serde(rename = "deliveredAt")]
    #[schema(value_type = Option<String>, format = DateTime)]
    delivered_at_camel: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    read_at: Option<Timestamp>,
    #[serde(rename = "readAt")]
    #[schema(value_type = Option<String>, format = DateTime)]
    read_at_camel: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    edited_at: Option<Timestamp>,
    #[serde(rename = "editedAt")]
    #[schema(value_type = Option<String>, format = DateTime)]
    edited_at_camel: Option<Timestamp>,
    /// When it was deleted; its content is then empty.
    #[schema(value_type = Option<String>, format = DateTime)]
    deleted_at: Option<Timestamp>,
    #[serde(rename = "deletedAt")]
    #[schema(value_type = Option<String>, format = DateTime)]
    deleted_at_camel: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[serde(rename = "createdAt")]
    #[schema(value_type = String, format = DateTime)]
    created_at_camel: Timestamp,
}

/// One person's reaction to a message.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Reaction)]
pub struct ReactionView<'a> {
    actor_id: &'a str,
    #[serde(rename = "actorId")]
    actor_id_camel: &'a str,
    emoji: &'a str,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct ActiveReactions<'a>(&'a [Reaction]);

impl Serialize for ActiveReactions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().filter(|reaction| reaction.is_active).map(reaction))
    }
}

/// The message as a JSON object.
pub fn message(message: &Message) -> MessageView<'_> {
    let timestamps = |at: Option<time::OffsetDateTime>| at.map(Timestamp);
    MessageView {
        id: message.id,
        conversation_id: message.conversation_id,
        conversation_id_camel: Some(message.conversation_id),
        platform_message_id: message.external_id.as_ref(),
        platform_message_id_camel: message.external_id.as_ref(),
        sender_id: &message.sender_id,
        sender_id_camel: &message.sender_id,
        sender_name: message.sender_name.as_deref(),
        sender_name_camel: message.sender_name.as_deref(),
        content: &message.content,
        message_type: message.kind.as_str(),
        message_type_camel: message.kind.as_str(),
        media_url: MediaUrl::of(message),
        media_url_camel: MediaUrl::of(message),
        attachments: Attachments(message),
        reply_to: message.reply_to.as_ref(),
        reply_to_camel: message.reply_to.as_ref(),
        is_outgoing: message.is_outgoing,
        is_outgoing_camel: message.is_outgoing,
        is_read: message.is_read,
        is_read_camel: message.is_read,
        status: message.status.as_str(),
        status_reason: message.status_reason.as_deref(),
        status_reason_camel: message.status_reason.as_deref(),
        reactions: ActiveReactions(&message.reactions),
        sent_at: Timestamp(message.sent_at),
        sent_at_camel: Timestamp(message.sent_at),
        delivered_at: timestamps(message.delivered_at),
        delivered_at_camel: timestamps(message.delivered_at),
        read_at: timestamps(message.read_at),
        read_at_camel: timestamps(message.read_at),
        edited_at: timestamps(message.edited_at),
        edited_at_camel: timestamps(message.edited_at),
        deleted_at: timestamps(message.deleted_at),
        deleted_at_camel: timestamps(message.deleted_at),
        created_at: Timestamp(message.created_at),
        created_at_camel: Timestamp(message.created_at),
    }
}

/// The reaction as a JSON object.
pub fn reaction(reaction: &Reaction) -> ReactionView<'_> {
    ReactionView {
        actor_id: &reaction.actor_id,
        actor_id_camel: &reaction.actor_id,
        emoji: &reaction.emoji,
        at: Timestamp(reaction.at),
    }
}

impl MessageView<'_> {
    /// The same without `conversationId`.
    ///
    /// The page that sends a message shows it from the HTTP answer without looking for it first. An event about the
    /// same message, which it would match by this very field, would show it a second time.
    pub fn without_camel_conversation(self) -> Self {
        Self {
            conversation_id_camel: None,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use serde_json::{Value, json};

    fn as_value(message: &Message) -> Value {
        serde_json::to_value(super::message(message)).unwrap()
    }

    #[test]
    fn every_snake_field_has_its_camel_twin() {
        let value = as_value(&samples::message());
        let object = value.as_object().unwrap();
        for (name, snake) in object.iter().filter(|(name, _)| name.contains('_')) {
            let mut words = name.split('_');
            let mut camel = words.next().unwrap().to_owned();
            for word in words {
                let (first, rest) = word.split_at(1);
                camel.push_str(&first.to_uppercase());
                camel.push_str(rest);
            }
            assert_eq!(object.get(&camel), Some(snake), "{name}");
        }
        assert_eq!(value["conversationId"], "00000000-0000-0000-0000-000000000002");
        assert_eq!(value["platform_message_id"], "m-1");
        assert_eq!(value["sent_at"], "2026-01-02T03:04:05.678901Z");
        assert_eq!(value["delivered_at"], Value::Null);
    }

    #[test]
    fn only_active_reactions_are_shown() {
        let value = as_value(&samples::message());
        let expected = json!([{"actor_id": "peer-1", "actorId": "peer-1", "emoji": "\u{1f44d}",
            "at": "2026-01-02T03:04:05.678901Z"}]);
        assert_eq!(value["reactions"], expected);
    }
}
