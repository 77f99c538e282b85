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

#[test]
fn a_database_is_reached_over_tls() {
    on_real(|bed| async move {
        // The server of the tests makes itself a certificate; who asks for no TLS gets none, as before.
        bed.rows(
            "COPY (SELECT 1) TO PROGRAM 'openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
             -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
             -keyout server.key -out server.crt'",
        )
        .await;
        bed.rows("ALTER SYSTEM SET ssl = on").await;
        bed.rows("SELECT pg_reload_conf()").await;
        let folder = tempfile::tempdir().unwrap();
        let certificate: String = bed.rows("SELECT pg_read_file('server.crt')").await[0].get(0);
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, certificate).unwrap();
        let plain = secrecy::ExposeSecret::expose_secret(&bed.settings.url).to_owned();
        let reach = async |host: &str, mode: &str, ca_file: Option<&std::path::Path>| {
            let url = format!("{}?sslmode={mode}", plain.replace("127.0.0.1", host));
            let settings = DatabaseSettings {
                url: url.into(),
                ca_file: ca_file.map(std::path::Path::to_owned),
                connect_timeout_seconds: 2,
                pool_size: 1,
                ..DatabaseSettings::default()
            };
            let store = connect(&settings, MASTER).await.map_err(|error| error.to_string())?;
            // This hub's connections only: those of the bed are plain.
            let encrypted = bed
                .rows("SELECT FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND datname = current_database()")
                .await;
            store.close().await;
            Ok::<_, String>(encrypted.len())
        };
        // The server reads its new settings in its own time.
        for _ in 0..100 {
            if reach("localhost", "require", None).await.is_ok() {
                break;
            }
        }
        assert_eq!(reach("localhost", "require", None).await, Ok(1));
        assert_eq!(reach("localhost", "prefer", None).await, Ok(1));
        assert_eq!(reach("localhost", "disable", None).await, Ok(0));
        assert_eq!(reach("localhost", "verify-full", Some(&ca_file)).await, Ok(1));
        let stranger = reach("localhost", "verify-full", None).await.unwrap_err();
        assert!(stranger.contains("certificate"), "{stranger}");
        let elsewhere = reach("127.0.0.1", "require", Some(&ca_file)).await.unwrap_err();
        assert!(elsewhere.contains("certificate"), "{elsewhere}");
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        let error = reach("localhost", "verify-full", Some(&empty)).await.unwrap_err();
        assert!(error.contains("ca_file"), "{error}");

        bed.rows("ALTER SYSTEM RESET ssl").await;
        bed.rows("SELECT pg_reload_conf()").await;
        bed
    });
}
