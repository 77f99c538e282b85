//! Genuine deliveries that could not be mapped.

use hub_actors::MessageId;
use hub_actors::ports::{QuarantinedDelivery, StoreError};

use super::Store;
use super::sealing::QUARANTINE;

/// Deliveries of one account that are kept at most.
const KEPT: i64 = 1_000;
/// What an older hub has left beyond that goes in steps.
const STEP: i64 = 100;

/// The statement sees the table without the row that it inserts.
const INSERT: &str = "WITH surplus AS (SELECT id FROM quarantine WHERE account_id = $3 \
        ORDER BY created_at DESC, id DESC OFFSET $7 LIMIT $8), \
    gone AS (DELETE FROM quarantine WHERE id IN (SELECT id FROM surplus)) \
    INSERT INTO quarantine (id, user_id, account_id, reason, body, created_at) VALUES ($1, $2, $3, $4, $5, $6)";

impl Store {
    /// The account's oldest ones beyond [`KEPT`] go.
    pub(super) async fn insert_quarantined(&self, delivery: &QuarantinedDelivery) -> Result<(), StoreError> {
        let now = self.now();
        let id = MessageId::generate(now).0;
        let sealed = QUARANTINE.seal(self.vault(), id.as_bytes(), &delivery.body)?;
        // The reason may quote the delivery, which may hold what a text column does not take.
        let reason = delivery.reason.replace('\0', "\u{fffd}");
        self.execute(
            INSERT,
            &[
                &id,
                &delivery.user_id.0,
                &delivery.account_id.0,
                &reason,
                &sealed,
                &now,
                &(KEPT - 1),
                &STEP,
            ],
        )
        .await?;
        Ok(())
    }
}
