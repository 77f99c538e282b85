//! Who may open a socket, and from where.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;

use crate::bed::{Bed, Slot, forge, slot};
use crate::support::{self, Client, JWT_SECRET, Socket};

/// A hub that other origins may call.
static OPEN: Slot = slot();

fn request(client: &Client, path: &str, headers: &[(&'static str, &str)]) -> Request {
    let mut request = format!("ws://{}{path}", client.address).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

async fn refusal(request: Request) -> (u16, Value) {
    match Socket::try_open(request).await.err().expect("the handshake fails") {
        Error::Http(response) => {
            let body = response.body().as_deref().unwrap_or_default();
            (
                response.status().as_u16(),
                serde_json::from_slice(body).unwrap_or_default(),
            )
        }
        other => panic!("{other}"),
    }
}

#[test]
fn the_token_may_come_in_three_ways_and_the_address_in_two() {
    support::run(async {
        let bed = Bed::usual();
        let user = bed.user().await;
        let token = user.token.as_deref().unwrap();
        let (bearer, protocol) = (format!("Bearer {token}"), format!("bearer, {token}"));
        for path in ["/ws/messages/", "/ws/messages"] {
            for request in [
                request(&user, &format!("{path}?token={token}"), &[]),
                request(&user, path, &[("authorization", &bearer)]),
                request(&user, path, &[("sec-websocket-protocol", &protocol)]),
            ] {
                let mut socket = Socket::try_open(request).await.unwrap();
                assert_eq!(socket.next().await["data"]["userId"], user.user_id.as_str());
            }
        }
        // It outlives its access token, so an old one opens a socket while its session lives.
        let mut claims = crate::bed::claims(token);
        claims["exp"] = json!(support::now() - 60);
        let expired = forge(JWT_SECRET, "HS256", &claims);
        Socket::try_open(request(&user, &format!("/ws/messages/?token={expired}"), &[]))
            .await
            .unwrap();
        claims["exp"] = json!(support::now() - 604_801);
        let too_old = forge(JWT_SECRET, "HS256", &claims);
        assert_eq!(
            refusal(request(&user, &format!("/ws/messages/?token={too_old}"), &[]))
                .await
                .0,
            403
        );
    });
}

#[test]
fn a_handshake_is_refused_with_its_reason() {
    support::run(async {
        let bed = Bed::usual();
        let user = bed.user().await;
        let (token, refresh) = (user.token.clone().unwrap(), user.refresh_token.clone().unwrap());
        let ended = bed.user().await;
        let body = json!({ "refreshToken": ended.refresh_token });
        ended.post("/api/auth/logout", &body).await.expect(200);
        let path = |token: &str| format!("/ws/messages/?token={token}");
        for (request, status, code) in [
            (request(&user, "/ws/messages/", &[]), 403, "UNAUTHORIZED"),
            (request(&user, &path("garbage"), &[]), 403, "INVALID_TOKEN"),
            (request(&user, &path(&refresh), &[]), 403, "INVALID_TOKEN"),
            (request(&user, &path(&ended.token.unwrap()), &[]), 403, "SESSION_ENDED"),
            (
                request(&user, "/ws/messages/", &[("authorization", "Basic eDp5")]),
                403,
                "UNAUTHORIZED",
            ),
            (
                request(&user, &path(&token), &[("origin", "https://evil.example")]),
                403,
                "FORBIDDEN_ORIGIN",
            ),
            (
                request(&user, &path(&token), &[("origin", "null")]),
                403,
                "FORBIDDEN_ORIGIN",
            ),
            (
                request(&user, &format!("{}&since=here", path(&token)), &[]),
                400,
                "VALIDATION_ERROR",
            ),
            (request(&user, "/ws/other", &[]), 404, ""),
        ] {
            let shown = request.uri().to_string();
            let (found, body) = refusal(request).await;
            assert_eq!(
                (found, body["error"]["code"].as_str().unwrap_or_default()),
                (status, code),
                "{shown}"
            );
        }
        let plain = user.get(&path(&token)).await;
        assert_eq!(
            plain.expect(400)["error"]["code"],
            "VALIDATION_ERROR",
            "not a handshake"
        );
    });
}

#[test]
fn pages_of_the_hub_and_of_configured_origins_may_open_a_socket() {
    support::run(async {
        let bed = Bed::shared(&OPEN, |settings| {
            settings.server.cors_origins = vec!["https://inbox.example.org".to_owned()];
        });
        let user = bed.user().await;
        let path = format!("/ws/messages/?token={}", user.token.as_deref().unwrap());
        for origin in [&format!("http://{}", user.address), "https://inbox.example.org"] {
            let mut socket = Socket::try_open(request(&user, &path, &[("origin", origin)]))
                .await
                .unwrap();
            assert_eq!(socket.next().await["event"], "authenticated", "{origin}");
        }
        for origin in ["https://inbox.example.org.evil.example", "http://inbox.example.org"] {
            let (status, _) = refusal(request(&user, &path, &[("origin", origin)])).await;
            assert_eq!(status, 403, "{origin}");
        }
    });
}
