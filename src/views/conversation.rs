//! A conversation as clients see it.

use hub_actors::domain::Conversation;
use hub_actors::{AccountId, ConversationId, ExternalId};
use serde::Serialize;
use utoipa::ToSchema;

use super::Timestamp;

/// A conversation.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Conversation)]
pub struct ConversationView<'a> {
    #[schema(value_type = String, format = Uuid)]
    id: ConversationId,
    #[schema(value_type = String, format = Uuid)]
    account_id: AccountId,
    #[serde(rename = "accountId")]
    #[schema(value_type = String, format = Uuid)]
    account_id_camel: AccountId,
    platform: &'a str,
    /// The chat's id on its platform.
    #[schema(value_type = String)]
    platform_conversation_id: &'a ExternalId,
    #[serde(rename = "platformConversationId")]
    #[schema(value_type = String)]
    platform_conversation_id_camel: &'a ExternalId,
    participant_id: Option<&'a str>,
    #[serde(rename = "participantId")]
    participant_id_camel: Option<&'a str>,
    participant_name: Option<&'a str>,
    #[serde(rename = "participantName")]
    participant_name_camel: Option<&'a str>,
    participant_avatar_url: Option<&'a str>,
    #[serde(rename = "participantAvatarUrl")]
    participant_avatar_url_camel: Option<&'a str>,
    /// When the newest message was sent; while there is none, when the conversation was created.
    #[schema(value_type = String, format = DateTime)]
    last_message_at: Timestamp,
    #[serde(rename = "lastMessageAt")]
    #[schema(value_type = String, format = DateTime)]
    last_message_at_camel: Timestamp,
    unread_count: i32,
    #[serde(rename = "unreadCount")]
    unread_count_camel: i32,
    has_unread: bool,
    #[serde(rename = "hasUnread")]
    has_unread_camel: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[serde(rename = "createdAt")]
    #[schema(value_type = String, format = DateTime)]
    created_at_camel: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    #[serde(rename = "updatedAt")]
    #[schema(value_type = String, format = DateTime)]
    updated_at_camel: Timestamp,
}

/// The conversation as a JSON object.
pub fn conversation(conversation: &Conversation) -> ConversationView<'_> {
    // A page that gets null here shows the first of January 1970.
    let last_message_at = Timestamp(conversation.last_message_at.unwrap_or(conversation.created_at));
    ConversationView {
        id: conversation.id,
        account_id: conversation.account_id,
        account_id_camel: conversation.account_id,
        platform: super::platform(&conversation.platform),
        platform_conversation_id: &conversation.external_id,
        platform_conversation_id_camel: &conversation.external_id,
        participant_id: conversation.participant_id.as_deref(),
        participant_id_camel: conversation.participant_id.as_deref(),
        participant_name: conversation.participant_name.as_deref(),
        participant_name_camel: conversation.participant_name.as_deref(),
        participant_avatar_url: conversation.participant_avatar_url.as_deref(),
        participant_avatar_url_camel: conversation.participant_avatar_url.as_deref(),
        last_message_at,
        last_message_at_camel: last_message_at,
        unread_count: conversation.unread_count,
        unread_count_camel: conversation.unread_count,
        has_unread: conversation.unread_count > 0,
        has_unread_camel: conversation.unread_count > 0,
        created_at: Timestamp(conversation.created_at),
        created_at_camel: Timestamp(conversation.created_at),
        updated_at: Timestamp(conversation.updated_at),
        updated_at_camel: Timestamp(conversation.updated_at),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;

    #[test]
    fn it_reports_facebook_and_a_date_even_without_messages() {
        let sample = samples::conversation();
        let value = serde_json::to_value(super::conversation(&sample)).unwrap();
        assert_eq!(value["platform"], "facebook");
        assert_eq!(value["last_message_at"], value["created_at"]);
        assert_eq!(value["lastMessageAt"], value["created_at"]);
        assert_eq!(value["has_unread"], true);
        assert_eq!(value["unreadCount"], 2);
        assert_eq!(value["accountId"], value["account_id"]);
        assert!(value.get("user_id").is_none());
    }
}
