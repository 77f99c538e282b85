//! Credentials and addresses of platforms. Every address can be replaced, so that tests run against loopback.

use std::net::{SocketAddr, SocketAddrV4, ToSocketAddrs};

use secrecy::SecretString;
use serde::Deserialize;

use super::parse;
use super::problem::Problems;
use super::server::is_base_url;

/// `[platforms.*]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct PlatformsSettings {
    pub custom: CustomSettings,
    pub telegram: TelegramSettings,
    pub twitter: PlatformSettings,
    pub linkedin: PlatformSettings,
    pub instagram: PlatformSettings,
    pub whatsapp: PlatformSettings,
    pub facebook: PlatformSettings,
    pub teams: PlatformSettings,
    pub discord: PlatformSettings,
    pub gmail: PlatformSettings,
    pub slack: PlatformSettings,
}

impl PlatformsSettings {
    pub(super) fn check(&self, problems: &mut Problems) {
        self.custom.check(problems);
        self.telegram.check(problems);
        for (name, platform) in self.to_come() {
            for (key, url) in [
                ("base_url", &platform.base_url),
                ("auth_url", &platform.auth_url),
                ("token_url", &platform.token_url),
            ] {
                check_url(problems, &format!("platforms.{name}.{key}"), url.as_deref());
            }
        }
    }

    /// What is set and has no effect: sections whose adapter this version does not have, and keys that Telegram does not use.
    pub fn without_effect(&self) -> Vec<String> {
        let set = self.to_come().into_iter().filter(|(_, platform)| platform.is_set());
        let sections = set.map(|(name, _)| format!("platforms.{name}"));
        let telegram = &self.telegram;
        let keys = [
            ("client_id", telegram.client_id.is_some()),
            ("client_secret", telegram.client_secret.is_some()),
            ("verify_token", telegram.verify_token.is_some()),
            ("base_url", telegram.base_url.is_some()),
            ("auth_url", telegram.auth_url.is_some()),
            ("token_url", telegram.token_url.is_some()),
        ];
        let keys = keys.into_iter().filter(|(_, is_set)| *is_set);
        sections
            .chain(keys.map(|(key, _)| format!("platforms.telegram.{key}")))
            .collect()
    }

    fn to_come(&self) -> [(&'static str, &PlatformSettings); 9] {
        [
            ("twitter", &self.twitter),
            ("linkedin", &self.linkedin),
            ("instagram", &self.instagram),
            ("whatsapp", &self.whatsapp),
            ("facebook", &self.facebook),
            ("teams", &self.teams),
            ("discord", &self.discord),
            ("gmail", &self.gmail),
            ("slack", &self.slack),
        ]
    }
}

fn check_url(problems: &mut Problems, setting: &str, url: Option<&str>) {
    if let Some(url) = url
        && !is_base_url(url)
    {
        problems.wrong(
            setting,
            url,
            "a URL that begins with https:// or http:// and has no slash at the end, query or fragment",
        );
    }
}

/// `[platforms.<name>]`: what the platform's developer console gives out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct PlatformSettings {
    /// The application's id.
    pub app_id: Option<String>,
    /// The application's secret; it also signs webhooks.
    pub app_secret: Option<SecretString>,
    /// OAuth client id.
    pub client_id: Option<String>,
    /// OAuth client secret.
    pub client_secret: Option<SecretString>,
    /// The word that the platform repeats when it checks a webhook address.
    pub verify_token: Option<SecretString>,
    /// Replaces the platform's API address.
    pub base_url: Option<String>,
    /// Replaces the address of the consent page.
    pub auth_url: Option<String>,
    /// Replaces the address that gives out tokens.
    pub token_url: Option<String>,
}

impl PlatformSettings {
    fn is_set(&self) -> bool {
        let secrets = [&self.app_secret, &self.client_secret, &self.verify_token];
        let texts = [
            &self.app_id,
            &self.client_id,
            &self.base_url,
            &self.auth_url,
            &self.token_url,
        ];
        secrets.into_iter().any(Option::is_some) || texts.into_iter().any(Option::is_some)
    }
}

/// `[platforms.telegram]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct TelegramSettings {
    /// `api_id` of my.telegram.org, which is a name for it too.
    #[serde(alias = "api_id")]
    pub app_id: Option<String>,
    /// `api_hash` of my.telegram.org, which is a name for it too.
    #[serde(alias = "api_hash")]
    pub app_secret: Option<SecretString>,
    /// The keys that every platform knows, so that a tool may set them for all. Telegram uses none of them.
    pub client_id: Option<String>,
    /// As `client_id`.
    pub client_secret: Option<SecretString>,
    /// As `client_id`.
    pub verify_token: Option<SecretString>,
    /// As `client_id`.
    pub base_url: Option<String>,
    /// As `client_id`.
    pub auth_url: Option<String>,
    /// As `client_id`.
    pub token_url: Option<String>,
    /// `id=host:port` of each data centre, separated by commas, the one to begin with first; absent: Telegram's own.
    pub dc: Option<String>,
    /// Tests only: authorisation keys are derived from it instead of being exchanged. Refused unless `dc` is loopback.
    pub test_key_seed: Option<SecretString>,
}

impl TelegramSettings {
    fn check(&self, problems: &mut Problems) {
        if let Some(id) = &self.app_id
            && !id.parse::<i32>().is_ok_and(|id| id > 0)
        {
            problems.wrong(
                "platforms.telegram.app_id",
                id,
                "the number that my.telegram.org calls api_id",
            );
        }
        let centers = self.dc.as_deref().map(data_centers);
        if let (Some(dc), Some(None)) = (&self.dc, &centers) {
            problems.wrong(
                "platforms.telegram.dc",
                dc,
                "id=host:port such as 2=127.0.0.1:443, several separated by commas",
            );
        }
        let are_loopback =
            |centers: &Vec<(i32, SocketAddrV4)>| centers.iter().all(|(_, address)| address.ip().is_loopback());
        if self.test_key_seed.is_some() && !centers.flatten().as_ref().is_some_and(are_loopback) {
            problems.wrong_secret(
                "platforms.telegram.test_key_seed",
                "absent unless platforms.telegram.dc is on loopback",
            );
        }
    }

    /// The data centres that replace Telegram's own, the one to begin with first; empty for Telegram's own.
    pub fn centers(&self) -> Vec<(i32, SocketAddrV4)> {
        self.dc.as_deref().and_then(data_centers).unwrap_or_default()
    }
}

/// Each `id=host:port` of a list; none when one of them is wrong.
fn data_centers(text: &str) -> Option<Vec<(i32, SocketAddrV4)>> {
    text.split(',').map(|center| data_center(center.trim())).collect()
}

fn data_center(text: &str) -> Option<(i32, SocketAddrV4)> {
    let (id, address) = text.split_once('=')?;
    let id = id.parse::<u8>().ok()?;
    let mut addresses = address.to_socket_addrs().ok()?;
    let address = addresses.find_map(|address| match address {
        SocketAddr::V4(address) => Some(address),
        SocketAddr::V6(_) => None,
    })?;
    Some((i32::from(id), address))
}

/// `[platforms.custom]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct CustomSettings {
    /// Whether outbound addresses may lie in private networks and on this machine.
    pub allow_private_networks: bool,
    /// How long one delivery may take, in seconds.
    #[serde(deserialize_with = "parse::seconds")]
    pub timeout_seconds: u64,
}

impl Default for CustomSettings {
    fn default() -> Self {
        Self {
            allow_private_networks: false,
            timeout_seconds: 10,
        }
    }
}

impl CustomSettings {
    fn check(&self, problems: &mut Problems) {
        problems.range("platforms.custom.timeout_seconds", self.timeout_seconds, 1..=120);
    }
}
