//! How far somebody has read, on platforms that tell it as "everything up to this message".

use time::OffsetDateTime;

use super::super::message::DeliveryStatus;
use super::super::workspace::{ReadUpTo, Workspace};
use super::inbound::climb;
use super::read;
use crate::ids::{ConversationId, ExternalId, MessageId, UserId};

/// The person has read this far on another device.
pub(super) fn by_person(workspace: &mut Workspace, user_id: UserId, id: ConversationId, last: &ExternalId) -> bool {
    let end = read_up_to(workspace, id, last);
    let covers =
        |external_id: Option<&ExternalId>, sent_at| external_id.is_some_and(|known| end.covers(known, sent_at));
    let (read, left) = read::mark_read(workspace, id, covers);
    let older = workspace.older_unread.get(&(id, last.clone())).copied().unwrap_or(0);
    let left = i32::try_from(older.saturating_add_unsigned(left as u64)).unwrap_or(i32::MAX);
    let count = workspace
        .conversations
        .get(&id)
        .map(|conversation| conversation.unread_count);
    if read.is_empty() && count == Some(left) {
        return false;
    }
    workspace.dirty.read_up_to.push(end);
    if let Some(conversation) = workspace.conversation_mut(id) {
        conversation.unread_count = left;
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
    let end = read_up_to(workspace, id, last);
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

fn read_up_to(workspace: &Workspace, id: ConversationId, last: &ExternalId) -> ReadUpTo {
    let known = workspace.message_ids.get(&(id, last.clone()));
    let known = known.and_then(|message_id| workspace.messages.get(message_id));
    ReadUpTo {
        conversation_id: id,
        number: last.number(),
        sent_at: known.map(|message| message.sent_at),
    }
}
