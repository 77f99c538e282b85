//! Live links in the tree, over an in-memory store: leases, cursors, and links that end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hub_actors::clock;
use hub_actors::domain::{
    Account, AccountState, DeliveryStatus, InboundEvent, InboundKind, MessageKind, NewMessage, Receipt, SendError,
    SendFailure,
};
use hub_actors::ports::{
    Adapter, Capabilities, Delivery, FeedError, HistoryRequest, Link, LinkBatch, LinkEnd, LinkFeed, LinkMemory,
    LinkStart, LinkState, LiveAdapter, LoginAttempt, LoginError, LoginRequest, LoginStep, MediaRequest, MediaStream,
    OpenLink, Outbound, ReceiveError, SendKey, TypingNotice,
};
use hub_actors::{ConversationId, ExternalId, MessageId, OutboxId};
use support::{MemoryStore, START, message_event, tree_of, until};
use tokio::sync::oneshot;

/// A platform whose links the test opens, feeds and ends.
#[derive(Default)]
struct Platform {
    opens: AtomicUsize,
    feed: Mutex<Option<Arc<dyn LinkFeed>>>,
    memory: Mutex<LinkMemory>,
    end: Mutex<Option<oneshot::Sender<LinkEnd>>>,
    refuse: Mutex<Option<LinkEnd>>,
    sent: Mutex<Vec<String>>,
    /// The next send is asked to wait so long.
    wait: Mutex<Option<Duration>>,
}

impl Platform {
    fn opens(&self) -> usize {
        self.opens.load(Ordering::SeqCst)
    }

    fn feed(&self) -> Arc<dyn LinkFeed> {
        Arc::clone(self.feed.lock().unwrap().as_ref().unwrap())
    }

    fn end(&self, end: LinkEnd) {
        let _ = self.end.lock().unwrap().take().unwrap().send(end);
    }
}

struct Live(Arc<Platform>);
struct OpenedLink(Arc<Platform>);

#[async_trait]
impl Adapter for Live {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            send_key: SendKey::Forever,
            edit: true,
            delete: true,
            reactions: true,
            read: true,
            typing: true,
            max_text: 4_096,
        }
    }

    fn receive(&self, _: &Account, _: &Delivery) -> Result<Vec<InboundEvent>, ReceiveError> {
        Err(ReceiveError::Unsigned("nobody calls"))
    }

    async fn send(&self, _: &Account, _: &Outbound) -> Result<Receipt, SendError> {
        panic!("sends go through the link")
    }

    async fn typing(&self, _: &Account, _: &TypingNotice) {}

    fn live(&self) -> Option<&dyn LiveAdapter> {
        Some(self)
    }
}

#[async_trait]
impl LiveAdapter for Live {
    async fn open(&self, start: LinkStart) -> Result<OpenLink, LinkEnd> {
        self.0.opens.fetch_add(1, Ordering::SeqCst);
        if let Some(end) = self.0.refuse.lock().unwrap().clone() {
            return Err(end);
        }
        start.feed.state(LinkState::Live);
        *self.0.feed.lock().unwrap() = Some(start.feed);
        *self.0.memory.lock().unwrap() = start.memory;
        let (end, ended) = oneshot::channel();
        *self.0.end.lock().unwrap() = Some(end);
        let gone = LinkEnd::Lost {
            reason: "gone".to_owned(),
            not_before: None,
        };
        Ok(OpenLink {
            link: Arc::new(OpenedLink(Arc::clone(&self.0))),
            ended: Box::pin(async move { ended.await.unwrap_or(gone) }),
        })
    }

    async fn begin_login(&self, _: LoginRequest) -> Result<(Box<dyn LoginAttempt>, LoginStep), LoginError> {
        Err(LoginError::Unreachable)
    }
}

#[async_trait]
impl Link for OpenedLink {
    async fn send(&self, outbound: &Outbound) -> Result<Receipt, SendError> {
        if let hub_actors::domain::OutboundAction::Send { text, .. } = &outbound.action {
            self.0.sent.lock().unwrap().push(text.clone());
        }
        if let Some(after) = self.0.wait.lock().unwrap().take() {
            return Err(SendError::new(SendFailure::RateLimited { after }));
        }
        Ok(Receipt {
            external_id: Some(ExternalId::from(outbound.key.to_string().as_str())),
        })
    }

    async fn typing(&self, _: &TypingNotice) {}

    async fn probe(&self) -> Result<(), String> {
        Ok(())
    }

    async fn history(&self, _: &HistoryRequest) -> Result<usize, SendError> {
        Ok(0)
    }

    async fn media(&self, _: &MediaRequest) -> Result<MediaStream, SendError> {
        Err(SendError::new(SendFailure::Unsupported))
    }

    async fn refresh(&self) {}

    async fn sign_out(&self) {}
}

fn setup() -> (Arc<MemoryStore>, Account, Arc<Platform>) {
    let (store, account) = MemoryStore::with_account();
    store.rows(|rows| rows.workspace.leases.insert(account.id, 1));
    (store, account, Arc::default())
}

fn state(store: &MemoryStore, account: &Account) -> AccountState {
    store.rows(|rows| rows.workspace.accounts[&account.id].state)
}

fn batch(events: Vec<InboundEvent>, cursor: &str) -> LinkBatch {
    LinkBatch {
        events,
        remember: vec![("cursor".to_owned(), Some(cursor.into()))],
    }
}

fn new_message(conversation_id: ConversationId, text: &str) -> NewMessage {
    NewMessage {
        id: MessageId::generate(START),
        outbox_id: OutboxId::generate(START),
        conversation_id,
        text: text.to_owned(),
        kind: MessageKind::Text,
        media_url: None,
        reply_to: None,
        client_id: None,
        idempotency: None,
    }
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
    tokio::time::sleep(Duration::from_secs(3)).await;
    tree.refresh_link(account.id);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(platform.opens(), 1);
    // The person logs in again.
    *platform.refuse.lock().unwrap() = None;
    tree.account_linked(account.user_id, account.id).await.unwrap();
    until("the link is open", || state(&store, &account) == AccountState::Live).await;
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
