//! Limits counted in this process.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use super::{Backend, Decision, LimitClass, Limiter, Quotas, WINDOW};

/// How often keys that are as good as new are forgotten.
const SWEEP: Duration = Duration::from_secs(10);
/// Keys that one class remembers. Beyond it, keys share counters, so a flood of addresses costs no memory.
const MAX_KEYS: usize = 100_000;
/// How many counters the keys beyond [`MAX_KEYS`] share.
const SHARED_COUNTERS: u64 = 4_096;

type Keyed = RateLimiter<String, DashMapStateStore<String>, DefaultClock, StateInformationMiddleware>;

struct Class {
    limit: u32,
    keyed: Keyed,
    max_keys: usize,
}

/// Counts in this process. Forgets keys in the background as long as it lives.
pub struct InProcessLimiter {
    standard: Class,
    strict: Class,
    clock: DefaultClock,
    hasher: RandomState,
}

impl InProcessLimiter {
    /// A limiter that forgets idle keys only when [`InProcessLimiter::sweep`] is called.
    pub fn new(quotas: Quotas) -> Self {
        Self::with_max_keys(quotas, MAX_KEYS)
    }

    fn with_max_keys(quotas: Quotas, max_keys: usize) -> Self {
        let class = |class| {
            let limit = NonZeroU32::new(quotas.of(class)).unwrap_or(NonZeroU32::MIN);
            Class {
                limit: limit.get(),
                keyed: RateLimiter::dashmap(Quota::per_minute(limit)).with_middleware(),
                max_keys,
            }
        };
        Self {
            standard: class(LimitClass::Standard),
            strict: class(LimitClass::Strict),
            clock: DefaultClock::default(),
            hasher: RandomState::new(),
        }
    }

    /// A limiter that forgets idle keys by itself. Must be called inside a tokio runtime.
    pub fn start(quotas: Quotas) -> Arc<Self> {
        let limiter = Arc::new(Self::new(quotas));
        let weak = Arc::downgrade(&limiter);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(SWEEP);
            loop {
                ticks.tick().await;
                let Some(limiter) = weak.upgrade() else { break };
                limiter.sweep();
            }
        });
        limiter
    }

    /// Forgets the keys whose full limit is free again.
    pub fn sweep(&self) {
        for class in [&self.standard, &self.strict] {
            class.keyed.retain_recent();
            class.keyed.shrink_to_fit();
        }
    }

    /// The counter of a key that came when the table was full. '/' begins no key of the gate, so it is nobody's own.
    fn shared_counter(&self, key: &str) -> String {
        format!("/{}", self.hasher.hash_one(key) % SHARED_COUNTERS)
    }

    /// Counts one request.
    pub fn decide(&self, class: LimitClass, key: &str) -> Decision {
        let class = match class {
            LimitClass::Standard => &self.standard,
            LimitClass::Strict => &self.strict,
        };
        let key = if class.keyed.len() < class.max_keys {
            key.to_owned()
        } else {
            self.shared_counter(key)
        };
        let interval = WINDOW / class.limit;
        match class.keyed.check_key(&key) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                Decision {
                    allowed: true,
                    limit: class.limit,
                    remaining,
                    reset_after: interval * class.limit.saturating_sub(remaining),
                    retry_after: Duration::ZERO,
                }
            }
            Err(refusal) => {
                let retry_after = refusal.wait_time_from(self.clock.now());
                Decision {
                    allowed: false,
                    limit: class.limit,
                    remaining: 0,
                    reset_after: retry_after + interval * (class.limit - 1),
                    retry_after,
                }
            }
        }
    }
}

#[async_trait]
impl Limiter for InProcessLimiter {
    async fn check(&self, class: LimitClass, key: &str) -> Decision {
        self.decide(class, key)
    }

    fn backend(&self) -> Backend {
        Backend::InProcess
    }
}

#[cfg(test)]
mod tests {
    use hub_actors::clock::instant;

    use super::*;

    const QUOTAS: Quotas = Quotas {
        standard: 100,
        strict: 20,
    };

    #[test]
    fn exactly_the_limit_passes_at_once() {
        let limiter = InProcessLimiter::new(QUOTAS);
        for (class, limit) in [(LimitClass::Standard, 100), (LimitClass::Strict, 20)] {
            let began = instant();
            let mut passed = 0;
            let refusal = loop {
                let decision = limiter.decide(class, "user:1");
                // What has become free meanwhile, were this thread to stand still.
                let more = u32::try_from(began.elapsed().as_millis() / (WINDOW / limit).as_millis()).unwrap();
                if !decision.allowed {
                    assert!((limit..=limit + more).contains(&passed), "{class:?} {passed}");
                    break decision;
                }
                passed += 1;
                let remaining = limit.saturating_sub(passed);
                assert_eq!(decision.limit, limit);
                assert!(
                    (remaining..=remaining + more).contains(&decision.remaining),
                    "{decision:?}"
                );
            };
            assert_eq!(refusal.remaining, 0);
            assert!(refusal.retry_after > Duration::ZERO && refusal.retry_after <= WINDOW / limit);
            assert!(refusal.reset_after <= WINDOW && refusal.reset_after > WINDOW - 2 * (WINDOW / limit));
            assert!(limiter.decide(class, "user:2").allowed);
        }
    }

    #[test]
    fn parallel_requests_do_not_slip_through() {
        let limiter = InProcessLimiter::new(QUOTAS);
        let began = instant();
        let passed: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        (0..100)
                            .filter(|_| limiter.decide(LimitClass::Strict, "address:1").allowed)
                            .count()
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        // One more is let through every three seconds.
        let more = usize::try_from(began.elapsed().as_secs() / 3).unwrap();
        assert!((20..=21 + more).contains(&passed), "{passed}");
    }

    #[test]
    fn a_flood_of_keys_is_counted_together() {
        let limiter = InProcessLimiter::with_max_keys(QUOTAS, 10);
        for address in 0..20_000 {
            limiter.decide(LimitClass::Standard, &format!("address:{address}"));
        }
        assert!(limiter.standard.keyed.len() <= 10 + usize::try_from(SHARED_COUNTERS).unwrap());

        for address in 0..10 {
            limiter.decide(LimitClass::Strict, &format!("address:{address}"));
        }
        // More new addresses than one counter lets through, all of them on one counter.
        let counter = limiter.shared_counter("late:0");
        let mut together = (0..)
            .map(|address| format!("late:{address}"))
            .filter(|key| limiter.shared_counter(key) == counter);
        let refused = together
            .by_ref()
            .take(100)
            .filter(|key| !limiter.decide(LimitClass::Strict, key).allowed)
            .count();
        assert!(refused > 0, "100 new addresses on one counter passed the limit of 20");
    }
}
