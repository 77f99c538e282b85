//! What faces the network: the server, its limits, sockets, the served frontend, and the log.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use super::address_range::AddressRange;
use super::parse;
use super::problem::Problems;

/// `[server]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct ServerSettings {
    /// Address and port to listen on; port 0 takes any free one.
    #[serde(deserialize_with = "bind")]
    pub bind: SocketAddr,
    /// How the world reaches the hub, without a slash at the end; absent: `http://` and the address it listens on.
    pub public_url: Option<String>,
    /// HTTP worker threads; 0 = one per core.
    pub workers: usize,
    /// Peers whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    #[serde(deserialize_with = "parse::list")]
    pub trusted_proxies: Vec<AddressRange>,
    /// Whether plain HTTP requests that came through a trusted proxy are sent to HTTPS.
    pub https_redirect: bool,
    /// Other origins whose pages may call the API and open sockets; the hub's own is always allowed.
    #[serde(deserialize_with = "parse::list")]
    pub cors_origins: Vec<String>,
    /// Longest request body, in bytes.
    pub max_body_bytes: usize,
    /// How long a client may take to send a request body, in seconds.
    #[serde(deserialize_with = "parse::seconds")]
    pub body_seconds: u64,
    /// How long a stopping hub waits for what is in flight, in seconds.
    #[serde(deserialize_with = "parse::seconds")]
    pub shutdown_seconds: u64,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 8000)),
            public_url: None,
            workers: 0,
            trusted_proxies: Vec::new(),
            https_redirect: false,
            cors_origins: Vec::new(),
            max_body_bytes: 1_048_576,
            body_seconds: 60,
            shutdown_seconds: 10,
        }
    }
}

fn bind<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        serde::de::Error::custom(format!(
            "{text:?} is not an address and port such as \"127.0.0.1:8000\" or \"[::]:8000\""
        ))
    })
}

impl ServerSettings {
    /// How the world reaches the hub, without a slash at the end, when it listens on `address`.
    pub fn public_url(&self, address: SocketAddr) -> String {
        self.public_url.clone().unwrap_or_else(|| format!("http://{address}"))
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        if let Some(url) = &self.public_url
            && !is_base_url(url)
        {
            problems.wrong(
                "server.public_url",
                url,
                "a URL such as https://hub.example.org, without a slash at the end, query or fragment",
            );
        }
        problems.range("server.workers", self.workers, 0..=1_024);
        for origin in &self.cors_origins {
            if !is_origin(origin) {
                problems.wrong(
                    "server.cors_origins",
                    origin,
                    "a list of origins such as https://inbox.example.org or http://localhost:5173",
                );
            }
        }
        problems.range("server.max_body_bytes", self.max_body_bytes, 1_024..=104_857_600);
        problems.range("server.body_seconds", self.body_seconds, 1..=86_400);
        problems.range("server.shutdown_seconds", self.shutdown_seconds, 1..=600);
    }
}

fn parse_http(text: &str) -> Option<Url> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// True for an http(s) URL to which a path can be appended.
pub(super) fn is_base_url(text: &str) -> bool {
    parse_http(text).is_some_and(|url| url.query().is_none() && url.fragment().is_none() && url.username().is_empty())
        && !text.ends_with('/')
}

fn is_origin(text: &str) -> bool {
    parse_http(text).is_some_and(|url| url.origin().ascii_serialization() == text)
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct LimitSettings {
    /// Requests of one user in a minute.
    pub standard_per_minute: u32,
    /// Attempts in a minute: of one address to register, log in or refresh, of one user to log in to a platform.
    pub strict_per_minute: u32,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            standard_per_minute: 100,
            strict_per_minute: 20,
        }
    }
}

impl LimitSettings {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.range("limits.standard_per_minute", self.standard_per_minute, 1..=10_000_000);
        problems.range("limits.strict_per_minute", self.strict_per_minute, 1..=10_000_000);
    }
}

/// `[websocket]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct WebsocketSettings {
    /// Bytes that may wait for one socket before it is closed as too slow.
    pub buffer_bytes: usize,
    /// Seconds between two pings of the server.
    #[serde(deserialize_with = "parse::seconds")]
    pub ping_seconds: u64,
    /// Sockets of one user; one more ends the one unused for longest.
    pub max_per_user: usize,
    /// Longest frame that a client may send, in bytes.
    pub max_frame_bytes: usize,
}

impl Default for WebsocketSettings {
    fn default() -> Self {
        Self {
            buffer_bytes: 1_048_576,
            ping_seconds: 20,
            max_per_user: 64,
            max_frame_bytes: 65_536,
        }
    }
}

impl WebsocketSettings {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.range("websocket.buffer_bytes", self.buffer_bytes, 65_536..=104_857_600);
        problems.range("websocket.ping_seconds", self.ping_seconds, 1..=3_600);
        problems.range("websocket.max_per_user", self.max_per_user, 1..=10_000);
        problems.range("websocket.max_frame_bytes", self.max_frame_bytes, 1_024..=16_777_216);
    }
}

/// `[frontend]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct FrontendSettings {
    /// Folder of a built single-page application to serve at `/`; absent: the built-in page.
    pub dist: Option<PathBuf>,
}

impl FrontendSettings {
    pub(super) fn check(&self, problems: &mut Problems) {
        if let Some(dist) = &self.dist
            && !dist.join("index.html").is_file()
        {
            problems.wrong("frontend.dist", dist.display(), "a folder that holds index.html");
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum LogFormat {
    /// For people.
    #[default]
    #[serde(rename = "text")]
    Text,
    /// One JSON object per line.
    #[serde(rename = "json")]
    Json,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section with its own keys")]
pub struct LogSettings {
    /// How lines look.
    #[serde(deserialize_with = "format")]
    pub format: LogFormat,
    /// What is logged: a level, or comma-separated `target=level`.
    pub filter: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            filter: "info".to_owned(),
        }
    }
}

fn format<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<LogFormat, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(serde::de::Error::custom(format!(
            "{other:?} is not known: it must be \"text\" or \"json\""
        ))),
    }
}

impl LogSettings {
    pub(super) fn check(&self, problems: &mut Problems) {
        if tracing_subscriber::EnvFilter::try_new(&self.filter).is_err() {
            problems.wrong(
                "log.filter",
                &self.filter,
                "a level (error, warn, info, debug, trace) or a list such as info,messaging_hub=debug",
            );
        }
    }
}
