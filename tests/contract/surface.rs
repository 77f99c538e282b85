//! What every answer carries, and the description of the whole.

use std::path::Path;

use reqwest::Method;
use serde_json::json;

use crate::bed::{Bed, Slot, slot};
use crate::support::{self, Correspondent, Database, Kind, Process, answer};

/// A hub behind a proxy, which one other origin may call.
static PROXIED: Slot = slot();

const ORIGIN: &str = "https://inbox.example.org";

fn proxied() -> std::sync::Arc<Bed> {
    Bed::shared(&PROXIED, |settings| {
        settings.server.cors_origins = vec![ORIGIN.to_owned()];
        settings.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        settings.server.https_redirect = true;
    })
}

#[test]
fn the_description_of_the_api_is_what_was_agreed() {
    support::run(async {
        let bed = Bed::usual();
        let document = bed.client().get("/api/openapi.json").await.expect(200);
        let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract/openapi.json");
        if std::env::var_os("HUB_UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let agreed = std::fs::read_to_string(&file).unwrap();
        let mut lines = agreed.lines().zip(text.lines()).enumerate();
        let first = lines.find(|(_, (agreed, found))| agreed != found);
        assert!(
            agreed == text,
            "the API changed, first at {first:?}: if that is wanted, run this test with HUB_UPDATE_SNAPSHOTS=1"
        );
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    });
}

#[test]
fn the_documentation_is_served_by_the_hub_itself() {
    support::run(async {
        let bed = Bed::usual();
        let client = bed.client();
        for path in ["/api/docs", "/api/docs/"] {
            let redirect = client.get(path).await;
            assert!(redirect.status.is_redirection(), "{path}");
            assert_eq!(redirect.headers["location"], "/api/docs/index.html");
        }
        let page = client.get("/api/docs/index.html").await;
        page.expect(200);
        assert!(!page.text.contains("https://"), "no other server is asked");
        client.get("/api/docs/swagger-ui-bundle.js").await.expect(200);
        client.get("/api/docs/swagger-ui.css").await.expect(200);
        client.get("/api/docs/nothing.js").await.expect(404);
    });
}

#[test]
fn every_answer_is_guarded_and_has_an_id() {
    support::run(async {
        let bed = Bed::usual();
        let client = bed.client();
        for (path, status) in [("/", 200), ("/health", 200), ("/api/auth/me", 401), ("/api/no", 404)] {
            let answer = client.get(path).await;
            answer.expect(status);
            for (name, value) in [
                ("x-frame-options", "DENY"),
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "same-origin"),
                ("cross-origin-opener-policy", "same-origin"),
            ] {
                assert_eq!(answer.headers[name], value, "{path}");
            }
            let policy = answer.headers["content-security-policy"].to_str().unwrap();
            assert!(policy.contains("script-src 'self';") && policy.contains("frame-ancestors 'none'"));
            assert!(
                !answer.headers.contains_key("strict-transport-security"),
                "{path}: this is not HTTPS"
            );
            assert!(!answer.headers.contains_key("access-control-allow-origin"), "{path}");
            assert_eq!(answer.headers["x-request-id"].len(), 36, "{path}");
        }
        for (given, is_kept) in [
            ("my-id.1_2", true),
            ("no spaces", false),
            ("x".repeat(65).as_str(), false),
        ] {
            let request = client.request(Method::GET, "/health").header("x-request-id", given);
            let answer = answer(request).await;
            assert_eq!(answer.headers["x-request-id"] == given, is_kept, "{given}");
        }
    });
}

#[test]
fn a_panic_is_answered_in_the_shape_of_its_path_and_guarded() {
    support::run(async {
        let database = Database::fresh(Kind::Postgres).await;
        let hub = Process::start_with(&database, &[("FAILPOINTS", "send.parsed=1*panic")]).await;
        let mut user = hub.client();
        user.register().await;
        let channel = user.link(&Correspondent::start()).await;
        let chat = user.receive(&channel, "c1", "m1", "hello").await;
        let request = user
            .request(Method::POST, &format!("/api/messages/{chat}/send"))
            .header("x-request-id", "the-one-that-fails");
        let failed = answer(request.json(&json!({ "content": "x" }))).await;
        assert_eq!(failed.expect(500), json!({ "error": "An unexpected error occurred" }));
        assert_eq!(failed.headers["x-request-id"], "the-one-that-fails");
        assert_eq!(failed.headers["x-frame-options"], "DENY");
        assert!(failed.headers.contains_key("content-security-policy"));
        user.send(&chat, "x", None).await.expect(201);
    });
}

#[test]
fn only_configured_origins_may_call_from_a_browser() {
    support::run(async {
        let bed = proxied();
        let client = bed.client();
        let preflight = async |origin: &str, method: &str, header: &str| {
            let request = client
                .request(Method::OPTIONS, "/api/messages/x/send")
                .header("origin", origin);
            let request = request
                .header("access-control-request-method", method)
                .header("access-control-request-headers", header);
            answer(request).await
        };
        let allowed = preflight(ORIGIN, "PATCH", "authorization, content-type, idempotency-key").await;
        assert!(allowed.status.is_success(), "{allowed:?}");
        assert_eq!(allowed.headers["access-control-allow-origin"], ORIGIN);
        assert_eq!(allowed.headers["access-control-allow-credentials"], "true");
        assert_eq!(allowed.headers["access-control-max-age"], "3600");
        let methods = allowed.headers["access-control-allow-methods"].to_str().unwrap();
        for method in ["GET", "POST", "PATCH", "DELETE"] {
            assert!(methods.contains(method), "{methods}");
        }
        let foreign = preflight("https://evil.example", "GET", "authorization").await;
        assert!(
            !foreign.headers.contains_key("access-control-allow-origin"),
            "{foreign:?}"
        );

        // Failures, too, must be readable by the page.
        let request = client.request(Method::GET, "/api/auth/me").header("origin", ORIGIN);
        let refused = answer(request).await;
        refused.expect(401);
        assert_eq!(refused.headers["access-control-allow-origin"], ORIGIN);
        assert!(
            refused.headers["vary"]
                .to_str()
                .unwrap()
                .to_lowercase()
                .contains("origin")
        );
        let exposed = refused.headers["access-control-expose-headers"].to_str().unwrap();
        for name in [
            "retry-after",
            "x-ratelimit-remaining",
            "idempotency-replayed",
            "preference-applied",
        ] {
            assert!(exposed.contains(name), "{exposed}");
        }
    });
}

#[test]
fn what_a_trusted_proxy_says_about_the_scheme_counts() {
    support::run(async {
        let (proxied, bed) = (proxied(), Bed::usual());
        let get = async |bed: &Bed, scheme: &str| {
            let request = bed.client().request(Method::GET, "/health?a=b");
            answer(request.header("x-forwarded-proto", scheme)).await
        };
        let secure = get(&proxied, "https").await;
        secure.expect(200);
        assert!(
            secure.headers["strict-transport-security"]
                .to_str()
                .unwrap()
                .contains("max-age=31536000")
        );
        let plain = get(&proxied, "http").await;
        plain.expect(308);
        assert_eq!(
            plain.headers["location"],
            format!("https://{}/health?a=b", proxied.address)
        );
        let untrusted = get(&bed, "https").await;
        untrusted.expect(200);
        assert!(!untrusted.headers.contains_key("strict-transport-security"));
    });
}

#[test]
fn clients_that_ask_for_a_csrf_token_get_one() {
    support::run(async {
        let bed = Bed::usual();
        let given = bed.client().get("/api/csrf-token").await;
        assert_eq!(given.expect(200)["csrfToken"].as_str().unwrap().len(), 64);
        let cookie = given.headers["set-cookie"].to_str().unwrap();
        let value = cookie.strip_prefix("csrftoken=").unwrap().split(';').next().unwrap();
        assert_eq!(value.len(), 32);
        for part in ["Path=/", "SameSite=Lax", "Max-Age=31449600"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert!(!cookie.contains("HttpOnly") && !cookie.contains("Secure"), "{cookie}");
        let other = bed.client().get("/api/csrf-token").await.expect(200);
        assert_ne!(given.json(), other, "a new one each time");
    });
}
