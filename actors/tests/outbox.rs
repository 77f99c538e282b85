//! What holds up the outbox, and what must not, over an in-memory store and a scripted platform.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hub_actors::clock;
use hub_actors::domain::{Account, Act, DeliveryStatus, Message, NewAction, Receipt, SendError, SendFailure};
use hub_actors::ports::SendKey;
use hub_actors::tree::{CommandError, Tree, TreeSettings};
use hub_actors::{AccountId, ConversationId, MessageId, OutboxId};
use support::platform::BLOCKED;
use support::{MemoryStore, START, Scripted, ScriptedAdapter, delivery, new_message, tree, tree_with, until};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));

async fn conversation(tree: &Tree, store: &MemoryStore, account: &Account, chat: &str) -> ConversationId {
    let hello = delivery(&format!("{chat}/hello-{chat}"));
    tree.deliver(account.id, hello).await.unwrap();
    store.rows(|rows| {
        let mut conversations = rows.workspace.conversations.values();
        conversations
            .find(|one| one.external_id.as_str() == chat && one.account_id == account.id)
            .unwrap()
            .id
    })
}

/// Accepts a message without waiting for what becomes of it.
async fn accept(tree: &Tree, account: &Account, id: ConversationId, text: &str) -> MessageId {
    let accepted = tree.send(account.user_id, new_message(id, text), None).await;
    accepted.unwrap().message.id
}

fn message(store: &MemoryStore, id: MessageId) -> Message {
    store.rows(|rows| rows.workspace.messages[&id].clone())
}

async fn sent(store: &MemoryStore, id: MessageId) -> Instant {
    until("it is sent", || message(store, id).status == DeliveryStatus::Sent).await;
    clock::instant()
}

fn wait(seconds: u64) -> Result<Receipt, SendError> {
    let after = Duration::from_secs(seconds);
    Err(SendError::new(SendFailure::RateLimited { after }))
}

fn scripted(platform: &Arc<Scripted>) -> Arc<ScriptedAdapter> {
    Arc::new(ScriptedAdapter(Arc::clone(platform)))
}

#[actix_rt::test]
async fn a_chat_that_waits_long_does_not_put_off_one_that_is_due() {
    let (store, account) = MemoryStore::with_account();
    let mut other = account.clone();
    other.id = AccountId::generate(START);
    store.rows(|rows| rows.workspace.accounts.insert(other.id, other.clone()));
    let platform = Scripted::new(SendKey::Forever);
    let settings = TreeSettings {
        arbiters: 1,
        ..TreeSettings::default()
    };
    let tree = tree_with(&store, scripted(&platform), settings).await;
    let short = conversation(&tree, &store, &account, "short").await;
    let long = conversation(&tree, &store, &other, "long").await;
    platform.answer("short", [wait(1)]);
    platform.answer("long", [wait(3_600)]);
    let due = accept(&tree, &account, short, "due").await;
    until("it is refused", || {
        store.rows(|rows| rows.workspace.outbox.values().any(|entry| entry.attempts == 1))
    })
    .await;
    // When the thread goes on, the answer is there before the timer of the other chat has rung.
    let begun = clock::instant();
    accept(&tree, &other, long, "blocks").await;
    sent(&store, due).await;
    assert!(begun.elapsed() >= BLOCKED, "the premise of this test");
}

#[actix_rt::test]
async fn a_shorter_wait_does_not_end_a_longer_one() {
    let (store, account) = MemoryStore::with_account();
    let platform = Scripted::new(SendKey::Forever);
    let tree = tree(&store, &platform).await;
    let mut chats = Vec::new();
    for chat in ["long", "short", "third"] {
        chats.push(conversation(&tree, &store, &account, chat).await);
    }
    platform.answer("long", [wait(4)]);
    platform.answer("short", [wait(1)]);
    let begun = clock::instant();
    accept(&tree, &account, chats[0], "slow 10").await;
    accept(&tree, &account, chats[1], "slow 300").await;
    until("both are refused", || {
        store.rows(|rows| rows.workspace.outbox.values().all(|entry| entry.attempts == 1))
    })
    .await;
    let third = accept(&tree, &account, chats[2], "third").await;
    let waited = sent(&store, third).await - begun;
    assert!(waited >= Duration::from_secs(4), "{waited:?}");
}

#[actix_rt::test]
async fn a_long_wait_that_the_platform_asked_for_outlives_a_restart() {
    let (store, account) = MemoryStore::with_account();
    let platform = Scripted::new(SendKey::Forever);
    let old = tree(&store, &platform).await;
    let asked = conversation(&old, &store, &account, "asked").await;
    let other = conversation(&old, &store, &account, "other").await;
    platform.answer("asked", [wait(3_600)]);
    accept(&old, &account, asked, "patience").await;
    until("it is refused", || {
        store.rows(|rows| rows.workspace.outbox.values().all(|entry| entry.attempts == 1))
    })
    .await;
    old.stop(Duration::from_secs(2)).await;
    let tree = tree(&store, &platform).await;
    let patience = Some(Duration::from_millis(500));
    let answer = tree.send(account.user_id, new_message(other, "me too"), patience).await;
    assert_eq!(answer.unwrap().message.status, DeliveryStatus::Queued);
    assert_eq!(platform.sent().len(), 1);
}

#[actix_rt::test]
async fn an_entry_that_cannot_be_read_holds_up_no_other() {
    let (store, account) = MemoryStore::with_account();
    let platform = Scripted::new(SendKey::Forever);
    let old = tree(&store, &platform).await;
    let id = conversation(&old, &store, &account, "chat").await;
    old.stop(Duration::from_secs(2)).await;
    let mut queued = Vec::new();
    for text in ["broken", "sound"] {
        let new = new_message(id, text);
        queued.push((new.id, new.outbox_id));
        let user_id = account.user_id;
        let change = hub_actors::domain::Change::Queue(Box::new(new));
        store.apply(&hub_actors::domain::Append { user_id, change }).unwrap();
    }
    store.rows(|rows| rows.unreadable_entries.push(queued[0].1));
    let settings = TreeSettings {
        outbox_look: Duration::from_millis(100),
        ..TreeSettings::default()
    };
    let tree = tree_with(&store, scripted(&platform), settings).await;
    sent(&store, queued[1].0).await;
    let answer = tree.send(account.user_id, new_message(id, "next"), PATIENCE).await;
    assert_eq!(answer.unwrap().message.status, DeliveryStatus::Sent);
    // Its key has come.
    store.rows(|rows| rows.unreadable_entries.clear());
    sent(&store, queued[0].0).await;
    tree.stop(Duration::from_secs(2)).await;
}

#[actix_rt::test]
async fn nobody_waits_while_the_outbox_looks_again() {
    let (store, account) = MemoryStore::with_account();
    let platform = Scripted::new(SendKey::Forever);
    let settings = TreeSettings {
        outbox_look: Duration::from_millis(50),
        ..TreeSettings::default()
    };
    let tree = tree_with(&store, scripted(&platform), settings).await;
    let id = conversation(&tree, &store, &account, "chat").await;
    store.rows(|rows| rows.hides_pending = true);
    until("it looks", || store.rows(|rows| !rows.hides_pending)).await;
    let answer = tree.send(account.user_id, new_message(id, "now"), PATIENCE).await;
    assert_eq!(answer.unwrap().message.status, DeliveryStatus::Sent);
}

#[actix_rt::test]
async fn a_full_outbox_takes_nothing_more_of_any_kind() {
    let (store, account) = MemoryStore::with_account();
    let platform = Scripted::new(SendKey::Forever);
    let settings = TreeSettings {
        outbox_capacity: 1,
        ..TreeSettings::default()
    };
    let tree = tree_with(&store, scripted(&platform), settings).await;
    let id = conversation(&tree, &store, &account, "chat").await;
    let on_platform = store.rows(|rows| *rows.workspace.messages.keys().next().unwrap());
    platform.answer("chat", [Err(SendError::new(SendFailure::Refused))]);
    let failed = tree.send(account.user_id, new_message(id, "failed"), PATIENCE).await;
    let failed = failed.unwrap().message.id;
    accept(&tree, &account, id, "hangs").await;
    until("it is full", || tree.outbox_depth() == 1).await;
    let user_id = account.user_id;
    let act = NewAction {
        outbox_id: OutboxId::generate(START),
        conversation_id: id,
        message_id: on_platform,
        act: Act::Delete,
    };
    let acted = tree.act_on_message(user_id, act, None).await;
    assert!(matches!(acted, Err(CommandError::Busy)), "{acted:?}");
    let retried = tree.retry(user_id, id, failed, None).await;
    assert!(matches!(retried, Err(CommandError::Busy)), "{retried:?}");
    let sent = tree.send(user_id, new_message(id, "more"), None).await;
    assert!(matches!(sent, Err(CommandError::Busy)), "{sent:?}");
    tree.read_conversation(user_id, id).await.unwrap();
    store.rows(|rows| {
        assert_eq!(rows.workspace.conversations[&id].unread_count, 0, "it is read here");
        assert_eq!(rows.workspace.outbox.len(), 2, "and nobody is told");
    });
}

#[actix_rt::test]
async fn a_lost_question_for_the_platform_does_not_end_in_unknown() {
    let (store, account) = MemoryStore::with_account();
    let platform = Scripted::new(SendKey::Forever);
    let old = tree(&store, &platform).await;
    let id = conversation(&old, &store, &account, "chat").await;
    platform.answer("chat", [Err(SendError::new(SendFailure::Unreachable))]);
    let left = accept(&old, &account, id, "left").await;
    old.stop(Duration::from_secs(2)).await;
    platform.answer("chat", [Err(SendError::new(SendFailure::AnswerLost))]);
    store.rows(|rows| rows.heads_lost = 2);
    let _tree = tree(&store, &platform).await;
    sent(&store, left).await;
    assert_eq!(store.rows(|rows| rows.heads_lost), 0, "the premise of this test");
}

#[actix_rt::test]
async fn a_retry_that_is_asked_for_again_is_answered_with_the_message() {
    let (store, account) = MemoryStore::with_account();
    let platform = Scripted::new(SendKey::Forever);
    let tree = tree(&store, &platform).await;
    let id = conversation(&tree, &store, &account, "chat").await;
    let user_id = account.user_id;
    platform.answer("chat", [Err(SendError::new(SendFailure::Refused)), wait(3_600)]);
    let failed = tree.send(user_id, new_message(id, "again"), PATIENCE).await.unwrap();
    assert_eq!(failed.message.status, DeliveryStatus::Failed);
    for is_repeat in [false, true] {
        let retried = tree.retry(user_id, id, failed.message.id, None).await.unwrap();
        assert_eq!(
            (retried.message.status, retried.is_repeat),
            (DeliveryStatus::Queued, is_repeat)
        );
    }
    until("it is tried", || platform.sent().len() == 2).await;
    assert_eq!(platform.sent().len(), 2, "the first retry alone is tried");
}
