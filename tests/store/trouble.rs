//! Appends that cannot be stored hurt only themselves.

use std::time::Duration;

use hub_actors::domain::{Append, Change, InboundKind, Refusal};
use hub_actors::ports::{AppendError, Store as _, StoreError};
use hub_actors::{ConversationId, ExternalId, SessionId, UserId};
use messaging_hub::store::{NewRefreshToken, Rotation};
use uuid::Uuid;

use crate::bed::{Bed, ask, inbound, message, on_each_database, on_real};

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
        let answers = bed.store.commit(batch.clone()).await.unwrap();
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
        let alone = bed.store.commit(batch[1..2].to_vec()).await.unwrap();
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
        let answers = bed.store.commit(batch.to_vec()).await.unwrap();
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
            let answers = bed.store.commit(batch.to_vec()).await.unwrap();
            assert!(
                answers
                    .iter()
                    .all(|answer| matches!(answer, Err(AppendError::Refused(_)))),
                "{answers:?}"
            );
        }
        assert_eq!(bed.gap_free(ben.id).await.len(), 0);
        assert_eq!(bed.gap_free(anna.id).await.len(), 1);
        assert_eq!(bed.store.commit(Vec::new()).await.unwrap().len(), 0);
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

/// The work goes on without its caller.
#[test]
fn an_abandoned_commit_is_brought_to_its_end() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        for round in 0..40_u64 {
            let append = Append {
                user_id: user.id,
                change: inbound(&account, "chat", vec![message(&format!("m{round}"), bed.clock.now())]),
            };
            let patience = Duration::from_micros(round * 150);
            let _ = tokio::time::timeout(patience, bed.store.commit(vec![append])).await;
        }
        let mut stored = 0;
        for _ in 0..500 {
            stored = bed.stream(user.id).await.events.len();
            if stored == 40 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(stored, 40);
        let chat = bed.conversations(user.id).await.remove(0);
        assert_eq!(
            bed.messages(user.id, chat.id).await.len(),
            40,
            "each event has its message"
        );
        bed
    });
}

/// Whoever hangs up in the middle leaves the connection usable, no lock, and nothing half done.
#[test]
fn an_abandoned_transaction_is_rolled_back() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let session_id = SessionId::generate(bed.clock.now());
        let token = |byte: u8| NewRefreshToken {
            id: Uuid::new_v4(),
            session_id,
            user_id: user.id,
            token_hash: [byte; 32],
            expires_at: bed.clock.now() + Duration::from_secs(3600),
        };
        bed.store.start_session(&token(0)).await.unwrap();
        let grace = Duration::from_secs(60);
        for round in 0..40_u8 {
            let patience = Duration::from_micros(u64::from(round) * 100);
            let account = bed.account(user.id, "shop").await;
            let chat = bed.conversation(&account, "chat").await;

            let _ = tokio::time::timeout(patience, bed.store.reset_account(user.id, account.id, &[])).await;
            // It goes step by step: what is left now goes with the next one.
            bed.store.reset_account(user.id, account.id, &[]).await.unwrap();
            let left = bed.conversations(user.id).await;
            assert!(left.iter().all(|left| left.id != chat.id), "{round}");

            let _ = tokio::time::timeout(patience, bed.store.disconnect_account(user.id, account.id)).await;
            let found = bed.store.find_account(user.id, account.id).await.unwrap().unwrap();
            assert_eq!(found.is_active, found.credentials.text("secret").is_some());

            let name = format!("other {round}");
            let linking = bed.store.create_account(bed.new_account(user.id, &name));
            let _ = tokio::time::timeout(patience, linking).await;

            let (old, new) = ([round; 32], token(round + 1));
            let rotating = bed.store.rotate_session(old, &new, b"pair", grace);
            let _ = tokio::time::timeout(patience, rotating).await;
            let rotation = bed.store.rotate_session(old, &new, b"pair", grace).await.unwrap();
            assert!(
                matches!(rotation, Rotation::Rotated | Rotation::Repeated { .. }),
                "{rotation:?}"
            );
            until_none_is_open(&bed).await;
        }
        bed.inbound(
            &bed.account(user.id, "shop").await,
            "chat",
            vec![message("last", bed.clock.now())],
        )
        .await;
        bed
    });
}

/// Waits, five seconds at most, until no transaction waits for its client. The embedded database has only the hub's own
/// connection, whose next statement would fail.
async fn until_none_is_open(bed: &Bed) {
    let url = secrecy::ExposeSecret::expose_secret(&bed.settings.url).to_owned();
    if !url.starts_with("postgres") {
        return;
    }
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let running = tokio::spawn(connection);
    let count = "SELECT count(*) FROM pg_stat_activity \
                 WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    let mut open = 1;
    for _ in 0..250 {
        open = client.query_one(count, &[]).await.unwrap().get::<_, i64>(0);
        if open == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(open, 0, "a transaction stays open");
    drop(client);
    running.await.unwrap().unwrap();
}

/// A hub that stands still in the middle of a transaction holds up its own users only.
#[test]
fn rows_that_others_hold_hold_up_nobody_else() {
    on_real(|bed| async move {
        let (anna, ben) = (bed.user("anna").await, bed.user("ben").await);
        let accounts = [bed.account(anna.id, "shop").await, bed.account(ben.id, "club").await];
        let batch = accounts.clone().map(|account| Append {
            user_id: account.user_id,
            change: inbound(&account, "chat", vec![message("m1", bed.clock.now())]),
        });
        let url = secrecy::ExposeSecret::expose_secret(&bed.settings.url).to_owned();
        let (other, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        let running = tokio::spawn(connection);
        other
            .batch_execute(&format!("BEGIN; SELECT FROM users WHERE id = '{}' FOR UPDATE", anna.id))
            .await
            .unwrap();
        let answers = tokio::time::timeout(Duration::from_secs(8), bed.store.commit(batch.to_vec())).await;
        let answers = answers.unwrap().unwrap();
        assert!(
            matches!(answers[0], Err(AppendError::Store(StoreError::Unavailable(_)))),
            "{:?}",
            answers[0]
        );
        assert_eq!(answers[1].as_ref().unwrap().events.len(), 1);
        other.batch_execute("COMMIT").await.unwrap();
        drop(other);
        running.await.unwrap().unwrap();
        let answers = bed.store.commit(batch.to_vec()).await.unwrap();
        assert_eq!(answers[0].as_ref().unwrap().events.len(), 1);
        assert_eq!(answers[1].as_ref().unwrap().events.len(), 0);
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
                match bed.store.commit(vec![append.clone()]).await {
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
