//! The checker: compares what was accepted with what somebody saw, and names every item that is lost, there twice, out
//! of order, or that nobody wrote.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde_json::Value;

/// A text and the lane (chat, direction) in which it keeps its order. Every text is used once in a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    pub lane: String,
    pub text: String,
}

impl Entry {
    pub fn new(lane: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            lane: lane.into(),
            text: text.into(),
        }
    }
}

/// What can be wrong with an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    Lost,
    Duplicate,
    /// Seen before one of its lane that was accepted earlier.
    Reordered,
    /// Nobody wrote it, or not there.
    Phantom,
}

/// One item that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub wrong: Wrong,
    pub entry: Entry,
}

/// Everything that differs, each item by itself; empty when all is well.
pub fn differences(accepted: &[Entry], seen: &[Entry]) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut note = |wrong, entry: &Entry| {
        let entry = entry.clone();
        found.push(Difference { wrong, entry });
    };
    let places: HashMap<&Entry, usize> = accepted
        .iter()
        .enumerate()
        .map(|(place, entry)| (entry, place))
        .collect();
    let mut met: HashSet<&Entry> = HashSet::new();
    let mut once = Vec::new();
    for entry in seen {
        match places.get(entry) {
            None => note(Wrong::Phantom, entry),
            Some(_) if !met.insert(entry) => note(Wrong::Duplicate, entry),
            Some(place) => once.push((entry, *place)),
        }
    }
    // From behind: what stands before one that was accepted earlier has overtaken it.
    let mut earliest_behind: HashMap<&str, usize> = HashMap::new();
    for (entry, place) in once.into_iter().rev() {
        let earliest = earliest_behind.entry(&entry.lane).or_insert(place);
        if place > *earliest {
            note(Wrong::Reordered, entry);
        }
        *earliest = place.min(*earliest);
    }
    for entry in accepted.iter().filter(|entry| !met.contains(entry)) {
        note(Wrong::Lost, entry);
    }
    found
}

/// How many items are wrong in which way, for one line of text.
#[derive(Clone, Debug, Default)]
pub struct Tally(pub Vec<Difference>);

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |wrong| self.0.iter().filter(|one| one.wrong == wrong).count();
        write!(
            formatter,
            "lost {}, duplicate {}, reordered {}, phantom {}",
            count(Wrong::Lost),
            count(Wrong::Duplicate),
            count(Wrong::Reordered),
            count(Wrong::Phantom)
        )
    }
}

/// What a receiver that looks the id up sees: the first of each id.
pub fn by_id(messages: Vec<(String, String, String)>) -> Vec<Entry> {
    let mut known = HashSet::new();
    let first = messages.into_iter().filter(|(id, ..)| known.insert(id.clone()));
    first
        .map(|(_, chat, text)| Entry::new(format!("out:{chat}"), text))
        .collect()
}

/// The message of an event `new_message`, as an entry: lane is the chat, with `out:` before it for what the person sent.
pub fn message(event: &Value) -> Option<Entry> {
    if event["event"] != "new_message" {
        return None;
    }
    let chat = event["data"]["conversation"]["platform_conversation_id"]
        .as_str()
        .unwrap();
    let is_outgoing = event["data"]["message"]["is_outgoing"] == true;
    let direction = if is_outgoing { "out:" } else { "" };
    let text = event["data"]["message"]["content"].as_str().unwrap();
    Some(Entry::new(format!("{direction}{chat}"), text))
}

/// The messages of a stream, as entries.
pub fn messages(events: &[Value]) -> Vec<Entry> {
    events.iter().filter_map(message).collect()
}

/// The numbers of events.
pub fn numbers(events: &[Value]) -> Vec<i64> {
    events.iter().map(|event| event["seq"].as_i64().unwrap()).collect()
}

/// The stream has the numbers 1, 2, 3 … without a gap.
#[track_caller]
pub fn assert_gapless(events: &[Value]) {
    let expected: Vec<i64> = (1..).take(events.len()).collect();
    assert_eq!(numbers(events), expected, "a gap, a repetition or a wrong order");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(texts: &str) -> Vec<Entry> {
        texts.chars().map(|text| Entry::new("chat", text)).collect()
    }

    fn found(seen: &str) -> Vec<(Wrong, String)> {
        let found = differences(&entries("abcd"), &entries(seen));
        found.into_iter().map(|one| (one.wrong, one.entry.text)).collect()
    }

    #[test]
    fn every_kind_of_difference_is_named() {
        let one = |wrong, text: &str| vec![(wrong, text.to_owned())];
        assert_eq!(found("abcd"), []);
        assert_eq!(found("abd"), one(Wrong::Lost, "c"));
        assert_eq!(found("abcdb"), one(Wrong::Duplicate, "b"));
        assert_eq!(found("abccd"), one(Wrong::Duplicate, "c"));
        assert_eq!(found("acbd"), one(Wrong::Reordered, "c"));
        assert_eq!(found("dabc"), one(Wrong::Reordered, "d"));
        assert_eq!(found("abcdx"), one(Wrong::Phantom, "x"));
    }

    #[test]
    fn several_differences_are_named_at_once() {
        let all = found("xbaad");
        for expected in [
            (Wrong::Phantom, "x"),
            (Wrong::Reordered, "b"),
            (Wrong::Duplicate, "a"),
            (Wrong::Lost, "c"),
        ] {
            assert!(
                all.contains(&(expected.0, expected.1.to_owned())),
                "{expected:?}: {all:?}"
            );
        }
        assert_eq!(all.len(), 4, "{all:?}");
        let tally = Tally(differences(&entries("abcd"), &entries("xbaad")));
        assert_eq!(tally.to_string(), "lost 1, duplicate 1, reordered 1, phantom 1");
        assert_eq!(
            Tally::default().to_string(),
            "lost 0, duplicate 0, reordered 0, phantom 0"
        );
    }

    #[test]
    fn lanes_have_their_own_order_and_a_wrong_lane_is_no_place() {
        let accepted = [Entry::new("x", "1"), Entry::new("y", "2"), Entry::new("x", "3")];
        let other_order = [accepted[1].clone(), accepted[0].clone(), accepted[2].clone()];
        assert_eq!(differences(&accepted, &other_order), []);
        let moved = [accepted[0].clone(), Entry::new("x", "2"), accepted[2].clone()];
        let kinds: Vec<Wrong> = differences(&accepted, &moved).iter().map(|one| one.wrong).collect();
        assert_eq!(kinds, [Wrong::Phantom, Wrong::Lost]);
    }

    #[test]
    fn a_receiver_that_looks_ids_up_sees_the_first() {
        let sent = |id: &str, text: &str| (id.to_owned(), "c".to_owned(), text.to_owned());
        let seen = by_id(vec![sent("1", "a"), sent("2", "b"), sent("1", "a")]);
        assert_eq!(seen, [Entry::new("out:c", "a"), Entry::new("out:c", "b")]);
    }
}
