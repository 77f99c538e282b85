//! The contract of the HTTP and WebSocket surface: one file per resource, black box, as a stranger's client sees it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and explains by printing"
)]

#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod admin;
mod bad;
mod bed;
mod demo;
mod frontend;
mod handshake;
mod inbox;
mod limits;
mod quarantine;
mod registration;
mod send;
mod settings;
mod sockets;
mod surface;
mod tokens;
