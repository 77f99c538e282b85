//! TL objects made from their required fields only.
//!
//! `required!(Type; a, b, c)` writes the required fields in schema order (every `flags:#` word is a
//! plain `0_i32`), reads them back as `Type` with every optional field empty, and lets the caller set
//! the optional ones by name. A new layer that adds optional fields then changes nothing here; one that
//! adds a required field fails loudly at the first use, in the crate's own tests.

use grammers_tl_types::{self as tl, enums};

/// An RPC error as the client sees it, for example `420 FLOOD_WAIT_3`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} {name}")]
pub struct Refusal {
    /// The error code: 303, 400, 401, 403, 406, 420 or 500.
    pub code: i32,
    /// The error text, with its number appended where Telegram does so.
    pub name: String,
}

impl Refusal {
    /// An error with this code and text.
    pub fn new(code: i32, name: impl Into<String>) -> Self {
        Self {
            code,
            name: name.into(),
        }
    }
}

/// `400 name`.
pub(crate) fn bad<T>(name: &str) -> Result<T, Refusal> {
    Err(Refusal::new(400, name))
}

/// The answer of anything that can be refused.
pub(crate) type Rpc<T> = Result<T, Refusal>;

macro_rules! required {
    ($kind:ty; $($field:expr),* $(,)?) => {{
        let mut bytes: Vec<u8> = Vec::new();
        $( ::grammers_tl_types::Serializable::serialize(&$field, &mut bytes); )*
        <$kind as ::grammers_tl_types::Deserializable>::from_bytes(&bytes)
            .map_err(|_| $crate::tl::Refusal::new(500, concat!("TL_", stringify!($kind))))
    }};
}
pub(crate) use required;

/// `peerUser`.
pub(crate) fn peer_user(user_id: i64) -> enums::Peer {
    tl::types::PeerUser { user_id }.into()
}

/// `peerChat`.
pub(crate) fn peer_chat(chat_id: i64) -> enums::Peer {
    tl::types::PeerChat { chat_id }.into()
}

/// `peerChannel`.
pub(crate) fn peer_channel(channel_id: i64) -> enums::Peer {
    tl::types::PeerChannel { channel_id }.into()
}

/// Notification settings with nothing set.
pub(crate) fn notify_settings() -> Rpc<enums::PeerNotifySettings> {
    Ok(required!(tl::types::PeerNotifySettings; 0_i32)?.into())
}

pub(crate) use crate::clock::now;
