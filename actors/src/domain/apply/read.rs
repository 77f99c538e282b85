//! What the person has seen.

use std::collections::HashSet;

use time::OffsetDateTime;

use super::super::append::{Appended, Refusal};
use super::super::event::EventKind;
use super::super::outbound::{OutboundAction, OutboxEntry, OutboxState};
use super::super::workspace::Workspace;
use super::own_conversation;
use crate::ids::{ConversationId, ExternalId, MessageId, OutboxId, Seq, UserId};

pub(super) fn read_message(
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
    let is_read = message.ok_or(Refusal::NoMessage)?.is_read;
    if !is_read {
        if let Some(message) = workspace.message_mut(id) {
            message.is_read = true;
        }
        if let Some(conversation) = workspace.conversation_mut(conversation_id) {
            conversation.unread_count = (conversation.unread_count - 1).max(0);
        }
        tell(workspace, user_id, conversation_id, vec![id]);
    }
    Ok(Appended::default())
}

pub(super) fn read_conversation(
    workspace: &mut Workspace,
    user_id: UserId,
    id: ConversationId,
    tell_platform: bool,
) -> Result<Appended, Refusal> {
    own_conversation(workspace, user_id, id)?;
    let count = workspace
        .conversations
        .get(&id)
        .map_or(0, |conversation| conversation.unread_count);
    let unread = workspace.unread.get(&id).into_iter().flatten();
    let newest = unread.filter_map(|message| message.external_id.clone()).next();
    let (read, _) = mark_read(workspace, id, |_, _| true);
    workspace
        .older_unread
        .retain(|(conversation, _), _| *conversation != id);
    if read.is_empty() && count == 0 {
        return Ok(Appended::default());
    }
    workspace.dirty.read_conversations.insert(id);
    if let Some(conversation) = workspace.conversation_mut(id) {
        conversation.unread_count = 0;
    }
    let seq = tell(workspace, user_id, id, read);
    let outbox = newest
        .filter(|_| tell_platform)
        .and_then(|message| read_mark(workspace, user_id, id, message, seq));
    Ok(Appended {
        outbox,
        ..Appended::default()
    })
}

/// Marks those of the conversation's messages in memory that `covers` accepts. Returns which became read, and how many
/// stay unread of the newest 1,000 stored before this batch and of what came in it.
pub(super) fn mark_read(
    workspace: &mut Workspace,
    id: ConversationId,
    covers: impl Fn(Option<&ExternalId>, OffsetDateTime) -> bool,
) -> (Vec<MessageId>, usize) {
    let mut unread = workspace.unread.remove(&id).unwrap_or_default();
    // Read or deleted earlier in this very batch.
    unread.retain(|message| workspace.messages.get(&message.id).is_none_or(|known| !known.is_read));
    let (seen, left): (Vec<_>, Vec<_>) = unread
        .into_iter()
        .partition(|message| covers(message.external_id.as_ref(), message.sent_at));
    let mut read: Vec<MessageId> = seen.iter().map(|message| message.id).collect();
    let known: HashSet<MessageId> = read.iter().copied().collect();
    let mut left_of_batch = 0;
    let mut in_workspace = Vec::new();
    for message in workspace.messages.values() {
        if message.conversation_id != id || message.is_read {
            continue;
        }
        if covers(message.external_id.as_ref(), message.sent_at) {
            in_workspace.push(message.id);
        } else if workspace.dirty.messages_new.contains(&message.id) {
            left_of_batch += 1;
        }
    }
    for message_id in in_workspace {
        if let Some(message) = workspace.message_mut(message_id) {
            message.is_read = true;
        }
        if !known.contains(&message_id) {
            read.push(message_id);
        }
    }
    let count = left.len() + left_of_batch;
    workspace.unread.insert(id, left);
    (read, count)
}

fn read_mark(
    workspace: &mut Workspace,
    user_id: UserId,
    id: ConversationId,
    message: ExternalId,
    order: Seq,
) -> Option<Box<OutboxEntry>> {
    let conversation = workspace.conversations.get(&id)?;
    let entry = OutboxEntry {
        id: OutboxId::generate(workspace.now),
        user_id,
        account_id: conversation.account_id,
        conversation_id: id,
        conversation_external_id: conversation.external_id.clone(),
        message_id: None,
        action: OutboundAction::Read { message },
        state: OutboxState::Queued,
        attempts: 0,
        due_at: workspace.now,
        order,
        created_at: workspace.now,
    };
    workspace.insert_outbox(entry.clone());
    Some(Box::new(entry))
}

pub(super) fn tell(workspace: &mut Workspace, user_id: UserId, id: ConversationId, read: Vec<MessageId>) -> Seq {
    match workspace.conversations.get(&id).cloned() {
        Some(conversation) => {
            let conversation = Box::new(conversation);
            workspace.emit(user_id, EventKind::ConversationChanged { conversation, read })
        }
        None => workspace.streams.get(&user_id).copied().unwrap_or_default(),
    }
}
