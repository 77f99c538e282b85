//! Live links: one owner, a memory that moves with the messages, and how far somebody has read.

use std::time::Duration;

use hub_actors::domain::{Account, Append, Attachment, Change, DeliveryStatus, InboundKind, LinkStep, Refusal};
use hub_actors::ports::{AppendError, NewLink, Store as _};
use hub_actors::{ExternalId, PlatformId};
use uuid::Uuid;

use crate::bed::{Bed, inbound, message, on_each_database};

const LENGTH: Duration = Duration::from_secs(30);

fn step(epoch: i64, name: &str, value: Option<&str>) -> LinkStep {
    LinkStep {
        epoch,
        remember: vec![(name.to_owned(), value.map(|value| value.as_bytes().to_vec()))],
    }
}

fn over_the_link(account: &Account, events: Vec<InboundKind>, step: LinkStep) -> Change {
    match inbound(account, "chat", events) {
        Change::Inbound {
            account_id,
            conversation,
            events,
            ..
        } => Change::Inbound {
            account_id,
            conversation,
            events,
            link: Some(step),
        },
        other => other,
    }
}

async fn owner(bed: &Bed, owner: Uuid, account: &Account) -> Option<i64> {
    let platforms = [account.platform.clone()];
    let leases = bed.store.lease_accounts(owner, &platforms, LENGTH).await.unwrap();
    let mine = leases.into_iter();
    mine.filter(|lease| lease.account_id == account.id)
        .map(|lease| lease.epoch)
        .next()
}

#[test]
fn a_link_has_one_owner_and_a_late_one_changes_nothing() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "phone").await;
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(owner(&bed, first, &account).await, Some(1));
        assert_eq!(owner(&bed, second, &account).await, None, "it waits");
        assert_eq!(owner(&bed, first, &account).await, Some(1), "a renewal keeps the epoch");
        let now = bed.clock.now();
        let heard = over_the_link(&account, vec![message("1", now)], step(1, "cursor", Some("7")));
        bed.commit(user.id, heard).await.unwrap();

        bed.store.release_leases(first, None).await.unwrap();
        assert_eq!(
            owner(&bed, second, &account).await,
            Some(2),
            "given up, it is free at once"
        );
        for change in [
            over_the_link(&account, vec![message("2", now)], step(1, "cursor", Some("8"))),
            Change::Remember {
                account_id: account.id,
                link: step(1, "cursor", Some("8")),
            },
        ] {
            let late = bed.commit(user.id, change).await;
            assert!(
                matches!(late, Err(AppendError::Refused(Refusal::LeaseLost))),
                "{late:?}"
            );
        }
        let memory = bed.store.link_memory(account.id).await.unwrap();
        assert_eq!(memory["cursor"], b"7");
        let chat = bed.conversations(user.id).await.remove(0);
        assert_eq!(bed.messages(user.id, chat.id).await.len(), 1);
        bed
    });
}

#[test]
fn a_memory_is_kept_with_the_messages_and_over_another_login() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let link = |session: &str| NewLink {
            user_id: user.id,
            platform: PlatformId::from("phone"),
            external_id: ExternalId::from("me"),
            name: Some("Anna".to_owned()),
            memory: [("session".to_owned(), session.as_bytes().to_vec())].into(),
        };
        let account = bed.store.link_account(link("one")).await.unwrap();
        assert_eq!(
            owner(&bed, Uuid::from_u128(1), &account).await,
            None,
            "not before it is set to work"
        );
        let connecting = Change::AccountState {
            account_id: account.id,
            state: hub_actors::domain::AccountState::Connecting,
            reason: None,
            until: None,
        };
        bed.commit(user.id, connecting).await.unwrap();
        let epoch = owner(&bed, Uuid::from_u128(1), &account).await.unwrap();
        for (name, value) in [("cursor", Some("7")), ("peer/1", Some("x")), ("peer/1", None)] {
            let link = step(epoch, name, value);
            let account_id = account.id;
            bed.commit(user.id, Change::Remember { account_id, link })
                .await
                .unwrap();
        }
        let again = bed.store.link_account(link("two")).await.unwrap();
        assert_eq!(again.id, account.id);
        let memory = bed.store.link_memory(account.id).await.unwrap();
        let memory: Vec<_> = memory
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
            .collect();
        assert_eq!(memory, [("cursor", b"7".as_slice()), ("session", b"two")]);
        let late = Append {
            user_id: user.id,
            change: Change::Remember {
                account_id: account.id,
                link: step(epoch, "cursor", Some("8")),
            },
        };
        let late = bed.store.commit(vec![late]).await.unwrap().remove(0);
        assert!(
            matches!(late, Err(AppendError::Refused(Refusal::LeaseLost))),
            "the old session is deposed"
        );
        bed.store.forget_link(account.id).await.unwrap();
        assert!(bed.store.link_memory(account.id).await.unwrap().is_empty());
        bed
    });
}

#[test]
fn reading_up_to_a_message_reads_all_before_it() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "phone").await;
        let now = bed.clock.now();
        let mut events: Vec<InboundKind> = (1..=4).map(|id| message(&id.to_string(), now)).collect();
        for (place, event) in events.iter_mut().enumerate() {
            let InboundKind::Message(message) = event else { continue };
            message.is_outgoing = place >= 2;
            message.attachments = vec![Attachment {
                locator: "there".to_owned(),
                ..Attachment::default()
            }];
        }
        events.push(message("9", now));
        bed.inbound(&account, "chat", events).await;
        let seen = |message: &str, by_peer| InboundKind::SeenUpTo {
            message: ExternalId::from(message),
            by_peer,
            at: now,
        };
        // The last one seen, number 5, is not here: the number decides.
        bed.inbound(&account, "chat", vec![seen("5", false)]).await;
        bed.inbound(&account, "chat", vec![seen("3", true)]).await;
        let chat = bed.conversations(user.id).await.remove(0);
        assert_eq!(chat.unread_count, 1);
        let messages = bed.messages(user.id, chat.id).await;
        let of = |id: &str| {
            messages
                .iter()
                .find(|one| one.external_id == Some(ExternalId::from(id)))
                .unwrap()
        };
        assert!(of("1").is_read && of("2").is_read && !of("9").is_read);
        assert_eq!(
            (of("3").status, of("4").status),
            (DeliveryStatus::Read, DeliveryStatus::Sent)
        );
        assert_eq!(of("1").attachments[0].locator, "there");
        let chats = bed
            .store
            .chats_of(account.id, &[ExternalId::from("2"), ExternalId::from("8")])
            .await
            .unwrap();
        assert_eq!(chats, [(ExternalId::from("2"), ExternalId::from("chat"))]);
        bed
    });
}
