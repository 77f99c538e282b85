//! The actor tree.

use serde::Deserialize;

use super::parse;
use super::problem::Problems;

/// `[tree]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct TreeSettings {
    /// Threads that run the actors; 0 = one for two cores.
    pub arbiters: usize,
    /// A conversation that nothing happens in leaves memory after so many seconds.
    #[serde(deserialize_with = "parse::seconds")]
    pub conversation_idle_seconds: u64,
}

impl Default for TreeSettings {
    fn default() -> Self {
        Self {
            arbiters: 0,
            conversation_idle_seconds: 300,
        }
    }
}

impl TreeSettings {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.range("tree.arbiters", self.arbiters, 0..=1_024);
        problems.range(
            "tree.conversation_idle_seconds",
            self.conversation_idle_seconds,
            1..=86_400,
        );
    }
}

/// `[journal]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct JournalSettings {
    /// Journals that commit side by side; with the embedded database one is enough.
    pub shards: usize,
    /// Changes in one transaction.
    pub max_batch: usize,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            shards: 1,
            max_batch: 128,
        }
    }
}

impl JournalSettings {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.range("journal.shards", self.shards, 1..=64);
        problems.range("journal.max_batch", self.max_batch, 1..=4_096);
    }
}

/// `[outbox]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct OutboxSettings {
    /// How long the answer to a send waits for the platform, in seconds.
    #[serde(deserialize_with = "parse::seconds")]
    pub answer_seconds: u64,
    /// After so many hours of tries a message is marked failed.
    pub give_up_after_hours: u64,
    /// Sends to platforms at the same time.
    pub max_in_flight: usize,
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self {
            answer_seconds: 10,
            give_up_after_hours: 24,
            max_in_flight: 64,
        }
    }
}

impl OutboxSettings {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.range("outbox.answer_seconds", self.answer_seconds, 0..=60);
        problems.range("outbox.give_up_after_hours", self.give_up_after_hours, 1..=720);
        problems.range("outbox.max_in_flight", self.max_in_flight, 1..=10_000);
    }
}
