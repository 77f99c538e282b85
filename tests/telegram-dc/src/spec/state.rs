//! What the DC answers about itself.

use serde::{Deserialize, Serialize};

use super::{Peer, Revocation};

/// Where a message landed: one entry per account that got it, or one for a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The account; `None` in a channel.
    pub account: Option<i64>,
    /// The chat as that account sees it.
    pub peer: Peer,
    /// Its id there.
    pub id: i32,
    /// pts after it.
    pub pts: i32,
}

/// One stored message, for comparing with what the client has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Its id.
    pub id: i32,
    /// The chat.
    pub peer: Peer,
    /// Who wrote it.
    pub from: Option<i64>,
    /// Written by the account itself.
    pub out: bool,
    /// Seconds since 1970.
    pub date: i32,
    /// The text.
    pub text: String,
    /// Message replied to.
    pub reply_to: Option<i32>,
    /// Set if it was sent through the API by a client.
    pub random_id: Option<i64>,
    /// File id of its media.
    pub file: Option<i64>,
    /// Reactions: who, which emoji.
    pub reactions: Vec<(i64, String)>,
    /// Whether it was edited.
    pub edited: bool,
    /// Whether it is a service message.
    pub service: bool,
}

/// Everything countable, for tests to compare with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DcState {
    /// Accounts by id.
    pub accounts: Vec<AccountState>,
    /// Channels by id.
    pub channels: Vec<ChannelState>,
    /// Keys that were used.
    pub keys: Vec<KeyState>,
    /// Connections now.
    pub connections: usize,
    /// Fault scripts in force.
    pub faults: usize,
}

/// One account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountState {
    /// Its user id.
    pub id: i64,
    /// Its phone number.
    pub phone: String,
    /// pts now.
    pub pts: i32,
    /// qts now.
    pub qts: i32,
    /// seq now.
    pub seq: i32,
    /// Messages in its box.
    pub messages: usize,
    /// Keys it is logged in with.
    pub keys: Vec<u32>,
    /// Connections now.
    pub connections: usize,
}

/// One channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelState {
    /// Its id.
    pub id: i64,
    /// pts now.
    pub pts: i32,
    /// Messages in it.
    pub messages: usize,
}

/// One auth key on one DC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyState {
    /// The DC.
    pub dc: i32,
    /// Number in the chain.
    pub key: u32,
    /// Who is logged in.
    pub account: Option<i64>,
    /// Whether and how it is dead.
    pub dead: Option<Revocation>,
    /// Connections now.
    pub connections: u32,
    /// Most connections at once so far.
    pub peak: u32,
    /// What the client said it is.
    pub device: String,
}
