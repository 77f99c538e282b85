//! What a batch has changed, column by column, sealed and ready to be sent.

use std::collections::HashMap;

use hub_actors::domain::{Account, Conversation, Message, OutboxEntry, Workspace};
use hub_actors::ports::StoreError;
use hub_actors::{ExternalId, Seq, UserId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::store::sealing::{
    ATTACHMENTS, CONTENT, EDIT, EVENT, LINK_MEMORY, MEDIA_URL, OUTBOX, PARKED, edit_row, memory_row,
};
use crate::vault::{Place, Vault};

/// All changes of a batch. Everything that can fail on this side (sealing, encoding) has been done.
#[derive(Default)]
pub(super) struct Rows<'w> {
    pub read_conversations: Vec<Uuid>,
    pub read_up_to: ReadRows,
    pub remembered: MemoryRows<'w>,
    pub forgotten: MemoryRows<'w>,
    pub accounts: AccountRows<'w>,
    pub conversations_new: ConversationRows<'w>,
    pub conversations: ConversationRows<'w>,
    pub messages_removed: Vec<Uuid>,
    pub messages_new: MessageRows<'w>,
    pub messages: MessageRows<'w>,
    pub erased: Vec<Uuid>,
    pub reactions: ReactionRows<'w>,
    pub edits: EditRows,
    pub outbox_new: OutboxRows,
    pub outbox: OutboxRows,
    pub outbox_removed: Vec<Uuid>,
    pub outbox_settled: Vec<Uuid>,
    pub parked_new: ParkedRows<'w>,
    pub parked_removed: Vec<Uuid>,
    pub idempotency_new: IdempotencyRows<'w>,
    pub events: EventRows,
    pub streams: StreamRows,
}

#[derive(Default)]
pub(super) struct ReadRows {
    pub conversation_id: Vec<Uuid>,
    pub number: Vec<Option<i64>>,
    pub sent_at: Vec<Option<OffsetDateTime>>,
}

#[derive(Default)]
pub(super) struct AccountRows<'w> {
    pub id: Vec<Uuid>,
    pub state: Vec<&'static str>,
    pub state_reason: Vec<Option<&'w str>>,
    pub state_until: Vec<Option<OffsetDateTime>>,
    pub updated_at: Vec<OffsetDateTime>,
}

#[derive(Default)]
pub(super) struct MemoryRows<'w> {
    pub account_id: Vec<Uuid>,
    pub name: Vec<&'w str>,
    /// Empty for what is forgotten.
    pub value: Vec<Vec<u8>>,
}

#[derive(Default)]
pub(super) struct ConversationRows<'w> {
    pub id: Vec<Uuid>,
    pub user_id: Vec<Uuid>,
    pub platform: Vec<&'w str>,
    pub account_id: Vec<Uuid>,
    pub external_id: Vec<&'w str>,
    pub participant_id: Vec<Option<&'w str>>,
    pub participant_name: Vec<Option<&'w str>>,
    pub participant_avatar_url: Vec<Option<&'w str>>,
    pub last_message_at: Vec<Option<OffsetDateTime>>,
    pub unread_count: Vec<i32>,
    pub created_at: Vec<OffsetDateTime>,
    pub updated_at: Vec<OffsetDateTime>,
}

#[derive(Default)]
pub(super) struct MessageRows<'w> {
    pub id: Vec<Uuid>,
    pub conversation_id: Vec<Uuid>,
    pub external_id: Vec<Option<&'w str>>,
    pub sender_id: Vec<&'w str>,
    pub sender_name: Vec<Option<&'w str>>,
    pub content: Vec<Vec<u8>>,
    pub kind: Vec<&'static str>,
    pub media_url: Vec<Option<Vec<u8>>>,
    pub attachments: Vec<Option<Vec<u8>>>,
    pub reply_to: Vec<Option<&'w str>>,
    pub is_outgoing: Vec<bool>,
    pub is_read: Vec<bool>,
    pub status: Vec<&'static str>,
    pub status_reason: Vec<Option<&'w str>>,
    pub sent_at: Vec<OffsetDateTime>,
    pub delivered_at: Vec<Option<OffsetDateTime>>,
    pub read_at: Vec<Option<OffsetDateTime>>,
    pub edited_at: Vec<Option<OffsetDateTime>>,
    pub deleted_at: Vec<Option<OffsetDateTime>>,
    pub created_at: Vec<OffsetDateTime>,
    pub is_sent_here: Vec<bool>,
}

#[derive(Default)]
pub(super) struct ReactionRows<'w> {
    pub message_id: Vec<Uuid>,
    pub actor_id: Vec<&'w str>,
    pub emoji: Vec<&'w str>,
    pub is_active: Vec<bool>,
    pub reacted_at: Vec<OffsetDateTime>,
}

#[derive(Default)]
pub(super) struct EditRows {
    pub message_id: Vec<Uuid>,
    pub edited_at: Vec<OffsetDateTime>,
    pub content: Vec<Vec<u8>>,
}

#[derive(Default)]
pub(super) struct OutboxRows {
    pub id: Vec<Uuid>,
    pub user_id: Vec<Uuid>,
    pub account_id: Vec<Uuid>,
    pub conversation_id: Vec<Uuid>,
    pub message_id: Vec<Option<Uuid>>,
    pub payload: Vec<Vec<u8>>,
    pub state: Vec<&'static str>,
    pub attempts: Vec<i32>,
    pub due_at: Vec<OffsetDateTime>,
    pub stream_seq: Vec<i64>,
    pub created_at: Vec<OffsetDateTime>,
}

#[derive(Default)]
pub(super) struct ParkedRows<'w> {
    pub id: Vec<Uuid>,
    pub user_id: Vec<Uuid>,
    pub conversation_id: Vec<Uuid>,
    pub message: Vec<&'w str>,
    pub payload: Vec<Vec<u8>>,
    pub created_at: Vec<OffsetDateTime>,
}

#[derive(Default)]
pub(super) struct IdempotencyRows<'w> {
    pub user_id: Vec<Uuid>,
    pub key: Vec<&'w str>,
    pub fingerprint: Vec<&'w [u8]>,
    pub message_id: Vec<Uuid>,
    pub created_at: Vec<OffsetDateTime>,
}

#[derive(Default)]
pub(super) struct EventRows {
    pub user_id: Vec<Uuid>,
    pub seq: Vec<i64>,
    pub kind: Vec<&'static str>,
    pub conversation_id: Vec<Option<Uuid>>,
    pub payload: Vec<Vec<u8>>,
    pub created_at: Vec<OffsetDateTime>,
}

#[derive(Default)]
pub(super) struct StreamRows {
    pub user_id: Vec<Uuid>,
    pub last_seq: Vec<i64>,
}

impl<'w> Rows<'w> {
    /// Collects what `workspace` has marked as changed. `before` are the streams as they were loaded.
    pub fn collect(workspace: &'w Workspace, before: &HashMap<UserId, Seq>, vault: &Vault) -> Result<Self, StoreError> {
        let mut rows = Self::default();
        rows.collect_conversations(workspace);
        rows.collect_memory(workspace, vault)?;
        rows.collect_messages(workspace, vault)?;
        rows.collect_outbox(workspace, vault)?;
        rows.collect_stream(workspace, before, vault)?;
        Ok(rows)
    }

    fn collect_conversations(&mut self, workspace: &'w Workspace) {
        let dirty = &workspace.dirty;
        for read in &dirty.read_up_to {
            self.read_up_to.conversation_id.push(read.conversation_id.0);
            self.read_up_to.number.push(read.number);
            self.read_up_to.sent_at.push(read.sent_at);
        }
        self.read_conversations = dirty.read_conversations.iter().map(|id| id.0).collect();
        for account in dirty.accounts.iter().filter_map(|id| workspace.accounts.get(id)) {
            self.accounts.push(account);
        }
        let find = |id| workspace.conversations.get(id);
        for conversation in dirty.conversations_new.iter().filter_map(find) {
            self.conversations_new.push(conversation);
        }
        for conversation in dirty.conversations.iter().filter_map(find) {
            self.conversations.push(conversation);
        }
    }

    fn collect_memory(&mut self, workspace: &'w Workspace, vault: &Vault) -> Result<(), StoreError> {
        for ((account_id, name), value) in &workspace.dirty.remembered {
            let rows = match value {
                Some(value) => {
                    let sealed = LINK_MEMORY.seal(vault, &memory_row(account_id.0, name), value)?;
                    self.remembered.value.push(sealed);
                    &mut self.remembered
                }
                None => &mut self.forgotten,
            };
            rows.account_id.push(account_id.0);
            rows.name.push(name);
        }
        Ok(())
    }

    fn collect_messages(&mut self, workspace: &'w Workspace, vault: &Vault) -> Result<(), StoreError> {
        let dirty = &workspace.dirty;
        let find = |id| workspace.messages.get(id);
        self.messages_removed = dirty.messages_removed.iter().map(|id| id.0).collect();
        for message in dirty.messages_new.iter().filter_map(find) {
            self.messages_new.push(message, vault)?;
        }
        for message in dirty.messages.iter().filter_map(find) {
            self.messages.push(message, vault)?;
        }
        self.erased = dirty.erased.iter().map(|id| id.0).collect();
        for ((message_id, actor_id, emoji), reaction) in &dirty.reactions {
            self.reactions.message_id.push(message_id.0);
            self.reactions.actor_id.push(actor_id);
            self.reactions.emoji.push(emoji);
            self.reactions.is_active.push(reaction.is_active);
            self.reactions.reacted_at.push(reaction.at);
        }
        for (message_id, edit) in &dirty.edits {
            let row = edit_row(message_id.0, edit.at);
            self.edits.message_id.push(message_id.0);
            self.edits.edited_at.push(edit.at);
            self.edits
                .content
                .push(EDIT.seal(vault, &row, edit.content.as_bytes())?);
        }
        for event in &dirty.parked_new {
            self.parked_new.id.push(event.id);
            self.parked_new.user_id.push(event.user_id.0);
            self.parked_new.conversation_id.push(event.conversation_id.0);
            self.parked_new.message.push(event.message.as_str());
            let sealed = PARKED.seal_json(vault, event.id.as_bytes(), &event.kind)?;
            self.parked_new.payload.push(sealed);
            self.parked_new.created_at.push(event.created_at);
        }
        self.parked_removed.clone_from(&dirty.parked_removed);
        Ok(())
    }

    fn collect_outbox(&mut self, workspace: &'w Workspace, vault: &Vault) -> Result<(), StoreError> {
        let dirty = &workspace.dirty;
        let find = |id| workspace.outbox.get(id);
        for entry in dirty.outbox_new.iter().filter_map(find) {
            let sealed = OUTBOX.seal_json(vault, entry.id.0.as_bytes(), &entry.action)?;
            self.outbox_new.push(entry, sealed);
        }
        for entry in dirty.outbox.iter().filter_map(find) {
            // What is asked of the platform never changes, so it is not written again.
            self.outbox.push(entry, Vec::new());
        }
        self.outbox_removed = dirty.outbox_removed.iter().map(|id| id.0).collect();
        self.outbox_settled = dirty.outbox_settled.iter().map(|id| id.0).collect();
        for key in &dirty.idempotency_new {
            if let Some(record) = workspace.idempotency.get(key) {
                self.idempotency_new.user_id.push(key.0.0);
                self.idempotency_new.key.push(&key.1);
                self.idempotency_new.fingerprint.push(&record.fingerprint);
                self.idempotency_new.message_id.push(record.message_id.0);
                self.idempotency_new.created_at.push(workspace.now);
            }
        }
        Ok(())
    }

    fn collect_stream(
        &mut self,
        workspace: &'w Workspace,
        before: &HashMap<UserId, Seq>,
        vault: &Vault,
    ) -> Result<(), StoreError> {
        for event in &workspace.events {
            let row = Place::event_row(event.user_id, event.seq);
            self.events.user_id.push(event.user_id.0);
            self.events.seq.push(event.seq.0);
            self.events.kind.push(event.kind.name());
            self.events
                .conversation_id
                .push(event.kind.conversation_id().map(|id| id.0));
            self.events.payload.push(EVENT.seal_json(vault, &row, &event.kind)?);
            self.events.created_at.push(event.at);
        }
        for (user_id, seq) in &workspace.streams {
            if before.get(user_id) != Some(seq) {
                self.streams.user_id.push(user_id.0);
                self.streams.last_seq.push(seq.0);
            }
        }
        Ok(())
    }
}

impl<'w> AccountRows<'w> {
    fn push(&mut self, account: &'w Account) {
        self.id.push(account.id.0);
        self.state.push(account.state.as_str());
        self.state_reason.push(account.state_reason.as_deref());
        self.state_until.push(account.state_until);
        self.updated_at.push(account.updated_at);
    }
}

impl<'w> ConversationRows<'w> {
    fn push(&mut self, conversation: &'w Conversation) {
        self.id.push(conversation.id.0);
        self.user_id.push(conversation.user_id.0);
        self.platform.push(conversation.platform.as_str());
        self.account_id.push(conversation.account_id.0);
        self.external_id.push(conversation.external_id.as_str());
        self.participant_id.push(conversation.participant_id.as_deref());
        self.participant_name.push(conversation.participant_name.as_deref());
        self.participant_avatar_url
            .push(conversation.participant_avatar_url.as_deref());
        self.last_message_at.push(conversation.last_message_at);
        self.unread_count.push(conversation.unread_count);
        self.created_at.push(conversation.created_at);
        self.updated_at.push(conversation.updated_at);
    }
}

impl<'w> MessageRows<'w> {
    fn push(&mut self, message: &'w Message, vault: &Vault) -> Result<(), StoreError> {
        let row = message.id.0.as_bytes();
        let media_url = message
            .media_url
            .as_ref()
            .map(|url| MEDIA_URL.seal(vault, row, url.as_bytes()))
            .transpose()?;
        self.content.push(CONTENT.seal(vault, row, message.content.as_bytes())?);
        self.media_url.push(media_url);
        let attachments = &message.attachments;
        let attachments = (!attachments.is_empty())
            .then(|| ATTACHMENTS.seal_json(vault, row, attachments))
            .transpose()?;
        self.attachments.push(attachments);
        self.id.push(message.id.0);
        self.conversation_id.push(message.conversation_id.0);
        self.external_id
            .push(message.external_id.as_ref().map(ExternalId::as_str));
        self.sender_id.push(&message.sender_id);
        self.sender_name.push(message.sender_name.as_deref());
        self.kind.push(message.kind.as_str());
        self.reply_to.push(message.reply_to.as_ref().map(ExternalId::as_str));
        self.is_outgoing.push(message.is_outgoing);
        self.is_read.push(message.is_read);
        self.status.push(message.status.as_str());
        self.status_reason.push(message.status_reason.as_deref());
        self.sent_at.push(message.sent_at);
        self.delivered_at.push(message.delivered_at);
        self.read_at.push(message.read_at);
        self.edited_at.push(message.edited_at);
        self.deleted_at.push(message.deleted_at);
        self.created_at.push(message.created_at);
        self.is_sent_here.push(message.is_sent_here);
        Ok(())
    }
}

impl OutboxRows {
    fn push(&mut self, entry: &OutboxEntry, sealed: Vec<u8>) {
        self.id.push(entry.id.0);
        self.user_id.push(entry.user_id.0);
        self.account_id.push(entry.account_id.0);
        self.conversation_id.push(entry.conversation_id.0);
        self.message_id.push(entry.message_id.map(|id| id.0));
        self.payload.push(sealed);
        self.state.push(entry.state.as_str());
        self.attempts.push(entry.attempts);
        self.due_at.push(entry.due_at);
        self.stream_seq.push(entry.order.0);
        self.created_at.push(entry.created_at);
    }
}
