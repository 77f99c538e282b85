//! What people send, committed.

use std::time::Duration;

use hub_actors::domain::{
    Append, Change, DeliveryStatus, Idempotency, InboundKind, InboundMessage, MessageKind, NewMessage, OutboxEntry,
    OutboxState, Receipt, Refusal, SendReport,
};
use hub_actors::ports::{AppendError, Store as _};
use hub_actors::{ExternalId, UserId};

use secrecy::ExposeSecret as _;

use crate::bed::{Bed, ask, inbound, on_each_database, on_real};

async fn queue(bed: &Bed, user: UserId, new: &NewMessage) -> OutboxEntry {
    let queued = bed
        .commit(user, Change::Queue(Box::new(new.clone())))
        .await
        .unwrap()
        .queued
        .unwrap();
    assert!(!queued.is_repeat);
    queued.entry.unwrap()
}

fn ended(entry: &OutboxEntry, report: SendReport) -> Change {
    Change::SendEnded {
        entry: Box::new(entry.clone()),
        report,
    }
}

fn sent(external_id: &str) -> SendReport {
    SendReport::Sent(Receipt {
        external_id: Some(ExternalId::from(external_id)),
    })
}

#[test]
fn a_message_is_queued_tried_again_and_sent() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let chat = bed.conversation(&account, "chat").await;
        let new = NewMessage {
            media_url: Some("https://example.com/a.png".to_owned()),
            kind: MessageKind::Image,
            reply_to: Some(ExternalId::from("first in chat")),
            ..bed.new_message(chat.id, "hello 😀")
        };
        let entry = queue(&bed, user.id, &new).await;
        assert_eq!(bed.outbox().await.as_slice(), std::slice::from_ref(&entry));
        let stored = bed.store.message(user.id, new.id).await.unwrap().unwrap();
        assert_eq!((stored.status, stored.external_id), (DeliveryStatus::Queued, None));
        assert_eq!(stored.media_url, new.media_url);

        bed.commit(
            user.id,
            Change::SendStarted {
                entry: Box::new(entry.clone()),
            },
        )
        .await
        .unwrap();
        let trying = bed.outbox().await.remove(0);
        assert_eq!((trying.state, trying.attempts), (OutboxState::Sending, 1));
        let due_at = bed.clock.now() + Duration::from_secs(60);
        let reason = "busy".to_owned();
        bed.commit(user.id, ended(&trying, SendReport::Again { due_at, reason }))
            .await
            .unwrap();
        let waiting = bed.outbox().await.remove(0);
        assert_eq!(
            (waiting.state, waiting.attempts, waiting.due_at),
            (OutboxState::Queued, 2, due_at)
        );
        bed.commit(user.id, ended(&waiting, sent("p1"))).await.unwrap();
        assert_eq!(bed.outbox().await, []);
        let stored = bed.store.message(user.id, new.id).await.unwrap().unwrap();
        assert_eq!(
            (stored.status, stored.external_id),
            (DeliveryStatus::Sent, Some(ExternalId::from("p1")))
        );

        let read = InboundKind::Receipt {
            message: ExternalId::from("p1"),
            status: DeliveryStatus::Read,
            reason: None,
            at: bed.clock.now(),
        };
        bed.inbound(&account, "chat", vec![read]).await;
        let stored = bed.store.message(user.id, new.id).await.unwrap().unwrap();
        assert_eq!((stored.status, stored.read_at.is_some()), (DeliveryStatus::Read, true));
        let names = bed.gap_free(user.id).await;
        let changed = ["status_changed"; 4];
        assert_eq!(
            names,
            [["message_received", "message_queued"].as_slice(), &changed].concat()
        );
        bed
    });
}

#[test]
fn a_failed_message_is_tried_again_with_the_same_key() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let chat = bed.conversation(&account, "chat").await;
        let new = bed.new_message(chat.id, "hello");
        let entry = queue(&bed, user.id, &new).await;
        let retry = Change::Retry {
            message_id: new.id,
            conversation_id: chat.id,
        };
        let early = bed.commit(user.id, retry.clone()).await.unwrap();
        assert!(early.events.is_empty());
        let early = early.queued.unwrap();
        assert_eq!(
            (early.is_repeat, early.entry.as_ref()),
            (true, Some(&entry)),
            "it is on its way already"
        );
        let reason = "refused".to_owned();
        bed.commit(user.id, ended(&entry, SendReport::Failed { reason }))
            .await
            .unwrap();
        assert_eq!(bed.outbox().await, [], "a stopped entry waits for the person");
        let stored = bed.store.message(user.id, new.id).await.unwrap().unwrap();
        assert_eq!(
            (stored.status, stored.status_reason.as_deref()),
            (DeliveryStatus::Failed, Some("refused"))
        );
        let queued = bed.commit(user.id, retry.clone()).await.unwrap().queued.unwrap();
        assert_eq!(queued.entry.unwrap().id, new.outbox_id);
        let again = bed.outbox().await.remove(0);
        assert_eq!(
            (again.id, again.attempts, again.state),
            (new.outbox_id, 0, OutboxState::Queued)
        );
        bed.commit(user.id, ended(&again, sent("p1"))).await.unwrap();
        let late = bed.commit(user.id, retry).await;
        assert!(
            matches!(late, Err(AppendError::Refused(Refusal::NotRetryable))),
            "{late:?}"
        );
        bed
    });
}

#[test]
fn an_entry_that_cannot_be_read_hides_no_other() {
    on_real(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let chat = bed.conversation(&account, "chat").await;
        let mut entries = Vec::new();
        for text in ["broken", "sound"] {
            entries.push(queue(&bed, user.id, &bed.new_message(chat.id, text)).await);
        }
        let broken = entries.remove(0).id;
        let sql = format!("UPDATE outbox SET payload = '\\x00' WHERE id = '{broken}'");
        ask(bed.settings.url.expose_secret(), &sql).await;
        let ids = bed.store.pending_outbox().await.unwrap();
        let page = bed.store.outbox(&ids).await.unwrap();
        assert_eq!((ids.len(), page.entries), (2, entries));
        let unreadable: Vec<_> = page.unreadable.iter().map(|(id, _)| *id).collect();
        assert_eq!(unreadable, [broken]);
        bed
    });
}

#[test]
fn a_repeated_send_finds_the_first_one() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let chat = bed.conversation(&account, "chat").await;
        let with_key = |text: &str, fingerprint: u8| NewMessage {
            idempotency: Some(Idempotency {
                key: "key 1".to_owned(),
                fingerprint: [fingerprint; 32],
            }),
            ..bed.new_message(chat.id, text)
        };
        let first = with_key("hello", 1);
        let entry = queue(&bed, user.id, &first).await;
        let repeat = bed
            .commit(user.id, Change::Queue(Box::new(with_key("hello", 1))))
            .await
            .unwrap();
        assert!(repeat.events.is_empty());
        let queued = repeat.queued.unwrap();
        assert!(queued.is_repeat);
        assert_eq!((queued.message.id, queued.conversation.id), (first.id, chat.id));
        assert_eq!(queued.entry, Some(entry.clone()));
        let other = bed.commit(user.id, Change::Queue(Box::new(with_key("other", 2)))).await;
        assert!(
            matches!(other, Err(AppendError::Refused(Refusal::KeyReused))),
            "{other:?}"
        );
        // The same append, whose answer was lost, without a key.
        let plain = bed.new_message(chat.id, "plain");
        let entry_of_plain = queue(&bed, user.id, &plain).await;
        let again = bed
            .commit(user.id, Change::Queue(Box::new(plain)))
            .await
            .unwrap()
            .queued
            .unwrap();
        assert_eq!((again.is_repeat, again.entry), (true, Some(entry_of_plain)));
        assert_eq!(bed.messages(user.id, chat.id).await.len(), 3);
        // Both in one batch.
        let twice = [1, 1].map(|_| Append {
            user_id: user.id,
            change: Change::Queue(Box::new(NewMessage {
                idempotency: Some(Idempotency {
                    key: "key 2".to_owned(),
                    fingerprint: [2; 32],
                }),
                ..bed.new_message(chat.id, "twice")
            })),
        });
        let answers = bed.store.commit(twice.to_vec()).await.unwrap();
        let repeats: Vec<bool> = answers
            .into_iter()
            .map(|answer| answer.unwrap().queued.unwrap().is_repeat)
            .collect();
        assert_eq!(repeats, [false, true]);

        assert_eq!(bed.store.answer(user.id, "key 1").await.unwrap(), None);
        assert_eq!(
            bed.store
                .save_answer(user.id, "key 1", b"first".to_vec())
                .await
                .unwrap(),
            b"first"
        );
        assert_eq!(
            bed.store
                .save_answer(user.id, "key 1", b"second".to_vec())
                .await
                .unwrap(),
            b"first"
        );
        assert_eq!(
            bed.store.answer(user.id, "key 1").await.unwrap().as_deref(),
            Some(b"first".as_slice())
        );
        // Many at once share a statement, and of one key the first wins for all.
        let saves = (0..50).map(|number| {
            let (store, key) = (&bed.store, if number % 2 == 0 { "key 2" } else { "key 1" });
            async move { store.save_answer(user.id, key, vec![number]).await.unwrap() }
        });
        let saved = futures_util::future::join_all(saves).await;
        for pair in saved.chunks(2) {
            assert_eq!((&pair[0], pair[1].as_slice()), (&saved[0], b"first".as_slice()));
        }
        assert_eq!(
            bed.store.answer(user.id, "key 2").await.unwrap().as_ref(),
            Some(&saved[0])
        );
        assert_eq!(
            bed.store
                .save_answer(user.id, "no key", b"lost".to_vec())
                .await
                .unwrap(),
            b"lost"
        );
        assert_eq!(
            bed.store.answer(UserId(uuid::Uuid::nil()), "key 1").await.unwrap(),
            None
        );
        bed
    });
}

#[test]
fn an_echo_that_came_before_the_answer_becomes_the_message() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let chat = bed.conversation(&account, "chat").await;
        let new = bed.new_message(chat.id, "hello");
        let entry = queue(&bed, user.id, &new).await;
        let now = bed.clock.now();
        let echo = InboundKind::Message(Box::new(InboundMessage {
            external_id: ExternalId::from("p1"),
            sender_id: "shop".to_owned(),
            sender_name: None,
            text: "hello".to_owned(),
            kind: MessageKind::Text,
            media_url: None,
            attachments: Vec::new(),
            reply_to: None,
            is_outgoing: true,
            is_read: true,
            is_history: false,
            sent_at: now,
        }));
        let liked = InboundKind::Reaction {
            message: ExternalId::from("p1"),
            actor_id: "peer".to_owned(),
            emoji: "👍".to_owned(),
            is_active: true,
            at: now,
        };
        bed.inbound(&account, "chat", vec![echo.clone(), liked]).await;
        assert_eq!(bed.messages(user.id, chat.id).await.len(), 3);
        bed.commit(user.id, ended(&entry, sent("p1"))).await.unwrap();
        let messages = bed.messages(user.id, chat.id).await;
        assert_eq!(messages.len(), 2);
        let stored = messages.iter().find(|message| message.id == new.id).unwrap();
        assert_eq!(stored.external_id, Some(ExternalId::from("p1")));
        assert_eq!(
            bed.gap_free(user.id)
                .await
                .iter()
                .filter(|name| **name == "message_deleted")
                .count(),
            1
        );

        // All in one batch, and the echo twice.
        let new = bed.new_message(chat.id, "again");
        let entry = queue(&bed, user.id, &new).await;
        let mut second = echo.clone();
        if let InboundKind::Message(message) = &mut second {
            message.external_id = ExternalId::from("p2");
        }
        let batch = [
            inbound(&account, "chat", vec![second.clone()]),
            ended(&entry, sent("p2")),
            inbound(&account, "chat", vec![second]),
        ];
        let batch = batch.map(|change| Append {
            user_id: user.id,
            change,
        });
        for answer in bed.store.commit(batch.to_vec()).await.unwrap() {
            answer.unwrap();
        }
        assert_eq!(bed.messages(user.id, chat.id).await.len(), 3);
        assert_eq!(bed.outbox().await, []);
        bed
    });
}
