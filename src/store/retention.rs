//! Deletes what has outlived its time, in small steps, so that nobody waits long for it.

use hub_actors::ports::StoreError;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::Store;
use super::errors::read;
use super::vault_keys::KEY_KEPT;

/// Rows that one statement deletes at most.
const STEP: i64 = 2_000;
/// Statements for one table in one go at most; the rest waits for the next call.
const STEPS: usize = 500;
/// Users whose streams are looked at in one statement.
const USERS: i64 = 500;

macro_rules! outlived {
    ($table:literal, $key:literal, $column:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " t USING (SELECT ",
            $key,
            " FROM ",
            $table,
            " WHERE ",
            $column,
            " < $1 ORDER BY ",
            $column,
            " LIMIT $2 FOR UPDATE SKIP LOCKED) x WHERE t.",
            $key,
            " = x.",
            $key
        )
    };
}

/// Users with an event that is old enough. The oldest event of a stream is the one after the trimmed ones.
const STREAMS: &str = "SELECT u.id FROM users u WHERE u.id > $2 AND u.trimmed_seq < u.last_seq AND EXISTS ( \
        SELECT FROM events e WHERE e.user_id = u.id AND e.seq = u.trimmed_seq + 1 AND e.created_at < $1) \
    ORDER BY u.id LIMIT $3";

/// Bounds, events and the trimmed number change in one statement, so a reader sees all of it or nothing. The cut is the
/// last event before the first one that is young enough, at most `$3` events on.
const TRIM: &str = "WITH old AS MATERIALIZED (SELECT e.seq, e.created_at < $2 AS is_old FROM users u JOIN events e \
            ON e.user_id = u.id AND e.seq > u.trimmed_seq AND e.seq <= u.trimmed_seq + $3 WHERE u.id = $1), \
        cut AS MATERIALIZED (SELECT coalesce((SELECT min(seq) - 1 FROM old WHERE NOT is_old), \
            (SELECT max(seq) FROM old)) AS seq), \
        trimmed AS (UPDATE users u SET trimmed_seq = greatest(u.trimmed_seq, cut.seq) FROM cut \
            WHERE u.id = $1 AND cut.seq IS NOT NULL) \
    DELETE FROM events e USING cut WHERE e.user_id = $1 AND e.seq <= cut.seq";

/// All that hold anything: statistics of an empty table would tell the planner that it stays empty. The system's own too,
/// because one that is never frozen stops the whole database in the end.
const TABLES: &str = "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c \
    JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND pg_relation_size(c.oid) > 0 ORDER BY c.oid";

impl Store {
    /// Deletes old events, parked events, idempotency keys, quarantined deliveries, usage logs, expired tokens, OAuth states
    /// and replaced keys. Returns the number of rows.
    pub(super) async fn delete_outlived(&self) -> Result<u64, StoreError> {
        let (now, retention) = (self.now(), &self.inner.retention);
        let before = |days: u32| now - Duration::days(i64::from(days));
        let mut deleted = self.trim_streams(before(retention.events_days)).await?;
        for (statement, limit) in [
            (
                outlived!("parked_events", "id", "created_at"),
                before(retention.parked_days),
            ),
            (
                outlived!("quarantine", "id", "created_at"),
                before(retention.quarantine_days),
            ),
            (
                outlived!("api_usage_logs", "id", "created_at"),
                before(retention.usage_days),
            ),
            (
                outlived!("idempotency_keys", "ctid", "created_at"),
                before(retention.idempotency_days),
            ),
            // Kept a day longer than they are good for: a copied token that comes late is still recognised.
            (outlived!("refresh_tokens", "id", "expires_at"), before(1)),
            (outlived!("oauth_states", "state_hash", "expires_at"), now),
        ] {
            for _ in 0..STEPS {
                let rows = self.execute(statement, &[&limit, &STEP]).await?;
                deleted += rows;
                if rows < STEP.unsigned_abs() {
                    break;
                }
            }
        }
        self.tend().await?;
        Ok(deleted + self.retire_keys(KEY_KEPT).await?)
    }

    async fn trim_streams(&self, before: OffsetDateTime) -> Result<u64, StoreError> {
        let (mut deleted, mut after) = (0, Uuid::nil());
        loop {
            let rows = self.query(STREAMS, &[&before, &after, &USERS]).await?;
            let Some(last) = rows.last() else {
                return Ok(deleted);
            };
            after = read(last, 0)?;
            for row in &rows {
                let user: Uuid = read(row, 0)?;
                for _ in 0..STEPS {
                    let rows = self.execute(TRIM, &[&user, &before, &STEP]).await?;
                    deleted += rows;
                    if rows < STEP.unsigned_abs() {
                        break;
                    }
                }
            }
        }
    }

    /// The embedded database has no background process that reclaims space and renews statistics.
    async fn tend(&self) -> Result<(), StoreError> {
        if !self.inner.database.is_embedded() {
            return Ok(());
        }
        for row in &self.query(TABLES, &[]).await? {
            let table: &str = read(row, 0)?;
            // What took too long has still freed what it came to; the others have their turn.
            if let Err(error) = self
                .connection()
                .await?
                .batch(&format!("VACUUM (ANALYZE) {table}"))
                .await
            {
                tracing::warn!(table, %error, "a table of the embedded database could not be tended");
            }
        }
        Ok(())
    }
}
