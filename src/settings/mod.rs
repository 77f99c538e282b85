//! What lives here: every setting, one struct per section of config.toml, its default and what it may be.
//! Who calls it: main loads them, app hands each room its section.
//! What it may not know: any other room. Settings are plain data.

mod address_range;
mod first_run;
mod keys;
mod parse;
mod platforms;
mod problem;
mod server;
mod storage;
mod tree;

use std::collections::HashMap;
use std::path::Path;

use config::{Config, Environment, File, FileFormat};
use serde::Deserialize;

pub use address_range::{AddressRange, InvalidAddressRange};
pub use first_run::KeySource;
pub use keys::{AdminSettings, AuthSettings, VaultSettings};
pub use platforms::{CustomSettings, PlatformSettings, PlatformsSettings, TelegramSettings};
pub use problem::{Problem, Problems, SettingsError};
pub use server::{FrontendSettings, LimitSettings, LogFormat, LogSettings, ServerSettings, WebsocketSettings};
pub use storage::{DatabaseSettings, DatabaseTls, RedisSettings, RetentionSettings};
pub use tree::{JournalSettings, OutboxSettings, TreeSettings};

/// The file that is read when no other is named, if it is there.
const DEFAULT_FILE: &str = "config.toml";

/// All settings. The default is what config.toml says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct Settings {
    pub server: ServerSettings,
    pub database: DatabaseSettings,
    pub redis: RedisSettings,
    pub auth: AuthSettings,
    pub vault: VaultSettings,
    pub admin: AdminSettings,
    pub limits: LimitSettings,
    pub journal: JournalSettings,
    pub outbox: OutboxSettings,
    pub retention: RetentionSettings,
    pub websocket: WebsocketSettings,
    pub frontend: FrontendSettings,
    pub log: LogSettings,
    pub tree: TreeSettings,
    pub platforms: PlatformsSettings,
}

impl Settings {
    /// Reads the file (`config.toml` here when none is named and there is one), then the environment
    /// (`HUB__SECTION__KEY`), and checks every value. Creates nothing: see [`Settings::ensure_keys`].
    ///
    /// # Errors
    /// The file cannot be read, a key is unknown, or a value is not allowed; the text names it.
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.to_ascii_uppercase().starts_with("HUB__"))
            .map(|(name, value)| match value.into_string() {
                Ok(value) => Ok((name, value)),
                Err(_) => Err(SettingsError::Malformed(format!("{name} is not valid UTF-8"))),
            })
            .collect::<Result<HashMap<_, _>, _>>()?;
        match file {
            Some(file) => Self::from_sources(Some(file), environment),
            None if Path::new(DEFAULT_FILE).is_file() => Self::from_sources(Some(Path::new(DEFAULT_FILE)), environment),
            None => Self::from_sources(None, environment),
        }
    }

    fn from_sources(file: Option<&Path>, environment: HashMap<String, String>) -> Result<Self, SettingsError> {
        let mut text = String::new();
        if let Some(file) = file {
            text = std::fs::read_to_string(file).map_err(|error| SettingsError::Unreadable {
                file: file.to_owned(),
                reason: error.to_string(),
            })?;
            toml::from_str::<toml::Table>(&text).map_err(|error| problem::from_toml(&error, file, &text))?;
        }
        let settings: Self = Config::builder()
            .add_source(File::from_str(&text, FileFormat::Toml))
            .add_source(
                // An empty variable counts as not set: that is how container tools pass "nothing".
                Environment::with_prefix("HUB")
                    .prefix_separator("__")
                    .separator("__")
                    .ignore_empty(true)
                    .source(Some(environment)),
            )
            .build()
            .and_then(Config::try_deserialize)
            .map_err(|error| problem::from_config(&error))?;
        settings.check()?;
        Ok(settings)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`SettingsError::Invalid`] with all values that are not allowed.
    pub fn check(&self) -> Result<(), SettingsError> {
        let mut problems = Problems::default();
        self.server.check(&mut problems);
        self.database.check(&mut problems);
        self.redis.check(&mut problems);
        self.auth.check(&mut problems);
        self.vault.check(&mut problems);
        self.admin.check(&mut problems);
        self.limits.check(&mut problems);
        self.journal.check(&mut problems);
        self.outbox.check(&mut problems);
        self.retention.check(&mut problems);
        self.websocket.check(&mut problems);
        self.frontend.check(&mut problems);
        self.log.check(&mut problems);
        self.tree.check(&mut problems);
        self.platforms.check(&mut problems);
        problems.into_result()
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENTED: &str = include_str!("../../config.toml");

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hub.toml");
        std::fs::write(&file, text).unwrap();
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Settings::from_sources(Some(&file), environment).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_what_config_toml_says() {
        let documented: Settings = toml::from_str(DOCUMENTED).unwrap();
        assert_eq!(format!("{documented:#?}"), format!("{:#?}", Settings::default()));
        assert!(documented.database.is_embedded());
    }

    /// Uncomments what config.toml keeps commented out, so that it is checked too.
    #[test]
    fn every_setting_stands_in_config_toml() {
        for section in [
            "server", "database", "redis", "auth", "vault", "admin", "limits", "journal", "outbox",
        ]
        .into_iter()
        .chain([
            "retention",
            "websocket",
            "frontend",
            "log",
            "tree",
            "platforms.custom",
            "platforms.telegram",
        ]) {
            let error = load(&format!("[{section}]\nno_such_key = 1\n"), &[]).unwrap_err();
            let body = DOCUMENTED
                .split_once(&format!("\n[{section}]\n"))
                .unwrap_or_else(|| panic!("config.toml has no section {section}"))
                .1;
            let body = body.split_once("\n[").map_or(body, |(body, _)| body);
            let (_, known) = error.split_once(" has ").unwrap();
            for key in known.split(", ") {
                let described = body
                    .lines()
                    .any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} =")));
                assert!(described, "config.toml does not describe {section}.{key}");
            }
        }
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let settings = load(
            "[server]\nbind = \"127.0.0.1:1\"\nworkers = 3\n",
            &[
                ("HUB__SERVER__BIND", "127.0.0.1:0"),
                ("HUB__SERVER__CORS_ORIGINS", "https://a.example, https://b.example:8443"),
                ("HUB__SERVER__TRUSTED_PROXIES", "10.0.0.0/8,::1"),
                ("HUB__AUTH__ACCESS_TTL", "20m"),
                ("HUB__AUTH__REFRESH_TTL", "86400"),
                ("HUB__AUTH__JWT_SECRET", "00000000000000000000000000000042"),
                ("HUB__REDIS__URL", ""),
                ("HUB__WEBSOCKET__PING_SECONDS", "1m"),
                ("HUB__PLATFORMS__FACEBOOK__APP_ID", "0123"),
                ("HUB__PLATFORMS__TELEGRAM__DC", "2=127.0.0.1:4430"),
                ("HUB__PLATFORMS__TELEGRAM__API_ID", "12345"),
                ("HUB__PLATFORMS__TELEGRAM__APP_SECRET", "0123456789abcdef"),
                ("HUB__PLATFORMS__TELEGRAM__BASE_URL", "http://127.0.0.1:1"),
                ("HUB__PLATFORMS__CUSTOM__ALLOW_PRIVATE_NETWORKS", "true"),
            ],
        )
        .unwrap();
        assert_eq!(settings.server.bind.to_string(), "127.0.0.1:0");
        assert_eq!(settings.server.workers, 3);
        assert_eq!(
            settings.server.cors_origins,
            ["https://a.example", "https://b.example:8443"]
        );
        assert_eq!(settings.server.trusted_proxies.len(), 2);
        assert_eq!(settings.auth.access_ttl.as_secs(), 1200);
        assert_eq!(settings.auth.refresh_ttl.as_secs(), 86_400);
        assert!(settings.redis.url.is_none());
        assert_eq!(settings.websocket.ping_seconds, 60);
        assert_eq!(settings.platforms.facebook.app_id.as_deref(), Some("0123"));
        assert_eq!(settings.platforms.telegram.app_id.as_deref(), Some("12345"));
        assert!(settings.platforms.telegram.app_secret.is_some());
        assert_eq!(
            settings.platforms.without_effect(),
            ["platforms.facebook", "platforms.telegram.base_url"]
        );
        assert!(settings.platforms.custom.allow_private_networks);
        assert!(!format!("{settings:?}").contains("0042"), "a secret is printed");
    }

    #[test]
    fn wrong_settings_are_named() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("HUB__SERVER__BNID", "127.0.0.1:1", &["server", "bnid", "bind"]),
            ("HUB__SEVER__BIND", "127.0.0.1:1", &["sever", "server"]),
            ("HUB__PLATFORMS__FACEBOK__APP_ID", "1", &["facebok", "facebook"]),
            (
                "HUB__SERVER__BIND",
                "localhost",
                &["server.bind", "localhost", "127.0.0.1:8000"],
            ),
            ("HUB__SERVER__WORKERS", "many", &["server.workers", "many", "integer"]),
            ("HUB__SERVER__WORKERS", "9999", &["server.workers", "9999", "from 0 to"]),
            (
                "HUB__SERVER__CORS_ORIGINS",
                "*",
                &["server.cors_origins", "*", "https://"],
            ),
            (
                "HUB__SERVER__TRUSTED_PROXIES",
                "10.0.0.0/40",
                &["server.trusted_proxies", "10.0.0.0/40"],
            ),
            (
                "HUB__SERVER__HTTPS_REDIRECT",
                "perhaps",
                &["server.https_redirect", "perhaps", "bool"],
            ),
            (
                "HUB__SERVER__PUBLIC_URL",
                "hub.example",
                &["server.public_url", "hub.example", "https://"],
            ),
            (
                "HUB__DATABASE__URL",
                "mysql://x",
                &["database.url", "embedded", "postgres://"],
            ),
            ("HUB__REDIS__URL", "localhost:6379", &["redis.url", "redis://"]),
            (
                "HUB__AUTH__ACCESS_TTL",
                "15 parsecs",
                &["auth.access_ttl", "15 parsecs", "15m"],
            ),
            ("HUB__AUTH__ACCESS_TTL", "0", &["auth.access_ttl", "0s", "from"]),
            ("HUB__AUTH__JWT_SECRET", "short", &["auth.jwt_secret", "32"]),
            ("HUB__VAULT__KEY", "zz", &["vault.key", "64 hexadecimal"]),
            ("HUB__ADMIN__TOKEN", "short", &["admin.token", "16"]),
            ("HUB__LOG__FORMAT", "yaml", &["log.format", "yaml", "text", "json"]),
            ("HUB__LOG__FILTER", "hub=loud", &["log.filter", "hub=loud"]),
            (
                "HUB__LIMITS__STRICT_PER_MINUTE",
                "-1",
                &["limits.strict_per_minute", "-1"],
            ),
            (
                "HUB__FRONTEND__DIST",
                "/no/such/folder",
                &["frontend.dist", "/no/such/folder"],
            ),
            (
                "HUB__PLATFORMS__GMAIL__BASE_URL",
                "file:///x",
                &["platforms.gmail.base_url", "https://"],
            ),
            (
                "HUB__PLATFORMS__TELEGRAM__DC",
                "127.0.0.1",
                &["platforms.telegram.dc", "2=127.0.0.1:443"],
            ),
        ];
        for (name, value, words) in cases {
            let error = load("", &[(name, value)]).expect_err(name);
            for word in *words {
                assert!(error.contains(word), "{name}={value}: `{error}` does not say `{word}`");
            }
            assert!(!error.contains('\n'), "{name}: not one line: {error}");
        }
    }

    #[test]
    fn a_secret_is_never_part_of_an_error() {
        for (name, value) in [
            ("HUB__AUTH__JWT_SECRET", "canary"),
            ("HUB__VAULT__KEY", "canary"),
            ("HUB__ADMIN__TOKEN", "canary"),
            ("HUB__DATABASE__URL", "mysql://canary"),
            ("HUB__REDIS__URL", "canary"),
        ] {
            let error = load("", &[(name, value)]).expect_err(name);
            assert!(!error.contains("canary"), "{error}");
        }
        let error = load("[auth]\njwt_secret = \"canary\n", &[]).unwrap_err();
        assert!(error.contains("line 2") && !error.contains("canary"), "{error}");
    }

    #[test]
    fn all_wrong_values_are_told_at_once() {
        let error = load("", &[("HUB__SERVER__WORKERS", "9999"), ("HUB__ADMIN__TOKEN", "x")]).unwrap_err();
        assert!(
            error.contains("server.workers") && error.contains("admin.token"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_or_malformed_file_is_named() {
        let error = Settings::load(Some(Path::new("/no/such/hub.toml")))
            .unwrap_err()
            .to_string();
        assert!(error.contains("/no/such/hub.toml"), "{error}");
        let error = load("[server\n", &[]).unwrap_err();
        assert!(error.contains("hub.toml") && !error.contains('\n'), "{error}");
    }
}
