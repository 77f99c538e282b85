//! The live side of a connection: it opens the account's link while this hub owns it, notices when the link is dead, and
//! opens it again, later and later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, SpawnHandle, WrapFuture};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::Connection;
use super::feed::Feed;
use crate::clock;
use crate::domain::{Account, AccountState};
use crate::ports::{AppendError, FeedError, Lease, Link, LinkEnd, LinkStart, LinkState, OpenLink, StoreError};
use crate::supervise::Backoff;
use crate::tree::Hub;

const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
const TELL_BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
/// A link that was open for so long had worked: the next try comes soon.
const STEADY: Duration = Duration::from_secs(60);
/// Longer than any adapter's own limit.
const OPEN_PATIENCE: Duration = Duration::from_secs(120);

/// What a connection knows of its live link.
#[derive(Default)]
pub(super) struct Live {
    /// The right to hold the link, and until when it is certain.
    lease: Option<(Lease, Instant)>,
    link: Option<Arc<dyn Link>>,
    /// What runs for the link or for the next one; cancelling it ends the link.
    work: Vec<SpawnHandle>,
    opened_at: Option<Instant>,
    failures: u32,
}

impl Live {
    /// The open link, while this hub certainly owns it.
    pub(super) fn link(&self) -> Option<&Arc<dyn Link>> {
        let (_, until) = self.lease.as_ref()?;
        self.link.as_ref().filter(|_| clock::instant() < *until)
    }

    pub(super) fn has_lease(&self) -> bool {
        self.lease.is_some()
    }
}

impl Connection {
    /// This hub owns the link until `until`.
    pub(super) fn leased(&mut self, lease: Lease, until: Instant, context: &mut Context<Self>) {
        let is_new = self.live.lease.as_ref().is_none_or(|(old, _)| *old != lease);
        if is_new {
            self.close_link(context);
            self.live.failures = 0;
        }
        self.live.lease = Some((lease, until));
        if is_new {
            // Somebody else may have changed the account meanwhile; what is loaded is opened.
            self.load(context);
        }
    }

    /// Another hub owns the link now, or nobody should.
    pub(super) fn lease_ended(&mut self, context: &mut Context<Self>) {
        self.close_link(context);
        self.live.lease = None;
    }

    /// Ends the link if the right to hold it has run out without being renewed: another hub may own it by now.
    pub(super) fn check_lease(&mut self, context: &mut Context<Self>) {
        if self
            .live
            .lease
            .as_ref()
            .is_some_and(|(_, until)| clock::instant() >= *until)
        {
            tracing::warn!(account_id = %self.account_id, "a link is closed because its lease could not be renewed");
            self.lease_ended(context);
        }
    }

    pub(super) fn close_link(&mut self, context: &mut Context<Self>) {
        self.live.link = None;
        self.live.opened_at = None;
        for handle in self.live.work.drain(..) {
            context.cancel_future(handle);
        }
    }

    pub(super) fn open_link(&mut self, context: &mut Context<Self>) {
        let Ok((account, adapter)) = self.active() else { return };
        let Some((lease, _)) = self.live.lease else { return };
        if account.state.waits_for_person() || adapter.live().is_none() {
            return;
        }
        self.close_link(context);
        let (state, states) = watch::channel(None);
        let feed = Feed {
            hub: Arc::clone(&self.hub),
            account: Arc::clone(&account),
            lease,
            state,
        };
        let hub = Arc::clone(&self.hub);
        let open = async move {
            let memory = match hub.store.link_memory(account.id).await {
                Ok(memory) => memory,
                Err(error) => return Err(lost(error.to_string())),
            };
            let start = LinkStart {
                account,
                memory,
                feed: Arc::new(feed),
            };
            let Some(live) = adapter.live() else {
                return Err(lost("the platform is switched off".to_owned()));
            };
            match tokio::time::timeout(OPEN_PATIENCE, live.open(start)).await {
                Ok(result) => result,
                Err(_) => Err(lost("the platform did not answer in time".to_owned())),
            }
        };
        let handle = context.spawn(open.into_actor(self).map(|result, connection, context| {
            // What has ended by itself must not be cancelled any more.
            connection.live.work.clear();
            match result {
                Ok(open) => connection.link_opened(open, states, context),
                Err(end) => connection.link_ended(end, context),
            }
        }));
        self.live.work.push(handle);
    }

    fn link_opened(&mut self, open: OpenLink, states: watch::Receiver<Option<LinkState>>, context: &mut Context<Self>) {
        self.live.opened_at = Some(clock::instant());
        self.live.link = Some(Arc::clone(&open.link));
        self.hub.connected(self.account_id);
        let ended = open.ended.into_actor(self).map(|end, connection, context| {
            connection.link_ended(end, context);
        });
        let probes = probe(open.link, self.hub.settings.probe)
            .into_actor(self)
            .map(|end, connection, context| {
                connection.link_ended(end, context);
            });
        let Ok((account, _)) = self.active() else { return };
        let tell = tell_states(Arc::clone(&self.hub), account, states).into_actor(self);
        let work = [context.spawn(ended), context.spawn(probes), context.spawn(tell)];
        self.live.work.extend(work);
    }

    fn link_ended(&mut self, end: LinkEnd, context: &mut Context<Self>) {
        let was_steady = self.live.opened_at.is_some_and(|at| at.elapsed() > STEADY);
        self.close_link(context);
        let (state, reason, pause) = match end {
            LinkEnd::Lost { reason, not_before } => {
                self.live.failures = if was_steady {
                    0
                } else {
                    self.live.failures.saturating_add(1)
                };
                let pause = BACKOFF.delay(self.live.failures).max(not_before.unwrap_or_default());
                (AccountState::Backoff, reason, Some(pause))
            }
            LinkEnd::NeedsLogin { reason } => (AccountState::NeedsLogin, reason, None),
            LinkEnd::Revoked { reason } => (AccountState::Revoked, reason, None),
            LinkEnd::Feed(FeedError::LeaseLost) => {
                tracing::info!(account_id = %self.account_id, "another hub owns this account's link now");
                self.live.lease = None;
                return;
            }
            LinkEnd::Feed(FeedError::Disconnected) => return self.load(context),
        };
        tracing::info!(account_id = %self.account_id, state = state.as_str(), %reason, ?pause, "a link has ended");
        if pause.is_none()
            && let Ok(account) = &mut self.account
        {
            Arc::make_mut(account).state = state;
        }
        let until = pause.map(|pause| self.hub.clock.now() + pause);
        let told = tell(Arc::clone(&self.hub), self.account_id, state, Some(reason), until);
        let work = async move {
            match pause {
                // Told before the next try, which has news of its own.
                Some(pause) => drop(futures_util::join!(told, tokio::time::sleep(pause))),
                None => {
                    told.await;
                    std::future::pending::<()>().await;
                }
            }
        };
        let handle = context.spawn(work.into_actor(self).map(|(), connection, context| {
            connection.live.work.clear();
            connection.open_link(context);
        }));
        self.live.work.push(handle);
    }
}

fn lost(reason: String) -> LinkEnd {
    LinkEnd::Lost {
        reason,
        not_before: None,
    }
}

/// Asks the link again and again whether it lives; comes back when it does not.
async fn probe(link: Arc<dyn Link>, every: Duration) -> LinkEnd {
    loop {
        tokio::time::sleep(every).await;
        match tokio::time::timeout(every / 2, link.probe()).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => return lost(reason),
            Err(_) => return lost("the platform does not answer any more".to_owned()),
        }
    }
}

/// Tells the person how the link is doing, as long as it is open. A wait that the platform asked for ends by itself.
async fn tell_states(hub: Arc<Hub>, account: Arc<Account>, mut states: watch::Receiver<Option<LinkState>>) {
    let mut wait: Option<Duration> = None;
    loop {
        let news = match wait.take() {
            Some(pause) => match tokio::time::timeout(pause, states.changed()).await {
                Ok(changed) => changed.map(|()| states.borrow_and_update().clone()),
                Err(_) => Ok(Some(LinkState::Live)),
            },
            None => states.changed().await.map(|()| states.borrow_and_update().clone()),
        };
        let (state, reason, until) = match news {
            Ok(None) => continue,
            Ok(Some(LinkState::Live)) => (AccountState::Live, None, None),
            Ok(Some(LinkState::CatchingUp { progress })) => (AccountState::CatchingUp, progress, None),
            Ok(Some(LinkState::FloodWait { until })) => {
                wait = Some(Duration::try_from(until - hub.clock.now()).unwrap_or_default());
                let reason = "The platform asks this account to wait.".to_owned();
                (AccountState::FloodWait, Some(reason), Some(until))
            }
            // The link has ended.
            Err(_) => return,
        };
        tell(Arc::clone(&hub), account.id, state, reason, until).await;
    }
}

/// Stores the state, however long the database is away: without it no link opens either.
async fn tell(
    hub: Arc<Hub>,
    id: crate::ids::AccountId,
    state: AccountState,
    reason: Option<String>,
    until: Option<OffsetDateTime>,
) {
    let mut tries = 0;
    loop {
        let told = match hub.store.account(id).await {
            // A link that ends while its account is being disconnected has no say any more.
            Ok(Some(account)) if account.is_active => hub
                .set_account_state_until(account.user_id, id, state, reason.clone(), until)
                .await
                .map(drop),
            Ok(_) => return,
            Err(error) => Err(error.into()),
        };
        match told {
            Ok(()) => return,
            Err(
                error @ (AppendError::Refused(_) | AppendError::Poison(_) | AppendError::Store(StoreError::Failed(_))),
            ) => {
                tracing::warn!(account_id = %id, %error, "the state of an account cannot be stored");
                return;
            }
            Err(AppendError::Busy | AppendError::Store(_)) => tokio::time::sleep(TELL_BACKOFF.delay(tries)).await,
        }
        tries = tries.saturating_add(1);
    }
}
