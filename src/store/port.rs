//! Storage as the actors see it.

use std::time::Duration;

use async_trait::async_trait;
use hub_actors::domain::{Account, Append, Appended};
use hub_actors::ports::{
    self, AppendError, ConversationHead, Lease, LinkMemory, NewLink, OutboxPage, QuarantinedDelivery, StoreError,
    StreamPage, StreamRead,
};
use hub_actors::{AccountId, ConversationId, ExternalId, OutboxId, PlatformId, UserId};
use uuid::Uuid;

use super::Store;

#[async_trait]
impl ports::Store for Store {
    async fn commit(&self, batch: Vec<Append>) -> Result<Vec<Result<Appended, AppendError>>, StoreError> {
        self.commit_batch(batch).await
    }

    async fn read_streams(&self, reads: &[StreamRead]) -> Result<Vec<Result<StreamPage, StoreError>>, StoreError> {
        self.read_stream_pages(reads).await
    }

    async fn unread_counts(&self, user_id: UserId) -> Result<Vec<(PlatformId, i64)>, StoreError> {
        self.unread_by_platform(user_id).await
    }

    async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        self.any_account(id).await
    }

    async fn conversation_head(&self, id: ConversationId) -> Result<Option<ConversationHead>, StoreError> {
        self.any_conversation_head(id).await
    }

    async fn conversation_id(
        &self,
        account_id: AccountId,
        chat: &ExternalId,
    ) -> Result<Option<ConversationId>, StoreError> {
        self.conversation_of(account_id, chat).await
    }

    async fn pending_outbox(&self) -> Result<Vec<OutboxId>, StoreError> {
        self.pending_outbox_ids().await
    }

    async fn outbox(&self, ids: &[OutboxId]) -> Result<OutboxPage, StoreError> {
        self.pending_outbox_entries(ids).await
    }

    async fn quarantine(&self, delivery: QuarantinedDelivery) -> Result<(), StoreError> {
        self.insert_quarantined(&delivery).await
    }

    async fn retain(&self) -> Result<u64, StoreError> {
        self.delete_outlived().await
    }

    async fn lease_accounts(
        &self,
        owner: Uuid,
        platforms: &[PlatformId],
        length: Duration,
    ) -> Result<Vec<Lease>, StoreError> {
        self.renew_leases(owner, platforms, length).await
    }

    async fn release_leases(&self, owner: Uuid, only: Option<AccountId>) -> Result<(), StoreError> {
        self.delete_leases(owner, only).await
    }

    async fn link_memory(&self, account_id: AccountId) -> Result<LinkMemory, StoreError> {
        self.read_link_memory(account_id).await
    }

    async fn forget_link(&self, account_id: AccountId) -> Result<(), StoreError> {
        self.delete_link_memory(account_id).await
    }

    async fn link_account(&self, link: NewLink) -> Result<Account, StoreError> {
        self.create_link(link).await
    }

    async fn chats_of(
        &self,
        account_id: AccountId,
        messages: &[ExternalId],
    ) -> Result<Vec<(ExternalId, ExternalId)>, StoreError> {
        self.chats_of_messages(account_id, messages).await
    }

    fn epoch(&self) -> &str {
        &self.inner.epoch
    }
}
