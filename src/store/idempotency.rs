//! Answers kept under the keys with which clients repeat requests. The keys themselves are stored by the journal.

use hub_actors::UserId;
use hub_actors::ports::StoreError;

use super::Store;
use super::errors::read;
use super::sealing::{ANSWER, idempotency_row};

impl Store {
    /// Keeps the settled answer of the request with that key, sealed. The first answer wins: what is returned is what
    /// every later repetition gets. When the key is not known (any more), nothing is stored and `answer` is returned.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_answer(&self, user_id: UserId, key: &str, answer: &[u8]) -> Result<Vec<u8>, StoreError> {
        let row_key = idempotency_row(user_id.0, key);
        let sealed = ANSWER.seal(self.vault(), &row_key, answer)?;
        let row = self
            .query_one(
                "UPDATE idempotency_keys SET answer = coalesce(answer, $3) WHERE user_id = $1 AND key = $2 \
                 RETURNING answer",
                &[&user_id.0, &key, &sealed],
            )
            .await?;
        match row {
            Some(row) => ANSWER.open(self.vault(), &row_key, read(&row, 0)?),
            None => Ok(answer.to_vec()),
        }
    }

    /// The settled answer of the request with that key; none while it is under way.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn answer(&self, user_id: UserId, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self
            .query_one(
                "SELECT answer FROM idempotency_keys WHERE user_id = $1 AND key = $2 AND answer IS NOT NULL",
                &[&user_id.0, &key],
            )
            .await?;
        row.map(|row| ANSWER.open(self.vault(), &idempotency_row(user_id.0, key), read(&row, 0)?))
            .transpose()
    }
}
