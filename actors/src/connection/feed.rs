//! The way in for what a live link hears: into the conversations, and back only when it is committed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use tokio::sync::watch;

use super::take::{COMMIT_PATIENCE, by_conversation, hand_over};
use crate::conversation::ConversationKey;
use crate::domain::{Account, Append, Appended, Change, InboundEvent, LinkStep, Refusal, Remember};
use crate::ids::ExternalId;
use crate::journal;
use crate::mailbox::{Blame, CallError, answer};
use crate::ports::{AppendError, FeedError, Lease, LinkBatch, LinkFeed, LinkState, QuarantinedDelivery, StoreError};
use crate::supervise::Backoff;
use crate::tree::Hub;

/// Events in one transaction.
const CHUNK: usize = 100;
/// Chats worked on at once.
const CHATS: usize = 16;
/// How often one event may crash the actor that works on it, the first time among others. Two such events in a minute do
const POISON_TRIES: usize = 3;
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// The feed of one account's link, for one lease.
pub(super) struct Feed {
    pub(super) hub: Arc<Hub>,
    pub(super) account: Arc<Account>,
    pub(super) lease: Lease,
    /// Only the newest state matters, so there is no queue.
    pub(super) state: watch::Sender<Option<LinkState>>,
}

/// Why a part of a batch is not stored.
enum Trouble {
    /// The link has to end.
    End(FeedError),
    /// It cannot be applied, ever.
    Poison(String),
}

#[async_trait]
impl LinkFeed for Feed {
    async fn take(&self, batch: LinkBatch) -> Result<(), FeedError> {
        let mut chats = by_conversation(batch.events);
        let last = chats.pop();
        for chats in chats.chunks(CHATS) {
            try_join_all(
                chats
                    .iter()
                    .map(|(chat, events)| self.take_chat(chat, events, Vec::new())),
            )
            .await?;
        }
        match last {
            Some((chat, events)) => self.take_chat(&chat, &events, batch.remember).await,
            None => self.remember(batch.remember).await,
        }
    }

    async fn remember(&self, changes: Remember) -> Result<(), FeedError> {
        if changes.is_empty() {
            return Ok(());
        }
        let append = Append {
            user_id: self.account.user_id,
            change: Change::Remember {
                account_id: self.account.id,
                link: self.step(changes),
            },
        };
        let stored = self.insist(|| journal::append(&self.hub, append.clone())).await;
        match stored {
            Ok(_) => Ok(()),
            Err(Trouble::End(end)) => Err(end),
            Err(Trouble::Poison(error)) => {
                tracing::error!(account_id = %self.account.id, %error, "what a link remembers cannot be stored");
                Ok(())
            }
        }
    }

    async fn chats_of(&self, messages: &[ExternalId]) -> Vec<(ExternalId, ExternalId)> {
        let mut tries = 0;
        loop {
            match self.hub.store.chats_of(self.account.id, messages).await {
                Ok(chats) => return chats.into_iter().map(|(message, chat)| (chat, message)).collect(),
                Err(error) => {
                    tracing::warn!(account_id = %self.account.id, %error, "a link waits for the database");
                    tokio::time::sleep(BACKOFF.delay(tries)).await;
                    tries += 1;
                }
            }
        }
    }

    fn state(&self, state: LinkState) {
        self.state.send_replace(Some(state));
    }
}

impl Feed {
    fn step(&self, remember: Remember) -> LinkStep {
        LinkStep {
            epoch: self.lease.epoch,
            remember,
        }
    }

    /// The events of one chat, in parts that follow each other; the last part carries what is to be remembered.
    async fn take_chat(&self, chat: &ExternalId, events: &[InboundEvent], remember: Remember) -> Result<(), FeedError> {
        let parts = events.len().div_ceil(CHUNK);
        for (number, part) in events.chunks(CHUNK).enumerate() {
            let remember = if number + 1 == parts {
                remember.clone()
            } else {
                Vec::new()
            };
            // One crash is enough to look at each event for itself.
            match self.commit(chat, part.to_vec(), remember.clone(), 1).await {
                Ok(_) => {}
                Err(Trouble::End(end)) => return Err(end),
                Err(Trouble::Poison(_)) => {
                    self.one_by_one(chat, part).await?;
                    self.remember(remember).await?;
                }
            }
        }
        Ok(())
    }

    /// One event that cannot be applied must not take the others of its batch with it.
    async fn one_by_one(&self, chat: &ExternalId, events: &[InboundEvent]) -> Result<(), FeedError> {
        for event in events {
            match self
                .commit(chat, vec![event.clone()], Vec::new(), POISON_TRIES - 1)
                .await
            {
                Ok(_) => {}
                Err(Trouble::End(end)) => return Err(end),
                Err(Trouble::Poison(reason)) => self.quarantine(event, reason).await,
            }
        }
        Ok(())
    }

    async fn quarantine(&self, event: &InboundEvent, reason: String) {
        tracing::warn!(account_id = %self.account.id, %reason, "an event of a link was put into quarantine");
        let delivery = QuarantinedDelivery {
            user_id: self.account.user_id,
            account_id: self.account.id,
            reason,
            body: serde_json::to_vec(event).unwrap_or_default().into(),
        };
        let mut tries = 0;
        while let Err(error) = self.hub.store.quarantine(delivery.clone()).await {
            if let StoreError::Failed(error) = &error {
                tracing::error!(account_id = %self.account.id, %error, "an event could not be put into quarantine");
                return;
            }
            tokio::time::sleep(BACKOFF.delay(tries)).await;
            tries += 1;
        }
    }

    async fn commit(
        &self,
        chat: &ExternalId,
        events: Vec<InboundEvent>,
        remember: Remember,
        tries: usize,
    ) -> Result<Appended, Trouble> {
        let link = self.step(remember);
        let mut crashes = 0;
        loop {
            let blame = Blame::default();
            let asked = self
                .insist(|| self.ask(chat, events.clone(), link.clone(), blame.clone()))
                .await;
            match asked {
                Err(Trouble::Poison(_)) if blame.is_here() && crashes + 1 < tries => crashes += 1,
                result => return result,
            }
        }
    }

    async fn ask(
        &self,
        chat: &ExternalId,
        events: Vec<InboundEvent>,
        link: LinkStep,
        blame: Blame,
    ) -> Result<Appended, AppendError> {
        let key = ConversationKey {
            account_id: self.account.id,
            external_id: chat.clone(),
        };
        let blamed = blame.clone();
        let answered = match hand_over(&self.hub, &self.account, key, events, Some(link), blame).await {
            Ok(receiver) => answer(receiver, COMMIT_PATIENCE).await,
            Err(_) => Err(CallError::Full),
        };
        match answered {
            Ok(result) => result,
            Err(CallError::Gone) if blamed.is_here() => Err(AppendError::Poison("it crashed its handler".to_owned())),
            Err(_) => Err(AppendError::Busy),
        }
    }

    /// Tries until it is stored or known to be impossible, however long the database is away.
    async fn insist<F>(&self, attempt: impl Fn() -> F + Sync) -> Result<Appended, Trouble>
    where
        F: Future<Output = Result<Appended, AppendError>> + Send,
    {
        let mut tries = 0;
        loop {
            match attempt().await {
                Ok(appended) => return Ok(appended),
                Err(AppendError::Refused(Refusal::LeaseLost)) => return Err(Trouble::End(FeedError::LeaseLost)),
                Err(AppendError::Refused(Refusal::NoAccount | Refusal::AccountDisconnected)) => {
                    return Err(Trouble::End(FeedError::Disconnected));
                }
                Err(error @ (AppendError::Refused(_) | AppendError::Poison(_))) => {
                    return Err(Trouble::Poison(error.to_string()));
                }
                Err(error @ (AppendError::Store(_) | AppendError::Busy)) => {
                    if tries > 2 {
                        tracing::warn!(account_id = %self.account.id, %error, "a link waits for the database");
                    }
                    tokio::time::sleep(BACKOFF.delay(tries)).await;
                    tries += 1;
                }
            }
        }
    }
}
