//! What lives here: what several hubs on one database share: rate limits and the word that a user's stream has grown.
//! Who calls it: `app` starts it; the HTTP gate asks the limiter; sessions announce through the bus.
//! What it may not know: SQL, HTTP, platforms. Redis holds nothing that cannot be rebuilt; without it all works in process.

mod bus;
pub mod limits;
mod ping;
#[cfg(test)]
mod testing;

pub use bus::{BusNotice, RedisBus};
pub use ping::ping;

/// A part of the cluster cannot be started.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClusterError {
    /// The setting `redis.url` is no address of a Redis. The address itself is not shown: it may hold a password.
    #[error("redis.url cannot be used: {0}")]
    Address(String),
}
