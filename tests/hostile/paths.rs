//! Paths, queries and whole requests of any bytes, for every route of the OpenAPI document.

use std::time::Duration;

use proptest::prelude::*;
use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::document::{Operation, operations};
use crate::support::{ADMIN_TOKEN, Client, Correspondent, answer};
use crate::target::{Outcome, Target};
use crate::{answers, raw};

/// What has been taken for an id or a number somewhere.
const HOSTILE: [&str; 26] = [
    "",
    "%00",
    "%ff",
    "%C0%AF",
    "..",
    "%2e%2e",
    "..%2f..%2fetc%2fpasswd",
    "%2F",
    "%25%30%30",
    "%",
    "%zz",
    "-1",
    "0",
    "1e9",
    "NaN",
    "18446744073709551616",
    "null",
    "[]",
    "0190A3C4-0000-7000-8000-00000000ABCD",
    "0190a3c4000070008000000000000000",
    "{0190a3c4-0000-7000-8000-00000000abcd}",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "00000000-0000-0000-0000-000000000000",
    "%E2%80%AE",
    "'%20OR%201=1--",
    "%0d%0aX-Injected:%20yes",
];

/// The route that does what it says whoever asks well; it is asked badly in [`crate::ownership`] and the contract tests.
fn is_harmless(operation: &Operation) -> bool {
    operation.path != "/api/admin/rotate-key"
}

fn escape(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02x}")).collect()
}

/// Asks, as a person or as the operator.
async fn ask(person: &Client, operation: &Operation, path: &str) -> Outcome {
    let mut client = person.clone();
    if operation.path.starts_with("/api/admin") || operation.path == "/metrics" {
        client.token = Some(ADMIN_TOKEN.to_owned());
    }
    let mut request = client.request(operation.method.clone(), path);
    if operation.method != Method::GET {
        request = request.header("content-type", "application/json").body("{}");
    }
    let answer = answer(request).await;
    if answer.headers.contains_key("x-injected") {
        return Err(format!("{path}: a header was injected"));
    }
    answers::check(&operation.method, &operation.path, &answer)
}

#[test]
fn every_route_survives_every_place_and_parameter() {
    let target = Target::start();
    let (person, operations) = target.run(async {
        let person = target.user().await;
        let operations = operations(&person).await;
        (person, operations)
    });
    let operations: Vec<Operation> = operations.into_iter().filter(is_harmless).collect();
    target.run(async {
        let long = "x".repeat(20_000);
        for operation in &operations {
            for hostile in HOSTILE.into_iter().chain([long.as_str()]) {
                let mut paths = Vec::new();
                if !operation.places.is_empty() {
                    paths.push(operation.path_with(|_| hostile.to_owned()));
                }
                let plain = operation.path_with(|_| crate::ownership::NOBODY.to_owned());
                let parameters = operation.query.iter().map(String::as_str).chain(["unknown"]);
                for name in parameters {
                    paths.push(format!("{plain}?{name}={hostile}"));
                    paths.push(format!("{plain}?{name}={hostile}&{name}&{name}="));
                }
                for path in paths {
                    ask(&person, operation, &path)
                        .await
                        .unwrap_or_else(|problem| panic!("{path}: {problem}"));
                }
            }
        }
    });
    let bytes = || prop::collection::vec(any::<u8>(), 0..60);
    let any_path = (prop::sample::select(operations), bytes(), bytes(), bytes());
    target.try_all(400, &any_path, async |(operation, place, name, value)| {
        let name = operation.query.first().cloned().unwrap_or_else(|| escape(&name));
        let path = format!("{}?{name}={}", operation.path_with(|_| escape(&place)), escape(&value));
        ask(&person, &operation, &path).await
    });
    target.assert_well();
}

#[test]
fn anything_may_stand_for_a_chat_of_ones_own_telegram_account() {
    let target = Target::start();
    target.run(async {
        let person = target.user().await;
        let channel = person.link(&Correspondent::start()).await;
        // Disconnected, so that nobody opens a link to Telegram for it.
        let turned = format!(
            "UPDATE connected_accounts SET platform = 'telegram', is_active = false WHERE id = '{}'",
            channel.account_id
        );
        target.database.query(&turned).await;
        let account = format!("/api/telegram/{}", channel.account_id);
        person.get(&format!("{account}/dialogs")).await.expect(200);
        for chat in HOSTILE {
            let messages = person.request(Method::GET, &format!("{account}/messages/{chat}"));
            let send = person.request(Method::POST, &format!("{account}/send/{chat}"));
            for request in [messages, send.json(&json!({ "text": "x" }))] {
                let answer = answer(request).await;
                answers::check(&Method::GET, &account, &answer).unwrap_or_else(|problem| panic!("{chat}: {problem}"));
                assert!(matches!(answer.status.as_u16(), 400 | 404), "{chat}: {answer:?}");
            }
        }
    });
    target.assert_well();
}

/// Requests as bytes: lines, headers and bodies that are none.
fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::sample::select(vec![
            "GET / HTTP/1.1\r\n",
            "POST /api/auth/login HTTP/1.1\r\n",
            "GET /api/events HTTP/1.0\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "CONNECT / HTTP/1.1\r\n",
            "GET http://elsewhere/ HTTP/1.1\r\n",
            "GET * HTTP/1.1\r\n",
            "OPTIONS * HTTP/1.1\r\n",
            "GET /%00 HTTP/1.1\r\n",
            "GET / HTTP/9.9\r\n",
            "Host: hub\r\n",
            "Host: a\r\nHost: b\r\n",
            "\r\n",
            "\n\n",
            "\0",
            "Content-Length: 5\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 5, 6\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, gzip\r\n",
            "Transfer-Encoding: identity\r\n",
            "Expect: 100-continue\r\n",
            "Connection: close\r\n",
            "Content-Type: application/json\r\n",
            "5\r\nhello\r\n",
            "ffffffffffffffff\r\n",
            "0\r\n\r\n",
            "-1\r\n",
            " : \r\n",
            "A: \u{0}\r\n",
            "A:b\r\n c\r\n",
            "Upgrade: h2c\r\nConnection: Upgrade\r\n",
            "Authorization: Bearer \r\n",
            "Origin: null\r\n",
            "{}",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop::collection::vec(piece, 1..10).prop_map(|pieces| pieces.concat())
}

#[test]
fn any_bytes_are_an_answer_or_an_end() {
    let target = Target::start();
    target.try_all(400, &any_request(), async |bytes| {
        let mut stream = raw::connect(target.hub.address).await;
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let Some(answer) = raw::read_to_end(&mut stream, Duration::from_secs(30)).await else {
            return Err("the connection stays open".to_owned());
        };
        match raw::status(&answer) {
            Some(500..) => Err(String::from_utf8_lossy(&answer).into_owned()),
            _ => Ok(()),
        }
    });
    target.assert_well();
}
