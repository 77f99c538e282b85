//! What waits to be written to one socket, counted in bytes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use hub_actors::clock::instant;

use super::codes::CloseCode;

/// Pieces up to this size are joined into one, so that a burst leaves in few writes.
const JOINED: usize = 16 * 1024;
/// Longer pieces leave in parts: the connection copies what it is handed, and one that is never read would keep the copy.
const PART: usize = 64 * 1024;

/// The queue between the hub and one socket. Filled from any thread, emptied by the connection as fast as the client
/// reads.
pub(super) struct Wire {
    queue: Mutex<Queue>,
    waiting: AtomicUsize,
    waker: AtomicWaker,
    limit: usize,
    used_at: Mutex<Instant>,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    /// Whether a part of the first piece has left, so that the rest must follow.
    is_begun: bool,
    state: State,
}

#[derive(Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// What waits is written, then nothing more is taken.
    Closing,
    Closed,
}

impl Wire {
    /// A queue that takes at most `limit` bytes, or one piece more.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            queue: Mutex::default(),
            waiting: AtomicUsize::new(0),
            waker: AtomicWaker::new(),
            limit,
            used_at: Mutex::new(instant()),
        }
    }

    /// Hands over whole frames. False when the socket is closing; when they would not fit, it is closed as too slow and
    /// what waits, and is not yet partly on its way, is dropped: the client resumes from its position.
    pub(super) fn push(&self, frames: Bytes) -> bool {
        let mut queue = self.lock();
        if queue.state != State::Open {
            return false;
        }
        let length = frames.len();
        let waiting = self.waiting.load(Ordering::Relaxed);
        // Slow is who has not taken what is here already. A piece that is larger than the limit must still get through,
        // or its client would come back for it for ever.
        if waiting > self.limit / 4 && waiting + length > self.limit {
            self.end(&mut queue, CloseCode::Slow, true);
            return false;
        }
        self.waiting.fetch_add(length, Ordering::Relaxed);
        queue.frames.push_back(frames);
        drop(queue);
        self.waker.wake();
        true
    }

    /// Ends the socket: what waits is still written, then the close frame. False when it was ending already.
    pub(super) fn close(&self, code: CloseCode) -> bool {
        let mut queue = self.lock();
        let is_open = queue.state == State::Open;
        if is_open {
            self.end(&mut queue, code, false);
        }
        is_open
    }

    fn end(&self, queue: &mut Queue, code: CloseCode, drops_waiting: bool) {
        if drops_waiting {
            queue.frames.truncate(usize::from(queue.is_begun));
            let rest = queue.frames.iter().map(Bytes::len).sum();
            self.waiting.store(rest, Ordering::Relaxed);
        }
        let frame = close_frame(code);
        self.waiting.fetch_add(frame.len(), Ordering::Relaxed);
        queue.frames.push_back(frame);
        queue.state = State::Closing;
        self.waker.wake();
    }

    /// False once it is closing: nothing more is taken.
    pub(super) fn is_open(&self) -> bool {
        self.lock().state == State::Open
    }

    /// Its client has asked for something.
    pub(super) fn use_now(&self) {
        *self.used_at.lock().unwrap_or_else(PoisonError::into_inner) = instant();
    }

    /// When its client last asked for something, or opened it.
    pub(super) fn used_at(&self) -> Instant {
        *self.used_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection is gone.
    pub(super) fn gone(&self) {
        let mut queue = self.lock();
        queue.state = State::Closed;
        queue.frames = VecDeque::new();
        self.waiting.store(0, Ordering::Relaxed);
    }

    /// Bytes handed over and not yet taken by the connection.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The next piece for the connection; none when the socket has been closed and all is written.
    pub(super) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.waker.register(context.waker());
        let mut queue = self.lock();
        let Some(mut first) = queue.frames.pop_front() else {
            return if queue.state == State::Open {
                Poll::Pending
            } else {
                Poll::Ready(None)
            };
        };
        queue.is_begun = first.len() > PART;
        let piece = if queue.is_begun {
            let part = first.split_to(PART);
            queue.frames.push_front(first);
            part
        } else {
            join(first, &mut queue.frames)
        };
        self.waiting.fetch_sub(piece.len(), Ordering::Relaxed);
        Poll::Ready(Some(piece))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn join(first: Bytes, rest: &mut VecDeque<Bytes>) -> Bytes {
    let mut length = first.len();
    let mut count = 0;
    while let Some(next) = rest.get(count).filter(|next| length + next.len() <= JOINED) {
        length += next.len();
        count += 1;
    }
    if count == 0 {
        return first;
    }
    let mut joined = BytesMut::with_capacity(length);
    joined.put(first);
    for next in rest.drain(..count) {
        joined.put(next);
    }
    if rest.is_empty() {
        // A burst must not leave its memory behind in every idle socket.
        *rest = VecDeque::new();
    }
    joined.freeze()
}

/// RFC 6455, section 5.5.1: an unmasked close frame with a number and a few words, short enough for a one-byte length.
fn close_frame(code: CloseCode) -> Bytes {
    let (number, words) = code.parts();
    let length = u8::try_from(2 + words.len()).unwrap_or(2);
    let mut frame = BytesMut::with_capacity(4 + words.len());
    frame.put_slice(&[0x88, length]);
    frame.put_u16(number);
    frame.put_slice(&words.as_bytes()[..usize::from(length) - 2]);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker;

    use super::*;

    fn next(wire: &Wire) -> Poll<Option<Bytes>> {
        wire.poll_next(&mut Context::from_waker(&noop_waker()))
    }

    #[test]
    fn small_pieces_leave_together_and_are_counted() {
        let wire = Wire::new(1_000);
        assert!(next(&wire).is_pending());
        assert!(wire.push(Bytes::from_static(b"one")) && wire.push(Bytes::from_static(b"two")));
        assert_eq!(wire.waiting_bytes(), 6);
        assert_eq!(next(&wire), Poll::Ready(Some(Bytes::from_static(b"onetwo"))));
        assert_eq!(wire.waiting_bytes(), 0);
    }

    #[test]
    fn a_socket_that_does_not_read_is_closed_as_slow() {
        let wire = Wire::new(10);
        assert!(wire.push(Bytes::from_static(b"12345678")));
        assert!(!wire.push(Bytes::from_static(b"90ab")));
        assert!(!wire.push(Bytes::new()), "nothing is taken any more");
        let Poll::Ready(Some(close)) = next(&wire) else {
            panic!("the close frame waits")
        };
        assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 4002));
        assert_eq!(next(&wire), Poll::Ready(None));
    }

    #[test]
    fn a_long_piece_leaves_in_parts_and_is_not_broken_off() {
        let long = Bytes::from(vec![b'x'; 2 * PART + 5]);
        let wire = Wire::new(3 * PART);
        wire.push(long.clone());
        let mut taken = Vec::new();
        let Poll::Ready(Some(part)) = next(&wire) else {
            panic!("a part is ready")
        };
        assert_eq!((part.len(), wire.waiting_bytes()), (PART, PART + 5));
        taken.extend(part);
        assert!(wire.push(Bytes::from_static(b"lost")));
        assert!(!wire.push(long.clone()), "too much waits");
        while let Poll::Ready(Some(part)) = next(&wire) {
            taken.extend(part);
        }
        let (begun, close) = taken.split_at(long.len());
        assert_eq!(begun, long);
        assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 4002));
        assert_eq!(wire.waiting_bytes(), 0);
    }

    #[test]
    fn what_waits_is_written_before_a_close() {
        let wire = Wire::new(1_000);
        wire.push(Bytes::from_static(b"last words"));
        wire.close(CloseCode::Shutdown);
        let Poll::Ready(Some(bytes)) = next(&wire) else {
            panic!("both wait")
        };
        assert!(bytes.starts_with(b"last words\x88"));
        assert_eq!(next(&wire), Poll::Ready(None));
    }
}
