//! The newest part of a user's stream, in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::domain::Event;
use crate::ids::Seq;
use crate::ports::StreamState;

/// Events kept in memory, so that a socket that was away for a moment resumes without the database.
const KEPT: usize = 256;

/// What an offered batch is to the tail.
pub(super) enum Offer {
    /// It begins right behind the tail: these are new.
    Next(Arc<[Event]>),
    /// All of it is known.
    Known,
    /// Something before it is missing.
    Hole,
}

/// The newest part of a user's stream. Its numbers have no hole.
#[derive(Default)]
pub(super) struct Tail {
    state: StreamState,
    previous: Seq,
    batches: VecDeque<Arc<[Event]>>,
    kept: usize,
}

impl Tail {
    pub(super) fn begin(&mut self, state: StreamState) {
        self.state = state;
        self.previous = state.last;
    }

    /// The last number known.
    pub(super) fn last(&self) -> Seq {
        self.state.last
    }

    /// The last number before the newest batch.
    pub(super) fn previous(&self) -> Seq {
        self.previous
    }

    /// True when every event after `seq` can still be read, from memory or from storage.
    pub(super) fn covers(&self, seq: Seq) -> bool {
        self.state.covers(seq)
    }

    pub(super) fn offer(&mut self, events: Arc<[Event]>) -> Offer {
        let (Some(first), Some(last)) = (
            events.first().map(|event| event.seq),
            events.last().map(|event| event.seq),
        ) else {
            return Offer::Known;
        };
        if last <= self.state.last {
            return Offer::Known;
        }
        if first > self.state.last.next() {
            return Offer::Hole;
        }
        let known = events.iter().take_while(|event| event.seq <= self.state.last).count();
        let new: Arc<[Event]> = if known == 0 {
            events
        } else {
            events[known..].to_vec().into()
        };
        self.previous = self.state.last;
        self.state.last = last;
        self.kept += new.len();
        self.batches.push_back(Arc::clone(&new));
        while self.kept > KEPT
            && let Some(oldest) = self.batches.pop_front()
        {
            self.kept -= oldest.len();
        }
        Offer::Next(new)
    }

    /// Every event after `seq`, when memory has them all.
    pub(super) fn after(&self, seq: Seq) -> Option<Vec<Event>> {
        let first = self
            .batches
            .front()
            .and_then(|batch| batch.first())
            .map(|event| event.seq)?;
        if first > seq.next() {
            return None;
        }
        Some(
            self.batches
                .iter()
                .flat_map(|batch| batch.iter())
                .filter(|event| event.seq > seq)
                .cloned()
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::domain::EventKind;
    use crate::ids::{ConversationId, MessageId, UserId};

    fn events(numbers: std::ops::RangeInclusive<i64>) -> Arc<[Event]> {
        let at = OffsetDateTime::UNIX_EPOCH;
        let (user_id, conversation_id) = (UserId::generate(at), ConversationId::generate(at));
        let kind = EventKind::MessageDeleted {
            conversation_id,
            message_id: MessageId::generate(at),
            deleted_at: Some(at),
        };
        numbers
            .map(|number| Event {
                user_id,
                seq: Seq(number),
                kind: kind.clone(),
                at,
            })
            .collect()
    }

    fn numbers(events: &[Event]) -> Vec<i64> {
        events.iter().map(|event| event.seq.0).collect()
    }

    #[test]
    fn batches_are_merged_by_number() {
        let mut tail = Tail::default();
        tail.begin(StreamState {
            last: Seq(4),
            trimmed: Seq(0),
        });
        assert!(matches!(tail.offer(events(2..=4)), Offer::Known));
        assert!(matches!(tail.offer(events(6..=7)), Offer::Hole));
        match tail.offer(events(3..=6)) {
            Offer::Next(new) => assert_eq!(numbers(&new), [5, 6]),
            _ => panic!("5 and 6 are new"),
        }
        assert_eq!((tail.previous(), tail.last()), (Seq(4), Seq(6)));
        assert_eq!(tail.after(Seq(4)).map(|events| numbers(&events)), Some(vec![5, 6]));
        assert_eq!(tail.after(Seq(5)).map(|events| numbers(&events)), Some(vec![6]));
        assert_eq!(tail.after(Seq(3)), None, "4 is only in storage");
    }

    #[test]
    fn memory_is_bounded() {
        let mut tail = Tail::default();
        for number in 1..=2_000 {
            tail.offer(events(number..=number));
        }
        assert_eq!(tail.kept, KEPT);
        let kept = i64::try_from(KEPT).unwrap();
        assert!(tail.after(Seq(2_000 - kept)).is_some());
        assert!(tail.after(Seq(1_999 - kept)).is_none());
    }
}
