//! What the person has seen.

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
    let unread = workspace.unread.remove(&id).unwrap_or_default();
    let count = workspace
        .conversations
        .get(&id)
        .map_or(0, |conversation| conversation.unread_count);
    // Messages that came earlier in this very batch are not in `unread`: they are only in the workspace.
    let mut read: Vec<MessageId> = unread.iter().map(|message| message.id).collect();
    let in_workspace: Vec<MessageId> = workspace
        .messages
        .values()
        .filter(|message| message.conversation_id == id && !message.is_read)
        .map(|message| message.id)
        .collect();
    for message_id in in_workspace {
        if let Some(message) = workspace.message_mut(message_id) {
            message.is_read = true;
        }
        if !read.contains(&message_id) {
            read.push(message_id);
        }
    }
    if read.is_empty() && count == 0 {
        return Ok(Appended::default());
    }
    workspace.dirty.read_conversations.insert(id);
    if let Some(conversation) = workspace.conversation_mut(id) {
        conversation.unread_count = 0;
    }
    let newest = unread.into_iter().find_map(|message| message.external_id);
    let seq = tell(workspace, user_id, id, read);
    let outbox = newest
        .filter(|_| tell_platform)
        .and_then(|message| read_mark(workspace, user_id, id, message, seq));
    Ok(Appended {
        outbox,
        ..Appended::default()
    })
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
