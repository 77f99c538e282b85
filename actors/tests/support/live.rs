//! A platform whose accounts are held open.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hub_actors::ExternalId;
use hub_actors::domain::{Account, InboundEvent, Receipt, SendError, SendFailure};
use hub_actors::ports::{
    Adapter, Capabilities, Delivery, HistoryRequest, Link, LinkBatch, LinkEnd, LinkFeed, LinkMemory, LinkStart,
    LinkState, LiveAdapter, LoginAttempt, LoginError, LoginRequest, LoginStep, MediaRequest, MediaStream, OpenLink,
    Outbound, ReceiveError, SendKey, TypingNotice,
};
use tokio::sync::oneshot;

use super::MemoryStore;

/// A platform whose links the test opens, feeds and ends.
#[derive(Default)]
pub struct Platform {
    pub opens: AtomicUsize,
    pub feed: Mutex<Option<Arc<dyn LinkFeed>>>,
    pub memory: Mutex<LinkMemory>,
    pub end: Mutex<Option<oneshot::Sender<LinkEnd>>>,
    pub refuse: Mutex<Option<LinkEnd>>,
    pub sent: Mutex<Vec<String>>,
    /// The next send is asked to wait so long.
    pub wait: Mutex<Option<Duration>>,
}

impl Platform {
    pub fn opens(&self) -> usize {
        self.opens.load(Ordering::SeqCst)
    }

    pub fn feed(&self) -> Arc<dyn LinkFeed> {
        Arc::clone(self.feed.lock().unwrap().as_ref().unwrap())
    }

    pub fn end(&self, end: LinkEnd) {
        let _ = self.end.lock().unwrap().take().unwrap().send(end);
    }
}

pub struct Live(pub Arc<Platform>);
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

pub fn setup() -> (Arc<MemoryStore>, Account, Arc<Platform>) {
    let (store, account) = MemoryStore::with_account();
    store.rows(|rows| rows.workspace.leases.insert(account.id, 1));
    (store, account, Arc::default())
}

pub fn batch(events: Vec<InboundEvent>, cursor: &str) -> LinkBatch {
    LinkBatch {
        events,
        remember: vec![("cursor".to_owned(), Some(cursor.into()))],
    }
}
