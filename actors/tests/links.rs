//! Live links in the tree, over an in-memory store: leases, cursors, and links that end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use hub_actors::domain::{Account, AccountState, Append, Change, DeliveryStatus, InboundKind, SendFailure};
use hub_actors::ports::{FeedError, LinkEnd, MediaRequest};
use hub_actors::{ConversationId, ExternalId, SessionId, clock};
use support::live::{Live, batch, setup};
use support::sockets::Ear;
use support::{MemoryStore, START, message_event, new_message, tree_of, until};

fn state(store: &MemoryStore, account: &Account) -> AccountState {
    store.rows(|rows| rows.workspace.accounts[&account.id].state)
}

fn lost() -> LinkEnd {
    LinkEnd::Lost {
        reason: "the line is dead".to_owned(),
        not_before: Some(Duration::from_millis(300)),
    }
}

#[actix_rt::test]
async fn what_a_link_hears_is_stored_with_its_cursor_and_sends_go_through_it() {
    let (store, account, platform) = setup();
    let tree = tree_of(&store, Arc::new(Live(Arc::clone(&platform)))).await;
    until("the link is open", || platform.feed.lock().unwrap().is_some()).await;
    let events = vec![
        message_event("a", "1"),
        message_event("b", "1"),
        message_event("a", "2"),
    ];
    platform.feed().take(batch(events, "7")).await.unwrap();
    let (messages, memory) = store.rows(|rows| (rows.workspace.messages.len(), rows.memory.clone()));
    assert_eq!((messages, memory["cursor"].as_slice()), (3, b"7".as_slice()));
    // The same again, as after a lost answer: nothing twice, and the cursor moves.
    platform
        .feed()
        .take(batch(vec![message_event("a", "2")], "8"))
        .await
        .unwrap();
    platform.feed().take(batch(Vec::new(), "9")).await.unwrap();
    let (messages, memory) = store.rows(|rows| (rows.workspace.messages.len(), rows.memory.clone()));
    assert_eq!((messages, memory["cursor"].as_slice()), (3, b"9".as_slice()));

    let id = store.rows(|rows| *rows.workspace.conversations.keys().next().unwrap());
    let answer = tree
        .send(account.user_id, new_message(id, "hello"), Some(Duration::from_secs(5)))
        .await
        .unwrap();
    assert_eq!(answer.message.status, DeliveryStatus::Sent);
    assert_eq!(*platform.sent.lock().unwrap(), ["hello"]);
    until("the state is told", || state(&store, &account) == AccountState::Live).await;
}

#[actix_rt::test]
async fn a_link_that_breaks_is_made_again_and_what_waited_goes_out() {
    let (store, account, platform) = setup();
    let tree = tree_of(&store, Arc::new(Live(Arc::clone(&platform)))).await;
    until("the link is open", || platform.feed.lock().unwrap().is_some()).await;
    platform
        .feed()
        .take(batch(vec![message_event("a", "1")], "7"))
        .await
        .unwrap();
    let id = store.rows(|rows| *rows.workspace.conversations.keys().next().unwrap());
    *platform.refuse.lock().unwrap() = Some(lost());
    platform.end(lost());
    until("the break is told", || state(&store, &account) == AccountState::Backoff).await;
    assert!(store.rows(|rows| rows.workspace.accounts[&account.id].state_until.is_some()));
    let answer = tree
        .send(account.user_id, new_message(id, "patience"), None)
        .await
        .unwrap();
    assert_eq!(answer.message.status, DeliveryStatus::Queued);
    until("it is tried again", || platform.opens() >= 2).await;
    assert!(platform.sent.lock().unwrap().is_empty());
    *platform.refuse.lock().unwrap() = None;
    until("it goes out", || *platform.sent.lock().unwrap() == ["patience"]).await;
    assert_eq!(
        platform.memory.lock().unwrap()["cursor"],
        b"7",
        "the new link begins where the old one ended"
    );
}

#[actix_rt::test]
async fn a_link_that_is_made_again_does_not_end_a_wait_that_the_platform_asked_for() {
    let (store, account, platform) = setup();
    let tree = tree_of(&store, Arc::new(Live(Arc::clone(&platform)))).await;
    until("the link is open", || platform.feed.lock().unwrap().is_some()).await;
    let events = vec![message_event("a", "1"), message_event("b", "1")];
    platform.feed().take(batch(events, "7")).await.unwrap();
    let chats: Vec<ConversationId> = store.rows(|rows| rows.workspace.conversations.keys().copied().collect());
    *platform.wait.lock().unwrap() = Some(Duration::from_secs(6));
    let begun = clock::instant();
    let send = async |chat: usize, text: &str| {
        let sent = tree.send(account.user_id, new_message(chats[chat], text), None).await;
        sent.unwrap().message.id
    };
    send(0, "first").await;
    until("it is refused", || {
        store.rows(|rows| rows.workspace.outbox.values().all(|entry| entry.attempts == 1))
    })
    .await;
    let second = send(1, "second").await;
    platform.end(lost());
    until("the link is open again", || {
        platform.opens() == 2 && state(&store, &account) == AccountState::Live
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(5), "the premise of this test");
    until("the second goes out", || {
        store.rows(|rows| rows.workspace.messages[&second].status == DeliveryStatus::Sent)
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[actix_rt::test]
async fn an_owner_that_was_replaced_changes_nothing() {
    let (store, account, platform) = setup();
    let _tree = tree_of(&store, Arc::new(Live(Arc::clone(&platform)))).await;
    until("the link is open", || platform.feed.lock().unwrap().is_some()).await;
    store.rows(|rows| rows.workspace.leases.insert(account.id, 2));
    let late = platform.feed().take(batch(vec![message_event("a", "1")], "7")).await;
    assert_eq!(late, Err(FeedError::LeaseLost));
    assert!(store.rows(|rows| rows.workspace.messages.is_empty() && rows.memory.is_empty()));
}

#[actix_rt::test]
async fn credentials_that_are_refused_are_not_tried_again() {
    let (store, account, platform) = setup();
    let end = LinkEnd::NeedsLogin {
        reason: "log in again".to_owned(),
    };
    *platform.refuse.lock().unwrap() = Some(end);
    let tree = tree_of(&store, Arc::new(Live(Arc::clone(&platform)))).await;
    until("it is told", || state(&store, &account) == AccountState::NeedsLogin).await;
    tree.refresh_link(account.id);
    let request = MediaRequest {
        locator: String::new(),
        offset: 0,
        length: 1,
    };
    let asked = tree.media(account.id, request).await;
    let failure = asked.err().map(|error| error.failure);
    assert_eq!(failure, Some(SendFailure::Unauthorized), "it waits for its person");
    assert_eq!(platform.opens(), 1);
    // The person logs in again.
    *platform.refuse.lock().unwrap() = None;
    tree.account_linked(account.user_id, account.id).await.unwrap();
    until("the link is open", || state(&store, &account) == AccountState::Live).await;
}

#[actix_rt::test]
async fn somebody_who_types_is_shown_by_a_hub_that_has_just_started() {
    let (store, account, platform) = setup();
    let change = Change::Inbound {
        account_id: account.id,
        conversation: ExternalId::from("a"),
        events: vec![message_event("a", "1")],
        link: None,
    };
    let user_id = account.user_id;
    store.apply(&Append { user_id, change }).unwrap();
    let tree = tree_of(&store, Arc::new(Live(Arc::clone(&platform)))).await;
    until("the link is open", || platform.feed.lock().unwrap().is_some()).await;
    let (ear, session_id) = (Ear::default(), SessionId::generate(START));
    tree.listen(user_id, session_id, None, Box::new(ear.clone()))
        .await
        .unwrap();
    for chat in ["unknown", "a"] {
        let mut typing = message_event(chat, "typing");
        typing.kind = InboundKind::Typing {
            actor_id: "peer".to_owned(),
            actor_name: None,
        };
        platform.feed().take(batch(vec![typing], "7")).await.unwrap();
    }
    until("it is shown", || ear.0.lock().unwrap().text == "typing ").await;
}

#[actix_rt::test]
async fn an_event_that_can_never_be_stored_holds_up_no_other() {
    let (store, _account, platform) = setup();
    let _tree = tree_of(&store, Arc::new(Live(Arc::clone(&platform)))).await;
    until("the link is open", || platform.feed.lock().unwrap().is_some()).await;
    let mut early = message_event("a", "early");
    let mut events = vec![message_event("a", "1")];
    // More early edits of one message than may wait for it.
    for number in 0..300 {
        early.kind = InboundKind::Edited {
            message: ExternalId::from("never"),
            text: number.to_string(),
            at: START + Duration::from_secs(number),
        };
        events.push(early.clone());
    }
    events.push(message_event("a", "2"));
    platform.feed().take(batch(events, "7")).await.unwrap();
    store.rows(|rows| {
        assert_eq!(rows.workspace.messages.len(), 2);
        assert_eq!(rows.quarantine.len(), 44, "256 wait, the rest is kept apart");
        assert_eq!(rows.memory["cursor"], b"7");
    });
}
