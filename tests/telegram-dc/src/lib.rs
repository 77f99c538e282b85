//! A loopback MTProto 2.0 server ("test DC") for tests: the real grammers client logs in, chats, and
//! recovers from everything that can go wrong against it. See the crate's README.

#![expect(clippy::disallowed_methods, reason = "it has a clock of its own, as Telegram has")]
#![expect(
    clippy::missing_errors_doc,
    reason = "what can go wrong is in the error, and a test prints it"
)]

mod actions;
mod api;
mod call;
mod clock;
mod control;
pub mod crypto;
mod faults;
mod journal;
pub mod key;
mod rpc;
mod server;
pub mod spec;
pub mod srp;
mod tl;
pub mod wire;
mod world;
mod writer;

pub use api::{Done, TelegramDc};
pub use faults::{Fault, FaultScript};
pub use journal::{LogFilter, Received};
pub use key::derive_auth_key;
pub use spec::*;
pub use tl::Refusal;
