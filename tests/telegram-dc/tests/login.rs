//! Logging in and out with the real client.

#![cfg(test)]

mod common;

use std::time::Duration;

use common::*;
use grammers_client::SignInError;
use grammers_tl_types::{enums, functions as f};
use telegram_dc::{ConnFilter, DcConfig, LogFilter, NewAccount, PhoneRule, Revocation, Revoke, Settings, TelegramDc};

#[tokio::test]
async fn a_code_logs_in() {
    let scene = Scene::new().await;
    assert!(scene.hub.client.is_authorized().await.unwrap());
    let me = scene.hub.client.get_me().await.unwrap();
    assert_eq!(me.id().bare_id_unchecked(), scene.me);
    let state = scene.dc.state().await;
    assert_eq!(state.accounts[0].keys, [0]);
    assert_eq!(state.keys[0].account, Some(scene.me));
    assert!(scene.dc.count("auth.signIn").await == 1);
}

#[tokio::test]
async fn wrong_and_expired_codes_are_told_apart() {
    let dc = start().await;
    account(&dc, PHONE).await;
    let hub = Hub::connect(&dc, 3);
    let token = hub.client.request_login_code(PHONE, API_HASH).await.unwrap();
    let wrong = hub.client.sign_in(&token, "99999").await;
    assert!(matches!(wrong, Err(SignInError::InvalidCode)));
    dc.expire_code("+1 555 0001").await;
    let expired = hub.client.sign_in(&token, "12345").await;
    assert!(matches!(expired, Err(SignInError::InvalidCode)));
    let outcomes: Vec<_> = dc
        .log(LogFilter::method("auth.signIn"))
        .await
        .into_iter()
        .map(|entry| entry.outcome)
        .collect();
    assert_eq!(outcomes, ["400 PHONE_CODE_INVALID", "400 PHONE_CODE_EXPIRED"]);
    hub.log_in(PHONE).await;
}

async fn with_password() -> (TelegramDc, Hub) {
    let dc = start().await;
    let spec = NewAccount {
        phone: PHONE.into(),
        first_name: "Me".into(),
        password: Some("correct horse".into()),
        hint: Some("animal".into()),
        ..Default::default()
    };
    dc.add_account(spec).await.unwrap();
    let hub = Hub::connect(&dc, 0);
    (dc, hub)
}

#[tokio::test]
async fn the_password_is_checked_by_srp() {
    let (dc, hub) = with_password().await;
    let token = hub.client.request_login_code(PHONE, API_HASH).await.unwrap();
    let Err(SignInError::PasswordRequired(token)) = hub.client.sign_in(&token, "12345").await else {
        panic!("a password has to be asked for");
    };
    assert_eq!(token.hint(), Some("animal"));
    let Err(SignInError::InvalidPassword(token)) = hub.client.check_password(token, "wrong").await else {
        panic!("a wrong password has to be refused");
    };
    assert!(!hub.client.is_authorized().await.unwrap());
    hub.client.check_password(token, "correct horse").await.unwrap();
    assert!(hub.client.is_authorized().await.unwrap());
    assert_eq!(dc.count("auth.checkPassword").await, 2);
}

#[tokio::test]
async fn numbers_without_an_account() {
    let dc = start().await;
    let hub = Hub::connect(&dc, 0);
    let token = hub.client.request_login_code("+15559999", API_HASH).await.unwrap();
    let stranger = hub.client.sign_in(&token, "12345").await;
    assert!(matches!(stranger, Err(SignInError::SignUpRequired)));
    dc.set_phone("+15558888", PhoneRule::Banned).await;
    dc.set_phone("+15557777", PhoneRule::Flood(77)).await;
    let banned = hub.client.request_login_code("+15558888", API_HASH).await.map(drop);
    assert_eq!(rpc(banned), (400, "PHONE_NUMBER_BANNED".into(), None));
    let flood = hub.client.request_login_code("+15557777", API_HASH).await.map(drop);
    assert_eq!(rpc(flood), (420, "FLOOD_WAIT".into(), Some(77)));
    let short = hub.client.request_login_code("+1", API_HASH).await.map(drop);
    assert_eq!(rpc(short).1, "PHONE_NUMBER_INVALID");
}

#[tokio::test]
async fn an_account_elsewhere_migrates() {
    let dc = start().await;
    let spec = NewAccount {
        phone: PHONE.into(),
        dc: Some(4),
        ..Default::default()
    };
    let me = dc.add_account(spec).await.unwrap();
    let hub = Hub::connect(&dc, 0);
    assert_eq!(hub.log_in(PHONE).await, me);
    let codes = dc.log(LogFilter::method("auth.sendCode")).await;
    assert_eq!(codes.iter().map(|entry| entry.dc).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(codes[0].outcome, "303 PHONE_MIGRATE_4");
}

fn export() -> f::auth::ExportLoginToken {
    f::auth::ExportLoginToken {
        api_id: API_ID,
        api_hash: API_HASH.into(),
        except_ids: Vec::new(),
    }
}

#[tokio::test]
async fn a_scanned_code_logs_in() {
    let dc = start().await;
    let me = account(&dc, PHONE).await;
    let mut hub = Hub::connect(&dc, 0);
    let enums::auth::LoginToken::Token(token) = hub.call(&export()).await.unwrap() else {
        panic!("a token has to be shown first");
    };
    assert!(dc.scan_login_token(b"something else", me).await.is_err());
    let mut updates = hub.updates().await;
    dc.scan_login_token(&token.token, me).await.unwrap();
    assert!(matches!(updates.next().await, enums::Update::LoginToken));
    let enums::auth::LoginToken::Success(success) = hub.call(&export()).await.unwrap() else {
        panic!("the token was scanned");
    };
    assert!(matches!(
        success.authorization,
        enums::auth::Authorization::Authorization(_)
    ));
    assert!(hub.client.is_authorized().await.unwrap());
}

#[tokio::test]
async fn a_scanned_code_of_another_dc_moves_there() {
    let dc = start().await;
    let spec = NewAccount {
        phone: PHONE.into(),
        dc: Some(4),
        ..Default::default()
    };
    let me = dc.add_account(spec).await.unwrap();
    let hub = Hub::connect(&dc, 0);
    let enums::auth::LoginToken::Token(token) = hub.call(&export()).await.unwrap() else {
        panic!("a token has to be shown first");
    };
    dc.scan_login_token(&token.token, me).await.unwrap();
    let enums::auth::LoginToken::MigrateTo(there) = hub.call(&export()).await.unwrap() else {
        panic!("the account lives on DC 4");
    };
    assert_eq!(there.dc_id, 4);
    let import = f::auth::ImportLoginToken { token: there.token };
    let answer = hub.client.invoke_in_dc(4, &import).await.unwrap();
    assert!(matches!(answer, enums::auth::LoginToken::Success(_)));
}

#[tokio::test]
async fn logging_out_ends_the_session_and_the_key_can_log_in_again() {
    let scene = Scene::new().await;
    scene.hub.client.sign_out().await.unwrap();
    assert_eq!(
        rpc(scene.hub.call(&f::updates::GetState {}).await).1,
        "AUTH_KEY_UNREGISTERED"
    );
    assert_eq!(scene.hub.log_in(PHONE).await, scene.me);
}

#[tokio::test]
async fn ended_sessions_say_why() {
    let scene = Scene::new().await;
    let cases = [
        (Revocation::Revoked, 401, "SESSION_REVOKED"),
        (Revocation::Expired, 401, "SESSION_EXPIRED"),
        (Revocation::Deactivated, 401, "USER_DEACTIVATED"),
        (Revocation::Duplicated, 406, "AUTH_KEY_DUPLICATED"),
    ];
    for (kind, code, name) in cases {
        scene
            .dc
            .revoke(Revoke {
                key: Some(0),
                kind,
                ..Default::default()
            })
            .await;
        let refused = rpc(scene.hub.call(&f::updates::GetState {}).await);
        assert_eq!((refused.0, refused.1.as_str()), (code, name));
        let again = scene.hub.client.request_login_code(PHONE, API_HASH).await.map(drop);
        match kind {
            Revocation::Duplicated => assert_eq!(rpc(again).1, name),
            _ => assert_eq!(scene.hub.log_in(PHONE).await, scene.me),
        }
    }
}

#[tokio::test]
async fn a_forgotten_key_is_a_transport_error() {
    let scene = Scene::new().await;
    scene
        .dc
        .revoke(Revoke {
            key: Some(0),
            kind: Revocation::Unknown,
            drop: true,
            ..Default::default()
        })
        .await;
    // grammers answers -404 with a key exchange, which the test DC does not serve either.
    let failed = scene.hub.again().call(&f::updates::GetState {}).await;
    assert!(failed.is_err());
    assert_eq!(scene.dc.state().await.connections, 0);
}

#[tokio::test]
async fn two_places_with_one_key_kill_it() {
    let scene = Scene::new().await;
    scene
        .dc
        .set(Settings {
            detect_duplicates: Some(true),
            ..Default::default()
        })
        .await;
    let thief = scene.hub.again();
    assert_eq!(rpc(thief.call(&f::updates::GetState {}).await).1, "AUTH_KEY_DUPLICATED");
    assert_eq!(
        rpc(scene.hub.call(&f::updates::GetState {}).await).1,
        "AUTH_KEY_DUPLICATED"
    );
    assert_eq!(scene.dc.state().await.keys[0].peak, 2);
}

#[tokio::test]
async fn another_device_is_listed_and_can_be_ended() {
    let scene = Scene::new().await;
    let other = Hub::connect(&scene.dc, 1);
    other.log_in(PHONE).await;
    let enums::account::Authorizations::Authorizations(list) =
        scene.hub.call(&f::account::GetAuthorizations {}).await.unwrap();
    assert_eq!(list.authorizations.len(), 2);
    let hash = list
        .authorizations
        .iter()
        .find_map(|enums::Authorization::Authorization(entry)| (!entry.current).then_some(entry.hash))
        .unwrap();
    assert!(scene.hub.call(&f::account::ResetAuthorization { hash }).await.unwrap());
    assert_eq!(rpc(other.call(&f::updates::GetState {}).await).1, "SESSION_REVOKED");
    assert!(scene.hub.client.is_authorized().await.unwrap());
}

#[tokio::test]
async fn keys_beyond_the_first_n_are_unknown() {
    let dc = TelegramDc::start(DcConfig {
        keys: 1,
        ..Default::default()
    })
    .await
    .unwrap();
    let hub = Hub::connect(&dc, 1);
    assert!(hub.call(&f::help::GetConfig {}).await.is_err());
    assert!(Hub::connect(&dc, 0).call(&f::help::GetConfig {}).await.is_ok());
}

#[tokio::test]
async fn the_config_can_carry_the_addresses() {
    let dc = TelegramDc::start(DcConfig {
        send_dc_options: true,
        ..Default::default()
    })
    .await
    .unwrap();
    let hub = Hub::connect(&dc, 0);
    let enums::Config::Config(config) = hub.call(&f::help::GetConfig {}).await.unwrap();
    assert_eq!(config.dc_options.len(), 2);
    assert_eq!(config.this_dc, 2);
}

#[tokio::test]
async fn dropped_sockets_reconnect_at_the_next_call() {
    let scene = Scene::new().await;
    assert_eq!(
        scene
            .dc
            .drop_connections(ConnFilter {
                account: Some(scene.me),
                ..Default::default()
            })
            .await,
        1
    );
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The first call after the loss may meet the dead connection; the next one has a new one.
    let first = scene.hub.call(&f::updates::GetState {}).await;
    if first.is_err() {
        scene.hub.call(&f::updates::GetState {}).await.unwrap();
    }
}

#[tokio::test]
async fn a_scanned_code_may_still_want_the_password() {
    let (dc, hub) = with_password().await;
    let me = dc.state().await.accounts[0].id;
    let enums::auth::LoginToken::Token(token) = hub.call(&export()).await.unwrap() else {
        panic!("a token has to be shown first");
    };
    dc.scan_login_token(&token.token, me).await.unwrap();
    assert_eq!(rpc(hub.call(&export()).await).1, "SESSION_PASSWORD_NEEDED");
    let enums::account::Password::Password(question) = hub.call(&f::account::GetPassword {}).await.unwrap();
    let token = grammers_client::client::PasswordToken::new(question);
    hub.client.check_password(token, "correct horse").await.unwrap();
    assert!(hub.client.is_authorized().await.unwrap());
}
