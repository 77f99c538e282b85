//! The rotation of refresh tokens: one use, a short grace, and the end of the family on reuse.

use serde_json::json;

use crate::bed::{Bed, Slot, claims, slot};
use crate::on_both_databases;
use crate::support::{self, Hub, Kind};

/// A hub without a grace.
static STRICT: Slot = slot();

on_both_databases!(the_same_token_gets_the_same_pair_within_the_grace);

async fn the_same_token_gets_the_same_pair_within_the_grace(kind: Kind) {
    let hub = Hub::start(kind).await;
    let user = hub.user().await;
    let body = json!({ "refreshToken": user.refresh_token });
    let tabs = (0..8).map(|_| user.post("/api/auth/refresh", &body));
    let answers = futures_util::future::join_all(tabs).await;
    let pairs: Vec<_> = answers.iter().map(|answer| answer.expect(200)).collect();
    assert!(pairs.iter().all(|pair| pair == &pairs[0]), "eight tabs, one new pair");
    assert_eq!(pairs[0]["accessToken"], pairs[0]["tokens"]["accessToken"]);
    assert_eq!(pairs[0]["refreshToken"], pairs[0]["tokens"]["refreshToken"]);
    assert_ne!(pairs[0]["refreshToken"].as_str(), user.refresh_token.as_deref());

    let mut tab = user.clone();
    tab.keep(&pairs[0]);
    assert_eq!(
        claims(tab.token.as_deref().unwrap())["sid"],
        claims(user.token.as_deref().unwrap())["sid"],
        "the session stays"
    );
    tab.get("/api/auth/me").await.expect(200);
    user.get("/api/auth/me").await.expect(200);
    let next = json!({ "refreshToken": tab.refresh_token });
    tab.post("/api/auth/refresh", &next).await.expect(200);
    hub.stop().await;
}

#[test]
fn reuse_after_the_grace_ends_the_whole_session_and_no_other() {
    support::run(async {
        let bed = Bed::shared(&STRICT, |settings| settings.auth.refresh_grace_seconds = 0);
        let user = bed.user().await;
        let login = json!({ "email": user.email, "password": support::PASSWORD });
        let mut elsewhere = user.clone();
        elsewhere.keep(&user.post("/api/auth/login", &login).await.expect(200));

        let first = json!({ "refreshToken": user.refresh_token });
        let second = user.post("/api/auth/refresh", &first).await.expect(200);
        let mut thief = user.clone();
        thief.keep(&second);
        thief.get("/api/auth/me").await.expect(200);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;

        let expected = json!({ "error": {
            "code": "TOKEN_REFRESH_FAILED", "message": "Refresh token has been revoked", "retryable": false
        }});
        assert_eq!(user.post("/api/auth/refresh", &first).await.expect(401), expected);
        let newest = json!({ "refreshToken": second["refreshToken"] });
        assert_eq!(
            user.post("/api/auth/refresh", &newest).await.expect(401),
            expected,
            "the newest, too"
        );
        for client in [&user, &thief] {
            let me = client.get("/api/auth/me").await.expect(401);
            assert_eq!(me["error"]["code"], "SESSION_ENDED");
        }
        elsewhere.get("/api/auth/me").await.expect(200);
    });
}

#[test]
fn logout_takes_any_text_and_ends_nothing_of_others() {
    support::run(async {
        let bed = Bed::usual();
        let user = bed.user().await;
        let garbage = json!({ "refreshToken": "garbage" });
        let out = bed.client().post("/api/auth/logout", &garbage).await.expect(200);
        assert_eq!(out, json!({ "message": "Logged out successfully" }));
        let access = json!({ "refreshToken": user.token });
        bed.client().post("/api/auth/logout", &access).await.expect(200);
        user.get("/api/auth/me").await.expect(200);
    });
}
