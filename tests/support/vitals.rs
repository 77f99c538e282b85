//! What a process uses, as Linux tells it, and how much waits inside the hub.

use std::fs;

use super::{ADMIN_TOKEN, Client};

/// What a hub uses at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Resident memory, in KiB.
    pub resident: usize,
    /// Open file descriptors.
    pub files: usize,
    /// Entries that wait to go out.
    pub outbox: usize,
    /// Commands that wait in the mailboxes of all actors.
    pub mailboxes: usize,
}

impl Vitals {
    /// Of the process, asking the hub in it for the depth of its queues.
    pub async fn of(process: u32, client: &Client) -> Self {
        let operator = Client {
            token: Some(ADMIN_TOKEN.to_owned()),
            ..client.clone()
        };
        let metrics = operator.get("/metrics").await;
        assert_eq!(metrics.status, 200, "{}", metrics.text);
        let depth = metrics
            .text
            .lines()
            .find_map(|line| line.strip_prefix("hub_outbox_depth "));
        let tree = operator.get("/api/admin/tree").await.expect(200);
        let nodes = tree["nodes"].as_array().expect("nodes");
        let depths = nodes.iter().filter_map(|node| node["mailboxDepth"].as_u64());
        Self {
            resident: resident(process),
            files: files(process),
            outbox: depth.expect("a gauge").parse().expect("a number"),
            mailboxes: depths.filter_map(|depth| usize::try_from(depth).ok()).sum(),
        }
    }
}

/// Resident memory of a process, in KiB.
pub fn resident(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let size = line.and_then(|line| line.split_whitespace().next());
    size.expect("a size").parse().expect("a number")
}

/// Open file descriptors of a process.
pub fn files(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd"))
        .expect("the process lives")
        .count()
}

/// The middle one.
pub fn median(mut values: Vec<usize>) -> usize {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}
