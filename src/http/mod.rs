//! What lives here: the HTTP surface: one file per resource, the errors' shapes, who asks, limits, security headers, static files.
//! Who calls it: `app`, which hands [`application`] to the HTTP server.
//! What it may not know: SQL, a platform's protocol, how the tree is built; it calls the store, the vault and the tree.

pub mod accounts;
pub mod actions;
pub mod admin;
pub mod auth;
pub mod body;
pub mod capacity;
pub mod conversations;
pub mod csrf;
pub mod error;
pub mod events;
pub mod health;
pub mod identity;
mod input;
pub mod limits;
pub mod media;
pub mod messages;
pub mod openapi;
pub mod patience;
pub mod pending;
pub mod security;
pub mod send;
pub mod shape;
pub mod spa;
pub mod telegram;
pub mod usage;
pub mod webhooks;

use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::from_fn;
use actix_web::web::ServiceConfig;
use actix_web::{App, Error, HttpRequest, HttpResponse, web};
use hub_actors::Clock;
use hub_actors::tree::Tree;
use metrics_exporter_prometheus::PrometheusHandle;

pub use error::{ApiError, path_id};
pub use identity::{AdminIdentity, Identity, SessionCache};
pub(crate) use identity::{bearer, check_session, session_is_live};
pub(crate) use send::resolve_reply;

use crate::media::MediaCache;
use crate::settings::Settings;
use crate::store::Store;
use crate::vault::Vault;
use crate::vault::tokens::Tokens;
use limits::Limiter;
use usage::UsageLog;

/// What handlers work with. Built once by `app`, shared by all HTTP workers.
pub struct AppState {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The clock.
    pub clock: Clock,
    /// Storage.
    pub store: Store,
    /// Sealing.
    pub vault: Vault,
    /// Access and refresh tokens.
    pub tokens: Tokens,
    /// The actors.
    pub tree: Tree,
    /// Rate limits.
    pub limiter: Arc<dyn Limiter>,
    /// Who has guessed a secret wrong lately.
    pub guesses: limits::Guesses,
    /// The log of API use.
    pub usage: UsageLog,
    /// The numbers that `/metrics` shows.
    pub metrics: PrometheusHandle,
    /// Which sessions live.
    pub sessions: SessionCache,
    /// The files served at `/`.
    pub site: spa::Site,
    /// The parts of files that are kept on disk.
    pub media: MediaCache,
    /// Parts of files that are fetched at once.
    pub downloads: media::Turns,
    /// Conversations of which the hub has the first message.
    pub complete: messages::Complete,
    /// Whether keys are being replaced.
    pub rotation: admin::RotationGuard,
}

/// The whole application: middleware outside, routes inside.
pub fn application(
    state: web::Data<AppState>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    // The last one wrapped sees the request first.
    App::new()
        .configure(configure(state.clone()))
        .wrap(from_fn(limits::gate))
        .wrap(from_fn(usage::observe))
        .wrap(from_fn(shape::render_errors))
        .wrap(security::cors(&state.settings.server))
        .wrap(from_fn(security::guard))
        .wrap(from_fn(patience::limit_body_time))
        .app_data(web::Data::new(security::Policy::new(&state.settings.server)))
        .app_data(state)
}

/// Registers the routes, and how bodies, queries and paths are read, without the middleware of [`application`].
pub fn configure(state: web::Data<AppState>) -> impl Fn(&mut ServiceConfig) {
    move |config| {
        let limit = state.settings.server.max_body_bytes;
        config
            .app_data(state.clone())
            .app_data(web::PayloadConfig::new(limit))
            .app_data(web::PathConfig::default().error_handler(|_, _| ApiError::not_routed().into()))
            .app_data(
                web::QueryConfig::default()
                    .error_handler(|error, _| ApiError::bad_request(format!("Invalid query: {error}")).into()),
            );
        for routes in [
            health::routes,
            csrf::routes,
            auth::routes,
            accounts::routes,
            conversations::routes,
            actions::routes,
            messages::routes,
            pending::routes,
            media::routes,
            send::routes,
            telegram::routes,
            events::routes,
            webhooks::routes,
            admin::routes,
            openapi::routes,
            crate::ws::routes,
        ] {
            routes(config);
        }
        config.default_service(web::to(otherwise));
    }
}

/// What no route took: a file of the site, or nothing.
async fn otherwise(request: HttpRequest, state: web::Data<AppState>) -> Result<HttpResponse, ApiError> {
    spa::serve(&request, &state.site).await
}
