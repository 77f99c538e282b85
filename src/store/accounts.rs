//! Linked platform accounts.

use hub_actors::domain::{Account, AccountState, Credentials};
use hub_actors::ports::{LinkMemory, StoreError};
use hub_actors::{AccountId, ExternalId, PlatformId, UserId};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::Store;
use super::errors::{read, read_name};
use super::links::{DEPOSE, REMEMBER};
use super::pool::Transaction;
use super::sealing::{CREDENTIALS, LINK_MEMORY, memory_row};
use crate::vault::Vault;

/// An account that is being linked.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// Used when the user has no account of that name on that platform yet.
    pub id: AccountId,
    /// Whose it is.
    pub user_id: UserId,
    /// The platform.
    pub platform: PlatformId,
    /// The account's id on the platform.
    pub external_id: ExternalId,
    /// The name that the person knows it by.
    pub name: Option<String>,
    /// What the platform needs; stored sealed.
    pub credentials: Credentials,
    /// How the link is doing to begin with.
    pub state: AccountState,
}

/// The columns that [`account`] reads, in its order.
macro_rules! account_columns {
    () => {
        "a.id, a.user_id, a.platform, a.platform_user_id, a.platform_username, a.is_active, a.state, a.state_reason, \
         a.state_until, a.created_at, a.updated_at"
    };
}
pub(super) use account_columns;

/// An account without its credentials.
pub(super) fn account(row: &Row) -> Result<Account, StoreError> {
    Ok(Account {
        id: AccountId(read(row, 0)?),
        user_id: UserId(read(row, 1)?),
        platform: PlatformId::from(read::<&str>(row, 2)?),
        external_id: ExternalId::from(read::<&str>(row, 3)?),
        name: read(row, 4)?,
        is_active: read(row, 5)?,
        state: read_name(row, 6, AccountState::from_name)?,
        state_reason: read(row, 7)?,
        state_until: read(row, 8)?,
        credentials: Credentials::default(),
        created_at: read(row, 9)?,
        updated_at: read(row, 10)?,
    })
}

/// An account with its credentials opened, which follow its other columns.
fn opened_account(row: &Row, vault: &Vault) -> Result<Account, StoreError> {
    let mut account = account(row)?;
    if let Some(sealed) = read::<Option<&[u8]>>(row, 11)? {
        account.credentials = CREDENTIALS.open_json(vault, account.id.0.as_bytes(), sealed)?;
    }
    Ok(account)
}

/// The lock that the journal takes, so that linking and disconnecting wait for it and it for them.
pub(super) const LOCK_OWNER: &str = "SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE";
const FIND_LINKED: &str = "SELECT id FROM connected_accounts \
    WHERE user_id = $1 AND platform = $2 AND platform_user_id = $3";
const UPSERT: &str = concat!(
    "INSERT INTO connected_accounts AS a (id, user_id, platform, platform_user_id, platform_username, credentials, \
     is_active, state, state_reason, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, true, $7, NULL, $8, $8) \
     ON CONFLICT (id) DO UPDATE SET platform_username = excluded.platform_username, credentials = \
     excluded.credentials, is_active = true, state = excluded.state, state_reason = NULL, state_until = NULL, \
     updated_at = excluded.updated_at WHERE a.user_id = excluded.user_id RETURNING ",
    account_columns!()
);
/// With what its live link remembers: from here on the journal refuses what the link may still have on its way.
const DISCONNECT: &str = "WITH gone AS (UPDATE connected_accounts SET is_active = false, state = 'disabled', \
    state_reason = NULL, state_until = NULL, credentials = NULL, updated_at = $3 \
    WHERE id = $2 AND user_id = $1 AND is_active RETURNING id) \
    DELETE FROM link_memory m USING gone WHERE m.account_id = gone.id";
const FIND: &str = concat!(
    "SELECT ",
    account_columns!(),
    ", a.credentials FROM connected_accounts a WHERE a.user_id = $1 AND a.id = $2"
);
const CHANGE: &str = "UPDATE connected_accounts SET platform_username = $2, credentials = $3, state = $4, \
    state_reason = $5, state_until = $6, updated_at = $7 WHERE id = $1";
const OWNED: &str = "SELECT FROM connected_accounts WHERE id = $2 AND user_id = $1";

impl Store {
    /// The user's accounts, newest first, disconnected ones too, without their credentials.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn accounts(&self, user_id: UserId) -> Result<Vec<Account>, StoreError> {
        let rows = self
            .query(
                concat!(
                    "SELECT ",
                    account_columns!(),
                    " FROM connected_accounts a WHERE a.user_id = $1 ORDER BY a.created_at DESC, a.id DESC"
                ),
                &[&user_id.0],
            )
            .await?;
        rows.iter().map(account).collect()
    }

    /// The user's account of that id with its credentials opened.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_account(&self, user_id: UserId, id: AccountId) -> Result<Option<Account>, StoreError> {
        let row = self.query_one(FIND, &[&user_id.0, &id.0]).await?;
        row.map(|row| opened_account(&row, self.vault())).transpose()
    }

    /// Anybody's account of that id with its credentials opened, for the account's own connection.
    pub(super) async fn any_account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        let row = self
            .query_one(
                concat!(
                    "SELECT ",
                    account_columns!(),
                    ", a.credentials FROM connected_accounts a WHERE a.id = $1"
                ),
                &[&id.0],
            )
            .await?;
        row.map(|row| opened_account(&row, self.vault())).transpose()
    }

    /// Links an account. One that the user had linked before keeps its id and its conversations and becomes active
    /// again, with the new name, credentials and state. Returned without credentials.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Failed`] when there is no such user.
    pub async fn create_account(&self, new: NewAccount) -> Result<Account, StoreError> {
        self.store_account(new, None).await
    }

    /// As [`Store::create_account`], with what the account's live link begins with: who holds the link loses it.
    pub(super) async fn store_account(
        &self,
        new: NewAccount,
        memory: Option<&LinkMemory>,
    ) -> Result<Account, StoreError> {
        let mut connection = self.connection().await?;
        connection
            .prepare(&[LOCK_OWNER, FIND_LINKED, UPSERT, REMEMBER, DEPOSE])
            .await?;
        let transaction = Transaction::new(&connection);
        let client = connection.client();
        let (lock, find) = (connection.statement(LOCK_OWNER)?, connection.statement(FIND_LINKED)?);
        let rows = connection
            .wait(async {
                let owner: [&(dyn ToSql + Sync); 1] = [&new.user_id.0];
                let names: [&(dyn ToSql + Sync); 3] =
                    [&new.user_id.0, &new.platform.as_str(), &new.external_id.as_str()];
                let (begun, locked, rows) = futures_util::join!(
                    client.batch_execute("BEGIN"),
                    client.query(lock, &owner),
                    client.query(find, &names),
                );
                begun?;
                locked?;
                rows
            })
            .await?;
        // The seal is bound to the row's id, so that has to be known first.
        let id = rows.first().map_or(Ok(new.id.0), |row| read(row, 0))?;
        let sealed = CREDENTIALS.seal_json(self.vault(), id.as_bytes(), &new.credentials)?;
        let rows = connection
            .wait(client.query(
                connection.statement(UPSERT)?,
                &[
                    &id,
                    &new.user_id.0,
                    &new.platform.as_str(),
                    &new.external_id.as_str(),
                    &new.name,
                    &sealed,
                    &new.state.as_str(),
                    &self.now(),
                ],
            ))
            .await?;
        let row = rows
            .first()
            .ok_or_else(|| StoreError::Failed("the account's id belongs to another user".to_owned()))?;
        let account = account(row)?;
        if let Some(memory) = memory {
            let (mut names, mut values) = (Vec::new(), Vec::new());
            for (name, value) in memory {
                values.push(LINK_MEMORY.seal(self.vault(), &memory_row(id, name), value)?);
                names.push(name.as_str());
            }
            let (remember, depose) = (connection.statement(REMEMBER)?, connection.statement(DEPOSE)?);
            connection
                .wait(async {
                    client.execute(remember, &[&id, &names, &values]).await?;
                    client.execute(depose, &[&id]).await
                })
                .await?;
        }
        transaction.commit().await?;
        Ok(account)
    }

    /// Has the user's active account changed: its name, its credentials, which `change` gets opened, its state with what
    /// belongs to it, and its `updated_at`. Nothing that anybody else does to it, on any hub, comes between. None when the
    /// user has no such account on that platform or it is disconnected.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is changed then.
    pub async fn change_account<T>(
        &self,
        user_id: UserId,
        id: AccountId,
        platform: &str,
        change: impl FnOnce(&mut Account) -> T,
    ) -> Result<Option<(Account, T)>, StoreError> {
        let mut connection = self.connection().await?;
        connection.prepare(&[LOCK_OWNER, FIND, CHANGE]).await?;
        let transaction = Transaction::new(&connection);
        let client = connection.client();
        let (lock, find) = (connection.statement(LOCK_OWNER)?, connection.statement(FIND)?);
        let rows = connection
            .wait(async {
                let parameters: [&(dyn ToSql + Sync); 2] = [&user_id.0, &id.0];
                let (begun, locked, rows) = futures_util::join!(
                    client.batch_execute("BEGIN"),
                    client.query(lock, &parameters[..1]),
                    client.query(find, &parameters),
                );
                begun?;
                locked?;
                rows
            })
            .await?;
        let account = rows.first().map(|row| opened_account(row, self.vault())).transpose()?;
        let account = account.filter(|account| account.is_active && account.platform.as_str() == platform);
        let Some(mut account) = account else {
            return Ok(None);
        };
        let answer = change(&mut account);
        let sealed = CREDENTIALS.seal_json(self.vault(), id.0.as_bytes(), &account.credentials)?;
        connection
            .wait(client.execute(
                connection.statement(CHANGE)?,
                &[
                    &id.0,
                    &account.name,
                    &sealed,
                    &account.state.as_str(),
                    &account.state_reason,
                    &account.state_until,
                    &account.updated_at,
                ],
            ))
            .await?;
        transaction.commit().await?;
        Ok(Some((account, answer)))
    }

    /// Disconnects an account and erases its credentials; its conversations stay. True also when it was disconnected
    /// before, false when the user has no such account.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn disconnect_account(&self, user_id: UserId, id: AccountId) -> Result<bool, StoreError> {
        let mut connection = self.connection().await?;
        connection.prepare(&[LOCK_OWNER, DISCONNECT, OWNED]).await?;
        let transaction = Transaction::new(&connection);
        let (client, now) = (connection.client(), self.now());
        let (lock, disconnect) = (connection.statement(LOCK_OWNER)?, connection.statement(DISCONNECT)?);
        let owned = connection.statement(OWNED)?;
        let rows = connection
            .wait(async {
                let parameters: [&(dyn ToSql + Sync); 3] = [&user_id.0, &id.0, &now];
                let (begun, locked, disconnected, rows) = futures_util::join!(
                    client.batch_execute("BEGIN"),
                    client.query(lock, &parameters[..1]),
                    client.execute(disconnect, &parameters),
                    client.query(owned, &parameters[..2]),
                );
                begun?;
                locked?;
                disconnected?;
                rows
            })
            .await?;
        transaction.commit().await?;
        Ok(!rows.is_empty())
    }
}
