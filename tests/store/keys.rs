//! The keys of the vault, replaced while the hub runs.

use std::time::Duration;

use hub_actors::domain::{Attachment, Change, Idempotency, InboundKind, NewMessage};
use hub_actors::ports::{NewLink, QuarantinedDelivery, Store as _};
use hub_actors::{ExternalId, PlatformId, SessionId};
use messaging_hub::store::{NewRefreshToken, Rotation};
use messaging_hub::vault::{Place, Vault};

use crate::bed::{Bed, message, on_each_database, on_real};

const NOW: Duration = Duration::ZERO;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The id of the key that seals.
fn sealing(vault: &Vault) -> Option<i32> {
    let place = Place {
        table: "t",
        column: "c",
        row: b"r",
    };
    Vault::key_id_of(&vault.seal(place, b"x").unwrap())
}

#[test]
fn everything_is_sealed_anew_with_the_new_key() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let now = bed.clock.now();
        let mut events: Vec<InboundKind> = (0..30).map(|number| message(&format!("m{number}"), now)).collect();
        if let Some(InboundKind::Message(message)) = events.first_mut() {
            message.attachments = vec![Attachment {
                locator: "there".to_owned(),
                ..Attachment::default()
            }];
        }
        bed.inbound(&account, "chat", events).await;
        let link = NewLink {
            user_id: user.id,
            platform: PlatformId::from("phone"),
            external_id: ExternalId::from("me"),
            name: None,
            memory: [
                ("session".to_owned(), b"opaque".to_vec()),
                ("größe".to_owned(), Vec::new()),
            ]
            .into(),
        };
        let phone = bed.store.link_account(link).await.unwrap();
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
        bed.store
            .save_answer(user.id, "schlüssel", b"answer".to_vec())
            .await
            .unwrap();
        // Together more than is read at once.
        for size in [3, 700_000, 700_000, 700_000, 3] {
            let delivery = QuarantinedDelivery {
                user_id: user.id,
                account_id: account.id,
                reason: "odd".to_owned(),
                body: vec![7; size].into(),
            };
            bed.store.quarantine(delivery).await.unwrap();
        }
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

        let soon = Duration::from_secs(2);
        assert_eq!(bed.store.begin_rotation(soon).await.unwrap(), 2);
        assert_eq!(
            bed.store.begin_rotation(soon).await.unwrap(),
            2,
            "an interrupted rotation is continued"
        );
        assert_eq!(sealing(&bed.vault), Some(1), "not before every hub has the new one");
        bed.inbound(&account, "chat", vec![message("new", now)]).await;
        bed.store.complete_rotation(NOW).await.unwrap();
        assert!(!bed.store.is_rotating().await.unwrap());
        assert_eq!(sealing(&bed.vault), Some(2));
        assert_eq!(bed.store.retire_keys(DAY).await.unwrap(), 0, "it is kept a while");
        assert_eq!(bed.store.retire_keys(NOW).await.unwrap(), 1);

        // Only the new key is left, and it opens everything.
        assert_eq!(bed.store.begin_rotation(DAY).await.unwrap(), 3);
        assert_eq!(bed.store.link_memory(phone.id).await.unwrap()["session"], b"opaque");
        let found = bed.store.find_account(user.id, phone.id).await.unwrap().unwrap();
        assert_eq!(found.external_id.as_str(), "me");
        let messages = bed.messages(user.id, chat.id).await;
        assert_eq!(messages.len(), 32);
        assert_eq!(messages.iter().filter(|message| message.content == "edited").count(), 2);
        assert_eq!(messages.iter().flat_map(|message| &message.attachments).count(), 1);
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

/// Every sealed column, and its row's key in SQL, written down once more.
const COLUMNS: [(&str, &str, &str); 12] = [
    ("connected_accounts", "credentials", "uuid_send(id)"),
    ("messages", "content", "uuid_send(id)"),
    ("messages", "media_url", "uuid_send(id)"),
    ("messages", "attachments", "uuid_send(id)"),
    ("parked_events", "payload", "uuid_send(id)"),
    ("outbox", "payload", "uuid_send(id)"),
    ("quarantine", "body", "uuid_send(id)"),
    ("refresh_tokens", "replacement", "uuid_send(id)"),
    ("events", "payload", "uuid_send(user_id) || int8send(seq)"),
    (
        "message_edits",
        "content",
        "uuid_send(message_id) || int8send((extract(epoch FROM edited_at) * 1000000)::bigint)",
    ),
    ("link_memory", "value", "uuid_send(account_id) || name::bytea"),
    ("idempotency_keys", "answer", "uuid_send(user_id) || key::bytea"),
];

/// Values by table and column: all, and those that the vault opens and its present key has sealed.
async fn sealed(bed: &Bed) -> Vec<(&'static str, usize, usize)> {
    let mut counts = Vec::new();
    for (table, column, row) in COLUMNS {
        let sql = format!("SELECT {column}, {row} FROM {table} WHERE {column} IS NOT NULL");
        let rows = bed.rows(&sql).await;
        let good = rows.iter().filter(|row| {
            let (value, row): (Vec<u8>, Vec<u8>) = (row.get(0), row.get(1));
            let place = Place {
                table,
                column,
                row: &row,
            };
            bed.vault.open(place, &value).is_ok() && Vault::key_id_of(&value) == sealing(&bed.vault)
        });
        counts.push((table, rows.len(), good.count()));
    }
    counts
}

#[test]
fn a_key_is_kept_until_nothing_is_sealed_with_it() {
    on_real(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let now = bed.clock.now();
        let edit = InboundKind::Edited {
            message: ExternalId::from("m"),
            text: "edited".to_owned(),
            at: now + Duration::from_micros(1),
        };
        bed.inbound(&account, "chat", vec![message("m", now), edit]).await;
        bed.rows("CREATE TABLE early AS SELECT id, content FROM messages").await;
        bed.store.begin_rotation(NOW).await.unwrap();
        bed.store.complete_rotation(NOW).await.unwrap();
        let counts = sealed(&bed).await;
        assert!(counts.iter().all(|(_, all, good)| all == good), "{counts:?}");
        assert!(counts.contains(&("message_edits", 1, 1)), "{counts:?}");

        // Another hub, which has not loaded the new key for too long, still seals with the old one.
        bed.rows("UPDATE messages SET content = early.content FROM early WHERE messages.id = early.id")
            .await;
        let chat = bed.conversations(user.id).await.remove(0);
        assert_eq!(bed.messages(user.id, chat.id).await.len(), 1, "it opens");
        assert_eq!(bed.store.retire_keys(NOW).await.unwrap(), 0);
        let counts = sealed(&bed).await;
        assert!(counts.iter().all(|(_, all, good)| all == good), "{counts:?}");
        assert_eq!(bed.store.retire_keys(NOW).await.unwrap(), 1);
        assert_eq!(bed.messages(user.id, chat.id).await.len(), 1);
        bed
    });
}

#[test]
fn which_key_seals_goes_by_the_clock_of_the_database() {
    on_each_database(|bed| async move {
        bed.store.begin_rotation(DAY).await.unwrap();
        bed.later(10 * DAY);
        bed.store.load_vault_keys().await.unwrap();
        assert_eq!(sealing(&bed.vault), Some(1), "this hub's clock is not asked");
        bed
    });
}

#[test]
fn a_damaged_value_does_not_hold_up_a_rotation() {
    on_real(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let now = bed.clock.now();
        bed.inbound(&account, "chat", vec![message("1", now), message("2", now)])
            .await;
        bed.rows("UPDATE messages SET content = set_byte(content, 30, 255 - get_byte(content, 30)) WHERE platform_message_id = '1'")
            .await;
        bed.store.begin_rotation(NOW).await.unwrap();
        bed.store.complete_rotation(NOW).await.unwrap();
        assert_eq!(bed.store.retire_keys(NOW).await.unwrap(), 1);
        let counts = sealed(&bed).await;
        assert!(counts.contains(&("messages", 2, 1)), "{counts:?}");
        assert!(counts.contains(&("events", 2, 2)), "{counts:?}");
        bed
    });
}
