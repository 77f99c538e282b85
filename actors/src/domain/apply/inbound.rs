//! What a platform reported. Every order of {message, edit, delete, reaction, receipt} ends in the same state.

use std::collections::{HashMap, HashSet};

use time::OffsetDateTime;

use super::super::append::{Appended, LinkStep, Refusal};
use super::super::conversation::Conversation;
use super::super::event::EventKind;
use super::super::inbound::{InboundEvent, InboundKind, InboundMessage};
use super::super::message::{DeliveryStatus, Edit, Message, Reaction};
use super::super::workspace::{ParkedEvent, Workspace};
use super::read::tell;
use super::seen;
use crate::ids::{AccountId, ConversationId, ExternalId, MessageId, UserId};

/// Early events that may wait for one message. A platform that sends more is not telling the truth.
const MAX_PARKED_PER_MESSAGE: usize = 256;

pub(super) fn apply_inbound(
    workspace: &mut Workspace,
    user_id: UserId,
    account_id: AccountId,
    chat: &ExternalId,
    events: &[InboundEvent],
    link: Option<&LinkStep>,
) -> Result<Appended, Refusal> {
    check_link(workspace, user_id, account_id, link)?;
    check(workspace, account_id, chat, events)?;
    remember(workspace, account_id, link);
    let (conversation_id, is_new) = find_or_create(workspace, user_id, account_id, chat)?;
    let mut is_untold = is_new;
    for event in events {
        is_untold |= learn(workspace, conversation_id, event);
        match apply_kind(workspace, user_id, conversation_id, &event.kind) {
            Effect::Told => is_untold = false,
            Effect::Untold => is_untold = true,
            Effect::None => {}
        }
    }
    if is_untold {
        tell(workspace, user_id, conversation_id, Vec::new());
    }
    Ok(Appended::default())
}

/// Refuses an account that is not the user's or not active, and a link whose owner has been replaced.
pub(super) fn check_link(
    workspace: &Workspace,
    user_id: UserId,
    account_id: AccountId,
    link: Option<&LinkStep>,
) -> Result<(), Refusal> {
    let account = workspace
        .accounts
        .get(&account_id)
        .filter(|account| account.user_id == user_id);
    let account = account.ok_or(Refusal::NoAccount)?;
    if !account.is_active {
        return Err(Refusal::AccountDisconnected);
    }
    match link {
        Some(link) if workspace.leases.get(&account_id) != Some(&link.epoch) => Err(Refusal::LeaseLost),
        _ => Ok(()),
    }
}

pub(super) fn remember(workspace: &mut Workspace, account_id: AccountId, link: Option<&LinkStep>) {
    for (name, value) in link.map(|link| &link.remember).into_iter().flatten() {
        let key = (account_id, name.clone());
        workspace.dirty.remembered.insert(key, value.clone());
    }
}

/// Everything else that can be refused, before anything is changed.
fn check(
    workspace: &Workspace,
    account_id: AccountId,
    chat: &ExternalId,
    events: &[InboundEvent],
) -> Result<(), Refusal> {
    let conversation_id = workspace.conversation_ids.get(&(account_id, chat.clone())).copied();
    let mut waiting: HashMap<&ExternalId, usize> = HashMap::new();
    let mut arrived: HashSet<&ExternalId> = HashSet::new();
    for event in events {
        let Some(message) = event.kind.message() else { continue };
        if matches!(event.kind, InboundKind::Message(_)) {
            arrived.insert(message);
        }
        if matches!(event.kind, InboundKind::SeenUpTo { .. })
            || arrived.contains(message)
            || conversation_id.is_some_and(|id| is_known(workspace, id, message))
        {
            continue;
        }
        let parked = |id| workspace.parked.get(&(id, message.clone())).map_or(0, Vec::len);
        let count = waiting
            .entry(message)
            .or_insert_with(|| conversation_id.map_or(0, parked));
        *count += 1;
        if *count > MAX_PARKED_PER_MESSAGE {
            return Err(Refusal::TooManyParked);
        }
    }
    Ok(())
}

fn is_known(workspace: &Workspace, conversation_id: ConversationId, message: &ExternalId) -> bool {
    workspace.message_ids.contains_key(&(conversation_id, message.clone()))
}

fn find_or_create(
    workspace: &mut Workspace,
    user_id: UserId,
    account_id: AccountId,
    chat: &ExternalId,
) -> Result<(ConversationId, bool), Refusal> {
    if let Some(id) = workspace.conversation_ids.get(&(account_id, chat.clone())) {
        return Ok((*id, false));
    }
    let account = workspace.accounts.get(&account_id).ok_or(Refusal::NoAccount)?;
    let conversation = Conversation {
        id: ConversationId::generate(workspace.now),
        user_id,
        account_id,
        platform: account.platform.clone(),
        external_id: chat.clone(),
        participant_id: None,
        participant_name: None,
        participant_avatar_url: None,
        last_message_at: None,
        unread_count: 0,
        created_at: workspace.now,
        updated_at: workspace.now,
    };
    let id = conversation.id;
    workspace.dirty.conversations_new.insert(id);
    workspace.add_conversation(conversation);
    Ok((id, true))
}

fn learn(workspace: &mut Workspace, id: ConversationId, event: &InboundEvent) -> bool {
    let changes = workspace
        .conversations
        .get(&id)
        .is_some_and(|known| known.clone().learn(&event.profile));
    if changes && let Some(conversation) = workspace.conversation_mut(id) {
        conversation.learn(&event.profile);
    }
    changes
}

/// What an inbound event did to the conversation itself.
enum Effect {
    None,
    /// It changed, or was left as it is, and an event carries all that it is now.
    Told,
    /// It changed and no event that its list follows says so yet.
    Untold,
}

impl Effect {
    fn told_if(is_told: bool) -> Self {
        if is_told { Self::Told } else { Self::None }
    }
}

fn apply_kind(workspace: &mut Workspace, user_id: UserId, id: ConversationId, kind: &InboundKind) -> Effect {
    match kind {
        InboundKind::Message(message) => receive(workspace, user_id, id, message),
        InboundKind::Typing { .. } | InboundKind::Profile => Effect::None,
        InboundKind::SeenUpTo { message, by_peer, at } if *by_peer => {
            seen::by_peer(workspace, user_id, id, message, *at);
            Effect::None
        }
        InboundKind::SeenUpTo { message, .. } => Effect::told_if(seen::by_person(workspace, user_id, id, message)),
        InboundKind::Edited { message, .. }
        | InboundKind::Deleted { message, .. }
        | InboundKind::Reaction { message, .. }
        | InboundKind::Receipt { message, .. } => match workspace.message_ids.get(&(id, message.clone())) {
            Some(message_id) => Effect::told_if(change(workspace, user_id, *message_id, kind)),
            None => {
                park(workspace, user_id, id, message, kind);
                Effect::None
            }
        },
    }
}

fn park(workspace: &mut Workspace, user_id: UserId, id: ConversationId, message: &ExternalId, kind: &InboundKind) {
    let parked = workspace.parked.entry((id, message.clone())).or_default();
    if parked.iter().any(|event| event.kind == *kind) {
        return;
    }
    let event = ParkedEvent {
        id: MessageId::generate(workspace.now).0,
        user_id,
        conversation_id: id,
        message: message.clone(),
        kind: kind.clone(),
        created_at: workspace.now,
    };
    parked.push(event.clone());
    workspace.dirty.parked_new.push(event);
}

/// Applies what came before its message, now that the message is there.
pub(super) fn unpark(workspace: &mut Workspace, user_id: UserId, id: ConversationId, external_id: &ExternalId) {
    let Some(message_id) = workspace.message_ids.get(&(id, external_id.clone())).copied() else {
        return;
    };
    for event in workspace.parked.remove(&(id, external_id.clone())).unwrap_or_default() {
        let parked_in_this_batch = workspace.dirty.parked_new.iter().position(|new| new.id == event.id);
        match parked_in_this_batch {
            Some(index) => drop(workspace.dirty.parked_new.remove(index)),
            None => workspace.dirty.parked_removed.push(event.id),
        }
        change(workspace, user_id, message_id, &event.kind);
    }
}

fn receive(workspace: &mut Workspace, user_id: UserId, id: ConversationId, inbound: &InboundMessage) -> Effect {
    if let Some(known) = workspace.message_ids.get(&(id, inbound.external_id.clone())).copied() {
        // An echo of an own message proves that it went out; anything else is a redelivery.
        if inbound.is_outgoing {
            climb(workspace, user_id, known, DeliveryStatus::Sent, None, workspace.now);
        }
        return Effect::None;
    }
    let message = Message {
        id: MessageId::generate(workspace.now),
        conversation_id: id,
        external_id: Some(inbound.external_id.clone()),
        sender_id: inbound.sender_id.clone(),
        sender_name: inbound.sender_name.clone(),
        content: inbound.text.clone(),
        kind: inbound.kind,
        media_url: inbound.media_url.clone(),
        attachments: inbound.attachments.clone(),
        reply_to: inbound.reply_to.clone(),
        is_outgoing: inbound.is_outgoing,
        is_read: inbound.is_read || inbound.is_outgoing,
        status: if inbound.is_outgoing {
            DeliveryStatus::Sent
        } else {
            DeliveryStatus::Received
        },
        status_reason: None,
        reactions: Vec::new(),
        sent_at: placed_at(workspace, id, inbound),
        delivered_at: None,
        read_at: None,
        edited_at: None,
        deleted_at: None,
        created_at: workspace.now,
        is_sent_here: false,
    };
    let mut is_changed = !message.is_read;
    if let Some(conversation) = workspace.conversation_mut(id) {
        is_changed |= conversation.last_message_at < Some(message.sent_at);
        conversation.last_message_at = conversation.last_message_at.max(Some(message.sent_at));
        conversation.unread_count += i32::from(!message.is_read);
    }
    workspace.dirty.messages_new.insert(message.id);
    workspace.add_message(message.clone());
    if let Some(conversation) = workspace.conversations.get(&id) {
        let conversation = Box::new(conversation.clone());
        workspace.emit(
            user_id,
            EventKind::MessageReceived {
                message: Box::new(message),
                conversation,
                is_history: inbound.is_history,
            },
        );
    }
    unpark(workspace, user_id, id, &inbound.external_id);
    // A page that knows nothing of old messages takes no notice of their events.
    match (inbound.is_history, is_changed) {
        (false, _) => Effect::Told,
        (true, true) => Effect::Untold,
        (true, false) => Effect::None,
    }
}

/// When the message was sent. Some platforms tell whole seconds: one that arrives in the second of the newest message
/// comes after it, so that an answer does not stand above what it answers.
fn placed_at(workspace: &Workspace, id: ConversationId, inbound: &InboundMessage) -> OffsetDateTime {
    let newest = workspace.conversations.get(&id).and_then(|chat| chat.last_message_at);
    match newest {
        Some(newest)
            if !inbound.is_history
                && inbound.sent_at.nanosecond() == 0
                && newest > inbound.sent_at
                && newest.unix_timestamp() == inbound.sent_at.unix_timestamp() =>
        {
            newest + time::Duration::MICROSECOND
        }
        _ => inbound.sent_at,
    }
}

/// True when the events it caused carry the conversation.
fn change(workspace: &mut Workspace, user_id: UserId, id: MessageId, kind: &InboundKind) -> bool {
    match kind {
        InboundKind::Edited { text, at, .. } => edit(workspace, user_id, id, text, *at),
        InboundKind::Deleted { at, .. } => return delete(workspace, user_id, id, *at),
        InboundKind::Reaction {
            actor_id,
            emoji,
            is_active,
            at,
            ..
        } => {
            let (actor_id, emoji) = (actor_id.clone(), emoji.clone());
            react(
                workspace,
                user_id,
                id,
                Reaction {
                    actor_id,
                    emoji,
                    is_active: *is_active,
                    at: *at,
                },
            );
        }
        InboundKind::Receipt { status, reason, at, .. } => {
            climb(workspace, user_id, id, *status, reason.clone(), *at);
        }
        InboundKind::Message(_) | InboundKind::SeenUpTo { .. } | InboundKind::Typing { .. } | InboundKind::Profile => {}
    }
    false
}

/// The newest edit wins; the same instant is settled by the text, so that every order of arrival ends alike.
pub(super) fn edit(workspace: &mut Workspace, user_id: UserId, id: MessageId, text: &str, at: OffsetDateTime) {
    let Some(message) = workspace.messages.get(&id) else {
        return;
    };
    let is_known = message.edited_at == Some(at) && message.content == text;
    if message.deleted_at.is_some() || is_known {
        return;
    }
    let edit = Edit {
        at,
        content: text.to_owned(),
    };
    let wins = match message.edited_at {
        None => true,
        Some(current) => (at, text) > (current, message.content.as_str()),
    };
    workspace.dirty.edits.push((id, edit));
    if wins && let Some(message) = workspace.message_mut(id) {
        text.clone_into(&mut message.content);
        message.edited_at = Some(at);
        let message = Box::new(message.clone());
        workspace.emit(user_id, EventKind::MessageEdited { message });
    }
}

/// Deleting is final: the content, its edits and its reactions go, and later ones are ignored.
pub(super) fn delete(workspace: &mut Workspace, user_id: UserId, id: MessageId, at: OffsetDateTime) -> bool {
    let Some(message) = workspace.messages.get(&id) else {
        return false;
    };
    let (conversation_id, was_unread) = (message.conversation_id, !message.is_read);
    if message.deleted_at.is_some() {
        return false;
    }
    if let Some(message) = workspace.message_mut(id) {
        message.content.clear();
        message.media_url = None;
        message.attachments.clear();
        message.edited_at = None;
        message.deleted_at = Some(at);
        message.is_read = true;
        message.reactions.clear();
    }
    workspace.dirty.edits.retain(|(edited, _)| *edited != id);
    workspace.dirty.reactions.retain(|(reacted, _, _), _| *reacted != id);
    workspace.dirty.erased.insert(id);
    workspace.emit(
        user_id,
        EventKind::MessageDeleted {
            conversation_id,
            message_id: id,
            deleted_at: Some(at),
        },
    );
    if was_unread {
        if let Some(conversation) = workspace.conversation_mut(conversation_id) {
            conversation.unread_count = (conversation.unread_count - 1).max(0);
        }
        tell(workspace, user_id, conversation_id, vec![id]);
    }
    was_unread
}

/// The newest word about (person, emoji) wins; at the same instant "removed" wins.
pub(super) fn react(workspace: &mut Workspace, user_id: UserId, id: MessageId, reaction: Reaction) {
    let Some(message) = workspace.messages.get_mut(&id) else {
        return;
    };
    if message.deleted_at.is_some() {
        return;
    }
    let (conversation_id, mut was_active) = (message.conversation_id, false);
    let known = message
        .reactions
        .iter_mut()
        .find(|known| known.actor_id == reaction.actor_id && known.emoji == reaction.emoji);
    match known {
        Some(known) => {
            if (known.at, !known.is_active) >= (reaction.at, !reaction.is_active) {
                return;
            }
            was_active = known.is_active;
            *known = reaction.clone();
        }
        None => message.reactions.push(reaction.clone()),
    }
    let key = (id, reaction.actor_id.clone(), reaction.emoji.clone());
    workspace.dirty.reactions.insert(key, reaction.clone());
    match (was_active, reaction.is_active) {
        (false, true) => {
            workspace.emit(
                user_id,
                EventKind::ReactionAdded {
                    conversation_id,
                    message_id: id,
                    reaction,
                },
            );
        }
        (true, false) => {
            workspace.emit(
                user_id,
                EventKind::ReactionRemoved {
                    conversation_id,
                    message_id: id,
                    reaction,
                },
            );
        }
        _ => {}
    }
}

/// Evidence about an own message: the status climbs and never falls, except that a platform may take back a `sent`.
pub(super) fn climb(
    workspace: &mut Workspace,
    user_id: UserId,
    id: MessageId,
    status: DeliveryStatus,
    reason: Option<String>,
    at: OffsetDateTime,
) {
    let Some(message) = workspace.messages.get(&id).filter(|message| message.is_outgoing) else {
        return;
    };
    let takes_back = status == DeliveryStatus::Failed && message.status.rank() <= DeliveryStatus::Sent.rank();
    let climbs = (status.rank() > message.status.rank() || takes_back) && status != message.status;
    let stamps_delivered = status == DeliveryStatus::Delivered && message.delivered_at.is_none();
    let stamps_read = status == DeliveryStatus::Read && message.read_at.is_none();
    if !climbs && !stamps_delivered && !stamps_read {
        return;
    }
    let Some(message) = workspace.message_mut(id) else {
        return;
    };
    if stamps_delivered {
        message.delivered_at = Some(at);
    }
    if stamps_read {
        message.read_at = Some(at);
    }
    if climbs {
        message.status = status;
        message.status_reason = reason;
        let message = Box::new(message.clone());
        if status.rank() >= DeliveryStatus::Sent.rank() {
            workspace.dirty.outbox_settled.insert(id);
        }
        workspace.emit(user_id, EventKind::StatusChanged { message });
    }
}
