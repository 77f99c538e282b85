//! Connections: made, kept, lent out in fair order, taken out of service when they are no longer sound.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bb8_postgres::PostgresConnectionManager;
use futures_util::FutureExt;
use futures_util::future::try_join_all;
use hub_actors::ports::StoreError;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::database::Database;
use super::errors::{classify, unavailable};
use super::tls::Tls;

/// Longest wait for the answer to a statement. The server's own limit is a little shorter, so that it speaks first.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The server's limit for one statement.
pub(super) const STATEMENT_TIMEOUT: &str = "25s";

/// What each connection is told first, beside [`STATEMENT_TIMEOUT`].
///
/// Every statement of the hub looks rows up by an index. The planner is told so, because it plans each prepared
/// statement once, perhaps while the tables are still empty, when reading a whole table looks cheap.
const SESSION: &str = "\
    SET timezone = 'UTC'; \
    SET lock_timeout = '20s'; \
    SET idle_in_transaction_session_timeout = '60s'; \
    SET plan_cache_mode = force_generic_plan; \
    SET enable_seqscan = off; \
    SET enable_hashjoin = off; \
    SET enable_mergejoin = off; \
    SET random_page_cost = 1.1; \
    SET jit = off";

/// A connection with the statements that were prepared on it.
pub(super) struct Connection {
    client: Client,
    statements: HashMap<&'static str, Statement>,
    /// Lists of which everything is prepared.
    lists: Vec<&'static [&'static str]>,
    /// Set when its state is not known any more.
    is_broken: AtomicBool,
}

impl Connection {
    /// The bare client, for statements that are sent together.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The bare client, for the migrations.
    pub fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Prepares what is not prepared yet, all in one round trip.
    pub async fn prepare(&mut self, statements: &[&'static str]) -> Result<(), StoreError> {
        let missing: Vec<&'static str> = statements
            .iter()
            .copied()
            .filter(|sql| !self.statements.contains_key(sql))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let prepared = self
            .wait(try_join_all(missing.iter().map(|sql| self.client.prepare(sql))))
            .await?;
        self.statements.extend(missing.into_iter().zip(prepared));
        Ok(())
    }

    /// As [`Connection::prepare`], for a long list that is asked for again and again: it is known by its address.
    pub async fn prepare_list(&mut self, list: &'static [&'static str]) -> Result<(), StoreError> {
        if !self.lists.iter().any(|known| std::ptr::eq(*known, list)) {
            self.prepare(list).await?;
            self.lists.push(list);
        }
        Ok(())
    }

    /// A statement that [`Connection::prepare`] was given before.
    pub fn statement(&self, sql: &'static str) -> Result<&Statement, StoreError> {
        self.statements
            .get(sql)
            .ok_or_else(|| StoreError::Failed("a statement was not prepared".to_owned()))
    }

    /// Runs a statement and returns its rows.
    pub async fn query(
        &mut self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        self.prepare(&[sql]).await?;
        self.wait(self.client.query(self.statement(sql)?, parameters)).await
    }

    /// Runs a statement and returns the number of rows that it changed.
    pub async fn execute(&mut self, sql: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64, StoreError> {
        self.prepare(&[sql]).await?;
        self.wait(self.client.execute(self.statement(sql)?, parameters)).await
    }

    /// Runs statements without parameters and without rows.
    pub async fn batch(&self, sql: &str) -> Result<(), StoreError> {
        self.wait(self.client.batch_execute(sql)).await
    }

    /// Waits for an answer, but not for ever: a connection that does not answer is taken out of service.
    pub async fn wait<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        self.wait_for(PATIENCE, answer).await
    }

    /// As [`Connection::wait`], with another patience.
    pub async fn wait_for<T>(
        &self,
        patience: Duration,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(patience, answer).await {
            Ok(result) => result.map_err(|error| classify(&error)),
            Err(_) => {
                self.retire();
                Err(unavailable(format!("no answer within {} s", patience.as_secs())))
            }
        }
    }

    /// Takes the connection out of service once it is given back.
    pub fn retire(&self) {
        self.is_broken.store(true, Ordering::Relaxed);
    }

    fn is_sound(&self) -> bool {
        !self.client.is_closed() && !self.is_broken.load(Ordering::Relaxed)
    }
}

/// A transaction. Dropped before [`Transaction::commit`] or [`Transaction::close`], it is rolled back.
pub(super) struct Transaction<'c> {
    connection: &'c Connection,
    is_open: bool,
}

impl<'c> Transaction<'c> {
    /// The caller sends BEGIN itself, together with its first statements.
    pub fn new(connection: &'c Connection) -> Self {
        Self {
            connection,
            is_open: true,
        }
    }

    /// Sends COMMIT alone.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        self.is_open = false;
        self.connection.batch("COMMIT").await
    }

    /// To be called when COMMIT or ROLLBACK was sent by the caller.
    pub fn close(mut self) {
        self.is_open = false;
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.is_open {
            // The first poll puts the request into the connection's queue, before anything that the next user of this
            // connection sends; nobody needs the answer.
            let _ = self.connection.client.batch_execute("ROLLBACK").now_or_never();
        }
    }
}

/// Makes connections for the pool.
pub(super) struct Manager {
    inner: PostgresConnectionManager<Tls>,
    database: Arc<Database>,
    runtime: Handle,
    patience: Duration,
    is_closed: Arc<AtomicBool>,
}

impl bb8::ManageConnection for Manager {
    type Connection = Connection;
    type Error = StoreError;

    async fn connect(&self) -> Result<Connection, StoreError> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(unavailable("the store is closed"));
        }
        let (inner, database, patience) = (self.inner.clone(), Arc::clone(&self.database), self.patience);
        // The task that moves the connection's bytes is born on the runtime that makes the connection. It must outlive
        // the actix arbiter that happens to ask first.
        let connecting = self.runtime.spawn(async move {
            database.ensure_running().await?;
            let connect = async {
                let client = bb8::ManageConnection::connect(&inner).await?;
                let session = format!("SET statement_timeout = '{STATEMENT_TIMEOUT}'; {SESSION}");
                client.batch_execute(&session).await?;
                Ok(client)
            };
            match tokio::time::timeout(patience, connect).await {
                Ok(result) => result.map_err(|error: tokio_postgres::Error| unavailable(describe(&error))),
                Err(_) => Err(unavailable(format!("no connection within {} s", patience.as_secs()))),
            }
        });
        let client = connecting.await.map_err(|error| unavailable(error.to_string()))??;
        Ok(Connection {
            client,
            statements: HashMap::new(),
            lists: Vec::new(),
            is_broken: AtomicBool::new(false),
        })
    }

    async fn is_valid(&self, connection: &mut Connection) -> Result<(), StoreError> {
        connection.wait(connection.client.check_connection()).await
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        !connection.is_sound() || self.is_closed.load(Ordering::Relaxed)
    }
}

/// The message with its causes, which tokio-postgres leaves out of its own.
fn describe(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Keeps the last error of connections that are made in the background, for whoever waits for one in vain.
#[derive(Clone, Debug, Default)]
struct LastError(Arc<Mutex<Option<String>>>);

impl bb8::ErrorSink<StoreError> for LastError {
    fn sink(&self, error: StoreError) {
        let text = match error {
            StoreError::Unavailable(text) | StoreError::Unknown(text) | StoreError::Failed(text) => text,
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    fn boxed_clone(&self) -> Box<dyn bb8::ErrorSink<StoreError>> {
        Box::new(self.clone())
    }
}

/// The connections of the hub.
pub(super) struct Pool {
    pool: bb8::Pool<Manager>,
    /// As many permits as connections. It lends in the order of asking, which the pool underneath does not.
    places: Semaphore,
    size: u32,
    patience: Duration,
    runtime: Handle,
    last_error: LastError,
    is_closed: Arc<AtomicBool>,
}

/// A connection on loan.
pub(super) struct Lent<'p> {
    // Dropped in this order: the connection is back before the next in line is called.
    connection: bb8::PooledConnection<'p, Manager>,
    _place: SemaphorePermit<'p>,
}

impl std::ops::Deref for Lent<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl std::ops::DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Pool {
    /// A pool without connections; they are made when asked for.
    pub fn new(database: Arc<Database>, size: u32, patience: Duration, runtime: Handle) -> Self {
        let last_error = LastError::default();
        let is_closed = Arc::new(AtomicBool::new(false));
        let manager = Manager {
            inner: PostgresConnectionManager::new(database.config().clone(), database.tls().clone()),
            database,
            runtime: runtime.clone(),
            patience,
            is_closed: Arc::clone(&is_closed),
        };
        let builder = bb8::Pool::builder()
            .max_size(size)
            .connection_timeout(patience)
            .test_on_check_out(false)
            .error_sink(Box::new(last_error.clone()));
        let builder = if size == 1 {
            // The embedded database: a new connection is a new database process, so the one there is stays.
            builder.max_lifetime(None).idle_timeout(None)
        } else {
            builder
        };
        let guard = runtime.enter();
        let pool = builder.build_unchecked(manager);
        drop(guard);
        Self {
            pool,
            places: Semaphore::new(usize::try_from(size).unwrap_or(1)),
            size,
            patience,
            runtime,
            last_error,
            is_closed,
        }
    }

    /// Lends a connection, in the order of asking. Never ask for a second one while holding one.
    pub async fn get(&self) -> Result<Lent<'_>, StoreError> {
        let place = match tokio::time::timeout(self.patience, self.places.acquire()).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) => return Err(unavailable("the store is closed")),
            Err(_) => return Err(unavailable("all connections are busy")),
        };
        // A connection that broke while it lay idle is given back at once, which discards it.
        for _ in 0..=self.size {
            let lending = OnRuntime {
                runtime: &self.runtime,
                future: Box::pin(self.pool.get()),
            };
            let connection = lending.await.map_err(|error| match error {
                bb8::RunError::User(error) => error,
                bb8::RunError::TimedOut => self.timed_out(),
            })?;
            if connection.is_sound() {
                return Ok(Lent {
                    connection,
                    _place: place,
                });
            }
        }
        Err(self.timed_out())
    }

    fn timed_out(&self) -> StoreError {
        let last = self.last_error.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        unavailable(last.unwrap_or_else(|| format!("no connection within {} s", self.patience.as_secs())))
    }

    /// Where the bytes of all connections move.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Waits until every loan is back, closes all connections and lends none any more.
    pub async fn close(&self) {
        // Permits are taken, not closed: who already stands in line is still served.
        let all = tokio::time::timeout(PATIENCE, self.places.acquire_many(self.size)).await;
        self.is_closed.store(true, Ordering::Relaxed);
        self.places.close();
        drop(all);
        while self.pool.state().idle_connections > 0 {
            let Some(Ok(connection)) = self.pool.get().now_or_never() else {
                break;
            };
            drop(connection);
        }
    }
}

/// Polls a future as if it lived on another runtime, so that tasks which it spawns live there.
struct OnRuntime<'r, F> {
    runtime: &'r Handle,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for OnRuntime<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _guard = self.runtime.enter();
        self.future.as_mut().poll(context)
    }
}
