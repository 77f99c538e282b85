//! The sockets of one session and how far each has come in the stream.

use std::collections::BTreeMap;

use super::PAGE_PRESSURE;
use super::SocketNumber;
use super::close::CloseReason;
use super::tail::Tail;
use crate::domain::Event;
use crate::ids::{Seq, SessionId};
use crate::ports::{Frames, SocketOutlet};

/// A socket and the last event it was handed.
pub(super) struct Socket {
    session_id: SessionId,
    outlet: Box<dyn SocketOutlet>,
    cursor: Seq,
    is_live: bool,
    /// It missed something and gets it from storage.
    was_away: bool,
}

/// What has to happen next for a socket that is not at the tail.
pub(super) enum Progress {
    /// It is gone.
    Gone,
    /// It is at the tail and follows live; perhaps it was away before.
    Live { was_away: bool },
    /// It has not taken what it was given yet.
    Pressed,
    /// The rest is in memory.
    InMemory(Vec<Event>),
    /// The next page, after this number, is in storage.
    InStorage(Seq),
}

impl Socket {
    pub(super) fn new(session_id: SessionId, outlet: Box<dyn SocketOutlet>, cursor: Seq) -> Self {
        Self {
            session_id,
            outlet,
            cursor,
            is_live: false,
            was_away: false,
        }
    }
}

/// All sockets of a session, oldest first.
#[derive(Default)]
pub(super) struct Sockets {
    sockets: BTreeMap<SocketNumber, Socket>,
    next: SocketNumber,
}

impl Sockets {
    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    pub(super) fn add(&mut self, socket: Socket) -> SocketNumber {
        self.next += 1;
        self.sockets.insert(self.next, socket);
        self.next
    }

    pub(super) fn remove(&mut self, number: SocketNumber) {
        self.sockets.remove(&number);
    }

    /// Ends the sockets that were unused for longest until there is room for one more: of a person's many tabs the one in
    /// use stays.
    pub(super) fn make_room(&mut self, limit: usize) {
        while self.sockets.len() >= limit.max(1) {
            let unused = self.sockets.iter().min_by_key(|(_, socket)| socket.outlet.used_at());
            let Some(number) = unused.map(|(number, _)| *number) else {
                return;
            };
            self.close(number, CloseReason::TooMany);
        }
    }

    /// Hands the newest batch to every socket that stands right before it. The others fetch it on their way.
    pub(super) fn push_next(&mut self, previous: Seq, frames: &Frames) {
        self.sockets.retain(|_, socket| {
            if !socket.is_live || socket.cursor != previous {
                return true;
            }
            socket.cursor = frames.last.unwrap_or(socket.cursor);
            socket.outlet.push(frames.clone())
        });
    }

    /// Hands frames outside the stream to every socket at the tail.
    pub(super) fn push_to_live(&mut self, frames: &Frames) {
        self.sockets
            .retain(|_, socket| !socket.is_live || socket.outlet.push(frames.clone()));
    }

    /// Hands a part of the stream to one socket.
    pub(super) fn push(&mut self, number: SocketNumber, frames: Frames) {
        if let Some(socket) = self.sockets.get_mut(&number) {
            socket.cursor = frames.last.unwrap_or(socket.cursor);
            if !socket.outlet.push(frames) {
                self.sockets.remove(&number);
            }
        }
    }

    /// What the socket needs next. At the tail it becomes live.
    pub(super) fn progress(&mut self, number: SocketNumber, tail: &Tail) -> Progress {
        let Some(socket) = self.sockets.get_mut(&number) else {
            return Progress::Gone;
        };
        if socket.cursor >= tail.last() {
            socket.is_live = true;
            return Progress::Live {
                was_away: std::mem::take(&mut socket.was_away),
            };
        }
        if socket.outlet.waiting_bytes() > PAGE_PRESSURE {
            return Progress::Pressed;
        }
        match tail.after(socket.cursor) {
            Some(events) => {
                socket.is_live = true;
                Progress::InMemory(events)
            }
            None => {
                socket.was_away = true;
                Progress::InStorage(socket.cursor)
            }
        }
    }

    pub(super) fn close(&mut self, number: SocketNumber, reason: CloseReason) {
        if let Some(socket) = self.sockets.remove(&number) {
            socket.outlet.close(reason);
        }
    }

    pub(super) fn close_session(&mut self, session_id: SessionId) {
        self.sockets.retain(|_, socket| {
            let stays = socket.session_id != session_id;
            if !stays {
                socket.outlet.close(CloseReason::SessionEnded);
            }
            stays
        });
    }

    pub(super) fn close_all(&mut self, reason: CloseReason) {
        for (_, socket) in std::mem::take(&mut self.sockets) {
            socket.outlet.close(reason);
        }
    }
}
