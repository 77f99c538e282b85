//! What tests say to the DC: the settings it starts with, and the requests that create people, write
//! messages and break things. Every type is JSON on the control port and plain Rust in process.

mod config;
mod message;
mod people;
mod state;
mod trouble;

use serde::{Deserialize, Serialize};

pub use config::*;
pub use message::*;
pub use people::*;
pub use state::*;
pub use trouble::*;

/// A chat as both the Rust and the JSON side name it: `user:7`, `chat:7` or `channel:7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Peer {
    /// A private chat, named by the other person.
    User(i64),
    /// A basic group.
    Chat(i64),
    /// A channel or supergroup.
    Channel(i64),
}

impl From<Peer> for String {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::User(id) => format!("user:{id}"),
            Peer::Chat(id) => format!("chat:{id}"),
            Peer::Channel(id) => format!("channel:{id}"),
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from(*self))
    }
}

impl TryFrom<String> for Peer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not user:ID, chat:ID or channel:ID");
        let (kind, id) = text.split_once(':').ok_or_else(wrong)?;
        let id = id.parse().map_err(|_| wrong())?;
        match kind {
            "user" => Ok(Self::User(id)),
            "chat" => Ok(Self::Chat(id)),
            "channel" => Ok(Self::Channel(id)),
            _ => Err(wrong()),
        }
    }
}
