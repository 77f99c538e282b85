//! What happens to messages besides writing them: reading, reacting, pinning, typing.

use grammers_tl_types::{self as tl, enums};

use super::{Faces, Owner, What, World};
use crate::spec::Peer;
use crate::tl::{Refusal, Rpc, now, peer_user, required};

/// Encrypted-chat events kept per account.
const QTS_EVENTS: usize = 10_000;

impl World {
    /// `account` has read `peer` up to `max_id` (0 = everything). The other side learns of it.
    pub fn read_inbox(&mut self, account: i64, peer: Peer, max_id: i32, except: Option<u64>) -> Rpc<(i32, i32)> {
        let owner = Self::owner_of(account, peer);
        let mailbox = self.mailbox(owner)?;
        let top = mailbox.top(peer).map_or(0, |post| post.id);
        let max_id = if max_id == 0 { top } else { max_id.min(top) };
        let pts = mailbox.pts;
        let before = match peer {
            Peer::Channel(id) => self.account(account)?.channel_read.get(&id).copied(),
            _ => mailbox.read_in.get(&peer).copied(),
        };
        if max_id <= before.unwrap_or(0) {
            return Ok((pts, 0));
        }
        if let Peer::Channel(id) = peer {
            self.account_mut(account)?.channel_read.insert(id, max_id);
            self.push_channel_read(account, id, max_id, except)?;
            return Ok((pts, 0));
        }
        self.mailbox_mut(owner)?.read_in.insert(peer, max_id);
        let event = self.emit(owner, What::ReadIn { peer, max_id }, 1, false, except)?;
        self.tell_authors(account, peer, before.unwrap_or(0), max_id)?;
        Ok((event.pts, 1))
    }

    /// Those whose messages were just read see the second tick.
    fn tell_authors(&mut self, reader: i64, peer: Peer, after: i32, max_id: i32) -> Rpc<()> {
        let mailbox = self.mailbox(Owner::Account(reader))?;
        let read: Vec<_> = mailbox
            .ids(peer)
            .filter(|id| (after + 1..=max_id).contains(id))
            .filter_map(|id| mailbox.posts.get(&id))
            .filter_map(|post| Some((post.author.filter(|a| *a != reader)?, post.uid)))
            .collect();
        let mut told = std::collections::BTreeSet::new();
        for (author, uid) in read {
            let theirs = match peer {
                Peer::User(_) => Peer::User(reader),
                other => other,
            };
            if self.accounts.contains_key(&author)
                && let Some(id) = self.copy_in(uid, Owner::Account(author))
                && told.insert(author)
            {
                self.read_outbox(author, theirs, id)?;
            }
        }
        Ok(())
    }

    /// The other side has read what `account` wrote, up to `max_id` (0 = everything).
    pub fn read_outbox(&mut self, account: i64, peer: Peer, max_id: i32) -> Rpc<()> {
        let owner = Self::owner_of(account, peer);
        let mailbox = self.mailbox_mut(owner)?;
        let top = mailbox.top(peer).map_or(0, |post| post.id);
        let max_id = if max_id == 0 { top } else { max_id.min(top) };
        let mark = mailbox.read_out.entry(peer).or_default();
        if max_id <= *mark {
            return Ok(());
        }
        *mark = max_id;
        if let Peer::Channel(channel_id) = peer {
            for viewer in self.viewers(owner) {
                let update = tl::types::UpdateReadChannelOutbox { channel_id, max_id }.into();
                self.push(viewer, vec![update], Faces::channel(channel_id), None);
            }
            return Ok(());
        }
        self.emit(owner, What::ReadOut { peer, max_id }, 1, false, None)
            .map(drop)
    }

    /// A channel's read mark has no pts of its own: the reader's other devices are told at once.
    fn push_channel_read(&mut self, account: i64, channel_id: i64, max_id: i32, except: Option<u64>) -> Rpc<()> {
        let mailbox = &self.channel(channel_id)?.mailbox;
        let unread = mailbox.unread(Peer::Channel(channel_id), max_id, account);
        let update = required!(tl::types::UpdateReadChannelInbox;
            0_i32, channel_id, max_id, unread, mailbox.pts)?;
        self.push(account, vec![update.into()], Faces::channel(channel_id), except);
        Ok(())
    }

    /// Sets or takes back the reaction of `user` and tells everybody.
    pub fn react(&mut self, uid: u64, user: i64, emoji: Option<&str>, except: Option<u64>) -> Rpc<()> {
        for (owner, id) in self.copies.get(&uid).cloned().unwrap_or_default() {
            if let Some(post) = self.mailbox_mut(owner)?.posts.get_mut(&id) {
                post.reactions.retain(|(who, ..)| *who != user);
                if let Some(emoji) = emoji {
                    post.reactions.push((user, emoji.to_owned(), now()));
                }
            }
            for viewer in self.viewers(owner) {
                let (update, faces) = self.reactions_update(viewer, owner, id)?;
                self.push(viewer, vec![update], faces, except);
            }
        }
        Ok(())
    }

    /// `updateMessageReactions` as one account sees it.
    pub fn reactions_update(&self, viewer: i64, owner: Owner, id: i32) -> Rpc<(enums::Update, Faces)> {
        let post = self.mailbox(owner)?.posts.get(&id);
        let post = post.ok_or_else(|| Refusal::new(400, "MESSAGE_ID_INVALID"))?;
        let mut faces = Faces::default();
        faces.peer(post.peer);
        faces.users.extend(post.reactions.iter().map(|(who, ..)| *who));
        let reactions = Self::render_reactions(viewer, post)?;
        let update = required!(tl::types::UpdateMessageReactions;
            0_i32, Self::render_peer(post.peer), id, reactions)?;
        Ok((update.into(), faces))
    }

    /// Pins or unpins one message for everybody.
    pub fn pin(&mut self, uid: u64, pinned: bool, except: Option<u64>) -> Rpc<()> {
        for (owner, id) in self.copies.get(&uid).cloned().unwrap_or_default() {
            if let Some(post) = self.mailbox_mut(owner)?.posts.get_mut(&id) {
                post.pinned = pinned;
                let what = What::Pinned {
                    peer: post.peer,
                    ids: vec![id],
                    pinned,
                };
                self.emit(owner, what, 1, false, except)?;
            }
        }
        Ok(())
    }

    /// `user` does something (typing, recording ...) in a chat.
    pub fn typing(
        &mut self,
        account: i64,
        peer: Peer,
        user: i64,
        action: &enums::SendMessageAction,
        except: Option<u64>,
    ) -> Rpc<()> {
        let mut faces = Faces::default();
        faces.peer(peer);
        faces.users.insert(user);
        let (viewers, update): (Vec<i64>, enums::Update) = match peer {
            Peer::User(_) => {
                let update = required!(tl::types::UpdateUserTyping; 0_i32, user, *action)?;
                (vec![account], update.into())
            }
            Peer::Chat(chat_id) => {
                let chat = self.chats.get(&chat_id);
                let chat = chat.ok_or_else(|| Refusal::new(400, "CHAT_ID_INVALID"))?;
                let (from_id, action) = (peer_user(user), action.clone());
                let update = tl::types::UpdateChatUserTyping {
                    chat_id,
                    from_id,
                    action,
                };
                (chat.members.clone(), update.into())
            }
            Peer::Channel(id) => {
                let update = required!(tl::types::UpdateChannelUserTyping;
                    0_i32, id, peer_user(user), *action)?;
                (self.viewers(Owner::Channel(id)), update.into())
            }
        };
        for viewer in viewers.into_iter().filter(|viewer| *viewer != user) {
            self.push(viewer, vec![update.clone()], faces.clone(), except);
        }
        Ok(())
    }

    /// Stores an encrypted-chat event (which moves qts) and pushes it unless `lost`.
    pub fn push_qts(&mut self, account: i64, lost: bool) -> Rpc<i32> {
        let entry = self.account_mut(account)?;
        entry.qts = entry.qts.saturating_add(1);
        let qts = entry.qts;
        entry.qts_events.push(qts);
        if entry.qts_events.len() > QTS_EVENTS {
            entry.qts_events.remove(0);
        }
        if !lost {
            let message = Self::render_encrypted(qts);
            let update = tl::types::UpdateNewEncryptedMessage { message, qts };
            self.push(account, vec![update.into()], Faces::default(), None);
        }
        Ok(qts)
    }
}
