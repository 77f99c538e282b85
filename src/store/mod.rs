//! What lives here: the only SQL of the hub, one file per aggregate; pool, migrations, the embedded database.
//! Who calls it: the actors through `hub_actors::ports::Store`, http and app through the methods of [`Store`].
//! What it may not know: HTTP, sockets, platforms, actors; what credentials and events mean.
//!
//! Ownership is part of each query: a row of another user is not found. Rows of a user's conversations are changed by
//! the journal only, while it holds the lock on the user's row.

mod accounts;
mod conversations;
mod database;
mod embedded;
mod errors;
mod health;
mod idempotency;
mod inspect;
mod journal;
mod links;
mod messages;
mod migrations;
mod outbox;
mod pool;
mod port;
mod quarantine;
mod reseal;
mod reset;
mod retention;
mod sealing;
mod sessions;
mod stream;
mod tls;
mod together;
mod usage;
mod users;
mod vault_keys;

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hub_actors::ports::StoreError;
use hub_actors::{Clock, SessionId, UserId};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

pub use accounts::NewAccount;
pub use conversations::{ConversationFilter, ConversationPage};
pub use inspect::{Inspection, is_in_use};
pub use messages::{MessagePage, MessageRange, PendingMessage};
pub use sessions::{NewRefreshToken, Rotation};
pub use usage::{UsageKind, UsageRecord};
pub use users::User;
pub use vault_keys::{KEY_KEPT, KEY_NOTICE, KEY_SETTLING};

use crate::settings::{DatabaseSettings, RetentionSettings};
use crate::vault::{MasterKey, Vault};
use conversations::UnreadByPlatform;
use database::Database;
use idempotency::RequestKey;
use pool::{Lent, Pool};
use together::Together;

/// When thousands of sockets come back at once, so long after one statement the next one asks what each of them asks.
const CROWD_PAUSE: Duration = Duration::from_millis(25);

/// The database. Cheap to clone; the last clone to go closes the connections.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    database: Arc<Database>,
    vault: Vault,
    master: MasterKey,
    clock: Clock,
    retention: RetentionSettings,
    epoch: String,
    sessions_asked: Together<SessionId, bool>,
    unread_asked: Together<UserId, UnreadByPlatform>,
    users_asked: Together<UserId, Option<User>>,
    answers_asked: Together<RequestKey, Option<Vec<u8>>>,
    answers_saved: Together<(RequestKey, Vec<u8>), Vec<u8>>,
    // Last: it drives what stands above while that is dropped.
    _runtime: StoreRuntime,
}

/// The thread on which the bytes of all connections move. Dropping it never blocks.
struct StoreRuntime(Option<tokio::runtime::Runtime>);

impl StoreRuntime {
    fn start() -> Result<Self, StoreError> {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("store")
            .enable_all()
            .build()
            .map(|runtime| Self(Some(runtime)))
            .map_err(|error| errors::unavailable(format!("the store's thread cannot be started: {error}")))
    }

    fn handle(&self) -> Result<tokio::runtime::Handle, StoreError> {
        let runtime = self
            .0
            .as_ref()
            .ok_or_else(|| errors::unavailable("the store is closed"))?;
        Ok(runtime.handle().clone())
    }
}

impl Drop for StoreRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Asks a store that may be gone by then.
fn asking<Q, A, Asking>(
    inner: &Weak<Inner>,
    ask: fn(Store, Vec<Q>) -> Asking,
) -> impl Fn(Vec<Q>) -> BoxFuture<'static, Result<Vec<A>, StoreError>> + Send + 'static
where
    Q: Send + 'static,
    A: 'static,
    Asking: Future<Output = Result<Vec<A>, StoreError>> + Send + 'static,
{
    let inner = Weak::clone(inner);
    move |questions| match inner.upgrade() {
        Some(inner) => Box::pin(ask(Store { inner }, questions)),
        None => Box::pin(async { Err(errors::unavailable("the store is closed")) }),
    }
}

impl Store {
    /// Starts the embedded database if that is wanted, connects, brings the schema up to date, loads the epoch and the
    /// vault's keys.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database cannot be reached or its folder is in use by another process;
    /// [`StoreError::Failed`] when the schema is from a newer hub or the master key does not fit.
    pub async fn connect(
        settings: &DatabaseSettings,
        vault: Vault,
        master: MasterKey,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        Self::connect_with_retention(settings, &RetentionSettings::default(), vault, master, clock).await
    }

    /// As [`Store::connect`], with other times of retention than the default.
    ///
    /// # Errors
    /// As [`Store::connect`].
    pub async fn connect_with_retention(
        settings: &DatabaseSettings,
        retention: &RetentionSettings,
        vault: Vault,
        master: MasterKey,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let runtime = StoreRuntime::start()?;
        let database = Arc::new(Database::start(settings).await?);
        let size = if settings.is_embedded() {
            1
        } else {
            settings.pool_size.max(1)
        };
        let patience = Duration::from_secs(settings.connect_timeout_seconds.max(1));
        let pool = Pool::new(Arc::clone(&database), size, patience, runtime.handle()?);
        let epoch = migrations::migrate(&mut *pool.get().await?, &clock).await?;
        let handle = runtime.handle()?;
        let inner = Arc::new_cyclic(|inner: &Weak<Inner>| Inner {
            pool,
            database,
            vault,
            master,
            clock,
            retention: retention.clone(),
            epoch,
            sessions_asked: Together::start(&handle, CROWD_PAUSE, asking(inner, Self::sessions_are_live)),
            unread_asked: Together::start(&handle, CROWD_PAUSE, asking(inner, Self::unread_of_users)),
            users_asked: Together::start(&handle, Duration::ZERO, asking(inner, Self::users)),
            answers_asked: Together::start(&handle, Duration::ZERO, asking(inner, Self::answers)),
            answers_saved: Together::start(&handle, Duration::ZERO, asking(inner, Self::save_answers)),
            _runtime: runtime,
        });
        let store = Self { inner };
        store.load_vault_keys().await?;
        Ok(store)
    }

    /// Waits for what is under way, closes all connections and then the embedded database. Later calls answer
    /// [`StoreError::Unavailable`].
    pub async fn close(&self) {
        self.inner.pool.close().await;
        self.inner.database.stop().await;
    }

    /// One life of the database; see [`hub_actors::domain::StreamPosition`].
    pub fn epoch_text(&self) -> &str {
        &self.inner.epoch
    }

    /// Lends a connection. Never ask for a second one while holding one: the embedded database has just one.
    async fn connection(&self) -> Result<Lent<'_>, StoreError> {
        self.inner.pool.get().await
    }

    async fn query(&self, sql: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, StoreError> {
        self.connection().await?.query(sql, parameters).await
    }

    async fn query_one(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.query(sql, parameters).await?.into_iter().next())
    }

    async fn execute(&self, sql: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64, StoreError> {
        self.connection().await?.execute(sql, parameters).await
    }

    fn vault(&self) -> &Vault {
        &self.inner.vault
    }

    fn now(&self) -> time::OffsetDateTime {
        self.inner.clock.now()
    }
}
