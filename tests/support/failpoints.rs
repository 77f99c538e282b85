//! Every failpoint of the sources by name, and who kills or crashes the hub there. A test compares it with the sources.

/// Who makes the hub die at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// P1 kills the process there: between reading a request and answering it.
    P1,
    /// P3 kills the process there: between reading an outbox entry and storing the receipt.
    P3,
    /// A panic is injected there, by the test in this file.
    Panic(&'static str),
}

const P18: By = By::Panic("tests/promises/p18_panics.rs");

/// In the order in which they are passed.
pub const FAILPOINTS: &[(&str, By)] = &[
    ("send.parsed", By::P1),
    ("send.looked_up", By::P1),
    ("send.handed_over", By::P1),
    ("send.committed", By::P1),
    ("send.answer_saved", By::P1),
    ("send.before_response", By::P1),
    ("socket.parsed", By::P1),
    ("socket.committed", By::P1),
    ("socket.before_answer", By::P1),
    ("webhook.read", By::P1),
    ("webhook.verified", By::P1),
    ("webhook.mapped", By::P1),
    ("webhook.handed_over", By::P1),
    ("webhook.committed", By::P1),
    ("webhook.before_response", By::P1),
    ("conversation.before_append", By::P1),
    ("journal.batched", By::P1),
    ("journal.loaded", By::P1),
    ("journal.before_commit", By::P1),
    ("journal.commit_sent", By::P1),
    ("journal.after_commit", By::P1),
    ("journal.published", By::P1),
    ("outbox.started", By::P3),
    ("outbox.marked", By::Panic("actors/tests/keyless.rs")),
    ("outbox.before_send", By::P3),
    ("custom.answered", By::P3),
    ("connection.sent", By::P3),
    ("outbox.after_send", By::P3),
    ("outbox.stored", By::P3),
    ("outbox.ended", By::P3),
    ("connection", P18),
    ("conversation", P18),
    ("journal", P18),
    ("leases", P18),
    ("outbox", P18),
    ("reader", P18),
    ("scheduler", P18),
    ("session", P18),
];

/// The points at which that test kills.
pub fn failpoints_of(by: By) -> Vec<&'static str> {
    let own = FAILPOINTS.iter().filter(|(_, one)| *one == by);
    own.map(|(name, _)| *name).collect()
}
