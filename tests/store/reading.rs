//! How far the person has read on another device.

use std::time::Duration;

use hub_actors::domain::{Account, Append, Change, EventKind, InboundKind};
use hub_actors::ports::Store as _;
use hub_actors::{ConversationId, ExternalId};
use messaging_hub::store::MessageRange;

use crate::bed::{Bed, inbound, message, on_each_database};

fn seen_up_to(bed: &Bed, id: &str) -> InboundKind {
    InboundKind::SeenUpTo {
        message: ExternalId::from(id),
        by_peer: false,
        at: bed.clock.now(),
    }
}

/// Unread messages as the conversation counts them, and as they are stored.
async fn unread(bed: &Bed, account: &Account, chat: ConversationId) -> (i32, usize) {
    let range = MessageRange {
        limit: 10_000,
        offset: 0,
        before: None,
    };
    let page = bed
        .store
        .messages(account.user_id, chat, &range)
        .await
        .unwrap()
        .unwrap();
    let conversation = bed.store.conversation(account.user_id, chat).await.unwrap().unwrap();
    let stored = page.messages.iter().filter(|message| !message.is_read).count();
    (conversation.unread_count, stored)
}

#[test]
fn what_became_read_earlier_in_a_batch_is_counted_once() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let now = bed.clock.now();
        let say = |numbers: std::ops::Range<u64>| -> Vec<InboundKind> {
            numbers
                .map(|number| message(&number.to_string(), now + Duration::from_secs(number)))
                .collect()
        };
        bed.inbound(&account, "chat", say(5..8)).await;
        let chat = bed.conversations(user.id).await.remove(0);
        let deleted = InboundKind::Deleted {
            message: ExternalId::from("5"),
            at: now,
        };
        bed.inbound(&account, "chat", vec![deleted, seen_up_to(&bed, "6")])
            .await;
        assert_eq!(unread(&bed, &account, chat.id).await, (1, 1));
        bed.inbound(&account, "chat", say(8..11)).await;
        let messages = bed.messages(user.id, chat.id).await;
        let eight = messages.iter().find(|message| message.content == "text of 8").unwrap();
        let read = Change::ReadMessage {
            message_id: eight.id,
            conversation_id: chat.id,
        };
        let batch = [
            read,
            inbound(&account, "chat", vec![seen_up_to(&bed, "9")]),
            inbound(&account, "chat", say(11..12)),
            inbound(&account, "chat", vec![seen_up_to(&bed, "9")]),
        ];
        let batch = batch.map(|change| Append {
            user_id: user.id,
            change,
        });
        let answers = bed.store.commit(batch.to_vec()).await.unwrap();
        assert_eq!(answers[3].as_ref().unwrap().events.len(), 0, "nothing new");
        assert_eq!(unread(&bed, &account, chat.id).await, (2, 2));
        bed
    });
}

/// More than are looked at one by one.
#[test]
fn all_up_to_the_message_become_read_however_many() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let now = bed.clock.now();
        // Platforms that count their messages, and others, where the time decides.
        for prefix in ["", "m"] {
            let name = |number: u64| format!("{prefix}{number}");
            let chat = format!("chat {prefix}");
            for start in [0, 500, 1000] {
                let events = (start..(start + 500).min(1300))
                    .map(|number| message(&name(number), now + Duration::from_secs(number)))
                    .collect();
                bed.inbound(&account, &chat, events).await;
            }
            let conversations = bed.conversations(user.id).await;
            let chat_id = conversations
                .iter()
                .find(|one| one.external_id.as_str() == chat)
                .unwrap()
                .id;
            for (last, left) in [(99, 1_200), (599, 700), (1_299, 0)] {
                let appended = bed.inbound(&account, &chat, vec![seen_up_to(&bed, &name(last))]).await;
                let EventKind::ConversationChanged { conversation, .. } = &appended.events[0].kind else {
                    panic!("{:?}", appended.events);
                };
                assert_eq!(conversation.unread_count, left);
                let stored = usize::try_from(left).unwrap();
                assert_eq!(unread(&bed, &account, chat_id).await, (left, stored), "{last}");
                let again = bed.inbound(&account, &chat, vec![seen_up_to(&bed, &name(last))]).await;
                assert!(again.events.is_empty());
            }
        }
        bed
    });
}
