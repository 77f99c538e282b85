//! Live connections and what is pushed to them.

use grammers_tl_types::{self as tl, Serializable as _, enums};
use tokio::sync::mpsc;

use super::{Event, Faces, Owner, Post, What, World};
use crate::spec::Peer;
use crate::tl::{Rpc, now, required};

/// Something for the writer of one connection.
#[derive(Debug)]
pub(crate) enum Out {
    /// From now on, answer in this session.
    Session { session: i64, salt: i64 },
    /// The result of call `request`; `pack` = may be gzipped.
    Answer { request: i64, body: Vec<u8>, pack: bool },
    /// A TL object; `answer` = it answers a call (message ids tell the two apart).
    Object { body: Vec<u8>, content: bool, answer: bool },
    /// A bare transport error.
    TransportError(i32),
    /// A frame in a session the client does not have.
    WrongSession,
    /// Flush and close.
    Close,
}

impl Out {
    pub fn push(body: Vec<u8>) -> Self {
        Self::Object {
            body,
            content: true,
            answer: false,
        }
    }
}

/// One live connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub dc: i32,
    pub key: u32,
    pub tx: mpsc::Sender<Out>,
    /// Cancels the connection's tasks.
    pub stop: tokio::task::AbortHandle,
    /// Asked for no updates (`invokeWithoutUpdates`).
    pub silent: bool,
}

impl World {
    /// Connections on which `account` is logged in.
    fn listeners(&self, account: i64, except: Option<u64>) -> Vec<u64> {
        let listens = |conn: &Conn| {
            !conn.silent
                && self
                    .slots
                    .get(&(conn.dc, conn.key))
                    .is_some_and(|slot| slot.user == Some(account) && slot.dead.is_none() && slot.home)
        };
        self.conns
            .iter()
            .filter(|(id, conn)| Some(**id) != except && listens(conn))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Queues something for one connection. A full queue means a client that does not read: it is cut.
    pub fn send(&mut self, conn: u64, out: Out) {
        let Some(entry) = self.conns.get(&conn) else { return };
        if entry.tx.try_send(out).is_err() {
            tracing::warn!(conn, "client does not read, closing the connection");
            entry.stop.abort();
            self.close(conn);
        }
    }

    /// Forgets a connection that ended.
    pub fn close(&mut self, conn: u64) {
        if let Some(entry) = self.conns.remove(&conn)
            && let Some(slot) = self.slots.get_mut(&(entry.dc, entry.key))
        {
            slot.connections = slot.connections.saturating_sub(1);
        }
    }

    /// Pushes updates to every device of `viewer`.
    pub fn push(&mut self, viewer: i64, updates: Vec<enums::Update>, faces: Faces, except: Option<u64>) {
        let seq = self.next_seq(viewer);
        let listeners = self.listeners(viewer, except);
        if listeners.is_empty() {
            return;
        }
        match self.wrap(viewer, updates, &faces, seq) {
            Ok(updates) => {
                let body = updates.to_bytes();
                for conn in listeners {
                    self.send(conn, Out::push(body.clone()));
                }
            }
            Err(error) => tracing::error!(%error, "cannot build a push"),
        }
    }

    fn next_seq(&mut self, viewer: i64) -> i32 {
        match self.accounts.get_mut(&viewer) {
            Some(account) if self.config.seq_pushes => {
                account.seq += 1;
                account.seq
            }
            _ => 0,
        }
    }

    /// Updates with the people and chats they mention.
    pub fn wrap(&self, viewer: i64, updates: Vec<enums::Update>, faces: &Faces, seq: i32) -> Rpc<enums::Updates> {
        let (users, chats) = self.render_faces(viewer, faces)?;
        Ok(tl::types::Updates {
            updates,
            users,
            chats,
            date: now(),
            seq,
        }
        .into())
    }

    /// Pushes one event to everybody who sees it.
    pub fn push_event(&mut self, owner: Owner, event: &Event, except: Option<u64>) {
        for viewer in self.viewers(owner) {
            if !self.config.seq_pushes && self.listeners(viewer, except).is_empty() {
                continue;
            }
            if let Some(short) = self.short_message(viewer, owner, event) {
                for conn in self.listeners(viewer, except) {
                    self.send(conn, Out::push(short.clone()));
                }
                continue;
            }
            let mut faces = Faces::default();
            match self.render_update(viewer, owner, event, &mut faces) {
                Ok(Some(update)) => self.push(viewer, vec![update], faces, except),
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "cannot render an update"),
            }
        }
    }

    fn short_message(&self, viewer: i64, owner: Owner, event: &Event) -> Option<Vec<u8>> {
        let What::New(id) = event.what else { return None };
        if !self.config.short_pushes || owner != Owner::Account(viewer) {
            return None;
        }
        let post = self.mailbox(owner).ok()?.posts.get(&id)?;
        let Peer::User(user) = post.peer else { return None };
        let plain = post.file.is_none()
            && post.service.is_none()
            && post.reply_to.is_none()
            && post.forward.is_none()
            && post.entities.is_empty();
        if !plain {
            return None;
        }
        let mut short = required!(tl::types::UpdateShortMessage;
            0_i32, id, user, post.text, event.pts, event.count, post.date)
        .ok()?;
        short.out = post.out;
        Some(enums::Updates::from(short).to_bytes())
    }

    /// One event as an update. `None` if there is nothing to see any more.
    pub fn render_update(
        &self,
        viewer: i64,
        owner: Owner,
        event: &Event,
        faces: &mut Faces,
    ) -> Rpc<Option<enums::Update>> {
        let Event { pts, count, what } = event;
        let (pts, pts_count) = (*pts, *count);
        let mailbox = self.mailbox(owner)?;
        let channel = match owner {
            Owner::Channel(id) => {
                faces.chats.insert(Peer::Channel(id));
                Some(id)
            }
            Owner::Account(_) => None,
        };
        Ok(Some(match what {
            What::New(id) | What::Edited(id) => {
                let Some(post) = mailbox.posts.get(id) else {
                    return Ok(None);
                };
                let message = self.render_message(viewer, owner, post, faces)?;
                match (what, channel.is_some()) {
                    (What::New(_), false) => tl::types::UpdateNewMessage {
                        message,
                        pts,
                        pts_count,
                    }
                    .into(),
                    (What::New(_), true) => tl::types::UpdateNewChannelMessage {
                        message,
                        pts,
                        pts_count,
                    }
                    .into(),
                    (_, false) => tl::types::UpdateEditMessage {
                        message,
                        pts,
                        pts_count,
                    }
                    .into(),
                    (_, true) => tl::types::UpdateEditChannelMessage {
                        message,
                        pts,
                        pts_count,
                    }
                    .into(),
                }
            }
            What::Deleted(ids) => match channel {
                // Private chats and basic groups: ids only, no chat.
                None => tl::types::UpdateDeleteMessages {
                    messages: ids.clone(),
                    pts,
                    pts_count,
                }
                .into(),
                Some(channel_id) => tl::types::UpdateDeleteChannelMessages {
                    channel_id,
                    messages: ids.clone(),
                    pts,
                    pts_count,
                }
                .into(),
            },
            What::ReadIn { peer, max_id } => {
                faces.peer(*peer);
                let unread = mailbox.unread(*peer, *max_id, viewer);
                required!(tl::types::UpdateReadHistoryInbox;
                    0_i32, Self::render_peer(*peer), *max_id, unread, pts, pts_count)?
                .into()
            }
            What::ReadOut { peer, max_id } => {
                faces.peer(*peer);
                let (peer, max_id) = (Self::render_peer(*peer), *max_id);
                tl::types::UpdateReadHistoryOutbox {
                    peer,
                    max_id,
                    pts,
                    pts_count,
                }
                .into()
            }
            What::Pinned { peer, ids, pinned } => match channel {
                None => {
                    faces.peer(*peer);
                    let mut update = required!(tl::types::UpdatePinnedMessages;
                        0_i32, Self::render_peer(*peer), *ids, pts, pts_count)?;
                    update.pinned = *pinned;
                    update.into()
                }
                Some(channel) => {
                    let mut update = required!(tl::types::UpdatePinnedChannelMessages;
                        0_i32, channel, *ids, pts, pts_count)?;
                    update.pinned = *pinned;
                    update.into()
                }
            },
        }))
    }

    /// Messages with everybody they mention.
    pub fn render_posts<'a>(
        &self,
        viewer: i64,
        owner: Owner,
        posts: impl IntoIterator<Item = &'a Post>,
        faces: &mut Faces,
    ) -> Rpc<Vec<enums::Message>> {
        posts
            .into_iter()
            .map(|post| self.render_message(viewer, owner, post, faces))
            .collect()
    }
}
