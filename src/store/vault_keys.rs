//! The keys that seal the rows: loaded, made, replaced.

use std::time::Duration;

use hub_actors::ports::StoreError;
use time::OffsetDateTime;

use super::Store;
use super::errors::read;
use super::pool::PATIENCE;
use crate::vault::DataKey;

/// How long before a new key seals: every running hub reloads its keys at least three times in it.
const NOTICE: Duration = Duration::from_secs(30);
/// Rows sealed anew at once; others want the database too.
const RESEAL_ROWS: u32 = 500;
const ROTATION_PAUSE: Duration = Duration::from_secs(5);

impl Store {
    /// Loads the keys of the database into the vault; makes the first one on a fresh database. To be called every ten
    /// seconds, so that a key from another hub is here before it is used.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the master key does not open them.
    pub async fn load_vault_keys(&self) -> Result<(), StoreError> {
        let mut keys = self.stored_keys().await?;
        if keys.is_empty() {
            self.add_key(&DataKey::generate(1, self.now())).await?;
            keys = self.stored_keys().await?;
        }
        self.vault().set_keys(keys);
        Ok(())
    }

    /// True while rows may be sealed with a key that is being replaced: a rotation runs, or was interrupted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_rotating(&self) -> Result<bool, StoreError> {
        Ok(self.stored_keys().await?.len() > 1)
    }

    /// Seals all rows anew with the newest key and deletes the replaced ones. Takes at least as long as the new key's
    /// notice to other hubs. Safe to repeat.
    ///
    /// # Errors
    /// When the database cannot do it; what was sealed anew stays so.
    pub async fn complete_rotation(&self) -> Result<(), StoreError> {
        loop {
            while self.reseal_batch(RESEAL_ROWS).await? > 0 {
                tokio::task::yield_now().await;
            }
            if self.finish_rotation().await? {
                return Ok(());
            }
            tokio::time::sleep(ROTATION_PAUSE).await;
        }
    }

    /// Makes the key that will replace the present one, known to every hub 30 seconds before it is used. Returns its id.
    /// A rotation that was interrupted is continued instead.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin_rotation(&self) -> Result<i32, StoreError> {
        let keys = self.stored_keys().await?;
        if keys.len() < 2 {
            let newest = keys.iter().map(|key| key.id).max().unwrap_or(0);
            self.add_key(&DataKey::generate(newest + 1, self.now() + NOTICE))
                .await?;
        }
        self.load_vault_keys().await?;
        Ok(self.newest_key().await?.0)
    }

    /// Deletes the replaced keys once no row is sealed with them any more. False when it is too early: rows are left, or
    /// the new key has not been in use long enough for every transaction that began before it to have ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn finish_rotation(&self) -> Result<bool, StoreError> {
        let (newest, current_from) = self.newest_key().await?;
        if self.now() < current_from + PATIENCE || self.count_unsealed_with(newest).await? > 0 {
            return Ok(false);
        }
        self.execute("DELETE FROM vault_keys WHERE id < $1", &[&newest]).await?;
        self.load_vault_keys().await?;
        Ok(true)
    }

    /// The newest key's id and the moment from which it seals.
    pub(super) async fn newest_key(&self) -> Result<(i32, OffsetDateTime), StoreError> {
        let row = self
            .query_one("SELECT id, current_from FROM vault_keys ORDER BY id DESC LIMIT 1", &[])
            .await?;
        let row = row.ok_or_else(|| StoreError::Failed("the database has no key".to_owned()))?;
        Ok((read(&row, 0)?, read(&row, 1)?))
    }

    async fn stored_keys(&self) -> Result<Vec<DataKey>, StoreError> {
        let rows = self
            .query("SELECT id, sealed_key, current_from FROM vault_keys ORDER BY id", &[])
            .await?;
        rows.iter()
            .map(|row| {
                let id: i32 = read(row, 0)?;
                let key = self.inner.master.open_data_key(id, read(row, 1)?).map_err(|_| {
                    StoreError::Failed(format!(
                        "vault.key does not open key {id} of this database: it is not the one that the database was made \
                         with"
                    ))
                })?;
                Ok(DataKey {
                    id,
                    key,
                    current_from: read(row, 2)?,
                })
            })
            .collect()
    }

    /// When another hub was faster, its key stands.
    async fn add_key(&self, key: &DataKey) -> Result<(), StoreError> {
        let sealed = self
            .inner
            .master
            .seal_data_key(key.id, &key.key)
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        self.execute(
            "INSERT INTO vault_keys (id, sealed_key, current_from, created_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (id) DO NOTHING",
            &[&key.id, &sealed, &key.current_from, &self.now()],
        )
        .await?;
        Ok(())
    }
}
