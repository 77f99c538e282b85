//! What a person sees of the living tree.

use serde::Serialize;

/// How an actor is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    Running,
    /// It crashed and is started again shortly.
    Restarting,
    /// It crashed too often and is stopped.
    GaveUp,
}

/// One actor of the living tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// From the root down, for example `connections/connection/0198…`.
    pub path: String,
    pub state: NodeState,
    /// Commands that wait in its mailbox.
    pub mailbox_depth: usize,
    /// Crashes survived since it was first started.
    pub restarts: u32,
    pub last_error: Option<String>,
    /// Since its last start.
    pub uptime_seconds: u64,
}
