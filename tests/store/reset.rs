//! Forgetting an account's conversations.

use std::time::Duration;

use hub_actors::ExternalId;
use hub_actors::PlatformId;
use hub_actors::domain::{AccountState, Change, InboundKind, LinkStep, Refusal};
use hub_actors::ports::{AppendError, NewLink, Store as _};
use uuid::Uuid;

use crate::bed::{Bed, inbound, message, on_each_database};

/// A live account that remembers `session` and `cursor`, its lease, and its owner.
async fn linked(bed: &Bed) -> (hub_actors::domain::Account, i64, Uuid) {
    let user = bed.user("anna").await;
    let link = NewLink {
        user_id: user.id,
        platform: PlatformId::from("phone"),
        external_id: ExternalId::from("me"),
        name: None,
        memory: [
            ("session".to_owned(), b"s".to_vec()),
            ("cursor".to_owned(), b"7".to_vec()),
        ]
        .into(),
    };
    let account = bed.store.link_account(link).await.unwrap();
    let live = Change::AccountState {
        account_id: account.id,
        state: AccountState::Live,
        reason: None,
        until: None,
    };
    bed.commit(user.id, live).await.unwrap();
    let owner = Uuid::from_u128(1);
    let lease = lease(bed, owner).await.unwrap();
    (account, lease, owner)
}

async fn lease(bed: &Bed, owner: Uuid) -> Option<i64> {
    let platforms = [PlatformId::from("phone")];
    let leases = bed.store.lease_accounts(owner, &platforms, Duration::from_secs(30));
    leases.await.unwrap().first().map(|lease| lease.epoch)
}

#[test]
fn a_long_history_goes_step_by_step_and_what_must_go_out_stays() {
    on_each_database(|bed| async move {
        let (account, epoch, owner) = linked(&bed).await;
        let now = bed.clock.now();
        // More than two steps of messages in one chat, and a chat of each kind.
        for hundred in 0..41 {
            let events = (0..100).map(|one| message(&format!("{hundred}-{one}"), now)).collect();
            bed.inbound(&account, "long", events).await;
        }
        let edit = InboundKind::Edited {
            message: ExternalId::from("not here"),
            text: "later".to_owned(),
            at: now,
        };
        bed.inbound(&account, "parked", vec![message("1", now), edit]).await;
        let sending = bed.conversation(&account, "sending").await;
        let new = bed.new_message(sending.id, "must go out");
        bed.commit(account.user_id, Change::Queue(Box::new(new.clone())))
            .await
            .unwrap();

        bed.store
            .reset_account(account.user_id, account.id, &["session"])
            .await
            .unwrap();
        let left = bed.conversations(account.user_id).await;
        assert_eq!(left.iter().map(|one| one.id).collect::<Vec<_>>(), [sending.id]);
        assert_eq!(left[0].unread_count, 0);
        let messages = bed.messages(account.user_id, sending.id).await;
        assert_eq!(messages.iter().map(|one| one.id).collect::<Vec<_>>(), [new.id]);
        assert_eq!(bed.outbox().await.len(), 1);
        let memory = bed.store.link_memory(account.id).await.unwrap();
        assert_eq!(memory.keys().collect::<Vec<_>>(), ["session"]);

        let late = match inbound(&account, "long", vec![message("late", now)]) {
            Change::Inbound {
                account_id,
                conversation,
                events,
                ..
            } => Change::Inbound {
                account_id,
                conversation,
                events,
                link: Some(LinkStep {
                    epoch,
                    remember: Vec::new(),
                }),
            },
            other => other,
        };
        let late = bed.commit(account.user_id, late).await;
        assert!(
            matches!(late, Err(AppendError::Refused(Refusal::LeaseLost))),
            "{late:?}"
        );
        let again = lease(&bed, owner).await;
        assert!(again > Some(epoch), "the link may be taken up again: {again:?}");
        bed
    });
}

#[test]
fn others_accounts_are_not_touched() {
    on_each_database(|bed| async move {
        let (account, epoch, owner) = linked(&bed).await;
        bed.conversation(&account, "chat").await;
        let stranger = bed.user("ben").await;
        bed.store.reset_account(stranger.id, account.id, &[]).await.unwrap();
        assert_eq!(bed.conversations(account.user_id).await.len(), 1);
        assert_eq!(bed.store.link_memory(account.id).await.unwrap().len(), 2);
        assert_eq!(lease(&bed, owner).await, Some(epoch));
        bed
    });
}
