//! One file per promise of docs/PROMISES.md, named after it: each tries to break it.

#[path = "../support/mod.rs"]
mod support;

mod p05_webhooks;
