//! What the person does to a message that is on the platform: it goes out first, and changes here when the platform has
//! taken it, so that nothing is shown that others do not see.

use super::super::append::{Act, Appended, NewAction, Refusal};
use super::super::message::Reaction;
use super::super::outbound::{OutboundAction, OutboxEntry, OutboxState};
use super::super::workspace::Workspace;
use super::inbound::{delete, edit, react};
use super::own_conversation;
use crate::ids::UserId;

pub(super) fn queue(workspace: &mut Workspace, user_id: UserId, new: &NewAction) -> Result<Appended, Refusal> {
    own_conversation(workspace, user_id, new.conversation_id)?;
    if let Some(entry) = workspace.outbox.get(&new.outbox_id) {
        // The same append again, after an answer that was lost.
        return Ok(going_out(entry.clone()));
    }
    let message = workspace
        .messages
        .get(&new.message_id)
        .filter(|message| message.conversation_id == new.conversation_id && message.deleted_at.is_none());
    let message = message.ok_or(Refusal::NoMessage)?;
    let external_id = message.external_id.clone().ok_or(Refusal::NotSent)?;
    let action = match &new.act {
        Act::Edit { .. } if !message.is_outgoing => return Err(Refusal::NotOwn),
        Act::Edit { text } => OutboundAction::Edit {
            message: external_id,
            text: text.clone(),
        },
        Act::Delete => OutboundAction::Delete { message: external_id },
        Act::React { emoji, is_active } => OutboundAction::React {
            message: external_id,
            emoji: emoji.clone(),
            is_active: *is_active,
        },
    };
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
    let entry = OutboxEntry {
        id: new.outbox_id,
        user_id,
        account_id: conversation.account_id,
        conversation_id: conversation.id,
        conversation_external_id: conversation.external_id.clone(),
        message_id: None,
        action,
        state: OutboxState::Queued,
        attempts: 0,
        due_at: workspace.now,
        // After all that was accepted before; among equals the ids, which grow, decide.
        order: workspace.streams.get(&user_id).copied().unwrap_or_default(),
        created_at: workspace.now,
    };
    workspace.insert_outbox(entry.clone());
    Ok(going_out(entry))
}

fn going_out(entry: OutboxEntry) -> Appended {
    Appended {
        outbox: Some(Box::new(entry)),
        ..Appended::default()
    }
}

/// The platform has taken it. It may have told of it already, or the message may be gone meanwhile.
pub(super) fn taken(workspace: &mut Workspace, entry: &OutboxEntry) {
    let Some(changed) = entry.action.changed() else {
        return;
    };
    let key = (entry.conversation_id, changed.clone());
    let Some(id) = workspace.message_ids.get(&key).copied() else {
        return;
    };
    let now = workspace.now;
    match &entry.action {
        OutboundAction::Edit { text, .. } => {
            let is_there = workspace
                .messages
                .get(&id)
                .is_some_and(|message| message.edited_at.is_some() && message.content == *text);
            if !is_there {
                edit(workspace, entry.user_id, id, text, now);
            }
        }
        OutboundAction::Delete { .. } => {
            delete(workspace, entry.user_id, id, now);
        }
        OutboundAction::React { emoji, is_active, .. } => {
            let Some(account) = workspace.accounts.get(&entry.account_id) else {
                return;
            };
            let reaction = Reaction {
                actor_id: account.external_id.as_str().to_owned(),
                emoji: emoji.clone(),
                is_active: *is_active,
                at: now,
            };
            react(workspace, entry.user_id, id, reaction);
        }
        OutboundAction::Send { .. } | OutboundAction::Read { .. } => {}
    }
}
