//! The one place that reads the clock, so that tests can move time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use time::OffsetDateTime;

/// Wall-clock time, shifted by a shared offset that only tests change.
///
/// Order, deduplication and expiry of messages never depend on it: they use sequences and keys that the database
/// hands out. It stamps rows and ends tokens.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    offset_milliseconds: Arc<AtomicI64>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// The current time in UTC, cut to microseconds, the precision that the database keeps.
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    pub fn now(&self) -> OffsetDateTime {
        let shifted =
            OffsetDateTime::now_utc() + time::Duration::milliseconds(self.offset_milliseconds.load(Ordering::Relaxed));
        let microseconds = shifted.microsecond();
        shifted.replace_microsecond(microseconds).unwrap_or(shifted)
    }

    /// Moves this clock, and every clone of it, forwards (or backwards with `back`).
    pub fn shift(&self, by: Duration, back: bool) {
        let milliseconds = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        let signed = if back { -milliseconds } else { milliseconds };
        self.offset_milliseconds.fetch_add(signed, Ordering::Relaxed);
    }
}

/// A monotonic instant, for measuring how long something took.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn instant() -> std::time::Instant {
    std::time::Instant::now()
}
