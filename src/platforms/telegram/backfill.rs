//! Fetches what there was before the account was linked: first the list of chats, then the newest messages of each.
//!
//! It remembers which chats are done, in the transaction that stores their messages, so it goes on after a restart.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grammers_session::types::PeerId;
use hub_actors::clock;
use hub_actors::domain::{InboundKind, Remember};
use hub_actors::ports::{FeedError, LinkBatch, LinkMemory, LinkState};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::history::{self, Chats, Head, HistoryError, PAGE, Window};
use super::line::Line;
use super::map::{Mapper, Origin};
use super::peers;
use super::updates::{Order, Status};

/// The name under which a link remembers how far this has come.
const PROGRESS: &str = "backfill";
/// What the names of chats that are done begin with; the dialog id follows.
const CHAT: &str = "backfill/";
/// How often the person is told how it goes on.
const TELL: Duration = Duration::from_secs(1);
/// Calls that may be made without a pause in between, and the pause after that.
const BURST: u32 = 150;
const PAUSE: Duration = Duration::from_millis(400);
/// The pause within the burst.
const BREATH: Duration = Duration::from_millis(20);

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// When the account was linked, in Telegram's seconds since 1970. Later messages of private chats and basic groups
    /// come as updates, and are news.
    pub(super) since: i32,
    /// Whether every chat has been seen to once.
    pub(super) is_done: bool,
}

impl Progress {
    /// What is remembered; none when it never began.
    pub(super) fn load(memory: &LinkMemory) -> Option<Self> {
        serde_json::from_slice(memory.get(PROGRESS)?).ok()
    }

    /// Itself, to be remembered.
    pub(super) fn remembered(self) -> Remember {
        let bytes = serde_json::to_vec(&self).ok();
        bytes
            .map(|bytes| (PROGRESS.to_owned(), Some(bytes)))
            .into_iter()
            .collect()
    }
}

/// The chats that are done.
pub(super) fn done(memory: &LinkMemory) -> HashSet<i64> {
    let names = memory
        .range(CHAT.to_owned()..)
        .map_while(|(name, _)| name.strip_prefix(CHAT));
    names.filter_map(|id| id.parse().ok()).collect()
}

/// The work of one link.
pub(super) struct Backfill {
    pub(super) line: Arc<Line>,
    pub(super) mapper: Arc<Mapper>,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) status: Arc<Status>,
    pub(super) progress: Progress,
    pub(super) done: HashSet<i64>,
    pub(super) calls: u32,
}

impl Backfill {
    /// Runs to the end, which is only an error when the hub takes nothing any more.
    pub(super) async fn run(mut self) -> Result<(), FeedError> {
        // Later, the list of chats only shows whether there are new ones.
        if self.progress.is_done {
            self.status.listed();
        }
        let (heads, is_whole) = self.list().await?;
        self.status.listed();
        let mut failed = 0;
        for head in heads {
            match self.chat(&head).await {
                Ok(()) => {}
                Err(Stop::Feed(error)) => return Err(error),
                Err(Stop::Call) => failed += 1,
            }
        }
        if is_whole && failed == 0 && !self.progress.is_done {
            self.progress.is_done = true;
            self.line.feed.remember(self.progress.remembered()).await?;
        }
        Ok(())
    }

    /// Lists the chats that are not done: their names, and where the channels' mailboxes stand. True when it got to the
    /// end.
    async fn list(&mut self) -> Result<(Vec<Head>, bool), FeedError> {
        let mut chats = Chats::new(Arc::clone(&self.line));
        let (mut found, mut seen) = (Vec::new(), 0);
        let mut told_at: Option<Instant> = None;
        loop {
            self.pace().await;
            let heads = match chats.next().await {
                Ok(Some(heads)) => heads,
                Ok(None) => return Ok((found, true)),
                Err(error) => {
                    tracing::warn!(%error, "the list of chats cannot be read to its end");
                    return Ok((found, false));
                }
            };
            seen += heads.len();
            let channels = heads.iter().filter_map(|head| Some((channel(head.id)?, head.pts?)));
            // The reader has ended only if the link has.
            drop(self.orders.send(Order::Channels(channels.collect())).await);
            let is_new = |head: &&Head| head.id.bot_api_dialog_id().is_some_and(|id| !self.done.contains(&id));
            let new: Vec<Head> = heads.iter().filter(is_new).copied().collect();
            let events = new.iter().map(|head| self.mapper.event(head.id, InboundKind::Profile));
            let batch = LinkBatch {
                events: events.collect(),
                remember: self.line.session().take_news(),
            };
            self.line.feed.take(batch).await?;
            let has_new = !new.is_empty();
            found.extend(new);
            if self.progress.is_done && !has_new {
                return Ok((found, true));
            }
            let is_quiet = told_at.is_some_and(|at| at.elapsed() < TELL);
            if !self.progress.is_done && !is_quiet {
                told_at = Some(clock::instant());
                let progress = Some(format!("{seen} of {} chats", chats.total.max(seen)));
                self.line.feed.state(LinkState::CatchingUp { progress });
            }
        }
    }

    /// Fetches the newest messages of a chat.
    async fn chat(&mut self, head: &Head) -> Result<(), Stop> {
        self.pace().await;
        let messages = match history::page(&self.line, head.id, Window::Newest, PAGE).await {
            Ok(messages) => messages,
            Err(HistoryError::Call(error)) if error.rpc().is_none_or(|error| !(400..420).contains(&error.code)) => {
                tracing::warn!(%error, "the messages of a chat cannot be fetched now");
                return Err(Stop::Call);
            }
            // It cannot be read, now or ever.
            Err(error) => {
                tracing::info!(%error, "the messages of a chat cannot be fetched");
                Vec::new()
            }
        };
        let is_past = |message: &&_| {
            peers::is_channel(head.id) || history::date(message).is_none_or(|date| date <= self.progress.since)
        };
        let origin = Origin::History {
            read_up_to: head.read_up_to,
        };
        let past = messages.iter().filter(is_past);
        let events = past.flat_map(|message| self.mapper.message(message, origin)).collect();
        let mut remember = self.line.session().take_news();
        if let Some(id) = head.id.bot_api_dialog_id() {
            remember.push((format!("{CHAT}{id}"), Some(b"1".to_vec())));
        }
        self.line
            .feed
            .take(LinkBatch { events, remember })
            .await
            .map_err(Stop::Feed)
    }

    /// Many calls without a pause would make Telegram ask for a long one.
    async fn pace(&mut self) {
        self.calls = self.calls.saturating_add(1);
        tokio::time::sleep(if self.calls > BURST { PAUSE } else { BREATH }).await;
    }
}

/// Why a chat is not done.
enum Stop {
    Feed(FeedError),
    Call,
}

fn channel(id: PeerId) -> Option<i64> {
    id.bare_id().filter(|_| peers::is_channel(id))
}
