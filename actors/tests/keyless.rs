//! P3 for a platform without a key: a crash anywhere between reading an outbox entry and storing its receipt leads to
//! at most one send by itself. What may have gone out is `unknown`, with a reason, until the person decides.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use hub_actors::domain::{Account, DeliveryStatus, Message};
use hub_actors::ports::SendKey;
use hub_actors::tree::Tree;
use hub_actors::{ConversationId, MessageId, OutboxId};
use support::{MemoryStore, Scripted, delivery, new_message, tree, until};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));

/// Points on the way out; how often the platform gets the message by itself; what the message says in the end.
const POINTS: [(&str, usize, DeliveryStatus); 7] = [
    ("outbox.started", 1, DeliveryStatus::Sent),
    // From here on it may have gone out, for all that the next life knows.
    ("outbox.marked", 0, DeliveryStatus::Unknown),
    ("outbox.before_send", 0, DeliveryStatus::Unknown),
    ("connection.sent", 1, DeliveryStatus::Unknown),
    ("outbox.after_send", 1, DeliveryStatus::Unknown),
    // From here on the receipt is stored.
    ("outbox.stored", 1, DeliveryStatus::Sent),
    ("outbox.ended", 1, DeliveryStatus::Sent),
];

async fn accept(tree: &Tree, account: &Account, id: ConversationId, text: &str) -> MessageId {
    let accepted = tree.send(account.user_id, new_message(id, text), None).await;
    accepted.unwrap().message.id
}

#[actix_rt::test]
async fn a_crash_at_any_point_sends_at_most_once() {
    for (point, sends, status) in POINTS {
        let scenario = fail::FailScenario::setup();
        let (store, account) = MemoryStore::with_account();
        let platform = Scripted::new(SendKey::None);
        let tree = tree(&store, &platform).await;
        tree.deliver(account.id, delivery("chat/hello")).await.unwrap();
        let id = store.rows(|rows| *rows.workspace.conversations.keys().next().unwrap());
        fail::cfg(point, "1*panic->off").unwrap();
        let crashed = accept(&tree, &account, id, "crashed").await;
        let next = accept(&tree, &account, id, "next").await;
        let message = |id: MessageId| -> Message { store.rows(|rows| rows.workspace.messages[&id].clone()) };
        until(point, || message(next).status == DeliveryStatus::Sent).await;
        let count = || platform.sent().iter().filter(|(_, text)| text == "crashed").count();
        assert_eq!((message(crashed).status, count()), (status, sends), "{point}");
        assert_eq!(platform.sent().last().unwrap().1, "next", "{point}: the order stays");
        if status == DeliveryStatus::Unknown {
            let reason = message(crashed).status_reason.unwrap();
            assert!(reason.contains("not known whether"), "{point}: {reason}");
            let retried = tree.retry(account.user_id, id, crashed, PATIENCE).await.unwrap();
            assert_eq!(retried.message.status, DeliveryStatus::Sent, "{point}");
            assert_eq!(count(), sends + 1, "{point}: only the person's retry sends again");
        }
        let keys: Vec<OutboxId> = platform.sends.lock().unwrap().iter().map(|(key, ..)| *key).collect();
        let distinct = keys.iter().collect::<std::collections::BTreeSet<_>>().len();
        assert_eq!(distinct, 2, "{point}: each message has one key");
        tree.stop(Duration::from_secs(2)).await;
        scenario.teardown();
    }
}
