//! Seals every row anew with the newest key, page by page, while the hub runs.

use std::time::Duration;

use hub_actors::ports::StoreError;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Store;
use super::errors::read;
use super::pool::STATEMENT_TIMEOUT;
use super::sealing::{
    ANSWER, ATTACHMENTS, CONTENT, CREDENTIALS, EDIT, EVENT, LINK_MEMORY, MEDIA_URL, OUTBOX, PARKED, QUARANTINE,
    REPLACEMENT, SealedColumn,
};

/// How a table with a sealed column is walked through: in the order of its key, which is a UUID and perhaps a second part
/// written as text.
struct Walk {
    column: SealedColumn,
    /// The second part's least value.
    start: &'static str,
    /// After `$1` and `$2`, at most `$3` rows: both parts of the key, the key as the seal knows it, and the value, null
    /// when it is sealed with the key `$4` already.
    page: &'static str,
    /// Replaces values, except those that were changed in the meantime.
    update: &'static str,
    /// Counts the values that are not sealed with the key `$1`.
    count: &'static str,
}

macro_rules! walk {
    ($column:expr, $start:literal, $table:literal, $value:literal, key: $first:literal, $second:literal,
     after: $after:literal, order: $order:literal, row: $row:literal, same: $same:literal) => {
        Walk {
            column: $column,
            start: $start,
            page: concat!(
                "SELECT ", $first, ", ", $second, "::text, ", $row,
                ", CASE WHEN substring(t.", $value, " FROM 2 FOR 4) <> $4::bytea THEN t.", $value, " END FROM ", $table,
                " t WHERE ", $after, " ORDER BY ", $order, " LIMIT $3"
            ),
            update: concat!(
                "UPDATE ", $table, " t SET ", $value,
                " = v.new FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[]) AS v(first, second, old, new) \
                 WHERE ", $same, " AND t.", $value, " = v.old"
            ),
            count: concat!(
                "SELECT count(*) FROM ", $table, " t WHERE substring(t.", $value, " FROM 2 FOR 4) <> $1::bytea"
            ),
        }
    };
    ($column:expr, $table:literal, $value:literal) => {
        walk!($column, "", $table, $value, key: "t.id", "''",
            after: "t.id > $1 AND $2::text = ''", order: "t.id", row: "uuid_send(t.id)", same: "t.id = v.first")
    };
}

/// Every sealed column.
const WALKS: [Walk; 12] = [
    walk!(CREDENTIALS, "connected_accounts", "credentials"),
    walk!(CONTENT, "messages", "content"),
    walk!(MEDIA_URL, "messages", "media_url"),
    walk!(ATTACHMENTS, "messages", "attachments"),
    walk!(PARKED, "parked_events", "payload"),
    walk!(OUTBOX, "outbox", "payload"),
    walk!(QUARANTINE, "quarantine", "body"),
    walk!(REPLACEMENT, "refresh_tokens", "replacement"),
    walk!(EVENT, "0", "events", "payload", key: "t.user_id", "t.seq",
        after: "(t.user_id, t.seq) > ($1, $2::text::bigint)", order: "t.user_id, t.seq",
        row: "uuid_send(t.user_id) || int8send(t.seq)",
        same: "t.user_id = v.first AND t.seq = v.second::bigint"),
    walk!(EDIT, "-infinity", "message_edits", "content", key: "t.message_id", "t.edited_at",
        after: "(t.message_id, t.edited_at) > ($1, $2::text::timestamptz)", order: "t.message_id, t.edited_at",
        row: "uuid_send(t.message_id) || int8send((extract(epoch FROM t.edited_at) * 1000000)::bigint)",
        same: "t.message_id = v.first AND t.edited_at = v.second::timestamptz"),
    walk!(LINK_MEMORY, "", "link_memory", "value", key: "t.account_id", "t.name",
        after: "(t.account_id, t.name) > ($1, $2::text)", order: "t.account_id, t.name",
        row: "uuid_send(t.account_id) || convert_to(t.name, 'UTF8')",
        same: "t.account_id = v.first AND t.name = v.second"),
    walk!(ANSWER, "", "idempotency_keys", "answer", key: "t.user_id", "t.key",
        after: "(t.user_id, t.key) > ($1, $2::text)", order: "t.user_id, t.key",
        row: "uuid_send(t.user_id) || convert_to(t.key, 'UTF8')",
        same: "t.user_id = v.first AND t.key = v.second"),
];

/// Longest wait for one table to be counted.
const COUNT_PATIENCE: Duration = Duration::from_secs(3600);

/// How far this process has come. Lost with it: the next one begins again and skips what is done.
#[derive(Debug, Default)]
pub(super) struct Progress {
    key: i32,
    walk: usize,
    after: Option<(Uuid, String)>,
}

impl Store {
    /// Seals up to `limit` rows anew with the newest key. Returns 0 when no row is left that another key has sealed,
    /// else a number above 0: call again. While the new key's time has not come, it waits up to a second and returns.
    ///
    /// # Errors
    /// [`StoreError`]; calling again continues.
    pub async fn reseal_batch(&self, limit: u32) -> Result<u64, StoreError> {
        let (newest, current_from) = self.newest_key().await?;
        if self.now() < current_from || self.vault().sealing_key_id().ok() != Some(newest) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.load_vault_keys().await?;
            return Ok(1);
        }
        let mut progress = self.inner.progress.lock().await;
        if progress.key != newest {
            *progress = Progress {
                key: newest,
                ..Progress::default()
            };
        }
        let Some(walk) = WALKS.get(progress.walk) else {
            *progress = Progress::default();
            return self.count_unsealed_with(newest).await;
        };
        let (first, second) = progress
            .after
            .clone()
            .unwrap_or_else(|| (Uuid::nil(), walk.start.to_owned()));
        let limit = i64::from(limit.max(1));
        let rows = self
            .query(walk.page, &[&first, &second, &limit, &newest.to_be_bytes().as_slice()])
            .await?;
        match rows.last() {
            Some(row) => progress.after = Some((read(row, 0)?, read(row, 1)?)),
            None => {
                progress.walk += 1;
                progress.after = None;
            }
        }
        let mut changed = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let Some(old) = read::<Option<&[u8]>>(row, 3)? else {
                continue;
            };
            let row_key: &[u8] = read(row, 2)?;
            let plain = walk.column.open(self.vault(), row_key, old)?;
            changed.0.push(read::<Uuid>(row, 0)?);
            changed.1.push(read::<&str>(row, 1)?);
            changed.2.push(old);
            changed.3.push(walk.column.seal(self.vault(), row_key, &plain)?);
        }
        if !changed.0.is_empty() {
            self.execute(walk.update, &[&changed.0, &changed.1, &changed.2, &changed.3])
                .await?;
        }
        Ok(rows.len().max(1) as u64)
    }

    /// How many values are sealed with another key than this one. Reads every sealed table whole, which may take longer
    /// than any other statement.
    pub(super) async fn count_unsealed_with(&self, key: i32) -> Result<u64, StoreError> {
        let mut connection = self.connection().await?;
        connection.batch("SET statement_timeout = 0").await?;
        let mut count: i64 = 0;
        for walk in &WALKS {
            connection.prepare(&[walk.count]).await?;
            let key = key.to_be_bytes();
            let parameters: [&(dyn ToSql + Sync); 1] = [&key.as_slice()];
            let counting = connection
                .client()
                .query_one(connection.statement(walk.count)?, &parameters);
            let counted = connection.wait_for(COUNT_PATIENCE, counting).await;
            if counted.is_err() {
                // It would go on without a limit on its statements.
                connection.retire();
            }
            count += read::<i64>(&counted?, 0)?;
        }
        connection
            .batch(&format!("SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
            .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}
