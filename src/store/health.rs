//! Whether the database answers.

use std::time::Duration;

use hub_actors::ports::StoreError;

use super::Store;
use super::errors::unavailable;

/// Longest wait for an answer, the wait for a connection included.
const PATIENCE: Duration = Duration::from_secs(2);

impl Store {
    /// Asks the database for an answer.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when there is none within two seconds.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match tokio::time::timeout(PATIENCE, self.query("SELECT 1", &[])).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(unavailable(format!("no answer within {} s", PATIENCE.as_secs()))),
        }
    }
}
