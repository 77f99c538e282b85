//! The bounds and times of the tree.

use std::time::Duration;

/// The bounds and times of the tree.
#[derive(Clone, Debug)]
pub struct TreeSettings {
    /// Threads on which the actors live.
    pub arbiters: usize,
    /// Journals; each commits one batch at a time.
    pub journal_shards: u32,
    /// Most appends in one transaction.
    pub journal_batch: usize,
    /// Appends that may wait in one journal; more are answered with "busy".
    pub journal_queue: usize,
    /// A conversation in which nothing has happened for so long ends.
    pub conversation_idle: Duration,
    /// Tries to send that may be under way at once; of one account a quarter.
    pub outbox_in_flight: usize,
    /// Entries that may wait in the outbox; more sends are answered with "busy".
    pub outbox_capacity: usize,
    /// A message that could not be sent for so long fails.
    pub outbox_give_up_after: Duration,
    /// How often the outbox looks for what was committed without its being told.
    pub outbox_look: Duration,
    /// How long the right to hold an account's live link is good for. A hub that dies leaves its accounts alone for so
    /// long; one that stops gives them up.
    pub lease: Duration,
    /// How often a live link is asked whether it lives. It has half as long to say so.
    pub probe: Duration,
    /// Sockets of one user; the one unused for longest is ended when one more opens.
    pub sockets_per_user: usize,
}

impl Default for TreeSettings {
    fn default() -> Self {
        Self {
            arbiters: 1,
            journal_shards: 1,
            journal_batch: 128,
            journal_queue: 8_192,
            conversation_idle: Duration::from_secs(300),
            outbox_in_flight: 256,
            outbox_capacity: 100_000,
            outbox_give_up_after: Duration::from_secs(24 * 3_600),
            outbox_look: Duration::from_secs(30),
            lease: Duration::from_secs(30),
            probe: Duration::from_secs(40),
            sockets_per_user: 64,
        }
    }
}
