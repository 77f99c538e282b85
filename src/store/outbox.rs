//! What must still go out: read here, changed by the journal.

use hub_actors::domain::{OutboxEntry, OutboxState};
use hub_actors::ports::{OutboxPage, StoreError};
use hub_actors::{AccountId, ConversationId, ExternalId, MessageId, OutboxId, Seq, UserId};
use tokio_postgres::Row;
use uuid::Uuid;

use super::Store;
use super::errors::{read, read_name};
use super::sealing::OUTBOX;
use crate::vault::Vault;

/// The columns that [`entry`] reads, in its order; `c` is the entry's conversation.
macro_rules! outbox_columns {
    () => {
        "o.id, o.user_id, o.account_id, o.conversation_id, c.platform_conversation_id, o.message_id, o.payload, o.state, \
         o.attempts, o.due_at, o.stream_seq, o.created_at"
    };
}
pub(super) use outbox_columns;

pub(super) fn entry(row: &Row, vault: &Vault) -> Result<OutboxEntry, StoreError> {
    let id: Uuid = read(row, 0)?;
    Ok(OutboxEntry {
        id: OutboxId(id),
        user_id: UserId(read(row, 1)?),
        account_id: AccountId(read(row, 2)?),
        conversation_id: ConversationId(read(row, 3)?),
        conversation_external_id: ExternalId::from(read::<&str>(row, 4)?),
        message_id: read::<Option<Uuid>>(row, 5)?.map(MessageId),
        action: OUTBOX.open_json(vault, id.as_bytes(), read(row, 6)?)?,
        state: read_name(row, 7, OutboxState::from_name)?,
        attempts: read(row, 8)?,
        due_at: read(row, 9)?,
        order: Seq(read(row, 10)?),
        created_at: read(row, 11)?,
    })
}

impl Store {
    /// The ids of all entries that wait or are being sent, ascending.
    pub(super) async fn pending_outbox_ids(&self) -> Result<Vec<OutboxId>, StoreError> {
        let sql = "SELECT id FROM outbox WHERE state IN ('queued', 'sending') ORDER BY id";
        let rows = self.query(sql, &[]).await?;
        rows.iter().map(|row| Ok(OutboxId(read(row, 0)?))).collect()
    }

    /// Those of these entries that wait or are being sent. One that cannot be read hides no other.
    pub(super) async fn pending_outbox_entries(&self, ids: &[OutboxId]) -> Result<OutboxPage, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let rows = self
            .query(
                concat!(
                    "SELECT ",
                    outbox_columns!(),
                    " FROM unnest($1::uuid[]) AS k(id) CROSS JOIN LATERAL (SELECT * FROM outbox n \
                         WHERE n.id = k.id AND n.state IN ('queued', 'sending') LIMIT 1) o \
                     JOIN conversations c ON c.id = o.conversation_id"
                ),
                &[&ids],
            )
            .await?;
        let mut page = OutboxPage::default();
        for row in &rows {
            match entry(row, self.vault()) {
                Ok(entry) => page.entries.push(entry),
                Err(error) => page.unreadable.push((OutboxId(read(row, 0)?), error)),
            }
        }
        Ok(page)
    }
}
