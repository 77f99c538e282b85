//! Brings the schema up to date at start, one hub at a time.

use std::time::Duration;

use hub_actors::Clock;
use hub_actors::ports::StoreError;
use rand::RngExt;

use super::Store;
use super::errors::{read, unavailable};
use super::pool::{Connection, STATEMENT_TIMEOUT};

const MAY_ASK: &str = "SELECT has_function_privilege('pg_control_system()', 'EXECUTE')";
/// The cluster, the database in it and the table in that: a dump that is read back makes another one of the last two, a
/// dump that is read elsewhere, of all three. A copy of the files is the same in all of them: [`Store::renew_epoch`].
const HOME: &str = "SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()), d.oid, 'hub'::regclass::oid) \
    FROM pg_database d WHERE d.datname = current_database()";
const HOME_UNASKED: &str = "SELECT concat_ws('/', d.oid, 'hub'::regclass::oid) \
    FROM pg_database d WHERE d.datname = current_database()";
/// A database that was not told its home yet keeps its epoch.
const SETTLE: &str = "INSERT INTO hub AS h (singleton, epoch, home) VALUES (true, $1, $2) \
    ON CONFLICT (singleton) DO UPDATE SET home = excluded.home, \
        epoch = CASE WHEN h.home <> excluded.home THEN excluded.epoch ELSE h.epoch END \
    WHERE h.home IS DISTINCT FROM excluded.home RETURNING epoch = $1";
const RENEW: &str = "UPDATE hub SET epoch = $1";

mod embedded_sql {
    refinery::embed_migrations!("migrations");
}

/// The advisory lock that a hub holds while it changes the schema: the letters "mesghub1".
const LOCK: i64 = 0x6d65_7367_6875_6231;

/// How long another hub may take to bring the schema up to date.
const PATIENCE: Duration = Duration::from_secs(300);

/// How often the lock is tried. Waiting inside the database would count as a long statement.
const PAUSE: Duration = Duration::from_millis(200);

/// Letters and digits of an epoch.
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// The version of the newest migration that this hub knows.
pub(super) fn newest() -> i32 {
    let runner = embedded_sql::migrations::runner();
    runner
        .get_migrations()
        .iter()
        .map(refinery::Migration::version)
        .max()
        .unwrap_or(0)
}

/// Runs the missing migrations and returns the database's epoch.
pub(super) async fn migrate(connection: &mut Connection, clock: &Clock) -> Result<String, StoreError> {
    lock(connection, clock).await?;
    let result = migrate_locked(connection).await;
    connection.query("SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
    result
}

async fn lock(connection: &mut Connection, clock: &Clock) -> Result<(), StoreError> {
    let give_up_at = clock.now() + PATIENCE;
    loop {
        let rows = connection.query("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await?;
        if rows.first().map_or(Ok(false), |row| read(row, 0))? {
            return Ok(());
        }
        if clock.now() > give_up_at {
            return Err(unavailable("another hub has been changing the schema for too long"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn migrate_locked(connection: &mut Connection) -> Result<String, StoreError> {
    connection.batch("SET statement_timeout = 0").await?;
    let report = embedded_sql::migrations::runner()
        .run_async(connection.client_mut())
        .await;
    connection
        .batch(&format!("SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
        .await?;
    // The error names the migration, or the one that this hub does not know because a newer hub has made it.
    let report =
        report.map_err(|error| StoreError::Failed(format!("the schema cannot be brought up to date: {error}")))?;
    for migration in report.applied_migrations() {
        tracing::info!(%migration, "the schema was changed");
    }
    let asked = connection.query(MAY_ASK, &[]).await?;
    let may_ask = asked.first().map_or(Ok(false), |row| read(row, 0))?;
    let home = connection.query(if may_ask { HOME } else { HOME_UNASKED }, &[]).await?;
    let home: &str = home.first().map(|row| read(row, 0)).transpose()?.unwrap_or_default();
    let settled = connection.query(SETTLE, &[&new_epoch(), &home]).await?;
    if settled.first().map_or(Ok(false), |row| read(row, 0))? {
        tracing::info!("the database is new or a copy: streams have a new epoch");
    }
    let rows = connection.query("SELECT epoch FROM hub", &[]).await?;
    match rows.first() {
        Some(row) => read(row, 0),
        None => Err(StoreError::Failed("the table hub is empty".to_owned())),
    }
}

impl Store {
    /// Gives the database a new epoch: no position of before is resumed any more, and who comes with one reads afresh. For
    /// a copy of the database's files, which nothing tells from the original. Hubs that run do not notice.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn renew_epoch(&self) -> Result<(), StoreError> {
        self.execute(RENEW, &[&new_epoch()]).await.map(drop)
    }
}

/// Eight random lower-case letters and digits: 41 bits, to tell one database from another, not to be secret.
fn new_epoch() -> String {
    let mut random = rand::rng();
    (0..8)
        .map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]))
        .collect()
}
