//! The checker: compares what was accepted with what somebody saw, and names what is wrong.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// A text and the lane (chat, direction) in which it keeps its order. Every text is used once in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Everything that differs; empty when all is well.
pub fn differences(accepted: &[Entry], seen: &[Entry]) -> Vec<String> {
    let mut found = Vec::new();
    let known: HashSet<&str> = accepted.iter().map(|entry| entry.text.as_str()).collect();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for entry in seen {
        *counts.entry(&entry.text).or_default() += 1;
        if !known.contains(entry.text.as_str()) {
            found.push(format!("phantom: {entry:?}"));
        }
    }
    for entry in accepted {
        match counts.get(entry.text.as_str()) {
            None => found.push(format!("lost: {entry:?}")),
            Some(1) => {}
            Some(count) => found.push(format!("duplicate: {entry:?}, {count} times")),
        }
    }
    if found.is_empty() {
        let (accepted, seen) = (by_lane(accepted), by_lane(seen));
        let reordered = accepted.iter().filter(|(lane, texts)| seen.get(*lane) != Some(*texts));
        found.extend(reordered.map(|(lane, texts)| format!("reordered: {lane}: {texts:?}, seen {:?}", seen.get(lane))));
    }
    found
}

fn by_lane(entries: &[Entry]) -> HashMap<&str, Vec<&str>> {
    let mut lanes: HashMap<&str, Vec<&str>> = HashMap::new();
    for entry in entries {
        lanes.entry(&entry.lane).or_default().push(&entry.text);
    }
    lanes
}

/// The messages of a stream, as entries: lane is the chat, with `out:` before it for what the person sent.
pub fn messages(events: &[Value]) -> Vec<Entry> {
    let new = events.iter().filter(|event| event["event"] == "new_message");
    new.map(|event| {
        let chat = event["data"]["conversation"]["platform_conversation_id"]
            .as_str()
            .unwrap();
        let direction = if event["data"]["message"]["is_outgoing"] == true {
            "out:"
        } else {
            ""
        };
        let text = event["data"]["message"]["content"].as_str().unwrap();
        Entry::new(format!("{direction}{chat}"), text)
    })
    .collect()
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

#[test]
fn every_kind_of_difference_is_named() {
    let entry = |text: &str| Entry::new("chat", text);
    let accepted = [entry("a"), entry("b")];
    let name = |seen: &[Entry]| {
        let found = differences(&accepted, seen);
        found
            .iter()
            .map(|one| one.split(':').next().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    assert!(name(&accepted).is_empty());
    assert_eq!(name(&[entry("a")]), ["lost"]);
    assert_eq!(name(&[entry("a"), entry("b"), entry("b")]), ["duplicate"]);
    assert_eq!(name(&[entry("b"), entry("a")]), ["reordered"]);
    assert_eq!(name(&[entry("a"), entry("b"), entry("c")]), ["phantom"]);
}
