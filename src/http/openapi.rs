//! The description of the API: OpenAPI 3.1 and a page to browse it.

use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, Responder};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{
    accounts, actions, admin, auth, conversations, csrf, events, health, media, messages, pending, send, telegram,
    webhooks,
};

const DOCUMENT: &str = "/api/openapi.json";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Messaging hub",
        description = "One ordered, durable, live stream of the messages of every linked account. \
            The live stream itself is a WebSocket at `/ws/messages/`; `GET /api/events` reads the same stream."
    ),
    modifiers(&Schemes, &OperationNames),
    security(("access" = [])),
    tags(
        (name = "auth", description = "Accounts of people"),
        (name = "accounts", description = "Linked platform accounts"),
        (name = "conversations", description = "Conversations"),
        (name = "messages", description = "Messages"),
        (name = "events", description = "The stream of events"),
        (name = "telegram", description = "Telegram accounts"),
        (name = "webhooks", description = "What platforms deliver"),
        (name = "operation", description = "For whoever runs the hub"),
    ),
    paths(
        auth::register,
        auth::login,
        auth::refresh,
        auth::logout,
        auth::me,
        csrf::csrf_token,
        accounts::list,
        accounts::connect,
        accounts::refresh,
        accounts::disconnect,
        accounts::create,
        accounts::update,
        accounts::rotate,
        conversations::list,
        conversations::detail,
        messages::recent,
        messages::unread,
        messages::of_conversation,
        messages::read,
        messages::read_conversation,
        messages::retry,
        send::send,
        actions::edit,
        actions::delete,
        actions::add_reaction,
        actions::remove_reaction,
        actions::assist,
        pending::pending,
        media::media,
        telegram::auth::phone,
        telegram::auth::verify,
        telegram::auth::qr,
        telegram::auth::status,
        telegram::chats::dialogs,
        telegram::chats::messages,
        telegram::chats::send_text,
        telegram::sync::sync,
        telegram::sync::reset,
        events::list,
        webhooks::custom,
        health::health,
        admin::tree,
        admin::rotate_key,
        admin::metrics,
    )
)]
struct Document;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = |description: &str| {
            SecurityScheme::Http(
                HttpBuilder::new()
                    .scheme(HttpAuthScheme::Bearer)
                    .description(Some(description))
                    .build(),
            )
        };
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("access", bearer("The access token of register, login or refresh."));
        components.add_security_scheme("admin", bearer("The setting admin.token."));
    }
}

/// Names each operation after its tag and its handler, for example `messages_list`: several files have a `list`.
struct OperationNames;

impl Modify for OperationNames {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        for item in document.paths.paths.values_mut() {
            let operations = [
                &mut item.get,
                &mut item.put,
                &mut item.post,
                &mut item.delete,
                &mut item.patch,
            ];
            for operation in operations.into_iter().flatten() {
                let tag = operation.tags.iter().flatten().next();
                if let (Some(tag), Some(name)) = (tag, &operation.operation_id) {
                    operation.operation_id = Some(format!("{tag}_{name}"));
                }
            }
        }
    }
}

/// The whole description.
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// Registers the routes of this file.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(web::resource(DOCUMENT).route(web::get().to(openapi_json)))
        .service(web::resource(["/api/docs", "/api/docs/"]).route(web::get().to(to_docs)))
        .service(SwaggerUi::new("/api/docs/{_:.*}").config(Config::from(DOCUMENT)));
}

async fn openapi_json() -> impl Responder {
    HttpResponse::Ok().json(document())
}

async fn to_docs() -> impl Responder {
    web::Redirect::to("/api/docs/index.html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_described_and_every_id_is_its_own() {
        let json = serde_json::to_value(document()).unwrap();
        assert!(json["openapi"].as_str().unwrap().starts_with("3.1"));
        let mut ids = std::collections::HashSet::new();
        for (path, item) in json["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = format!("{method} {path}");
                assert!(operation["summary"].is_string(), "{name} has no summary");
                assert!(operation["tags"][0].is_string(), "{name} has no tag");
                assert!(
                    ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                    "{name}: the operation id is taken"
                );
            }
        }
        assert!(ids.len() > 20);
    }
}
