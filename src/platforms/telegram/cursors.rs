//! How far the account's mailboxes have been read, as it is remembered with the messages themselves.
//!
//! The account has one mailbox for private chats and basic groups, and each channel has its own. Each numbers its
//! events with a growing `pts`. See <https://core.telegram.org/api/updates>.

use std::collections::HashMap;

use grammers_session::types::{ChannelState, UpdatesState};
use hub_actors::domain::Remember;
use hub_actors::ports::LinkMemory;
use serde::{Deserialize, Serialize};

/// The name of the account's own cursor.
const COMMON: &str = "cursor/common";
/// What the names of channels' cursors begin with; the channel's own number follows.
const CHANNEL: &str = "cursor/channel/";

/// The account's own cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Common {
    pub(super) pts: i32,
    pub(super) qts: i32,
    pub(super) date: i32,
    pub(super) seq: i32,
    /// The newest message handed over.
    #[serde(default)]
    pub(super) top: i32,
}

/// A channel's cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Channel {
    pub(super) pts: i32,
    /// The newest message handed over.
    #[serde(default)]
    pub(super) top: i32,
}

/// All cursors of an account, as they were last handed over to be remembered.
#[derive(Default)]
pub(super) struct Cursors {
    pub(super) common: Common,
    pub(super) channels: HashMap<i64, Channel>,
}

impl Cursors {
    /// The remembered cursors; those that cannot be read are as if they had never been.
    pub(super) fn load(memory: &LinkMemory) -> Self {
        let common = memory.get(COMMON).and_then(|bytes| read(bytes));
        let channels = memory.range(CHANNEL.to_owned()..).map_while(|(name, bytes)| {
            let id = name.strip_prefix(CHANNEL)?;
            Some(id.parse().ok().zip(read(bytes)))
        });
        Self {
            common: common.unwrap_or_default(),
            channels: channels.flatten().collect(),
        }
    }

    /// What grammers is told; none when nothing has been read yet.
    pub(super) fn state(&self) -> Option<UpdatesState> {
        let Common {
            pts, qts, date, seq, ..
        } = self.common;
        (pts > 0).then(|| UpdatesState {
            pts,
            qts,
            date,
            seq,
            channels: self
                .channels
                .iter()
                .map(|(id, channel)| ChannelState {
                    id: *id,
                    pts: channel.pts,
                })
                .collect(),
        })
    }

    /// A message was handed over.
    pub(super) fn handed_over(&mut self, channel: Option<i64>, message: i32, tops: &mut Vec<i64>) {
        match channel {
            None => self.common.top = self.common.top.max(message),
            Some(id) => {
                let channel = self.channels.entry(id).or_default();
                if message > channel.top {
                    channel.top = message;
                    tops.push(id);
                }
            }
        }
    }

    /// Moves to what has been read, and tells what is to be remembered. `tops` names channels with a new top message.
    pub(super) fn advance(&mut self, state: &UpdatesState, before: Common, tops: &[i64]) -> Remember {
        let mut changes = Remember::new();
        self.common = Common {
            pts: state.pts,
            qts: state.qts,
            date: state.date,
            seq: state.seq,
            top: self.common.top,
        };
        if self.common != before {
            changes.extend(written(COMMON.to_owned(), &self.common));
        }
        for ChannelState { id, pts } in &state.channels {
            let channel = self.channels.entry(*id).or_default();
            let moved = channel.pts != *pts;
            channel.pts = *pts;
            if moved || tops.contains(id) {
                changes.extend(written(format!("{CHANNEL}{id}"), channel));
            }
        }
        changes
    }

    /// A channel that the account cannot read any more.
    pub(super) fn forget(&mut self, channel: i64) -> Remember {
        self.channels.remove(&channel);
        vec![(format!("{CHANNEL}{channel}"), None)]
    }
}

fn read<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Option<T> {
    match serde_json::from_slice(bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(%error, "a remembered cursor cannot be read");
            None
        }
    }
}

fn written<T: Serialize>(name: String, value: &T) -> Option<(String, Option<Vec<u8>>)> {
    Some((name, Some(serde_json::to_vec(value).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(memory: &mut LinkMemory, changes: Remember) {
        for (name, value) in changes {
            match value {
                Some(value) => drop(memory.insert(name, value)),
                None => drop(memory.remove(&name)),
            }
        }
    }

    #[test]
    fn cursors_come_back_and_only_changes_are_told() {
        let mut memory = LinkMemory::new();
        let mut cursors = Cursors::load(&memory);
        assert_eq!(cursors.state(), None);
        let before = cursors.common;
        let mut tops = Vec::new();
        cursors.handed_over(None, 9, &mut tops);
        cursors.handed_over(Some(5), 3, &mut tops);
        let state = UpdatesState {
            pts: 10,
            qts: 1,
            date: 100,
            seq: 2,
            channels: vec![ChannelState { id: 5, pts: 7 }, ChannelState { id: 6, pts: 8 }],
        };
        apply(&mut memory, cursors.advance(&state, before, &tops));
        assert_eq!(memory.len(), 3);
        let before = cursors.common;
        assert_eq!(cursors.advance(&state, before, &[]), Remember::new());
        let mut again = Cursors::load(&memory);
        assert_eq!(
            again.common,
            Common {
                pts: 10,
                qts: 1,
                date: 100,
                seq: 2,
                top: 9
            }
        );
        assert_eq!(again.channels[&5], Channel { pts: 7, top: 3 });
        assert_eq!(again.channels[&6], Channel { pts: 8, top: 0 });
        apply(&mut memory, again.forget(5));
        assert_eq!(Cursors::load(&memory).channels.len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_as_if_it_had_never_been() {
        let memory = LinkMemory::from([
            (COMMON.to_owned(), b"?".to_vec()),
            (format!("{CHANNEL}x"), b"{}".to_vec()),
            (format!("{CHANNEL}7"), b"{\"pts\":3}".to_vec()),
        ]);
        let cursors = Cursors::load(&memory);
        assert_eq!((cursors.state(), cursors.channels.len()), (None, 1));
    }
}
