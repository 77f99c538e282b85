//! Messages: read here, changed by the journal.

use hub_actors::domain::{DeliveryStatus, Message, MessageKind, Reaction};
use hub_actors::ports::StoreError;
use hub_actors::{AccountId, ConversationId, ExternalId, MessageId, UserId};
use time::OffsetDateTime;
use tokio_postgres::Row;
use uuid::Uuid;

use super::Store;
use super::errors::{read, read_name};
use super::sealing::{ATTACHMENTS, CONTENT, MEDIA_URL};
use crate::vault::Vault;

/// Which messages of a conversation are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageRange {
    /// At most so many.
    pub limit: i64,
    /// After leaving out so many of the newest.
    pub offset: i64,
    /// Only older ones than this message of the same conversation.
    pub before: Option<MessageId>,
}

/// A page of a conversation's messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessagePage {
    /// Newest first.
    pub messages: Vec<Message>,
    /// How many messages the conversation has in all.
    pub total: i64,
}

/// A message that has not gone out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingMessage {
    pub id: MessageId,
    pub account_id: AccountId,
    pub conversation_id: ConversationId,
    /// When it was accepted.
    pub created_at: OffsetDateTime,
}

/// The lowest id that can have been made at a time: ids begin with their milliseconds (RFC 9562, section 5.7).
fn first_id(time: OffsetDateTime) -> Uuid {
    let milliseconds = u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(milliseconds, &[0; 10]).into_uuid()
}

/// The columns that [`message`] reads, in its order; `r` is what [`reactions_of`] joins.
macro_rules! message_columns {
    () => {
        "m.id, m.conversation_id, m.platform_message_id, m.sender_id, m.sender_name, m.content, m.message_type, \
         m.media_url, m.reply_to, m.is_outgoing, m.is_read, m.status, m.status_reason, m.sent_at, m.delivered_at, \
         m.read_at, m.edited_at, m.deleted_at, m.created_at, m.attachments, r.actors, r.emojis, r.active, r.times, \
         m.is_sent_here"
    };
}
pub(super) use message_columns;

/// Joins the reactions to `m`, in the order of their time.
macro_rules! join_reactions {
    () => {
        " LEFT JOIN LATERAL (SELECT array_agg(x.actor_id ORDER BY x.reacted_at, x.actor_id, x.emoji) AS actors, \
         array_agg(x.emoji ORDER BY x.reacted_at, x.actor_id, x.emoji) AS emojis, \
         array_agg(x.is_active ORDER BY x.reacted_at, x.actor_id, x.emoji) AS active, \
         array_agg(x.reacted_at ORDER BY x.reacted_at, x.actor_id, x.emoji) AS times \
         FROM message_reactions x WHERE x.message_id = m.id) r ON true "
    };
}
pub(super) use join_reactions;

/// Number of columns of a message.
const COLUMNS: usize = 25;

pub(super) fn message(row: &Row, vault: &Vault) -> Result<Message, StoreError> {
    let id: Uuid = read(row, 0)?;
    let media_url = read::<Option<&[u8]>>(row, 7)?
        .map(|sealed| MEDIA_URL.open_text(vault, id.as_bytes(), sealed))
        .transpose()?;
    let attachments = read::<Option<&[u8]>>(row, 19)?
        .map(|sealed| ATTACHMENTS.open_json(vault, id.as_bytes(), sealed))
        .transpose()?
        .unwrap_or_default();
    Ok(Message {
        id: MessageId(id),
        conversation_id: ConversationId(read(row, 1)?),
        external_id: read::<Option<&str>>(row, 2)?.map(ExternalId::from),
        sender_id: read(row, 3)?,
        sender_name: read(row, 4)?,
        content: CONTENT.open_text(vault, id.as_bytes(), read(row, 5)?)?,
        kind: read_name(row, 6, MessageKind::from_name)?,
        media_url,
        attachments,
        reply_to: read::<Option<&str>>(row, 8)?.map(ExternalId::from),
        is_outgoing: read(row, 9)?,
        is_read: read(row, 10)?,
        status: read_name(row, 11, DeliveryStatus::from_name)?,
        status_reason: read(row, 12)?,
        reactions: reactions(row)?,
        sent_at: read(row, 13)?,
        delivered_at: read(row, 14)?,
        read_at: read(row, 15)?,
        edited_at: read(row, 16)?,
        deleted_at: read(row, 17)?,
        created_at: read(row, 18)?,
        is_sent_here: read(row, 24)?,
    })
}

fn reactions(row: &Row) -> Result<Vec<Reaction>, StoreError> {
    let Some(actors) = read::<Option<Vec<String>>>(row, 20)? else {
        return Ok(Vec::new());
    };
    let (emojis, active) = (read::<Vec<String>>(row, 21)?, read::<Vec<bool>>(row, 22)?);
    let times: Vec<OffsetDateTime> = read(row, 23)?;
    let rest = emojis.into_iter().zip(active).zip(times);
    Ok(actors
        .into_iter()
        .zip(rest)
        .map(|(actor_id, ((emoji, is_active), at))| Reaction {
            actor_id,
            emoji,
            is_active,
            at,
        })
        .collect())
}

/// The total names the conversation by the parameter: by its column it would be counted again for every row of the page.
const PAGE: &str = concat!(
    "WITH page AS (SELECT m.* FROM messages m WHERE m.conversation_id = $2 \
         ORDER BY m.sent_at DESC, m.id DESC LIMIT $3 OFFSET $4) SELECT ",
    message_columns!(),
    ", (SELECT count(*) FROM messages n WHERE n.conversation_id = $2) \
     FROM conversations c LEFT JOIN page m ON true",
    join_reactions!(),
    "WHERE c.id = $2 AND c.user_id = $1 ORDER BY m.sent_at DESC, m.id DESC"
);

const PAGE_BEFORE: &str = concat!(
    "WITH page AS (SELECT m.* FROM messages m WHERE m.conversation_id = $2 AND (m.sent_at, m.id) < ( \
             (SELECT b.sent_at FROM messages b WHERE b.id = $5 AND b.conversation_id = $2), $5::uuid) \
         ORDER BY m.sent_at DESC, m.id DESC LIMIT $3 OFFSET $4) SELECT ",
    message_columns!(),
    ", (SELECT count(*) FROM messages n WHERE n.conversation_id = $2) \
     FROM conversations c LEFT JOIN page m ON true",
    join_reactions!(),
    "WHERE c.id = $2 AND c.user_id = $1 ORDER BY m.sent_at DESC, m.id DESC"
);

/// The newest `n` messages lie in the `n` conversations that were last written in.
const SINCE: &str = concat!(
    "SELECT ",
    message_columns!(),
    " FROM (SELECT m.* FROM (SELECT c.id FROM conversations c \
             WHERE c.user_id = $1 AND c.last_message_at > $2 AND c.account_id IN \
                 (SELECT a.id FROM connected_accounts a WHERE a.user_id = $1 AND a.is_active) \
             ORDER BY c.last_message_at DESC NULLS LAST, c.id DESC LIMIT $3) c \
         CROSS JOIN LATERAL (SELECT * FROM messages n WHERE n.conversation_id = c.id AND n.sent_at > $2 \
             ORDER BY n.sent_at DESC, n.id DESC LIMIT $3) m \
         ORDER BY m.sent_at DESC, m.id DESC LIMIT $3) m",
    join_reactions!(),
    "ORDER BY m.sent_at DESC, m.id DESC"
);

impl Store {
    /// A page of a conversation, newest first; none when the conversation is not the user's. With a `before` that is not
    /// in the conversation the page is empty.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn messages(
        &self,
        user_id: UserId,
        conversation_id: ConversationId,
        range: &MessageRange,
    ) -> Result<Option<MessagePage>, StoreError> {
        let (limit, offset) = (range.limit.max(0), range.offset.max(0));
        let rows = match range.before {
            None => {
                self.query(PAGE, &[&user_id.0, &conversation_id.0, &limit, &offset])
                    .await?
            }
            Some(before) => {
                self.query(
                    PAGE_BEFORE,
                    &[&user_id.0, &conversation_id.0, &limit, &offset, &before.0],
                )
                .await?
            }
        };
        let Some(first) = rows.first() else {
            return Ok(None);
        };
        let total = read(first, COLUMNS)?;
        let mut messages = Vec::with_capacity(rows.len());
        for row in &rows {
            if read::<Option<Uuid>>(row, 0)?.is_some() {
                messages.push(message(row, self.vault())?);
            }
        }
        Ok(Some(MessagePage { messages, total }))
    }

    /// The newest messages of the user's active accounts that were sent after a time, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn messages_since(
        &self,
        user_id: UserId,
        since: Option<OffsetDateTime>,
        limit: i64,
    ) -> Result<Vec<Message>, StoreError> {
        // Before every time that a platform could give.
        let since = since.unwrap_or(time::PrimitiveDateTime::MIN.assume_utc().max(EARLIEST));
        let rows = self.query(SINCE, &[&user_id.0, &since, &limit.max(0)]).await?;
        rows.iter().map(|row| message(row, self.vault())).collect()
    }

    /// The user's messages since a time that have not gone out, or are not known to have, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pending_messages(
        &self,
        user_id: UserId,
        since: OffsetDateTime,
        limit: i64,
    ) -> Result<Vec<PendingMessage>, StoreError> {
        let rows = self
            .query(
                "SELECT message_id, account_id, conversation_id, created_at FROM outbox \
                 WHERE id >= $2 AND user_id = $1 AND message_id IS NOT NULL ORDER BY id DESC LIMIT $3",
                &[&user_id.0, &first_id(since), &limit.max(0)],
            )
            .await?;
        let pending = |row: &Row| {
            Ok(PendingMessage {
                id: MessageId(read(row, 0)?),
                account_id: AccountId(read(row, 1)?),
                conversation_id: ConversationId(read(row, 2)?),
                created_at: read(row, 3)?,
            })
        };
        rows.iter().map(pending).collect()
    }

    /// The user's message of that id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn message(&self, user_id: UserId, id: MessageId) -> Result<Option<Message>, StoreError> {
        let row = self
            .query_one(
                concat!(
                    "SELECT ",
                    message_columns!(),
                    " FROM messages m JOIN conversations c ON c.id = m.conversation_id",
                    join_reactions!(),
                    "WHERE m.id = $2 AND c.user_id = $1"
                ),
                &[&user_id.0, &id.0],
            )
            .await?;
        row.map(|row| message(&row, self.vault())).transpose()
    }
}

/// PostgreSQL's timestamps begin in 4713 BC, so the first year of our era is safely inside.
const EARLIEST: OffsetDateTime = time::macros::datetime!(0001-01-01 0:00 UTC);

#[cfg(test)]
mod tests {
    use hub_actors::OutboxId;
    use time::Duration;

    use super::*;

    #[test]
    fn no_id_of_a_time_is_below_the_first() {
        let now = hub_actors::Clock::system().now();
        let id = OutboxId::generate(now).0;
        assert!(first_id(now) <= id && first_id(now - Duration::MINUTE) < id);
        assert!(first_id(now + Duration::MINUTE) > id);
    }
}
