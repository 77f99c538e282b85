//! Processor time and memory of processes, as the kernel counts them: proc_pid_stat(5), proc_pid_status(5).

use std::fs;
use std::time::Duration;

/// Length of the kernel's tick in these files: `sysconf(_SC_CLK_TCK)` is 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// The fields of `/proc/<pid>/stat` behind the name, which may hold spaces.
fn fields(pid: u32) -> Vec<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap_or_default())
        .collect()
}

fn ticks(fields: &[u64], from: usize, count: usize) -> Duration {
    let ticks: u64 = fields.iter().skip(from).take(count).sum();
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// User and system time of a process, all threads.
pub fn of(pid: u32) -> Duration {
    ticks(&fields(pid), 10, 2)
}

/// The same of a process, its children, and children that have ended.
pub fn of_family(pid: u32) -> Duration {
    let mut total = ticks(&fields(pid), 10, 4);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Some(child) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            let fields = fields(child);
            if fields.first() == Some(&u64::from(pid)) {
                total += ticks(&fields, 10, 4);
            }
        }
    }
    total
}

/// Resident memory of a process, in bytes.
pub fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}
