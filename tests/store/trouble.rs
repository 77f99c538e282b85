//! Appends that cannot be stored hurt only themselves.

use std::time::Duration;

use hub_actors::domain::{Append, Change, InboundKind, Refusal};
use hub_actors::ports::{AppendError, Store as _, StoreError};
use hub_actors::{ConversationId, ExternalId, UserId};
use uuid::Uuid;

use crate::bed::{ask, inbound, message, on_each_database, on_real};

#[test]
fn a_row_that_the_database_refuses_hurts_only_itself() {
    on_each_database(|bed| async move {
        let (anna, ben) = (bed.user("anna").await, bed.user("ben").await);
        let accounts = [bed.account(anna.id, "shop").await, bed.account(ben.id, "club").await];
        let now = bed.clock.now();
        let mut bad = message("bad", now);
        if let InboundKind::Message(message) = &mut bad {
            message.sender_name = Some("a \0 in it".to_owned());
        }
        let batch = [
            inbound(&accounts[0], "chat", vec![message("m1", now)]),
            inbound(&accounts[0], "chat", vec![bad]),
            inbound(&accounts[0], "chat", vec![message("m2", now)]),
        ];
        let mut batch: Vec<Append> = batch
            .into_iter()
            .map(|change| Append {
                user_id: anna.id,
                change,
            })
            .collect();
        batch.push(Append {
            user_id: ben.id,
            change: inbound(&accounts[1], "chat", vec![message("m1", now)]),
        });
        batch.push(Append {
            user_id: ben.id,
            change: inbound(&accounts[0], "chat", vec![message("m1", now)]),
        });
        let answers = bed.store.commit(&batch).await.unwrap();
        let events: Vec<usize> = answers.iter().flatten().map(|appended| appended.events.len()).collect();
        assert_eq!(events, [1, 1, 1]);
        assert!(
            matches!(&answers[1], Err(AppendError::Poison(text)) if text.contains("22021")),
            "{:?}",
            answers[1]
        );
        assert!(matches!(answers[4], Err(AppendError::Refused(Refusal::NoAccount))));
        assert_eq!(bed.gap_free(anna.id).await.len(), 2);
        assert_eq!(bed.gap_free(ben.id).await.len(), 1);
        let alone = bed.store.commit(&batch[1..2]).await.unwrap();
        assert!(matches!(&alone[0], Err(AppendError::Poison(_))));
        bed
    });
}

/// The way to a panic is an overflow, which only builds with checks notice.
#[cfg(debug_assertions)]
#[test]
fn a_rule_that_panics_hurts_only_its_append() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let chat = bed.conversation(&account, "chat").await;
        let new = bed.new_message(chat.id, "hello");
        let queued = bed
            .commit(user.id, Change::Queue(Box::new(new)))
            .await
            .unwrap()
            .queued
            .unwrap();
        let mut entry = queued.entry.unwrap();
        // One more try than a number can count: an overflow, which panics in tests.
        entry.attempts = i32::MAX;
        let batch = [
            inbound(&account, "chat", vec![message("m1", bed.clock.now())]),
            Change::SendStarted { entry: Box::new(entry) },
            inbound(&account, "chat", vec![message("m2", bed.clock.now())]),
        ];
        let batch = batch.map(|change| Append {
            user_id: user.id,
            change,
        });
        let answers = bed.store.commit(&batch).await.unwrap();
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2);
        assert!(
            matches!(&answers[1], Err(AppendError::Poison(text)) if text.contains("overflow")),
            "{:?}",
            answers[1]
        );
        assert_eq!(bed.gap_free(user.id).await.len(), 4);
        bed
    });
}

#[test]
fn what_is_not_the_users_is_refused() {
    on_each_database(|bed| async move {
        let (anna, ben) = (bed.user("anna").await, bed.user("ben").await);
        let account = bed.account(anna.id, "shop").await;
        let chat = bed.conversation(&account, "chat").await;
        let first = bed.messages(anna.id, chat.id).await.remove(0);
        let nowhere = ConversationId(Uuid::nil());
        let changes = [
            Change::Queue(Box::new(bed.new_message(chat.id, "not mine"))),
            Change::Queue(Box::new(bed.new_message(nowhere, "nowhere"))),
            Change::ReadMessage {
                message_id: first.id,
                conversation_id: chat.id,
            },
            Change::ReadConversation {
                conversation_id: chat.id,
                tell_platform: true,
            },
            Change::Retry {
                message_id: first.id,
                conversation_id: chat.id,
            },
            inbound(&account, "chat", vec![message("m", bed.clock.now())]),
        ];
        for user_id in [ben.id, UserId(Uuid::nil())] {
            let batch = changes.clone().map(|change| Append { user_id, change });
            let answers = bed.store.commit(&batch).await.unwrap();
            assert!(
                answers
                    .iter()
                    .all(|answer| matches!(answer, Err(AppendError::Refused(_)))),
                "{answers:?}"
            );
        }
        assert_eq!(bed.gap_free(ben.id).await.len(), 0);
        assert_eq!(bed.gap_free(anna.id).await.len(), 1);
        assert_eq!(bed.store.commit(&[]).await.unwrap().len(), 0);
        bed.store.disconnect_account(anna.id, account.id).await.unwrap();
        let late = bed
            .commit(anna.id, Change::Queue(Box::new(bed.new_message(chat.id, "late"))))
            .await;
        assert!(
            matches!(late, Err(AppendError::Refused(Refusal::AccountDisconnected))),
            "{late:?}"
        );
        bed
    });
}

/// A caller that goes away in the middle leaves the connection usable and nothing half done.
#[test]
fn an_abandoned_commit_leaves_no_trace_and_no_lock() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        for round in 0..40_u64 {
            let append = Append {
                user_id: user.id,
                change: inbound(&account, "chat", vec![message(&format!("m{round}"), bed.clock.now())]),
            };
            let patience = Duration::from_micros(round * 150);
            let _ = tokio::time::timeout(patience, bed.store.commit(std::slice::from_ref(&append))).await;
        }
        bed.inbound(&account, "chat", vec![message("last", bed.clock.now())])
            .await;
        let chat = bed.conversations(user.id).await.remove(0);
        // What was abandoned is brought to its end, or not, without being waited for.
        let mut counts = (0, 1);
        for _ in 0..200 {
            counts = (
                bed.gap_free(user.id).await.len(),
                bed.messages(user.id, chat.id).await.len(),
            );
            if counts.0 == counts.1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(counts.0, counts.1, "each message has its event");
        bed
    });
}

#[test]
fn a_server_that_ends_connections_is_told_and_no_change_is_half_done() {
    on_real(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let url = secrecy::ExposeSecret::expose_secret(&bed.settings.url).to_owned();
        let killer = tokio::spawn(async move {
            for _ in 0..15 {
                let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                           WHERE datname = current_database() AND pid <> pg_backend_pid()";
                ask(&url, end).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut committed = 0;
        let mut troubles = Vec::new();
        for number in 0.. {
            if killer.is_finished() {
                break;
            }
            let append = Append {
                user_id: user.id,
                change: inbound(&account, "chat", vec![message(&format!("m{number}"), bed.clock.now())]),
            };
            // Repeated until it is stored: safe, because a message that is there already is not stored again.
            loop {
                match bed.store.commit(std::slice::from_ref(&append)).await {
                    Ok(answers) => {
                        answers[0].as_ref().unwrap();
                        committed += 1;
                        break;
                    }
                    Err(error) => troubles.push(error),
                }
            }
        }
        killer.await.unwrap();
        assert!(!troubles.is_empty());
        assert!(
            troubles.iter().all(|trouble| !matches!(trouble, StoreError::Failed(_))),
            "{troubles:?}"
        );
        assert_eq!(bed.gap_free(user.id).await.len(), committed);
        bed
    });
}

/// Longer than an entry of an index can be.
#[test]
fn an_id_that_is_too_long_is_refused() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        // Random, so that it does not compress.
        let id: String = (0..400).map(|_| Uuid::new_v4().simple().to_string()).collect();
        let answer = bed
            .commit(user.id, inbound(&account, "chat", vec![message(&id, bed.clock.now())]))
            .await;
        assert!(matches!(answer, Err(AppendError::Poison(_))), "{answer:?}");
        let deleted = InboundKind::Deleted {
            message: ExternalId::from(id),
            at: bed.clock.now(),
        };
        let answer = bed.commit(user.id, inbound(&account, "chat", vec![deleted])).await;
        assert!(matches!(answer, Err(AppendError::Poison(_))), "{answer:?}");
        bed
    });
}
