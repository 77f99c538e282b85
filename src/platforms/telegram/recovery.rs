//! What the reader does where differences do not help: it reads the chats themselves.

use std::sync::Arc;

use grammers_session::types::PeerId;
use hub_actors::ports::LinkEnd;

use super::heard::{self, Heard};
use super::history::{self, HistoryError, PAGE, Window};
use super::map::Origin;
use super::peers;
use super::taker::Batch;
use super::updates::Reader;

/// Mailboxes compared in one call.
const COMPARED: usize = 50;

impl Reader {
    /// The absence was too long for a difference: what was missed is in the chats.
    pub(super) async fn recover(&mut self) -> Result<(), LinkEnd> {
        tracing::info!("Telegram keeps no difference for so long an absence; the chats are read instead");
        let top = self.cursors.common.top;
        let mut chats = history::Chats::new(Arc::clone(&self.line));
        while let Some(heads) = chats.next().await.map_err(|error| error.link_end())? {
            for head in heads {
                if !peers::is_channel(head.id) && head.top > top {
                    self.fetch_missed(head.id, top).await?;
                }
            }
        }
        Ok(())
    }

    /// Reads the messages of a chat after `after`; without a place to begin with, the newest ones.
    pub(super) async fn fetch_missed(&mut self, dialog: PeerId, mut after: i32) -> Result<(), LinkEnd> {
        loop {
            let window = if after > 0 {
                Window::After(after)
            } else {
                Window::Newest
            };
            let messages = match history::page(&self.line, dialog, window, PAGE).await {
                Ok(messages) => messages,
                Err(HistoryError::Call(error)) if error.rpc().is_none_or(|error| error.code != 400) => {
                    return Err(error.link_end());
                }
                Err(error) => {
                    tracing::warn!(%dialog, %error, "what was missed in a chat cannot be read");
                    return Ok(());
                }
            };
            let last = messages
                .iter()
                .filter_map(|message| Some(heard::address(message)?.1))
                .max();
            let Some(last) = last.filter(|last| *last > after) else {
                return Ok(());
            };
            let channel = dialog.bare_id().filter(|_| peers::is_channel(dialog));
            self.cursors.handed_over(channel, last, &mut Vec::new());
            let events = messages
                .iter()
                .flat_map(|message| self.mapper.message(message, Origin::News));
            let heard = events.map(|event| Heard::Event(Box::new(event))).collect();
            let remember = self.line.session().take_news();
            self.hand_over(Batch { heard, remember }).await;
            if after == 0 {
                return Ok(());
            }
            after = last;
        }
    }

    /// A channel that was joined while nobody listened.
    pub(super) async fn meet(&mut self, channel: i64) -> Result<(), LinkEnd> {
        let Some(dialog) = peers::channel(channel) else {
            return Ok(());
        };
        if self.cursors.channels.contains_key(&channel) || peers::input(self.line.session(), dialog).is_none() {
            return Ok(());
        }
        let heads = match history::heads_of(&self.line, &[dialog]).await {
            Ok(heads) => heads,
            Err(error) if error.rpc().is_some_and(|error| error.code == 400) => return Ok(()),
            Err(error) => return Err(error.link_end()),
        };
        if let Some((head, pts)) = heads.first().and_then(|head| Some((head, head.pts?))) {
            self.fetch_missed(head.id, 0).await?;
            self.boxes.try_set_channel_state(channel, pts);
            self.pass(Vec::new(), &[], &[]).await?;
        }
        Ok(())
    }

    /// Asks where the channels' mailboxes stand, many in one call, and for the difference of those that have moved.
    pub(super) async fn compare_channels(&mut self) -> Result<(), LinkEnd> {
        let dialogs: Vec<PeerId> = self
            .cursors
            .channels
            .keys()
            .filter_map(|id| peers::channel(*id))
            .collect();
        for dialogs in dialogs.chunks(COMPARED) {
            match history::heads_of(&self.line, dialogs).await {
                Ok(heads) => {
                    for head in heads {
                        let channel = head.id.bare_id();
                        if channel.is_some() && head.pts.is_some_and(|pts| pts > self.reached(channel)) {
                            self.suspect(channel);
                        }
                    }
                }
                // One that cannot be read spoils the answer about all: each is asked about by itself.
                Err(error) if error.rpc().is_some_and(|error| error.code < 420) && error.terminal().is_none() => {
                    dialogs.iter().for_each(|dialog| self.suspect(dialog.bare_id()));
                }
                Err(error) => return Err(error.link_end()),
            }
        }
        Ok(())
    }
}
