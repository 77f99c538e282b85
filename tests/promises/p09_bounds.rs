//! P9: no queue drops silently and memory has a ceiling: a database that does not keep up makes 503, a client that does
//! not read is closed with a number, and so is one that sends without waiting.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::history;
use crate::support::{
    self, Client, Correspondent, Database, Hub, Kind, Process, Proxy, Socket, Trouble, received, resident,
};

/// Requests at once; more than the mailboxes on their way hold together.
const FLOOD: usize = 4_000;
/// What a flood may add to the hub's memory, in KiB.
const CEILING: usize = 200 * 1_024;

#[test]
fn a_flood_on_a_slow_database_is_pushed_back_and_nothing_accepted_is_lost() {
    support::run(async {
        let seed = support::seed();
        let database = Database::fresh(Kind::Postgres).await;
        let proxy = Proxy::start(database.server(), seed);
        let url = database.url_through(proxy.address);
        let process = Process::start_with(&database, &[("HUB__DATABASE__URL", url.as_str())]).await;
        let mut user = process.client();
        user.register().await;
        let channel = user.link(&Correspondent::start()).await;
        user.receive(&channel, "chat", "first", "hello").await;
        let before = resident(process.id());

        // Nothing gets through for a while, so everything queues.
        proxy.make(Trouble::HalfOpen);
        let flood = join_all((0..FLOOD).map(|number| {
            let text = format!("m{number} {}", "x".repeat(4_000));
            let (user, channel) = (&user, &channel);
            async move {
                let event = received("chat", &format!("m{number}"), &text);
                user.deliver(channel, &format!("m{number}"), &event).await
            }
        }));
        let watch = async {
            let mut most = 0;
            for round in 0..40 {
                if round == 20 {
                    proxy.heal();
                    proxy.make(Trouble::Latency(Duration::from_millis(5)));
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                most = most.max(resident(process.id()));
            }
            most
        };
        let (answers, most) = futures_util::join!(flood, watch);
        proxy.heal();
        let refused = answers.iter().filter(|answer| answer.status == 503).count();
        let accepted = answers.iter().filter(|answer| answer.status == 200).count();
        println!("P9: {accepted} accepted, {refused} refused; memory {before} KiB before, {most} KiB at most");
        assert_eq!(accepted + refused, FLOOD, "only 200 and 503");
        assert!(refused > 0, "a full queue pushes back");
        let mut refusals = answers.iter().filter(|answer| answer.status == 503);
        assert!(refusals.all(|answer| answer.headers.contains_key("retry-after")));
        assert!(most < before + CEILING, "memory grows to {most} KiB");

        let texts = texts(&user).await;
        for (number, answer) in answers.iter().enumerate() {
            let count = texts
                .iter()
                .filter(|text| text.starts_with(&format!("m{number} ")))
                .count();
            assert!(
                count <= 1 && (answer.status != 200 || count == 1),
                "m{number}: {count} times"
            );
        }
        user.deliver(&channel, "after", &received("chat", "after", "after"))
            .await
            .expect(200);
    });
}

async fn texts(user: &Client) -> Vec<String> {
    let events = user.events().await;
    history::assert_gapless(&events);
    history::messages(&events).into_iter().map(|entry| entry.text).collect()
}

/// A socket whose client has little room for what it does not read.
async fn narrow_socket(user: &Client, since: Option<&str>) -> Socket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = socket.connect(user.address).await.unwrap();
    let token = user.token.as_deref().unwrap();
    let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
    let url = format!("ws://{}/ws/messages/?token={token}{since}", user.address);
    let mut socket = Socket::over(stream, &url).await;
    assert_eq!(socket.next().await["event"], "authenticated");
    socket
}

#[test]
fn a_client_that_does_not_read_is_closed_with_a_number_and_resumes() {
    support::run(async {
        let database = Database::fresh(Kind::Embedded).await;
        let process = Process::start_with(&database, &[("HUB__WEBSOCKET__BUFFER_BYTES", "262144")]).await;
        let mut user = process.client();
        user.register().await;
        let channel = user.link(&Correspondent::start()).await;
        user.receive(&channel, "chat", "first", "hello").await;
        let page = user.get("/api/events").await.expect(200);
        let (epoch, begin) = (page["epoch"].as_str().unwrap(), user.events().await.len());
        let mut slow = Vec::new();
        for _ in 0..10 {
            slow.push(narrow_socket(&user, None).await);
        }
        let (mut quick, _) = user.socket(None).await;
        let before = resident(process.id());
        let total = 200;
        for number in 0..total {
            let event = received("chat", &format!("m{number}"), &"x".repeat(60_000));
            user.deliver(&channel, &format!("m{number}"), &event).await.expect(200);
            assert_eq!(
                quick.next_event().await["seq"],
                (begin + number + 1) as i64,
                "others are not disturbed"
            );
        }
        let most = resident(process.id());
        println!("P9: ten sockets that do not read: memory {before} KiB before, {most} KiB after 12 MB for each");
        assert!(most < before + 64 * 1_024, "memory grows to {most} KiB");
        for socket in &mut slow {
            let mut seq = begin as i64;
            let code = loop {
                match socket.next_or_close().await {
                    Ok(frame) if frame["seq"].is_i64() => {
                        assert_eq!(frame["seq"], seq + 1);
                        seq += 1;
                    }
                    Ok(_) => {}
                    Err(code) => break code,
                }
            };
            assert_eq!(code, Some(4002), "too slow");
            let (mut again, first) = user.socket(Some(&format!("{epoch}:{seq}"))).await;
            assert_eq!(first["data"]["recovered"], true);
            while seq < (begin + total) as i64 {
                assert_eq!(again.next_event().await["seq"], seq + 1);
                seq += 1;
            }
        }
    });
}

#[test]
fn a_silent_client_is_closed_with_a_number() {
    support::run(async {
        let hub = Hub::start_with(Kind::Embedded, |settings| settings.websocket.ping_seconds = 1).await;
        let user = hub.user().await;
        let (mut awake, _) = user.socket(None).await;
        // Whoever answers a ping of a hub that has closed the connection loses what came before: so only bytes.
        let mut asleep = TcpStream::connect(user.address).await.unwrap();
        let handshake = format!(
            "GET /ws/messages/?token={} HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            user.token.as_deref().unwrap()
        );
        asleep.write_all(handshake.as_bytes()).await.unwrap();
        let stay = async {
            // Whoever waits for a frame answers the hub's pings.
            let waited = tokio::time::timeout(Duration::from_secs(6), awake.next()).await;
            assert!(waited.is_err(), "{waited:?}");
        };
        let sleep = async {
            let mut bytes = Vec::new();
            let ended = tokio::time::timeout(Duration::from_secs(10), asleep.read_to_end(&mut bytes)).await;
            ended.expect("the hub ends it").unwrap();
            // RFC 6455, section 5.5.1: the close frame's number.
            let close = [[0x88, 20].as_slice(), &4004_u16.to_be_bytes(), b"no answer to pings"].concat();
            assert!(bytes.ends_with(&close), "{:?}", String::from_utf8_lossy(&bytes));
        };
        futures_util::join!(stay, sleep);
        hub.stop().await;
    });
}

#[test]
fn a_client_that_sends_without_waiting_is_closed_with_a_number() {
    support::run(async {
        let database = Database::fresh(Kind::Postgres).await;
        let proxy = Proxy::start(database.server(), support::seed());
        let url = database.url_through(proxy.address);
        let process = Process::start_with(&database, &[("HUB__DATABASE__URL", url.as_str())]).await;
        let mut user = process.client();
        user.register().await;
        let channel = user.link(&Correspondent::start()).await;
        let chat = user.receive(&channel, "chat", "first", "hello").await;
        let (mut socket, _) = user.socket(None).await;
        proxy.make(Trouble::Latency(Duration::from_millis(300)));
        for number in 0..200 {
            let data =
                json!({ "conversationId": chat, "content": format!("c{number}"), "clientId": format!("c{number}") });
            if !socket
                .try_send_text(&json!({ "event": "send", "data": data }).to_string())
                .await
            {
                break;
            }
        }
        assert_eq!(socket.closed().await, Some(4503), "too many commands at once");
        proxy.heal();
        let accepted = texts(&user).await;
        assert!(accepted.len() <= 1 + 64, "{}", accepted.len());
        let once: HashSet<&String> = accepted.iter().collect();
        assert_eq!(once.len(), accepted.len());
    });
}
