//! The log of everything received, so that tests can count what a client really sent.

use std::collections::VecDeque;

use grammers_tl_types::{Deserializable, Identifiable, enums, functions as f};
use serde::{Deserialize, Serialize};

use crate::spec::Peer;

/// Bytes of text and message ids kept per entry.
const TEXT: usize = 16 << 10;
const IDS: usize = 100;

/// One call as it arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Counts up from 1 and never starts over.
    pub n: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The DC it came to.
    pub dc: i32,
    /// Number of the auth key.
    pub key: u32,
    /// Number of the connection.
    pub conn: u64,
    /// Who was logged in.
    pub account: Option<i64>,
    /// Method as in the schema.
    pub method: String,
    /// random_id of something sent.
    pub random_id: Option<i64>,
    /// The chat it is about.
    pub peer: Option<Peer>,
    /// The text sent, or the reaction.
    pub text: Option<String>,
    /// Message ids it is about.
    pub ids: Vec<i32>,
    /// `ok`, `420 FLOOD_WAIT_3`, `fault: ...`; empty while it is being worked on.
    pub outcome: String,
}

/// Picks entries of the log; empty = everything.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogFilter {
    /// Only this method.
    pub method: Option<String>,
    /// Only this account.
    pub account: Option<i64>,
    /// Only this key.
    pub key: Option<u32>,
    /// Only this random_id.
    pub random_id: Option<i64>,
    /// Only entries after this number.
    pub after: u64,
}

impl LogFilter {
    /// Calls of one method.
    pub fn method(method: &str) -> Self {
        Self {
            method: Some(method.into()),
            ..Self::default()
        }
    }
}

/// What a call is about.
#[derive(Debug, Default)]
pub(crate) struct About {
    pub random_id: Option<i64>,
    pub peer: Option<Peer>,
    pub text: Option<String>,
    pub ids: Vec<i32>,
}

#[derive(Debug)]
pub(crate) struct Journal {
    cap: usize,
    count: u64,
    entries: VecDeque<Received>,
}

impl Journal {
    pub fn new(cap: usize) -> Self {
        Self {
            cap,
            count: 0,
            entries: VecDeque::new(),
        }
    }

    pub fn add(&mut self, mut entry: Received) -> u64 {
        self.count += 1;
        entry.ids.truncate(IDS);
        if let Some(text) = entry.text.as_mut().filter(|text| text.len() > TEXT) {
            *text = text.chars().take(TEXT / 4).collect();
        }
        entry.n = self.count;
        entry.at_ms = u64::try_from(crate::clock::since_1970().as_millis()).unwrap_or(u64::MAX);
        self.entries.push_back(entry);
        while self.entries.len() > self.cap {
            self.entries.pop_front();
        }
        self.count
    }

    pub fn finish(&mut self, n: u64, outcome: String) {
        let first = self.entries.front().map_or(0, |entry| entry.n);
        let index = n.checked_sub(first).and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
            entry.outcome = outcome;
        }
    }

    pub fn list(&self, filter: &LogFilter) -> Vec<Received> {
        self.entries
            .iter()
            .filter(|entry| {
                entry.n > filter.after
                    && filter.method.as_ref().is_none_or(|method| *method == entry.method)
                    && filter.account.is_none_or(|account| Some(account) == entry.account)
                    && filter.key.is_none_or(|key| key == entry.key)
                    && filter.random_id.is_none_or(|id| Some(id) == entry.random_id)
            })
            .cloned()
            .collect()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

fn peer_of(peer: &enums::InputPeer, me: Option<i64>) -> Option<Peer> {
    Some(match peer {
        enums::InputPeer::Empty => return None,
        enums::InputPeer::PeerSelf => Peer::User(me?),
        enums::InputPeer::Chat(chat) => Peer::Chat(chat.chat_id),
        enums::InputPeer::User(user) => Peer::User(user.user_id),
        enums::InputPeer::Channel(channel) => Peer::Channel(channel.channel_id),
        enums::InputPeer::UserFromMessage(user) => Peer::User(user.user_id),
        enums::InputPeer::ChannelFromMessage(channel) => Peer::Channel(channel.channel_id),
    })
}

fn channel_of(channel: &enums::InputChannel) -> Option<Peer> {
    match channel {
        enums::InputChannel::Empty => None,
        enums::InputChannel::Channel(channel) => Some(Peer::Channel(channel.channel_id)),
        enums::InputChannel::FromMessage(channel) => Some(Peer::Channel(channel.channel_id)),
    }
}

fn read<T: Deserializable + Identifiable>(id: u32, body: &[u8]) -> Option<T> {
    if id == T::CONSTRUCTOR_ID {
        T::from_bytes(body).ok()
    } else {
        None
    }
}

/// Looks into a call without doing it. `body` is what follows the constructor id.
pub(crate) fn about(id: u32, body: &[u8], me: Option<i64>) -> About {
    let mut about = About::default();
    if let Some(call) = read::<f::messages::SendMessage>(id, body) {
        about.random_id = Some(call.random_id);
        about.peer = peer_of(&call.peer, me);
        about.text = Some(call.message);
    } else if let Some(call) = read::<f::messages::SendMedia>(id, body) {
        about.random_id = Some(call.random_id);
        about.peer = peer_of(&call.peer, me);
        about.text = Some(call.message);
    } else if let Some(call) = read::<f::messages::EditMessage>(id, body) {
        about.peer = peer_of(&call.peer, me);
        about.text = call.message;
        about.ids = vec![call.id];
    } else if let Some(call) = read::<f::messages::DeleteMessages>(id, body) {
        about.ids = call.id;
    } else if let Some(call) = read::<f::channels::DeleteMessages>(id, body) {
        about.peer = channel_of(&call.channel);
        about.ids = call.id;
    } else if let Some(call) = read::<f::messages::ForwardMessages>(id, body) {
        about.random_id = call.random_id.first().copied();
        about.peer = peer_of(&call.to_peer, me);
        about.ids = call.id;
    } else if let Some(call) = read::<f::messages::SendReaction>(id, body) {
        about.peer = peer_of(&call.peer, me);
        about.ids = vec![call.msg_id];
        about.text = call.reaction.unwrap_or_default().into_iter().find_map(|r| match r {
            enums::Reaction::Emoji(emoji) => Some(emoji.emoticon),
            _ => None,
        });
    } else if let Some(call) = read::<f::messages::ReadHistory>(id, body) {
        about.peer = peer_of(&call.peer, me);
        about.ids = vec![call.max_id];
    } else if let Some(call) = read::<f::channels::ReadHistory>(id, body) {
        about.peer = channel_of(&call.channel);
        about.ids = vec![call.max_id];
    } else if let Some(call) = read::<f::messages::SetTyping>(id, body) {
        about.peer = peer_of(&call.peer, me);
    } else if let Some(call) = read::<f::messages::GetHistory>(id, body) {
        about.peer = peer_of(&call.peer, me);
    } else if let Some(call) = read::<f::updates::GetChannelDifference>(id, body) {
        about.peer = channel_of(&call.channel);
    } else if let Some(call) = read::<f::auth::SendCode>(id, body) {
        about.text = Some(call.phone_number);
    }
    about
}
