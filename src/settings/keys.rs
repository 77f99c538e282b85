//! Secrets of the hub itself, and how long sign-ins live.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::parse;
use super::problem::Problems;

/// `[auth]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct AuthSettings {
    /// Whether whoever reaches the hub may register. Those who have signed in as before.
    pub allow_registration: bool,
    /// Signs access and refresh tokens (HS256).
    pub jwt_secret: Option<SecretString>,
    /// Life of an access token.
    #[serde(deserialize_with = "parse::duration")]
    pub access_ttl: Duration,
    /// Life of a refresh token; each refresh starts it anew.
    #[serde(deserialize_with = "parse::duration")]
    pub refresh_ttl: Duration,
    /// How long a refresh token that was just used answers with the same new pair, for two tabs that refresh at once.
    #[serde(deserialize_with = "parse::seconds")]
    pub refresh_grace_seconds: u64,
    /// How long after its end an access token still opens a socket, as long as its session lives.
    #[serde(deserialize_with = "parse::duration")]
    pub socket_grace: Duration,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            allow_registration: true,
            jwt_secret: None,
            access_ttl: Duration::from_secs(15 * 60),
            refresh_ttl: Duration::from_secs(7 * 86_400),
            refresh_grace_seconds: 30,
            socket_grace: Duration::from_secs(7 * 86_400),
        }
    }
}

impl AuthSettings {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self
            .jwt_secret
            .as_ref()
            .is_some_and(|secret| secret.expose_secret().len() < 32)
        {
            problems.wrong_secret("auth.jwt_secret", "at least 32 random characters");
        }
        for (setting, life, least) in [
            ("auth.access_ttl", self.access_ttl, 1),
            ("auth.refresh_ttl", self.refresh_ttl, 1),
            ("auth.socket_grace", self.socket_grace, 0),
        ] {
            if !(least..=366 * 86_400).contains(&life.as_secs()) {
                let allowed = format!("from {least}s to 366d");
                problems.wrong(setting, format!("{}s", life.as_secs()), allowed);
            }
        }
        problems.range("auth.refresh_grace_seconds", self.refresh_grace_seconds, 0..=600);
    }
}

/// `[vault]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct VaultSettings {
    /// Master key: seals the keys that seal secrets and content. 32 bytes as hexadecimal or base64.
    pub key: Option<SecretString>,
    /// Earlier master keys, while the change to `key` is under way.
    #[serde(deserialize_with = "parse::secret_list")]
    pub previous_keys: Vec<SecretString>,
}

impl VaultSettings {
    pub(super) fn check(&self, problems: &mut Problems) {
        for (setting, key) in self
            .key
            .iter()
            .map(|key| ("vault.key", key))
            .chain(self.previous_keys.iter().map(|key| ("vault.previous_keys", key)))
        {
            if !is_key(key.expose_secret()) {
                problems.wrong_secret(setting, "32 random bytes as 64 hexadecimal digits or as base64");
            }
        }
    }
}

fn is_key(text: &str) -> bool {
    hex::decode(text).is_ok_and(|key| key.len() == 32)
        || [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
            .iter()
            .any(|alphabet| alphabet.decode(text).is_ok_and(|key| key.len() == 32))
}

/// `[admin]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct AdminSettings {
    /// Bearer token of /api/admin and /metrics; absent: these routes are closed.
    pub token: Option<SecretString>,
}

impl AdminSettings {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self
            .token
            .as_ref()
            .is_some_and(|token| token.expose_secret().len() < 16)
        {
            problems.wrong_secret("admin.token", "at least 16 random characters");
        }
    }
}
