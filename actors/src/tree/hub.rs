//! What every actor of the tree can reach: the ports, and the supervisors of all kinds of actors.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use actix_rt::Arbiter;
use time::OffsetDateTime;
use tokio::sync::watch;
use uuid::Uuid;

use super::TreeSettings;
use crate::clock::Clock;
use crate::connection::ConnectionSpec;
use crate::conversation::{self, ConversationSpec};
use crate::domain::{Account, AccountState, Append, Appended, Change, Event, OutboxEntry};
use crate::ids::{AccountId, ConversationId, PlatformId, UserId};
use crate::journal::{self, JournalSpec, ReaderSpec};
use crate::leases::{LeasesSpec, new_owner};
use crate::login::{LoginSpec, UnderWay};
use crate::mailbox::CallError;
use crate::outbox::{self, OutboxSpec};
use crate::ports::{Adapters, AppendError, Bus, ConversationHead, Encoder, Store, StoreError};
use crate::scheduler::SchedulerSpec;
use crate::session::{self, SessionSpec};
use crate::supervise::Children;

/// Entries of each small cache. A full cache is emptied: filling it again costs one read each.
const CACHED: usize = 100_000;

/// What the tree is made of.
pub struct TreeParts {
    pub settings: TreeSettings,
    pub clock: Clock,
    pub store: Arc<dyn Store>,
    pub adapters: Adapters,
    pub encoder: Arc<dyn Encoder>,
    pub bus: Arc<dyn Bus>,
}

/// What every actor of the tree can reach.
pub struct Hub {
    pub(crate) settings: TreeSettings,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) adapters: Adapters,
    pub(crate) encoder: Arc<dyn Encoder>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) journals: Children<JournalSpec>,
    pub(crate) readers: Children<ReaderSpec>,
    pub(crate) connections: Children<ConnectionSpec>,
    pub(crate) conversations: Children<ConversationSpec>,
    pub(crate) sessions: Children<SessionSpec>,
    pub(crate) outboxes: Children<OutboxSpec>,
    pub(crate) schedulers: Children<SchedulerSpec>,
    pub(crate) leases: Children<LeasesSpec>,
    pub(crate) logins: Children<LoginSpec>,
    pub(crate) logins_under_way: UnderWay,
    /// The name under which this hub holds leases.
    pub(crate) owner: Uuid,
    /// Entries in the outbox's memory, for the bound at which sends are refused.
    pub(crate) outbox_depth: AtomicUsize,
    /// True when the tree stops and tries that have no answer yet wait for it no longer.
    pub(crate) lets_go: watch::Sender<bool>,
    heads: Cache<ConversationId, Arc<ConversationHead>>,
    platforms: Cache<AccountId, PlatformId>,
    arbiters: Vec<Arbiter>,
}

impl Hub {
    pub(super) fn new(parts: TreeParts, arbiters: Vec<Arbiter>) -> Arc<Self> {
        let handles = || arbiters.iter().map(Arbiter::handle).collect::<Vec<_>>();
        let [
            journals,
            readers,
            connections,
            conversations,
            sessions,
            outboxes,
            schedulers,
            leases,
            logins,
        ] = [(); 9].map(|()| handles());
        Arc::new_cyclic(|hub: &Weak<Self>| Self {
            journals: Children::start(JournalSpec { hub: hub.clone() }, journals),
            readers: Children::start(ReaderSpec { hub: hub.clone() }, readers),
            connections: Children::start(ConnectionSpec { hub: hub.clone() }, connections),
            conversations: Children::start(ConversationSpec { hub: hub.clone() }, conversations),
            sessions: Children::start(SessionSpec { hub: hub.clone() }, sessions),
            outboxes: Children::start(OutboxSpec { hub: hub.clone() }, outboxes),
            schedulers: Children::start(SchedulerSpec { hub: hub.clone() }, schedulers),
            leases: Children::start(LeasesSpec { hub: hub.clone() }, leases),
            logins: Children::start(LoginSpec { hub: hub.clone() }, logins),
            logins_under_way: UnderWay::default(),
            owner: new_owner(),
            settings: parts.settings,
            clock: parts.clock,
            store: parts.store,
            adapters: parts.adapters,
            encoder: parts.encoder,
            bus: parts.bus,
            outbox_depth: AtomicUsize::new(0),
            lets_go: watch::Sender::new(false),
            heads: Cache::default(),
            platforms: Cache::default(),
            arbiters,
        })
    }

    /// The hub, for a child that is being built.
    ///
    /// # Panics
    /// When the tree is gone: children are built only by its supervisors, which [`super::Tree::stop`] stops first.
    pub(crate) fn upgrade(hub: &Weak<Self>) -> Arc<Self> {
        #[expect(
            clippy::expect_used,
            reason = "a child is built only while its tree lives; a panic here ends the child alone"
        )]
        hub.upgrade().expect("the tree outlives its children")
    }

    /// So that another hub need not wait until they run out.
    pub(super) async fn give_up_leases(&self, patience: Duration) {
        if !self.adapters.live().is_empty() {
            match tokio::time::timeout(patience, self.store.release_leases(self.owner, None)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "leases could not be given up; they run out"),
                Err(_) => tracing::warn!("leases could not be given up in time; they run out"),
            }
        }
    }

    pub(super) fn stop_arbiters(&self) {
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
    }

    /// Hands events to the user's session, if the user is online. A session too busy to take them notices the hole.
    pub(crate) fn publish(&self, user_id: UserId, events: &[&Event]) {
        let Some(session) = self.sessions.find(&user_id) else {
            return;
        };
        let events = events.iter().map(|event| (*event).clone()).collect();
        if session.tell(session::Command::Publish { events }) == Err(CallError::Full) {
            tracing::warn!(%user_id, "a session is too busy; it will read what it missed");
        }
    }

    pub(crate) fn publish_typing(&self, user_id: UserId, id: ConversationId, actor_id: &str, actor_name: Option<&str>) {
        if let Some(session) = self.sessions.find(&user_id) {
            let (actor_id, actor_name) = (actor_id.to_owned(), actor_name.map(str::to_owned));
            // Worth nothing later, so it is not said again when the session is busy.
            let _ = session.tell(session::Command::Typing {
                conversation_id: id,
                actor_id,
                actor_name,
            });
        }
    }

    /// Hands a committed entry to the outbox, whose bound was asked before the commit: one that were refused now would be
    /// overtaken in its lane. An outbox that restarts reads it from storage.
    pub(crate) fn enqueue(&self, entry: &OutboxEntry) {
        if let Some(outbox) = self.outboxes.find(&0) {
            let entry = Box::new(entry.clone());
            outbox.insist(outbox::Command::Enqueue { entry });
        }
    }

    /// True when the outbox holds, or is about to take, as many entries as it may.
    pub(super) fn outbox_is_full(&self) -> bool {
        let waiting = self.outboxes.find(&0).map_or(0, |outbox| outbox.depth());
        self.outbox_depth.load(Ordering::Relaxed) + waiting >= self.settings.outbox_capacity
    }

    /// Tells the outbox that an account's link is open again.
    pub(crate) fn connected(&self, account_id: AccountId) {
        if let Some(outbox) = self.outboxes.find(&0) {
            outbox.insist(outbox::Command::Connected { account_id });
        }
    }

    /// Tells the outbox of an entry that was found committed. When it is too busy, it finds it by itself later.
    pub(crate) fn found(&self, entry: OutboxEntry) {
        if let Some(outbox) = self.outboxes.find(&0) {
            let entry = Box::new(entry);
            let _ = outbox.tell(outbox::Command::Found { entry });
        }
    }

    /// The conversation's owner and names, from memory when they are known.
    pub(crate) async fn head(&self, id: ConversationId) -> Result<Option<Arc<ConversationHead>>, StoreError> {
        if let Some(head) = self.heads.get(&id) {
            return Ok(Some(head));
        }
        let Some(head) = self.store.conversation_head(id).await? else {
            return Ok(None);
        };
        let head = Arc::new(head);
        self.heads.insert(id, Arc::clone(&head));
        Ok(Some(head))
    }

    /// Forgets what is in memory of an account's conversations: they were deleted behind the actors' backs.
    pub(super) fn forget_conversations(&self, account_id: AccountId) {
        self.heads.retain(|_, head| head.account_id != account_id);
        for conversation in self.conversations.matching(|key| key.account_id == account_id) {
            conversation.insist(conversation::Command::Stop);
        }
    }

    /// The platform of an entry's account; none when its conversation is gone.
    pub(crate) async fn platform_of(&self, entry: &OutboxEntry) -> Result<Option<PlatformId>, StoreError> {
        if let Some(platform) = self.platforms.get(&entry.account_id) {
            return Ok(Some(platform));
        }
        let Some(head) = self.head(entry.conversation_id).await? else {
            return Ok(None);
        };
        self.platforms.insert(entry.account_id, head.platform.clone());
        Ok(Some(head.platform.clone()))
    }

    pub(crate) async fn set_account_state(
        &self,
        user_id: UserId,
        account_id: AccountId,
        state: AccountState,
        reason: Option<String>,
    ) -> Result<Appended, AppendError> {
        self.set_account_state_until(user_id, account_id, state, reason, None)
            .await
    }

    pub(crate) async fn set_account_state_until(
        &self,
        user_id: UserId,
        account_id: AccountId,
        state: AccountState,
        reason: Option<String>,
        until: Option<OffsetDateTime>,
    ) -> Result<Appended, AppendError> {
        let change = Change::AccountState {
            account_id,
            state,
            reason,
            until,
        };
        journal::append(self, Append { user_id, change }).await
    }

    /// An actor of this account crashed too often: the person is told.
    pub(crate) fn account_failed(self: Arc<Self>, account_id: AccountId, error: &str) {
        tracing::error!(%account_id, %error, "an account is stopped because its actor crashed too often");
        let reason = "It crashed several times in a row and was stopped. Try again in a few minutes.".to_owned();
        actix_rt::spawn(async move {
            let told = self.tell_account(account_id, |_| Some((AccountState::Failed, Some(reason))));
            if let Err(error) = told.await {
                tracing::error!(%account_id, %error, "the state of a stopped account could not be stored");
            }
        });
    }

    /// An actor of this account that had crashed too often was started again: `state` is that of an account whose link is
    /// held open; any other account works as soon as its actors do.
    pub(crate) fn account_came_back(self: Arc<Self>, account_id: AccountId, state: AccountState) {
        actix_rt::spawn(async move {
            let told = self.tell_account(account_id, |account| {
                let adapter = self.adapters.get(&account.platform);
                let is_held_open = adapter.is_some_and(|adapter| adapter.live().is_some());
                let state = if is_held_open { state } else { AccountState::Live };
                (account.state == AccountState::Failed).then_some((state, None))
            });
            if let Err(error) = told.await {
                tracing::error!(%account_id, %error, "the state of an account that works again could not be stored");
            }
        });
    }

    async fn tell_account(
        &self,
        account_id: AccountId,
        news: impl FnOnce(&Account) -> Option<(AccountState, Option<String>)>,
    ) -> Result<(), AppendError> {
        if let Some(account) = self.store.account(account_id).await?
            && let Some((state, reason)) = news(&account)
        {
            self.set_account_state(account.user_id, account_id, state, reason)
                .await?;
        }
        Ok(())
    }
}

/// A small map with a bound.
struct Cache<K, V>(RwLock<HashMap<K, V>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn retain(&self, mut is_kept: impl FnMut(&K, &V) -> bool) {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        map.retain(|key, value| is_kept(key, value));
    }

    fn insert(&self, key: K, value: V) {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= CACHED {
            map.clear();
        }
        map.insert(key, value);
    }
}
