//! The keys of the vault, replaced while the hub runs.

use std::time::Duration;

use hub_actors::domain::{Change, Idempotency, InboundKind, NewMessage};
use hub_actors::ports::{QuarantinedDelivery, Store as _};
use hub_actors::{ExternalId, SessionId};
use messaging_hub::store::{NewRefreshToken, Rotation};
use messaging_hub::vault::{Place, Vault};

use crate::bed::{message, on_each_database};

#[test]
fn everything_is_sealed_anew_with_the_new_key() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let now = bed.clock.now();
        let events = (0..30).map(|number| message(&format!("m{number}"), now)).collect();
        bed.inbound(&account, "chat", events).await;
        let edit = |message: &str| InboundKind::Edited {
            message: ExternalId::from(message),
            text: "edited".to_owned(),
            at: now + Duration::from_micros(123_457),
        };
        bed.inbound(&account, "chat", vec![edit("m1"), edit("m2"), edit("parked")])
            .await;
        let chat = bed.conversations(user.id).await.remove(0);
        let new = NewMessage {
            media_url: Some("https://example.com/a.png".to_owned()),
            idempotency: Some(Idempotency {
                key: "schlüssel".to_owned(),
                fingerprint: [1; 32],
            }),
            ..bed.new_message(chat.id, "out")
        };
        bed.commit(user.id, Change::Queue(Box::new(new.clone()))).await.unwrap();
        bed.store.save_answer(user.id, "schlüssel", b"answer").await.unwrap();
        let delivery = QuarantinedDelivery {
            user_id: user.id,
            account_id: account.id,
            reason: "odd".to_owned(),
            body: bytes::Bytes::from_static(b"raw"),
        };
        bed.store.quarantine(delivery).await.unwrap();
        let session_id = SessionId::generate(now);
        let token = |number: u8| NewRefreshToken {
            id: uuid::Uuid::new_v4(),
            session_id,
            user_id: user.id,
            token_hash: [number; 32],
            expires_at: now + Duration::from_secs(7 * 24 * 3600),
        };
        bed.store.start_session(&token(1)).await.unwrap();
        let grace = Duration::from_secs(3600);
        assert_eq!(
            bed.store
                .rotate_session([1; 32], &token(2), b"pair", grace)
                .await
                .unwrap(),
            Rotation::Rotated
        );

        assert_eq!(bed.store.begin_rotation().await.unwrap(), 2);
        assert_eq!(
            bed.store.begin_rotation().await.unwrap(),
            2,
            "an interrupted rotation is continued"
        );
        assert!(!bed.store.finish_rotation().await.unwrap());
        bed.later(Duration::from_secs(31));
        bed.inbound(&account, "chat", vec![message("new", now)]).await;
        let mut rounds = 0;
        while bed.store.reseal_batch(7).await.unwrap() > 0 {
            rounds += 1;
            assert!(rounds < 200, "it ends");
        }
        assert!(
            !bed.store.finish_rotation().await.unwrap(),
            "too early for what was under way"
        );
        bed.later(Duration::from_secs(31));
        assert!(bed.store.finish_rotation().await.unwrap());

        // Only the new key is left, and it opens everything.
        let place = Place {
            table: "t",
            column: "c",
            row: b"r",
        };
        assert_eq!(Vault::key_id_of(&bed.vault.seal(place, b"x").unwrap()), Some(2));
        assert_eq!(bed.store.begin_rotation().await.unwrap(), 3);
        let messages = bed.messages(user.id, chat.id).await;
        assert_eq!(messages.len(), 32);
        assert_eq!(messages.iter().filter(|message| message.content == "edited").count(), 2);
        let sent = messages.iter().find(|message| message.id == new.id).unwrap();
        assert_eq!(sent.media_url, new.media_url);
        assert_eq!(bed.gap_free(user.id).await.len(), 34);
        assert_eq!(bed.outbox().await.len(), 1);
        let found = bed.store.find_account(user.id, account.id).await.unwrap().unwrap();
        assert_eq!(found.credentials.text("secret"), Some("secret of shop"));
        assert_eq!(
            bed.store.answer(user.id, "schlüssel").await.unwrap().as_deref(),
            Some(b"answer".as_slice())
        );
        let replacement = b"pair".to_vec();
        let repeated = bed.store.rotate_session([1; 32], &token(3), b"", grace).await.unwrap();
        assert_eq!(repeated, Rotation::Repeated { replacement });
        bed.inbound(&account, "chat", vec![message("parked", now)]).await;
        let edited = bed.messages(user.id, chat.id).await;
        assert_eq!(edited.iter().filter(|message| message.content == "edited").count(), 3);
        bed
    });
}
