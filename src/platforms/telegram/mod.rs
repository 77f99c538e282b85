//! What lives here: Telegram as a person uses it: logins, and one live connection per account.
//! Who calls it: `platforms::adapters`; the tree, through the ports of a live adapter.
//! What it may not know: storage, routes, other platforms. Telegram's API is <https://core.telegram.org/api>.

mod attachment;
mod backfill;
mod client;
mod cursors;
mod errors;
mod heard;
mod history;
mod line;
mod link;
mod login;
mod map;
mod markdown;
mod media;
mod peers;
mod reactions;
mod recovery;
mod send;
mod session;
mod system;
mod taker;
mod thumbnail;
mod updates;
mod upload;

use std::sync::Arc;

use async_trait::async_trait;
use hub_actors::Clock;
use hub_actors::domain::{Account, InboundEvent, Receipt, SendError, SendFailure};
use hub_actors::ports::{
    Adapter, Capabilities, Delivery, LinkEnd, LinkStart, LiveAdapter, LoginAttempt, LoginError, LoginRequest,
    LoginStep, OpenLink, Outbound, ReceiveError, SendKey, TypingNotice,
};
use secrecy::SecretString;
use tokio::sync::Semaphore;

use super::address::Guard;
use crate::settings::TelegramSettings;
use client::Config;
use session::Centers;

/// Longest text of a message, in characters. See <https://core.telegram.org/api/config>, `message_length_max`.
const MAX_TEXT: usize = 4096;

/// What a link must go on remembering when the hub forgets its conversations, by the beginnings of the names.
pub const FIRM_MEMORY: &[&str] = &[session::SESSION, session::PEER];

/// What is missing when the settings name no application.
const NOT_CONFIGURED: &str = "This hub has no Telegram application yet: its operator makes one at \
     https://my.telegram.org (\"API development tools\") and sets platforms.telegram.api_id and \
     platforms.telegram.api_hash.";

/// What a link needs of its adapter.
struct Parts {
    config: Config,
    /// Fetches the files that people send by address.
    http: reqwest::Client,
    guard: Guard,
    /// The hub's turns to upload a file.
    uploads: Semaphore,
    clock: Clock,
}

/// Telegram.
pub struct Telegram {
    /// None when the settings name no application.
    parts: Option<Arc<Parts>>,
}

impl Telegram {
    /// The platform with these settings; the client and its guard fetch files that people send by address.
    pub fn new(settings: &TelegramSettings, http: reqwest::Client, guard: Guard, clock: Clock) -> Self {
        let config = config(settings);
        let parts = config.map(|config| {
            Arc::new(Parts {
                config,
                http,
                guard,
                uploads: Semaphore::new(upload::MAX_AT_ONCE),
                clock,
            })
        });
        Self { parts }
    }

    fn parts(&self) -> Result<&Arc<Parts>, LoginError> {
        let missing = || LoginError::NotConfigured(NOT_CONFIGURED.to_owned());
        self.parts.as_ref().ok_or_else(missing)
    }
}

fn config(settings: &TelegramSettings) -> Option<Config> {
    let application = match (&settings.app_id, &settings.app_secret) {
        (Some(id), Some(secret)) => id.parse().ok().map(|id| (id, secret.clone())),
        _ => None,
    };
    let is_test = settings.test_key_seed.is_some();
    let test = || is_test.then(|| (1, SecretString::from("test")));
    let (api_id, api_hash) = application.or_else(test)?;
    Some(Config {
        api_id,
        api_hash,
        centers: Centers::new(settings.centers(), settings.test_key_seed.clone()),
    })
}

#[async_trait]
impl Adapter for Telegram {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            send_key: SendKey::Forever,
            edit: true,
            delete: true,
            reactions: true,
            read: true,
            typing: true,
            max_text: MAX_TEXT,
        }
    }

    fn receive(&self, _account: &Account, _delivery: &Delivery) -> Result<Vec<InboundEvent>, ReceiveError> {
        Err(ReceiveError::Unsigned("Telegram accounts have no webhook"))
    }

    async fn send(&self, _account: &Account, _outbound: &Outbound) -> Result<Receipt, SendError> {
        Err(SendError::new(SendFailure::NotConnected))
    }

    fn live(&self) -> Option<&dyn LiveAdapter> {
        Some(self)
    }

    async fn typing(&self, _account: &Account, _notice: &TypingNotice) {}
}

#[async_trait]
impl LiveAdapter for Telegram {
    async fn open(&self, start: LinkStart) -> Result<OpenLink, LinkEnd> {
        let parts = self.parts().map_err(|error| LinkEnd::Lost {
            reason: error.to_string(),
            not_before: None,
        })?;
        link::open(Arc::clone(parts), start).await
    }

    async fn begin_login(&self, request: LoginRequest) -> Result<(Box<dyn LoginAttempt>, LoginStep), LoginError> {
        login::begin(Arc::clone(self.parts()?), request).await
    }
}
