//! What lives here: the rules, one function per kind of change, pure over a [`Workspace`].
//! Who calls it: the store, inside the journal's transaction; property tests, without any database.
//! What it may not know: SQL, actors, time other than the workspace's.
//!
//! A rule checks everything before it changes anything, so a refused change leaves no trace.

mod act;
mod inbound;
mod read;
mod seen;
mod send;

use super::account::AccountState;
use super::append::{Append, Appended, Change, Refusal};
use super::event::EventKind;
use super::workspace::Workspace;
use crate::ids::{ConversationId, UserId};

/// Makes one change in the workspace.
///
/// # Errors
/// A [`Refusal`] when the change is not possible; the workspace is then as it was.
pub fn apply(workspace: &mut Workspace, append: &Append) -> Result<Appended, Refusal> {
    let first_event = workspace.events.len();
    let user_id = append.user_id;
    let mut appended = match &append.change {
        Change::Inbound {
            account_id,
            conversation,
            events,
            link,
        } => inbound::apply_inbound(workspace, user_id, *account_id, conversation, events, link.as_ref()),
        Change::Remember { account_id, link } => {
            inbound::check_link(workspace, user_id, *account_id, Some(link))?;
            inbound::remember(workspace, *account_id, Some(link));
            Ok(Appended::default())
        }
        Change::Queue(new) => send::queue(workspace, user_id, new),
        Change::Act(new) => act::queue(workspace, user_id, new),
        Change::SendStarted { entry } => send::started(workspace, entry),
        Change::SendEnded { entry, report } => send::ended(workspace, entry, report),
        Change::Retry {
            message_id,
            conversation_id,
        } => send::retry(workspace, user_id, *message_id, *conversation_id),
        Change::ReadMessage {
            message_id,
            conversation_id,
        } => read::read_message(workspace, user_id, *message_id, *conversation_id),
        Change::ReadConversation {
            conversation_id,
            tell_platform,
        } => read::read_conversation(workspace, user_id, *conversation_id, *tell_platform),
        Change::AccountState {
            account_id,
            state,
            reason,
            until,
        } => {
            let account = workspace
                .accounts
                .get_mut(account_id)
                .filter(|account| account.user_id == user_id);
            let account = account.ok_or(Refusal::NoAccount)?;
            // What was still on its way when the person disconnected the account is no news any more.
            let is_late = !account.is_active && *state != AccountState::Disabled;
            if is_late {
                return Ok(Appended::default());
            }
            if account.state != *state || account.state_reason != *reason || account.state_until != *until {
                account.state = *state;
                account.state_reason.clone_from(reason);
                account.state_until = *until;
                account.updated_at = workspace.now;
                workspace.dirty.accounts.insert(*account_id);
                let account = Box::new(account.clone());
                workspace.emit(user_id, EventKind::AccountChanged { account });
            }
            Ok(Appended::default())
        }
    }?;
    appended.events = workspace.events[first_event..].to_vec();
    Ok(appended)
}

/// Refuses a conversation that is not the user's.
fn own_conversation(workspace: &Workspace, user_id: UserId, id: ConversationId) -> Result<(), Refusal> {
    match workspace.conversations.get(&id) {
        Some(conversation) if conversation.user_id == user_id => Ok(()),
        _ => Err(Refusal::NoConversation),
    }
}
