//! Seals every row anew with the newest key, page by page, while the hub runs.

use hub_actors::ports::StoreError;
use uuid::Uuid;

use super::Store;
use super::errors::read;
use super::sealing::{
    ANSWER, ATTACHMENTS, CONTENT, CREDENTIALS, EDIT, EVENT, LINK_MEMORY, MEDIA_URL, OUTBOX, PARKED, QUARANTINE,
    REPLACEMENT, SealedColumn,
};

/// Rows that are looked at in one statement; others want the database too.
const PAGE: i64 = 500;
/// Bytes that are read to be sealed anew in one statement, and one value more: a value may be as large as a delivery.
const PAGE_BYTES: i64 = 1 << 20;

/// How a table with a sealed column is walked through: in the order of its key, which is a UUID and perhaps a second part
/// written as text.
struct Walk {
    column: SealedColumn,
    /// The second part's least value.
    start: &'static str,
    /// After `$1` and `$2`, at most `$3` rows and about `$5` bytes: both parts of the key, the key as the seal knows it, and
    /// the value, null when it is sealed with the key `$4` already.
    page: &'static str,
    /// Replaces values, except those that were changed in the meantime.
    update: &'static str,
}

macro_rules! walk {
    ($column:expr, $start:literal, $table:literal, $value:literal, key: $first:literal, $second:literal,
     after: $after:literal, order: $order:literal, row: $row:literal, same: $same:literal) => {
        Walk {
            column: $column,
            start: $start,
            page: concat!(
                "SELECT first, second::text, row, value FROM (SELECT *, sum(coalesce(octet_length(value), 0)) OVER \
                 (ORDER BY first, second ROWS UNBOUNDED PRECEDING) - coalesce(octet_length(value), 0) AS before FROM (SELECT ",
                $first, " AS first, ", $second, " AS second, ", $row, " AS row, CASE WHEN substring(t.", $value,
                " FROM 2 FOR 4) <> $4::bytea THEN t.", $value, " END AS value FROM ", $table, " t WHERE ", $after,
                " ORDER BY ", $order, " LIMIT $3) page) bounded WHERE before < $5 \
                 ORDER BY first, second"
            ),
            update: concat!(
                "UPDATE ", $table, " t SET ", $value,
                " = v.new FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[]) AS v(first, second, old, new) \
                 WHERE ", $same, " AND t.", $value, " = v.old"
            ),
        }
    };
    ($column:expr, $table:literal, $value:literal) => {
        walk!($column, "", $table, $value, key: "t.id", "''::text",
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

impl Store {
    /// Walks through every sealed value and seals those anew that another key than this one, which must be the one that
    /// seals, has sealed. Returns how many there were. Values that do not open stay as they are: no key can help them.
    ///
    /// # Errors
    /// [`StoreError`]; another call skips what is done.
    pub(super) async fn reseal(&self, key: i32) -> Result<u64, StoreError> {
        let mut changed = 0;
        for walk in &WALKS {
            let (mut after, mut unopened) = ((Uuid::nil(), walk.start.to_owned()), 0);
            while let Some(page) = self.reseal_page(walk, key, &after).await? {
                after = page.last;
                changed += page.changed;
                unopened += page.unopened;
                tokio::task::yield_now().await;
            }
            if unopened > 0 {
                let SealedColumn { table, column } = walk.column;
                tracing::error!(
                    table,
                    column,
                    rows = unopened,
                    "values do not open: they are damaged or their key is gone"
                );
            }
        }
        Ok(changed)
    }

    /// None when there are no more rows.
    async fn reseal_page(&self, walk: &Walk, key: i32, after: &(Uuid, String)) -> Result<Option<Page>, StoreError> {
        let rows = self
            .query(
                walk.page,
                &[&after.0, &after.1, &PAGE, &key.to_be_bytes().as_slice(), &PAGE_BYTES],
            )
            .await?;
        let Some(last) = rows.last() else {
            return Ok(None);
        };
        let last = (read(last, 0)?, read(last, 1)?);
        let (mut firsts, mut seconds, mut olds, mut news) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut unopened = 0;
        for row in &rows {
            let Some(old) = read::<Option<&[u8]>>(row, 3)? else {
                continue;
            };
            let row_key: &[u8] = read(row, 2)?;
            let Ok(plain) = walk.column.open(self.vault(), row_key, old) else {
                unopened += 1;
                continue;
            };
            firsts.push(read::<Uuid>(row, 0)?);
            seconds.push(read::<&str>(row, 1)?);
            olds.push(old);
            news.push(walk.column.seal(self.vault(), row_key, &plain)?);
        }
        if !firsts.is_empty() {
            self.execute(walk.update, &[&firsts, &seconds, &olds, &news]).await?;
        }
        Ok(Some(Page {
            last,
            changed: firsts.len() as u64,
            unopened,
        }))
    }
}

struct Page {
    last: (Uuid, String),
    changed: u64,
    unopened: u64,
}
