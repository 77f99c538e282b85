//! Tests of sending, against a receiver on loopback.

use std::sync::Arc;

use hub_actors::domain::{AccountState, FailureClass, MessageKind};
use hub_actors::ports::{Adapter as _, Delivery};
use hub_actors::{AccountId, UserId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use super::super::super::client::build;
use super::super::{Custom, ROTATION_OVERLAP, Secret, signature};
use super::*;

/// One request as the receiver saw it.
struct Request {
    head: String,
    delivery: Delivery,
}

/// A receiver that gives the same answer to everything and keeps what it was asked.
struct Receiver {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hook?k=1", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut bytes = Vec::new();
                let request = loop {
                    let mut chunk = [0; 4096];
                    let count = socket.read(&mut chunk).await.expect("bytes");
                    bytes.extend_from_slice(&chunk[..count]);
                    if let Some(request) = parse(&bytes) {
                        break request;
                    }
                };
                seen.lock().await.push(request);
                // An empty answer closes the connection without a word; "hang" keeps it open for ever.
                if answer == "hang" {
                    std::future::pending::<()>().await;
                }
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        Self { url, requests }
    }
}

fn parse(bytes: &[u8]) -> Option<Request> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let headers: Vec<(String, String)> = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers
        .iter()
        .find(|(name, _)| name == "content-length")?
        .1
        .parse()
        .ok()?;
    (body.len() == length).then(|| Request {
        head: head.to_owned(),
        delivery: Delivery {
            headers,
            body: body.as_bytes().to_vec().into(),
            received_at: Clock::system().now(),
        },
    })
}

fn account(url: &str) -> (Account, Secret) {
    let now = Clock::system().now();
    let (credentials, secret) = Link::create(url);
    let account = Account {
        id: AccountId::generate(now),
        user_id: UserId::generate(now),
        platform: "custom".into(),
        external_id: "own".into(),
        name: None,
        is_active: true,
        state: AccountState::Live,
        state_reason: None,
        state_until: None,
        credentials,
        created_at: now,
        updated_at: now,
    };
    (account, secret)
}

fn outbound(action: OutboundAction) -> Outbound {
    Outbound {
        key: OutboxId::generate(Clock::system().now()),
        conversation: "c1".into(),
        action,
    }
}

fn text() -> OutboundAction {
    OutboundAction::Send {
        text: "h\u{e9}llo".to_owned(),
        kind: MessageKind::Text,
        media_url: None,
        reply_to: Some("m0".into()),
    }
}

fn custom(allow_private: bool) -> Custom {
    let guard = Guard { allow_private };
    let client = build(Duration::from_millis(500), guard).expect("a client");
    Custom::new(client, guard, Clock::system())
}

async fn try_once(answer: &'static str) -> Result<Receipt, SendError> {
    let receiver = Receiver::start(answer).await;
    custom(true).send(&account(&receiver.url).0, &outbound(text())).await
}

#[tokio::test]
async fn a_message_goes_out_signed_and_every_try_carries_the_same_bytes() {
    let receiver =
        Receiver::start("HTTP/1.1 200 OK\r\ncontent-length: 11\r\nconnection: close\r\n\r\n{\"id\":\"x9\"}").await;
    let (account, secret) = account(&receiver.url);
    let message = outbound(text());
    for _ in 0..2 {
        let receipt = custom(true).send(&account, &message).await.expect("sent");
        assert_eq!(receipt.external_id, Some("x9".into()));
    }
    let requests = receiver.requests.lock().await;
    assert_eq!(requests.len(), 2);
    let key = message.key.to_string();
    let expected = json!({
        "type": "message.send", "accountId": account.id, "conversation": { "id": "c1" },
        "message": { "id": key, "text": "h\u{e9}llo", "type": "text", "replyTo": "m0" },
    });
    for request in requests.iter() {
        assert!(request.head.starts_with("POST /hook?k=1 HTTP/1.1"), "{}", request.head);
        assert!(signature::verify(&request.delivery, std::slice::from_ref(&secret)).is_ok());
        assert_eq!(request.delivery.header(ID_HEADER), Some(key.as_str()));
        assert_eq!(request.delivery.header("content-type"), Some("application/json"));
        assert!(
            request
                .delivery
                .header("user-agent")
                .is_some_and(|name| name.starts_with("messaging-hub/"))
        );
        assert_eq!(
            serde_json::from_slice::<Value>(&request.delivery.body).ok(),
            Some(expected.clone())
        );
    }
    assert_eq!(requests[0].delivery.body, requests[1].delivery.body);
}

#[tokio::test]
async fn after_a_rotation_a_receiver_with_either_secret_can_verify() {
    let receiver = Receiver::start("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
    let (mut account, old) = account(&receiver.url);
    let (rotated, new) = Link::rotate(&account.credentials, Clock::system().now(), ROTATION_OVERLAP);
    account.credentials = rotated;
    custom(true).send(&account, &outbound(text())).await.expect("sent");
    let requests = receiver.requests.lock().await;
    for secret in [old, new] {
        assert!(signature::verify(&requests[0].delivery, &[secret]).is_ok());
    }
}

#[tokio::test]
async fn a_receiver_that_gives_no_id_knows_the_message_by_ours() {
    for answer in [
        "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        "HTTP/1.1 202 Accepted\r\ncontent-length: 9\r\nconnection: close\r\n\r\n{\"id\":42}",
        "HTTP/1.1 201 Created\r\ncontent-length: 9\r\nconnection: close\r\n\r\n{\"id\":\"\"}",
    ] {
        let receiver = Receiver::start(answer).await;
        let message = outbound(text());
        let receipt = custom(true)
            .send(&account(&receiver.url).0, &message)
            .await
            .expect("sent");
        assert_eq!(receipt.external_id, Some(message.key.to_string().into()), "{answer}");
    }
}

#[tokio::test]
async fn other_actions_have_no_id() {
    let receiver =
        Receiver::start("HTTP/1.1 200 OK\r\ncontent-length: 11\r\nconnection: close\r\n\r\n{\"id\":\"x9\"}").await;
    let account = account(&receiver.url).0;
    let message = ExternalId::from("m1");
    let react = |is_active| OutboundAction::React {
        message: message.clone(),
        emoji: "\u{1f44d}".to_owned(),
        is_active,
    };
    let actions = [
        OutboundAction::Edit {
            message: message.clone(),
            text: "new".to_owned(),
        },
        OutboundAction::Delete {
            message: message.clone(),
        },
        react(true),
        react(false),
        OutboundAction::Read {
            message: message.clone(),
        },
    ];
    for action in actions {
        let receipt = custom(true).send(&account, &outbound(action)).await.expect("sent");
        assert_eq!(receipt.external_id, None);
    }
    custom(true)
        .typing(
            &account,
            &TypingNotice {
                conversation: "c1".into(),
            },
        )
        .await;
    let requests = receiver.requests.lock().await;
    let names: Vec<Value> = requests
        .iter()
        .map(|request| serde_json::from_slice::<Value>(&request.delivery.body).expect("JSON")["type"].clone())
        .collect();
    let expected = [
        "message.edit",
        "message.delete",
        "reaction.add",
        "reaction.remove",
        "conversation.read",
        "typing",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn each_refusal_becomes_its_failure() {
    let after = |seconds| SendFailure::RateLimited {
        after: Duration::from_secs(seconds),
    };
    for (answer, failure, detail) in [
        (
            "HTTP/1.1 400 Bad\r\ncontent-length: 18\r\n\r\n{\"error\":\"no way\"}",
            SendFailure::Refused,
            "400: no way",
        ),
        (
            "HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n",
            SendFailure::Unauthorized,
            "status 401",
        ),
        (
            "HTTP/1.1 403 No\r\ncontent-length: 6\r\n\r\nbanned",
            SendFailure::Refused,
            "403: banned",
        ),
        (
            "HTTP/1.1 404 No\r\ncontent-length: 6\r\n\r\n<html>",
            SendFailure::Refused,
            "status 404",
        ),
        (
            "HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n",
            SendFailure::Refused,
            "status 410",
        ),
        (
            "HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n",
            SendFailure::Refused,
            "status 302",
        ),
        (
            "HTTP/1.1 408 Slow\r\ncontent-length: 0\r\n\r\n",
            SendFailure::PlatformFailed,
            "status 408",
        ),
        (
            "HTTP/1.1 425 Early\r\ncontent-length: 0\r\n\r\n",
            SendFailure::PlatformFailed,
            "status 425",
        ),
        (
            "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
            SendFailure::PlatformFailed,
            "status 500",
        ),
        (
            "HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n",
            after(7),
            "status 503",
        ),
        (
            "HTTP/1.1 429 Many\r\nretry-after: 30\r\ncontent-length: 0\r\n\r\n",
            after(30),
            "status 429",
        ),
        ("HTTP/1.1 429 Many\r\ncontent-length: 0\r\n\r\n", after(5), "status 429"),
    ] {
        let error = try_once(answer).await.expect_err("refused");
        assert_eq!(
            (error.failure, error.detail.as_deref()),
            (failure, Some(detail)),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_lost_answer_is_not_an_unreachable_platform() {
    let lost = |error: &SendError| error.failure == SendFailure::AnswerLost;
    assert!(
        try_once("").await.is_err_and(|error| lost(&error)),
        "closed without an answer"
    );
    assert!(
        try_once("hang").await.is_err_and(|error| lost(&error)),
        "no answer in time"
    );
    let broken_off = "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"id\":";
    assert!(
        try_once(broken_off).await.is_err_and(|error| lost(&error)),
        "an answer cut short"
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let closed = format!("http://{}/", listener.local_addr().expect("an address"));
    drop(listener);
    let error = custom(true)
        .send(&account(&closed).0, &outbound(text()))
        .await
        .expect_err("nobody listens");
    assert_eq!(error.failure, SendFailure::Unreachable);
    let error = custom(true)
        .send(&account("http://name.invalid/").0, &outbound(text()))
        .await
        .expect_err("no name");
    assert_eq!(error.failure, SendFailure::Unreachable);
    assert_eq!(error.failure.class(), FailureClass::Transient);
}

#[tokio::test]
async fn private_networks_are_not_called_by_address_or_by_name() {
    let receiver = Receiver::start("HTTP/1.1 204 No Content\r\n\r\n").await;
    let port = receiver.url.rsplit(':').next().unwrap_or_default().to_owned();
    for url in [receiver.url.clone(), format!("http://localhost:{port}")] {
        let error = custom(false)
            .send(&account(&url).0, &outbound(text()))
            .await
            .expect_err("refused");
        assert_eq!(error.failure, SendFailure::ForbiddenAddress, "{url}");
    }
    // A name of which the text tells nothing: only the resolver sees where it leads.
    let client = build(Duration::from_secs(2), Guard { allow_private: false }).expect("a client");
    let error = client
        .get(format!("http://localhost:{port}"))
        .send()
        .await
        .expect_err("refused");
    assert_eq!(transport_failure(&error).failure, SendFailure::ForbiddenAddress);
    assert!(receiver.requests.lock().await.is_empty());
}

#[tokio::test]
async fn credentials_that_lack_something_say_so() {
    let (mut broken, _) = account("https://example.com/");
    broken.credentials.0.remove("outboundUrl");
    let error = custom(false)
        .send(&broken, &outbound(text()))
        .await
        .expect_err("no address");
    assert_eq!(error.failure, SendFailure::Unsupported);
    let (mut broken, _) = account("https://example.com/");
    broken.credentials.0.remove("secrets");
    let error = custom(false)
        .send(&broken, &outbound(text()))
        .await
        .expect_err("no secret");
    assert_eq!(error.failure, SendFailure::Unauthorized);
    let error = custom(false)
        .send(&account("nonsense").0, &outbound(text()))
        .await
        .expect_err("no address");
    assert_eq!(error.failure, SendFailure::Refused);
}

#[test]
fn retry_after_is_read_in_both_forms() {
    // Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110.
    let now = OffsetDateTime::from_unix_timestamp(784_111_777).expect("a time");
    let wait = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().expect("a header value"));
        retry_after(&headers, now).map(|wait| wait.as_secs())
    };
    assert_eq!(wait("0"), Some(1));
    assert_eq!(wait("120"), Some(120));
    assert_eq!(wait("99999999999999999999999"), Some(3600));
    assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
    assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(1));
    assert_eq!(wait("Sat, 06 Nov 2094 08:00:00 GMT"), Some(3600));
    assert_eq!(wait("soon"), None);
    assert_eq!(wait("-5"), None);
    assert_eq!(retry_after(&HeaderMap::new(), now), None);
}

#[test]
fn the_reason_is_found_where_receivers_put_it() {
    assert_eq!(reason(br#"{"error":"a"}"#).as_deref(), Some("a"));
    assert_eq!(reason(br#"{"error":{"code":"X","message":"b"}}"#).as_deref(), Some("b"));
    assert_eq!(reason(br#"{"message":"c"}"#).as_deref(), Some("c"));
    assert_eq!(reason(b" plain words \n").as_deref(), Some("plain words"));
    for nothing in ["", "{}", "[1]", "<!doctype html>", "{\"error\":5}"] {
        assert_eq!(reason(nothing.as_bytes()), None, "{nothing}");
    }
}
