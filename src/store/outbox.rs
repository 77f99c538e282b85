//! What must still go out: read here, changed by the journal.

use hub_actors::domain::{OutboxEntry, OutboxState};
use hub_actors::ports::StoreError;
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
    /// Entries that wait or are being sent, ascending by id, after an id.
    pub(super) async fn pending_outbox(
        &self,
        after: Option<OutboxId>,
        limit: usize,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        let after = after.map_or(Uuid::nil(), |id| id.0);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self
            .query(
                concat!(
                    "SELECT ",
                    outbox_columns!(),
                    " FROM outbox o JOIN conversations c ON c.id = o.conversation_id \
                     WHERE o.state IN ('queued', 'sending') AND o.id > $1 ORDER BY o.id LIMIT $2"
                ),
                &[&after, &limit],
            )
            .await?;
        rows.iter().map(|row| entry(row, self.vault())).collect()
    }
}
