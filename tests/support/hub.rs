//! A hub in the test's own process, for tests that need no kill.

use std::net::SocketAddr;

use hub_actors::Clock;
use messaging_hub::app::{Application, StartError, StopHandle};
use messaging_hub::settings::{DatabaseSettings, Settings};
use secrecy::SecretString;

use super::Client;
use super::database::{Database, Kind};

pub const ADMIN_TOKEN: &str = "an-administration-token-for-tests";
pub const JWT_SECRET: &str = "a-secret-for-tests-that-is-long-enough-0123456789";
pub const VAULT_KEY: &str = "7f3a000000000000000000000000000000000000000000000000000000000001";

/// A running hub on a port of its own.
pub struct Hub {
    pub address: SocketAddr,
    pub database: Database,
    /// The hub's clock, to be moved.
    pub clock: Clock,
    stop: StopHandle,
    running: actix_rt::task::JoinHandle<Result<(), StartError>>,
}

impl Hub {
    /// A hub whose limits do not get in the way.
    pub async fn start(kind: Kind) -> Self {
        Self::start_with(kind, |_| {}).await
    }

    /// A hub with other settings.
    pub async fn start_with(kind: Kind, change: impl FnOnce(&mut Settings)) -> Self {
        let database = Database::fresh(kind).await;
        let mut settings = settings(&database);
        change(&mut settings);
        let clock = Clock::system();
        let application = Application::build_with_clock(settings, clock.clone()).await;
        let application = application.expect("the hub starts");
        let (address, stop) = (application.address(), application.stop_handle());
        let running = actix_rt::spawn(application.run_until_stopped());
        Self {
            address,
            database,
            clock,
            stop,
            running,
        }
    }

    /// A client that is not signed in.
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// A client of a new user.
    pub async fn user(&self) -> Client {
        let mut client = self.client();
        client.register().await;
        client
    }

    /// Stops it in good order, and looks that nothing is left in the middle of being sent. A test that ends without calling it leaves the hub to the end of its process.
    pub async fn stop(self) -> Database {
        self.stop.stop();
        self.running
            .await
            .expect("the hub does not panic")
            .expect("the hub stops in good order");
        self.database.assert_nothing_is_sending().await;
        self.database
    }
}

/// What the hubs of tests are started with.
pub fn settings(database: &Database) -> Settings {
    let mut settings = Settings::default();
    settings.server.bind = SocketAddr::from(([127, 0, 0, 1], 0));
    settings.server.workers = 2;
    settings.database = DatabaseSettings {
        path: database.folder().to_owned(),
        ..DatabaseSettings::default()
    };
    if database.kind == Kind::Postgres {
        settings.database.url = database.url().into();
    }
    settings.auth.jwt_secret = Some(SecretString::from(JWT_SECRET));
    settings.vault.key = Some(SecretString::from(VAULT_KEY));
    settings.admin.token = Some(SecretString::from(ADMIN_TOKEN));
    settings.limits.standard_per_minute = 1_000_000;
    settings.limits.strict_per_minute = 1_000_000;
    settings.platforms.custom.allow_private_networks = true;
    settings
}
