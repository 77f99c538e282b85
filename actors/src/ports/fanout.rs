//! Delivery to sockets and to other hubs.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;

use crate::domain::{Event, StreamPosition};
use crate::ids::{ConversationId, PlatformId, Seq, UserId};

/// Unread messages by platform, zeros included, so that a badge goes out when the last one is read.
pub type UnreadCounts = BTreeMap<PlatformId, i64>;

/// Bytes ready to be written to any socket of one user.
#[derive(Clone, Debug)]
pub struct Frames {
    /// Whole frames, in order.
    pub bytes: Bytes,
    /// The last event in it; none when it holds only frames outside the stream.
    pub last: Option<Seq>,
}

/// Turns events into bytes for sockets. Called once per user and batch, however many sockets listen.
pub trait Encoder: Send + Sync + 'static {
    /// Event frames, in order. The events are of one user and consecutive.
    fn events(&self, epoch: &str, events: &[Event]) -> Bytes;

    /// The user's unread counters, outside the stream.
    fn unread_counts(&self, counts: &UnreadCounts) -> Bytes;

    /// Somebody is writing in a conversation, outside the stream.
    fn typing(&self, conversation_id: ConversationId, actor_id: &str, actor_name: Option<&str>) -> Bytes;
}

/// A socket, as a session sees it. The call never blocks: it hands the bytes over or says that the socket is gone.
pub trait SocketOutlet: Send + 'static {
    /// Hands frames over. False when the socket is gone or was closed because it does not keep up.
    fn push(&self, frames: Frames) -> bool;

    /// The answer to the socket's wish to listen: where its stream begins, and whether what it missed follows.
    fn opened(&self, position: StreamPosition, recovered: bool) -> bool;

    /// Bytes handed over and not yet taken by the socket.
    fn waiting_bytes(&self) -> usize;

    /// When its client last asked for something, or opened it.
    fn used_at(&self) -> Instant;

    /// Ends the socket.
    fn close(&self, reason: crate::session::CloseReason);
}

/// Word to the other hubs on the same database. Losing it costs time, never an event: sessions read the stream.
pub trait Bus: Send + Sync + 'static {
    /// The user's stream has grown to `last`.
    fn announce(&self, user_id: UserId, last: Seq);
}

/// A hub that is alone on its database.
pub struct NoBus;

impl Bus for NoBus {
    fn announce(&self, _user_id: UserId, _last: Seq) {}
}
