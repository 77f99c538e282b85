//! The rows that one journal batch reads and changes, held in memory between loading and saving.
//!
//! The store loads what [`Needs`] names while it holds the row locks of all users in the batch, runs
//! [`super::apply`] for each append, and saves what [`Dirty`] names, all in one transaction. So the rules are plain
//! functions over plain data, and the database only loads and saves.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use time::OffsetDateTime;
use uuid::Uuid;

use super::account::Account;
use super::conversation::Conversation;
use super::event::{Event, EventKind};
use super::inbound::InboundKind;
use super::message::{Edit, Message, Reaction};
use super::outbound::OutboxEntry;
use crate::ids::{AccountId, ConversationId, ExternalId, MessageId, OutboxId, Seq, UserId};

/// What a batch has to load. Accounts and outbox entries of the conversations named are loaded too, as noted.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// Locked in this order.
    pub users: BTreeSet<UserId>,
    pub accounts: BTreeSet<AccountId>,
    /// By the hub's id; their accounts are loaded with them.
    pub conversations: BTreeSet<ConversationId>,
    /// By the platform's id.
    pub external_conversations: BTreeSet<(AccountId, ExternalId)>,
    pub messages: BTreeSet<MessageId>,
    /// By account, chat and message id of the platform: the message, its reactions, and what is parked for it.
    pub external_messages: BTreeSet<(AccountId, ExternalId, ExternalId)>,
    pub outbox: BTreeSet<OutboxId>,
    /// The entries that belong to these messages.
    pub outbox_of_messages: BTreeSet<MessageId>,
    pub idempotency: BTreeSet<(UserId, String)>,
    /// The newest 1,000 unread incoming messages of these conversations.
    pub unread: BTreeSet<ConversationId>,
    /// The same for chats named by the platform, each with the message up to which the person has read; and how many
    /// older ones that message leaves unread.
    pub seen: BTreeSet<(AccountId, ExternalId, ExternalId)>,
    /// The newest 1,000 own messages of these chats that the other side has not seen.
    pub unseen_chats: BTreeSet<(AccountId, ExternalId)>,
    /// The epochs of the leases of these accounts.
    pub leases: BTreeSet<AccountId>,
}

/// An event that came before its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedEvent {
    pub id: Uuid,
    pub user_id: UserId,
    pub conversation_id: ConversationId,
    pub message: ExternalId,
    pub kind: InboundKind,
    pub created_at: OffsetDateTime,
}

/// How far somebody has read in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadUpTo {
    pub conversation_id: ConversationId,
    /// The last message's id on the platform, where it is a number.
    pub number: Option<i64>,
    /// When the last message was sent, where it is known.
    pub sent_at: Option<OffsetDateTime>,
}

impl ReadUpTo {
    /// True for a message of the conversation that was seen. Platforms that count their messages mean the number, which
    /// also holds when the last one itself is not here.
    pub fn covers(&self, external_id: &ExternalId, sent_at: OffsetDateTime) -> bool {
        match (self.number, external_id.number()) {
            (Some(last), Some(number)) => number <= last,
            _ => self.sent_at.is_some_and(|last| sent_at <= last),
        }
    }
}

/// An unread incoming message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadMessage {
    pub id: MessageId,
    pub external_id: Option<ExternalId>,
    pub sent_at: OffsetDateTime,
}

/// A stored idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyRecord {
    pub fingerprint: [u8; 32],
    pub message_id: MessageId,
}

/// What must be saved. `*_new` rows are inserted, the others updated.
#[derive(Clone, Debug, Default)]
pub struct Dirty {
    /// Conversations in which every incoming message stored before this batch becomes read. Saved first.
    pub read_conversations: BTreeSet<ConversationId>,
    pub accounts: BTreeSet<AccountId>,
    /// What live links remember: a new value, or none to delete it.
    pub remembered: BTreeMap<(AccountId, String), Option<Vec<u8>>>,
    /// Every incoming message stored before this batch that is covered becomes read. Saved first, too.
    pub read_up_to: Vec<ReadUpTo>,
    pub conversations_new: BTreeSet<ConversationId>,
    pub conversations: BTreeSet<ConversationId>,
    pub messages_new: BTreeSet<MessageId>,
    pub messages: BTreeSet<MessageId>,
    /// Removed with all that hangs on them: an echo that turned out to be a message of ours.
    pub messages_removed: BTreeSet<MessageId>,
    /// Edits and reactions of these messages are deleted, before `reactions` and `edits` are saved.
    pub erased: BTreeSet<MessageId>,
    /// Upserted by (message, actor, emoji).
    pub reactions: BTreeMap<(MessageId, String, String), Reaction>,
    pub edits: Vec<(MessageId, Edit)>,
    pub outbox_new: BTreeSet<OutboxId>,
    pub outbox: BTreeSet<OutboxId>,
    pub outbox_removed: BTreeSet<OutboxId>,
    /// Outbox entries of these messages are deleted: the platform has proved that they went out.
    pub outbox_settled: BTreeSet<MessageId>,
    pub parked_new: Vec<ParkedEvent>,
    pub parked_removed: Vec<Uuid>,
    pub idempotency_new: Vec<(UserId, String)>,
}

/// The loaded rows, the changes made to them and the events that tell of the changes.
#[derive(Clone, Debug)]
pub struct Workspace {
    pub now: OffsetDateTime,
    /// The last number given out in each user's stream. A user who does not exist is absent.
    pub streams: HashMap<UserId, Seq>,
    pub accounts: HashMap<AccountId, Account>,
    /// The epochs of leases.
    pub leases: HashMap<AccountId, i64>,
    pub conversations: HashMap<ConversationId, Conversation>,
    pub conversation_ids: HashMap<(AccountId, ExternalId), ConversationId>,
    pub messages: HashMap<MessageId, Message>,
    pub message_ids: HashMap<(ConversationId, ExternalId), MessageId>,
    pub parked: HashMap<(ConversationId, ExternalId), Vec<ParkedEvent>>,
    pub outbox: HashMap<OutboxId, OutboxEntry>,
    /// The newest 1,000, newest first.
    pub unread: HashMap<ConversationId, Vec<UnreadMessage>>,
    /// How many older ones, as they were before this batch, stay unread when the person has read up to this message.
    pub older_unread: HashMap<(ConversationId, ExternalId), i64>,
    pub idempotency: HashMap<(UserId, String), IdempotencyRecord>,
    pub events: Vec<Event>,
    pub dirty: Dirty,
}

impl Workspace {
    /// An empty workspace, for the store to fill.
    pub fn new(now: OffsetDateTime) -> Self {
        Self {
            now,
            streams: HashMap::new(),
            accounts: HashMap::new(),
            leases: HashMap::new(),
            conversations: HashMap::new(),
            conversation_ids: HashMap::new(),
            messages: HashMap::new(),
            message_ids: HashMap::new(),
            parked: HashMap::new(),
            outbox: HashMap::new(),
            unread: HashMap::new(),
            older_unread: HashMap::new(),
            idempotency: HashMap::new(),
            events: Vec::new(),
            dirty: Dirty::default(),
        }
    }

    /// Adds a loaded conversation.
    pub fn add_conversation(&mut self, conversation: Conversation) {
        self.conversation_ids.insert(
            (conversation.account_id, conversation.external_id.clone()),
            conversation.id,
        );
        self.conversations.insert(conversation.id, conversation);
    }

    /// Adds a loaded message.
    pub fn add_message(&mut self, message: Message) {
        if let Some(external_id) = &message.external_id {
            self.message_ids
                .insert((message.conversation_id, external_id.clone()), message.id);
        }
        self.messages.insert(message.id, message);
    }

    /// Adds a loaded parked event.
    pub fn add_parked(&mut self, event: ParkedEvent) {
        self.parked
            .entry((event.conversation_id, event.message.clone()))
            .or_default()
            .push(event);
    }

    /// Gives the step the next number of the user's stream.
    pub(super) fn emit(&mut self, user_id: UserId, kind: EventKind) -> Seq {
        let seq = self.streams.entry(user_id).or_default();
        *seq = seq.next();
        let seq = *seq;
        self.events.push(Event {
            user_id,
            seq,
            kind,
            at: self.now,
        });
        seq
    }

    pub(super) fn message_mut(&mut self, id: MessageId) -> Option<&mut Message> {
        let message = self.messages.get_mut(&id)?;
        if !self.dirty.messages_new.contains(&id) {
            self.dirty.messages.insert(id);
        }
        Some(message)
    }

    pub(super) fn conversation_mut(&mut self, id: ConversationId) -> Option<&mut Conversation> {
        let conversation = self.conversations.get_mut(&id)?;
        if !self.dirty.conversations_new.contains(&id) {
            self.dirty.conversations.insert(id);
        }
        conversation.updated_at = self.now;
        Some(conversation)
    }

    pub(super) fn insert_outbox(&mut self, entry: OutboxEntry) {
        self.dirty.outbox_new.insert(entry.id);
        self.outbox.insert(entry.id, entry);
    }

    pub(super) fn outbox_mut(&mut self, id: OutboxId) -> Option<&mut OutboxEntry> {
        let entry = self.outbox.get_mut(&id)?;
        if !self.dirty.outbox_new.contains(&id) {
            self.dirty.outbox.insert(id);
        }
        Some(entry)
    }

    pub(super) fn remove_outbox(&mut self, id: OutboxId) {
        self.outbox.remove(&id);
        self.dirty.outbox.remove(&id);
        if !self.dirty.outbox_new.remove(&id) {
            self.dirty.outbox_removed.insert(id);
        }
    }
}
