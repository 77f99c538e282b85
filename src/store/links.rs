//! Live links: who owns them and what they remember. What a link learns with its messages is stored by the journal.

use std::time::Duration;

use hub_actors::domain::{Account, AccountState, Credentials};
use hub_actors::ports::{Lease, LinkMemory, NewLink, StoreError};
use hub_actors::{AccountId, ExternalId, PlatformId};
use uuid::Uuid;

use super::Store;
use super::accounts::NewAccount;
use super::errors::read;
use super::sealing::{LINK_MEMORY, memory_row};

/// Names of accounts that wait for their person are left out, so that nobody knocks at a door that stays shut.
const LEASE: &str = "INSERT INTO account_leases AS l (account_id, owner, epoch, expires_at) \
    SELECT a.id, $1, 1, now() + $3 * interval '1 millisecond' FROM connected_accounts a \
    WHERE a.platform = ANY($2::text[]) AND a.is_active AND a.state NOT IN ('needs_login', 'revoked', 'disabled') \
    ORDER BY a.id \
    ON CONFLICT (account_id) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at, \
        epoch = l.epoch + CASE WHEN l.owner = excluded.owner THEN 0 ELSE 1 END \
    WHERE l.owner = excluded.owner OR l.expires_at < now() \
    RETURNING l.account_id, l.epoch";
/// The row stays: the epoch must never begin again.
const RELEASE: &str = "UPDATE account_leases SET expires_at = '-infinity' \
    WHERE owner = $1 AND ($2::uuid IS NULL OR account_id = $2)";
pub(super) const REMEMBER: &str = "INSERT INTO link_memory (account_id, name, value) \
    SELECT $1, v.name, v.value FROM unnest($2::text[], $3::bytea[]) AS v(name, value) \
    ON CONFLICT (account_id, name) DO UPDATE SET value = excluded.value";
/// Whoever holds the old link loses it with the new session.
pub(super) const DEPOSE: &str =
    "UPDATE account_leases SET epoch = epoch + 1, expires_at = '-infinity' WHERE account_id = $1";
/// The sub-query with OFFSET keeps the planner from reading all messages of that id.
const CHATS: &str = "SELECT m.platform_message_id, c.platform_conversation_id FROM (SELECT id, platform_conversation_id \
        FROM conversations WHERE account_id = $1 OFFSET 0) c \
    JOIN messages m ON m.conversation_id = c.id AND m.platform_message_id = ANY($2::text[])";

impl Store {
    pub(super) async fn renew_leases(
        &self,
        owner: Uuid,
        platforms: &[PlatformId],
        length: Duration,
    ) -> Result<Vec<Lease>, StoreError> {
        let platforms: Vec<&str> = platforms.iter().map(PlatformId::as_str).collect();
        let milliseconds = length.as_secs_f64() * 1_000.0;
        let rows = self.query(LEASE, &[&owner, &platforms, &milliseconds]).await?;
        let lease = |row| {
            Ok(Lease {
                account_id: AccountId(read(row, 0)?),
                epoch: read(row, 1)?,
            })
        };
        rows.iter().map(lease).collect()
    }

    pub(super) async fn delete_leases(&self, owner: Uuid, only: Option<AccountId>) -> Result<(), StoreError> {
        let only = only.map(|id| id.0);
        self.execute(RELEASE, &[&owner, &only]).await.map(drop)
    }

    pub(super) async fn read_link_memory(&self, account_id: AccountId) -> Result<LinkMemory, StoreError> {
        let rows = self
            .query(
                "SELECT name, value FROM link_memory WHERE account_id = $1",
                &[&account_id.0],
            )
            .await?;
        let mut memory = LinkMemory::new();
        for row in &rows {
            let name: String = read(row, 0)?;
            let value = LINK_MEMORY.open(self.vault(), &memory_row(account_id.0, &name), read(row, 1)?)?;
            memory.insert(name, value);
        }
        Ok(memory)
    }

    pub(super) async fn delete_link_memory(&self, account_id: AccountId) -> Result<(), StoreError> {
        self.execute("DELETE FROM link_memory WHERE account_id = $1", &[&account_id.0])
            .await
            .map(drop)
    }

    /// The account asks for a login until its session is stored and the tree has set it to work.
    pub(super) async fn create_link(&self, link: NewLink) -> Result<Account, StoreError> {
        let new = NewAccount {
            id: AccountId::generate(self.now()),
            user_id: link.user_id,
            platform: link.platform,
            external_id: link.external_id,
            name: link.name,
            credentials: Credentials::default(),
            state: AccountState::NeedsLogin,
        };
        self.store_account(new, Some(&link.memory)).await
    }

    pub(super) async fn chats_of_messages(
        &self,
        account_id: AccountId,
        messages: &[ExternalId],
    ) -> Result<Vec<(ExternalId, ExternalId)>, StoreError> {
        let messages: Vec<&str> = messages.iter().map(ExternalId::as_str).collect();
        let rows = self.query(CHATS, &[&account_id.0, &messages]).await?;
        let pair = |row| {
            Ok((
                ExternalId::from(read::<&str>(row, 0)?),
                ExternalId::from(read::<&str>(row, 1)?),
            ))
        };
        rows.iter().map(pair).collect()
    }
}
