//! Hostile input: one file per way in. Nothing that a stranger, a client or a platform sends makes the hub panic, answer
//! with a fault of its own, keep more than it should, or tell or change what is somebody else's.
//!
//! Random cases come from fixed seeds; `./test.sh --long` takes fresh ones, which are printed, and many more cases.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "numbers in tests are small"
)]
#![allow(clippy::print_stdout, reason = "figures and seeds are shown when a test fails")]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod bodies;
mod commands;
mod cursors;
mod document;
mod floods;
mod frames;
mod ownership;
mod paths;
mod raw;
mod target;
mod tokens;
mod webhooks;
