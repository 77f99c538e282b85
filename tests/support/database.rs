//! A fresh database for each test.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Embedded,
    Postgres,
}

/// A database of its own, which goes when the test ends. It outlives the hubs that are started on it.
pub struct Database {
    pub kind: Kind,
    folder: TempDir,
    admin: String,
    name: String,
}

impl Database {
    /// A fresh database.
    ///
    /// # Panics
    /// For a real one when `HUB_TEST_POSTGRES_URL` is missing: `./test.sh` starts a server and sets it.
    pub async fn fresh(kind: Kind) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "hub_test_{}_{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let mut admin = String::new();
        if kind == Kind::Postgres {
            admin = std::env::var("HUB_TEST_POSTGRES_URL").expect(
                "HUB_TEST_POSTGRES_URL must name a PostgreSQL to make databases in: run ./test.sh, which starts one",
            );
            ask(&admin, &format!("CREATE DATABASE {name}")).await;
        }
        Self {
            kind,
            folder: tempfile::tempdir().expect("a folder for the test"),
            admin,
            name,
        }
    }

    /// The settings that lead a hub to it, as environment variables.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut variables = vec![(
            "HUB__DATABASE__PATH".to_owned(),
            self.folder.path().display().to_string(),
        )];
        let url = match self.kind {
            Kind::Embedded => "embedded".to_owned(),
            Kind::Postgres => self.url(),
        };
        variables.push(("HUB__DATABASE__URL".to_owned(), url));
        variables
    }

    /// The address of a real database.
    pub fn url(&self) -> String {
        let mut url = url::Url::parse(&self.admin).expect("HUB_TEST_POSTGRES_URL is a URL");
        url.set_path(&self.name);
        url.to_string()
    }

    /// The address of the server of a real database.
    pub fn server(&self) -> SocketAddr {
        let url = url::Url::parse(&self.admin).expect("HUB_TEST_POSTGRES_URL is a URL");
        let addresses = url.socket_addrs(|| Some(5_432)).expect("the host is known");
        addresses[0]
    }

    /// The address of a real database behind a proxy to its server.
    pub fn url_through(&self, proxy: SocketAddr) -> String {
        let mut url = url::Url::parse(&self.url()).expect("a URL");
        url.set_ip_host(proxy.ip()).expect("a URL takes a host");
        url.set_port(Some(proxy.port())).expect("a URL takes a port");
        url.to_string()
    }

    /// The folder of an embedded database.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Asks a real database; the first column of every row as text.
    pub async fn query(&self, sql: &str) -> Vec<String> {
        assert_eq!(
            self.kind,
            Kind::Postgres,
            "only a real database takes a second connection"
        );
        let client = connect(&self.url()).await;
        let rows = client.simple_query(sql).await.expect("the query is valid");
        rows.into_iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
                _ => None,
            })
            .collect()
    }

    /// After a stop in good order no row of the outbox says `sending`. Only a real database can be asked.
    pub async fn assert_nothing_is_sending(&self) {
        if self.kind == Kind::Postgres {
            let left = self.query("SELECT id FROM outbox WHERE state = 'sending'").await;
            assert!(left.is_empty(), "left in the middle of being sent: {left:?}");
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.kind == Kind::Embedded {
            return;
        }
        let (admin, drop) = (
            self.admin.clone(),
            format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
        );
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(ask(&admin, &drop));
        });
        let _ = dropped.join();
    }
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .expect("the test's PostgreSQL answers");
    tokio::spawn(connection);
    client
}

async fn ask(url: &str, sql: &str) {
    connect(url)
        .await
        .batch_execute(sql)
        .await
        .expect("the test's PostgreSQL makes and drops databases");
}
