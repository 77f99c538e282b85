//! Which database: one in this process, or one elsewhere.

use hub_actors::ports::StoreError;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::embedded::Embedded;
use super::pool::PATIENCE;
use super::tls::Tls;
use crate::settings::DatabaseSettings;

/// How the database is reached.
pub(super) struct Database {
    config: Config,
    tls: Tls,
    embedded: Option<Embedded>,
}

impl Database {
    /// Starts the embedded database, or reads where the other one is; connects to neither.
    pub async fn start(settings: &DatabaseSettings) -> Result<Self, StoreError> {
        if settings.is_embedded() {
            let embedded = Embedded::start(settings.cluster_folder()).await?;
            let mut config = embedded.config();
            config.application_name("messaging-hub").ssl_mode(SslMode::Disable);
            return Ok(Self {
                config,
                tls: Tls::none(),
                embedded: Some(embedded),
            });
        }
        let (mut config, tls) = settings.server().ok_or_else(|| {
            StoreError::Failed("database.url is not postgres://user:password@host:port/name".to_owned())
        })?;
        let tls = Tls::new(tls, settings.ca_file.as_deref())?;
        if config.get_application_name().is_none() {
            config.application_name("messaging-hub");
        }
        // A server that vanishes without a word is noticed in about the time of the longest statement.
        config.keepalives_idle(PATIENCE).tcp_user_timeout(PATIENCE);
        Ok(Self {
            config,
            tls,
            embedded: None,
        })
    }

    /// Where to connect.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How the connection is protected, if its configuration asks for that.
    pub fn tls(&self) -> &Tls {
        &self.tls
    }

    /// True for the database in this process.
    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Starts the embedded database again if it has ended by itself.
    pub async fn ensure_running(&self) -> Result<(), StoreError> {
        match &self.embedded {
            Some(embedded) => embedded.ensure_running().await,
            None => Ok(()),
        }
    }

    /// Stops the embedded database. All connections must be closed before.
    pub async fn stop(&self) {
        if let Some(embedded) = &self.embedded
            && let Err(error) = embedded.stop().await
        {
            tracing::warn!(%error, "the embedded database did not stop cleanly");
        }
    }
}
