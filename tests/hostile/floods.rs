//! Too many, too slow, too large: all bounded, and somebody else is served meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hub_actors::clock::instant;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::raw::{self, connect, connect_from, read_to_end, status};
use crate::support::{self, Channel, Client, Correspondent, sign};
use crate::target::Target;

/// Longest that one request of the bystander may take while the hub is flooded: far more than it does, far less than
/// what a client would give up after.
const BYSTANDER_PATIENCE: Duration = Duration::from_secs(5);

/// Somebody who works while others flood: fifty requests, each in time.
async fn bystander_works(client: &Client) {
    let mut longest = Duration::ZERO;
    for _ in 0..50 {
        let begun = instant();
        // A connection of its own, as a new client would have.
        let fresh = Client {
            http: Client::new(client.address).http,
            ..client.clone()
        };
        let answer = tokio::time::timeout(BYSTANDER_PATIENCE, fresh.get("/api/auth/me")).await;
        answer.expect("the bystander is served").expect(200);
        longest = longest.max(begun.elapsed());
    }
    println!("bystander: longest of 50 requests {longest:?}");
}

/// Measures the hub's memory now and then; the most it had.
struct Watch {
    is_over: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
}

impl Watch {
    fn start(target: &Target) -> Self {
        let (is_over, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (over, highest, measure) = (Arc::clone(&is_over), Arc::clone(&most), target.hub.memory());
        actix_rt::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                highest.fetch_max(measure(), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self { is_over, most }
    }

    fn assert_below(&self, mebibytes: u64) {
        self.is_over.store(true, Ordering::Relaxed);
        let most = self.most.load(Ordering::Relaxed) >> 20;
        println!("at most {most} MiB resident, allowed {mebibytes}");
        assert!(most < mebibytes, "{most} MiB resident");
    }
}

/// Deliveries of ten messages to each person.
const DELIVERIES: usize = 8;

fn scaled(short: usize, long: usize) -> usize {
    if support::is_long() { long } else { short }
}

#[test]
fn silent_connections_and_slow_requests_are_ended_and_cost_others_nothing() {
    let target = Target::start_with(&[("HUB__SERVER__BODY_SECONDS", "3")]);
    target.run(async {
        let (bystander, watch) = (target.user().await, Watch::start(&target));
        let count = scaled(3_000, 8_000);
        let mut silent = Vec::with_capacity(count);
        for number in 0..count {
            silent.push(connect_from(2 + (number % 50) as u8, target.hub.address).await.expect("a connection"));
        }
        let (mut heads, mut bodies) = (Vec::new(), Vec::new());
        for number in 0..200_u8 {
            let mut head = connect_from(60 + number % 50, target.hub.address).await.unwrap();
            head.write_all(b"GET /api/auth/me HTTP/1.1\r\nHost: hub\r\nX-Slow: ").await.unwrap();
            heads.push(head);
            for path in ["/api/auth/login", "/api/webhooks/custom/0190a3c4-0000-7000-8000-00000000abcd", "/api/nothing"] {
                let mut body = connect_from(110 + number % 50, target.hub.address).await.unwrap();
                let request = format!("POST {path} HTTP/1.1\r\nHost: hub\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{");
                body.write_all(request.as_bytes()).await.unwrap();
                bodies.push((path, body));
            }
        }
        let mut token = connect(target.hub.address).await;
        let link = format!(
            "POST /api/accounts/custom HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n",
            bystander.token.as_deref().unwrap()
        );
        token.write_all(link.as_bytes()).await.unwrap();
        bodies.push(("/api/accounts/custom", token));
        let mut chunked = connect(target.hub.address).await;
        let request = "POST /api/nothing HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n";
        chunked.write_all(request.as_bytes()).await.unwrap();
        bodies.push(("/api/nothing", chunked));
        // A drop now and then does not buy more time.
        let dripping: Vec<_> = heads.into_iter().map(|head| actix_rt::spawn(drip(head, b"x"))).collect();
        bystander_works(&bystander).await;
        for (path, mut body) in bodies {
            let answer = read_to_end(&mut body, Duration::from_secs(20)).await.unwrap_or_else(|| panic!("{path}: a slow body has no end"));
            let expected = if path == "/api/nothing" { 404 } else { 408 };
            assert_eq!(status(&answer), Some(expected), "{path}: {}", String::from_utf8_lossy(&answer));
            let text = String::from_utf8_lossy(&answer);
            assert!(expected == 404 || text.contains("The request body took too long to arrive."), "{text}");
        }
        for head in dripping {
            assert!(head.await.unwrap(), "a slow head ends");
        }
        for mut connection in silent {
            read_to_end(&mut connection, Duration::from_secs(20)).await.expect("a silent connection ends");
        }
        bystander_works(&bystander).await;
        watch.assert_below(224);
    });
    target.assert_well();
}

#[test]
fn a_body_without_an_end_ends_also_where_nobody_reads_it() {
    let target = Target::start_with(&[
        ("HUB__SERVER__TRUSTED_PROXIES", "127.0.0.0/8"),
        ("HUB__SERVER__HTTPS_REDIRECT", "true"),
        ("HUB__SERVER__CORS_ORIGINS", "https://inbox.example.org"),
    ]);
    target.run(async {
        let shake_hands = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
        let preflight = "Origin: https://inbox.example.org\r\nAccess-Control-Request-Method: GET\r\n";
        let cases = [
            ("OPTIONS /x", preflight.to_owned(), 200),
            ("POST /ws/x", String::new(), 404),
            ("POST /ws/x", shake_hands.to_owned(), 404),
            ("GET /ws/messages/", String::new(), 403),
            ("GET /ws/messages/", shake_hands.to_owned(), 403),
            ("GET /", "X-Forwarded-Proto: http\r\n".to_owned(), 308),
            ("GET /health", String::new(), 200),
        ];
        let mut open = Vec::new();
        for (line, headers, expected) in &cases {
            for more in ["", "5\r\nhello\r\n"] {
                let mut stream = connect(target.hub.address).await;
                let head = format!("{line} HTTP/1.1\r\nHost: hub\r\n{headers}Transfer-Encoding: chunked\r\n\r\n{more}");
                stream.write_all(head.as_bytes()).await.unwrap();
                open.push((format!("{line} {headers}"), stream, *expected));
            }
        }
        for (name, mut stream, expected) in open {
            let answer = read_to_end(&mut stream, Duration::from_secs(10)).await;
            let answer = answer.unwrap_or_else(|| panic!("{name}: the connection stays open"));
            assert_eq!(
                status(&answer),
                Some(expected),
                "{name}: {}",
                String::from_utf8_lossy(&answer)
            );
        }
    });
    target.assert_well();
}

/// Sends a byte each half second until the other side ends. True when it does.
async fn drip(mut stream: TcpStream, byte: &[u8]) -> bool {
    for _ in 0..60 {
        if stream.write_all(byte).await.is_err() || read_to_end(&mut stream, Duration::from_millis(500)).await.is_some()
        {
            return true;
        }
    }
    false
}

#[test]
fn sockets_that_never_read_are_cut_off_and_keep_nothing() {
    let target = Target::start();
    target.run(async {
        let (bystander, peer) = (target.user().await, Correspondent::start());
        let users = scaled(300, 10_000).div_ceil(60);
        let mut people = Vec::new();
        for _ in 0..users {
            let person = target.user().await;
            let channel = person.link(&peer).await;
            people.push((person, channel));
        }
        let mut sockets = Vec::new();
        for (number, (person, _)) in people.iter().enumerate() {
            for _ in 0..60 {
                let mut stream = connect_from(2 + (number % 200) as u8, target.hub.address)
                    .await
                    .unwrap();
                assert_eq!(raw::shake_hands(&mut stream, person, "").await, 101);
                sockets.push(stream);
            }
        }
        println!("{} sockets that do not read", sockets.len());
        let begun = instant();
        let watch = Watch::start(&target);
        let flood =
            futures_util::future::join_all(people.iter().map(|(person, channel)| deliver_much(person, channel)));
        futures_util::future::join(flood, bystander_works(&bystander)).await;
        println!("flooded for {:?}", begun.elapsed());
        let scraped = support::until("the slow sockets are told", async || {
            let mut operator = bystander.clone();
            operator.token = Some(support::ADMIN_TOKEN.to_owned());
            let metrics = operator.get("/metrics").await.text;
            (!metrics.is_empty()).then_some(metrics)
        })
        .await;
        println!(
            "{}",
            scraped
                .lines()
                .filter(|line| line.starts_with("hub_sockets"))
                .collect::<String>()
        );
        watch.assert_below(scaled(320, 2_048) as u64);
        // Who reads again soon has all, or is told to come back (4002, which P9 tests); who reads again when the last bytes
        // have waited too long finds the connection gone.
        let endings = futures_util::future::join_all(sockets.iter_mut().step_by(29).map(read_on)).await;
        println!("{endings:?}, read after {:?}", begun.elapsed());
        assert!(
            endings.iter().any(|ending| *ending != Ending::HasAll),
            "the flood is too small to tell"
        );
        drop(sockets);
        let (mut again, first) = people[0].0.socket(None).await;
        assert_eq!(first["event"], "authenticated");
        again.send(&json!({ "event": "ping" })).await;
        assert_eq!(again.next_named("pong").await["event"], "pong");
    });
    target.assert_well_below(2 << 30);
}

/// Almost five MiB in 80 messages: what the system keeps for a connection and what may wait for a socket do not hold it.
async fn deliver_much(person: &Client, channel: &Channel) {
    for number in 0..DELIVERIES {
        let text = "x".repeat(60_000);
        let events: Vec<_> = (0..10)
            .map(|index| support::received("flood", &format!("{number}-{index}"), &text))
            .collect();
        let answer = person
            .deliver(channel, &format!("flood-{number}"), &json!(events))
            .await;
        answer.expect(200);
    }
}

#[derive(Debug, PartialEq)]
enum Ending {
    HasAll,
    ToldToComeBack,
    CutOff,
}

async fn read_on(stream: &mut TcpStream) -> Ending {
    let last = format!("\"{}-9\"", DELIVERIES - 1);
    while let Some((first, payload)) = raw::next_frame(stream).await {
        if first == 0x88 {
            let code = payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
            assert_eq!(code, Some(4002));
            return Ending::ToldToComeBack;
        }
        if String::from_utf8_lossy(&payload).contains(&last) {
            return Ending::HasAll;
        }
    }
    Ending::CutOff
}

/// Sends a GiB until the hub ends it; what it said, and how many MiB had been sent when it said it.
async fn send_endlessly(client: &Client, head: &str, is_chunked: bool) -> (Vec<u8>, u64) {
    let stream = connect(client.address).await;
    let (mut reader, mut writer) = stream.into_split();
    let head = head.to_owned();
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let writing = actix_rt::spawn(async move {
        if writer.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        let piece = vec![b' '; 1 << 20];
        for _ in 0..1_024 {
            let (before, after) = if is_chunked {
                (&b"100000\r\n"[..], &b"\r\n"[..])
            } else {
                (&b""[..], &b""[..])
            };
            let writing = async {
                writer.write_all(before).await?;
                writer.write_all(&piece).await?;
                writer.write_all(after).await
            };
            if writing.await.is_err() {
                return;
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (mut answer, mut at_answer) = (Vec::new(), None);
    let reading = async {
        use tokio::io::AsyncReadExt;
        let mut piece = vec![0; 4_096];
        while let Ok(count @ 1..) = reader.read(&mut piece).await {
            at_answer.get_or_insert_with(|| sent.load(Ordering::Relaxed));
            answer.extend_from_slice(&piece[..count]);
            if answer.len() > 12 {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reading)
        .await
        .expect("the hub ends it");
    writing.abort();
    let taken = at_answer.unwrap_or_else(|| sent.load(Ordering::Relaxed));
    (answer, taken)
}

#[test]
fn a_body_of_a_gibibyte_is_refused_early() {
    let target = Target::start();
    target.run(async {
        let person = target.user().await;
        let channel = person.link(&Correspondent::start()).await;
        let conversation = person.receive(&channel, "chat", "message", "hello").await;
        let watch = Watch::start(&target);
        let paths = [
            "/api/auth/login".to_owned(),
            "/api/accounts/custom".to_owned(),
            format!("/api/webhooks/custom/{}", channel.account_id),
            format!("/api/messages/{conversation}/send"),
            "/api/nothing".to_owned(),
            "/".to_owned(),
        ];
        let token = person.token.clone().unwrap();
        for path in &paths {
            for length in ["Content-Length: 1073741824", "Transfer-Encoding: chunked"] {
                let head = format!(
                    "POST {path} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n{length}\r\n\r\n"
                );
                let (answer, taken) = send_endlessly(&person, &head, length.ends_with("chunked")).await;
                println!("{path} {length}: {:?} after {taken} MiB", status(&answer));
                // An end without an answer is one too: the client still writes when it comes.
                if let Some(status) = status(&answer) {
                    assert!(matches!(status, 413 | 404 | 405), "{path}: {status}");
                }
                assert!(taken < 64, "{path}: {taken} MiB were taken");
            }
        }
        bystander_works(&person).await;
        watch.assert_below(192);
    });
    target.assert_well();
}

#[test]
fn large_and_deep_json_is_refused_and_costs_others_nothing() {
    let target = Target::start_with(&[("HUB__SERVER__MAX_BODY_BYTES", "8388608")]);
    target.run(async {
        let person = target.user().await;
        let channel = person.link(&Correspondent::start()).await;
        let conversation = person.receive(&channel, "chat", "message", "hello").await;
        let watch = Watch::start(&target);
        let million = |item: &str| format!("[{}{item}]", format!("{item},").repeat(999_999));
        let fields: String = (0..300_000).map(|number| format!("\"{number}\":0,")).collect();
        let bodies = [
            million("0"),
            million("{}"),
            million("\"\""),
            "[".repeat(100_000) + &"]".repeat(100_000),
            "{\"content\":".repeat(100_000) + &"}".repeat(100_000),
            format!("{{{fields}\"content\":\"x\"}}"),
            format!("{{\"content\":{}}}", million("0")),
            format!("{{\"content\":\"{}\"}}", "\\u0000".repeat(1_000_000)),
        ];
        let work = async {
            for body in &bodies {
                for path in [
                    "/api/auth/login",
                    "/api/accounts/custom",
                    &format!("/api/messages/{conversation}/send"),
                ] {
                    let request = person
                        .request(reqwest::Method::POST, path)
                        .header("content-type", "application/json");
                    let answer = support::answer(request.body(body.clone())).await;
                    let status = answer.status.as_u16();
                    // An object with one good field and many unknown ones is a good one.
                    assert!(matches!(status, 201 | 202 | 400), "{path}: {answer:?}");
                    assert!(answer.text.len() < 2_000, "{path}: {} bytes", answer.text.len());
                }
                let time = support::now();
                let signature = sign(&channel.secret, "large", time, body.as_bytes());
                let request = person.http.post(format!(
                    "http://{}/api/webhooks/custom/{}",
                    person.address, channel.account_id
                ));
                let request = request.header("webhook-id", "large").header("webhook-timestamp", time);
                let request = request.header("webhook-signature", signature).body(body.clone());
                // Genuine, but nothing that can be understood.
                support::answer(request).await.expect(200);
            }
        };
        futures_util::future::join(work, bystander_works(&person)).await;
        watch.assert_below(512);
    });
    target.assert_well_below(512 << 20);
}

#[test]
fn long_headers_and_many_requests_at_once_are_bounded() {
    let target = Target::start();
    target.run(async {
        let (bystander, watch) = (target.user().await, Watch::start(&target));
        let token = bystander.token.clone().unwrap();
        let mut heads = vec![
            format!("GET / HTTP/1.1\r\nHost: hub\r\nX-Long: {}\r\n\r\n", "x".repeat(1 << 20)),
            format!("GET /{} HTTP/1.1\r\nHost: hub\r\n\r\n", "x".repeat(1 << 20)),
            format!("GET / HTTP/1.1\r\nHost: hub\r\n{}\r\n", "A: b\r\n".repeat(100_000)),
            format!(
                "GET / HTTP/1.1\r\nHost: hub\r\nCookie: {}\r\n\r\n",
                "a=b; ".repeat(200_000)
            ),
            format!(
                "GET / HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {}\r\n\r\n",
                "x".repeat(60_000)
            ),
            format!("{} / HTTP/1.1\r\nHost: hub\r\n\r\n", "X".repeat(1 << 20)),
        ];
        // No end of the head at all.
        heads.push("GET / HTTP/1.1\r\nX: ".to_owned() + &"x".repeat(1 << 20));
        for head in &heads {
            let mut stream = connect(target.hub.address).await;
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.shutdown().await;
            let answer = read_to_end(&mut stream, Duration::from_secs(20)).await.expect("an end");
            if let Some(status) = status(&answer) {
                assert!(matches!(status, 200 | 400..=499), "{status}");
            }
        }
        let request = format!("GET /api/auth/me HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {token}\r\n\r\n");
        let mut readers = connect(target.hub.address).await;
        let (mut answers, mut requests) = readers.split();
        let writing = async {
            requests.write_all(request.repeat(10_000).as_bytes()).await.unwrap();
        };
        let reading = async {
            use tokio::io::AsyncReadExt;
            let (mut answered, mut rest, mut piece) = (0, Vec::new(), vec![0; 65_536]);
            while answered < 10_000 {
                let reading = tokio::time::timeout(raw::PATIENCE, answers.read(&mut piece)).await;
                let count = reading.expect("answers go on coming").unwrap();
                assert_ne!(count, 0, "the connection ended after {answered} answers");
                rest.extend_from_slice(&piece[..count]);
                while let Some(place) = rest.windows(12).position(|window| window == b"HTTP/1.1 200") {
                    answered += 1;
                    rest.drain(..place + 12);
                }
            }
            answered
        };
        // One who asks much and reads nothing.
        let mut deaf = connect_from(9, target.hub.address).await.unwrap();
        let _ = tokio::time::timeout(
            Duration::from_secs(2),
            deaf.write_all(request.repeat(10_000).as_bytes()),
        )
        .await;
        let (answered, (), ()) = futures_util::future::join3(reading, writing, bystander_works(&bystander)).await;
        assert_eq!(answered, 10_000);
        watch.assert_below(192);
    });
    target.assert_well();
}
