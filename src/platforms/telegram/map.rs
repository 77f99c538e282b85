//! Telegram's messages in the hub's words. Nothing here fails: what cannot be shown is described or left out.

use std::sync::{Arc, Mutex, PoisonError};

use grammers_session::types::{PeerId, PeerKind};
use grammers_tl_types::{self as tl, enums};
use hub_actors::domain::{ConversationProfile, InboundEvent, InboundKind, InboundMessage, MessageKind};
use hub_actors::{Clock, ExternalId};
use time::OffsetDateTime;

use super::reactions::Reactions;
use super::session::HubSession;
use super::{attachment, markdown, peers, system};

/// Where a message comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// It has just been sent, or was missed.
    News,
    /// It is from before; up to this id, the person has read the chat.
    History { read_up_to: i32 },
}

/// Translates for one account.
pub(super) struct Mapper {
    pub(super) session: Arc<HubSession>,
    clock: Clock,
    reactions: Mutex<Reactions>,
}

impl Mapper {
    pub(super) fn new(session: Arc<HubSession>, clock: Clock) -> Self {
        Self {
            session,
            clock,
            reactions: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    /// A time of Telegram's, in seconds since 1970.
    pub(super) fn time(&self, seconds: i32) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(i64::from(seconds)).unwrap_or_else(|_| self.now())
    }

    /// Something that happened in a chat.
    pub(super) fn event(&self, dialog: PeerId, kind: InboundKind) -> InboundEvent {
        InboundEvent {
            conversation: peers::external(dialog),
            profile: peers::profile(&self.session, dialog),
            kind,
        }
    }

    /// A message and the reactions that it has already.
    pub(super) fn message(&self, message: &enums::Message, origin: Origin) -> Vec<InboundEvent> {
        match message {
            enums::Message::Message(message) => self.written(message, origin),
            enums::Message::Service(message) => self.service(message, origin).into_iter().collect(),
            // A message that is gone.
            enums::Message::Empty(_) => Vec::new(),
        }
    }

    fn written(&self, message: &tl::types::Message, origin: Origin) -> Vec<InboundEvent> {
        let Some(dialog) = peers::id_of(&message.peer_id) else {
            return Vec::new();
        };
        let sender = self.sender(message.from_id.as_ref(), dialog, message.out);
        let carried = message.media.as_ref();
        let carried = carried.and_then(|media| attachment::attachment(media, dialog, message.id));
        let (kind, attachments) = match carried {
            Some((kind, attachment)) => (kind, vec![attachment]),
            None => (MessageKind::Text, Vec::new()),
        };
        let inbound = InboundMessage {
            external_id: message.id.to_string().into(),
            sender_id: sender.to_string(),
            sender_name: message
                .post_author
                .clone()
                .or_else(|| peers::name(&self.session, sender)),
            text: text(message),
            kind,
            media_url: None,
            attachments,
            reply_to: reply_to(message.reply_to.as_ref(), dialog),
            is_outgoing: message.out,
            is_read: is_read(message.out, message.id, origin),
            is_history: matches!(origin, Origin::History { .. }),
            sent_at: self.time(message.date),
        };
        let mut events = vec![self.event(dialog, InboundKind::Message(Box::new(inbound)))];
        if let Some(reactions) = &message.reactions {
            events.extend(self.reactions(dialog, message.id, reactions));
        }
        events
    }

    fn service(&self, message: &tl::types::MessageService, origin: Origin) -> Option<InboundEvent> {
        let dialog = peers::id_of(&message.peer_id)?;
        let sender = self.sender(message.from_id.as_ref(), dialog, message.out);
        let text = system::sentence(&self.session, Some(sender), &message.action)?;
        let inbound = InboundMessage {
            external_id: message.id.to_string().into(),
            sender_id: sender.to_string(),
            sender_name: peers::name(&self.session, sender),
            text,
            kind: MessageKind::System,
            media_url: None,
            attachments: Vec::new(),
            reply_to: reply_to(message.reply_to.as_ref(), dialog),
            is_outgoing: message.out,
            is_read: is_read(message.out, message.id, origin),
            is_history: matches!(origin, Origin::History { .. }),
            sent_at: self.time(message.date),
        };
        let mut event = self.event(dialog, InboundKind::Message(Box::new(inbound)));
        // Old titles are not news.
        if let (enums::MessageAction::ChatEditTitle(action), Origin::News) = (&message.action, origin) {
            event.profile = ConversationProfile {
                name: Some(action.title.clone()),
                ..event.profile
            };
        }
        Some(event)
    }

    /// What an edit changed: the text, and the reactions, which Telegram tells in the same way.
    pub(super) fn edited(&self, message: &enums::Message) -> Vec<InboundEvent> {
        let enums::Message::Message(message) = message else {
            return Vec::new();
        };
        let Some(dialog) = peers::id_of(&message.peer_id) else {
            return Vec::new();
        };
        let mut events = Vec::new();
        // Counters, buttons and previews are edits to Telegram, but not to a person.
        if let Some(date) = message.edit_date.filter(|_| !message.edit_hide) {
            let kind = InboundKind::Edited {
                message: message.id.to_string().into(),
                text: text(message),
                at: self.time(date),
            };
            events.push(self.event(dialog, kind));
        }
        if let Some(reactions) = &message.reactions {
            events.extend(self.reactions(dialog, message.id, reactions));
        }
        events
    }

    pub(super) fn reactions(
        &self,
        dialog: PeerId,
        message: i32,
        reactions: &enums::MessageReactions,
    ) -> Vec<InboundEvent> {
        let Some(id) = dialog.bot_api_dialog_id() else {
            return Vec::new();
        };
        let mut known = self.reactions.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = known.changes(id, message, reactions, self.now());
        changes.into_iter().map(|change| self.event(dialog, change)).collect()
    }

    /// Who wrote it: left out in a private chat, and in a channel it is the channel.
    fn sender(&self, from: Option<&enums::Peer>, dialog: PeerId, is_outgoing: bool) -> PeerId {
        let own = self.session.self_id().and_then(PeerId::user);
        let named = from.and_then(peers::id_of);
        match own {
            Some(own) if named.is_none() && is_outgoing && dialog.kind() != PeerKind::Channel => own,
            _ => named.unwrap_or(dialog),
        }
    }
}

fn is_read(is_outgoing: bool, id: i32, origin: Origin) -> bool {
    match origin {
        Origin::News => is_outgoing,
        Origin::History { read_up_to } => is_outgoing || id <= read_up_to,
    }
}

/// The message that one answers, where it is in the same chat.
fn reply_to(header: Option<&enums::MessageReplyHeader>, dialog: PeerId) -> Option<ExternalId> {
    let enums::MessageReplyHeader::Header(header) = header? else {
        return None;
    };
    let is_here = match &header.reply_to_peer_id {
        Some(peer) => peers::id_of(peer) == Some(dialog),
        None => true,
    };
    let id = header.reply_to_msg_id.filter(|_| is_here)?;
    Some(id.to_string().into())
}

/// The text of a message in Markdown, and what it carries besides files, in words.
pub(super) fn text(message: &tl::types::Message) -> String {
    let entities = message.entities.as_deref().unwrap_or_default();
    let written = markdown::to_markdown(&message.message, entities);
    let described = message.media.as_ref().and_then(described);
    match described {
        Some(described) if written.is_empty() => described,
        Some(described) => format!("{written}\n{described}"),
        None => written,
    }
}

/// What is neither text nor a file.
fn described(media: &enums::MessageMedia) -> Option<String> {
    use enums::MessageMedia;
    Some(match media {
        MessageMedia::Empty | MessageMedia::WebPage(_) => return None,
        MessageMedia::Photo(media) if media.photo.is_some() => return None,
        MessageMedia::Document(media) if media.document.is_some() => return None,
        MessageMedia::Photo(_) => "A picture that has expired".to_owned(),
        MessageMedia::Document(_) => "A file that has expired".to_owned(),
        MessageMedia::Geo(media) => format!("Location{}", place(&media.geo)),
        MessageMedia::GeoLive(media) => format!("Live location{}", place(&media.geo)),
        MessageMedia::Venue(media) => format!("{}, {}{}", media.title, media.address, place(&media.geo)),
        MessageMedia::Contact(media) => {
            let name = format!("{} {}", media.first_name, media.last_name);
            format!("Contact: {}, {}", name.trim(), media.phone_number)
        }
        MessageMedia::Poll(media) => {
            let enums::Poll::Poll(poll) = &media.poll;
            let enums::TextWithEntities::Entities(question) = &poll.question;
            format!("Poll: {}", question.text)
        }
        MessageMedia::Dice(media) => format!("{} {}", media.emoticon, media.value),
        MessageMedia::Game(media) => {
            let enums::Game::Game(game) = &media.game;
            format!("Game: {}", game.title)
        }
        MessageMedia::Invoice(media) => format!("Invoice: {}", media.title),
        MessageMedia::Story(_) => "A story".to_owned(),
        MessageMedia::Giveaway(_) | MessageMedia::GiveawayResults(_) => "A giveaway".to_owned(),
        MessageMedia::PaidMedia(_) => "Paid media".to_owned(),
        MessageMedia::ToDo(_) => "A checklist".to_owned(),
        MessageMedia::VideoStream(_) => "A video stream".to_owned(),
        MessageMedia::Unsupported => "A message that this hub cannot show".to_owned(),
    })
}

fn place(point: &enums::GeoPoint) -> String {
    match point {
        enums::GeoPoint::Point(point) => format!(": {:.6}, {:.6}", point.lat, point.long),
        enums::GeoPoint::Empty => String::new(),
    }
}

#[cfg(test)]
mod tests;
