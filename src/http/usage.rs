//! What is counted about requests: numbers for `/metrics`, and the log of API use, written in batches.
//!
//! The log is statistics, not an audit: when the database cannot take it fast enough, rows are dropped, counted and warned of,
//! rather than slowing requests or filling memory.

use std::future::Future;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, web};
use hub_actors::clock::instant;
use hub_actors::ports::StoreError;
use tokio::sync::{mpsc, oneshot};

use super::AppState;
use super::identity::CheckedClaims;
use crate::store::{Store, UsageRecord};

/// Rows that may wait.
const CAPACITY: usize = 4_096;
/// Rows written with one statement.
const BATCH: usize = 500;
/// Longest time that a row waits for others.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest stored route, as long as the column.
const MAX_ENDPOINT: usize = 255;

enum Command {
    Row(UsageRecord),
    Flush(oneshot::Sender<()>),
}

/// Takes rows for the log of API use. Cheap to clone; never waits.
#[derive(Clone, Debug)]
pub struct UsageLog {
    sender: mpsc::Sender<Command>,
}

impl UsageLog {
    /// Starts the writer. It ends when the last clone of the log is dropped. Must be called inside a tokio runtime.
    pub fn start(store: Store) -> Self {
        Self::with_writer(CAPACITY, move |rows| {
            let store = store.clone();
            async move { store.record_usage(rows).await }
        })
    }

    fn with_writer<Writing>(capacity: usize, write: impl Fn(Vec<UsageRecord>) -> Writing + Send + 'static) -> Self
    where
        Writing: Future<Output = Result<(), StoreError>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(capacity);
        tokio::spawn(run(receiver, write));
        Self { sender }
    }

    /// Hands a row over; drops it when too many wait.
    pub fn record(&self, row: UsageRecord) {
        if self.sender.try_send(Command::Row(row)).is_err() {
            count_dropped(1);
        }
    }

    /// Waits until all rows handed over before are written or dropped. For the hub's stop.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.sender.send(Command::Flush(done)).await.is_ok() {
            // An error means that the writer is gone, and with it the rows.
            let _ = written.await;
        }
    }
}

fn count_dropped(rows: u64) {
    metrics::counter!("hub_usage_rows_dropped_total").increment(rows);
    tracing::warn!(rows, "rows of the usage log were dropped");
}

async fn run<Writing>(mut receiver: mpsc::Receiver<Command>, write: impl Fn(Vec<UsageRecord>) -> Writing)
where
    Writing: Future<Output = Result<(), StoreError>>,
{
    let mut rows = Vec::with_capacity(BATCH);
    let mut waiting = Vec::new();
    let mut is_open = true;
    while is_open {
        match receiver.recv().await {
            None => break,
            Some(Command::Flush(done)) => waiting.push(done),
            Some(Command::Row(row)) => rows.push(row),
        }
        let deadline = tokio::time::sleep(PATIENCE);
        tokio::pin!(deadline);
        while rows.len() < BATCH && waiting.is_empty() {
            tokio::select! {
                () = &mut deadline => break,
                command = receiver.recv() => match command {
                    Some(Command::Row(row)) => rows.push(row),
                    Some(Command::Flush(done)) => waiting.push(done),
                    None => {
                        is_open = false;
                        break;
                    }
                },
            }
        }
        let batch = std::mem::replace(&mut rows, Vec::with_capacity(BATCH));
        let count = batch.len();
        if count > 0
            && let Err(error) = write(batch).await
        {
            tracing::warn!(%error, "the usage log could not be written");
            count_dropped(u64::try_from(count).unwrap_or(u64::MAX));
        }
        for done in waiting.drain(..) {
            // Whoever asked may have stopped waiting.
            let _ = done.send(());
        }
    }
}

/// Middleware: measures each request, and hands a row to the log for each request of a signed-in person.
///
/// # Errors
/// Those of what is inside.
pub async fn observe<Body: MessageBody>(
    state: web::Data<AppState>,
    request: ServiceRequest,
    next: Next<Body>,
) -> Result<ServiceResponse<Body>, Error> {
    let started = instant();
    let outcome = next.call(request).await;
    if let Ok(response) = &outcome {
        let request = response.request();
        // The pattern, not the path: ids would make a number of each request.
        let route = request.match_pattern().unwrap_or_else(|| "unrouted".to_owned());
        let status = response.status().as_u16();
        let method = method_name(request.method());
        metrics::counter!(
            "hub_http_requests_total",
            "method" => method, "route" => route.clone(), "status" => status.to_string(),
        )
        .increment(1);
        metrics::histogram!("hub_http_request_seconds", "route" => route.clone()).record(started.elapsed());
        let user_id = request
            .extensions()
            .get::<CheckedClaims>()
            .map(|CheckedClaims(claims)| claims.sub);
        if user_id.is_some() {
            state.usage.record(UsageRecord {
                user_id,
                account_id: request
                    .match_info()
                    .get("account_id")
                    .and_then(|account| account.parse().ok()),
                platform: platform_of(&route, request.match_info().get("platform")),
                endpoint: shortened(route),
                method: method.to_owned(),
                status: i16::try_from(status).unwrap_or_default(),
                at: state.clock.now(),
            });
        }
    }
    outcome
}

/// The method's name from a fixed list, so that invented methods do not become numbers of their own.
fn method_name(method: &actix_web::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

/// The platform that a route is about, when its pattern names one.
fn platform_of(route: &str, parameter: Option<&str>) -> Option<String> {
    let named = || {
        let rest = route
            .strip_prefix("/api/platforms/")
            .or_else(|| route.strip_prefix("/api/accounts/"))?;
        rest.split('/').next().filter(|name| !name.starts_with('{'))
    };
    parameter
        .or_else(named)
        .filter(|name| name.len() <= 50)
        .map(str::to_owned)
}

fn shortened(mut route: String) -> String {
    route.truncate(route.floor_char_boundary(MAX_ENDPOINT));
    route
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use time::OffsetDateTime;

    use super::*;

    fn row(status: i16) -> UsageRecord {
        UsageRecord {
            user_id: None,
            account_id: None,
            platform: None,
            endpoint: "/api/messages".to_owned(),
            method: "GET".to_owned(),
            status,
            at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn rows_are_written_in_batches() {
        let batches = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&batches);
        let log = UsageLog::with_writer(CAPACITY, move |rows| {
            seen.lock().unwrap().push(rows.len());
            async { Ok(()) }
        });
        for _ in 0..1_200 {
            log.record(row(200));
        }
        log.flush().await;
        let batches = batches.lock().unwrap().clone();
        assert_eq!(batches, [500, 500, 200]);
    }

    #[tokio::test]
    async fn a_full_queue_drops_rows_instead_of_waiting() {
        let (release, released) = oneshot::channel::<()>();
        let released = Mutex::new(Some(released));
        let written = Arc::new(Mutex::new(0));
        let count = Arc::clone(&written);
        let log = UsageLog::with_writer(10, move |rows| {
            let released = released.lock().unwrap().take();
            *count.lock().unwrap() += rows.len();
            async move {
                if let Some(released) = released {
                    let _ = released.await;
                }
                Ok(())
            }
        });
        for _ in 0..100 {
            log.record(row(200));
        }
        release.send(()).unwrap();
        log.flush().await;
        assert_eq!(*written.lock().unwrap(), 10);
    }

    #[tokio::test]
    async fn a_failed_batch_does_not_stop_the_log() {
        let calls = Arc::new(Mutex::new(0));
        let count = Arc::clone(&calls);
        let log = UsageLog::with_writer(10, move |_| {
            *count.lock().unwrap() += 1;
            async { Err(StoreError::Unavailable("away".to_owned())) }
        });
        for _ in 0..2 {
            log.record(row(200));
            log.flush().await;
        }
        assert_eq!(*calls.lock().unwrap(), 2);
    }

    #[test]
    fn routes_name_their_platform() {
        assert_eq!(
            platform_of("/api/platforms/discord/token", None).as_deref(),
            Some("discord")
        );
        assert_eq!(platform_of("/api/accounts/custom", None).as_deref(), Some("custom"));
        assert_eq!(platform_of("/api/accounts/{account_id}/secret", None), None);
        assert_eq!(
            platform_of("/api/oauth/connect/{platform}", Some("gmail")).as_deref(),
            Some("gmail")
        );
        assert_eq!(platform_of("/api/messages", None), None);
    }
}
