//! Forgetting an account's conversations, so that its link fetches them again.

use hub_actors::ports::StoreError;
use hub_actors::{AccountId, UserId};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Store;
use super::accounts::LOCK_OWNER;
use super::errors::read;
use super::pool::Transaction;

/// Rows that one transaction deletes at most: the person's other messages wait for it.
const STEP: i64 = 2_000;

/// Keeps every hub's link away as long as steps follow each other: what the running one has on its way does not come in any
/// more, and no other one begins where this one stopped.
const HOLD: &str = "INSERT INTO account_leases AS l (account_id, owner, epoch, expires_at) \
    SELECT a.id, $3, 1, now() + interval '60 seconds' FROM connected_accounts a WHERE a.id = $2 AND a.user_id = $1 \
    ON CONFLICT (account_id) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at, \
        epoch = l.epoch + CASE WHEN l.owner = excluded.owner THEN 0 ELSE 1 END";
/// Chat by chat, beginning with `$3`; the number of messages and the last chat. Those that still have to go out, or have
/// failed, stay.
const MESSAGES: &str = "WITH page AS MATERIALIZED (SELECT m.id, c.platform_conversation_id AS chat FROM conversations c \
        JOIN messages m ON m.conversation_id = c.id WHERE c.account_id = $2 AND c.user_id = $1 \
        AND c.platform_conversation_id >= $3 AND NOT EXISTS (SELECT FROM outbox o WHERE o.message_id = m.id) \
        ORDER BY c.platform_conversation_id LIMIT $4), \
    gone AS (DELETE FROM messages WHERE id IN (SELECT id FROM page)), \
    reactions AS (DELETE FROM message_reactions WHERE message_id IN (SELECT id FROM page)), \
    edits AS (DELETE FROM message_edits WHERE message_id IN (SELECT id FROM page)) \
    SELECT count(*), max(chat) FROM page";
/// The number of parked events and the last chat.
const PARKED: &str = "WITH page AS MATERIALIZED (SELECT p.id, c.platform_conversation_id AS chat FROM conversations c \
        JOIN parked_events p ON p.conversation_id = c.id WHERE c.account_id = $2 AND c.user_id = $1 \
        AND c.platform_conversation_id >= $3 ORDER BY c.platform_conversation_id LIMIT $4), \
    gone AS (DELETE FROM parked_events WHERE id IN (SELECT id FROM page)) \
    SELECT count(*), max(chat) FROM page";
/// The chats that are looked at, of which those without a message, a parked event or an outbox entry go; nothing is unread in
/// the others. A chat that got something since its messages were deleted stays.
const CONVERSATIONS: &str = "WITH page AS MATERIALIZED (SELECT c.id, c.platform_conversation_id AS chat, \
        EXISTS (SELECT FROM messages m WHERE m.conversation_id = c.id) \
        OR EXISTS (SELECT FROM parked_events p WHERE p.conversation_id = c.id) \
        OR EXISTS (SELECT FROM outbox o WHERE o.conversation_id = c.id) AS stays FROM conversations c \
        WHERE c.account_id = $2 AND c.user_id = $1 AND c.platform_conversation_id > $3 \
        ORDER BY c.platform_conversation_id LIMIT $4), \
    gone AS (DELETE FROM conversations WHERE id IN (SELECT id FROM page WHERE NOT stays)), \
    read AS (UPDATE conversations SET unread_count = 0 WHERE id IN (SELECT id FROM page WHERE stays) AND unread_count > 0) \
    SELECT count(*), max(chat) FROM page";
/// The link may be taken up again, and begins from nothing.
const FORGET: &str = "WITH freed AS (UPDATE account_leases l SET epoch = epoch + 1, expires_at = '-infinity' \
        FROM connected_accounts a WHERE a.id = l.account_id AND a.id = $2 AND a.user_id = $1) \
    DELETE FROM link_memory m USING connected_accounts a WHERE a.id = m.account_id AND a.id = $2 AND a.user_id = $1 \
    AND NOT EXISTS (SELECT FROM unnest($3::text[]) AS kept(name) WHERE starts_with(m.name, kept.name))";

impl Store {
    /// Deletes the conversations and messages of the user's account, except what is in the outbox, and at last all that its
    /// link remembers except the names that begin with one of `kept`. Whoever holds the link loses it, and until the end
    /// nobody gets it. It goes step by step, each a transaction of its own; one that was broken off is repeated.
    ///
    /// # Errors
    /// [`StoreError`]; what was deleted stays so.
    pub async fn reset_account(&self, user_id: UserId, id: AccountId, kept: &[&str]) -> Result<(), StoreError> {
        // Nobody's name: another reset of the account and this one depose each other, and both go on.
        let holder = Uuid::new_v4();
        for step in [MESSAGES, PARKED, CONVERSATIONS] {
            let mut chat = String::new();
            loop {
                let parameters: [&(dyn ToSql + Sync); 4] = [&user_id.0, &id.0, &chat, &STEP];
                let (rows, last) = self.reset_step(holder, step, &parameters).await?;
                match last {
                    Some(last) if rows == STEP => chat = last,
                    _ => break,
                }
            }
        }
        let mut connection = self.connection().await?;
        connection.prepare(&[LOCK_OWNER, FORGET]).await?;
        let transaction = Transaction::new(&connection);
        let client = connection.client();
        let (lock, forget) = (connection.statement(LOCK_OWNER)?, connection.statement(FORGET)?);
        let work = async {
            let parameters: [&(dyn ToSql + Sync); 3] = [&user_id.0, &id.0, &kept];
            client.batch_execute("BEGIN").await?;
            client.query(lock, &parameters[..1]).await?;
            client.execute(forget, &parameters).await
        };
        connection.wait(work).await?;
        transaction.commit().await
    }

    async fn reset_step(
        &self,
        holder: Uuid,
        step: &'static str,
        parameters: &[&(dyn ToSql + Sync); 4],
    ) -> Result<(i64, Option<String>), StoreError> {
        let mut connection = self.connection().await?;
        connection.prepare(&[LOCK_OWNER, HOLD, step]).await?;
        let transaction = Transaction::new(&connection);
        let client = connection.client();
        let (lock, hold) = (connection.statement(LOCK_OWNER)?, connection.statement(HOLD)?);
        let step = connection.statement(step)?;
        let work = async {
            let held: [&(dyn ToSql + Sync); 3] = [parameters[0], parameters[1], &holder];
            client.batch_execute("BEGIN").await?;
            client.query(lock, &held[..1]).await?;
            client.execute(hold, &held).await?;
            client.query_one(step, parameters).await
        };
        let row = connection.wait(work).await?;
        transaction.commit().await?;
        Ok((read(&row, 0)?, read(&row, 1)?))
    }
}
