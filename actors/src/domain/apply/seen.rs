//! How far somebody has read, on platforms that tell it as "everything up to this message".

use time::OffsetDateTime;

use super::super::message::DeliveryStatus;
use super::super::workspace::Workspace;
use super::inbound::climb;
use super::read;
use crate::ids::{ConversationId, ExternalId, MessageId, UserId};

/// The person has read this far on another device.
pub(super) fn by_person(workspace: &mut Workspace, user_id: UserId, id: ConversationId, last: &ExternalId) -> bool {
    let end = End::of(workspace, id, last);
    let mut read: Vec<MessageId> = Vec::new();
    if let Some(unread) = workspace.unread.get_mut(&id) {
        unread.retain(|message| {
            let is_seen = message
                .external_id
                .as_ref()
                .is_some_and(|external_id| end.covers(external_id, message.sent_at));
            if is_seen {
                read.push(message.id);
            }
            !is_seen
        });
    }
    let in_workspace: Vec<MessageId> = workspace
        .messages
        .values()
        .filter(|message| message.conversation_id == id && !message.is_read && !message.is_outgoing)
        .filter(|message| {
            let external_id = message.external_id.as_ref();
            external_id.is_some_and(|external_id| end.covers(external_id, message.sent_at))
        })
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
    if read.is_empty() {
        return false;
    }
    workspace.dirty.read_messages.extend(&read);
    let count = i32::try_from(read.len()).unwrap_or(i32::MAX);
    if let Some(conversation) = workspace.conversation_mut(id) {
        conversation.unread_count = conversation.unread_count.saturating_sub(count).max(0);
    }
    read::tell(workspace, user_id, id, read);
    true
}

/// The other side has read this far.
pub(super) fn by_peer(
    workspace: &mut Workspace,
    user_id: UserId,
    id: ConversationId,
    last: &ExternalId,
    at: OffsetDateTime,
) {
    let end = End::of(workspace, id, last);
    let mut seen: Vec<(OffsetDateTime, MessageId)> = workspace
        .messages
        .values()
        .filter(|message| message.conversation_id == id && message.is_outgoing)
        .filter(|message| matches!(message.status, DeliveryStatus::Sent | DeliveryStatus::Delivered))
        .filter(|message| {
            let external_id = message.external_id.as_ref();
            external_id.is_some_and(|external_id| end.covers(external_id, message.sent_at))
        })
        .map(|message| (message.sent_at, message.id))
        .collect();
    seen.sort_unstable();
    for (_, message_id) in seen {
        climb(workspace, user_id, message_id, DeliveryStatus::Read, None, at);
    }
}

/// The last message that was seen.
struct End {
    number: Option<i64>,
    sent_at: Option<OffsetDateTime>,
}

impl End {
    fn of(workspace: &Workspace, id: ConversationId, last: &ExternalId) -> Self {
        let known = workspace.message_ids.get(&(id, last.clone()));
        let known = known.and_then(|message_id| workspace.messages.get(message_id));
        Self {
            number: last.as_str().parse().ok(),
            sent_at: known.map(|message| message.sent_at),
        }
    }

    /// Platforms that count their messages mean the number, which also holds when the last one itself is not here.
    fn covers(&self, external_id: &ExternalId, sent_at: OffsetDateTime) -> bool {
        match (self.number, external_id.as_str().parse::<i64>()) {
            (Some(last), Ok(number)) => number <= last,
            _ => self.sent_at.is_some_and(|last| sent_at <= last),
        }
    }
}
