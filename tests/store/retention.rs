//! What is deleted in time.

use std::time::Duration;

use hub_actors::domain::{Change, Idempotency, NewMessage};
use hub_actors::ports::{QuarantinedDelivery, Store as _};
use hub_actors::{Seq, SessionId};
use messaging_hub::store::NewRefreshToken;

use crate::bed::{message, on_each_database, on_real};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn old_events_go_from_the_beginning_of_the_stream() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        for number in 0..3 {
            bed.inbound(
                &account,
                "chat",
                vec![message(&format!("old{number}"), bed.clock.now())],
            )
            .await;
        }
        bed.later(20 * DAY);
        bed.inbound(&account, "chat", vec![message("young", bed.clock.now())])
            .await;
        assert_eq!(bed.store.retain().await.unwrap(), 0);
        bed.later(11 * DAY);
        assert_eq!(bed.store.retain().await.unwrap(), 3);
        let state = bed.store.stream_page(user.id, Seq(0), 10).await.unwrap().state;
        assert_eq!((state.trimmed, state.last), (Seq(3), Seq(4)));
        let page = bed.store.stream_page(user.id, Seq(0), 10).await.unwrap();
        assert!(page.events.is_empty(), "a page never begins behind a gap");
        assert!(!page.state.covers(Seq(2)) && page.state.covers(Seq(3)));
        assert_eq!(
            bed.store.stream_page(user.id, Seq(3), 10).await.unwrap().events.len(),
            1
        );
        bed.later(20 * DAY);
        assert_eq!(bed.store.retain().await.unwrap(), 1);
        bed.inbound(&account, "chat", vec![message("new", bed.clock.now())])
            .await;
        let page = bed.store.stream_page(user.id, Seq(4), 10).await.unwrap();
        assert_eq!(
            (page.events.len(), page.events[0].seq, page.state.trimmed),
            (1, Seq(5), Seq(4))
        );
        assert_eq!(
            bed.messages(user.id, bed.conversations(user.id).await[0].id)
                .await
                .len(),
            5,
            "messages stay"
        );
        bed
    });
}

#[test]
fn an_account_keeps_its_newest_thousand_deliveries_in_quarantine() {
    on_real(|bed| async move {
        let user = bed.user("anna").await;
        let (loud, quiet) = (bed.account(user.id, "loud").await, bed.account(user.id, "quiet").await);
        let deliver = async |account: &hub_actors::domain::Account, reason: String| {
            let delivery = QuarantinedDelivery {
                user_id: user.id,
                account_id: account.id,
                reason,
                body: bytes::Bytes::from_static(b"raw"),
            };
            bed.store.quarantine(delivery).await.unwrap();
        };
        deliver(&quiet, "old".to_owned()).await;
        for number in 0..1_005 {
            deliver(&loud, format!("{number:04}")).await;
        }
        let rows = bed
            .rows("SELECT count(*), min(reason), max(reason) FROM quarantine WHERE reason <> 'old'")
            .await;
        let found: (i64, String, String) = (rows[0].get(0), rows[0].get(1), rows[0].get(2));
        assert_eq!(found, (1_000, "0005".to_owned(), "1004".to_owned()));
        assert_eq!(bed.rows("SELECT FROM quarantine WHERE reason = 'old'").await.len(), 1);
        bed
    });
}

#[test]
fn keys_of_requests_and_tokens_go_in_time() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let chat = bed.conversation(&account, "chat").await;
        let queue = async |key: &str| {
            let new = NewMessage {
                idempotency: Some(Idempotency {
                    key: key.to_owned(),
                    fingerprint: [1; 32],
                }),
                ..bed.new_message(chat.id, key)
            };
            bed.commit(user.id, Change::Queue(Box::new(new))).await.unwrap();
            bed.store.save_answer(user.id, key, b"answer".to_vec()).await.unwrap();
        };
        queue("old").await;
        let token = NewRefreshToken {
            id: uuid::Uuid::new_v4(),
            session_id: SessionId::generate(bed.clock.now()),
            user_id: user.id,
            token_hash: [1; 32],
            expires_at: bed.clock.now() + DAY,
        };
        bed.store.start_session(&token).await.unwrap();
        bed.later(2 * DAY - Duration::from_secs(60));
        queue("young").await;
        assert_eq!(
            bed.store.retain().await.unwrap(),
            0,
            "a token is kept a day longer than it is good for"
        );
        bed.later(Duration::from_secs(120));
        assert_eq!(bed.store.retain().await.unwrap(), 1);
        bed.later(5 * DAY);
        assert_eq!(bed.store.retain().await.unwrap(), 1, "the older key");
        assert_eq!(bed.store.answer(user.id, "old").await.unwrap(), None);
        assert!(bed.store.answer(user.id, "young").await.unwrap().is_some());
        bed
    });
}
