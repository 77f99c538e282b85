//! Where the hub keeps things, and for how long.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::parse;
use super::problem::Problems;

/// `[database]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct DatabaseSettings {
    /// `embedded`, or `postgres://user:password@host:port/name`. Secret because of the password.
    pub url: SecretString,
    /// Folder of the embedded database and of the keys that its first start makes; and of files kept, on any database.
    pub path: PathBuf,
    /// Connections to an external database; the embedded one has exactly one.
    pub pool_size: u32,
    /// How long a request waits for a connection, in seconds.
    #[serde(deserialize_with = "parse::seconds")]
    pub connect_timeout_seconds: u64,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            url: SecretString::from("embedded"),
            path: PathBuf::from("./data"),
            pool_size: 16,
            connect_timeout_seconds: 5,
        }
    }
}

impl DatabaseSettings {
    /// True when the database runs inside this process.
    pub fn is_embedded(&self) -> bool {
        self.url.expose_secret() == "embedded"
    }

    /// The folder of the embedded PostgreSQL itself, inside [`DatabaseSettings::path`].
    pub fn cluster_folder(&self) -> PathBuf {
        self.path.join("postgres")
    }

    /// True when the embedded database has been made: its folder holds files.
    pub fn is_made(&self) -> bool {
        std::fs::read_dir(self.cluster_folder()).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// The file with the keys that the first start on the embedded database makes.
    pub fn secrets_file(&self) -> PathBuf {
        self.path.join("secrets.toml")
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        if !self.is_embedded() && self.url.expose_secret().parse::<tokio_postgres::Config>().is_err()
            || !(self.is_embedded() || is_postgres_url(self.url.expose_secret()))
        {
            problems.wrong_secret(
                "database.url",
                "\"embedded\" or postgres://user:password@host:port/name",
            );
        }
        if self.path.as_os_str().is_empty() {
            problems.wrong("database.path", "empty", "a folder");
        }
        problems.range("database.pool_size", self.pool_size, 1..=1_000);
        problems.range(
            "database.connect_timeout_seconds",
            self.connect_timeout_seconds,
            1..=300,
        );
    }
}

fn is_postgres_url(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// `[redis]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct RedisSettings {
    /// `redis://:password@host:port/0`; absent: this hub is alone on its database.
    pub url: Option<SecretString>,
}

impl RedisSettings {
    pub(super) fn check(&self, problems: &mut Problems) {
        if let Some(url) = &self.url {
            let known = url::Url::parse(url.expose_secret())
                .is_ok_and(|url| matches!(url.scheme(), "redis" | "rediss") && url.has_host());
            if !known {
                problems.wrong_secret("redis.url", "redis://:password@host:port/0 (rediss:// for TLS)");
            }
        }
    }
}

/// `[retention]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct RetentionSettings {
    /// How long a socket or program that was away can resume without a gap. Messages are kept for ever.
    pub events_days: u32,
    /// How long an edit, reaction or receipt waits for its message.
    pub parked_days: u32,
    /// How long a deliverer's or client's idempotency key is remembered.
    pub idempotency_days: u32,
    /// How long deliveries that could not be understood are kept for inspection.
    pub quarantine_days: u32,
    /// How long the log of API use is kept.
    pub usage_days: u32,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self {
            events_days: 30,
            parked_days: 7,
            idempotency_days: 7,
            quarantine_days: 90,
            usage_days: 30,
        }
    }
}

impl RetentionSettings {
    pub(super) fn check(&self, problems: &mut Problems) {
        for (setting, days) in [
            ("retention.events_days", self.events_days),
            ("retention.parked_days", self.parked_days),
            ("retention.idempotency_days", self.idempotency_days),
            ("retention.quarantine_days", self.quarantine_days),
            ("retention.usage_days", self.usage_days),
        ] {
            problems.range(setting, days, 1..=3_650);
        }
    }
}
