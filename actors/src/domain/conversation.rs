//! A conversation of an account.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::ids::{AccountId, ConversationId, ExternalId, PlatformId, UserId};

/// A conversation as the inbox shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    pub id: ConversationId,
    pub user_id: UserId,
    pub account_id: AccountId,
    pub platform: PlatformId,
    /// The chat's id on the platform.
    pub external_id: ExternalId,
    pub participant_id: Option<String>,
    pub participant_name: Option<String>,
    pub participant_avatar_url: Option<String>,
    /// When the newest message was sent; none while there is no message.
    pub last_message_at: Option<OffsetDateTime>,
    /// Incoming messages that the person has not read.
    pub unread_count: i32,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
}

/// What a platform tells about a chat beside its messages. Fields it leaves out stay as they were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationProfile {
    pub participant_id: Option<String>,
    pub name: Option<String>,
    pub avatar_url: Option<String>,
}

impl Conversation {
    /// Takes over what the platform says; true when something changed.
    pub fn learn(&mut self, profile: &ConversationProfile) -> bool {
        fn take(current: &mut Option<String>, new: Option<&String>) -> bool {
            match new {
                Some(text) if current.as_ref() != Some(text) => {
                    *current = Some(text.clone());
                    true
                }
                _ => false,
            }
        }
        let id = take(&mut self.participant_id, profile.participant_id.as_ref());
        let name = take(&mut self.participant_name, profile.name.as_ref());
        let avatar = take(&mut self.participant_avatar_url, profile.avatar_url.as_ref());
        id | name | avatar
    }
}
