//! One file per promise of docs/PROMISES.md, named after it: each tries to break it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers in tests are small"
)]
#![allow(clippy::print_stdout, reason = "a seed is shown when its test fails")]

#[path = "../support/mod.rs"]
mod support;

/// A platform that does what it is told.
#[path = "../../actors/tests/support/mod.rs"]
mod scripted;

mod crash;
mod failpoints;
mod follower;
mod history;
mod p01_committed;
mod p02_idempotency;
mod p03_once;
mod p04_unknown;
mod p05_webhooks;
mod p06_first_contact;
mod p07_order;
mod p09_bounds;
mod p10_sequence;
mod p11_resume;
mod p12_snapshot;
mod p16_backoff;
mod p18_panics;
mod p19_redis;
mod p21_database_away;
mod p22_shutdown;
mod p24_secrets;
mod p25_forgeries;
mod p27_clock;
mod rows;
mod soak;
mod start;
