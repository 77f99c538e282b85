//! People, chats and messages as TL objects, the way one account sees them.

use std::collections::BTreeSet;

use grammers_tl_types::{self as tl, enums};

use super::{Owner, Post, World};
use crate::spec::{Peer, Service};
use crate::tl::{Refusal, Rpc, notify_settings, now, peer_channel, peer_chat, peer_user, required};

/// The people and chats an answer has to introduce.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faces {
    pub users: BTreeSet<i64>,
    pub chats: BTreeSet<Peer>,
}

impl Faces {
    pub fn channel(id: i64) -> Self {
        Self {
            users: BTreeSet::new(),
            chats: BTreeSet::from([Peer::Channel(id)]),
        }
    }

    pub fn peer(&mut self, peer: Peer) {
        match peer {
            Peer::User(id) => {
                self.users.insert(id);
            }
            other => {
                self.chats.insert(other);
            }
        }
    }
}

impl World {
    pub fn render_peer(peer: Peer) -> enums::Peer {
        match peer {
            Peer::User(id) => peer_user(id),
            Peer::Chat(id) => peer_chat(id),
            Peer::Channel(id) => peer_channel(id),
        }
    }

    /// The access hash `viewer` gets for a person or channel.
    pub fn access_hash(&self, viewer: i64, peer: Peer) -> i64 {
        let (kind, id) = match peer {
            Peer::User(id) => (1, id),
            Peer::Chat(id) => (2, id),
            Peer::Channel(id) => (3, id),
        };
        self.stable(&[100, viewer, kind, id])
    }

    pub fn render_user(&self, viewer: i64, id: i64) -> Rpc<enums::User> {
        let Some(user) = self.users.get(&id) else {
            return Ok(tl::types::UserEmpty { id }.into());
        };
        let spec = &user.spec;
        let mut out = required!(tl::types::User; 0_i32, 0_i32, id)?;
        out.access_hash = Some(self.access_hash(viewer, Peer::User(id)));
        out.first_name = Some(spec.first_name.clone()).filter(|name| !name.is_empty());
        out.last_name.clone_from(&spec.last_name);
        out.username.clone_from(&spec.username);
        out.is_self = viewer == id;
        out.contact = spec.contact;
        out.bot = spec.bot;
        if spec.bot {
            out.bot_info_version = Some(1);
        }
        if viewer == id || spec.contact {
            out.phone.clone_from(&spec.phone);
        }
        Ok(out.into())
    }

    pub fn render_chat(&self, viewer: i64, peer: Peer) -> Rpc<enums::Chat> {
        match peer {
            Peer::Chat(id) => {
                let Some(chat) = self.chats.get(&id) else {
                    return Ok(tl::types::ChatEmpty { id }.into());
                };
                let people = i32::try_from(chat.members.len()).unwrap_or(i32::MAX);
                let mut out = required!(tl::types::Chat;
                    0_i32, id, chat.title, enums::ChatPhoto::Empty, people, chat.date, 1_i32)?;
                out.creator = chat.members.first() == Some(&viewer);
                out.left = !chat.members.contains(&viewer);
                Ok(out.into())
            }
            Peer::Channel(id) => {
                let channel = self.channel(id)?;
                let mut out = required!(tl::types::Channel;
                    0_i32, 0_i32, id, channel.title, enums::ChatPhoto::Empty, channel.date)?;
                out.access_hash = Some(self.access_hash(viewer, peer));
                out.username.clone_from(&channel.username);
                out.broadcast = channel.broadcast;
                out.megagroup = !channel.broadcast;
                out.creator = channel.creator == Some(viewer);
                out.left = !channel.members.contains(&viewer);
                out.slowmode_enabled = channel.slowmode.is_some();
                out.participants_count = i32::try_from(channel.members.len()).ok();
                Ok(out.into())
            }
            Peer::User(_) => Err(Refusal::new(500, "USER_AS_CHAT")),
        }
    }

    pub fn render_faces(&self, viewer: i64, faces: &Faces) -> Rpc<(Vec<enums::User>, Vec<enums::Chat>)> {
        let users = faces
            .users
            .iter()
            .map(|id| self.render_user(viewer, *id))
            .collect::<Rpc<_>>()?;
        let chats = faces
            .chats
            .iter()
            .map(|peer| self.render_chat(viewer, *peer))
            .collect::<Rpc<_>>()?;
        Ok((users, chats))
    }

    pub fn render_message(&self, viewer: i64, owner: Owner, post: &Post, faces: &mut Faces) -> Rpc<enums::Message> {
        faces.peer(post.peer);
        let broadcast = match owner {
            Owner::Channel(id) => self.channel(id)?.broadcast,
            Owner::Account(_) => false,
        };
        let from = post.author.filter(|_| !broadcast);
        faces.users.extend(from);
        let out = post.out || (matches!(owner, Owner::Channel(_)) && post.author == Some(viewer));
        let peer = Self::render_peer(post.peer);
        let reply_to = match post.reply_to {
            Some(id) => {
                let mut header = required!(tl::types::MessageReplyHeader; 0_i32)?;
                header.reply_to_msg_id = Some(id);
                Some(header.into())
            }
            None => None,
        };
        if let Some(service) = &post.service {
            let action = Self::render_action(service, post, faces);
            let mut message = required!(tl::types::MessageService;
                0_i32, post.id, peer, post.date, action)?;
            message.out = out;
            message.post = broadcast;
            message.from_id = from.map(peer_user);
            message.reply_to = reply_to;
            return Ok(message.into());
        }
        let mut message = required!(tl::types::Message;
            0_i32, 0_i32, post.id, peer, post.date, post.text)?;
        message.out = out;
        message.post = broadcast;
        message.pinned = post.pinned;
        // In a private chat Telegram leaves out who wrote an incoming message: it is the peer.
        message.from_id = match post.peer {
            Peer::User(_) if !out => None,
            _ => from.map(peer_user),
        };
        message.reply_to = reply_to;
        message.edit_date = post.edit_date;
        message.grouped_id = post.grouped;
        message.entities = Some(post.entities.clone()).filter(|list| !list.is_empty());
        if broadcast {
            message.views = Some(1);
            message.forwards = Some(0);
        }
        if let Some(file) = post.file {
            message.media = Some(self.render_media(file)?);
        }
        if let Some((author, date)) = post.forward {
            let mut header = required!(tl::types::MessageFwdHeader; 0_i32, date)?;
            header.from_id = author.map(peer_user);
            faces.users.extend(author);
            message.fwd_from = Some(header.into());
        }
        if !post.reactions.is_empty() {
            faces.users.extend(post.reactions.iter().map(|(who, ..)| *who));
            message.reactions = Some(Self::render_reactions(viewer, post)?);
        }
        Ok(message.into())
    }

    fn render_action(service: &Service, post: &Post, faces: &mut Faces) -> enums::MessageAction {
        use tl::types;
        match service {
            Service::Created(title) => match post.peer {
                Peer::Channel(_) => types::MessageActionChannelCreate { title: title.clone() }.into(),
                _ => {
                    let (title, users) = (title.clone(), post.author.into_iter().collect());
                    types::MessageActionChatCreate { title, users }.into()
                }
            },
            Service::Title(title) => types::MessageActionChatEditTitle { title: title.clone() }.into(),
            Service::Joined(users) => {
                faces.users.extend(users);
                types::MessageActionChatAddUser { users: users.clone() }.into()
            }
            Service::Left(user_id) => {
                faces.users.insert(*user_id);
                types::MessageActionChatDeleteUser { user_id: *user_id }.into()
            }
            Service::Pinned => enums::MessageAction::PinMessage,
            Service::SignedUp => enums::MessageAction::ContactSignUp,
        }
    }

    /// All reactions of a message, counted, and the people behind the newest.
    pub fn render_reactions(viewer: i64, post: &Post) -> Rpc<enums::MessageReactions> {
        let emoji = |text: &str| -> enums::Reaction {
            tl::types::ReactionEmoji {
                emoticon: text.to_owned(),
            }
            .into()
        };
        let mut kinds: Vec<(&str, i32, bool)> = Vec::new();
        for (who, text, _) in &post.reactions {
            let mine = *who == viewer;
            match kinds.iter_mut().find(|(kind, ..)| kind == text) {
                Some(kind) => *kind = (kind.0, kind.1 + 1, kind.2 || mine),
                None => kinds.push((text, 1, mine)),
            }
        }
        let mut results: Vec<enums::ReactionCount> = Vec::new();
        for (kind, count, mine) in kinds {
            let mut entry = required!(tl::types::ReactionCount; 0_i32, emoji(kind), count)?;
            entry.chosen_order = mine.then_some(1);
            results.push(entry.into());
        }
        let mut recent: Vec<enums::MessagePeerReaction> = Vec::new();
        for (who, text, date) in post.reactions.iter().rev().take(3) {
            let mut entry = required!(tl::types::MessagePeerReaction;
                0_i32, peer_user(*who), *date, emoji(text))?;
            entry.my = *who == viewer;
            recent.push(entry.into());
        }
        let mut out = required!(tl::types::MessageReactions; 0_i32, results)?;
        out.can_see_list = true;
        out.recent_reactions = Some(recent).filter(|list| !list.is_empty());
        Ok(out.into())
    }

    /// A chat in the list of chats. `None` if it has no message yet.
    pub fn render_dialog(&self, viewer: i64, peer: Peer) -> Rpc<Option<enums::Dialog>> {
        let mailbox = self.mailbox(Self::owner_of(viewer, peer))?;
        let Some(top) = mailbox.top(peer).map(|post| post.id) else {
            return Ok(None);
        };
        let read_in = match peer {
            Peer::Channel(id) => self.account(viewer)?.channel_read.get(&id).copied(),
            _ => mailbox.read_in.get(&peer).copied(),
        };
        let read_in = read_in.unwrap_or(0);
        let read_out = mailbox.read_out.get(&peer).copied().unwrap_or(0);
        let unread = mailbox.unread(peer, read_in, viewer);
        let mut dialog = required!(tl::types::Dialog;
            0_i32, Self::render_peer(peer), top, read_in, read_out, unread,
            0_i32, 0_i32, 0_i32, notify_settings()?)?;
        if let Peer::Channel(_) = peer {
            dialog.pts = Some(mailbox.pts);
        }
        Ok(Some(dialog.into()))
    }

    /// The stand-in for secret-chat traffic: enough to move qts.
    pub fn render_encrypted(qts: i32) -> enums::EncryptedMessage {
        tl::types::EncryptedMessageService {
            random_id: i64::from(qts),
            chat_id: 1,
            date: now(),
            bytes: Vec::new(),
        }
        .into()
    }
}
