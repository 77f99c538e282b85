//! Sockets that note what they are told.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use hub_actors::ConversationId;
use hub_actors::domain::{Event, StreamPosition};
use hub_actors::ports::{Encoder, Frames, SocketOutlet, UnreadCounts};
use hub_actors::session::CloseReason;

/// Writes the numbers of the events, one byte string per batch, and a word for the counters and for typing.
pub struct Numbers;

impl Encoder for Numbers {
    fn events(&self, _epoch: &str, events: &[Event]) -> Bytes {
        events
            .iter()
            .map(|event| format!("{} ", event.seq))
            .collect::<String>()
            .into()
    }

    fn unread_counts(&self, _counts: &UnreadCounts) -> Bytes {
        Bytes::from_static(b"unread ")
    }

    fn typing(&self, _conversation_id: ConversationId, _actor_id: &str, _actor_name: Option<&str>) -> Bytes {
        Bytes::from_static(b"typing ")
    }
}

/// What a socket has been told.
#[derive(Default)]
pub struct Heard {
    pub opened: Option<(StreamPosition, bool)>,
    pub text: String,
    pub closed: Option<CloseReason>,
}

#[derive(Clone, Default)]
pub struct Ear(pub Arc<Mutex<Heard>>);

impl Ear {
    pub fn numbers(&self) -> Vec<i64> {
        self.0
            .lock()
            .unwrap()
            .text
            .split_whitespace()
            .filter(|word| !matches!(*word, "unread" | "typing"))
            .map(|number| number.parse().unwrap())
            .collect()
    }
}

impl SocketOutlet for Ear {
    fn push(&self, frames: Frames) -> bool {
        self.0
            .lock()
            .unwrap()
            .text
            .push_str(std::str::from_utf8(&frames.bytes).unwrap());
        true
    }

    fn opened(&self, position: StreamPosition, recovered: bool) -> bool {
        self.0.lock().unwrap().opened = Some((position, recovered));
        true
    }

    fn waiting_bytes(&self) -> usize {
        0
    }

    fn used_at(&self) -> Instant {
        hub_actors::clock::instant()
    }

    fn close(&self, reason: CloseReason) {
        self.0.lock().unwrap().closed = Some(reason);
    }
}
