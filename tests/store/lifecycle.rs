//! Start, stop, restart.

use hub_actors::Clock;
use hub_actors::ports::{Store as _, StoreError};
use messaging_hub::settings::DatabaseSettings;
use messaging_hub::store::Store;
use messaging_hub::vault::{MasterKey, Vault};

use crate::bed::{MASTER, ask, on_each_database, on_embedded, on_real};

async fn connect(settings: &DatabaseSettings, master: &str) -> Result<Store, StoreError> {
    let clock = Clock::system();
    Store::connect(settings, Vault::default(), MasterKey::parse(master).unwrap(), clock).await
}

#[test]
fn what_was_stored_is_there_after_a_restart() {
    on_each_database(|mut bed| async move {
        let user = bed.user("anna").await;
        let account = bed.account(user.id, "shop").await;
        let epoch = bed.store.epoch().to_owned();
        assert!(
            epoch.len() == 8
                && epoch
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        );
        bed.store.ping().await.unwrap();
        bed.store.close().await;
        assert!(matches!(bed.store.ping().await, Err(StoreError::Unavailable(_))));
        bed.store = bed.another_hub().await;
        assert_eq!(bed.store.epoch(), epoch);
        assert_eq!(bed.store.user(user.id).await.unwrap().unwrap(), user);
        let found = bed.store.find_account(user.id, account.id).await.unwrap().unwrap();
        assert_eq!(found.credentials.text("secret"), Some("secret of shop"));
        bed
    });
}

#[test]
fn a_copy_of_the_database_is_another_life() {
    on_real(|bed| async move {
        let user = bed.user("anna").await;
        let epoch = bed.store.epoch().to_owned();
        bed.store.close().await;
        let mut url = url::Url::parse(secrecy::ExposeSecret::expose_secret(&bed.settings.url)).unwrap();
        let name = url.path().trim_start_matches('/').to_owned();
        let admin = std::env::var("HUB_TEST_POSTGRES_URL").unwrap();
        ask(&admin, &format!("CREATE DATABASE {name}_copy TEMPLATE {name}")).await;
        url.set_path(&format!("{name}_copy"));
        let settings = DatabaseSettings {
            url: url.to_string().into(),
            ..DatabaseSettings::default()
        };
        let mut epochs = Vec::new();
        for _ in 0..2 {
            let copy = connect(&settings, MASTER).await.unwrap();
            assert_eq!(copy.user(user.id).await.unwrap().as_ref(), Some(&user));
            epochs.push(copy.epoch().to_owned());
            copy.close().await;
        }
        assert!(epochs[0] != epoch && epochs[0] == epochs[1], "{epoch} {epochs:?}");
        ask(&admin, &format!("DROP DATABASE {name}_copy WITH (FORCE)")).await;
        let again = bed.another_hub().await;
        assert_eq!(again.epoch(), epoch, "the original goes on");
        again.close().await;
        bed
    });
}

#[test]
fn a_new_epoch_can_be_asked_for() {
    on_each_database(|mut bed| async move {
        let epoch = bed.store.epoch().to_owned();
        bed.store.renew_epoch().await.unwrap();
        bed.store.close().await;
        bed.store = bed.another_hub().await;
        assert_ne!(bed.store.epoch(), epoch);
        bed
    });
}

#[test]
fn a_wrong_master_key_is_told() {
    on_each_database(|bed| async move {
        bed.store.close().await;
        let error = connect(&bed.settings, &MASTER.replace('f', "e")).await.err().unwrap();
        assert!(error.to_string().contains("vault.key"), "{error}");
        bed
    });
}

#[test]
fn the_folder_of_the_embedded_database_belongs_to_one_process() {
    on_embedded(|bed| async move {
        let error = connect(&bed.settings, MASTER).await.err().unwrap();
        assert!(error.to_string().contains("in use by another process"), "{error}");
        let folder = bed.settings.cluster_folder();
        assert!(messaging_hub::store::is_in_use(&folder));
        bed
    });
}

#[test]
fn two_hubs_may_start_at_once() {
    on_real(|bed| async move {
        let hubs = futures_util::future::join_all((0..4).map(|_| bed.another_hub())).await;
        for hub in &hubs {
            assert_eq!(hub.epoch(), bed.store.epoch());
            hub.close().await;
        }
        bed
    });
}

#[test]
fn a_database_that_is_not_there_is_told() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let settings = DatabaseSettings {
            url: "postgres://nobody@127.0.0.1:1/none".into(),
            connect_timeout_seconds: 1,
            ..DatabaseSettings::default()
        };
        let error = connect(&settings, MASTER).await.err().unwrap();
        assert!(
            matches!(&error, StoreError::Unavailable(text) if text.contains("refused")),
            "{error}"
        );
        let settings = DatabaseSettings {
            url: "postgres://nobody@127.0.0.1:1/none?sslmode=require".into(),
            ..settings
        };
        let error = connect(&settings, MASTER).await.err().unwrap();
        assert!(error.to_string().contains("sslmode=require"), "{error}");
    });
}

#[test]
fn a_connection_that_the_server_ends_is_replaced() {
    on_real(|bed| async move {
        let user = bed.user("anna").await;
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        ask(secrecy::ExposeSecret::expose_secret(&bed.settings.url), end).await;
        let mut found = bed.store.user(user.id).await;
        for _ in 0..20 {
            if found.is_ok() {
                break;
            }
            found = bed.store.user(user.id).await;
        }
        assert_eq!(found.unwrap().unwrap(), user);
        bed
    });
}
