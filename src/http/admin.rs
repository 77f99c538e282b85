//! For the operator: the living tree, key rotation, and numbers for Prometheus.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::web::ServiceConfig;
use actix_web::{HttpRequest, HttpResponse, web};
use hub_actors::supervise::Node;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::error::ApiError;
use super::identity::{AdminIdentity, admin};
use super::limits::limit_guesses;
use crate::store::{KEY_NOTICE, KEY_SETTLING, Store};

/// Between two looks whether the replaced key can go, and before another try after a failure.
const ROTATION_PAUSE: Duration = Duration::from_secs(5);

/// Registers the routes of this file.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(web::resource("/api/admin/tree").route(web::get().to(tree)))
        .service(web::resource("/api/admin/rotate-key").route(web::post().to(rotate_key)))
        .service(web::resource("/metrics").route(web::get().to(metrics)));
}

/// The answer of the tree.
#[derive(Serialize)]
struct TreeView {
    nodes: Vec<Node>,
}

/// One actor.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents the answer, whose type belongs to the actors")]
#[schema(rename_all = "camelCase")]
pub struct NodeView {
    /// From the root down.
    path: String,
    /// For example `running` or `failed`.
    state: String,
    /// Commands that wait in its mailbox.
    mailbox_depth: u64,
    /// Crashes survived since it was first started.
    restarts: u32,
    last_error: Option<String>,
    /// Since its last start.
    uptime_seconds: u64,
}

/// The answer of the tree.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents the answer, whose type belongs to the actors")]
pub struct TreeDocument {
    nodes: Vec<NodeView>,
}

/// The living tree: every actor.
#[utoipa::path(
    get, path = "/api/admin/tree", tag = "operation", security(("admin" = [])),
    responses(
        (status = 200, body = TreeDocument),
        (status = 401, description = "No administration token"),
        (status = 403, description = "The administration token is wrong or not configured"),
    )
)]
pub(super) async fn tree(_admin: AdminIdentity, state: web::Data<AppState>) -> HttpResponse {
    HttpResponse::Ok().json(TreeView {
        nodes: state.tree.nodes().await,
    })
}

/// The answer to a wish for a new key.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotationStarted {
    /// The number of the new key.
    key_id: i32,
}

/// Makes a new key and seals everything anew with it in the background. The old one is deleted a day later. The hub works on.
#[utoipa::path(
    post, path = "/api/admin/rotate-key", tag = "operation", security(("admin" = [])),
    responses(
        (status = 202, body = RotationStarted),
        (status = 401, description = "No administration token"),
        (status = 403, description = "The administration token is wrong or not configured"),
    )
)]
pub(super) async fn rotate_key(_admin: AdminIdentity, state: web::Data<AppState>) -> Result<HttpResponse, ApiError> {
    let key_id = state.store.begin_rotation(KEY_NOTICE).await?;
    tracing::info!(key_id, "key rotation begins");
    state.rotation.continue_in_background(state.store.clone());
    Ok(HttpResponse::Accepted().json(RotationStarted { key_id }))
}

/// Whether a rotation runs in this process, so that a second wish does not double the work.
#[derive(Clone, Debug, Default)]
pub struct RotationGuard(Arc<AtomicBool>);

impl RotationGuard {
    /// Brings a rotation that was begun to its end, in the background, unless that is under way. Must be called inside a
    /// tokio runtime.
    pub fn continue_in_background(&self, store: Store) {
        if self.0.swap(true, Ordering::AcqRel) {
            return;
        }
        let running = Running(Arc::clone(&self.0));
        tokio::spawn(async move {
            let _running = running;
            while let Err(error) = store.complete_rotation(KEY_SETTLING).await {
                tracing::warn!(%error, "key rotation is held up");
                tokio::time::sleep(ROTATION_PAUSE).await;
            }
            tracing::info!("key rotation is complete");
        });
    }
}

/// Frees the guard however the work ends.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Numbers, in the text format of Prometheus. They name no person, message or account.
#[utoipa::path(
    get, path = "/metrics", tag = "operation", security(("admin" = [])),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 401, description = "No administration token"),
        (status = 403, description = "The administration token is wrong or not configured"),
        (status = 429, description = "Too many wrong tokens from this address"),
    )
)]
pub(super) async fn metrics(request: HttpRequest, state: web::Data<AppState>) -> Result<HttpResponse, ApiError> {
    // Who reads them with the right token may do so as often as it likes.
    let _admin: AdminIdentity = limit_guesses(&request, &state, admin(&request)).await?;
    for (kind, count) in state.tree.population() {
        metrics::gauge!("hub_actors", "kind" => kind).set(gauge(count));
    }
    metrics::gauge!("hub_outbox_depth").set(gauge(state.tree.outbox_depth()));
    Ok(HttpResponse::Ok()
        // Text exposition format 0.0.4, as Prometheus' documentation names it.
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(state.metrics.render()))
}

fn gauge(count: usize) -> f64 {
    u32::try_from(count).unwrap_or(u32::MAX).into()
}
