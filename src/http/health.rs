//! Whether the hub can work: `/health`.

use actix_web::web::ServiceConfig;
use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::limits::Backend;

/// Registers the routes of this file.
pub fn routes(config: &mut ServiceConfig) {
    config.service(
        web::resource("/health")
            .route(web::get().to(health))
            .route(web::head().to(health)),
    );
}

/// The answer of `/health`.
#[derive(Serialize, ToSchema)]
pub struct Health {
    /// `ok` or `error`.
    status: &'static str,
    services: Services,
    /// What is wrong, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    /// What to look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'static str>,
}

/// What the hub needs.
#[derive(Serialize, ToSchema)]
pub struct Services {
    /// `connected` or `disconnected`.
    database: &'static str,
    /// `connected`, `disconnected` (the hub works on without it) or `disabled`.
    redis: &'static str,
}

/// Whether the hub can work. Without Redis it can.
#[utoipa::path(
    get, path = "/health", tag = "operation", security(()),
    responses((status = 200, body = Health), (status = 503, body = Health, description = "The database does not answer"))
)]
pub(super) async fn health(state: web::Data<AppState>) -> HttpResponse {
    let redis = match state.limiter.backend() {
        Backend::InProcess => "disabled",
        Backend::Redis { connected: true } => "connected",
        Backend::Redis { connected: false } => "disconnected",
    };
    match state.store.ping().await {
        Ok(()) => HttpResponse::Ok().json(Health {
            status: "ok",
            services: Services {
                database: "connected",
                redis,
            },
            error: None,
            details: None,
        }),
        Err(error) => {
            tracing::warn!(%error, "the health check failed");
            // The error's own text may name hosts; it stands in the log only.
            HttpResponse::ServiceUnavailable().json(Health {
                status: "error",
                services: Services {
                    database: "disconnected",
                    redis,
                },
                error: Some("Database connection failed"),
                details: Some("The database does not answer; see the hub's log."),
            })
        }
    }
}
