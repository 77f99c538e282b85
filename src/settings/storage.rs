//! Where the hub keeps things, and for how long.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::parse;
use super::problem::Problems;

/// How the connection to a database server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseTls {
    /// Not at all.
    None,
    /// Encrypted, whoever the server is.
    Unchecked,
    /// Encrypted, and the server has a certificate for its name that is trusted.
    Checked,
}

/// `[database]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct DatabaseSettings {
    /// `embedded`, or `postgres://user:password@host:port/name`. Secret because of the password.
    pub url: SecretString,
    /// Certificates in PEM, of which one must have signed the server's; absent: those that the system trusts.
    pub ca_file: Option<PathBuf>,
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
            ca_file: None,
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

    /// Where the database server is, and how the connection is protected: `sslmode` as libpq has it, but `disable` where
    /// nothing is said, and with a [`DatabaseSettings::ca_file`] the certificate is always checked, with its name. None when
    /// the URL cannot be understood.
    pub fn server(&self) -> Option<(Config, DatabaseTls)> {
        let url = self.url.expose_secret();
        if !is_postgres_url(url) {
            return None;
        }
        let (_, query) = url.split_once('?').unwrap_or((url, ""));
        let mode = query
            .split('&')
            .filter_map(|pair| pair.strip_prefix("sslmode="))
            .next_back();
        let mut config: Config = url.replace("sslmode=verify-full", "sslmode=require").parse().ok()?;
        let tls = match mode {
            None | Some("disable") => DatabaseTls::None,
            Some("verify-full") => DatabaseTls::Checked,
            Some(_) if self.ca_file.is_some() => DatabaseTls::Checked,
            Some(_) => DatabaseTls::Unchecked,
        };
        if tls == DatabaseTls::None {
            config.ssl_mode(SslMode::Disable);
        }
        Some((config, tls))
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
        let server = self.server();
        if !self.is_embedded() && server.is_none() {
            problems.wrong_secret(
                "database.url",
                "\"embedded\" or postgres://user:password@host:port/name, with sslmode disable, prefer, require or \
                 verify-full",
            );
        }
        if let Some(file) = &self.ca_file
            && server.is_none_or(|(_, tls)| tls == DatabaseTls::None)
        {
            let wanted = "absent, or database.url with ?sslmode=verify-full";
            problems.wrong("database.ca_file", file.display(), wanted);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sslmode_says_how_the_connection_is_protected() {
        let read = |query: &str, ca_file: Option<&str>| {
            let settings = DatabaseSettings {
                url: format!("postgres://hub:sslmode=x@db.internal/hub{query}").into(),
                ca_file: ca_file.map(PathBuf::from),
                ..DatabaseSettings::default()
            };
            let server = settings.server();
            server.map(|(config, tls)| (config.get_ssl_mode(), tls))
        };
        for (query, ca_file, wanted) in [
            ("", None, (SslMode::Disable, DatabaseTls::None)),
            ("?sslmode=disable", None, (SslMode::Disable, DatabaseTls::None)),
            ("?sslmode=prefer", None, (SslMode::Prefer, DatabaseTls::Unchecked)),
            (
                "?connect_timeout=2&sslmode=require",
                None,
                (SslMode::Require, DatabaseTls::Unchecked),
            ),
            (
                "?sslmode=require",
                Some("ca.pem"),
                (SslMode::Require, DatabaseTls::Checked),
            ),
            (
                "?sslmode=verify-full&connect_timeout=2",
                None,
                (SslMode::Require, DatabaseTls::Checked),
            ),
        ] {
            assert_eq!(read(query, ca_file), Some(wanted), "{query}");
        }
        assert_eq!(read("?sslmode=verify-ca", None), None);
    }

    #[test]
    fn a_ca_file_without_tls_is_told() {
        let settings = DatabaseSettings {
            url: "postgres://hub@db.internal/hub".into(),
            ca_file: Some(PathBuf::from("ca.pem")),
            ..DatabaseSettings::default()
        };
        let mut problems = Problems::default();
        settings.check(&mut problems);
        assert!(format!("{problems:?}").contains("database.ca_file"));
    }
}
