//! What the journal stored, as the inbox reads it.

use std::time::Duration;

use hub_actors::domain::{Change, InboundKind};
use hub_actors::ports::Store as _;
use hub_actors::{ConversationId, ExternalId, MessageId, PlatformId};
use messaging_hub::store::{ConversationFilter, MessageRange};
use uuid::Uuid;

use crate::bed::{Bed, message, on_each_database};

fn filter(max_read: i64, limit: i64, offset: i64) -> ConversationFilter {
    ConversationFilter {
        platform: None,
        max_read,
        limit,
        offset,
    }
}

#[test]
fn conversations_with_unread_messages_come_first() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        for number in 0..6 {
            bed.later(Duration::from_secs(1));
            let chat = bed.conversation(&account, &format!("chat {number}")).await;
            if number % 2 == 0 {
                let read = Change::ReadConversation {
                    conversation_id: chat.id,
                    tell_platform: false,
                };
                bed.commit(user.id, read).await.unwrap();
            }
        }
        let page = bed.store.conversations(user.id, &filter(2, 50, 0)).await.unwrap();
        let names: Vec<&str> = page
            .conversations
            .iter()
            .map(|chat| chat.external_id.as_str())
            .collect();
        assert_eq!(names, ["chat 5", "chat 3", "chat 1", "chat 4", "chat 2"]);
        assert_eq!((page.unread, page.read), (3, 2));
        let page = bed.store.conversations(user.id, &filter(10, 2, 2)).await.unwrap();
        let names: Vec<&str> = page
            .conversations
            .iter()
            .map(|chat| chat.external_id.as_str())
            .collect();
        assert_eq!(
            (names.as_slice(), page.unread, page.read),
            (["chat 1", "chat 4"].as_slice(), 3, 3)
        );
        let beyond = bed.store.conversations(user.id, &filter(10, 50, 100)).await.unwrap();
        assert_eq!((beyond.conversations.len(), beyond.unread, beyond.read), (0, 3, 3));

        let facebook = ConversationFilter {
            platform: Some(PlatformId::from("facebook")),
            ..filter(10, 50, 0)
        };
        assert_eq!(bed.store.conversations(user.id, &facebook).await.unwrap().unread, 0);
        let custom = ConversationFilter {
            platform: Some(PlatformId::from("custom")),
            ..filter(10, 50, 0)
        };
        assert_eq!(
            bed.store
                .conversations(user.id, &custom)
                .await
                .unwrap()
                .conversations
                .len(),
            6
        );
        assert_eq!(
            bed.store.unread_counts(user.id).await.unwrap(),
            [(PlatformId::from("custom"), 3)]
        );

        bed.store.disconnect_account(user.id, account.id).await.unwrap();
        let hidden = bed.store.conversations(user.id, &filter(10, 50, 0)).await.unwrap();
        assert_eq!((hidden.conversations.len(), hidden.unread, hidden.read), (0, 0, 0));
        assert_eq!(bed.store.unread_counts(user.id).await.unwrap(), []);
        assert_eq!(bed.store.messages_since(user.id, None, 100).await.unwrap(), []);
        bed
    });
}

#[test]
fn a_platform_with_nothing_unread_is_counted_as_zero() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        bed.account(user.id, "shop").await;
        assert_eq!(
            bed.store.unread_counts(user.id).await.unwrap(),
            [(PlatformId::from("custom"), 0)]
        );
        bed
    });
}

async fn page(bed: &Bed, user: hub_actors::UserId, chat: ConversationId, range: MessageRange) -> Vec<String> {
    let page = bed.store.messages(user, chat, &range).await.unwrap().unwrap();
    assert_eq!(page.total, 10);
    page.messages
        .iter()
        .map(|message| message.content.replace("text of ", ""))
        .collect()
}

#[test]
fn messages_are_paged_newest_first_and_only_for_their_owner() {
    on_each_database(|bed| async move {
        let (anna, ben) = (bed.user("anna").await, bed.user("ben").await);
        let account = bed.account(anna.id, "shop").await;
        let start = bed.clock.now();
        // Two of the same instant: the later id is the newer one.
        let events: Vec<InboundKind> = (0..10)
            .map(|number| message(&number.to_string(), start + Duration::from_secs(number / 2)))
            .collect();
        bed.inbound(&account, "chat", events).await;
        let chat = bed.conversations(anna.id).await.remove(0);
        let all = MessageRange {
            limit: 50,
            offset: 0,
            before: None,
        };
        assert_eq!(page(&bed, anna.id, chat.id, all).await.concat(), "9876543210");
        assert_eq!(
            page(
                &bed,
                anna.id,
                chat.id,
                MessageRange {
                    limit: 3,
                    offset: 2,
                    ..all
                }
            )
            .await
            .concat(),
            "765"
        );
        let messages = bed.messages(anna.id, chat.id).await;
        let before = MessageRange {
            limit: 3,
            before: Some(messages[4].id),
            ..all
        };
        assert_eq!(page(&bed, anna.id, chat.id, before).await.concat(), "432");
        let unknown = MessageRange {
            before: Some(MessageId(Uuid::nil())),
            ..all
        };
        assert!(page(&bed, anna.id, chat.id, unknown).await.is_empty());
        assert!(
            page(&bed, anna.id, chat.id, MessageRange { offset: 100, ..all })
                .await
                .is_empty()
        );

        assert_eq!(bed.store.messages(ben.id, chat.id, &all).await.unwrap(), None);
        assert_eq!(bed.store.conversation(ben.id, chat.id).await.unwrap(), None);
        assert_eq!(
            bed.store.conversation(anna.id, chat.id).await.unwrap(),
            Some(chat.clone())
        );
        assert_eq!(bed.store.message(ben.id, messages[0].id).await.unwrap(), None);
        assert_eq!(
            bed.store.message(anna.id, messages[0].id).await.unwrap(),
            Some(messages[0].clone())
        );

        let since = bed
            .store
            .messages_since(anna.id, Some(start + Duration::from_secs(2)), 3)
            .await
            .unwrap();
        let names: Vec<_> = since.iter().map(|message| message.external_id.clone()).collect();
        assert_eq!(names, ["9", "8", "7"].map(|name| Some(ExternalId::from(name))));
        assert_eq!(bed.store.messages_since(anna.id, None, 100).await.unwrap().len(), 10);
        assert_eq!(bed.store.messages_since(ben.id, None, 100).await.unwrap(), []);

        let head = bed.store.conversation_head(chat.id).await.unwrap().unwrap();
        assert_eq!(
            (head.user_id, head.account_id, head.external_id.as_str()),
            (anna.id, account.id, "chat")
        );
        assert!(
            bed.store
                .conversation_head(ConversationId(Uuid::nil()))
                .await
                .unwrap()
                .is_none()
        );
        bed
    });
}
