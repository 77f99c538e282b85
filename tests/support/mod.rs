//! What lives here: the harness of the black-box tests: databases, hubs in process and as real processes, clients.
//! Who calls it: the integration tests.
//! What it may not know: the hub's inner parts; it speaks HTTP, WebSocket and the custom channel, as others do.
#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]

mod client;
mod correspondent;
mod database;
mod failpoints;
mod hub;
mod process;
mod proxy;
mod socket;
mod vitals;

pub use client::{Answer, Channel, Client, PASSWORD, answer, now, received, sign, try_answer};
pub use correspondent::{Correspondent, Received, Reply, storm};
pub use database::{Database, Kind};
pub use failpoints::{By, FAILPOINTS, failpoints_of};
pub use hub::{ADMIN_TOKEN, Hub, JWT_SECRET, VAULT_KEY, settings};
pub use process::{Doom, Process};
pub use proxy::{Direction, Proxy, Trouble};
pub use socket::Socket;
pub use vitals::{Vitals, files, median, resident};

use std::time::Duration;

/// Waits until something is so, at most twenty seconds.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    until_in(Duration::from_secs(20), what, look).await
}

/// Waits until something is so, at most so long.
pub async fn until_in<T>(patience: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = hub_actors::clock::instant();
    while begun.elapsed() < patience {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never happened: {what}");
}

/// The seed of a random test: a new one each time, printed, or the one of `HUB_TEST_SEED` to play a run again.
pub fn seed() -> u64 {
    let given = std::env::var("HUB_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    println!("HUB_TEST_SEED={seed}");
    seed
}

/// True for the long runs of `./test.sh --long`.
pub fn is_long() -> bool {
    std::env::var_os("HUB_TEST_LONG").is_some()
}

/// Runs a test on an actix system of its own.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    actix_rt::System::new().block_on(test)
}

/// Defines the same test on the embedded database and on a real PostgreSQL.
#[macro_export]
macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[test] fn $name() { $crate::support::run(super::$name($crate::support::Kind::Embedded)); })*
        }
        mod postgres {
            $(#[test] fn $name() { $crate::support::run(super::$name($crate::support::Kind::Postgres)); })*
        }
    };
}
