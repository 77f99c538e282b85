//! Forgetting an account's conversations, so that its link fetches them again.

use hub_actors::ports::StoreError;
use hub_actors::{AccountId, UserId};
use tokio_postgres::types::ToSql;

use super::Store;
use super::accounts::LOCK_OWNER;
use super::pool::Transaction;

/// Messages that still have to go out, or have failed, stay.
const MESSAGES: &str = "WITH gone AS (DELETE FROM messages m USING conversations c \
        WHERE c.id = m.conversation_id AND c.account_id = $2 AND c.user_id = $1 \
        AND NOT EXISTS (SELECT FROM outbox o WHERE o.message_id = m.id) RETURNING m.id), \
    reactions AS (DELETE FROM message_reactions WHERE message_id IN (SELECT id FROM gone)) \
    DELETE FROM message_edits WHERE message_id IN (SELECT id FROM gone)";
const PARKED: &str = "DELETE FROM parked_events p USING conversations c \
    WHERE c.id = p.conversation_id AND c.account_id = $2 AND c.user_id = $1";
const CONVERSATIONS: &str = "DELETE FROM conversations c WHERE c.account_id = $2 AND c.user_id = $1 \
    AND NOT EXISTS (SELECT FROM outbox o WHERE o.conversation_id = c.id)";
/// What was unread in those that stay is gone.
const UNREAD: &str =
    "UPDATE conversations SET unread_count = 0 WHERE account_id = $2 AND user_id = $1 AND unread_count > 0";
/// The running link loses its lease: what it has on its way does not come in any more.
const MEMORY: &str = "WITH deposed AS (UPDATE account_leases l SET epoch = epoch + 1, expires_at = '-infinity' \
        FROM connected_accounts a WHERE a.id = l.account_id AND a.id = $2 AND a.user_id = $1) \
    DELETE FROM link_memory m USING connected_accounts a WHERE a.id = m.account_id AND a.id = $2 AND a.user_id = $1 \
    AND NOT EXISTS (SELECT FROM unnest($3::text[]) AS kept(name) WHERE starts_with(m.name, kept.name))";

impl Store {
    /// Deletes the conversations and messages of the user's account, except what is in the outbox, and all that its link
    /// remembers except the names that begin with one of `kept`. Whoever holds the link loses it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reset_account(&self, user_id: UserId, id: AccountId, kept: &[&str]) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        let steps = [MESSAGES, PARKED, CONVERSATIONS, UNREAD];
        connection.prepare(&steps).await?;
        connection.prepare(&[LOCK_OWNER, MEMORY]).await?;
        let transaction = Transaction::new(&connection);
        let client = connection.client();
        let (lock, memory) = (connection.statement(LOCK_OWNER)?, connection.statement(MEMORY)?);
        let steps = steps.map(|step| connection.statement(step));
        let work = async {
            let parameters: [&(dyn ToSql + Sync); 3] = [&user_id.0, &id.0, &kept];
            client.batch_execute("BEGIN").await?;
            client.query(lock, &parameters[..1]).await?;
            for step in steps.into_iter().flatten() {
                client.execute(step, &parameters[..2]).await?;
            }
            client.execute(memory, &parameters).await
        };
        connection.wait(work).await?;
        transaction.commit().await
    }
}
