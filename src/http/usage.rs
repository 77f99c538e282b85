//! What is counted about requests: numbers for `/metrics`, and the log of API use.
//!
//! The log is statistics, not an audit: requests that are alike are counted together for some seconds and become one
//! row, and when too many kinds wait, further ones are dropped, counted and warned of, rather than filling memory.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, web};
use futures_util::future::BoxFuture;
use hub_actors::clock::instant;
use hub_actors::ports::StoreError;
use time::OffsetDateTime;

use super::AppState;
use super::conversations::is_platform_name;
use super::identity::CheckedClaims;
use crate::store::{Store, UsageKind, UsageRecord};

/// Kinds of requests that may wait.
const CAPACITY: usize = 4_096;
/// Rows written with one statement.
const BATCH: usize = 500;
/// How long requests are counted together.
const PERIOD: Duration = Duration::from_secs(10);
/// Longest stored route, as long as the column.
const MAX_ENDPOINT: usize = 255;

type Writer = Box<dyn Fn(Vec<UsageRecord>) -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync>;

/// Counts for the log of API use. Cheap to clone; never waits.
#[derive(Clone)]
pub struct UsageLog {
    shared: Arc<Shared>,
}

struct Shared {
    waiting: Mutex<HashMap<UsageKind, (i32, OffsetDateTime)>>,
    capacity: usize,
    write: Writer,
}

impl UsageLog {
    /// Starts the log, which writes by itself as long as a clone of it lives. Must be called inside a tokio runtime.
    pub fn start(store: Store) -> Self {
        let log = Self::with_writer(CAPACITY, move |rows| {
            let store = store.clone();
            async move { store.record_usage(rows).await }
        });
        let weak = Arc::downgrade(&log.shared);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(PERIOD).await;
                let Some(shared) = weak.upgrade() else { break };
                Self { shared }.flush().await;
            }
        });
        log
    }

    fn with_writer<Writing>(
        capacity: usize,
        write: impl Fn(Vec<UsageRecord>) -> Writing + Send + Sync + 'static,
    ) -> Self
    where
        Writing: Future<Output = Result<(), StoreError>> + Send + 'static,
    {
        Self {
            shared: Arc::new(Shared {
                waiting: Mutex::default(),
                capacity,
                write: Box::new(move |rows| Box::pin(write(rows))),
            }),
        }
    }

    /// Counts one request.
    pub fn record(&self, kind: UsageKind, at: OffsetDateTime) {
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((requests, _)) = waiting.get_mut(&kind) {
            *requests = requests.saturating_add(1);
        } else if waiting.len() < self.shared.capacity {
            waiting.insert(kind, (1, at));
        } else {
            drop(waiting);
            count_dropped(1);
        }
    }

    /// Writes what waits.
    pub async fn flush(&self) {
        let waiting = std::mem::take(&mut *self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let rows: Vec<UsageRecord> = waiting
            .into_iter()
            .map(|(kind, (requests, at))| UsageRecord { kind, requests, at })
            .collect();
        for batch in rows.chunks(BATCH) {
            if let Err(error) = (self.shared.write)(batch.to_vec()).await {
                tracing::warn!(%error, "the usage log could not be written");
                count_dropped(batch.len());
            }
        }
    }
}

fn count_dropped(rows: usize) {
    let rows = u64::try_from(rows).unwrap_or(u64::MAX);
    metrics::counter!("hub_usage_rows_dropped_total").increment(rows);
    tracing::warn!(rows, "rows of the usage log were dropped");
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
            let kind = UsageKind {
                user_id,
                account_id: request
                    .match_info()
                    .get("account_id")
                    .and_then(|account| account.parse().ok()),
                platform: platform_of(&route, request.match_info().get("platform")),
                endpoint: shortened(route),
                method: method.to_owned(),
                status: i16::try_from(status).unwrap_or_default(),
            };
            state.usage.record(kind, state.clock.now());
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
    // What a person wrote there may be anything, and one row that the database refuses loses all that are written with it.
    parameter
        .or_else(named)
        .filter(|name| is_platform_name(name))
        .map(str::to_owned)
}

fn shortened(mut route: String) -> String {
    route.truncate(route.floor_char_boundary(MAX_ENDPOINT));
    route
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: i16) -> UsageKind {
        UsageKind {
            user_id: None,
            account_id: None,
            platform: None,
            endpoint: "/api/messages".to_owned(),
            method: "GET".to_owned(),
            status,
        }
    }

    /// A log that can hold so many kinds, and what it has written: the numbers of requests, batch by batch.
    fn log(capacity: usize) -> (UsageLog, Arc<Mutex<Vec<Vec<i32>>>>) {
        let written = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&written);
        let log = UsageLog::with_writer(capacity, move |rows| {
            let requests = rows.iter().map(|row| row.requests).collect();
            seen.lock().unwrap().push(requests);
            async { Ok(()) }
        });
        (log, written)
    }

    #[tokio::test]
    async fn requests_that_are_alike_become_one_row() {
        let (log, written) = log(CAPACITY);
        for _ in 0..1_200 {
            log.record(kind(200), OffsetDateTime::UNIX_EPOCH);
        }
        log.flush().await;
        log.record(kind(200), OffsetDateTime::UNIX_EPOCH);
        log.flush().await;
        log.flush().await;
        assert_eq!(*written.lock().unwrap(), [[1_200], [1]]);
    }

    #[tokio::test]
    async fn rows_are_written_in_batches() {
        let (log, written) = log(CAPACITY);
        for status in 0..1_200 {
            log.record(kind(status), OffsetDateTime::UNIX_EPOCH);
        }
        log.flush().await;
        let batches: Vec<usize> = written.lock().unwrap().iter().map(Vec::len).collect();
        assert_eq!(batches, [500, 500, 200]);
    }

    #[tokio::test]
    async fn a_full_log_drops_new_kinds_and_still_counts_the_others() {
        let (log, written) = log(10);
        for status in (0..100).chain(0..100) {
            log.record(kind(status), OffsetDateTime::UNIX_EPOCH);
        }
        log.flush().await;
        assert_eq!(*written.lock().unwrap(), [[2; 10]]);
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
            log.record(kind(200), OffsetDateTime::UNIX_EPOCH);
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
        for wrong in ["a\0b", "", "Gmail", "é", &"x".repeat(51)] {
            assert_eq!(
                platform_of("/api/oauth/connect/{platform}", Some(wrong)),
                None,
                "{wrong:?}"
            );
        }
    }
}
