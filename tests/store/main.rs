//! The store, on the embedded database and on a real PostgreSQL.
//!
//! HUB_TEST_POSTGRES_URL is the URL of a role that may create databases, for example postgres://postgres@127.0.0.1/postgres.
//! Each test gets a database of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod accounts;
mod bed;
mod inbox;
mod journal;
mod keys;
mod lifecycle;
mod links;
mod outgoing;
mod reading;
mod reset;
mod retention;
mod sessions;
mod streams;
mod trouble;
