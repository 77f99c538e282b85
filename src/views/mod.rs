//! What lives here: the JSON objects of the API and the frames of the live stream, built by borrowing from the domain.
//! Who calls it: the HTTP handlers, the sockets, and the sessions through [`FrameEncoder`].
//! What it may not know: storage, actors, platforms; it never sees an account's credentials.
//!
//! Every object carries its fields in snake_case and in camelCase: the first browser client reads one or the other,
//! depending on the page.

mod account;
mod attachment;
mod conversation;
mod event;
pub mod frames;
mod message;
mod timestamp;

pub use account::{AccountView, account};
pub use attachment::AttachmentId;
pub use conversation::{ConversationView, conversation};
pub use event::{EventView, event_json};
pub use frames::{FrameEncoder, text_frame};
pub use message::{MessageView, message};
pub use timestamp::Timestamp;

use std::collections::BTreeMap;

use hub_actors::PlatformId;

/// The platform's name as clients know it. Accounts that were once linked by Facebook cookies carry a name of their own
/// in old databases, which no client shows live.
pub fn platform(id: &PlatformId) -> &str {
    match id.as_str() {
        "facebook_cookie" => "facebook",
        name => name,
    }
}

/// Unread messages under the names that clients know; platforms that share a name are added up, zeros are kept.
pub fn count_by_platform<'a>(counts: impl IntoIterator<Item = (&'a PlatformId, i64)>) -> BTreeMap<&'a str, i64> {
    let mut sums = BTreeMap::new();
    for (id, count) in counts {
        *sums.entry(platform(id)).or_default() += count;
    }
    sums
}

/// Ready-made domain values for the tests of this folder.
#[cfg(test)]
pub(crate) mod samples {
    use hub_actors::domain::{Account, AccountState, Conversation, DeliveryStatus, Message, MessageKind, Reaction};
    use hub_actors::{AccountId, ConversationId, ExternalId, MessageId, PlatformId, UserId};
    use time::macros::datetime;
    use uuid::Uuid;

    pub const AT: time::OffsetDateTime = datetime!(2026-01-02 03:04:05.678901 UTC);

    pub fn message() -> Message {
        let reaction = |emoji: &str, is_active| Reaction {
            actor_id: "peer-1".to_owned(),
            emoji: emoji.to_owned(),
            is_active,
            at: AT,
        };
        Message {
            id: MessageId(Uuid::from_u128(1)),
            conversation_id: ConversationId(Uuid::from_u128(2)),
            external_id: Some(ExternalId::from("m-1")),
            sender_id: "peer-1".to_owned(),
            sender_name: Some("Ada".to_owned()),
            content: "hello \u{1f600}".to_owned(),
            kind: MessageKind::Text,
            media_url: None,
            attachments: Vec::new(),
            reply_to: None,
            is_outgoing: false,
            is_read: false,
            status: DeliveryStatus::Received,
            status_reason: None,
            reactions: vec![reaction("\u{1f44d}", true), reaction("\u{1f44e}", false)],
            sent_at: AT,
            delivered_at: None,
            read_at: None,
            edited_at: None,
            deleted_at: None,
            created_at: AT,
            is_sent_here: false,
        }
    }

    pub fn conversation() -> Conversation {
        Conversation {
            id: ConversationId(Uuid::from_u128(2)),
            user_id: UserId(Uuid::from_u128(3)),
            account_id: AccountId(Uuid::from_u128(4)),
            platform: PlatformId::from("facebook_cookie"),
            external_id: ExternalId::from("chat-1"),
            participant_id: Some("peer-1".to_owned()),
            participant_name: Some("Ada".to_owned()),
            participant_avatar_url: None,
            last_message_at: None,
            unread_count: 2,
            created_at: AT,
            updated_at: AT,
        }
    }

    pub fn account() -> Account {
        let mut credentials = hub_actors::domain::Credentials::default();
        credentials.0.insert("secret".to_owned(), "whsec_canary".into());
        Account {
            id: AccountId(Uuid::from_u128(4)),
            user_id: UserId(Uuid::from_u128(3)),
            platform: PlatformId::from("custom"),
            external_id: ExternalId::from("4"),
            name: Some("Shop".to_owned()),
            is_active: true,
            state: AccountState::Live,
            state_reason: None,
            state_until: None,
            credentials,
            created_at: AT,
            updated_at: AT,
        }
    }
}
