//! What platforms report, committed.

use std::time::Duration;

use futures_util::future::join_all;
use hub_actors::ExternalId;
use hub_actors::domain::{AccountState, Append, Change, DeliveryStatus, EventKind, InboundKind};
use hub_actors::ports::{AppendError, Store as _};
use time::OffsetDateTime;

use crate::bed::{inbound, message, on_each_database, on_real};

fn edited(text: &str, at: OffsetDateTime) -> InboundKind {
    InboundKind::Edited {
        message: ExternalId::from("m"),
        text: text.to_owned(),
        at,
    }
}

fn reaction(emoji: &str, is_active: bool, at: OffsetDateTime) -> InboundKind {
    InboundKind::Reaction {
        message: ExternalId::from("m"),
        actor_id: "peer".to_owned(),
        emoji: emoji.to_owned(),
        is_active,
        at,
    }
}

#[test]
fn a_message_comes_in_once_with_all_that_hangs_on_it() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let now = bed.clock.now();
        let first = bed.inbound(&account, "chat", vec![message("m", now)]).await;
        assert_eq!(first.events.len(), 1);
        for _ in 0..2 {
            let again = bed.inbound(&account, "chat", vec![message("m", now)]).await;
            assert!(again.events.is_empty(), "a redelivery changes nothing");
        }
        let changes = vec![
            edited("second text 😀", now + Duration::from_secs(1)),
            edited("first text", now),
            reaction("👍", true, now),
            reaction("🎉", true, now + Duration::from_secs(1)),
            reaction("👍", false, now + Duration::from_secs(2)),
        ];
        bed.inbound(&account, "chat", changes.clone()).await;
        // The redelivered edit that lost once tells nothing new.
        assert!(bed.inbound(&account, "chat", changes).await.events.is_empty());

        let chat = bed.conversations(user.id).await.remove(0);
        assert_eq!(
            (chat.unread_count, chat.participant_name.as_deref()),
            (1, Some("chat chat"))
        );
        assert_eq!(chat.last_message_at, Some(now));
        let stored = bed.messages(user.id, chat.id).await.remove(0);
        assert_eq!(stored.content, "second text 😀");
        assert_eq!(stored.edited_at, Some(now + Duration::from_secs(1)));
        assert_eq!(stored.sender_name.as_deref(), Some("Peer 😀"));
        let reactions: Vec<_> = stored
            .reactions
            .iter()
            .map(|one| (one.emoji.as_str(), one.is_active))
            .collect();
        assert_eq!(reactions, [("🎉", true), ("👍", false)]);
        let names = bed.gap_free(user.id).await;
        let added = ["reaction_added", "reaction_added", "reaction_removed"];
        assert_eq!(
            names,
            [["message_received", "message_edited"].as_slice(), &added].concat()
        );
        let page = bed.stream(user.id).await;
        let EventKind::MessageReceived {
            message, conversation, ..
        } = &page.events[0].kind
        else {
            panic!("{:?}", page.events[0]);
        };
        assert_eq!((message.id, conversation.id), (stored.id, chat.id));

        bed.inbound(
            &account,
            "chat",
            vec![InboundKind::Deleted {
                message: ExternalId::from("m"),
                at: now,
            }],
        )
        .await;
        let stored = bed.messages(user.id, chat.id).await.remove(0);
        assert_eq!((stored.content.as_str(), stored.deleted_at), ("", Some(now)));
        assert!(stored.reactions.is_empty());
        assert_eq!(bed.conversations(user.id).await[0].unread_count, 0);
        bed
    });
}

#[test]
fn what_comes_before_its_message_waits_for_it() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let now = bed.clock.now();
        for event in [
            edited("edited", now + Duration::from_secs(1)),
            reaction("👍", true, now),
            edited("edited", now + Duration::from_secs(1)),
        ] {
            bed.inbound(&account, "chat", vec![event]).await;
        }
        assert_eq!(bed.gap_free(user.id).await, ["conversation_changed"]);
        bed.inbound(&account, "chat", vec![message("m", now)]).await;
        let chat = bed.conversations(user.id).await.remove(0);
        let stored = bed.messages(user.id, chat.id).await.remove(0);
        assert_eq!((stored.content.as_str(), stored.reactions.len()), ("edited", 1));
        let events = [
            "conversation_changed",
            "message_received",
            "message_edited",
            "reaction_added",
        ];
        assert_eq!(bed.gap_free(user.id).await, events);
        // Nothing is parked any more: the retention finds nothing, however late.
        bed.later(Duration::from_secs(8 * 24 * 3600));
        assert_eq!(bed.store.retain().await.unwrap(), 0);
        // What waits for a message that never comes is deleted after a week.
        let late = InboundKind::Receipt {
            message: ExternalId::from("never"),
            status: DeliveryStatus::Read,
            reason: None,
            at: now,
        };
        bed.inbound(&account, "chat", vec![late]).await;
        bed.later(Duration::from_secs(8 * 24 * 3600));
        assert_eq!(bed.store.retain().await.unwrap(), 1);
        bed
    });
}

#[test]
fn reading_is_stored() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let now = bed.clock.now();
        let events = (0..5)
            .map(|number| message(&format!("m{number}"), now + Duration::from_secs(number)))
            .collect();
        bed.inbound(&account, "chat", events).await;
        let chat = bed.conversations(user.id).await.remove(0);
        let newest = bed.messages(user.id, chat.id).await.remove(0);
        let read = Change::ReadMessage {
            message_id: newest.id,
            conversation_id: chat.id,
        };
        assert_eq!(bed.commit(user.id, read.clone()).await.unwrap().events.len(), 1);
        assert_eq!(bed.commit(user.id, read).await.unwrap().events.len(), 0);
        assert_eq!(bed.conversations(user.id).await[0].unread_count, 4);
        // In one batch with a message that comes in just before it.
        let sixth = inbound(&account, "chat", vec![message("m5", now + Duration::from_secs(5))]);
        let all = Change::ReadConversation {
            conversation_id: chat.id,
            tell_platform: true,
        };
        let batch = [sixth, all].map(|change| Append {
            user_id: user.id,
            change,
        });
        let answers = bed.store.commit(batch.to_vec()).await.unwrap();
        let appended = answers[1].as_ref().unwrap();
        let EventKind::ConversationChanged { read, .. } = &appended.events[0].kind else {
            panic!("{:?}", appended.events);
        };
        assert_eq!(read.len(), 5);
        assert!(
            bed.messages(user.id, chat.id)
                .await
                .iter()
                .all(|message| message.is_read)
        );
        assert_eq!(bed.conversations(user.id).await[0].unread_count, 0);
        let marks = bed.outbox().await;
        assert_eq!(marks.as_slice(), [*appended.outbox.clone().unwrap()]);
        assert_eq!(marks[0].message_id, None);
        bed
    });
}

#[test]
fn the_state_of_an_account_is_stored() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let change = Change::AccountState {
            account_id: account.id,
            state: AccountState::Backoff,
            reason: Some("the platform is away".to_owned()),
            until: None,
        };
        assert_eq!(bed.commit(user.id, change.clone()).await.unwrap().events.len(), 1);
        assert_eq!(bed.commit(user.id, change.clone()).await.unwrap().events.len(), 0);
        let stored = bed.store.account(account.id).await.unwrap().unwrap();
        assert_eq!(stored.state, AccountState::Backoff);
        assert_eq!(stored.state_reason.as_deref(), Some("the platform is away"));
        assert_eq!(stored.credentials.text("secret"), Some("secret of shop"));
        let other = bed.user("ben").await;
        assert!(matches!(
            bed.commit(other.id, change).await,
            Err(AppendError::Refused(_))
        ));
        assert_eq!(bed.gap_free(other.id).await, [""; 0]);
        bed
    });
}

#[test]
fn many_users_share_a_batch() {
    on_each_database(|bed| async move {
        let mut accounts = Vec::new();
        for number in 0..64 {
            let user = bed.user(&format!("user{number}")).await;
            accounts.push(bed.account(user.id, "shop").await);
        }
        let now = bed.clock.now();
        for round in 0..3 {
            let batch: Vec<Append> = accounts
                .iter()
                .map(|account| Append {
                    user_id: account.user_id,
                    change: inbound(account, "chat", vec![message(&format!("m{round}"), now)]),
                })
                .collect();
            let answers = bed.store.commit(batch.clone()).await.unwrap();
            for (append, answer) in batch.iter().zip(&answers) {
                let events = &answer.as_ref().unwrap().events;
                assert_eq!(
                    (events.len(), events[0].user_id, events[0].seq.0),
                    (1, append.user_id, round + 1)
                );
            }
        }
        for account in &accounts {
            assert_eq!(bed.gap_free(account.user_id).await.len(), 3);
        }
        bed
    });
}

#[test]
fn numbers_have_no_gap_whoever_writes_at_once() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let other = bed.user("ben").await;
        let accounts = [bed.account(user.id, "shop").await, bed.account(other.id, "club").await];
        let now = bed.clock.now();
        let writers = (0..64).map(|number: usize| {
            let (store, accounts) = (bed.store.clone(), accounts.clone());
            async move {
                for round in 0..4 {
                    // Every message is delivered twice, by two writers, and the order of the users alternates.
                    let name = format!("m{}-{round}", number / 2);
                    let mut batch = accounts.clone().map(|account| Append {
                        user_id: account.user_id,
                        change: inbound(&account, &format!("chat {}", number % 8), vec![message(&name, now)]),
                    });
                    if number.is_multiple_of(3) {
                        batch.reverse();
                    }
                    for answer in store.commit(batch.to_vec()).await.unwrap() {
                        answer.unwrap();
                    }
                }
            }
        });
        join_all(writers).await;
        for account in &accounts {
            let names = bed.gap_free(account.user_id).await;
            // Each pair of writers has two chats, so what they share is the name only: 64 × 4 messages.
            let received = names.iter().filter(|name| **name == "message_received").count();
            assert_eq!(received, 256);
            let unread: i32 = bed
                .conversations(account.user_id)
                .await
                .iter()
                .map(|chat| chat.unread_count)
                .sum();
            assert_eq!(unread, 256);
        }
        bed
    });
}

#[test]
fn two_hubs_write_one_stream() {
    on_real(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let hubs = [bed.store.clone(), bed.another_hub().await];
        let now = bed.clock.now();
        let writers = (0..32).map(|number: usize| {
            let (store, account) = (hubs[number % 2].clone(), account.clone());
            async move {
                for round in 0..8 {
                    let change = inbound(
                        &account,
                        "chat",
                        vec![message(&format!("m{}-{round}", number / 2), now)],
                    );
                    let batch = [Append {
                        user_id: account.user_id,
                        change,
                    }];
                    store.commit(batch.to_vec()).await.unwrap().remove(0).unwrap();
                }
            }
        });
        join_all(writers).await;
        assert_eq!(bed.gap_free(user.id).await.len(), 16 * 8);
        hubs[1].close().await;
        bed
    });
}
