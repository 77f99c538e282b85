//! What lives here: the one place where everything is wired: settings in, a running hub out.
//! Who calls it: the command line, the demo and the tests.
//! What it may not know: how any part does its work.

mod listen;
mod signals;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::web;
use hub_actors::Clock;
use hub_actors::mailbox::CallError;
use hub_actors::ports::{Bus, NoBus, StoreError};
use hub_actors::tree::{Tree, TreeParts, TreeSettings};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;

use crate::cluster::limits::{Limiter, Quotas};
use crate::cluster::{BusNotice, ClusterError, RedisBus, limits};
use crate::http::admin::RotationGuard;
use crate::http::limits::Guesses;
use crate::http::media::Turns;
use crate::http::messages::Complete;
use crate::http::usage::UsageLog;
use crate::http::{AppState, SessionCache, spa};
use crate::media::MediaCache;
use crate::platforms::{self, ClientError};
use crate::settings::{Settings, SettingsError};
use crate::store::Store;
use crate::vault::tokens::Tokens;
use crate::vault::{KeyError, MasterKey, Vault};
use crate::views::FrameEncoder;
use listen::Address;
use signals::Signals;

/// How often a running hub looks for keys that another one has added.
const KEY_REFRESH: Duration = Duration::from_secs(10);
/// How often the metrics are tidied: what was measured waits in memory until then, or until somebody reads `/metrics`.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// A hub that is ready to run.
pub struct Application {
    address: SocketAddr,
    server: Server,
    signals: Signals,
    stop: watch::Sender<bool>,
    tree: Tree,
    store: Store,
    usage: UsageLog,
    shutdown: Duration,
    background: [tokio::task::JoinHandle<()>; 2],
}

/// Stops a running hub from elsewhere.
#[derive(Clone)]
pub struct StopHandle(watch::Sender<bool>);

impl StopHandle {
    /// Asks the hub to stop in good order; [`Application::run_until_stopped`] returns when it has.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Why a hub does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("the setting {0} is missing")]
    Missing(&'static str),
    #[error("vault.key: {0}")]
    Key(#[from] KeyError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("the client for platforms cannot be made: {0}")]
    Platforms(#[from] ClientError),
    #[error("cannot listen on {address}: {error}. Choose another server.bind (HUB__SERVER__BIND)")]
    Bind { address: SocketAddr, error: io::Error },
    #[error("the actors do not start: {0}")]
    Tree(#[from] CallError),
    #[error("frontend.dist: {0}")]
    Frontend(io::Error),
    #[error("the metrics cannot be started: {0}")]
    Metrics(String),
    #[error("signals cannot be heard: {0}")]
    Signals(io::Error),
    #[error("stopped before it had started")]
    Interrupted,
    #[error("the server failed: {0}")]
    Server(#[from] io::Error),
}

impl Application {
    /// Takes its address, opens the database, listens, and starts the actors last: a hub that cannot start has acted on
    /// nobody. Must be called on an actix system.
    ///
    /// # Errors
    /// [`StartError`], with what to do about it.
    pub async fn build(settings: Settings) -> Result<Self, StartError> {
        Self::build_with_clock(settings, Clock::system()).await
    }

    /// As [`Application::build`], on a clock that a test can move.
    ///
    /// # Errors
    /// As [`Application::build`].
    pub async fn build_with_clock(settings: Settings, clock: Clock) -> Result<Self, StartError> {
        let mut signals = Signals::hear().map_err(StartError::Signals)?;
        let prepared = tokio::select! {
            prepared = Prepared::make(settings, clock) => prepared?,
            () = signals.received() => return Err(StartError::Interrupted),
        };
        prepared.start(signals).await
    }

    /// Where it listens; tells the port when the settings asked for any.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle that stops it.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(self.stop.clone())
    }

    /// Runs until SIGTERM, SIGINT or a [`StopHandle`] asks it to stop, and then until it has stopped: new connections
    /// are refused, sockets are told to come back, requests under way are answered, sends under way are finished or
    /// left to the next start, what waits is committed.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn run_until_stopped(mut self) -> Result<(), StartError> {
        let handle = self.server.handle();
        let mut stop = self.stop.subscribe();
        let server = actix_rt::spawn(self.server);
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = self.signals.received() => {}
        }
        tracing::info!("stopping");
        drain(&handle, &self.tree, self.shutdown).await;
        for task in &self.background {
            task.abort();
        }
        let last = async {
            self.usage.flush().await;
            self.store.close().await;
        };
        if tokio::time::timeout(self.shutdown / 8, last).await.is_err() {
            tracing::warn!("the database took too long to be closed");
        }
        tracing::info!("stopped");
        match server.await {
            Ok(result) => Ok(result?),
            Err(error) => Err(StartError::Server(io::Error::other(error))),
        }
    }
}

/// Half of the time is for sockets and requests, a third for the actors behind them; the rest is for the database.
async fn drain(handle: &ServerHandle, tree: &Tree, patience: Duration) {
    let server = actix_rt::spawn(handle.stop(true));
    tree.close_sockets(patience / 8).await;
    if tokio::time::timeout(patience * 3 / 8, server).await.is_err() {
        handle.stop(false).await;
    }
    tree.stop(patience / 3).await;
}

/// A hub that only has to begin: it listens, and has acted on nobody.
struct Prepared {
    settings: Settings,
    clock: Clock,
    vault: Vault,
    store: Store,
    parts: TreeParts,
    bus_notices: BusNotices,
    limiter: Arc<dyn Limiter>,
    tokens: Tokens,
    site: spa::Site,
    metrics: PrometheusHandle,
    is_rotating: bool,
    address: SocketAddr,
    listener: TcpListener,
}

impl Prepared {
    async fn make(mut settings: Settings, clock: Clock) -> Result<Self, StartError> {
        settings.ensure_keys()?;
        let vault = Vault::default();
        let master = master_key(&settings)?;
        let bind = |error| StartError::Bind {
            address: settings.server.bind,
            error,
        };
        let address = Address::take(settings.server.bind).map_err(bind)?;
        let jwt_secret = settings.auth.jwt_secret.as_ref();
        let tokens = Tokens::new(
            jwt_secret.ok_or(StartError::Missing("auth.jwt_secret"))?,
            settings.auth.access_ttl,
            settings.auth.refresh_ttl,
            clock.clone(),
        );
        let site = spa::Site::load(&settings.frontend).map_err(StartError::Frontend)?;
        let metrics = metrics()?;
        let store = Store::connect_with_retention(
            &settings.database,
            &settings.retention,
            vault.clone(),
            master,
            clock.clone(),
        )
        .await?;
        let is_rotating = store.is_rotating().await?;
        let limiter = limits::start(
            Quotas::from(&settings.limits),
            settings.redis.url.as_ref(),
            store.epoch_text(),
        )?;
        let (parts, bus_notices) = tree_parts(&settings, &store, &clock)?;
        let listener = address.listen().map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        Ok(Self {
            settings,
            clock,
            vault,
            store,
            parts,
            bus_notices,
            limiter,
            tokens,
            site,
            metrics,
            is_rotating,
            address,
            listener,
        })
    }

    async fn start(self, signals: Signals) -> Result<Application, StartError> {
        let Self { settings, store, .. } = self;
        let shutdown = Duration::from_secs(settings.server.shutdown_seconds);
        let tree = Tree::start(self.parts).await?;
        hear(self.bus_notices, tree.clone());
        let usage = UsageLog::start(store.clone());
        let state = web::Data::new(AppState {
            tokens: self.tokens,
            site: self.site,
            settings: Arc::new(settings.clone()),
            clock: self.clock,
            store: store.clone(),
            media: MediaCache::open(settings.database.path.join("media"), self.vault.clone()),
            vault: self.vault,
            tree: tree.clone(),
            limiter: self.limiter,
            guesses: Guesses::default(),
            usage: usage.clone(),
            metrics: self.metrics.clone(),
            sessions: SessionCache::default(),
            downloads: Turns::default(),
            complete: Complete::default(),
            rotation: RotationGuard::default(),
        });
        let server = match listen::serve(&settings.server, self.listener, &state) {
            Ok(server) => server,
            Err(error) => {
                tree.stop(shutdown).await;
                return Err(StartError::Server(error));
            }
        };
        if self.is_rotating {
            state.rotation.continue_in_background(store.clone());
        }
        let background = [
            actix_rt::spawn(refresh_keys(store.clone())),
            actix_rt::spawn(tidy_metrics(self.metrics)),
        ];
        let address = self.address;
        tracing::info!(address = %address, "listening on http://{address}");
        Ok(Application {
            address,
            server,
            signals,
            stop: watch::Sender::new(false),
            tree,
            store,
            usage,
            shutdown,
            background,
        })
    }
}

pub(crate) fn master_key(settings: &Settings) -> Result<MasterKey, StartError> {
    let key = settings.vault.key.as_ref().ok_or(StartError::Missing("vault.key"))?;
    let mut master = MasterKey::parse(key.expose_secret())?;
    for previous in &settings.vault.previous_keys {
        master = master.with_previous(SecretString::expose_secret(previous))?;
    }
    Ok(master)
}

type BusNotices = tokio::sync::mpsc::Receiver<BusNotice>;

/// Word from other hubs that may wait; more is dropped, and sessions find what they missed by themselves.
const MAX_NOTICES: usize = 10_000;

fn tree_parts(settings: &Settings, store: &Store, clock: &Clock) -> Result<(TreeParts, BusNotices), StartError> {
    let (sender, notices) = tokio::sync::mpsc::channel(MAX_NOTICES);
    let bus: Arc<dyn Bus> = match &settings.redis.url {
        Some(url) => Arc::new(RedisBus::start(url, store.epoch_text(), move |notice| {
            // A full queue loses word, never an event: sessions look by themselves.
            let _ = sender.try_send(notice);
        })?),
        None => Arc::new(NoBus),
    };
    let shards = if settings.database.is_embedded() {
        1
    } else {
        settings.journal.shards
    };
    let parts = TreeParts {
        settings: TreeSettings {
            arbiters: if settings.tree.arbiters == 0 {
                cores().div_ceil(2)
            } else {
                settings.tree.arbiters
            },
            journal_shards: u32::try_from(shards).unwrap_or(1),
            journal_batch: settings.journal.max_batch,
            conversation_idle: Duration::from_secs(settings.tree.conversation_idle_seconds),
            lease: Duration::from_secs(settings.tree.lease_seconds),
            probe: Duration::from_secs(settings.tree.probe_seconds),
            outbox_in_flight: settings.outbox.max_in_flight,
            outbox_give_up_after: Duration::from_secs(settings.outbox.give_up_after_hours * 3_600),
            sockets_per_user: settings.websocket.max_per_user,
            ..TreeSettings::default()
        },
        clock: clock.clone(),
        store: Arc::new(store.clone()),
        adapters: platforms::adapters(settings, clock.clone())?,
        encoder: Arc::new(FrameEncoder),
        bus,
    };
    Ok((parts, notices))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Passes on what other hubs say.
fn hear(mut notices: BusNotices, tree: Tree) {
    actix_rt::spawn(async move {
        while let Some(notice) = notices.recv().await {
            let BusNotice::Grown { user_id, last } = notice;
            tree.announced(user_id, last);
        }
    });
}

async fn refresh_keys(store: Store) {
    loop {
        tokio::time::sleep(KEY_REFRESH).await;
        if let Err(error) = store.load_vault_keys().await {
            tracing::warn!(%error, "the vault's keys could not be refreshed");
        }
    }
}

async fn tidy_metrics(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(METRICS_UPKEEP).await;
        metrics.run_upkeep();
    }
}

/// One recorder per process, however many hubs run in it.
fn metrics() -> Result<PrometheusHandle, StartError> {
    static HANDLE: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            PrometheusBuilder::new()
                .install_recorder()
                .map_err(|error: BuildError| error.to_string())
        })
        .clone()
        .map_err(StartError::Metrics)
}
