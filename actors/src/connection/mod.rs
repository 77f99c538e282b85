//! What lives here: one actor per linked account, which owns the link to the platform.
//! Who calls it: the tree, the outbox, the leases.
//! What it may not know: SQL, HTTP, platforms by name.
//!
//! For a platform that calls us, the link is the account with its credentials, held open so that a delivery needs no
//! database before its signature is checked. It ends when it has been idle, and is started by the next use. For a
//! platform whose accounts are held open, it is a live link, open as long as this hub has the lease (`live.rs`).

mod feed;
mod live;
mod take;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Handler, WrapFuture};
use tokio::sync::oneshot;

use crate::clock;
use crate::domain::{Account, AccountState, Receipt, SendError, SendFailure};
use crate::ids::AccountId;
use crate::mailbox::{Blame, Letter, Receiver};
use crate::ports::{
    Adapter, Delivery, HistoryRequest, Lease, Link, MediaRequest, MediaStream, Outbound, ReceiveError, StoreError,
    TypingNotice,
};
use crate::supervise::{ChildGuard, ChildSpec};
use crate::tree::{DeliverError, Delivered, Hub};
use live::Live;
pub(crate) use take::quarantine;
use take::take;

/// Deliveries of one account that may be worked on at once; more are answered with "busy", and the platform comes
/// again.
const MAX_IN_FLIGHT: usize = 512;
const IDLE: Duration = Duration::from_secs(600);
const IDLE_CHECK: Duration = Duration::from_secs(60);
const SIGN_OUT_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether the lease has run out.
const LEASE_CHECK: Duration = Duration::from_secs(5);

/// What can be asked of a connection.
pub enum Command {
    /// The platform called.
    Deliver {
        delivery: Delivery,
        blame: Blame,
        reply: oneshot::Sender<Result<Delivered, DeliverError>>,
    },
    /// Hand this to the platform, once.
    Send {
        outbound: Outbound,
        reply: oneshot::Sender<Result<Receipt, SendError>>,
    },
    /// The person is writing.
    Typing { notice: TypingNotice },
    /// This hub owns the account's live link until then.
    Lease { lease: Lease, until: Instant },
    /// It does not own it any more.
    LeaseEnded,
    /// Fetch older messages; answers how many there were.
    History {
        request: HistoryRequest,
        reply: oneshot::Sender<Result<usize, SendError>>,
    },
    /// Stream a file.
    Media {
        request: MediaRequest,
        reply: oneshot::Sender<Result<MediaStream, SendError>>,
    },
    /// Look for what is new.
    Refresh,
    /// End the session on the platform.
    SignOut { reply: oneshot::Sender<()> },
    /// The account or its credentials have changed.
    Reload,
    /// End.
    Stop,
}

/// A connection. Without an account when there is none of that id.
pub struct Connection {
    hub: Arc<Hub>,
    account_id: AccountId,
    account: Result<Arc<Account>, StoreError>,
    is_known: bool,
    /// The platform refused the credentials at the last try. Shared with the tries under way: their answers come in any
    /// order, and the last one counts.
    is_refused: Rc<Cell<bool>>,
    live: Live,
    in_flight: usize,
    last_activity: Instant,
    _guard: ChildGuard,
}

/// Makes connections.
pub struct ConnectionSpec {
    pub(crate) hub: Weak<Hub>,
}

impl ChildSpec for ConnectionSpec {
    type Key = AccountId;
    type Child = Connection;
    const PATH: &'static str = "connections/connection";
    const MAILBOX: usize = 1_024;

    fn build(&self, account_id: &AccountId, guard: ChildGuard) -> Connection {
        Connection {
            hub: Hub::upgrade(&self.hub),
            account_id: *account_id,
            account: Err(StoreError::Unavailable("not loaded yet".to_owned())),
            is_known: true,
            is_refused: Rc::default(),
            live: Live::default(),
            in_flight: 0,
            last_activity: clock::instant(),
            _guard: guard,
        }
    }

    fn gave_up(&self, account_id: &AccountId, error: &str) {
        Hub::upgrade(&self.hub).account_failed(*account_id, error);
    }

    fn came_back(&self, account_id: &AccountId) {
        Hub::upgrade(&self.hub).account_came_back(*account_id, AccountState::Connecting);
    }
}

impl Actor for Connection {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.load(context);
        context.run_interval(IDLE_CHECK, |connection, context| {
            let is_idle = connection.last_activity.elapsed() > IDLE && connection.in_flight == 0;
            if is_idle && !connection.live.has_lease() {
                context.stop();
            }
        });
        context.run_interval(LEASE_CHECK, Self::check_lease);
    }
}

impl Receiver for Connection {
    type Command = Command;

    fn stop() -> Command {
        Command::Stop
    }
}

impl Handler<Letter<Command>> for Connection {
    type Result = ();

    fn handle(&mut self, letter: Letter<Command>, context: &mut Self::Context) {
        fail::fail_point!("connection");
        self.last_activity = clock::instant();
        match letter.open() {
            Command::Deliver { delivery, blame, reply } => self.deliver(delivery, blame, reply, context),
            Command::Send { outbound, reply } => self.send(outbound, reply, context),
            Command::Typing { notice } => {
                if let Some(link) = self.live.link().cloned() {
                    context.spawn(async move { link.typing(&notice).await }.into_actor(self));
                } else if let Ok((account, adapter)) = self.active()
                    && adapter.live().is_none()
                {
                    context.spawn(async move { adapter.typing(&account, &notice).await }.into_actor(self));
                }
            }
            Command::Lease { lease, until } => self.leased(lease, until, context),
            Command::LeaseEnded => self.lease_ended(context),
            Command::History { request, reply } => {
                self.ask(reply, context, async move |link: Arc<dyn Link>| {
                    link.history(&request).await
                });
            }
            Command::Media { request, reply } => {
                self.ask(reply, context, async move |link: Arc<dyn Link>| {
                    link.media(&request).await
                });
            }
            Command::Refresh => {
                if let Some(link) = self.live.link().cloned() {
                    context.spawn(async move { link.refresh().await }.into_actor(self));
                }
            }
            Command::SignOut { reply } => self.sign_out(reply, context),
            Command::Reload => self.load(context),
            Command::Stop => context.stop(),
        }
    }
}

impl Connection {
    /// Loads the account; commands wait meanwhile.
    fn load(&mut self, context: &mut Context<Self>) {
        let (hub, id) = (Arc::clone(&self.hub), self.account_id);
        async move { hub.store.account(id).await }
            .into_actor(self)
            .map(|loaded, connection, context| match loaded {
                Ok(Some(account)) => {
                    connection.is_refused.set(account.state == AccountState::NeedsLogin);
                    connection.account = Ok(Arc::new(account));
                    connection.open_link(context);
                }
                Ok(None) => {
                    connection.is_known = false;
                    // An id that somebody made up: the few commands that wait are answered, then it ends.
                    context.run_later(Duration::from_secs(1), |_, context| context.stop());
                }
                Err(error) => {
                    connection.account = Err(error);
                    context.run_later(Duration::from_secs(1), |_, context| context.stop());
                }
            })
            .wait(context);
    }

    fn active(&self) -> Result<(Arc<Account>, Arc<dyn Adapter>), DeliverError> {
        if !self.is_known {
            return Err(DeliverError::NoAccount);
        }
        let account = self
            .account
            .as_ref()
            .map_err(|error| DeliverError::Unavailable(error.to_string()))?;
        if !account.is_active {
            return Err(DeliverError::NoAccount);
        }
        let adapter = self
            .hub
            .adapters
            .get(&account.platform)
            .ok_or(DeliverError::NoAccount)?;
        Ok((Arc::clone(account), Arc::clone(adapter)))
    }

    fn deliver(
        &mut self,
        delivery: Delivery,
        blame: Blame,
        reply: oneshot::Sender<Result<Delivered, DeliverError>>,
        context: &mut Context<Self>,
    ) {
        let link = if self.in_flight >= MAX_IN_FLIGHT {
            Err(DeliverError::Busy)
        } else {
            self.active()
        };
        let (account, adapter) = match link {
            Ok(link) => link,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let received = blame.during(|| adapter.receive(&account, &delivery));
        fail::fail_point!("webhook.mapped");
        let hub = Arc::clone(&self.hub);
        let work = async move {
            match received {
                Ok(events) => take(&hub, &account, &delivery, events, blame).await,
                Err(ReceiveError::Unsigned(reason)) => Err(DeliverError::Unsigned(reason.to_owned())),
                Err(ReceiveError::Stale(reason)) => Err(DeliverError::Stale(reason.to_owned())),
                Err(ReceiveError::Unmappable(reason)) => quarantine(&hub, &account, &delivery, reason).await,
            }
        };
        self.in_flight += 1;
        context.spawn(work.into_actor(self).map(|result, connection, _context| {
            connection.in_flight -= 1;
            let _ = reply.send(result);
        }));
    }

    fn send(
        &mut self,
        outbound: Outbound,
        reply: oneshot::Sender<Result<Receipt, SendError>>,
        context: &mut Context<Self>,
    ) {
        let (account, adapter) = match self.active() {
            Ok(link) => link,
            Err(DeliverError::NoAccount) => {
                let error = SendError::with_detail(SendFailure::Refused, "the account is disconnected");
                return drop(reply.send(Err(error)));
            }
            Err(_) => return drop(reply.send(Err(SendError::new(SendFailure::Unreachable)))),
        };
        if adapter.live().is_some() {
            return self.ask(reply, context, async move |link: Arc<dyn Link>| {
                link.send(&outbound).await
            });
        }
        self.in_flight += 1;
        let hub = Arc::clone(&self.hub);
        let is_refused = Rc::clone(&self.is_refused);
        let work = async move {
            let result = adapter.send(&account, &outbound).await;
            fail::fail_point!("connection.sent");
            let news = match &result {
                Err(error) if error.failure == SendFailure::Unauthorized => {
                    is_refused.set(true);
                    Some((AccountState::NeedsLogin, Some(error.failure.sentence().to_owned())))
                }
                Ok(_) if is_refused.replace(false) => Some((AccountState::Live, None)),
                _ => None,
            };
            if let Some((state, reason)) = news
                && let Err(error) = hub.set_account_state(account.user_id, account.id, state, reason).await
            {
                tracing::warn!(account_id = %account.id, %error, "an account's new state could not be stored");
                // So that the next success says it.
                is_refused.set(true);
            }
            result
        };
        context.spawn(work.into_actor(self).map(|result, connection, _context| {
            connection.in_flight -= 1;
            let _ = reply.send(result);
        }));
    }

    /// Asks the open link; without one the answer is that there is none.
    fn ask<T: 'static>(
        &mut self,
        reply: oneshot::Sender<Result<T, SendError>>,
        context: &mut Context<Self>,
        question: impl AsyncFnOnce(Arc<dyn Link>) -> Result<T, SendError> + 'static,
    ) {
        let Some(link) = self.live.link().cloned() else {
            let waits = self
                .account
                .as_ref()
                .is_ok_and(|account| account.state.waits_for_person());
            let failure = if waits {
                SendFailure::Unauthorized
            } else {
                SendFailure::NotConnected
            };
            return drop(reply.send(Err(SendError::new(failure))));
        };
        self.in_flight += 1;
        let work = async move { question(link).await };
        context.spawn(work.into_actor(self).map(|result, connection, _context| {
            connection.in_flight -= 1;
            let _ = reply.send(result);
        }));
    }

    /// Ends the session on the platform and the link with it.
    fn sign_out(&mut self, reply: oneshot::Sender<()>, context: &mut Context<Self>) {
        let link = self.live.link().cloned();
        let work = async move {
            if let Some(link) = link
                && tokio::time::timeout(SIGN_OUT_PATIENCE, link.sign_out()).await.is_err()
            {
                tracing::warn!("a platform did not confirm the end of a session in time");
            }
        };
        context.spawn(work.into_actor(self).map(|(), connection, context| {
            connection.lease_ended(context);
            let _ = reply.send(());
        }));
    }
}
