//! An event of a live link that crashes whoever works on it. On its own, because failpoints are one for the whole process.
#![cfg(feature = "failpoints")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;

use hub_actors::domain::AccountState;
use support::live::{Live, batch, setup};
use support::{message_event, tree_of, until};

#[actix_rt::test]
async fn an_event_that_crashes_its_conversation_is_put_aside_before_the_conversation_is_stopped() {
    let (store, account, platform) = setup();
    let tree = tree_of(&store, Arc::new(Live(Arc::clone(&platform)))).await;
    until("the link is open", || platform.feed.lock().unwrap().is_some()).await;
    fail::cfg("conversation.before_append", "panic").unwrap();
    let alone = batch(vec![message_event("a", "poison")], "7");
    platform.feed().take(alone).await.unwrap();
    fail::remove("conversation.before_append");
    let next = batch(vec![message_event("a", "good")], "8");
    platform.feed().take(next).await.unwrap();
    store.rows(|rows| {
        assert_eq!((rows.quarantine.len(), rows.workspace.messages.len()), (1, 1));
        assert_eq!(rows.memory["cursor"], b"8");
        assert_eq!(rows.workspace.accounts[&account.id].state, AccountState::Live);
    });
    let nodes = tree.nodes().await;
    let conversation = nodes.iter().find(|node| node.path.starts_with("conversations/"));
    assert_eq!(conversation.unwrap().restarts, 3);
}
