//! What a platform delivered, on its way to the conversations and into the journal.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::conversation::{self, ConversationKey};
use crate::domain::{Account, Appended, InboundEvent, LinkStep, Refusal};
use crate::ids::ExternalId;
use crate::mailbox::{Blame, answer};
use crate::ports::{AppendError, Delivery, QuarantinedDelivery};
use crate::tree::{DeliverError, Delivered, Hub};

pub(super) const COMMIT_PATIENCE: Duration = Duration::from_secs(20);

/// Hands the events to their conversations and waits until all are committed.
pub(super) async fn take(
    hub: &Hub,
    account: &Account,
    delivery: &Delivery,
    events: Vec<InboundEvent>,
    blame: Blame,
) -> Result<Delivered, DeliverError> {
    let mut committed = 0;
    let mut waiting = Vec::new();
    for (external_id, events) in by_conversation(events) {
        let key = ConversationKey {
            account_id: account.id,
            external_id,
        };
        waiting.push(hand_over(hub, account, key, events, None, blame.clone()).await?);
    }
    for receiver in waiting {
        match answer(receiver, COMMIT_PATIENCE).await.map_err(DeliverError::from)? {
            Ok(appended) => committed += appended.events.len(),
            Err(AppendError::Refused(Refusal::NoAccount | Refusal::AccountDisconnected)) => {
                return Err(DeliverError::NoAccount);
            }
            Err(error @ (AppendError::Refused(_) | AppendError::Poison(_))) => {
                return quarantine(hub, account, delivery, error.to_string()).await;
            }
            Err(AppendError::Store(error)) => return Err(DeliverError::Unavailable(error.to_string())),
            Err(AppendError::Busy) => return Err(DeliverError::Busy),
        }
    }
    fail::fail_point!("webhook.committed");
    Ok(Delivered::Committed { events: committed })
}

pub(super) type Answer = oneshot::Receiver<Result<Appended, AppendError>>;

/// Gives the events to their conversation, which answers when they are committed.
pub(super) async fn hand_over(
    hub: &Hub,
    account: &Account,
    key: ConversationKey,
    events: Vec<InboundEvent>,
    link: Option<LinkStep>,
    blame: Blame,
) -> Result<Answer, DeliverError> {
    let conversation = hub.conversations.get(&key).await?;
    let receiver = conversation.ask(|reply| conversation::Command::Inbound {
        user_id: account.user_id,
        events,
        link,
        blame,
        reply,
    })?;
    fail::fail_point!("webhook.handed_over");
    Ok(receiver)
}

/// Groups events by conversation; both the groups and the events in each keep their order.
pub(super) fn by_conversation(events: Vec<InboundEvent>) -> Vec<(ExternalId, Vec<InboundEvent>)> {
    let mut places: HashMap<ExternalId, usize> = HashMap::new();
    let mut groups: Vec<(ExternalId, Vec<InboundEvent>)> = Vec::new();
    for event in events {
        let place = *places.entry(event.conversation.clone()).or_insert_with(|| {
            groups.push((event.conversation.clone(), Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(event);
    }
    groups
}

pub(crate) async fn quarantine(
    hub: &Hub,
    account: &Account,
    delivery: &Delivery,
    reason: String,
) -> Result<Delivered, DeliverError> {
    tracing::warn!(account_id = %account.id, %reason, bytes = delivery.body.len(), "a delivery was put into quarantine");
    let quarantined = QuarantinedDelivery {
        user_id: account.user_id,
        account_id: account.id,
        reason,
        body: delivery.body.clone(),
    };
    match hub.store.quarantine(quarantined).await {
        Ok(()) => Ok(Delivered::Quarantined),
        Err(error) => Err(DeliverError::Unavailable(error.to_string())),
    }
}
