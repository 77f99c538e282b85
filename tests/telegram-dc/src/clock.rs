//! The server's clock. It is a real one: a test DC stands for another machine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the DC plays another machine, whose clock nobody moves"
)]
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Seconds since 1970, as TL writes dates.
pub(crate) fn now() -> i32 {
    i32::try_from(since_1970().as_secs()).unwrap_or(i32::MAX)
}
