//! Genuine deliveries that could not be mapped.

use hub_actors::MessageId;
use hub_actors::ports::{QuarantinedDelivery, StoreError};

use super::Store;
use super::sealing::QUARANTINE;

impl Store {
    pub(super) async fn insert_quarantined(&self, delivery: &QuarantinedDelivery) -> Result<(), StoreError> {
        let now = self.now();
        let id = MessageId::generate(now).0;
        let sealed = QUARANTINE.seal(self.vault(), id.as_bytes(), &delivery.body)?;
        // The reason may quote the delivery, which may hold what a text column does not take.
        let reason = delivery.reason.replace('\0', "\u{fffd}");
        self.execute(
            "INSERT INTO quarantine (id, user_id, account_id, reason, body, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
            &[&id, &delivery.user_id.0, &delivery.account_id.0, &reason, &sealed, &now],
        )
        .await?;
        Ok(())
    }
}
