//! The actor system of the messaging hub: domain types, typed messages and the supervised tree.
//!
//! The crate knows actix. It knows no SQL, no HTTP and no platform by name: storage, platforms and encoding are the
//! traits of [`ports`], implemented by the binary crate and handed to [`tree::Tree::start`].

pub mod clock;
pub mod connection;
pub mod conversation;
pub mod domain;
pub mod ids;
pub mod journal;
pub mod leases;
pub mod login;
pub mod mailbox;
pub mod outbox;
pub mod ports;
pub mod scheduler;
pub mod session;
pub mod supervise;
pub mod tree;

pub use clock::Clock;
pub use ids::{
    AccountId, ConversationId, ExternalId, LoginId, MessageId, OutboxId, PlatformId, Seq, SessionId, UserId,
};
