//! Looks at a database without changing it, for `doctor`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hub_actors::ports::StoreError;
use time::OffsetDateTime;

use super::StoreRuntime;
use super::database::Database;
use super::errors::read;
use super::migrations;
use super::pool::{Connection, Pool};
use crate::settings::DatabaseSettings;

/// What a look at the database shows.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The server's version, such as `15.14`.
    pub version: String,
    /// The server's clock.
    pub now: OffsetDateTime,
    /// The schema's version; 0 when no hub has been here.
    pub schema: i32,
    /// The schema's version that this hub works with.
    pub schema_needed: i32,
    /// The keys that the master key must open: id and sealed key.
    pub sealed_keys: Vec<(i32, Vec<u8>)>,
}

impl Inspection {
    /// Connects and looks. The embedded database is started for it, and made if it is not there.
    ///
    /// # Errors
    /// [`StoreError`] when there is no answer, or the folder is in use.
    pub async fn make(settings: &DatabaseSettings) -> Result<Self, StoreError> {
        let runtime = StoreRuntime::start()?;
        let database = Arc::new(Database::start(settings).await?);
        let patience = Duration::from_secs(settings.connect_timeout_seconds.max(1));
        let pool = Pool::new(Arc::clone(&database), 1, patience, runtime.handle()?);
        let inspection = match pool.get().await {
            Ok(mut connection) => look(&mut connection).await,
            Err(error) => Err(error),
        };
        pool.close().await;
        database.stop().await;
        inspection
    }
}

async fn look(connection: &mut Connection) -> Result<Inspection, StoreError> {
    let rows = connection
        .query(
            "SELECT current_setting('server_version'), clock_timestamp(), \
             to_regclass('refinery_schema_history') IS NOT NULL, to_regclass('vault_keys') IS NOT NULL",
            &[],
        )
        .await?;
    let row = rows
        .first()
        .ok_or_else(|| StoreError::Failed("the database does not answer a question".to_owned()))?;
    let schema = if read(row, 2)? {
        let rows = connection
            .query("SELECT max(version) FROM refinery_schema_history", &[])
            .await?;
        rows.first()
            .map_or(Ok(None), |row| read::<Option<i32>>(row, 0))?
            .unwrap_or(0)
    } else {
        0
    };
    let sealed_keys = if read(row, 3)? {
        let rows = connection.query("SELECT id, sealed_key FROM vault_keys", &[]).await?;
        rows.iter()
            .map(|row| Ok((read(row, 0)?, read(row, 1)?)))
            .collect::<Result<_, StoreError>>()?
    } else {
        Vec::new()
    };
    Ok(Inspection {
        version: read(row, 0)?,
        now: read(row, 1)?,
        schema,
        schema_needed: migrations::newest(),
        sealed_keys,
    })
}

/// True when a running hub holds the embedded database of this folder.
pub fn is_in_use(cluster_folder: &Path) -> bool {
    std::fs::File::open(cluster_folder.join("hub.lock"))
        .is_ok_and(|lock| matches!(lock.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
}
