//! The keys that seal the rows: loaded, made, replaced.
//!
//! All hubs go by the database's clock, as with leases: which key seals, and when a replaced one may go, is never asked of
//! a hub's own.

use std::time::Duration;

use hub_actors::ports::StoreError;

use super::Store;
use super::errors::read;
use crate::vault::DataKey;

/// How long before a new key seals: every running hub reloads its keys at least three times in it.
pub const KEY_NOTICE: Duration = Duration::from_secs(30);
/// How long after a new key's time has come values may still arrive that the old one has sealed: a hub reloads its keys
/// every ten seconds, and seals before it waits for a connection, and then for the answer.
pub const KEY_SETTLING: Duration = Duration::from_secs(60);
/// How long a replaced key is kept after no value was found that it has sealed. What was slower than [`KEY_SETTLING`]
/// is still opened.
pub const KEY_KEPT: Duration = Duration::from_secs(24 * 3600);

const PAUSE: Duration = Duration::from_secs(1);

const KEYS: &str = "SELECT id, sealed_key, current_from <= now(), replaced_at IS NOT NULL, \
    extract(epoch FROM now() - current_from)::float8 FROM vault_keys ORDER BY id";
/// A clock that was set back must not make the new key older than the one that it replaces.
const ADD: &str = "INSERT INTO vault_keys (id, sealed_key, current_from, created_at) \
    SELECT $1, $2, greatest(now(), max(current_from)) + $3 * interval '1 millisecond', $4 FROM vault_keys \
    ON CONFLICT (id) DO NOTHING";
const REPLACED: &str = "UPDATE vault_keys SET replaced_at = now() WHERE id < $1 AND replaced_at IS NULL";
const STILL_USED: &str = "UPDATE vault_keys SET replaced_at = now() WHERE replaced_at IS NOT NULL";
const RETIRED: &str = "SELECT id FROM vault_keys WHERE replaced_at <= now() - $1 * interval '1 millisecond'";
const DELETE: &str =
    "DELETE FROM vault_keys WHERE id = ANY($1) AND replaced_at <= now() - $2 * interval '1 millisecond'";

/// A key and what the database's clock says of it.
struct StoredKey {
    key: DataKey,
    is_due: bool,
    is_replaced: bool,
    /// Seconds since it is due; below 0 while it is not.
    age: f64,
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// The newest key whose time has come; else the oldest: a clock that was set back must not stop the hub.
fn sealing(keys: &[StoredKey]) -> Option<i32> {
    let candidates = || keys.iter().filter(|key| !key.is_replaced);
    let due = candidates().filter(|key| key.is_due).map(|key| key.key.id).max();
    due.or_else(|| candidates().map(|key| key.key.id).min())
}

impl Store {
    /// Loads the keys of the database into the vault; makes the first one on a fresh database. To be called every ten
    /// seconds, so that a key from another hub is here before it is used.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the master key does not open them.
    pub async fn load_vault_keys(&self) -> Result<(), StoreError> {
        self.reload_keys().await.map(drop)
    }

    /// True while rows may be sealed with a key that is being replaced: a rotation runs, or was interrupted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_rotating(&self) -> Result<bool, StoreError> {
        let keys = self.stored_keys().await?;
        Ok(keys.iter().filter(|key| !key.is_replaced).count() > 1)
    }

    /// Makes the key that will replace the present one, known to every hub for `notice` before it is used: in earnest
    /// [`KEY_NOTICE`]. Returns its id. A rotation that was interrupted is continued instead.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin_rotation(&self, notice: Duration) -> Result<i32, StoreError> {
        if !self.is_rotating().await? {
            let newest = self.reload_keys().await?.iter().map(|key| key.key.id).max();
            self.add_key(&DataKey::generate(newest.unwrap_or(0) + 1), notice)
                .await?;
        }
        let keys = self.reload_keys().await?;
        newest(&keys).map(|key| key.key.id)
    }

    /// Seals all rows anew with the newest key, until a walk through all of them that began `settling` after the key's
    /// time had come, in earnest [`KEY_SETTLING`], finds nothing to do. The replaced keys are then kept for another while:
    /// [`Store::retire_keys`]. Safe to repeat.
    ///
    /// # Errors
    /// When the database cannot do it; what was sealed anew stays so.
    pub async fn complete_rotation(&self, settling: Duration) -> Result<(), StoreError> {
        loop {
            let keys = self.reload_keys().await?;
            let StoredKey { key, age, .. } = newest(&keys)?;
            let mut pause = PAUSE;
            if sealing(&keys) == Some(key.id) {
                let changed = self.reseal(key.id).await?;
                if changed == 0 && *age >= settling.as_secs_f64() {
                    self.execute(REPLACED, &[&key.id]).await?;
                    return self.load_vault_keys().await;
                }
                let left = settling.as_secs_f64() - age;
                pause = Duration::try_from_secs_f64(left).unwrap_or_default().max(PAUSE);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Deletes the keys that were replaced at least `kept` ago, in earnest [`KEY_KEPT`], if no row is sealed with one of
    /// them; else what is left is sealed anew and they are kept as long again. Returns how many are gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn retire_keys(&self, kept: Duration) -> Result<u64, StoreError> {
        let kept = milliseconds(kept);
        let rows = self.query(RETIRED, &[&kept]).await?;
        let retired = rows.iter().map(|row| read(row, 0)).collect::<Result<Vec<i32>, _>>()?;
        let keys = self.reload_keys().await?;
        let newest = newest(&keys)?.key.id;
        // While a rotation runs it does the sealing.
        if retired.is_empty() || sealing(&keys) != Some(newest) || self.is_rotating().await? {
            return Ok(0);
        }
        let changed = self.reseal(newest).await?;
        if changed > 0 {
            tracing::warn!(
                rows = changed,
                "rows were still sealed with a replaced key: it is kept longer"
            );
            self.execute(STILL_USED, &[]).await?;
            return Ok(0);
        }
        let deleted = self.execute(DELETE, &[&retired, &kept]).await?;
        self.load_vault_keys().await?;
        tracing::info!(keys = ?retired, "replaced keys are deleted");
        Ok(deleted)
    }

    async fn reload_keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        let mut keys = self.stored_keys().await?;
        if keys.is_empty() {
            self.add_key(&DataKey::generate(1), Duration::ZERO).await?;
            keys = self.stored_keys().await?;
        }
        let sealing = sealing(&keys).ok_or_else(no_key)?;
        self.vault()
            .set_keys(keys.iter().map(|key| key.key.clone()).collect(), sealing);
        Ok(keys)
    }

    async fn stored_keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        let rows = self.query(KEYS, &[]).await?;
        rows.iter()
            .map(|row| {
                let id: i32 = read(row, 0)?;
                let key = self.inner.master.open_data_key(id, read(row, 1)?).map_err(|_| {
                    StoreError::Failed(format!(
                        "vault.key does not open key {id} of this database: it is not the one that the database was made \
                         with"
                    ))
                })?;
                Ok(StoredKey {
                    key: DataKey { id, key },
                    is_due: read(row, 2)?,
                    is_replaced: read(row, 3)?,
                    age: read(row, 4)?,
                })
            })
            .collect()
    }

    /// When another hub was faster, its key stands.
    async fn add_key(&self, key: &DataKey, notice: Duration) -> Result<(), StoreError> {
        let sealed = self
            .inner
            .master
            .seal_data_key(key.id, &key.key)
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        self.execute(ADD, &[&key.id, &sealed, &milliseconds(notice), &self.now()])
            .await
            .map(drop)
    }
}

fn newest(keys: &[StoredKey]) -> Result<&StoredKey, StoreError> {
    keys.iter().max_by_key(|key| key.key.id).ok_or_else(no_key)
}

fn no_key() -> StoreError {
    StoreError::Failed("the database has no key".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: i32, is_due: bool, is_replaced: bool) -> StoredKey {
        StoredKey {
            key: DataKey::generate(id),
            is_due,
            is_replaced,
            age: 0.0,
        }
    }

    #[test]
    fn the_newest_key_that_is_due_seals_and_never_a_replaced_one() {
        for (keys, wanted) in [
            (vec![], None),
            (vec![key(1, true, false)], Some(1)),
            (vec![key(1, true, false), key(2, false, false)], Some(1)),
            (vec![key(1, true, false), key(2, true, false)], Some(2)),
            // The clock was set back.
            (vec![key(1, false, false), key(2, false, false)], Some(1)),
            (vec![key(1, true, true), key(2, false, false)], Some(2)),
        ] {
            assert_eq!(sealing(&keys), wanted);
        }
    }
}
