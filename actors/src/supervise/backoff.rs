//! When to try again, and when to stop trying.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::RngExt;

/// Exponential backoff with full jitter: a random wait between nothing and `base * 2^attempt`, at most `cap`.
/// (Amazon Builders' Library, "Timeouts, retries, and backoff with jitter".)
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
}

impl Backoff {
    /// A backoff that starts around `base` and never waits longer than `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap }
    }

    /// The longest wait before try number `attempt`, counted from 0.
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempt.min(30)).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// A random wait before try number `attempt`.
    pub fn delay(&self, attempt: u32) -> Duration {
        self.ceiling(attempt).mul_f64(rand::rng().random::<f64>())
    }
}

/// Counts restarts: more than `limit` within `window` is too often.
#[derive(Clone, Debug, Default)]
pub struct RestartWindow {
    restarts: VecDeque<Instant>,
}

impl RestartWindow {
    /// Restarts allowed within [`RestartWindow::WINDOW`].
    pub const LIMIT: usize = 5;
    /// The time over which restarts are counted.
    pub const WINDOW: Duration = Duration::from_secs(60);

    /// Notes a crash. False when it was one too many.
    pub fn allow(&mut self, now: Instant) -> bool {
        while self
            .restarts
            .front()
            .is_some_and(|first| now.duration_since(*first) > Self::WINDOW)
        {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= Self::LIMIT {
            return false;
        }
        self.restarts.push_back(now);
        true
    }

    /// Crashes within the window.
    pub fn recent(&self) -> u32 {
        u32::try_from(self.restarts.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_its_cap() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let ceilings: Vec<u128> = (0..8).map(|attempt| backoff.ceiling(attempt).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert!((0..100).all(|attempt| backoff.delay(attempt) <= backoff.ceiling(attempt)));
        assert_eq!(backoff.ceiling(u32::MAX), Duration::from_secs(5));
    }

    #[test]
    fn the_sixth_crash_in_a_minute_is_one_too_many() {
        let start = crate::clock::instant();
        let mut window = RestartWindow::default();
        assert!((0..5).all(|second| window.allow(start + Duration::from_secs(second))));
        assert!(!window.allow(start + Duration::from_secs(59)));
        assert!(
            window.allow(start + Duration::from_secs(61)),
            "the first one is more than a minute ago"
        );
    }
}
