//! Scripted faults, salts, and frames that make no sense.

#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "times are measured by the clock of the server under test"
)]

mod common;

use std::time::Duration;

use common::*;
use grammers_mtsender::InvocationError;
use grammers_tl_types::functions as f;
use telegram_dc::{DcConfig, Fault, FaultScript, LogFilter, Peer, wire};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

const SEND: &str = "messages.sendMessage";

async fn scene() -> (Scene, grammers_tl_types::enums::InputPeer) {
    let scene = Scene::new().await;
    scene.push("hi").await;
    let peer = scene.friend_peer().await;
    (scene, peer)
}

async fn script(scene: &Scene, method: &str, fault: Fault) {
    scene.dc.script(FaultScript::next(method, fault)).await.unwrap();
}

async fn sent(scene: &Scene) -> Vec<String> {
    let stored = scene
        .dc
        .messages(scene.me, Some(Peer::User(scene.friend)))
        .await
        .unwrap();
    stored
        .into_iter()
        .filter(|message| message.out)
        .map(|message| message.text)
        .collect()
}

const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn errors_come_done_or_not_done() {
    let (scene, peer) = scene().await;
    let error = || (500, "INTERNAL".to_owned());
    let (code, name) = error();
    script(&scene, SEND, Fault::Error { code, name }).await;
    assert_eq!(rpc(scene.hub.call(&send(peer.clone(), "a", 1)).await).1, "INTERNAL");
    assert!(sent(&scene).await.is_empty());
    let (code, name) = error();
    script(&scene, SEND, Fault::DoThenError { code, name }).await;
    assert_eq!(rpc(scene.hub.call(&send(peer.clone(), "a", 1)).await).1, "INTERNAL");
    assert_eq!(sent(&scene).await, ["a"]);
    scene.hub.call(&send(peer, "a", 1)).await.unwrap();
    assert_eq!(sent(&scene).await, ["a"]);
    assert_eq!(scene.dc.count(SEND).await, 3);
}

#[tokio::test]
async fn silence_comes_done_or_not_done() {
    let (scene, peer) = scene().await;
    script(&scene, SEND, Fault::NoAnswer).await;
    let call = send(peer.clone(), "a", 1);
    assert!(
        tokio::time::timeout(SHORT, scene.hub.client.invoke(&call))
            .await
            .is_err()
    );
    assert!(sent(&scene).await.is_empty());
    script(&scene, SEND, Fault::DoThenNoAnswer).await;
    assert!(
        tokio::time::timeout(SHORT, scene.hub.client.invoke(&call))
            .await
            .is_err()
    );
    assert_eq!(sent(&scene).await, ["a"]);
    // The connection still works.
    scene.hub.call(&call).await.unwrap();
    assert_eq!(sent(&scene).await, ["a"]);
}

#[tokio::test]
async fn closing_comes_done_or_not_done() {
    let (scene, peer) = scene().await;
    let call = send(peer, "a", 1);
    script(&scene, SEND, Fault::Close).await;
    assert!(matches!(scene.hub.call(&call).await, Err(InvocationError::Io(_))));
    assert!(sent(&scene).await.is_empty());
    script(&scene, SEND, Fault::DoThenClose).await;
    let mut failed = scene.hub.call(&call).await;
    // The call after a loss may still meet the dead connection.
    if scene.dc.faults().await.len() == 1 {
        failed = scene.hub.call(&call).await;
    }
    assert!(matches!(failed, Err(InvocationError::Io(_))));
    assert_eq!(sent(&scene).await, ["a"]);
    if scene.hub.call(&call).await.is_err() {
        scene.hub.call(&call).await.unwrap();
    }
    assert_eq!(sent(&scene).await, ["a"]);
}

#[tokio::test]
async fn answers_can_be_late() {
    let (scene, peer) = scene().await;
    script(&scene, SEND, Fault::Delay { ms: 200 }).await;
    let start = Instant::now();
    let call = send(peer.clone(), "a", 1);
    let late = scene.hub.call(&call);
    let other = async {
        scene.dc.wait_for(LogFilter::method(SEND), 1, PATIENCE).await;
        scene.hub.call(&f::updates::GetState {}).await.unwrap();
        (start.elapsed(), sent(&scene).await)
    };
    let (late, (other, stored)) = tokio::join!(late, other);
    late.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert!(other < Duration::from_millis(200), "other calls are not held up");
    assert_eq!(stored, ["a"]);
    script(&scene, SEND, Fault::DelayThenDo { ms: 100 }).await;
    let call = send(peer, "b", 2);
    let (answer, stored) = tokio::join!(scene.hub.call(&call), async {
        scene.dc.wait_for(LogFilter::method(SEND), 2, PATIENCE).await;
        sent(&scene).await
    });
    answer.unwrap();
    assert_eq!(stored, ["a"]);
    assert_eq!(sent(&scene).await, ["a", "b"]);
}

#[tokio::test]
async fn a_transport_error_ends_the_connection() {
    let (scene, peer) = scene().await;
    script(&scene, SEND, Fault::TransportError { code: -429 }).await;
    let failed = scene.hub.call(&send(peer, "a", 1)).await;
    assert!(matches!(failed, Err(InvocationError::Transport(_))), "{failed:?}");
}

#[tokio::test]
async fn a_foreign_session_id_kills_the_client_task() {
    let (scene, _) = scene().await;
    script(&scene, "updates.getState", Fault::WrongSession).await;
    let failed = scene.hub.call(&f::updates::GetState {}).await;
    assert!(failed.is_err());
    let again = scene.hub.again();
    again.call(&f::updates::GetState {}).await.unwrap();
}

#[tokio::test]
async fn scripts_can_be_for_one_account_and_counted() {
    let (scene, peer) = scene().await;
    let fault = Fault::Error {
        code: 420,
        name: "FLOOD_WAIT_5".into(),
    };
    let other = FaultScript {
        account: Some(1),
        ..FaultScript::next(SEND, fault.clone())
    };
    scene.dc.script(other).await.unwrap();
    scene.hub.call(&send(peer.clone(), "a", 1)).await.unwrap();
    let mine = FaultScript {
        account: Some(scene.me),
        skip: 1,
        ..FaultScript::next(SEND, fault).times(2)
    };
    scene.dc.script(mine).await.unwrap();
    scene.hub.call(&send(peer.clone(), "b", 2)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(rpc(scene.hub.call(&send(peer.clone(), "c", 3)).await).2, Some(5));
    }
    scene.hub.call(&send(peer, "c", 3)).await.unwrap();
    assert_eq!(scene.dc.faults().await.len(), 1);
    scene.dc.clear_faults().await;
}

#[tokio::test]
async fn salts_change_under_way() {
    let (scene, _) = scene().await;
    let salts = scene.dc.count("get_future_salts").await;
    assert_eq!(salts, 1);
    for _ in 0..3 {
        scene.dc.rotate_salts().await;
        scene.hub.call(&f::updates::GetState {}).await.unwrap();
    }
    assert!(scene.dc.count("get_future_salts").await > salts);
    assert_eq!(scene.dc.state().await.connections, 1);
}

#[tokio::test]
async fn unanswered_salts_block_every_later_call() {
    let (scene, _) = scene().await;
    script(&scene, "get_future_salts", Fault::NoAnswer).await;
    scene.dc.rotate_salts().await;
    let blocked = tokio::time::timeout(SHORT, scene.hub.client.invoke(&f::updates::GetState {})).await;
    assert!(blocked.is_err(), "grammers waits for the salts");
    let again = scene.hub.again();
    again.call(&f::updates::GetState {}).await.unwrap();
}

#[tokio::test]
async fn pings_are_answered_and_missed_ones_end_the_connection() {
    let (scene, _) = scene().await;
    scene.hub.call(&f::Ping { ping_id: 7 }).await.unwrap();
    let ping = f::PingDelayDisconnect {
        ping_id: 8,
        disconnect_delay: 1,
    };
    scene.hub.call(&ping).await.unwrap();
    assert_eq!(scene.dc.state().await.connections, 1);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(scene.dc.state().await.connections, 0);
}

/// Everything the DC sends back until it closes.
async fn raw(addr: std::net::SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset is as good as an end.
    let _ = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer))
        .await
        .unwrap();
    answer
}

#[tokio::test]
async fn nonsense_closes_only_its_own_connection() {
    let scene = Scene::with(DcConfig {
        frame_cap: 4096,
        ..Default::default()
    })
    .await;
    let addr = scene.dc.addr;
    let mut key_only = telegram_dc::key::key_id(&scene.dc.auth_key(0)).to_vec();
    key_only.extend([0; 16 + 32]);
    let cases: [(Vec<u8>, &[u8]); 6] = [
        (vec![0xef; 64], &[]),
        ((-5_i32).to_le_bytes().to_vec(), &[]),
        (1_000_000_u32.to_le_bytes().to_vec(), &[]),
        (wire::write_frame(7, &[0; 8]), &[]),
        // A key exchange, and a key nobody knows.
        (wire::write_frame(0, &[0; 40]), &(-404_i32).to_le_bytes()),
        (wire::write_frame(0, &[9; 40]), &(-404_i32).to_le_bytes()),
    ];
    for (bytes, expected) in cases {
        assert_eq!(raw(addr, &bytes).await, expected);
    }
    // The right key, but nothing behind it.
    assert_eq!(raw(addr, &wire::write_frame(0, &key_only)).await, b"");
    scene.hub.call(&f::updates::GetState {}).await.unwrap();
    assert_eq!(scene.dc.state().await.connections, 1);
}

#[tokio::test]
async fn unknown_methods_are_refused_and_logged() {
    let (scene, _) = scene().await;
    let refused = rpc(scene.hub.call(&f::help::GetInviteText {}).await);
    assert_eq!((refused.0, refused.1.as_str()), (400, "INPUT_METHOD_INVALID"));
    let entry = scene.dc.log(LogFilter::method("help.getInviteText")).await.remove(0);
    assert_eq!(entry.account, Some(scene.me));
    assert_eq!(entry.outcome, "400 INPUT_METHOD_INVALID");
}

#[tokio::test]
async fn the_log_is_bounded() {
    let scene = Scene::with(DcConfig {
        log_cap: 5,
        ..Default::default()
    })
    .await;
    for _ in 0..20 {
        scene.hub.call(&f::updates::GetState {}).await.unwrap();
    }
    let log = scene.dc.log(LogFilter::default()).await;
    assert_eq!(log.len(), 5);
    assert!(log[4].n > 20 && log.is_sorted_by_key(|entry| entry.n));
    assert_eq!(log[4].outcome, "ok");
}
