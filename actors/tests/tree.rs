//! The living tree over an in-memory store and a scripted platform.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers in tests are small"
)]

mod support;

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use hub_actors::domain::{
    Account, AccountState, Append, Change, DeliveryStatus, Idempotency, Message, NewMessage, OutboxState, Receipt,
    SendError, SendFailure, StreamPosition,
};
use hub_actors::ports::SendKey;
use hub_actors::session::CloseReason;
use hub_actors::tree::{DeliverError, Delivered, SendAnswer, Tree};
use hub_actors::{AccountId, ConversationId, MessageId, OutboxId, Seq, SessionId};
use support::sockets::Ear;
use support::{MemoryStore, START, Scripted, delivery, new_message, tree, until};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));

async fn conversation(tree: &Tree, store: &MemoryStore, account: &Account, chat: &str) -> ConversationId {
    tree.deliver(account.id, delivery(&format!("{chat}/hello-{chat}")))
        .await
        .unwrap();
    store.rows(|rows| {
        let conversations = &mut rows.workspace.conversations.values();
        conversations
            .find(|conversation| conversation.external_id.as_str() == chat)
            .unwrap()
            .id
    })
}

async fn send(tree: &Tree, account: &Account, id: ConversationId, text: &str) -> SendAnswer {
    tree.send(account.user_id, new_message(id, text), PATIENCE)
        .await
        .unwrap()
}

fn message(store: &MemoryStore, id: MessageId) -> Message {
    store.rows(|rows| rows.workspace.messages[&id].clone())
}

fn refused(failure: SendFailure) -> Result<Receipt, SendError> {
    Err(SendError::new(failure))
}

#[actix_rt::test]
async fn a_message_comes_in_once_and_a_reply_goes_out() {
    let (store, account) = MemoryStore::with_account();
    let platform = Scripted::new(SendKey::Forever);
    let tree = tree(&store, &platform).await;
    assert_eq!(
        tree.deliver(account.id, delivery("chat/m1")).await,
        Ok(Delivered::Committed { events: 1 })
    );
    assert_eq!(
        tree.deliver(account.id, delivery("chat/m1")).await,
        Ok(Delivered::Committed { events: 0 })
    );
    let id = conversation(&tree, &store, &account, "chat").await;
    let answer = send(&tree, &account, id, "reply").await;
    assert_eq!(answer.message.status, DeliveryStatus::Sent);
    assert_eq!(platform.sent(), [("chat".to_owned(), "reply".to_owned())]);
    assert_eq!(tree.outbox_depth(), 0);
    let nobody = AccountId::generate(START);
    assert_eq!(
        tree.deliver(nobody, delivery("chat/m1")).await,
        Err(DeliverError::NoAccount)
    );
}

#[actix_rt::test]
async fn what_cannot_be_mapped_or_crashes_is_quarantined() {
    let (store, account) = MemoryStore::with_account();
    let tree = tree(&store, &Scripted::new(SendKey::Forever)).await;
    assert_eq!(
        tree.deliver(account.id, delivery("nonsense")).await,
        Ok(Delivered::Quarantined)
    );
    assert_eq!(
        tree.deliver(account.id, delivery("poison")).await,
        Ok(Delivered::Quarantined)
    );
    assert_eq!(
        tree.deliver(account.id, delivery("chat/m1")).await,
        Ok(Delivered::Committed { events: 1 })
    );
    let reasons = store.rows(|rows| rows.quarantine.iter().map(|one| one.reason.clone()).collect::<Vec<_>>());
    assert_eq!(reasons, ["no chat", "it crashed its handler three times"]);
    let connection = tree
        .nodes()
        .await
        .into_iter()
        .find(|node| node.path.starts_with("connections/"))
        .unwrap();
    assert_eq!(connection.restarts, 3);
    assert!(connection.last_error.unwrap().starts_with("a poisonous delivery"));
}

#[actix_rt::test]
async fn six_crashes_in_a_minute_stop_only_that_account_and_show_it() {
    let (store, account) = MemoryStore::with_account();
    let mut other = account.clone();
    other.id = AccountId::generate(START);
    store.rows(|rows| rows.workspace.accounts.insert(other.id, other.clone()));
    let tree = tree(&store, &Scripted::new(SendKey::Forever)).await;
    for _ in 0..2 {
        assert_eq!(
            tree.deliver(account.id, delivery("poison")).await,
            Ok(Delivered::Quarantined)
        );
    }
    assert!(matches!(
        tree.deliver(account.id, delivery("chat/m1")).await,
        Err(DeliverError::Unavailable(_))
    ));
    assert_eq!(
        tree.deliver(other.id, delivery("chat/m1")).await,
        Ok(Delivered::Committed { events: 1 })
    );
    until("the account shows that it is stopped", || {
        store.rows(|rows| rows.workspace.accounts[&account.id].state == AccountState::Failed)
    })
    .await;
    tree.reload_account(account.id);
    until_delivered(&tree, account.id).await;
}

async fn until_delivered(tree: &Tree, account_id: AccountId) {
    for _ in 0..100 {
        if tree.deliver(account_id, delivery("chat/m2")).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a reset account takes deliveries again");
}

#[actix_rt::test]
async fn a_stuck_chat_keeps_its_order_and_holds_up_no_other() {
    let (store, account) = MemoryStore::with_account();
    let platform = Scripted::new(SendKey::Forever);
    let tree = tree(&store, &platform).await;
    let stuck = conversation(&tree, &store, &account, "stuck").await;
    let free = conversation(&tree, &store, &account, "free").await;
    platform.answer(
        "stuck",
        [refused(SendFailure::Unreachable), refused(SendFailure::PlatformFailed)],
    );
    let first = tree
        .send(account.user_id, new_message(stuck, "one"), None)
        .await
        .unwrap()
        .message;
    let second = tree
        .send(account.user_id, new_message(stuck, "two"), None)
        .await
        .unwrap()
        .message;
    assert_eq!(
        send(&tree, &account, free, "at once").await.message.status,
        DeliveryStatus::Sent
    );
    until("both are sent", || {
        message(&store, second.id).status == DeliveryStatus::Sent
    })
    .await;
    assert_eq!(message(&store, first.id).status, DeliveryStatus::Sent);
    let sent: Vec<String> = platform
        .sent()
        .into_iter()
        .filter(|(chat, _)| chat == "stuck")
        .map(|(_, text)| text)
        .collect();
    assert_eq!(sent, ["one", "one", "one", "two"]);
}

#[actix_rt::test]
async fn without_a_key_a_lost_answer_is_never_sent_again_by_itself() {
    let (store, account) = MemoryStore::with_account();
    let platform = Scripted::new(SendKey::None);
    let tree = tree(&store, &platform).await;
    let id = conversation(&tree, &store, &account, "chat").await;
    platform.answer("chat", [refused(SendFailure::AnswerLost)]);
    let lost = send(&tree, &account, id, "where am I").await.message;
    assert_eq!(lost.status, DeliveryStatus::Unknown);
    assert!(lost.status_reason.unwrap().contains("did not answer"));
    assert_eq!(platform.sent().len(), 1);
    let again = tree
        .retry(account.user_id, id, lost.id, PATIENCE)
        .await
        .unwrap()
        .message;
    assert_eq!((again.id, again.status), (lost.id, DeliveryStatus::Sent));
    let keys: Vec<OutboxId> = platform.sends.lock().unwrap().iter().map(|(key, ..)| *key).collect();
    assert_eq!(keys[0], keys[1], "a retry by the person uses the same key");
}

#[actix_rt::test]
async fn the_last_answer_says_whether_an_account_works() {
    let (store, account) = MemoryStore::with_account();
    let platform = Scripted::new(SendKey::Forever);
    let tree = tree(&store, &platform).await;
    let slow = conversation(&tree, &store, &account, "slow").await;
    let quick = conversation(&tree, &store, &account, "quick").await;
    let state = || store.rows(|rows| rows.workspace.accounts[&account.id].state);
    let waits = new_message(slow, "waits");
    tree.send(account.user_id, waits, None).await.unwrap();
    until("it is under way", || platform.sent().len() == 1).await;
    platform.answer("quick", [refused(SendFailure::Unauthorized)]);
    let refused = new_message(quick, "refused");
    tree.send(account.user_id, refused, None).await.unwrap();
    until("the account is refused", || state() == AccountState::NeedsLogin).await;
    platform.goes_on.notify_one();
    until("the account works", || state() == AccountState::Live).await;
}

#[actix_rt::test]
async fn a_refusal_fails_the_message_with_its_reason() {
    let (store, account) = MemoryStore::with_account();
    let platform = Scripted::new(SendKey::Forever);
    let tree = tree(&store, &platform).await;
    let id = conversation(&tree, &store, &account, "chat").await;
    platform.answer("chat", [Err(SendError::with_detail(SendFailure::Refused, "too rude"))]);
    let failed = send(&tree, &account, id, "hmpf").await.message;
    assert_eq!(failed.status, DeliveryStatus::Failed);
    assert_eq!(
        failed.status_reason.as_deref(),
        Some("The platform refused the message (too rude)")
    );
    assert_eq!(
        send(&tree, &account, id, "better").await.message.status,
        DeliveryStatus::Sent
    );
}

#[actix_rt::test]
async fn a_new_tree_finishes_what_an_old_one_left() {
    let (store, account) = MemoryStore::with_account();
    let platform = Scripted::new(SendKey::Forever);
    let old = tree(&store, &platform).await;
    let id = conversation(&old, &store, &account, "chat").await;
    platform.answer("chat", (0..3).map(|_| refused(SendFailure::Unreachable)));
    let left = old
        .send(account.user_id, new_message(id, "left behind"), None)
        .await
        .unwrap()
        .message;
    old.stop(Duration::from_secs(2)).await;
    assert_eq!(message(&store, left.id).status, DeliveryStatus::Queued);
    let _new = tree(&store, &platform).await;
    until("it is sent", || message(&store, left.id).status == DeliveryStatus::Sent).await;
}

/// The database brings a commit of a killed hub to its end after the next one has read its outbox; then the client, who
/// has no answer yet, comes again.
#[actix_rt::test]
async fn what_a_killed_hub_committed_late_keeps_its_place() {
    let (store, account) = MemoryStore::with_account();
    let platform = Scripted::new(SendKey::Forever);
    let tree = tree(&store, &platform).await;
    let id = conversation(&tree, &store, &account, "chat").await;
    let asked = || NewMessage {
        idempotency: Some(Idempotency {
            key: "key".to_owned(),
            fingerprint: [7; 32],
        }),
        ..new_message(id, "late")
    };
    let late = Append {
        user_id: account.user_id,
        change: Change::Queue(Box::new(asked())),
    };
    store.apply(&late).unwrap();
    let again = tree.send(account.user_id, asked(), None).await.unwrap();
    assert!(again.is_repeat);
    assert_eq!(
        send(&tree, &account, id, "next").await.message.status,
        DeliveryStatus::Sent
    );
    let texts: Vec<String> = platform.sent().into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["late", "next"]);
}

#[actix_rt::test]
async fn a_try_without_an_answer_is_let_go_when_the_tree_stops() {
    for (send_key, status, state) in [
        (SendKey::None, DeliveryStatus::Unknown, OutboxState::Stopped),
        (SendKey::Forever, DeliveryStatus::Queued, OutboxState::Queued),
    ] {
        let (store, account) = MemoryStore::with_account();
        let platform = Scripted::new(send_key);
        let tree = tree(&store, &platform).await;
        let id = conversation(&tree, &store, &account, "chat").await;
        let hanging = tree
            .send(account.user_id, new_message(id, "hangs"), None)
            .await
            .unwrap();
        until("it is under way", || platform.sent().len() == 1).await;
        tree.stop(Duration::from_secs(2)).await;
        let entry = store.rows(|rows| rows.workspace.outbox.values().next().cloned().unwrap());
        assert_eq!(entry.state, state, "{send_key:?}");
        assert_eq!(message(&store, hanging.message.id).status, status, "{send_key:?}");
    }
}

#[actix_rt::test]
async fn sockets_follow_resume_and_end() {
    let (store, account) = MemoryStore::with_account();
    let tree = tree(&store, &Scripted::new(SendKey::Forever)).await;
    let session_id = SessionId::generate(START);
    let live = Ear::default();
    tree.listen(account.user_id, session_id, None, Box::new(live.clone()))
        .await
        .unwrap();
    for number in 1..=600 {
        tree.deliver(account.id, delivery(&format!("chat/m{number}")))
            .await
            .unwrap();
    }
    until("all events are live", || live.numbers().len() == 600).await;
    assert_eq!(live.numbers(), (1..=600).collect::<Vec<_>>());
    for since in [0, 10, 599, 600] {
        let away = Ear::default();
        let position = StreamPosition {
            epoch: "memory".to_owned(),
            seq: Seq(since),
        };
        tree.listen(account.user_id, session_id, Some(position), Box::new(away.clone()))
            .await
            .unwrap();
        until("it has caught up", || away.numbers().len() == 600 - since as usize).await;
        assert_eq!(away.numbers(), (since + 1..=600).collect::<Vec<_>>());
        assert!(away.0.lock().unwrap().opened.as_ref().unwrap().1, "recovered");
    }
    for (epoch, seq) in [("other", 5), ("memory", 601)] {
        let lost = Ear::default();
        let position = StreamPosition {
            epoch: epoch.to_owned(),
            seq: Seq(seq),
        };
        tree.listen(account.user_id, session_id, Some(position), Box::new(lost.clone()))
            .await
            .unwrap();
        let opened = lost.0.lock().unwrap().opened.clone().unwrap();
        assert_eq!((opened.0.seq, opened.1), (Seq(600), false), "it begins at the tail");
    }
    tree.end_session(account.user_id, session_id);
    until("the socket is ended", || {
        live.0.lock().unwrap().closed == Some(CloseReason::SessionEnded)
    })
    .await;
}

#[actix_rt::test]
async fn storage_that_is_away_is_answered_and_comes_back() {
    let (store, account) = MemoryStore::with_account();
    let tree = tree(&store, &Scripted::new(SendKey::Forever)).await;
    tree.deliver(account.id, delivery("chat/m1")).await.unwrap();
    store.rows(|rows| rows.is_away = true);
    assert!(matches!(
        tree.deliver(account.id, delivery("chat/m2")).await,
        Err(DeliverError::Unavailable(_))
    ));
    store.rows(|rows| rows.is_away = false);
    assert_eq!(
        tree.deliver(account.id, delivery("chat/m2")).await,
        Ok(Delivered::Committed { events: 1 })
    );
}

#[actix_rt::test]
async fn appends_that_arrive_while_one_is_committed_share_the_next_commits() {
    let (store, account) = MemoryStore::with_account();
    let tree = tree(&store, &Scripted::new(SendKey::Forever)).await;
    for chat in 0..50 {
        conversation(&tree, &store, &account, &format!("chat-{chat}")).await;
    }
    let bodies: Vec<String> = (0..500)
        .map(|number| format!("chat-{}/m{number}", number % 50))
        .collect();
    let mut deliveries: Vec<_> = bodies
        .iter()
        .map(|body| Box::pin(tree.deliver(account.id, delivery(body))))
        .collect();
    let before = store.begun();
    store.rows(|_| {
        assert_eq!((&mut deliveries[0]).now_or_never(), None);
        while store.begun() == before {
            std::thread::yield_now();
        }
        for delivery in &mut deliveries[1..] {
            assert_eq!(delivery.now_or_never(), None);
        }
    });
    let results = join_all(deliveries).await;
    assert!(
        results
            .iter()
            .all(|result| *result == Ok(Delivered::Committed { events: 1 }))
    );
    // The first alone; the others in full batches, or as many as one conversation hands over at once.
    let commits = store.begun() - before;
    assert!((5..=60).contains(&commits), "{commits} commits for 500 appends");
}

#[actix_rt::test]
async fn what_a_person_does_in_a_conversation_is_committed_in_its_order() {
    let (store, account) = MemoryStore::with_account();
    let platform = Scripted::new(SendKey::Forever);
    let tree = tree(&store, &platform).await;
    let id = conversation(&tree, &store, &account, "chat").await;
    send(&tree, &account, id, "so that it is known").await;
    let texts = ["one", "two", "three", "four"];
    let mut sends: Vec<_> = texts
        .iter()
        .map(|text| Box::pin(tree.send(account.user_id, new_message(id, text), None)))
        .collect();
    let before = store.begun();
    // The actors' thread stands in the commit of the first while the others arrive: they and its end are met together.
    store.rows(|_| {
        assert!((&mut sends[0]).now_or_never().is_none());
        while store.begun() == before {
            std::thread::yield_now();
        }
        for send in &mut sends[1..] {
            assert!(send.now_or_never().is_none());
        }
    });
    assert!(join_all(sends).await.iter().all(Result::is_ok));
    until("all are sent", || platform.sent().len() == 5).await;
    let sent: Vec<String> = platform.sent().into_iter().map(|(_, text)| text).collect();
    assert_eq!(sent[1..], texts);
}
