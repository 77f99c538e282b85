//! The lanes: one queue per conversation, and when each may go on.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::OutboxEntry;
use crate::ids::{AccountId, ConversationId, MessageId, OutboxId, Seq};

/// Longest wait that is believed of an entry that was read: more than any pause that a platform may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(2 * 3_600);

/// An entry, and its moments on a clock that does not jump: the wall clock counts only while the entry is not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) entry: OutboxEntry,
    /// The earliest moment of its next try.
    pub(super) due: Instant,
    /// From here on a try that may be made again is the last.
    pub(super) too_old: Instant,
}

impl Waiting {
    /// An entry that was just committed, or read, when the clocks showed this.
    pub(super) fn new(entry: OutboxEntry, give_up_after: Duration, wall: OffsetDateTime, now: Instant) -> Self {
        let wait = Duration::try_from(entry.due_at - wall).unwrap_or_default();
        // The first try waits for nobody, whatever the clock did since the commit.
        let wait = if entry.attempts == 0 {
            Duration::ZERO
        } else {
            wait.min(LONGEST_WAIT)
        };
        let age = Duration::try_from(wall - entry.created_at).unwrap_or_default();
        Self {
            due: now + wait,
            too_old: now + give_up_after.saturating_sub(age),
            entry,
        }
    }
}

struct Lane {
    account_id: AccountId,
    /// By the order in which they were accepted.
    entries: BTreeMap<(Seq, OutboxId), Waiting>,
    is_busy: bool,
    sleeps_until: Option<Instant>,
}

/// All lanes. Their number is bounded by the entries, and those by the bound at which sends are refused.
#[derive(Default)]
pub(super) struct Lanes {
    lanes: HashMap<ConversationId, Lane>,
    sleeping: BTreeSet<(Instant, ConversationId)>,
    /// Lanes that have something to do and neither sleep nor have a try under way.
    idle: BTreeMap<AccountId, BTreeSet<ConversationId>>,
    /// Whose lanes were started last: the accounts after it come first then.
    turn: Option<AccountId>,
    /// Every entry that is here.
    ids: HashSet<OutboxId>,
}

impl Lanes {
    /// Entries in all lanes.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// True while the message has not left its lane.
    pub(super) fn holds(&self, id: ConversationId, message_id: MessageId) -> bool {
        self.lanes.get(&id).is_some_and(|lane| {
            lane.entries
                .values()
                .any(|waiting| waiting.entry.message_id == Some(message_id))
        })
    }

    /// True while the entry has not left its lane.
    pub(super) fn has(&self, id: OutboxId) -> bool {
        self.ids.contains(&id)
    }

    /// Adds an entry. One that is here already is replaced only by a retry, which has the same id and order and another
    /// `due_at` than the try that it follows.
    pub(super) fn insert(&mut self, waiting: Waiting) {
        let entry = &waiting.entry;
        let (id, account_id) = (entry.conversation_id, entry.account_id);
        let key = (entry.order, entry.id);
        let lane = self.lanes.entry(id).or_insert_with(|| Lane {
            account_id,
            entries: BTreeMap::new(),
            is_busy: false,
            sleeps_until: None,
        });
        let known = lane.entries.get(&key);
        if known.is_some_and(|known| known.entry.due_at == entry.due_at) {
            return;
        }
        self.ids.insert(entry.id);
        lane.entries.insert(key, waiting);
        if !lane.is_busy && lane.sleeps_until.is_none() {
            self.set_idle(account_id, id);
        }
    }

    /// The entry whose turn it is; none while a try is under way or the lane sleeps.
    pub(super) fn next(&self, id: ConversationId) -> Option<&Waiting> {
        let lane = self
            .lanes
            .get(&id)
            .filter(|lane| !lane.is_busy && lane.sleeps_until.is_none())?;
        lane.entries.values().next()
    }

    pub(super) fn set_busy(&mut self, id: ConversationId) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.is_busy = true;
            let account = lane.account_id;
            self.unset_idle(account, id);
        }
    }

    pub(super) fn sleep(&mut self, id: ConversationId, until: Instant) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.sleeps_until = Some(until);
            let account = lane.account_id;
            self.unset_idle(account, id);
            self.sleeping.insert((until, id));
        }
    }

    /// A try has ended: the entry is done, or comes again at that time. False when a retry has taken its place meanwhile.
    pub(super) fn settle(&mut self, entry: &OutboxEntry, again_at: Option<Instant>) -> bool {
        let id = entry.conversation_id;
        let Some(lane) = self.lanes.get_mut(&id) else {
            return false;
        };
        lane.is_busy = false;
        let key = (entry.order, entry.id);
        let stored = lane
            .entries
            .get_mut(&key)
            .filter(|stored| stored.entry.due_at == entry.due_at);
        let is_same = stored.is_some();
        match (stored, again_at) {
            (Some(stored), Some(due)) => {
                stored.due = due;
                stored.entry.attempts = entry.attempts;
            }
            (Some(_), None) => {
                lane.entries.remove(&key);
                self.ids.remove(&entry.id);
            }
            (None, _) => {}
        }
        let account = lane.account_id;
        if lane.entries.is_empty() {
            self.lanes.remove(&id);
            self.unset_idle(account, id);
        } else {
            self.set_idle(account, id);
        }
        is_same
    }

    /// Lanes that could start now, at most `limit`, and of each account at most as many as it has `room` for. The accounts
    /// take turns.
    pub(super) fn ready(&mut self, limit: usize, room: impl Fn(AccountId) -> usize) -> Vec<ConversationId> {
        let mut ready = Vec::new();
        let turn = self.turn.unwrap_or(AccountId(Uuid::nil()));
        let later = self.idle.range((Bound::Excluded(turn), Bound::Unbounded));
        for (account, lanes) in later.chain(self.idle.range(..=turn)) {
            let places = room(*account).min(limit - ready.len());
            if places > 0 {
                ready.extend(lanes.iter().take(places));
                self.turn = Some(*account);
            }
        }
        ready
    }

    fn set_idle(&mut self, account: AccountId, id: ConversationId) {
        self.idle.entry(account).or_default().insert(id);
    }

    fn unset_idle(&mut self, account: AccountId, id: ConversationId) {
        if let Some(lanes) = self.idle.get_mut(&account) {
            lanes.remove(&id);
            if lanes.is_empty() {
                self.idle.remove(&account);
            }
        }
    }

    /// Wakes the lanes whose time has come.
    pub(super) fn due(&mut self, now: Instant) -> Vec<ConversationId> {
        let mut due = Vec::new();
        while let Some((until, id)) = self.sleeping.first().copied().filter(|(until, _)| *until <= now) {
            self.sleeping.remove(&(until, id));
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.sleeps_until = None;
                let account = lane.account_id;
                self.set_idle(account, id);
                due.push(id);
            }
        }
        due
    }

    /// Wakes the lanes of an account that sleep longer than their own entry asks.
    pub(super) fn wake(&mut self, account_id: AccountId, now: Instant) {
        let is_held = |id: &ConversationId| {
            let first = self.lanes.get(id).and_then(|lane| lane.entries.values().next());
            first.is_some_and(|waiting| waiting.entry.account_id == account_id && waiting.due <= now)
        };
        let held: Vec<_> = self.sleeping.iter().filter(|(_, id)| is_held(id)).copied().collect();
        for (until, id) in held {
            self.sleeping.remove(&(until, id));
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.sleeps_until = None;
                self.set_idle(account_id, id);
            }
        }
    }

    /// When the next lane wakes.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.sleeping.first().map(|(until, _)| *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::domain::{OutboundAction, OutboxState};
    use crate::ids::{ExternalId, UserId};

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn entry(conversation_id: ConversationId, order: i64) -> OutboxEntry {
        OutboxEntry {
            id: OutboxId::generate(START),
            user_id: UserId::generate(START),
            account_id: AccountId::generate(START),
            conversation_id,
            conversation_external_id: ExternalId::from("chat"),
            message_id: None,
            action: OutboundAction::Delete {
                message: ExternalId::from("m"),
            },
            state: OutboxState::Queued,
            attempts: 0,
            due_at: START,
            order: Seq(order),
            created_at: START,
        }
    }

    fn waiting(entry: &OutboxEntry) -> Waiting {
        Waiting::new(entry.clone(), Duration::from_secs(3_600), START, clock::instant())
    }

    #[test]
    fn a_lane_keeps_the_order_of_acceptance_over_retries() {
        let id = ConversationId::generate(START);
        let mut lanes = Lanes::default();
        let (first, second) = (entry(id, 1), entry(id, 2));
        lanes.insert(waiting(&second));
        lanes.insert(waiting(&first));
        assert_eq!(lanes.next(id).map(|next| next.entry.id), Some(first.id));
        lanes.set_busy(id);
        assert_eq!(lanes.next(id), None, "one at a time");
        lanes.settle(&first, Some(clock::instant() + Duration::from_secs(1)));
        assert_eq!(
            lanes.next(id).map(|next| next.entry.id),
            Some(first.id),
            "the second waits behind the first"
        );
        lanes.settle(&first, None);
        assert_eq!(lanes.next(id).map(|next| next.entry.id), Some(second.id));
        lanes.settle(&second, None);
        assert_eq!((lanes.len(), lanes.lanes.len()), (0, 0));
    }

    #[test]
    fn a_retry_that_comes_before_the_end_of_the_failed_try_stays() {
        let id = ConversationId::generate(START);
        let mut lanes = Lanes::default();
        let failed = entry(id, 1);
        lanes.insert(waiting(&failed));
        lanes.set_busy(id);
        lanes.insert(waiting(&failed));
        let retry = OutboxEntry {
            // The clock may have been set back meanwhile.
            due_at: START - time::Duration::HOUR,
            ..failed.clone()
        };
        lanes.insert(waiting(&retry));
        assert!(!lanes.settle(&failed, None), "the failed try does not end the retry");
        assert_eq!(lanes.next(id).map(|next| &next.entry), Some(&retry));
        assert!(lanes.settle(&retry, None));
        assert_eq!(lanes.len(), 0);
    }

    #[test]
    fn a_sleeping_lane_wakes_at_its_time_and_holds_up_no_other() {
        let (stuck, other) = (ConversationId::generate(START), ConversationId::generate(START));
        let mut lanes = Lanes::default();
        let (now, second) = (clock::instant(), Duration::from_secs(1));
        lanes.insert(waiting(&entry(stuck, 1)));
        lanes.insert(waiting(&entry(other, 2)));
        lanes.sleep(stuck, now + second);
        assert_eq!(lanes.next(stuck), None);
        assert!(lanes.next(other).is_some());
        assert_eq!(lanes.due(now), []);
        assert_eq!(lanes.due(now + second), [stuck]);
        assert!(lanes.next(stuck).is_some());
    }

    #[test]
    fn accounts_take_turns_and_none_gets_more_than_its_room() {
        let mut lanes = Lanes::default();
        let accounts: Vec<AccountId> = (0..3).map(|_| AccountId::generate(START)).collect();
        let mut owners = HashMap::new();
        for (account, count) in accounts.iter().zip([100, 100, 2]) {
            for order in 0..count {
                let conversation_id = ConversationId::generate(START);
                owners.insert(conversation_id, *account);
                lanes.insert(waiting(&OutboxEntry {
                    account_id: *account,
                    ..entry(conversation_id, order)
                }));
            }
        }
        let mut busy: HashMap<AccountId, usize> = HashMap::new();
        for _ in 0..3 {
            let room = |account: AccountId| 5 - busy.get(&account).copied().unwrap_or(0);
            for id in lanes.ready(5, room) {
                lanes.set_busy(id);
                *busy.entry(owners[&id]).or_default() += 1;
            }
        }
        let counts: Vec<usize> = accounts.iter().map(|account| busy[account]).collect();
        assert_eq!(counts, [5, 5, 2]);
        let full = |account| 5 - busy[&account].min(5);
        assert_eq!(
            lanes.ready(100, full),
            [],
            "who has no room waits, and nobody else has anything to do"
        );
    }

    #[test]
    fn a_clock_that_jumps_neither_holds_back_nor_ends_what_waits() {
        let (now, hour) = (clock::instant(), Duration::from_secs(3_600));
        let first = entry(ConversationId::generate(START), 1);
        let again = OutboxEntry {
            attempts: 3,
            due_at: START + Duration::from_secs(5),
            ..first.clone()
        };
        let seen = |entry: &OutboxEntry, wall| {
            let waiting = Waiting::new(entry.clone(), 24 * hour, wall, now);
            (waiting.due - now, waiting.too_old - now)
        };
        assert_eq!(seen(&first, START), (Duration::ZERO, 24 * hour));
        assert_eq!(seen(&first, START - hour), (Duration::ZERO, 24 * hour));
        assert_eq!(seen(&again, START), (Duration::from_secs(5), 24 * hour));
        assert_eq!(seen(&again, START + hour), (Duration::ZERO, 23 * hour));
        assert_eq!(seen(&again, START - 100 * hour).0, LONGEST_WAIT);
        assert_eq!(seen(&again, START + 30 * hour).1, Duration::ZERO);
    }
}
