//! Many durations, and what share of them lay below which.

use std::time::Duration;

/// Durations in microseconds.
#[derive(Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    pub fn add(&mut self, duration: Duration) {
        self.0.push(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX));
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The value below which `share` of them lie, in milliseconds.
    pub fn milliseconds(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let place = (self.0.len() as f64 * share) as usize;
        let value = self.0.get(place.min(self.0.len().saturating_sub(1)));
        f64::from(value.copied().unwrap_or_default()) / 1_000.0
    }
}
