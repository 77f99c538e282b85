//! The way out: queued, tried, sent, failed, of unknown fate, tried again.

use time::OffsetDateTime;

use super::super::append::{Appended, NewMessage, Queued, Refusal, SendReport};
use super::super::event::EventKind;
use super::super::message::{DeliveryStatus, Message};
use super::super::outbound::{OutboundAction, OutboxEntry, OutboxState};
use super::super::workspace::{IdempotencyRecord, Workspace};
use super::inbound::{climb, delete, edit, react, unpark};
use super::{act, own_conversation};
use crate::ids::{ConversationId, ExternalId, MessageId, OutboxId, UserId};

/// Clocks of hubs on one database differ by less.
const CLOCKS_DIFFER: time::Duration = time::Duration::MINUTE;

pub(super) fn queue(workspace: &mut Workspace, user_id: UserId, new: &NewMessage) -> Result<Appended, Refusal> {
    own_conversation(workspace, user_id, new.conversation_id)?;
    if let Some(idempotency) = &new.idempotency
        && let Some(record) = workspace.idempotency.get(&(user_id, idempotency.key.clone()))
    {
        if record.fingerprint != idempotency.fingerprint {
            return Err(Refusal::KeyReused);
        }
        return repeat(workspace, record.message_id);
    }
    if workspace.messages.contains_key(&new.id) {
        // The same append again, after an answer that was lost: it was committed the first time.
        return repeat(workspace, new.id);
    }
    let conversation = workspace
        .conversations
        .get(&new.conversation_id)
        .ok_or(Refusal::NoConversation)?;
    let account = workspace
        .accounts
        .get(&conversation.account_id)
        .ok_or(Refusal::NoAccount)?;
    if !account.is_active {
        return Err(Refusal::AccountDisconnected);
    }
    let sent_at = after_all(conversation.last_message_at, workspace.now);
    let message = new_message(workspace, new, account.external_id.as_str().to_owned(), sent_at);
    if let Some(conversation) = workspace.conversation_mut(new.conversation_id) {
        conversation.last_message_at = conversation.last_message_at.max(Some(message.sent_at));
    }
    let conversation = workspace
        .conversations
        .get(&new.conversation_id)
        .cloned()
        .ok_or(Refusal::NoConversation)?;
    workspace.dirty.messages_new.insert(message.id);
    workspace.add_message(message.clone());
    let order = workspace.emit(
        user_id,
        EventKind::MessageQueued {
            message: Box::new(message.clone()),
            conversation: Box::new(conversation.clone()),
            client_id: new.client_id.clone(),
        },
    );
    let entry = OutboxEntry {
        id: new.outbox_id,
        user_id,
        account_id: conversation.account_id,
        conversation_id: conversation.id,
        conversation_external_id: conversation.external_id.clone(),
        message_id: Some(message.id),
        action: OutboundAction::Send {
            text: new.text.clone(),
            kind: new.kind,
            media_url: new.media_url.clone(),
            reply_to: new.reply_to.clone(),
        },
        state: OutboxState::Queued,
        attempts: 0,
        due_at: workspace.now,
        order,
        created_at: workspace.now,
    };
    workspace.insert_outbox(entry.clone());
    if let Some(idempotency) = &new.idempotency {
        let key = (user_id, idempotency.key.clone());
        let record = IdempotencyRecord {
            fingerprint: idempotency.fingerprint,
            message_id: message.id,
        };
        workspace.idempotency.insert(key.clone(), record);
        workspace.dirty.idempotency_new.push(key);
    }
    Ok(queued(message, conversation, Some(entry), false))
}

/// Now, or right behind the newest message: a thread is read by time, and the clock may have been set back.
fn after_all(newest: Option<OffsetDateTime>, now: OffsetDateTime) -> OffsetDateTime {
    newest.map_or(now, |newest| now.max(newest + time::Duration::MICROSECOND))
}

fn new_message(workspace: &Workspace, new: &NewMessage, sender_id: String, sent_at: OffsetDateTime) -> Message {
    Message {
        id: new.id,
        conversation_id: new.conversation_id,
        external_id: None,
        sender_id,
        sender_name: Some("You".to_owned()),
        content: new.text.clone(),
        kind: new.kind,
        media_url: new.media_url.clone(),
        attachments: Vec::new(),
        reply_to: new.reply_to.clone(),
        is_outgoing: true,
        is_read: true,
        status: DeliveryStatus::Queued,
        status_reason: None,
        reactions: Vec::new(),
        sent_at,
        delivered_at: None,
        read_at: None,
        edited_at: None,
        deleted_at: None,
        created_at: workspace.now,
        is_sent_here: true,
    }
}

fn queued(
    message: Message,
    conversation: super::super::Conversation,
    entry: Option<OutboxEntry>,
    is_repeat: bool,
) -> Appended {
    let queued = Queued {
        message,
        conversation,
        entry,
        is_repeat,
    };
    Appended {
        queued: Some(Box::new(queued)),
        ..Appended::default()
    }
}

fn repeat(workspace: &Workspace, id: MessageId) -> Result<Appended, Refusal> {
    let message = workspace.messages.get(&id).cloned().ok_or(Refusal::NoMessage)?;
    let conversation = workspace
        .conversations
        .get(&message.conversation_id)
        .cloned()
        .ok_or(Refusal::NoConversation)?;
    let entry = workspace
        .outbox
        .values()
        .find(|entry| entry.message_id == Some(id))
        .cloned();
    Ok(queued(message, conversation, entry, true))
}

pub(super) fn started(workspace: &mut Workspace, entry: &OutboxEntry) -> Result<Appended, Refusal> {
    let stored = workspace.outbox_mut(entry.id).ok_or(Refusal::Settled)?;
    stored.state = OutboxState::Sending;
    stored.attempts = entry.attempts + 1;
    set_status(workspace, entry, DeliveryStatus::Sending, None);
    Ok(Appended::default())
}

pub(super) fn ended(workspace: &mut Workspace, entry: &OutboxEntry, report: &SendReport) -> Result<Appended, Refusal> {
    match report {
        SendReport::Sent(receipt) => {
            workspace.remove_outbox(entry.id);
            if let Some(message_id) = entry.message_id {
                sent(workspace, entry, message_id, receipt.external_id.as_ref());
            }
            act::taken(workspace, entry);
        }
        SendReport::Again { due_at, .. } => {
            // Gone or stopped: another hub on the same database has settled it.
            let is_settled = |entry: &OutboxEntry| entry.state == OutboxState::Stopped;
            if workspace.outbox.get(&entry.id).is_none_or(is_settled) {
                return Err(Refusal::Settled);
            }
            if let Some(stored) = workspace.outbox_mut(entry.id) {
                stored.state = OutboxState::Queued;
                stored.attempts = entry.attempts + 1;
                stored.due_at = *due_at;
            }
            set_status(workspace, entry, DeliveryStatus::Queued, None);
        }
        SendReport::Failed { reason } => stop(workspace, entry, DeliveryStatus::Failed, reason),
        SendReport::Unknown { reason } => stop(workspace, entry, DeliveryStatus::Unknown, reason),
    }
    Ok(Appended::default())
}

fn stop(workspace: &mut Workspace, entry: &OutboxEntry, status: DeliveryStatus, reason: &str) {
    if entry.message_id.is_none() {
        workspace.remove_outbox(entry.id);
        return;
    }
    if let Some(stored) = workspace.outbox_mut(entry.id) {
        stored.state = OutboxState::Stopped;
        stored.attempts = entry.attempts + 1;
    }
    set_status(workspace, entry, status, Some(reason.to_owned()));
}

/// Moves the status by the hub's own word, which never overrides what the platform has proved.
fn set_status(workspace: &mut Workspace, entry: &OutboxEntry, status: DeliveryStatus, reason: Option<String>) {
    let Some(message) = entry.message_id.and_then(|id| workspace.messages.get(&id)) else {
        return;
    };
    let is_settled = message.status.rank() >= DeliveryStatus::Sent.rank();
    if is_settled || (message.status == status && message.status_reason == reason) {
        return;
    }
    if let Some(message) = workspace.message_mut(message.id) {
        message.status = status;
        message.status_reason = reason;
        let message = Box::new(message.clone());
        workspace.emit(entry.user_id, EventKind::StatusChanged { message });
    }
}

fn sent(workspace: &mut Workspace, entry: &OutboxEntry, id: MessageId, external_id: Option<&ExternalId>) {
    let Some(queued) = workspace.messages.get(&id) else {
        return;
    };
    let named = |external_id: &ExternalId| {
        let key = (entry.conversation_id, external_id.clone());
        let known = workspace.message_ids.get(&key).filter(|known| **known != id);
        known.and_then(|known| workspace.messages.get(known))
    };
    // An id that names another message does not name this one.
    let external_id = external_id.filter(|external_id| named(external_id).is_none_or(|known| is_echo(known, queued)));
    let Some(external_id) = external_id else {
        return climb(workspace, entry.user_id, id, DeliveryStatus::Sent, None, workspace.now);
    };
    let echo = named(external_id).map(|echo| echo.id);
    let echo = echo.and_then(|echo| drop_echo(workspace, entry.user_id, echo));
    workspace
        .message_ids
        .insert((entry.conversation_id, external_id.clone()), id);
    if let Some(message) = workspace.message_mut(id) {
        message.external_id = Some(external_id.clone());
    }
    climb(workspace, entry.user_id, id, DeliveryStatus::Sent, None, workspace.now);
    unpark(workspace, entry.user_id, entry.conversation_id, external_id);
    if let Some(echo) = echo {
        inherit(workspace, entry.user_id, id, &echo);
    }
}

/// True for what can be the platform's own word of a message that was queued here: stored after that one, as far as the
/// clocks of two hubs agree.
fn is_echo(known: &Message, queued: &Message) -> bool {
    known.is_outgoing && !known.is_sent_here && known.created_at + CLOCKS_DIFFER >= queued.created_at
}

/// What happened to the echo happened to the message.
fn inherit(workspace: &mut Workspace, user_id: UserId, id: MessageId, echo: &Message) {
    if let Some(at) = echo.delivered_at {
        climb(workspace, user_id, id, DeliveryStatus::Delivered, None, at);
    }
    if let Some(at) = echo.read_at {
        climb(workspace, user_id, id, DeliveryStatus::Read, None, at);
    }
    if echo.status == DeliveryStatus::Failed {
        let now = workspace.now;
        climb(
            workspace,
            user_id,
            id,
            DeliveryStatus::Failed,
            echo.status_reason.clone(),
            now,
        );
    }
    if let Some(at) = echo.edited_at {
        edit(workspace, user_id, id, &echo.content, at);
    }
    for reaction in &echo.reactions {
        react(workspace, user_id, id, reaction.clone());
    }
    if let Some(at) = echo.deleted_at {
        delete(workspace, user_id, id, at);
    }
}

/// The platform told of the message before it answered the send: one message must remain, the one that was queued.
fn drop_echo(workspace: &mut Workspace, user_id: UserId, echo: MessageId) -> Option<Message> {
    let message = workspace.messages.remove(&echo)?;
    workspace.dirty.messages.remove(&echo);
    if !workspace.dirty.messages_new.remove(&echo) {
        workspace.dirty.messages_removed.insert(echo);
    }
    workspace.dirty.edits.retain(|(edited, _)| *edited != echo);
    workspace.dirty.reactions.retain(|(reacted, _, _), _| *reacted != echo);
    let conversation_id = message.conversation_id;
    workspace.emit(
        user_id,
        EventKind::MessageDeleted {
            conversation_id,
            message_id: echo,
            deleted_at: None,
        },
    );
    Some(message)
}

pub(super) fn retry(
    workspace: &mut Workspace,
    user_id: UserId,
    id: MessageId,
    conversation_id: ConversationId,
) -> Result<Appended, Refusal> {
    own_conversation(workspace, user_id, conversation_id)?;
    let message = workspace
        .messages
        .get(&id)
        .filter(|message| message.conversation_id == conversation_id);
    let message = message.ok_or(Refusal::NoMessage)?;
    if !matches!(message.status, DeliveryStatus::Failed | DeliveryStatus::Unknown) {
        let is_on_its_way = |entry: &OutboxEntry| entry.message_id == Some(id) && entry.state != OutboxState::Stopped;
        // Asked again, because the answer to the first time was lost.
        return if workspace.outbox.values().any(is_on_its_way) {
            repeat(workspace, id)
        } else {
            Err(Refusal::NotRetryable)
        };
    }
    let account_id = workspace
        .conversations
        .get(&conversation_id)
        .map(|conversation| conversation.account_id);
    let account = account_id
        .and_then(|id| workspace.accounts.get(&id))
        .ok_or(Refusal::NoAccount)?;
    if !account.is_active {
        return Err(Refusal::AccountDisconnected);
    }
    let entry_id: Option<OutboxId> = workspace
        .outbox
        .values()
        .find(|entry| entry.message_id == Some(id))
        .map(|entry| entry.id);
    let entry_id = entry_id.ok_or(Refusal::NotRetryable)?;
    let now = workspace.now;
    let Some(entry) = workspace.outbox_mut(entry_id) else {
        return Err(Refusal::NotRetryable);
    };
    entry.state = OutboxState::Queued;
    entry.attempts = 0;
    entry.due_at = now;
    let entry = entry.clone();
    set_status(workspace, &entry, DeliveryStatus::Queued, None);
    let message = workspace.messages.get(&id).cloned().ok_or(Refusal::NoMessage)?;
    let conversation = workspace
        .conversations
        .get(&conversation_id)
        .cloned()
        .ok_or(Refusal::NoConversation)?;
    Ok(queued(message, conversation, Some(entry), false))
}
