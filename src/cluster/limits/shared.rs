//! Limits counted in Redis, so that several hubs share them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bb8_redis::{RedisConnectionManager, bb8, redis};
use hub_actors::clock::instant;
use secrecy::{ExposeSecret, SecretString};

use super::{Backend, Decision, InProcessLimiter, LimitClass, Limiter, Quotas, WINDOW};
use crate::cluster::ClusterError;

/// Longest wait for Redis before this process decides by itself.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long Redis is not asked after it failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Connections to Redis.
const CONNECTIONS: u32 = 8;

/// The whole decision in one atomic step, in microseconds of Redis' own clock. A key holds its theoretical arrival time.
/// One beyond the window was written before the clock was set back: it says nothing.
/// KEYS[1]: the counter; ARGV[1]: limit; ARGV[2]: window in microseconds.
/// Answers {allowed, remaining, reset after, retry after}.
const SCRIPT: &str = "\
local limit = tonumber(ARGV[1])
local window = tonumber(ARGV[2])
local interval = math.floor(window / limit)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local arrival = tonumber(redis.call('GET', KEYS[1]) or now)
if arrival < now or arrival > now + window then arrival = now end
local due = arrival + interval
local wait = due - window - now
if wait > 0 then return {0, 0, arrival - now, wait} end
redis.call('SET', KEYS[1], string.format('%.0f', due), 'PX', math.ceil((due - now) / 1000))
return {1, math.floor((window - (due - now)) / interval), due - now, 0}";

/// Counts in Redis; while Redis is away, in this process.
pub struct RedisLimiter {
    pool: bb8::Pool<RedisConnectionManager>,
    epoch: String,
    patience: Duration,
    quotas: Quotas,
    fallback: Arc<InProcessLimiter>,
    started: Instant,
    /// Milliseconds after `started` until which Redis is not asked.
    paused_until: AtomicU64,
    is_away: AtomicBool,
}

impl RedisLimiter {
    /// A limiter on the Redis of that address, shared by the hubs on the database of this `epoch`. Connects when it is
    /// first asked.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub fn new(
        url: &SecretString,
        epoch: &str,
        quotas: Quotas,
        fallback: Arc<InProcessLimiter>,
    ) -> Result<Self, ClusterError> {
        Self::with_patience(url, epoch, quotas, fallback, PATIENCE)
    }

    fn with_patience(
        url: &SecretString,
        epoch: &str,
        quotas: Quotas,
        fallback: Arc<InProcessLimiter>,
        patience: Duration,
    ) -> Result<Self, ClusterError> {
        let manager = RedisConnectionManager::new(url.expose_secret())
            .map_err(|error| ClusterError::Address(format!("{:?}", error.kind())))?;
        let pool = bb8::Pool::builder()
            .max_size(CONNECTIONS)
            .connection_timeout(patience)
            .build_unchecked(manager);
        Ok(Self {
            pool,
            epoch: epoch.to_owned(),
            patience,
            quotas,
            fallback,
            started: instant(),
            paused_until: AtomicU64::new(0),
            is_away: AtomicBool::new(false),
        })
    }

    async fn ask(&self, class: LimitClass, key: &str) -> Result<Decision, String> {
        let limit = self.quotas.of(class);
        let mut connection = self.pool.get().await.map_err(|error| error.to_string())?;
        let (allowed, remaining, reset, retry): (u8, u32, u64, u64) = redis::cmd("EVAL")
            .arg(SCRIPT)
            .arg(1)
            .arg(self.counter(class, key))
            .arg(limit)
            .arg(u64::try_from(WINDOW.as_micros()).unwrap_or(u64::MAX))
            .query_async(&mut *connection)
            .await
            .map_err(|error| error.to_string())?;
        Ok(Decision {
            allowed: allowed == 1,
            limit,
            remaining,
            reset_after: Duration::from_micros(reset),
            retry_after: Duration::from_micros(retry),
        })
    }

    fn counter(&self, class: LimitClass, key: &str) -> String {
        format!("hub:limit:{}:{}:{key}", self.epoch, class.as_str())
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn went_away(&self, reason: &str) {
        let pause = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
        self.paused_until
            .store(self.milliseconds().saturating_add(pause), Ordering::Relaxed);
        if !self.is_away.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                reason,
                "Redis does not answer: rate limits are counted in this process until it does"
            );
        }
    }

    fn came_back(&self) {
        if self.is_away.swap(false, Ordering::Relaxed) {
            tracing::info!("Redis answers again: rate limits are shared");
        }
    }
}

#[async_trait]
impl Limiter for RedisLimiter {
    async fn check(&self, class: LimitClass, key: &str) -> Decision {
        if self.milliseconds() < self.paused_until.load(Ordering::Relaxed) {
            return self.fallback.decide(class, key);
        }
        match tokio::time::timeout(self.patience, self.ask(class, key)).await {
            Ok(Ok(decision)) => {
                self.came_back();
                decision
            }
            Ok(Err(reason)) => {
                self.went_away(&reason);
                self.fallback.decide(class, key)
            }
            Err(_) => {
                self.went_away("no answer in time");
                self.fallback.decide(class, key)
            }
        }
    }

    fn backend(&self) -> Backend {
        Backend::Redis {
            connected: !self.is_away.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::RedisServer;

    const QUOTAS: Quotas = Quotas {
        standard: 100,
        strict: 20,
    };

    /// Patient: on a busy machine Redis too may take its time.
    fn limiter(url: &str) -> RedisLimiter {
        RedisLimiter::with_patience(
            &SecretString::from(url),
            "epoch",
            QUOTAS,
            Arc::new(InProcessLimiter::new(QUOTAS)),
            Duration::from_secs(20),
        )
        .unwrap()
    }

    #[tokio::test]
    async fn two_hubs_share_one_limit() {
        let redis = RedisServer::start().await;
        let hubs = [limiter(&redis.url()), limiter(&redis.url())];
        let began = instant();
        let checks = (0..40).map(|count| hubs[count % 2].check(LimitClass::Strict, "address:1"));
        let decisions = futures_util::future::join_all(checks).await;
        let passed = decisions.iter().filter(|decision| decision.allowed).count();
        // One more is let through every three seconds.
        let more = usize::try_from(began.elapsed().as_secs() / 3).unwrap();
        assert!((20..=21 + more).contains(&passed), "{passed}");
        let refused = decisions.iter().filter(|decision| !decision.allowed);
        for refused in refused {
            assert!(refused.retry_after > Duration::ZERO && refused.retry_after <= Duration::from_secs(3));
        }
        let fresh = hubs[0].check(LimitClass::Standard, "user:1").await;
        assert_eq!((fresh.limit, fresh.remaining), (100, 99));
        assert_eq!(hubs[0].backend(), Backend::Redis { connected: true });
    }

    #[tokio::test]
    async fn a_clock_that_was_set_back_shuts_nobody_out() {
        let redis = RedisServer::start().await;
        let limiter = limiter(&redis.url());
        assert!(limiter.check(LimitClass::Strict, "address:1").await.allowed);
        // What the same request would have left an hour later.
        let script = "redis.call('SET', KEYS[1], string.format('%.0f', redis.call('GET', KEYS[1]) + 3600000000))";
        let mut connection = limiter.pool.get().await.unwrap();
        redis::cmd("EVAL")
            .arg(script)
            .arg(1)
            .arg(limiter.counter(LimitClass::Strict, "address:1"))
            .query_async::<()>(&mut *connection)
            .await
            .unwrap();
        drop(connection);
        let decision = limiter.check(LimitClass::Strict, "address:1").await;
        assert_eq!((decision.allowed, decision.remaining), (true, 19));
    }

    #[tokio::test]
    async fn without_redis_this_process_counts() {
        let limiter = limiter("redis://127.0.0.1:1/");
        for _ in 0..20 {
            assert!(limiter.check(LimitClass::Strict, "address:1").await.allowed);
        }
        assert!(!limiter.check(LimitClass::Strict, "address:1").await.allowed);
        assert_eq!(limiter.backend(), Backend::Redis { connected: false });
    }

    #[tokio::test]
    async fn an_address_with_tls_is_taken() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let limiter = limiter(&format!("rediss://{}/", listener.local_addr().unwrap()));
        let greeting = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut first = [0; 1];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut first)
                .await
                .unwrap();
            first[0]
        };
        let (decision, first) = tokio::join!(limiter.check(LimitClass::Strict, "address:1"), greeting);
        assert!(decision.allowed);
        // A TLS handshake record (RFC 8446, section 5.1).
        assert_eq!(first, 22);
    }

    #[test]
    fn a_wrong_address_is_refused_without_being_shown() {
        let url = SecretString::from("http://:secret@host/");
        let error = RedisLimiter::new(&url, "epoch", QUOTAS, Arc::new(InProcessLimiter::new(QUOTAS)))
            .err()
            .unwrap();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
