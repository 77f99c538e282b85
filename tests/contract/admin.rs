//! For whoever runs the hub: the living tree, key rotation, numbers, health.

use serde_json::json;

use crate::bed::Bed;
use crate::on_both_databases;
use crate::support::{self, ADMIN_TOKEN, Client, Hub, Kind, until};

fn operator(client: &Client) -> Client {
    let mut operator = client.clone();
    operator.token = Some(ADMIN_TOKEN.to_owned());
    operator
}

on_both_databases!(
    keys_are_replaced_while_the_hub_serves,
    without_the_setting_no_guess_opens_what_is_the_operators,
);

async fn without_the_setting_no_guess_opens_what_is_the_operators(kind: Kind) {
    let hub = Hub::start_with(kind, |settings| settings.admin.token = None).await;
    let text = match kind {
        // The first start on an embedded database makes a token.
        Kind::Embedded => "Invalid administration token",
        Kind::Postgres => "Administration is off: the setting admin.token is not set.",
    };
    for path in ["/api/admin/tree", "/metrics"] {
        let refused = operator(&hub.client()).get(path).await.expect(403);
        assert_eq!(refused["error"]["message"], text, "{path}");
    }
    hub.stop().await;
}

async fn keys_are_replaced_while_the_hub_serves(kind: Kind) {
    let hub = Hub::start(kind).await;
    let user = hub.user().await;
    let channel = user.link(&support::Correspondent::start()).await;
    let chat = user.receive(&channel, "c1", "m1", "sealed").await;
    let begun = operator(&user)
        .post("/api/admin/rotate-key", &json!({}))
        .await
        .expect(202);
    assert!(begun["keyId"].as_i64().unwrap() > 0, "{begun}");
    let page = user.get(&format!("/api/messages/{chat}")).await.expect(200);
    assert_eq!(page["messages"][0]["content"], "sealed");
    user.receive(&channel, "c1", "m2", "sealed anew").await;
    hub.stop().await;
}

#[test]
fn the_tree_names_every_living_actor() {
    support::run(async {
        let bed = Bed::usual();
        let (user, _peer, channel) = bed.linked().await;
        user.receive(&channel, "c1", "m1", "hello").await;
        let operator = operator(&user);
        let node = until("the conversation is in the tree", async || {
            let tree = operator.get("/api/admin/tree").await.expect(200);
            let nodes = tree["nodes"].as_array().unwrap().clone();
            assert!(nodes.iter().all(|node| node["path"].is_string()));
            nodes
                .into_iter()
                .find(|node| node["path"].as_str().unwrap().contains(&channel.account_id))
        })
        .await;
        assert_eq!(node["state"], "running");
        for field in ["mailboxDepth", "restarts", "uptimeSeconds"] {
            assert!(node[field].is_u64(), "{field}: {node}");
        }
        assert!(node["lastError"].is_null());
    });
}

#[test]
fn only_the_administration_token_opens_what_is_the_operators() {
    support::run(async {
        let bed = Bed::usual();
        let user = bed.user().await;
        let mut guess = user.clone();
        guess.token = Some("an-administration-token-for-testz".to_owned());
        for path in ["/api/admin/tree", "/metrics"] {
            assert_eq!(
                bed.client().get(path).await.expect(401)["error"]["code"],
                "UNAUTHORIZED",
                "{path}"
            );
            for client in [&user, &guess] {
                let refused = client.get(path).await.expect(403);
                assert_eq!(refused["error"]["message"], "Invalid administration token", "{path}");
            }
            operator(&user).get(path).await.expect(200);
        }
        for client in [&bed.client(), &user] {
            let status = client.post("/api/admin/rotate-key", &json!({})).await.status.as_u16();
            assert!(status == 401 || status == 403);
        }
        operator(&user).get("/api/auth/me").await.expect(403);
    });
}

#[test]
fn numbers_are_in_the_format_of_prometheus_and_name_nobody() {
    support::run(async {
        let bed = Bed::usual();
        let (user, _peer, channel) = bed.linked().await;
        user.receive(&channel, "c1", "m1", "hello").await;
        let numbers = operator(&user).get("/metrics").await;
        numbers.expect(200);
        assert_eq!(
            numbers.headers["content-type"],
            "text/plain; version=0.0.4; charset=utf-8"
        );
        for name in ["hub_actors{kind=", "hub_outbox_depth "] {
            assert!(numbers.text.contains(name), "{name} is missing:\n{}", numbers.text);
        }
        for secret in [&user.email, &user.user_id, &channel.account_id] {
            assert!(!numbers.text.contains(secret.as_str()), "{secret} is named");
        }
    });
}

#[test]
fn health_says_what_is_there() {
    support::run(async {
        let bed = Bed::usual();
        let healthy = bed.client().get("/health").await;
        let expected = json!({ "status": "ok", "services": { "database": "connected", "redis": "disabled" } });
        assert_eq!(healthy.expect(200), expected);
        let head = support::answer(bed.client().request(reqwest::Method::HEAD, "/health")).await;
        assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
        for path in ["/health/", "/healthz", "/health/x"] {
            let page = bed.client().get(path).await;
            page.expect(404);
            assert!(
                page.headers["content-type"].to_str().unwrap().starts_with("text/html"),
                "{path}"
            );
        }
    });
}
