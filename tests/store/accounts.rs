//! People and their accounts.

use hub_actors::domain::{AccountState, Credentials};
use hub_actors::ports::{QuarantinedDelivery, Store as _};
use hub_actors::{AccountId, UserId};
use messaging_hub::store::{Store, UsageKind, UsageRecord};

use crate::bed::{on_each_database, on_real};

#[test]
fn an_address_is_taken_once_in_any_case() {
    on_each_database(|bed| async move {
        let user = bed
            .store
            .create_user("Anna@Example.COM", "hash")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(user.email, "anna@example.com");
        assert_eq!(bed.store.create_user("anna@example.com", "other").await.unwrap(), None);
        let (found, hash) = bed.store.user_by_email("ANNA@example.com").await.unwrap().unwrap();
        assert_eq!((found, hash.as_str()), (user.clone(), "hash"));
        assert_eq!(bed.store.user(user.id).await.unwrap(), Some(user));
        assert_eq!(bed.store.user_by_email("nobody@example.com").await.unwrap(), None);
        assert_eq!(bed.store.user(UserId(uuid::Uuid::nil())).await.unwrap(), None);
        bed
    });
}

#[test]
fn an_account_is_linked_disconnected_and_linked_again() {
    on_each_database(|bed| async move {
        let (anna, ben) = (bed.user("anna").await, bed.user("ben").await);
        let first = bed.account(anna.id, "shop").await;
        bed.later(std::time::Duration::from_secs(1));
        let second = bed.account(anna.id, "club").await;
        let of_ben = bed.account(ben.id, "shop").await;
        assert_ne!(first.id, of_ben.id);
        let listed = bed.store.accounts(anna.id).await.unwrap();
        assert_eq!(
            listed.iter().map(|account| account.id).collect::<Vec<_>>(),
            [second.id, first.id]
        );
        assert!(
            listed
                .iter()
                .all(|account| account.credentials == Credentials::default())
        );

        assert_eq!(bed.store.find_account(ben.id, first.id).await.unwrap(), None);
        assert!(!bed.store.disconnect_account(ben.id, first.id).await.unwrap());
        let mut credentials = Credentials::default();
        credentials.0.insert("secret".to_owned(), "changed".into());
        let change = |user_id, platform| {
            bed.store.change_account(user_id, first.id, platform, |account| {
                account.credentials = credentials.clone();
                account.name = Some("other".to_owned());
                7
            })
        };
        assert_eq!(change(ben.id, "custom").await.unwrap(), None);
        assert_eq!(change(anna.id, "phone").await.unwrap(), None);
        let (changed, answer) = change(anna.id, "custom").await.unwrap().unwrap();
        assert_eq!((changed.name.as_deref(), answer), (Some("other"), 7));
        let opened = bed.store.account(first.id).await.unwrap().unwrap();
        assert_eq!(opened.credentials, credentials);

        assert!(bed.store.disconnect_account(anna.id, first.id).await.unwrap());
        assert!(
            bed.store.disconnect_account(anna.id, first.id).await.unwrap(),
            "idempotent"
        );
        let gone = bed.store.account(first.id).await.unwrap().unwrap();
        assert_eq!((gone.is_active, gone.state), (false, AccountState::Disabled));
        assert_eq!(gone.credentials, Credentials::default());
        assert_eq!(change(anna.id, "custom").await.unwrap(), None);

        let again = bed.account(anna.id, "shop").await;
        assert_eq!(
            (again.id, again.is_active, again.state),
            (first.id, true, AccountState::Live)
        );
        let opened = bed.store.find_account(anna.id, first.id).await.unwrap().unwrap();
        assert_eq!(opened.credentials.text("secret"), Some("secret of shop"));
        assert_eq!(opened.created_at, first.created_at);
        assert_eq!(bed.store.account(AccountId(uuid::Uuid::nil())).await.unwrap(), None);
        bed
    });
}

#[test]
fn changes_of_two_hubs_do_not_undo_each_other() {
    on_real(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let other = bed.another_hub().await;
        let write = |store: Store, name: String| async move {
            let changed = store.change_account(user.id, account.id, "custom", |account| {
                account.credentials.0.insert(name, true.into());
            });
            changed.await.unwrap().unwrap();
        };
        let names: Vec<String> = (0..40).map(|number| format!("field {number}")).collect();
        let writes = names.iter().enumerate().map(|(number, name)| {
            let store = if number % 2 == 0 { &bed.store } else { &other };
            write(store.clone(), name.clone())
        });
        futures_util::future::join_all(writes).await;
        let found = bed.store.find_account(user.id, account.id).await.unwrap().unwrap();
        assert!(names.iter().all(|name| found.credentials.0.contains_key(name)));

        // A change and the disconnecting: whichever is first, the account stays disconnected.
        let disconnecting = other.disconnect_account(user.id, account.id);
        let changing = bed.store.change_account(user.id, account.id, "custom", |_| ());
        let (changed, disconnected) = futures_util::join!(changing, disconnecting);
        changed.unwrap();
        assert!(disconnected.unwrap());
        let found = bed.store.find_account(user.id, account.id).await.unwrap().unwrap();
        assert!(!found.is_active && found.credentials == Credentials::default());
        other.close().await;
        bed
    });
}

#[test]
fn an_account_needs_its_user_and_takes_no_other_users_id() {
    on_each_database(|bed| async move {
        let nobody = UserId(uuid::Uuid::from_u128(1));
        assert!(bed.store.create_account(bed.new_account(nobody, "shop")).await.is_err());
        let (anna, ben) = (bed.user("anna").await, bed.user("ben").await);
        let account = bed.account(anna.id, "shop").await;
        let mut stolen = bed.new_account(ben.id, "club");
        stolen.id = account.id;
        assert!(bed.store.create_account(stolen).await.is_err());
        assert_eq!(bed.store.accounts(anna.id).await.unwrap(), [account]);
        assert_eq!(bed.store.accounts(ben.id).await.unwrap(), []);
        bed
    });
}

#[test]
fn usage_and_quarantine_are_kept() {
    on_each_database(|bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let kind = UsageKind {
            user_id: Some(user.id),
            account_id: None,
            platform: Some("custom".to_owned()),
            endpoint: "/api/messages/{id}".to_owned(),
            method: "GET".to_owned(),
            status: 200,
        };
        let record = UsageRecord {
            kind,
            requests: 3,
            at: bed.clock.now(),
        };
        bed.store.record_usage(vec![record; 100]).await.unwrap();
        bed.store.record_usage(Vec::new()).await.unwrap();
        let delivery = QuarantinedDelivery {
            user_id: user.id,
            account_id: account.id,
            reason: "a \0 in it".to_owned(),
            body: bytes::Bytes::from_static(b"\0\xff raw"),
        };
        bed.store.quarantine(delivery).await.unwrap();
        bed.later(std::time::Duration::from_secs(31 * 24 * 3600));
        assert_eq!(bed.store.retain().await.unwrap(), 100);
        bed.later(std::time::Duration::from_secs(60 * 24 * 3600));
        assert_eq!(bed.store.retain().await.unwrap(), 1);
        bed
    });
}
