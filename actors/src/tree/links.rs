//! Live links, as HTTP handlers see them.

use std::time::Duration;

use super::{CommandError, Tree};
use crate::connection;
use crate::domain::{AccountState, SendError, SendFailure};
use crate::ids::{AccountId, ConversationId, ExternalId, UserId};
use crate::leases;
use crate::mailbox::answer;
use crate::ports::{HistoryRequest, MediaRequest, MediaStream, StoreError};

/// Longer than a link's own limits.
const LINK_PATIENCE: Duration = Duration::from_secs(30);

impl Tree {
    /// True when the account is one that is held open.
    pub fn is_live(&self, platform: &crate::ids::PlatformId) -> bool {
        self.hub
            .adapters
            .get(platform)
            .is_some_and(|adapter| adapter.live().is_some())
    }

    /// Fetches messages of the user's conversation older than `before` from the platform, and comes back when they are
    /// committed. Returns how many there were: fewer than asked means that there are no older ones.
    ///
    /// # Errors
    /// [`CommandError::Refused`] when the user has no such conversation; else why the platform did not give them.
    pub async fn fetch_history(
        &self,
        user_id: UserId,
        conversation_id: ConversationId,
        before: Option<ExternalId>,
        limit: usize,
    ) -> Result<usize, CommandError> {
        let head = self.head(user_id, conversation_id).await?;
        let request = HistoryRequest {
            conversation: head.external_id.clone(),
            before,
            limit,
        };
        let question = |reply| connection::Command::History { request, reply };
        let asked = self.hub.connections.ask(&head.account_id, LINK_PATIENCE, question);
        asked
            .await?
            .map_err(|error| CommandError::Unavailable(error.to_string()))
    }

    /// Streams a part of a file. The caller has made sure that the account is the user's.
    ///
    /// # Errors
    /// Why the platform did not give it.
    pub async fn media(&self, account_id: AccountId, request: MediaRequest) -> Result<MediaStream, SendError> {
        let question = |reply| connection::Command::Media { request, reply };
        let asked = self.hub.connections.ask(&account_id, LINK_PATIENCE, question);
        asked.await.map_err(|_| SendError::new(SendFailure::NotConnected))?
    }

    /// Asks the account's link to look for what is new, in the background; one that is not open is tried at once.
    pub fn refresh_link(&self, account_id: AccountId) {
        match self.hub.connections.find(&account_id) {
            // Worth nothing when the connection is too busy to hear it: it works already.
            Some(connection) => drop(connection.tell(connection::Command::Refresh)),
            None => self.look_for_leases(),
        }
    }

    /// The person has logged in to the account: its link is opened.
    ///
    /// # Errors
    /// [`CommandError`]; then the account asks for another login.
    pub async fn account_linked(&self, user_id: UserId, account_id: AccountId) -> Result<(), CommandError> {
        self.set_account_state(user_id, account_id, AccountState::Connecting, None)
            .await?;
        self.reload_account(account_id);
        self.look_for_leases();
        Ok(())
    }

    /// The account's conversations were deleted: its link begins anew and fetches them again.
    ///
    /// # Errors
    /// [`CommandError`]; then they come with the next start of the link.
    pub async fn account_reset(&self, user_id: UserId, account_id: AccountId) -> Result<(), CommandError> {
        self.hub.forget_conversations(account_id);
        self.account_linked(user_id, account_id).await
    }

    /// Ends the session on the platform, closes the link and erases what it remembers. To be called before the account
    /// is disconnected.
    ///
    /// # Errors
    /// When what it remembers could not be erased.
    pub async fn end_link(&self, account_id: AccountId) -> Result<(), StoreError> {
        if let Some(connection) = self.hub.connections.find(&account_id) {
            let receiver = connection
                .ask(|reply| connection::Command::SignOut { reply })
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
            if let Err(error) = answer(receiver, LINK_PATIENCE).await {
                tracing::warn!(%account_id, %error, "a session may still stand in the platform's device list");
            }
        }
        self.hub.store.forget_link(account_id).await?;
        self.hub.store.release_leases(self.hub.owner, Some(account_id)).await
    }

    fn look_for_leases(&self) {
        if let Some(leases) = self.hub.leases.find(&0) {
            leases.insist(leases::Command::Look);
        }
    }
}
