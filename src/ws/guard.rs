//! Ends a connection whose client announces a longer frame than it may send.
//!
//! The decoder of `actix-http` compares a frame's length with the limit only when the whole frame is in memory, so that a
//! client that announces 2^62 bytes could make the hub keep everything it sends. This stream reads the lengths as they pass
//! and lets nothing through behind one that is too large.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_util::Stream;

/// The longest header of a frame: two bytes, a length of eight, a mask of four (RFC 6455, section 5.2).
const LONGEST_HEADER: usize = 14;

/// The bytes of a client, up to the first frame that is too long; then [`PayloadError::Overflow`], then the end.
pub(super) struct Guarded<S> {
    stream: S,
    limit: u64,
    header: Vec<u8>,
    /// Bytes of the present frame's payload that are still to come.
    payload_left: u64,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Open,
    /// The error is still to be told.
    Exceeded,
    Ended,
}

impl<S> Guarded<S> {
    /// Guards a stream of frames; the limit is for the payload of one, in bytes.
    pub(super) fn new(stream: S, limit: usize) -> Self {
        Self {
            stream,
            limit: u64::try_from(limit).unwrap_or(u64::MAX),
            header: Vec::with_capacity(LONGEST_HEADER),
            payload_left: 0,
            state: State::Open,
        }
    }

    /// How many of these bytes may pass: all, or those before the end of the header that announces too much.
    fn admit(&mut self, bytes: &[u8]) -> usize {
        let mut position = 0;
        while position < bytes.len() {
            if self.payload_left > 0 {
                let here = self.payload_left.min((bytes.len() - position) as u64);
                self.payload_left -= here;
                position += usize::try_from(here).unwrap_or(usize::MAX);
                continue;
            }
            self.header.push(bytes[position]);
            if let Some(length) = announced(&self.header) {
                if length > self.limit {
                    self.state = State::Exceeded;
                    return position;
                }
                self.payload_left = length;
                self.header.clear();
            }
            position += 1;
        }
        bytes.len()
    }
}

/// The length of the payload, once the header is complete.
fn announced(header: &[u8]) -> Option<u64> {
    let second = *header.get(1)?;
    let (length_bytes, short) = match second & 0x7f {
        126 => (2, 0),
        127 => (8, 0),
        short => (0, u64::from(short)),
    };
    let mask_bytes = if second & 0x80 == 0 { 0 } else { 4 };
    if header.len() < 2 + length_bytes + mask_bytes {
        return None;
    }
    let long = header[2..2 + length_bytes].iter();
    Some(long.fold(short, |length, byte| length << 8 | u64::from(*byte)))
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for Guarded<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        match this.state {
            State::Open => {}
            State::Exceeded => {
                this.state = State::Ended;
                return Poll::Ready(Some(Err(PayloadError::Overflow)));
            }
            State::Ended => return Poll::Ready(None),
        }
        match Pin::new(&mut this.stream).poll_next(context) {
            Poll::Ready(Some(Ok(mut bytes))) => {
                let admitted = this.admit(&bytes);
                bytes.truncate(admitted);
                Poll::Ready(Some(Ok(bytes)))
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 70_000;

    fn frame(length: usize) -> Vec<u8> {
        let mut frame = vec![0x81];
        if length < 126 {
            frame.push(0x80 | u8::try_from(length).unwrap());
        } else if let Ok(length) = u16::try_from(length) {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        } else {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
        frame.extend([0; 4]);
        frame.resize(frame.len() + length, b'x');
        frame
    }

    /// What passes, and whether it ends with the error.
    fn pass(pieces: Vec<Vec<u8>>) -> (Vec<u8>, bool) {
        let pieces = pieces.into_iter().map(|piece| Ok(Bytes::from(piece)));
        let guarded = Guarded::new(futures_util::stream::iter(pieces), LIMIT);
        let items: Vec<_> = futures_util::FutureExt::now_or_never(guarded.collect()).unwrap();
        let is_refused = matches!(items.last(), Some(Err(PayloadError::Overflow)));
        (items.into_iter().flatten().flatten().collect(), is_refused)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn whole_frames_pass_however_they_are_cut(
            lengths in prop::collection::vec(prop_oneof![0..300_usize, 65_000..=LIMIT], 1..6),
            cut in 1..5_000_usize,
            too_long in prop::option::of(prop_oneof![70_001..80_000_u64, any::<u64>().prop_map(|length| length | 1 << 40)]),
        ) {
            let mut bytes: Vec<u8> = lengths.into_iter().flat_map(frame).collect();
            let good = bytes.len();
            if let Some(length) = too_long {
                bytes.extend([0x82, 0x80 | 127]);
                bytes.extend(length.to_be_bytes());
                bytes.resize(bytes.len() + 10_000, 0);
            }
            let (passed, is_refused) = pass(bytes.chunks(cut).map(<[u8]>::to_vec).collect());
            prop_assert_eq!(is_refused, too_long.is_some());
            prop_assert!(passed.len() < good + LONGEST_HEADER, "nothing of the payload passes");
            prop_assert!(bytes.starts_with(&passed) && passed.len() >= good);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2_000), cut in 1..50_usize) {
            let (passed, _) = pass(bytes.chunks(cut).map(<[u8]>::to_vec).collect());
            prop_assert!(bytes.starts_with(&passed));
        }
    }
}
