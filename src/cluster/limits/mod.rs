//! Rate limits: the generic cell rate algorithm (GCRA, ITU-T I.371), decided in one atomic step.

mod in_process;
mod shared;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;

pub use in_process::InProcessLimiter;
pub use shared::RedisLimiter;

use super::ClusterError;
use crate::settings::LimitSettings;

/// The time over which the limits count.
pub const WINDOW: Duration = Duration::from_mins(1);

/// Which limit a request falls under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitClass {
    /// Ordinary requests.
    Standard,
    /// Requests that try a password, a code or a refresh token.
    Strict,
}

impl LimitClass {
    /// The name used in keys and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Strict => "strict",
        }
    }
}

/// Whether a request may go on, and what its sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may go on. A refused request does not count.
    pub allowed: bool,
    /// Requests per [`WINDOW`].
    pub limit: u32,
    /// Requests that would be let through at this moment.
    pub remaining: u32,
    /// After this time without requests the full limit is free again.
    pub reset_after: Duration,
    /// A refused request is worth repeating after this time; zero when it was let through.
    pub retry_after: Duration,
}

/// Where limits are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// In this process.
    InProcess,
    /// In Redis, shared by all hubs; while Redis is away, in this process.
    Redis {
        /// Whether the last question was answered.
        connected: bool,
    },
}

/// Counts requests.
#[async_trait]
pub trait Limiter: Send + Sync + 'static {
    /// Counts one request of `key` and says whether it may go on. Never fails: without Redis this process decides.
    async fn check(&self, class: LimitClass, key: &str) -> Decision;

    /// Where it counts.
    fn backend(&self) -> Backend;
}

/// Requests per [`WINDOW`], by class.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// For [`LimitClass::Standard`].
    pub standard: u32,
    /// For [`LimitClass::Strict`].
    pub strict: u32,
}

impl Quotas {
    /// The quota of a class, at least one.
    pub fn of(self, class: LimitClass) -> u32 {
        match class {
            LimitClass::Standard => self.standard,
            LimitClass::Strict => self.strict,
        }
        .max(1)
    }
}

impl From<&LimitSettings> for Quotas {
    fn from(settings: &LimitSettings) -> Self {
        Self {
            standard: settings.standard_per_minute,
            strict: settings.strict_per_minute,
        }
    }
}

/// Starts the limiter: in Redis when there is an address, shared by the hubs on the database of this `epoch`, else in this
/// process. Must be called inside a tokio runtime.
///
/// # Errors
/// When the address cannot be used. A Redis that does not answer is no error: see [`Limiter::check`].
pub fn start(quotas: Quotas, redis_url: Option<&SecretString>, epoch: &str) -> Result<Arc<dyn Limiter>, ClusterError> {
    let in_process = InProcessLimiter::start(quotas);
    Ok(match redis_url {
        Some(url) => Arc::new(RedisLimiter::new(url, epoch, quotas, in_process)?),
        None => in_process,
    })
}
