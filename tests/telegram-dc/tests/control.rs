//! The control port, in process and with the DC as a program of its own.

#![cfg(test)]

mod common;

use std::process::{Child, Command, Stdio};

use common::*;
use serde_json::{Value, json};
use telegram_dc::{DcConfig, TelegramDc, derive_auth_key};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn http(addr: std::net::SocketAddr, method: &str, path: &str, body: Option<Value>) -> (u16, Vec<u8>) {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: dc\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    send_raw(addr, request.as_bytes()).await
}

async fn send_raw(addr: std::net::SocketAddr, request: &[u8]) -> (u16, Vec<u8>) {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..split].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer[split + 4..].to_vec())
}

struct Port(std::net::SocketAddr);

impl Port {
    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, body) = http(self.0, "POST", path, Some(body)).await;
        let text = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_slice(&body).unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = http(self.0, "GET", path, None).await;
        assert_eq!(status, 200, "{path}");
        serde_json::from_slice(&body).unwrap()
    }
}

#[tokio::test]
async fn everything_can_be_done_over_http() {
    let dc = TelegramDc::start(DcConfig {
        control: Some(0),
        ..Default::default()
    })
    .await
    .unwrap();
    let port = Port(dc.control.unwrap());
    let id = |value: Value| value["id"].as_i64().unwrap();
    let me = id(port
        .post("/accounts", json!({ "phone": PHONE, "first_name": "Me" }))
        .await);
    let friend = id(port
        .post("/users", json!({ "first_name": "Friend", "contact": true }))
        .await);
    let members = json!([friend, me]);
    let chat = id(port
        .post("/chats", json!({ "title": "Group", "members": members }))
        .await);
    let channel = id(port
        .post("/channels", json!({ "title": "Channel", "members": members }))
        .await);
    let peer = format!("user:{friend}");
    let seeded = port
        .post("/history", json!({ "account": me, "peer": peer, "count": 30 }))
        .await;
    assert_eq!((&seeded[0]["id"], &seeded[0]["pts"]), (&json!(31), &json!(2)));
    let mut hub = Hub::connect(&dc, 0);
    hub.log_in(PHONE).await;
    let mut dialogs = hub.client.iter_dialogs();
    while dialogs.next().await.unwrap().is_some() {}
    let mut updates = hub.updates().await;
    let placed = port
        .post("/messages", json!({ "account": me, "peer": peer, "text": "over HTTP" }))
        .await;
    assert_eq!(updates.texts(1).await, ["over HTTP"]);
    let message = json!({ "account": me, "peer": peer, "id": placed[0]["id"] });
    port.post("/messages/edit", json!({ "message": message, "text": "changed" }))
        .await;
    port.post(
        "/messages/react",
        json!({ "message": message, "user": friend, "emoji": "👍" }),
    )
    .await;
    port.post("/messages/pin", json!({ "message": message, "pinned": true }))
        .await;
    port.post(
        "/typing",
        json!({ "account": me, "peer": peer, "action": "record_voice" }),
    )
    .await;
    port.post("/read", json!({ "account": me, "peer": peer, "side": "inbox" }))
        .await;
    port.post(
        "/messages/delete",
        json!({ "account": me, "peer": peer, "ids": [placed[0]["id"]] }),
    )
    .await;
    let to_chat = json!({ "peer": format!("chat:{chat}"), "from": friend, "text": "group" });
    port.post("/messages", to_chat).await;
    let media = json!({ "kind": "voice", "size": 1000 });
    let to_channel = json!({ "peer": format!("channel:{channel}"), "from": friend, "text": "channel", "media": media });
    port.post("/messages", to_channel).await;
    let mut texts = updates.texts(2).await;
    texts.sort();
    assert_eq!(texts, ["channel", "group"]);
    let stored = port.get(&format!("/channels/{channel}/messages")).await;
    let (status, bytes) = http(port.0, "GET", &format!("/files/{}", stored[1]["file"]), None).await;
    assert_eq!((status, bytes.len()), (200, 1000));
    port.post("/gap", json!({ "account": me, "kind": "lose", "count": 1 }))
        .await;
    port.post("/messages", json!({ "account": me, "peer": peer, "text": "lost" }))
        .await;
    port.post("/too-long/account", json!({ "account": me })).await;
    assert_eq!(updates.texts(1).await, ["lost"]);
    let fault = json!({ "error": { "code": 420, "name": "FLOOD_WAIT_3" } });
    port.post("/faults", json!({ "method": "updates.getState", "fault": fault }))
        .await;
    assert_eq!(port.get("/faults").await[0]["times"], 1);
    assert_eq!(
        rpc(hub.call(&grammers_tl_types::functions::updates::GetState {}).await).0,
        420
    );
    let count = port
        .get(&format!("/log/count?method=updates.getState&account={me}"))
        .await;
    assert_eq!(count["count"], 2);
    let path = format!("/accounts/{me}/messages?peer=user%3A{friend}");
    assert_eq!(port.get(&path).await.as_array().unwrap().len(), 31);
    port.post("/settings", json!({ "repeat": "duplicate", "slice": 5 }))
        .await;
    port.post("/phones", json!({ "phone": "+19", "rule": "banned" })).await;
    port.post("/phones", json!({ "phone": "+19", "rule": { "flood": 5 } }))
        .await;
    port.post("/restart", json!({ "down_ms": 10 })).await;
    port.post("/messages", json!({ "account": me, "peer": peer, "text": "after" }))
        .await;
    assert_eq!(updates.texts(1).await, ["after"]);
    let state = port.get("/state").await;
    assert_eq!(state["accounts"][0]["keys"], json!([0]));
    assert_eq!(state["accounts"][0]["connections"], 1);
    assert_eq!(
        port.post("/connections/drop", json!({ "account": me })).await["closed"],
        1
    );
    port.post("/revoke", json!({ "account": me, "kind": "revoked", "drop": true }))
        .await;
    assert_eq!(port.get("/state").await["keys"][0]["dead"], "revoked");
    let batch = json!({ "messages": [
        { "account": me, "peer": peer, "text": "one" },
        { "account": me, "peer": peer, "text": "two" },
    ] });
    assert_eq!(port.post("/messages/batch", batch).await.as_array().unwrap().len(), 2);
    assert_eq!(http(port.0, "DELETE", "/log", None).await.0, 200);
    assert_eq!(port.get("/log").await, json!([]));
}

#[tokio::test]
async fn wrong_requests_are_told_what_is_wrong() {
    let dc = TelegramDc::start(DcConfig {
        control: Some(0),
        ..Default::default()
    })
    .await
    .unwrap();
    let addr = dc.control.unwrap();
    assert_eq!(http(addr, "GET", "/nothing", None).await.0, 404);
    assert_eq!(http(addr, "POST", "/accounts", Some(json!({ "fone": 1 }))).await.0, 400);
    let message = json!({ "peer": "person:1" });
    let (status, body) = http(addr, "POST", "/messages", Some(message)).await;
    assert_eq!(status, 400);
    assert!(String::from_utf8_lossy(&body).contains("user:ID"));
    // Two requests on one connection.
    let twice = b"GET /health HTTP/1.1\r\n\r\nGET /faults HTTP/1.1\r\nconnection: close\r\n\r\n";
    let (status, rest) = send_raw(addr, twice).await;
    assert_eq!(status, 200);
    assert!(rest.ends_with(b"[]"), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(send_raw(addr, b"\x16\x03\x01\n").await.0, 400);
    let huge = b"POST /users HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n";
    assert_eq!(send_raw(addr, huge).await.0, 413);
    assert_eq!(http(addr, "GET", "/health", None).await.0, 200);
}

struct Program {
    child: Child,
    line: Value,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn program() -> Program {
    let mut child = Command::new(env!("CARGO_BIN_EXE_telegram-dc"))
        .args([
            "--seed",
            "other",
            "--keys",
            "3",
            "--dc",
            "2=0",
            "--dc",
            "5=0",
            "--control",
            "0",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = child.stdout.take().unwrap();
    let line = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
        line
    })
    .await
    .unwrap();
    Program {
        child,
        line: serde_json::from_str(&line).unwrap(),
    }
}

#[tokio::test]
async fn the_program_serves_clients() {
    let program = program().await;
    let port = Port(program.line["control"].as_str().unwrap().parse().unwrap());
    let addr: std::net::SocketAddr = program.line["dcs"][0]["addr"].as_str().unwrap().parse().unwrap();
    assert_eq!(program.line["dcs"][1]["id"], 5);
    let me = port
        .post("/accounts", json!({ "phone": PHONE, "first_name": "Me" }))
        .await["id"]
        .as_i64()
        .unwrap();
    let hub = Hub::with_session(plain_session(2, v4(addr), derive_auth_key("other", 2)));
    assert_eq!(hub.log_in(PHONE).await, me);
    assert_eq!(port.get("/state").await["accounts"][0]["keys"], json!([2]));
}

#[tokio::test]
async fn the_dc_stops_when_its_last_owner_is_gone() {
    let dc = TelegramDc::start(DcConfig {
        control: Some(0),
        ..Default::default()
    })
    .await
    .unwrap();
    let (addr, control) = (dc.addr, dc.control.unwrap());
    let hub = Hub::connect(&dc, 0);
    hub.call(&grammers_tl_types::functions::help::GetConfig {})
        .await
        .unwrap();
    drop(dc.clone());
    assert_eq!(http(control, "GET", "/health", None).await.0, 200);
    drop(dc);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(TcpStream::connect(addr).await.is_err());
    assert!(TcpStream::connect(control).await.is_err());
    assert!(
        hub.call(&grammers_tl_types::functions::help::GetConfig {})
            .await
            .is_err()
    );
}
