//! How many connections the hub can hold open.

/// Descriptors kept for everything that is not a client: the database, Redis, calls to platforms, files.
const RESERVE: usize = 512;
/// Connections of one worker where nothing smaller is known.
const MOST: usize = 25_000;

/// Connections of one of so many HTTP workers. More wait in the system's queue until one ends: were they taken, the hub
/// would have no descriptor left for its database.
pub fn connections_per_worker(workers: usize) -> usize {
    #[cfg(target_os = "linux")]
    let limit = std::fs::read_to_string("/proc/self/limits")
        .ok()
        .and_then(|text| open_files(&text));
    #[cfg(not(target_os = "linux"))]
    let limit = None;
    share(limit, workers)
}

fn share(limit: Option<usize>, workers: usize) -> usize {
    // A quarter, where the limit is so low that the reserve would leave nothing.
    let for_clients = limit.map_or(usize::MAX, |limit| limit - RESERVE.min(limit / 4));
    (for_clients / workers.max(1)).clamp(1, MOST)
}

/// The soft limit in the text that proc_pid_limits(5) describes.
#[cfg(any(target_os = "linux", test))]
fn open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workers_share_what_the_system_allows() {
        let text = "Limit  Soft Limit  Hard Limit  Units\nMax processes  7  7  processes\nMax open files            20000                524288               files \n";
        assert_eq!(open_files(text), Some(20_000));
        assert_eq!(open_files("Max open files  unlimited  unlimited  files"), None);
        assert_eq!(share(Some(20_000), 2), 9_744);
        assert_eq!(share(Some(1_024), 2), 384);
        assert_eq!(share(Some(4), 8), 1);
        assert_eq!(share(None, 0), MOST);
        assert_eq!(share(Some(1_000_000), 2), MOST);
    }
}
