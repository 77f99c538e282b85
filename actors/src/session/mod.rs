//! What lives here: one actor per user who is online. It tails the user's stream and feeds all of the user's sockets.
//! Who calls it: the journal, with what was committed; sockets, when they open and close.
//! What it may not know: how a frame is written, what a socket is made of.
//!
//! Register first, read history second, merge by number: a session is in the directory before it reads where the
//! stream ends, so nothing committed meanwhile is missed; what comes twice is dropped by its number; a hole is filled
//! from storage.

mod close;
mod socket;
mod tail;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Handler, WrapFuture};
use tokio::sync::oneshot;

pub use close::CloseReason;
use socket::{Progress, Socket, Sockets};
use tail::{Offer, Tail};

use crate::clock;
use crate::domain::{Event, EventKind, StreamPosition};
use crate::ids::{ConversationId, Seq, SessionId, UserId};
use crate::journal::read_stream;
use crate::mailbox::{Letter, Receiver};
use crate::ports::{Frames, SocketOutlet, StoreError, StreamPage, StreamRead, UnreadCounts};
use crate::supervise::{ChildGuard, ChildSpec};
use crate::tree::Hub;

/// Events read from storage at once for a socket that was away.
const PAGE: usize = 256;
/// A socket that has this much waiting gets its next page later.
const PAGE_PRESSURE: usize = 256 * 1024;
const PAGE_PAUSE: Duration = Duration::from_millis(20);
/// A session without sockets ends after this.
const IDLE: Duration = Duration::from_secs(60);
/// How often a session makes sure that it has not fallen behind.
const POSITION_CHECK: Duration = Duration::from_secs(30);
/// Counters that change in a burst are sent once, so that a busy stream is not doubled by them.
const UNREAD_PAUSE: Duration = Duration::from_millis(250);

/// A socket's number within its session.
pub type SocketNumber = u64;

/// What can be asked of a session.
pub enum Command {
    /// A socket wants to listen, from where it left off if it says so.
    Open {
        session_id: SessionId,
        since: Option<StreamPosition>,
        outlet: Box<dyn SocketOutlet>,
        reply: oneshot::Sender<SocketNumber>,
    },
    /// A socket is gone.
    Closed { socket: SocketNumber },
    /// These events of the user were committed.
    Publish { events: Arc<[Event]> },
    /// Another hub says that the stream has grown.
    Announce { last: Seq },
    /// Somebody is writing.
    Typing {
        conversation_id: ConversationId,
        actor_id: String,
        actor_name: Option<String>,
    },
    /// The signed-in session is over: its sockets are ended.
    EndSession { session_id: SessionId },
    /// End all sockets, then end.
    Stop,
}

/// The session of an online user.
pub struct Session {
    hub: Arc<Hub>,
    user_id: UserId,
    sockets: Sockets,
    tail: Tail,
    unread: Option<UnreadCounts>,
    unread_is_stale: bool,
    /// The database is counting: what happens meanwhile may or may not be in its answer.
    unread_is_counting: bool,
    unread_timer_runs: bool,
    is_fetching: bool,
    /// The last number that was heard of while a fetch was under way, which may not have seen it.
    wanted: Seq,
    idle_since: Instant,
    _guard: ChildGuard,
}

/// Makes sessions.
pub struct SessionSpec {
    pub(crate) hub: Weak<Hub>,
}

impl ChildSpec for SessionSpec {
    type Key = UserId;
    type Child = Session;
    const PATH: &'static str = "sessions/session";
    const MAILBOX: usize = 4_096;

    fn build(&self, user_id: &UserId, guard: ChildGuard) -> Session {
        Session {
            hub: Hub::upgrade(&self.hub),
            user_id: *user_id,
            sockets: Sockets::default(),
            tail: Tail::default(),
            unread: None,
            unread_is_stale: true,
            unread_is_counting: false,
            unread_timer_runs: false,
            is_fetching: false,
            wanted: Seq(0),
            idle_since: clock::instant(),
            _guard: guard,
        }
    }
}

impl Actor for Session {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        // Nothing is handled before the stream's end is known; what is published meanwhile waits in the mailbox.
        let hub = Arc::clone(&self.hub);
        let read = StreamRead {
            user_id: self.user_id,
            after: Seq(i64::MAX),
            limit: 0,
        };
        async move { read_stream(&hub, read).await }
            .into_actor(self)
            .map(|read, session, context| match read {
                Ok(page) => session.tail.begin(page.state),
                Err(error) => {
                    tracing::warn!(user_id = %session.user_id, %error, "a session could not read its stream");
                    context.stop();
                }
            })
            .wait(context);
        context.run_interval(POSITION_CHECK, |session, context| {
            if session.sockets.is_empty() && session.idle_since.elapsed() > IDLE {
                context.stop();
            } else if !session.sockets.is_empty() {
                session.fetch(Seq(0), context);
            }
        });
    }
}

impl Drop for Session {
    /// Sockets outlive no session: they are told to come back, and resume where they were.
    fn drop(&mut self) {
        self.sockets.close_all(CloseReason::Restart);
    }
}

impl Receiver for Session {
    type Command = Command;

    fn stop() -> Command {
        Command::Stop
    }
}

impl Handler<Letter<Command>> for Session {
    type Result = ();

    fn handle(&mut self, letter: Letter<Command>, context: &mut Self::Context) {
        fail::fail_point!("session");
        match letter.open() {
            Command::Open {
                session_id,
                since,
                outlet,
                reply,
            } => self.open(session_id, since, outlet, reply, context),
            Command::Closed { socket } => self.closed(socket),
            Command::Publish { events } => self.published(events, context),
            Command::Announce { last } => {
                if last > self.tail.last() {
                    self.fetch(last, context);
                }
            }
            Command::Typing {
                conversation_id,
                actor_id,
                actor_name,
            } => {
                let bytes = self
                    .hub
                    .encoder
                    .typing(conversation_id, &actor_id, actor_name.as_deref());
                self.sockets.push_to_live(&Frames { bytes, last: None });
            }
            Command::EndSession { session_id } => self.sockets.close_session(session_id),
            Command::Stop => {
                self.sockets.close_all(CloseReason::Shutdown);
                context.stop();
            }
        }
    }
}

impl Session {
    fn open(
        &mut self,
        session_id: SessionId,
        since: Option<StreamPosition>,
        outlet: Box<dyn SocketOutlet>,
        reply: oneshot::Sender<SocketNumber>,
        context: &mut Context<Self>,
    ) {
        let resumes = since.filter(|since| since.epoch == self.hub.store.epoch() && self.tail.covers(since.seq));
        let (cursor, recovered) = resumes.map_or((self.tail.last(), false), |since| (since.seq, true));
        let position = StreamPosition {
            epoch: self.hub.store.epoch().to_owned(),
            seq: cursor,
        };
        if !outlet.opened(position, recovered) {
            return;
        }
        self.sockets.make_room(self.hub.settings.sockets_per_user);
        let number = self.sockets.add(Socket::new(session_id, outlet, cursor));
        let _ = reply.send(number);
        self.advance(number, context);
    }

    fn closed(&mut self, socket: SocketNumber) {
        self.sockets.remove(socket);
        if self.sockets.is_empty() {
            self.idle_since = clock::instant();
        }
    }

    fn published(&mut self, events: Arc<[Event]>, context: &mut Context<Self>) {
        let last = events.last().map_or(Seq(0), |event| event.seq);
        match self.tail.offer(events) {
            Offer::Next(events) => {
                let bytes = self.hub.encoder.events(self.hub.store.epoch(), &events);
                self.sockets.push_next(
                    self.tail.previous(),
                    &Frames {
                        bytes,
                        last: Some(self.tail.last()),
                    },
                );
                self.count_unread(&events, context);
            }
            Offer::Known => {}
            Offer::Hole => self.fetch(last, context),
        }
    }

    /// Reads what storage has beyond the tail, at least up to `wanted`.
    fn fetch(&mut self, wanted: Seq, context: &mut Context<Self>) {
        if self.is_fetching {
            self.wanted = self.wanted.max(wanted);
            return;
        }
        self.is_fetching = true;
        self.wanted = Seq(0);
        let hub = Arc::clone(&self.hub);
        let read = StreamRead {
            user_id: self.user_id,
            after: self.tail.last(),
            limit: PAGE,
        };
        let work = async move { read_stream(&hub, read).await };
        context.spawn(work.into_actor(self).map(|read, session, context| {
            session.is_fetching = false;
            match read {
                Ok(page) => {
                    let more = if page.events.is_empty() {
                        Seq(0)
                    } else {
                        page.state.last
                    };
                    session.published(page.events.into(), context);
                    if more.max(session.wanted) > session.tail.last() {
                        session.fetch(Seq(0), context);
                    }
                }
                Err(StoreError::Failed(error)) => {
                    // No session gets past it: the sockets begin anew behind it.
                    tracing::error!(user_id = %session.user_id, %error, "an event cannot be read");
                    session.sockets.close_all(CloseReason::PositionGone);
                    context.stop();
                }
                Err(error) => tracing::warn!(user_id = %session.user_id, %error, "a session could not catch up"),
            }
        }));
    }

    /// Brings a socket that was away closer to the tail: from memory when it is near, else page by page from storage.
    fn advance(&mut self, number: SocketNumber, context: &mut Context<Self>) {
        match self.sockets.progress(number, &self.tail) {
            Progress::Gone | Progress::Live { was_away: false } => {}
            Progress::Live { was_away: true } => self.count_anew(context),
            Progress::Pressed => {
                context.run_later(PAGE_PAUSE, move |session, context| session.advance(number, context));
            }
            Progress::InMemory(events) => {
                let bytes = self.hub.encoder.events(self.hub.store.epoch(), &events);
                self.sockets.push(
                    number,
                    Frames {
                        bytes,
                        last: Some(self.tail.last()),
                    },
                );
                self.count_anew(context);
            }
            Progress::InStorage(after) => {
                let hub = Arc::clone(&self.hub);
                // No more than there is: what many ask for at once is bounded in all.
                let missed = usize::try_from(self.tail.last().0.saturating_sub(after.0)).unwrap_or(PAGE);
                let read = StreamRead {
                    user_id: self.user_id,
                    after,
                    limit: missed.min(PAGE),
                };
                let work = async move { read_stream(&hub, read).await };
                context.spawn(work.into_actor(self).map(move |read, session, context| {
                    session.page_read(number, read, context);
                }));
            }
        }
    }

    fn page_read(&mut self, number: SocketNumber, read: Result<StreamPage, StoreError>, context: &mut Context<Self>) {
        match read {
            Ok(page) if !page.events.is_empty() => {
                let last = page.events.last().map(|event| event.seq);
                let bytes = self.hub.encoder.events(self.hub.store.epoch(), &page.events);
                self.sockets.push(number, Frames { bytes, last });
                self.advance(number, context);
            }
            // What was there when the socket opened is gone by now: it has to begin anew.
            Ok(_) => self.sockets.close(number, CloseReason::PositionGone),
            Err(StoreError::Failed(error)) => {
                // Nobody gets past it, so resuming would end here again.
                tracing::error!(user_id = %self.user_id, %error, "an event cannot be read");
                self.sockets.close(number, CloseReason::PositionGone);
            }
            Err(error) => {
                tracing::warn!(user_id = %self.user_id, %error, "a socket could not catch up");
                self.sockets.close(number, CloseReason::Restart);
            }
        }
    }

    fn count_unread(&mut self, events: &[Event], context: &mut Context<Self>) {
        let mut changed = false;
        for event in events {
            match &event.kind {
                EventKind::MessageReceived {
                    message, conversation, ..
                } if !message.is_read => {
                    changed = true;
                    self.unread_is_stale |= self.unread_is_counting;
                    match &mut self.unread {
                        Some(counts) => *counts.entry(conversation.platform.clone()).or_default() += 1,
                        None => self.unread_is_stale = true,
                    }
                }
                EventKind::ConversationChanged { .. } | EventKind::AccountChanged { .. } => {
                    changed = true;
                    self.unread_is_stale = true;
                }
                _ => {}
            }
        }
        if changed {
            self.send_unread_soon(context);
        }
    }

    /// For a socket that has caught up: what it was told before it went away no longer holds.
    fn count_anew(&mut self, context: &mut Context<Self>) {
        self.unread_is_stale = true;
        self.send_unread_soon(context);
    }

    fn send_unread_soon(&mut self, context: &mut Context<Self>) {
        if !self.unread_timer_runs && !self.sockets.is_empty() {
            self.unread_timer_runs = true;
            context.run_later(UNREAD_PAUSE, Self::send_unread);
        }
    }

    fn send_unread(&mut self, context: &mut Context<Self>) {
        self.unread_timer_runs = false;
        if self.unread_is_counting {
            return self.send_unread_soon(context);
        }
        if !self.unread_is_stale {
            return self.push_unread();
        }
        self.unread_is_stale = false;
        self.unread_is_counting = true;
        let (hub, user_id) = (Arc::clone(&self.hub), self.user_id);
        let work = async move { hub.store.unread_counts(user_id).await };
        context.spawn(work.into_actor(self).map(|counts, session, context| {
            session.unread_is_counting = false;
            match counts {
                Ok(counts) => {
                    session.unread = Some(counts.into_iter().collect());
                    session.push_unread();
                    if session.unread_is_stale {
                        session.send_unread_soon(context);
                    }
                }
                Err(error) => {
                    session.unread_is_stale = true;
                    tracing::warn!(user_id = %session.user_id, %error, "unread messages could not be counted");
                }
            }
        }));
    }

    fn push_unread(&mut self) {
        if let Some(counts) = &self.unread {
            let bytes = self.hub.encoder.unread_counts(counts);
            self.sockets.push_to_live(&Frames { bytes, last: None });
        }
    }
}
