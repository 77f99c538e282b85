//! An in-memory store that runs the real rules, and a platform whose answers are scripted.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod live;
pub mod platform;
pub mod sockets;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hub_actors::domain::{
    Account, AccountState, Append, Appended, ConversationProfile, Credentials, Event, InboundEvent, InboundKind,
    InboundMessage, MessageKind, Needs, NewMessage, OutboxState, UnreadMessage, Workspace, apply,
};
use hub_actors::ports::{
    Adapter, Adapters, AppendError, ConversationHead, Delivery, Lease, LinkMemory, NewLink, NoBus, OutboxPage,
    QuarantinedDelivery, Store, StoreError, StreamPage, StreamRead, StreamState,
};
use hub_actors::tree::{Tree, TreeParts, TreeSettings};
use hub_actors::{AccountId, Clock, ConversationId, ExternalId, MessageId, OutboxId, PlatformId, Seq, UserId};
use time::OffsetDateTime;
use uuid::Uuid;

pub use platform::{Scripted, ScriptedAdapter};
pub use sockets::Numbers;

pub const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

/// The whole database as one workspace.
pub struct MemoryStore {
    rows: Mutex<Rows>,
    begun: AtomicUsize,
}

pub struct Rows {
    pub workspace: Workspace,
    pub events: Vec<Event>,
    pub quarantine: Vec<QuarantinedDelivery>,
    /// What the account's link remembers.
    pub memory: LinkMemory,
    pub is_away: bool,
    /// How long an answer to a read of streams is on its way.
    pub slow_reads: Duration,
    /// An event that cannot be read.
    pub unreadable: Option<Seq>,
    /// So many questions for a conversation's head go wrong.
    pub heads_lost: usize,
    /// The next question for what is pending is never answered.
    pub hides_pending: bool,
    /// Outbox entries that cannot be read.
    pub unreadable_entries: Vec<OutboxId>,
}

impl MemoryStore {
    pub fn with_account() -> (Arc<Self>, Account) {
        let user_id = UserId::generate(START);
        let account = Account {
            id: AccountId::generate(START),
            user_id,
            platform: PlatformId::from("scripted"),
            external_id: ExternalId::from("me"),
            name: None,
            is_active: true,
            state: AccountState::Live,
            state_reason: None,
            state_until: None,
            credentials: Credentials::default(),
            created_at: START,
            updated_at: START,
        };
        let mut workspace = Workspace::new(START);
        workspace.streams.insert(user_id, Seq(0));
        workspace.accounts.insert(account.id, account.clone());
        let rows = Rows {
            workspace,
            events: Vec::new(),
            quarantine: Vec::new(),
            memory: LinkMemory::new(),
            is_away: false,
            slow_reads: Duration::ZERO,
            unreadable: None,
            heads_lost: 0,
            hides_pending: false,
            unreadable_entries: Vec::new(),
        };
        let (rows, begun) = (Mutex::new(rows), AtomicUsize::new(0));
        (Arc::new(Self { rows, begun }), account)
    }

    /// Commits that have begun. Whoever looks at the rows holds up their end, and the thread that makes them.
    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    pub fn rows<T>(&self, look: impl FnOnce(&mut Rows) -> T) -> T {
        look(&mut self.rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Applies one change at once, as the journal would.
    pub fn apply(&self, append: &Append) -> Result<Appended, AppendError> {
        let batch = std::slice::from_ref(append);
        self.rows(|rows| apply_batch(rows, batch)).remove(0)
    }

    /// Applies changes together, as one batch of the journal.
    pub fn apply_together(&self, batch: &[Append]) -> Vec<Result<Appended, AppendError>> {
        self.rows(|rows| apply_batch(rows, batch))
    }
}

/// As the journal does: what is unread is loaded once, before the first change.
fn apply_batch(rows: &mut Rows, batch: &[Append]) -> Vec<Result<Appended, AppendError>> {
    let mut needs = Needs::default();
    for append in batch {
        append.add_needs(&mut needs);
    }
    let workspace = &mut rows.workspace;
    let chats = needs.seen.iter().filter_map(|(account, chat, _)| {
        let key = (*account, chat.clone());
        workspace.conversation_ids.get(&key).copied()
    });
    let conversations: Vec<ConversationId> = chats.chain(needs.unread).collect();
    workspace.unread.clear();
    for id in conversations {
        let mut unread: Vec<_> = workspace
            .messages
            .values()
            .filter(|message| message.conversation_id == id && !message.is_read)
            .collect();
        unread.sort_by_key(|message| std::cmp::Reverse((message.sent_at, message.id)));
        let unread = unread.iter().map(|message| UnreadMessage {
            id: message.id,
            external_id: message.external_id.clone(),
            sent_at: message.sent_at,
        });
        let unread = unread.collect();
        workspace.unread.insert(id, unread);
    }
    workspace.now = Clock::system().now();
    let answers = batch.iter().map(|append| Ok(apply(workspace, append)?)).collect();
    let dirty = std::mem::take(&mut workspace.dirty);
    for ((_, name), value) in dirty.remembered {
        match value {
            Some(value) => drop(rows.memory.insert(name, value)),
            None => drop(rows.memory.remove(&name)),
        }
    }
    let settled = dirty.outbox_settled;
    workspace
        .outbox
        .retain(|_, entry| entry.message_id.is_none_or(|id| !settled.contains(&id)));
    rows.events.append(&mut workspace.events);
    answers
}

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, batch: Vec<Append>) -> Result<Vec<Result<Appended, AppendError>>, StoreError> {
        tokio::task::yield_now().await;
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.rows(|rows| {
            if rows.is_away {
                return Err(StoreError::Unavailable("away".to_owned()));
            }
            Ok(apply_batch(rows, &batch))
        })
    }

    async fn read_streams(&self, reads: &[StreamRead]) -> Result<Vec<Result<StreamPage, StoreError>>, StoreError> {
        let (slow, pages) = self.rows(|rows| {
            let page = |read: &StreamRead| {
                let own = rows
                    .events
                    .iter()
                    .filter(|event| event.user_id == read.user_id && event.seq > read.after);
                let last = rows.workspace.streams.get(&read.user_id).copied().unwrap_or_default();
                let asked: Vec<&Event> = own.take(read.limit).collect();
                if asked.first().is_some_and(|event| Some(event.seq) == rows.unreadable) {
                    return Err(StoreError::Failed("a broken event".to_owned()));
                }
                let readable = asked.into_iter().take_while(|event| Some(event.seq) != rows.unreadable);
                Ok(StreamPage {
                    events: readable.cloned().collect(),
                    state: StreamState { last, trimmed: Seq(0) },
                })
            };
            (rows.slow_reads, reads.iter().map(page).collect())
        });
        tokio::time::sleep(slow).await;
        Ok(pages)
    }

    async fn unread_counts(&self, user_id: UserId) -> Result<Vec<(PlatformId, i64)>, StoreError> {
        self.rows(|rows| {
            let mut counts = BTreeMap::new();
            for conversation in rows
                .workspace
                .conversations
                .values()
                .filter(|conversation| conversation.user_id == user_id)
            {
                *counts.entry(conversation.platform.clone()).or_default() += i64::from(conversation.unread_count);
            }
            Ok(counts.into_iter().collect())
        })
    }

    async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        Ok(self.rows(|rows| rows.workspace.accounts.get(&id).cloned()))
    }

    async fn conversation_head(&self, id: ConversationId) -> Result<Option<ConversationHead>, StoreError> {
        self.rows(|rows| {
            if let Some(left) = rows.heads_lost.checked_sub(1) {
                rows.heads_lost = left;
                return Err(StoreError::Unavailable("lost".to_owned()));
            }
            let conversation = rows.workspace.conversations.get(&id);
            Ok(conversation.map(|conversation| ConversationHead {
                id,
                user_id: conversation.user_id,
                account_id: conversation.account_id,
                platform: conversation.platform.clone(),
                external_id: conversation.external_id.clone(),
            }))
        })
    }

    async fn pending_outbox(&self) -> Result<Vec<OutboxId>, StoreError> {
        if self.rows(|rows| std::mem::take(&mut rows.hides_pending)) {
            std::future::pending::<()>().await;
        }
        Ok(self.rows(|rows| {
            let pending = rows.workspace.outbox.values();
            let pending = pending.filter(|entry| entry.state != OutboxState::Stopped);
            let mut ids: Vec<OutboxId> = pending.map(|entry| entry.id).collect();
            ids.sort_unstable();
            ids
        }))
    }

    async fn conversation_id(&self, _: AccountId, chat: &ExternalId) -> Result<Option<ConversationId>, StoreError> {
        self.rows(|rows| {
            let mut all = rows.workspace.conversations.values();
            Ok(all.find(|one| one.external_id == *chat).map(|one| one.id))
        })
    }

    async fn outbox(&self, ids: &[OutboxId]) -> Result<OutboxPage, StoreError> {
        Ok(self.rows(|rows| {
            let (unreadable, readable): (Vec<OutboxId>, Vec<OutboxId>) =
                ids.iter().partition(|id| rows.unreadable_entries.contains(id));
            let found = readable.iter().filter_map(|id| rows.workspace.outbox.get(id));
            let reason = StoreError::Failed("no key".to_owned());
            OutboxPage {
                entries: found
                    .filter(|entry| entry.state != OutboxState::Stopped)
                    .cloned()
                    .collect(),
                unreadable: unreadable.into_iter().map(|id| (id, reason.clone())).collect(),
            }
        }))
    }

    async fn quarantine(&self, delivery: QuarantinedDelivery) -> Result<(), StoreError> {
        self.rows(|rows| rows.quarantine.push(delivery));
        Ok(())
    }

    async fn retain(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn lease_accounts(
        &self,
        _owner: Uuid,
        _platforms: &[PlatformId],
        _length: Duration,
    ) -> Result<Vec<Lease>, StoreError> {
        Ok(self.rows(|rows| {
            let accounts = &rows.workspace.accounts;
            let leases = rows.workspace.leases.iter();
            leases
                .filter(|(account_id, _)| !accounts[account_id].state.waits_for_person())
                .map(|(account_id, epoch)| Lease {
                    account_id: *account_id,
                    epoch: *epoch,
                })
                .collect()
        }))
    }

    async fn release_leases(&self, _owner: Uuid, _only: Option<AccountId>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn link_memory(&self, _account_id: AccountId) -> Result<LinkMemory, StoreError> {
        Ok(self.rows(|rows| rows.memory.clone()))
    }

    async fn forget_link(&self, _account_id: AccountId) -> Result<(), StoreError> {
        Ok(())
    }

    async fn link_account(&self, link: NewLink) -> Result<Account, StoreError> {
        self.rows(|rows| {
            if rows.is_away {
                return Err(StoreError::Unavailable("away".to_owned()));
            }
            rows.memory = link.memory;
            let accounts = rows.workspace.accounts.values();
            let mut known = accounts.filter(|account| account.external_id == link.external_id);
            known
                .next()
                .cloned()
                .ok_or_else(|| StoreError::Failed("only the known account logs in here".to_owned()))
        })
    }

    async fn chats_of(
        &self,
        _account_id: AccountId,
        _messages: &[ExternalId],
    ) -> Result<Vec<(ExternalId, ExternalId)>, StoreError> {
        Ok(Vec::new())
    }

    fn epoch(&self) -> &'static str {
        "memory"
    }
}

pub fn message_event(chat: &str, id: &str) -> InboundEvent {
    InboundEvent {
        conversation: ExternalId::from(chat),
        profile: ConversationProfile::default(),
        kind: InboundKind::Message(Box::new(InboundMessage {
            external_id: ExternalId::from(id),
            sender_id: "peer".to_owned(),
            sender_name: Some("Peer".to_owned()),
            text: id.to_owned(),
            kind: MessageKind::Text,
            media_url: None,
            attachments: Vec::new(),
            reply_to: None,
            is_outgoing: false,
            is_read: false,
            is_history: false,
            sent_at: START,
        })),
    }
}

pub fn new_message(conversation_id: ConversationId, text: &str) -> NewMessage {
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

pub fn delivery(body: &str) -> Delivery {
    Delivery {
        headers: Vec::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        received_at: START,
    }
}

pub async fn tree(store: &Arc<MemoryStore>, platform: &Arc<Scripted>) -> Tree {
    tree_of(store, Arc::new(ScriptedAdapter(Arc::clone(platform)))).await
}

pub async fn tree_of(store: &Arc<MemoryStore>, adapter: Arc<dyn Adapter>) -> Tree {
    tree_with(store, adapter, TreeSettings::default()).await
}

pub async fn tree_with(store: &Arc<MemoryStore>, adapter: Arc<dyn Adapter>, settings: TreeSettings) -> Tree {
    let parts = TreeParts {
        settings,
        clock: Clock::system(),
        store: Arc::clone(store) as Arc<dyn Store>,
        adapters: Adapters::new([(PlatformId::from("scripted"), adapter)]),
        encoder: Arc::new(Numbers),
        bus: Arc::new(NoBus),
    };
    Tree::start(parts).await.unwrap()
}

/// Waits until something is so, at most ten seconds.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {what}");
}
