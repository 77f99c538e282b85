//! Reads what Telegram pushes, closes the gaps, and catches up after an absence.
//!
//! grammers orders the updates, but it forgets some gaps, never asks about channels after a reconnect, and passes over
//! what was missed when an absence was too long. All of that is mended here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use grammers_session::types::PeerId;
use grammers_session::updates::{MessageBoxes, PrematureEndReason, UpdatesLike};
use grammers_tl_types::enums::updates::{ChannelDifference, Difference};
use grammers_tl_types::enums::{self, Update};
use grammers_tl_types::{self as tl};
use hub_actors::clock;
use hub_actors::ports::{LinkEnd, LinkFeed, LinkState};
use tokio::sync::mpsc;

use super::cursors::Cursors;
use super::errors::CallError;
use super::heard::{self, Place};
use super::history::PAGE;
use super::line::Line;
use super::map::Mapper;
use super::peers;
use super::taker::Batch;

/// How long an update that does not fit may wait for what lies before it. grammers asks after half a second.
const DOUBT: Duration = Duration::from_millis(800);
/// How long after trouble of Telegram's own a channel is asked about again.
const AGAIN: Duration = Duration::from_secs(30);
/// How often the channels' mailboxes are compared with Telegram's.
const CHANNELS: Duration = Duration::from_secs(300);

/// Tells the reader what others have found out.
#[derive(Debug)]
pub(super) enum Order {
    /// Where the account's mailbox stands, as Telegram says.
    Compare { pts: i32, qts: i32 },
    /// Channels of the list of chats, and where their mailboxes stand.
    Channels(Vec<(i64, i32)>),
    /// Look everywhere for what is new.
    Refresh,
}

/// Tells the person that the link is live, once what was missed is here and the chats are known.
pub(super) struct Status {
    pub(super) feed: Arc<dyn LinkFeed>,
    pub(super) is_caught_up: AtomicBool,
    pub(super) is_listed: AtomicBool,
    pub(super) is_told: AtomicBool,
}

impl Status {
    pub(super) fn caught_up(&self) {
        self.is_caught_up.store(true, Ordering::SeqCst);
        self.tell();
    }

    pub(super) fn listed(&self) {
        self.is_listed.store(true, Ordering::SeqCst);
        self.tell();
    }

    fn tell(&self) {
        let is_live = self.is_caught_up.load(Ordering::SeqCst) && self.is_listed.load(Ordering::SeqCst);
        if is_live && !self.is_told.swap(true, Ordering::SeqCst) {
            self.feed.state(LinkState::Live);
        }
    }
}

/// The one reader of an account's updates.
pub(super) struct Reader {
    pub(super) line: Arc<Line>,
    pub(super) mapper: Arc<Mapper>,
    pub(super) boxes: MessageBoxes,
    pub(super) cursors: Cursors,
    pub(super) pushed: mpsc::Receiver<UpdatesLike>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) batches: mpsc::Sender<Batch>,
    pub(super) status: Arc<Status>,
    /// Mailboxes with an update that did not fit: how far they must get, and by when.
    pub(super) doubts: HashMap<Option<i64>, (i32, Instant)>,
    pub(super) channels_due: Instant,
    /// Channels that Telegram spoke of and that are not known yet.
    pub(super) strangers: Vec<i64>,
}

impl Reader {
    /// Runs until the link has to end.
    pub(super) async fn run(mut self) -> LinkEnd {
        loop {
            if let Err(end) = self.turn().await {
                return end;
            }
        }
    }

    async fn turn(&mut self) -> Result<(), LinkEnd> {
        self.fill().await?;
        self.status.caught_up();
        let wake = self.wake_at();
        tokio::select! {
            pushed = self.pushed.recv() => match pushed {
                Some(updates) => self.hear(updates).await,
                None => Err(lost("The connections to Telegram have ended.")),
            },
            Some(order) = self.orders.recv() => self.obey(order).await,
            () = tokio::time::sleep_until(wake.into()) => Ok(()),
        }
    }

    fn wake_at(&mut self) -> Instant {
        let doubts = self.doubts.values().map(|(_, by)| *by);
        let wake = doubts.chain([self.boxes.check_deadlines()]).min();
        wake.map_or(self.channels_due, |wake| wake.min(self.channels_due))
    }

    async fn hear(&mut self, mut updates: UpdatesLike) -> Result<(), LinkEnd> {
        if matches!(updates, UpdatesLike::ConnectionClosed) {
            self.channels_due = clock::instant();
        }
        if self.is_from_stranger(&updates) {
            // The difference tells who it is.
            updates = UpdatesLike::MalformedUpdates;
        }
        let mut places = Vec::new();
        if let Some(list) = list(&mut updates) {
            self.hints(list);
            places.extend(list.iter().filter_map(heard::place));
        }
        if let Ok((updates, users, chats)) = self.boxes.process_updates(updates) {
            let updates = updates.into_iter().map(|(update, _)| update).collect();
            self.pass(updates, &users, &chats).await?;
        }
        self.doubt(&places);
        Ok(())
    }

    /// A shortened message names people only by number, who may never have been seen.
    fn is_from_stranger(&self, updates: &UpdatesLike) -> bool {
        let user = match updates {
            UpdatesLike::Updates(enums::Updates::UpdateShortMessage(short)) => short.user_id,
            UpdatesLike::Updates(enums::Updates::UpdateShortChatMessage(short)) => short.from_id,
            _ => return false,
        };
        let session = self.line.session();
        let known = PeerId::user(user).and_then(|id| session.known(id));
        known.is_none_or(|known| known.info.auth().is_none()) && session.self_id() != Some(user)
    }

    /// grammers takes the number in such a hint for its own and never fetches what lies before it; and it does nothing
    /// about channels that it does not know.
    fn hints(&mut self, updates: &mut [Update]) {
        for update in updates {
            if let Update::ChannelTooLong(hint) = update {
                hint.pts = None;
                if !self.cursors.channels.contains_key(&hint.channel_id) {
                    self.strangers.push(hint.channel_id);
                }
            }
        }
    }

    /// Remembers updates that were held back because something is missing before them.
    fn doubt(&mut self, places: &[Place]) {
        for Place { channel, pts } in places {
            if self.reached(*channel) < *pts {
                let by = clock::instant() + DOUBT;
                let doubt = self.doubts.entry(*channel).or_insert((*pts, by));
                doubt.0 = doubt.0.max(*pts);
            }
        }
    }

    pub(super) fn reached(&self, channel: Option<i64>) -> i32 {
        match channel {
            None => self.cursors.common.pts,
            Some(id) => self.cursors.channels.get(&id).map_or(i32::MAX, |channel| channel.pts),
        }
    }

    fn settle_doubts(&mut self) {
        let now = clock::instant();
        let due: Vec<_> = self
            .doubts
            .iter()
            .filter(|(_, (_, by))| *by <= now)
            .map(|(key, _)| *key)
            .collect();
        for channel in due {
            if let Some((pts, _)) = self.doubts.remove(&channel)
                && self.reached(channel) < pts
            {
                self.suspect(channel);
            }
        }
    }

    /// Makes grammers ask for the difference of a mailbox.
    pub(super) fn suspect(&mut self, channel: Option<i64>) {
        let hint = match channel {
            None => UpdatesLike::ConnectionClosed,
            Some(channel_id) => {
                let update = tl::types::UpdateChannelTooLong { channel_id, pts: None }.into();
                UpdatesLike::Updates(tl::types::UpdateShort { update, date: 0 }.into())
            }
        };
        // What it answers is that there is a gap.
        drop(self.boxes.process_updates(hint));
    }

    async fn obey(&mut self, order: Order) -> Result<(), LinkEnd> {
        match order {
            Order::Compare { pts, qts } => {
                let common = self.cursors.common;
                // Secret chats are no chats of the hub, but their numbers are to be kept up with.
                let wanted = if qts > common.qts { i32::MAX } else { pts };
                if wanted > common.pts {
                    // It may be on its way: only what does not come by then is missing.
                    let by = clock::instant() + DOUBT;
                    self.doubts.entry(None).or_insert((wanted, by));
                }
            }
            Order::Channels(channels) => {
                for (id, pts) in channels {
                    self.boxes.try_set_channel_state(id, pts);
                }
                self.pass(Vec::new(), &[], &[]).await?;
            }
            Order::Refresh => {
                self.suspect(None);
                self.channels_due = clock::instant();
            }
        }
        Ok(())
    }

    /// Asks for differences until nothing is missing that is known to be missing.
    async fn fill(&mut self) -> Result<(), LinkEnd> {
        loop {
            self.settle_doubts();
            self.boxes.check_deadlines();
            if let Some(request) = self.boxes.get_difference() {
                let mut difference = self.line.ask(&request).await.map_err(|error| error.link_end())?;
                match &mut difference {
                    Difference::Difference(found) => self.hints(&mut found.other_updates),
                    Difference::Slice(found) => self.hints(&mut found.other_updates),
                    Difference::TooLong(_) => self.recover().await?,
                    Difference::Empty(_) => {}
                }
                let (updates, users, chats) = self.boxes.apply_difference(difference);
                self.pass_difference(updates, &users, &chats).await?;
            } else if let Some(request) = self.boxes.get_channel_difference() {
                self.fill_channel(request).await?;
            } else if let Some(channel) = self.strangers.pop() {
                self.meet(channel).await?;
            } else if self.channels_due <= clock::instant() {
                self.channels_due = clock::instant() + CHANNELS;
                self.compare_channels().await?;
            } else {
                return Ok(());
            }
        }
    }

    async fn fill_channel(&mut self, mut request: tl::functions::updates::GetChannelDifference) -> Result<(), LinkEnd> {
        let enums::InputChannel::Channel(channel) = &request.channel else {
            return Err(lost("A channel without a number."));
        };
        let id = channel.channel_id;
        let address = peers::channel(id).and_then(|id| peers::input_channel(self.line.session(), id));
        let Some(address) = address else {
            tracing::warn!(
                channel = id,
                "a channel cannot be asked about because its access hash is not known"
            );
            self.boxes
                .end_channel_difference(PrematureEndReason::TemporaryServerIssues);
            return Ok(());
        };
        request.channel = address;
        request.limit = PAGE;
        match self.line.ask(&request).await {
            Ok(ChannelDifference::TooLong(long)) => {
                let enums::Dialog::Dialog(dialog) = &long.dialog else {
                    self.postpone(id);
                    return Ok(());
                };
                if dialog.pts.is_none() {
                    self.postpone(id);
                    return Ok(());
                }
                peers::learn(self.line.session(), &long.users, &long.chats);
                let top = self.cursors.channels.get(&id).map_or(0, |channel| channel.top);
                if let Some(dialog) = peers::channel(id) {
                    self.fetch_missed(dialog, top).await?;
                }
                let (updates, users, chats) = self.boxes.apply_channel_difference(ChannelDifference::TooLong(long));
                self.pass_difference(updates, &users, &chats).await
            }
            Ok(difference) => {
                let (updates, users, chats) = self.boxes.apply_channel_difference(difference);
                self.pass_difference(updates, &users, &chats).await
            }
            Err(error) => self.channel_failed(id, &error).await,
        }
    }

    async fn channel_failed(&mut self, id: i64, error: &CallError) -> Result<(), LinkEnd> {
        let code = error.rpc().map(|error| error.code);
        let is_busy = error.is("PERSISTENT_TIMESTAMP_OUTDATED") || code.is_some_and(|code| !(0..500).contains(&code));
        if error.terminal().is_some() || code.is_none() || error.flood_wait().is_some() {
            return Err(error.link_end());
        }
        if is_busy {
            self.postpone(id);
            return Ok(());
        }
        tracing::info!(channel = id, %error, "a channel cannot be read any more");
        self.boxes.end_channel_difference(PrematureEndReason::Banned);
        let remember = self.cursors.forget(id);
        self.hand_over(Batch {
            heard: Vec::new(),
            remember,
        })
        .await;
        Ok(())
    }

    /// Telegram has trouble of its own with this channel.
    fn postpone(&mut self, id: i64) {
        self.boxes
            .end_channel_difference(PrematureEndReason::TemporaryServerIssues);
        self.doubts.insert(Some(id), (i32::MAX, clock::instant() + AGAIN));
    }

    /// Differences tell of new messages last; a read mark or an edit makes more sense after its message.
    async fn pass_difference(
        &mut self,
        updates: Vec<(Update, grammers_session::updates::State)>,
        users: &[enums::User],
        chats: &[enums::Chat],
    ) -> Result<(), LinkEnd> {
        let mut updates: Vec<Update> = updates.into_iter().map(|(update, _)| update).collect();
        updates.sort_by_key(|update| heard::new_message(update).is_none());
        self.pass(updates, users, chats).await
    }

    /// Hands updates over, with the place in the mailboxes that they lead to.
    pub(super) async fn pass(
        &mut self,
        updates: Vec<Update>,
        users: &[enums::User],
        chats: &[enums::Chat],
    ) -> Result<(), LinkEnd> {
        peers::learn(self.line.session(), users, chats);
        let (before, mut tops) = (self.cursors.common, Vec::new());
        for (dialog, id) in updates.iter().filter_map(heard::new_message).filter_map(heard::address) {
            let channel = dialog.bare_id().filter(|_| peers::is_channel(dialog));
            self.cursors.handed_over(channel, id, &mut tops);
        }
        let heard: Vec<_> = updates
            .iter()
            .flat_map(|update| heard::heard(&self.mapper, update))
            .collect();
        let mut remember = self.cursors.advance(&self.boxes.session_state(), before, &tops);
        remember.extend(self.line.session().take_news());
        if !heard.is_empty() || !remember.is_empty() {
            self.hand_over(Batch { heard, remember }).await;
        }
        Ok(())
    }

    pub(super) async fn hand_over(&self, batch: Batch) {
        if self.batches.send(batch).await.is_err() {
            // The taker has ended and says why.
            std::future::pending::<()>().await;
        }
    }
}

/// The updates in what was pushed.
fn list(updates: &mut UpdatesLike) -> Option<&mut [Update]> {
    match updates {
        UpdatesLike::Updates(enums::Updates::Updates(updates)) => Some(&mut updates.updates),
        UpdatesLike::Updates(enums::Updates::Combined(updates)) => Some(&mut updates.updates),
        UpdatesLike::Updates(enums::Updates::UpdateShort(short)) => Some(std::slice::from_mut(&mut short.update)),
        _ => None,
    }
}

fn lost(reason: &str) -> LinkEnd {
    LinkEnd::Lost {
        reason: reason.to_owned(),
        not_before: None,
    }
}
