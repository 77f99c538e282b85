//! One grammers client with its connections, every call under a time limit.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use grammers_client::Client;
use grammers_mtsender::{ConnectionParams, NoRetries, SenderPool, SenderPoolHandle};
use grammers_session::updates::UpdatesLike;
use grammers_tl_types::RemoteCall;
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};

use super::errors::CallError;
use super::session::{Centers, HubSession};

/// How long a call may take, making a connection included. A call without an answer hangs for ever in grammers.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// Updates that may wait for the reader. grammers drops what does not fit, which the reader then sees as a gap.
const UPDATES_CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

/// What every client of this hub has in common.
pub struct Config {
    /// `api_id` of my.telegram.org.
    pub api_id: i32,
    /// `api_hash` of my.telegram.org.
    pub api_hash: SecretString,
    pub centers: Centers,
}

/// A client whose connections run on a task of their own. Dropping it ends them.
pub struct Connected {
    client: Client,
    session: Arc<HubSession>,
    handle: SenderPoolHandle,
    runner: AbortHandle,
}

/// What comes with a new client.
pub struct Opened {
    pub connected: Connected,
    /// What Telegram pushes. Must be read without a pause.
    pub updates: mpsc::Receiver<UpdatesLike>,
    /// Ends only when the connections crash or the client is dropped.
    pub runner: JoinHandle<()>,
}

impl Connected {
    /// A client for this session. Connects at its first call.
    pub fn open(config: &Config, session: Arc<HubSession>) -> Opened {
        let parameters = ConnectionParams {
            device_model: "messaging-hub".to_owned(),
            system_version: std::env::consts::OS.to_owned(),
            app_version: env!("CARGO_PKG_VERSION").to_owned(),
            system_lang_code: "en".to_owned(),
            lang_code: "en".to_owned(),
            // Waits belong to the outbox, which shows them and keeps the order.
            retry_policy: Box::new(NoRetries),
            updates_channel_capacity: UPDATES_CAPACITY,
            ..ConnectionParams::default()
        };
        let pool = SenderPool::with_configuration(Arc::clone(&session), config.api_id, parameters);
        let handle = pool.handle.thin.clone();
        let client = Client::new(pool.handle);
        // grammers panics on some frames: the task keeps that away from everybody else.
        let runner = tokio::spawn(pool.runner.run());
        Opened {
            connected: Self {
                client,
                session,
                handle,
                runner: runner.abort_handle(),
            },
            updates: pool.updates,
            runner,
        }
    }

    /// The session that it runs with.
    pub fn session(&self) -> &Arc<HubSession> {
        &self.session
    }

    /// Asks the home data centre.
    ///
    /// # Errors
    /// [`CallError`] when there was no answer within [`PATIENCE`], or not a good one.
    pub async fn call<R: RemoteCall>(&self, request: &R) -> Result<R::Return, CallError> {
        let answer = tokio::time::timeout(PATIENCE, self.client.invoke(request)).await;
        Ok(answer.map_err(|_| CallError::NoAnswer)??)
    }

    /// Asks another data centre.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn call_in<R: RemoteCall>(&self, center: i32, request: &R) -> Result<R::Return, CallError> {
        let answer = tokio::time::timeout(PATIENCE, self.client.invoke_in_dc(center, request)).await;
        Ok(answer.map_err(|_| CallError::NoAnswer)??)
    }

    /// Closes the connection to a data centre; the next call makes a new one.
    pub fn disconnect(&self, center: i32) {
        self.handle.disconnect_from_dc(center);
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.runner.abort();
    }
}
