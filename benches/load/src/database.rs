//! A database of one part: its own, so that parts do not meet each other's rows.

use bytes::Bytes;
use futures_util::SinkExt;
use hub_actors::Clock;
use messaging_hub::settings::DatabaseSettings;
use messaging_hub::store::Store;
use messaging_hub::vault::{MasterKey, Vault};
use secrecy::SecretString;
use tokio_postgres::Client;

use crate::Outcome;
use crate::hub::VAULT_KEY;
use crate::postgres::Postgres;

/// Bytes that go to the server at once while rows are copied.
const CHUNK: usize = 256 * 1024;

/// A database with the hub's schema and keys, made by the hub's own code.
pub struct Database {
    pub url: String,
    pub client: Client,
    pub vault: Vault,
    pub epoch: String,
}

impl Database {
    /// Makes it; `name` must be new.
    pub async fn create(postgres: &Postgres, name: &str) -> Outcome<Self> {
        let admin = postgres.client("postgres").await?;
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        let url = postgres.url(name);
        let settings = DatabaseSettings {
            url: SecretString::from(url.clone()),
            ..DatabaseSettings::default()
        };
        let vault = Vault::default();
        let master = MasterKey::parse(VAULT_KEY)?;
        let store = Store::connect(&settings, vault.clone(), master, Clock::system()).await?;
        let epoch = store.epoch_text().to_owned();
        store.close().await;
        Ok(Self {
            client: postgres.client(name).await?,
            url,
            vault,
            epoch,
        })
    }

    /// Copies rows, one text line each (PostgreSQL, COPY, "Text Format"), into `table (columns)`.
    pub async fn copy(&self, into: &str, rows: impl Iterator<Item = Outcome<String>>) -> Outcome {
        let sink = self.client.copy_in(&format!("COPY {into} FROM STDIN")).await?;
        let mut sink = std::pin::pin!(sink);
        let mut buffer = String::with_capacity(CHUNK + 1_024);
        for row in rows {
            buffer.push_str(&row?);
            buffer.push('\n');
            if buffer.len() >= CHUNK {
                sink.send(Bytes::from(std::mem::take(&mut buffer))).await?;
            }
        }
        sink.send(Bytes::from(buffer)).await?;
        sink.finish().await?;
        Ok(())
    }

    /// Counts statements from now on, of connections that are made from now on.
    pub async fn count_statements(&self) -> Outcome {
        let set = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET pg_stat_statements.track = top', current_database()); END $$";
        self.client
            .batch_execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            .await?;
        Ok(self.client.batch_execute(set).await?)
    }

    /// Statements of this database that were counted, without BEGIN, COMMIT and our own.
    pub async fn statements(&self) -> Outcome<i64> {
        let count = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid \
            WHERE d.datname = current_database() AND query NOT LIKE '%pg_stat%' AND query NOT LIKE '%pg_reload%' \
            AND query NOT IN ('BEGIN', 'COMMIT')";
        Ok(self.client.query_one(count, &[]).await?.get(0))
    }

    /// Lets the planner know what a part has put into tables. Not the empty ones: what it is told to be empty it believes
    /// to stay so, which no hub that runs since a while has to suffer.
    pub async fn analyze(&self, tables: &str) -> Outcome {
        Ok(self.client.batch_execute(&format!("VACUUM ANALYZE {tables}")).await?)
    }
}

/// Bytes as COPY reads them.
pub fn bytea(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(3 + bytes.len() * 2);
    text.push_str("\\\\x");
    for byte in bytes {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
