//! What can be broken, besides scripted faults.

use serde::{Deserialize, Serialize};

/// Why a key is dead, and so how its calls are answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// `401 SESSION_REVOKED`: ended from another device.
    #[default]
    Revoked,
    /// `401 AUTH_KEY_UNREGISTERED`: not logged in.
    Unregistered,
    /// `401 SESSION_EXPIRED`.
    Expired,
    /// `401 USER_DEACTIVATED`.
    Deactivated,
    /// `406 AUTH_KEY_DUPLICATED`: the key was used from two places.
    Duplicated,
    /// Transport error -404: the DC has never heard of the key.
    Unknown,
}

/// Which kind of numbering gets a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// The next n events are stored but not pushed.
    Lose,
    /// pts (of the account or the channel) jumps by n with nothing behind it.
    Pts,
    /// An encrypted-chat event is stored n times but not pushed.
    Qts,
    /// seq jumps by n.
    Seq,
    /// The next n differences are answered "too long".
    TooLong,
}

/// A hole in the numbering of an account or a channel.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakeGap {
    /// The account ...
    #[serde(default)]
    pub account: Option<i64>,
    /// ... or the channel.
    #[serde(default)]
    pub channel: Option<i64>,
    /// Which numbering.
    pub kind: Gap,
    /// How many.
    pub count: u32,
}

/// Picks connections; empty = all.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnFilter {
    /// Only those with this key.
    pub key: Option<u32>,
    /// Only those of this account.
    pub account: Option<i64>,
    /// Only those to this DC.
    pub dc: Option<i32>,
}

/// Ends a login.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Revoke {
    /// The key ...
    pub key: Option<u32>,
    /// ... or every key of this account.
    pub account: Option<i64>,
    /// How its calls are answered from now on.
    pub kind: Revocation,
    /// Close its sockets too.
    pub drop: bool,
}
