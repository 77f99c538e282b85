//! Logging in, through the routes of the unchanged frontend and by a code on the screen.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use telegram_dc::{LogFilter, NewAccount, PhoneRule};

use crate::bed::{Bed, PASSWORD, account, ask_code, log_in, state, text, verification, verify};
use crate::support::{self, Hub, Kind};

crate::on_both_databases!(a_code_and_a_second_password_lead_in);

async fn a_code_and_a_second_password_lead_in(kind: Kind) {
    let bed = Bed::start(kind).await;
    let telegram_id = account(&bed.dc, "+1 555 0001", Some(PASSWORD)).await;
    let user = bed.hub.user().await;
    let hash = ask_code(&user, "001 (555) 0001").await;
    for (code, sentence) in [("54321", "The code is wrong"), ("", "The code is wrong")] {
        let wrong = user
            .post(
                "/api/telegram/auth/verify",
                &verification("+15550001", &hash, code, None),
            )
            .await;
        let error = text(&wrong.expect(400)["error"]);
        assert!(error.starts_with(sentence), "{error}");
    }
    let half = verify(&user, "+15550001", &hash, "12345", None).await;
    assert_eq!((&half["success"], &half["needPassword"]), (&json!(false), &json!(true)));
    // The page that asks again shows the same.
    let half = verify(&user, "+15550001", &hash, "12345", None).await;
    assert_eq!(half["needPassword"], true);
    let body = verification("+15550001", &hash, "12345", Some("wrong"));
    let wrong = user.post("/api/telegram/auth/verify", &body).await.expect(400);
    assert!(text(&wrong["error"]).starts_with("The password is wrong"), "{wrong}");
    let status = user.get(&format!("/api/telegram/auth/status/{hash}")).await.expect(200);
    assert_eq!(status["step"], "password");

    let stranger = bed.hub.user().await;
    let body = verification("+15550001", &hash, "12345", Some(PASSWORD));
    let refused = stranger.post("/api/telegram/auth/verify", &body).await.expect(400);
    assert!(text(&refused["error"]).contains("start again"), "{refused}");
    stranger
        .get(&format!("/api/telegram/auth/status/{hash}"))
        .await
        .expect(404);

    let done = verify(&user, "+15550001", &hash, "12345", Some(PASSWORD)).await;
    assert_eq!(done["success"], true, "{done}");
    assert_eq!(done["username"], "Owner +1 555 0001");
    let account_id = text(&done["accountId"]);
    let account = state(&user, &account_id, "live").await;
    assert_eq!(account["platform"], "telegram");
    assert_eq!(account["platform_user_id"], telegram_id.to_string());
    let status = user.get(&format!("/api/telegram/auth/status/{hash}")).await.expect(200);
    assert_eq!(
        (&status["step"], &status["accountId"]),
        (&json!("done"), &json!(account_id))
    );
    bed.hub.stop().await;
}

#[test]
fn what_telegram_refuses_is_said_in_words() {
    support::run(async {
        let bed = Bed::start(Kind::Embedded).await;
        let user = bed.hub.user().await;
        for (phone, rule, status, words) in [
            ("+15550010", PhoneRule::Banned, 400, "banned"),
            ("+15550011", PhoneRule::Invalid, 400, "not valid"),
            ("+15550012", PhoneRule::Flood(77), 429, "77 seconds"),
        ] {
            bed.dc.set_phone(phone, rule).await;
            let refused = user
                .post("/api/telegram/auth/phone", &json!({ "phoneNumber": phone }))
                .await;
            let error = text(&refused.expect(status)["error"]);
            assert!(error.contains(words), "{error}");
        }
        bed.dc.set_phone("+15550013", PhoneRule::SignUp).await;
        let hash = ask_code(&user, "+15550013").await;
        let body = verification("+15550013", &hash, "12345", None);
        let refused = user.post("/api/telegram/auth/verify", &body).await.expect(400);
        assert!(text(&refused["error"]).contains("sign up"), "{refused}");
        let refused = user.post("/api/telegram/auth/verify", &body).await.expect(400);
        assert!(text(&refused["error"]).contains("start again"), "{refused}");

        account(&bed.dc, "+15550014", None).await;
        let hash = ask_code(&user, "+15550014").await;
        bed.dc.expire_code("+15550014").await;
        let body = verification("+15550014", &hash, "12345", None);
        let refused = user.post("/api/telegram/auth/verify", &body).await.expect(400);
        assert!(text(&refused["error"]).contains("expired"), "{refused}");

        for body in [
            json!({}),
            json!({ "phoneNumber": "" }),
            json!({ "phoneNumber": "what" }),
            json!([]),
        ] {
            let refused = user.post("/api/telegram/auth/phone", &body).await.expect(400);
            assert!(refused["error"].is_string(), "{refused}");
        }
        let refused = user
            .post("/api/telegram/auth/verify", &verification("+1", "0123", "1", None))
            .await
            .expect(400);
        assert!(text(&refused["error"]).contains("start again"), "{refused}");
        for path in [
            "/api/telegram/auth/phone",
            "/api/telegram/auth/verify",
            "/api/telegram/auth/qr",
        ] {
            let refused = bed.hub.client().post(path, &json!({})).await.expect(401);
            assert_eq!(refused, json!({ "error": "Unauthorized" }), "{path}");
        }
        bed.hub.stop().await;
    });
}

#[test]
fn a_hub_without_an_application_says_where_to_get_one() {
    support::run(async {
        let hub = Hub::start(Kind::Embedded).await;
        let user = hub.user().await;
        for (path, body) in [("phone", json!({ "phoneNumber": "+15550001" })), ("qr", json!({}))] {
            let refused = user
                .post(&format!("/api/telegram/auth/{path}"), &body)
                .await
                .expect(503);
            let error = text(&refused["error"]);
            for word in ["https://my.telegram.org", "api_id", "api_hash"] {
                assert!(error.contains(word), "{error}");
            }
        }
        hub.stop().await;
    });
}

#[test]
fn a_number_of_another_data_centre_is_followed_there() {
    support::run(async {
        let bed = Bed::start(Kind::Embedded).await;
        let account = NewAccount {
            phone: "+15550020".to_owned(),
            first_name: "Far".to_owned(),
            dc: Some(4),
            ..NewAccount::default()
        };
        bed.dc.add_account(account).await.unwrap();
        let user = bed.hub.user().await;
        let account = log_in(&user, "+15550020").await;
        state(&user, &account, "live").await;
        bed.hub.stop().await;
    });
}

#[test]
fn a_code_on_the_screen_is_scanned() {
    support::run(async {
        let bed = Bed::start(Kind::Embedded).await;
        let secret = account(&bed.dc, "+15550030", Some(PASSWORD)).await;
        let plain = NewAccount {
            phone: "+15550031".to_owned(),
            first_name: "Plain".to_owned(),
            username: Some("plain".to_owned()),
            dc: Some(4),
            ..NewAccount::default()
        };
        let plain = bed.dc.add_account(plain).await.unwrap();
        let user = bed.hub.user().await;
        for (telegram_id, has_password) in [(plain, false), (secret, true)] {
            let shown = user.post("/api/telegram/auth/qr", &json!({})).await.expect(200);
            assert_eq!(shown["step"], "scan");
            assert!(text(&shown["svg"]).contains("<svg"));
            let attempt = text(&shown["attempt"]);
            let status = format!("/api/telegram/auth/status/{attempt}");
            let token = text(&shown["token"]);
            let again = user.get(&status).await.expect(200);
            assert_eq!(again["token"], token.as_str(), "it is good for a while");
            let token = token.strip_prefix("tg://login?token=").expect("Telegram's address");
            let token = URL_SAFE_NO_PAD.decode(token).unwrap();
            bed.dc.scan_login_token(&token, telegram_id).await.unwrap();
            let mut looked = support::until("the scan is noticed", async || {
                let looked = user.get(&status).await.expect(200);
                (looked["step"] != "scan").then_some(looked)
            })
            .await;
            if has_password {
                assert_eq!(looked["needPassword"], true);
                looked = verify(&user, "", &attempt, "", Some(PASSWORD)).await;
            }
            assert_eq!(looked["step"], "done", "{looked}");
            let account = state(&user, &text(&looked["accountId"]), "live").await;
            assert_eq!(account["platform_user_id"], telegram_id.to_string());
        }
        bed.hub.stop().await;
    });
}

#[test]
fn a_new_login_of_the_same_person_keeps_the_account() {
    support::run(async {
        let bed = Bed::start(Kind::Embedded).await;
        let telegram_id = account(&bed.dc, "+15550040", None).await;
        let friend = crate::bed::friend(&bed.dc, "Friend").await;
        crate::bed::write(&bed.dc, telegram_id, friend, "from before").await;
        let user = bed.hub.user().await;
        let first = log_in(&user, "+15550040").await;
        let chat = crate::bed::conversation(&user, "Friend").await;
        crate::bed::message(&user, &chat, "from before").await;
        bed.dc
            .revoke(telegram_dc::Revoke {
                account: Some(telegram_id),
                drop: true,
                ..telegram_dc::Revoke::default()
            })
            .await;
        let account = state(&user, &first, "revoked").await;
        assert!(
            text(&account["state_reason"]).contains("link the account again"),
            "{account}"
        );
        let sync = user
            .post(&format!("/api/telegram/{first}/sync"), &json!({}))
            .await
            .expect(401);
        assert_eq!(sync["needsReconnect"], true);

        // Not one more call with the dead session.
        let last = bed.dc.log(LogFilter::default()).await.last().map_or(0, |entry| entry.n);
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        let after = LogFilter {
            after: last,
            ..LogFilter::default()
        };
        assert_eq!(bed.dc.log(after).await, []);
        crate::bed::write(&bed.dc, telegram_id, friend, "meanwhile").await;

        let second = log_in(&user, "+15550040").await;
        assert_eq!(first, second);
        state(&user, &first, "live").await;
        crate::bed::message(&user, &chat, "meanwhile").await;
        let texts = crate::bed::messages(&user, &chat).await;
        let texts: Vec<&str> = texts.iter().map(|one| one["content"].as_str().unwrap()).collect();
        assert_eq!(texts, ["meanwhile", "from before"]);
        bed.hub.stop().await;
    });
}
