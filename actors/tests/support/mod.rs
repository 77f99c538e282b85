//! An in-memory store that runs the real rules, and a platform whose answers are scripted.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hub_actors::domain::{
    Account, AccountState, Append, Appended, Change, ConversationProfile, Credentials, Event, InboundEvent,
    InboundKind, InboundMessage, MessageKind, NewMessage, OutboxState, Receipt, SendError, StreamPosition,
    UnreadMessage, Workspace, apply,
};
use hub_actors::ports::{
    Adapter, Adapters, AppendError, Capabilities, ConversationHead, Delivery, Encoder, Frames, Lease, LinkMemory,
    NewLink, NoBus, Outbound, OutboxPage, QuarantinedDelivery, ReceiveError, SendKey, SocketOutlet, Store, StoreError,
    StreamPage, StreamRead, StreamState, TypingNotice, UnreadCounts,
};
use hub_actors::session::CloseReason;
use hub_actors::tree::{Tree, TreeParts, TreeSettings};
use hub_actors::{AccountId, Clock, ConversationId, ExternalId, MessageId, OutboxId, PlatformId, Seq, UserId};
use time::OffsetDateTime;
use uuid::Uuid;

pub const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

/// The whole database as one workspace.
pub struct MemoryStore {
    rows: Mutex<Rows>,
}

pub struct Rows {
    pub workspace: Workspace,
    pub events: Vec<Event>,
    pub quarantine: Vec<QuarantinedDelivery>,
    /// What the account's link remembers.
    pub memory: LinkMemory,
    pub commits: usize,
    pub is_away: bool,
    /// So many questions for a conversation's head go wrong.
    pub heads_lost: usize,
    /// The next question for what is pending is never answered.
    pub hides_pending: bool,
    /// These cannot be read.
    pub unreadable: Vec<OutboxId>,
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
            commits: 0,
            is_away: false,
            heads_lost: 0,
            hides_pending: false,
            unreadable: Vec::new(),
        };
        (Arc::new(Self { rows: Mutex::new(rows) }), account)
    }

    pub fn rows<T>(&self, look: impl FnOnce(&mut Rows) -> T) -> T {
        look(&mut self.rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Applies one change at once, as the journal would.
    pub fn apply(&self, append: &Append) -> Result<Appended, AppendError> {
        self.rows(|rows| apply_one(rows, append))
    }
}

fn apply_one(rows: &mut Rows, append: &Append) -> Result<Appended, AppendError> {
    let workspace = &mut rows.workspace;
    workspace.now = Clock::system().now();
    if let Change::ReadConversation { conversation_id, .. } = &append.change {
        let mut unread: Vec<_> = workspace
            .messages
            .values()
            .filter(|message| message.conversation_id == *conversation_id && !message.is_read)
            .collect();
        unread.sort_by_key(|message| std::cmp::Reverse((message.sent_at, message.id)));
        let unread = unread.iter().map(|message| UnreadMessage {
            id: message.id,
            external_id: message.external_id.clone(),
            sent_at: message.sent_at,
        });
        let unread = unread.collect();
        workspace.unread.insert(*conversation_id, unread);
    }
    let appended = apply(workspace, append)?;
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
    Ok(appended)
}

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, batch: &[Append]) -> Result<Vec<Result<Appended, AppendError>>, StoreError> {
        tokio::task::yield_now().await;
        self.rows(|rows| {
            if rows.is_away {
                return Err(StoreError::Unavailable("away".to_owned()));
            }
            rows.commits += 1;
            Ok(batch.iter().map(|append| apply_one(rows, append)).collect())
        })
    }

    async fn read_streams(&self, reads: &[StreamRead]) -> Result<Vec<StreamPage>, StoreError> {
        self.rows(|rows| {
            let page = |read: &StreamRead| {
                let own = rows
                    .events
                    .iter()
                    .filter(|event| event.user_id == read.user_id && event.seq > read.after);
                let last = rows.workspace.streams.get(&read.user_id).copied().unwrap_or_default();
                StreamPage {
                    events: own.take(read.limit).cloned().collect(),
                    state: StreamState { last, trimmed: Seq(0) },
                }
            };
            Ok(reads.iter().map(page).collect())
        })
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

    async fn outbox(&self, ids: &[OutboxId]) -> Result<OutboxPage, StoreError> {
        Ok(self.rows(|rows| {
            let (unreadable, readable): (Vec<OutboxId>, Vec<OutboxId>) =
                ids.iter().partition(|id| rows.unreadable.contains(id));
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

/// How long the text "blocks" keeps the thread on which it is sent.
pub const BLOCKED: Duration = Duration::from_secs(3);

/// A platform that answers sends as it was told to, and notes them; "hangs" for ever, "slow 200" after 200 ms. A delivery's body is the message's id; its text is
/// the same.
pub struct Scripted {
    pub send_key: SendKey,
    pub answers: Mutex<HashMap<String, VecDeque<Result<Receipt, SendError>>>>,
    pub sends: Mutex<Vec<(OutboxId, String, String)>>,
}

impl Scripted {
    pub fn new(send_key: SendKey) -> Arc<Self> {
        Arc::new(Self {
            send_key,
            answers: Mutex::default(),
            sends: Mutex::default(),
        })
    }

    /// The next sends into a chat are answered with these.
    pub fn answer(&self, chat: &str, answers: impl IntoIterator<Item = Result<Receipt, SendError>>) {
        self.answers
            .lock()
            .unwrap()
            .entry(chat.to_owned())
            .or_default()
            .extend(answers);
    }

    /// Chat and text of every try.
    pub fn sent(&self) -> Vec<(String, String)> {
        self.sends
            .lock()
            .unwrap()
            .iter()
            .map(|(_, chat, text)| (chat.clone(), text.clone()))
            .collect()
    }
}

pub struct ScriptedAdapter(pub Arc<Scripted>);

#[async_trait]
impl Adapter for ScriptedAdapter {
    fn capabilities(&self) -> Capabilities {
        let send_key = self.0.send_key;
        Capabilities {
            send_key,
            edit: true,
            delete: true,
            reactions: true,
            read: true,
            typing: true,
            max_text: 10_000,
        }
    }

    fn receive(&self, _account: &Account, delivery: &Delivery) -> Result<Vec<InboundEvent>, ReceiveError> {
        let text = String::from_utf8_lossy(&delivery.body).into_owned();
        assert!(text != "poison", "a poisonous delivery");
        let (chat, id) = text
            .split_once('/')
            .ok_or_else(|| ReceiveError::Unmappable("no chat".to_owned()))?;
        Ok(vec![message_event(chat, id)])
    }

    async fn send(&self, _account: &Account, outbound: &Outbound) -> Result<Receipt, SendError> {
        let chat = outbound.conversation.to_string();
        let text = match &outbound.action {
            hub_actors::domain::OutboundAction::Send { text, .. } => text.clone(),
            other => format!("{other:?}"),
        };
        let (hangs, blocks) = (text == "hangs", text == "blocks");
        let pause = text.strip_prefix("slow ").and_then(|pause| pause.parse().ok());
        self.0.sends.lock().unwrap().push((outbound.key, chat.clone(), text));
        if hangs {
            std::future::pending::<()>().await;
        }
        if blocks {
            #[expect(clippy::disallowed_methods, reason = "all actors of the thread are to stand still")]
            std::thread::sleep(BLOCKED);
        }
        if let Some(pause) = pause {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        let answer = self
            .0
            .answers
            .lock()
            .unwrap()
            .get_mut(&chat)
            .and_then(VecDeque::pop_front);
        answer.unwrap_or_else(|| {
            Ok(Receipt {
                external_id: Some(ExternalId::from(format!("sent-{}", outbound.key))),
            })
        })
    }

    async fn typing(&self, _account: &Account, _notice: &TypingNotice) {}
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

/// Writes the numbers of the events, one byte string per batch.
pub struct Numbers;

impl Encoder for Numbers {
    fn events(&self, _epoch: &str, events: &[Event]) -> Bytes {
        events
            .iter()
            .map(|event| format!("{} ", event.seq))
            .collect::<String>()
            .into()
    }

    fn unread_counts(&self, _counts: &UnreadCounts) -> Bytes {
        Bytes::new()
    }

    fn typing(&self, _conversation_id: ConversationId, _actor_id: &str, _actor_name: Option<&str>) -> Bytes {
        Bytes::new()
    }
}

/// What a socket has been told.
#[derive(Default)]
pub struct Heard {
    pub opened: Option<(StreamPosition, bool)>,
    pub text: String,
    pub closed: Option<CloseReason>,
}

#[derive(Clone, Default)]
pub struct Ear(pub Arc<Mutex<Heard>>);

impl Ear {
    pub fn numbers(&self) -> Vec<i64> {
        self.0
            .lock()
            .unwrap()
            .text
            .split_whitespace()
            .map(|number| number.parse().unwrap())
            .collect()
    }
}

impl SocketOutlet for Ear {
    fn push(&self, frames: Frames) -> bool {
        self.0
            .lock()
            .unwrap()
            .text
            .push_str(std::str::from_utf8(&frames.bytes).unwrap());
        true
    }

    fn opened(&self, position: StreamPosition, recovered: bool) -> bool {
        self.0.lock().unwrap().opened = Some((position, recovered));
        true
    }

    fn waiting_bytes(&self) -> usize {
        0
    }

    fn close(&self, reason: CloseReason) {
        self.0.lock().unwrap().closed = Some(reason);
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
        settings: TreeSettings {
            journal_shards: 1,
            ..settings
        },
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
