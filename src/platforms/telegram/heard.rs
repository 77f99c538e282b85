//! Telegram's updates in the hub's words. See <https://core.telegram.org/type/Update>.

use grammers_session::types::PeerId;
use grammers_tl_types::enums::{self, Update};
use hub_actors::ExternalId;
use hub_actors::domain::{InboundEvent, InboundKind};

use super::map::{Mapper, Origin};
use super::{peers, system};

/// What an update says.
#[derive(Debug)]
pub(super) enum Heard {
    Event(Box<InboundEvent>),
    /// These messages of private chats and basic groups are gone; the hub has to know which chats they were in.
    Gone(Vec<i32>),
}

/// The place of an update in the numbering of its mailbox: the channel, or none for the account's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) channel: Option<i64>,
    pub(super) pts: i32,
}

/// Translates an update.
pub(super) fn heard(mapper: &Mapper, update: &Update) -> Vec<Heard> {
    let events = match update {
        Update::NewMessage(update) => mapper.message(&update.message, Origin::News),
        Update::NewChannelMessage(update) => mapper.message(&update.message, Origin::News),
        Update::EditMessage(update) => mapper.edited(&update.message),
        Update::EditChannelMessage(update) => mapper.edited(&update.message),
        Update::DeleteMessages(update) if update.messages.is_empty() => return Vec::new(),
        Update::DeleteMessages(update) => return vec![Heard::Gone(update.messages.clone())],
        Update::DeleteChannelMessages(update) => match peers::channel(update.channel_id) {
            Some(dialog) => update.messages.iter().map(|id| gone(mapper, dialog, *id)).collect(),
            None => Vec::new(),
        },
        Update::MessageReactions(update) => match peers::id_of(&update.peer) {
            Some(dialog) => mapper.reactions(dialog, update.msg_id, &update.reactions),
            None => Vec::new(),
        },
        Update::ReadHistoryInbox(update) => seen(mapper, peers::id_of(&update.peer), update.max_id, false),
        Update::ReadHistoryOutbox(update) => seen(mapper, peers::id_of(&update.peer), update.max_id, true),
        Update::ReadChannelInbox(update) => seen(mapper, peers::channel(update.channel_id), update.max_id, false),
        Update::ReadChannelOutbox(update) => seen(mapper, peers::channel(update.channel_id), update.max_id, true),
        Update::UserTyping(update) => {
            let user = PeerId::user(update.user_id);
            typing(mapper, user, user, &update.action)
        }
        Update::ChatUserTyping(update) => typing(
            mapper,
            peers::chat(update.chat_id),
            peers::id_of(&update.from_id),
            &update.action,
        ),
        Update::ChannelUserTyping(update) => {
            let dialog = peers::channel(update.channel_id);
            typing(mapper, dialog, peers::id_of(&update.from_id), &update.action)
        }
        other => {
            tracing::trace!(
                update = system::constructor(other),
                "an update of Telegram says nothing to the hub"
            );
            Vec::new()
        }
    };
    events.into_iter().map(|event| Heard::Event(Box::new(event))).collect()
}

/// A message that is gone from a chat.
pub(super) fn gone(mapper: &Mapper, dialog: PeerId, message: i32) -> InboundEvent {
    let kind = InboundKind::Deleted {
        message: message.to_string().into(),
        at: mapper.now(),
    };
    mapper.event(dialog, kind)
}

fn seen(mapper: &Mapper, dialog: Option<PeerId>, up_to: i32, by_peer: bool) -> Vec<InboundEvent> {
    let Some(dialog) = dialog.filter(|_| up_to > 0) else {
        return Vec::new();
    };
    let message: ExternalId = up_to.to_string().into();
    let kind = InboundKind::SeenUpTo {
        message,
        by_peer,
        at: mapper.now(),
    };
    vec![mapper.event(dialog, kind)]
}

fn typing(
    mapper: &Mapper,
    dialog: Option<PeerId>,
    actor: Option<PeerId>,
    action: &enums::SendMessageAction,
) -> Vec<InboundEvent> {
    use enums::SendMessageAction as Action;
    let is_writing = matches!(
        action,
        Action::SendMessageTypingAction
            | Action::SendMessageRecordVideoAction
            | Action::SendMessageUploadVideoAction(_)
            | Action::SendMessageRecordAudioAction
            | Action::SendMessageUploadAudioAction(_)
            | Action::SendMessageUploadPhotoAction(_)
            | Action::SendMessageUploadDocumentAction(_)
            | Action::SendMessageRecordRoundAction
            | Action::SendMessageUploadRoundAction(_)
            | Action::SendMessageChooseStickerAction
    );
    match (dialog, actor) {
        (Some(dialog), Some(actor)) if is_writing => {
            let kind = InboundKind::Typing {
                actor_id: actor.to_string(),
                actor_name: peers::name(&mapper.session, actor),
            };
            vec![mapper.event(dialog, kind)]
        }
        _ => Vec::new(),
    }
}

/// Where an update stands in its mailbox, for the kinds that matter to a person.
pub(super) fn place(update: &Update) -> Option<Place> {
    let own = |pts| Some(Place { channel: None, pts });
    let of = |channel, pts| {
        Some(Place {
            channel: Some(channel),
            pts,
        })
    };
    match update {
        Update::NewMessage(update) => own(update.pts),
        Update::EditMessage(update) => own(update.pts),
        Update::DeleteMessages(update) => own(update.pts),
        Update::ReadHistoryInbox(update) => own(update.pts),
        Update::ReadHistoryOutbox(update) => own(update.pts),
        Update::DeleteChannelMessages(update) => of(update.channel_id, update.pts),
        Update::ReadChannelInbox(update) => of(update.channel_id, update.pts),
        Update::NewChannelMessage(update) => of(channel_of(&update.message)?, update.pts),
        Update::EditChannelMessage(update) => of(channel_of(&update.message)?, update.pts),
        _ => None,
    }
}

/// The chat and the number of a message.
pub(super) fn address(message: &enums::Message) -> Option<(PeerId, i32)> {
    match message {
        enums::Message::Message(message) => Some((peers::id_of(&message.peer_id)?, message.id)),
        enums::Message::Service(message) => Some((peers::id_of(&message.peer_id)?, message.id)),
        enums::Message::Empty(_) => None,
    }
}

fn channel_of(message: &enums::Message) -> Option<i64> {
    let (dialog, _) = address(message)?;
    dialog.bare_id().filter(|_| peers::is_channel(dialog))
}

/// The new message in an update.
pub(super) fn new_message(update: &Update) -> Option<&enums::Message> {
    match update {
        Update::NewMessage(update) => Some(&update.message),
        Update::NewChannelMessage(update) => Some(&update.message),
        _ => None,
    }
}
