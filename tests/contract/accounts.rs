//! Accounts of people: register, login, me, and the shapes of their refusals.

use serde_json::json;

use crate::bed::{Bed, assert_utc, claims};
use crate::on_both_databases;
use crate::support::{self, Hub, Kind, PASSWORD};

on_both_databases!(a_person_registers_signs_in_and_out);

async fn a_person_registers_signs_in_and_out(kind: Kind) {
    let hub = Hub::start(kind).await;
    let client = hub.client();
    let body = json!({ "email": " Ada@Example.ORG ", "password": format!("  {PASSWORD} ") });
    let registered = client.post("/api/auth/register", &body).await.expect(201);
    assert_eq!(registered["user"]["email"], "ada@example.org");
    assert_utc(&registered["user"]["createdAt"]);
    assert_utc(&registered["user"]["updatedAt"]);
    assert_eq!(registered["accessToken"], registered["tokens"]["accessToken"]);
    assert_eq!(registered["refreshToken"], registered["tokens"]["refreshToken"]);

    let again = json!({ "email": "ADA@example.org", "password": "another password" });
    let expected = json!({ "error": {
        "code": "USER_EXISTS", "message": "User with this email already exists", "retryable": false
    }});
    assert_eq!(client.post("/api/auth/register", &again).await.expect(409), expected);

    let body = json!({ "email": "ada@EXAMPLE.org", "password": PASSWORD });
    let signed_in = client.post("/api/auth/login", &body).await.expect(200);
    assert_eq!(signed_in["user"], registered["user"]);
    assert_ne!(signed_in["tokens"], registered["tokens"], "a session of its own");

    let mut ada = client.clone();
    ada.keep(&signed_in);
    let me = ada.get("/api/auth/me").await.expect(200);
    assert_eq!(me["user"], registered["user"]);
    for field in ["id", "email", "createdAt", "updatedAt"] {
        assert_eq!(me[field], me["user"][field], "{field} stands at the top, too");
    }

    let body = json!({ "refreshToken": signed_in["refreshToken"] });
    let out = ada.post("/api/auth/logout", &body).await.expect(200);
    assert_eq!(out, json!({ "message": "Logged out successfully" }));
    let me = ada.get("/api/auth/me").await.expect(401);
    assert_eq!(
        me["error"]["code"], "SESSION_ENDED",
        "the access token ends with its session, at once"
    );
    let refresh = ada.post("/api/auth/refresh", &body).await.expect(401);
    assert_eq!(refresh["error"]["message"], "Refresh token has been revoked");
    ada.post("/api/auth/logout", &body).await.expect(200);

    ada.keep(&registered);
    ada.get("/api/auth/me").await.expect(200);
    hub.stop().await;
}

#[test]
fn tokens_live_as_long_as_the_contract_says_and_name_the_person() {
    support::run(async {
        let bed = Bed::usual();
        let user = bed.user().await;
        let access = claims(user.token.as_deref().unwrap());
        let refresh = claims(user.refresh_token.as_deref().unwrap());
        let life = |claims: &serde_json::Value| claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert_eq!((life(&access), life(&refresh)), (900, 604_800));
        assert_eq!(
            (&access["type"], &refresh["type"]),
            (&json!("access"), &json!("refresh"))
        );
        for name in ["sub", "userId", "user_id"] {
            assert_eq!(access[name], user.user_id.as_str(), "known clients look for {name}");
        }
        assert_eq!(access["email"], user.email.as_str());
        assert_eq!(access["sid"], refresh["sid"]);
        let header = user.token.as_deref().unwrap().split('.').next().unwrap();
        assert!(header.starts_with("eyJ"), "JSON in base64");
    });
}

#[test]
fn an_unknown_person_and_a_wrong_password_get_the_same_answer() {
    support::run(async {
        let bed = Bed::usual();
        let user = bed.user().await;
        let nobody = bed.client();
        let unknown = json!({ "email": "nobody@example.org", "password": PASSWORD });
        let wrong = json!({ "email": user.email, "password": "wrong horse" });
        let unknown = nobody.post("/api/auth/login", &unknown).await;
        let wrong = nobody.post("/api/auth/login", &wrong).await;
        assert_eq!((unknown.status, &unknown.text), (wrong.status, &wrong.text));
        let expected = json!({ "error": {
            "code": "AUTHENTICATION_FAILED", "message": "Invalid email or password", "retryable": false
        }});
        assert_eq!(wrong.expect(401), expected);
    });
}

#[test]
fn the_scheme_of_a_token_may_have_any_case() {
    support::run(async {
        let bed = Bed::usual();
        let user = bed.user().await;
        for scheme in ["bearer", "BEARER", "Bearer "] {
            let header = format!("{scheme} {}", user.token.as_deref().unwrap());
            let request = user.http.get(format!("http://{}/api/auth/me", user.address));
            let answer = support::answer(request.header("authorization", header)).await;
            assert_eq!(answer.expect(200)["id"], user.user_id.as_str(), "{scheme}");
        }
    });
}

#[test]
fn a_long_address_and_a_long_password_work_to_the_last_byte() {
    support::run(async {
        let bed = Bed::usual();
        let client = bed.client();
        // 64 bytes before the @ and 254 in all.
        let domain = format!("{}.{}.{}.org", "a".repeat(63), "b".repeat(63), "c".repeat(57));
        let email = format!("{}@{domain}", "x".repeat(64));
        assert_eq!(email.len(), 254);
        let body = json!({ "email": email, "password": "é".repeat(36) });
        client.post("/api/auth/register", &body).await.expect(201);
        let signed_in = client.post("/api/auth/login", &body).await.expect(200);
        assert_eq!(signed_in["user"]["email"], email);
    });
}
