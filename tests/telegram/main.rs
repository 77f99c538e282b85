//! A hub that talks to a real MTProto server: everything between is what runs against Telegram.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::cast_precision_loss,
    reason = "a test fails by panicking and may print what it measured"
)]

mod accounts;
mod bed;
mod chaos;
mod chats;
mod files;
mod login;
mod many;
mod p14_half_open;
mod p15_refused;
mod p17_one_owner;
#[path = "../support/mod.rs"]
mod support;
