//! P11: a socket that resumes from (epoch, number) has every event once, in order: connections are cut at random bytes
//! in either direction while events go on being made, or their place in the stream is refused by `recovered: false`.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use super::history;
use crate::support::{Channel, Client, Correspondent, Direction, Hub, Kind, Proxy, Socket};
use crate::{on_both_databases, support};

on_both_databases!(cut_at_random_bytes);

/// Sockets of one person, each behind a proxy of its own.
const LISTENERS: usize = 4;
/// Events that come at once now and then: more than the hub keeps in memory for those who were away.
const BURST: usize = 300;

async fn cut_at_random_bytes(kind: Kind) {
    let seed = support::seed();
    let cuts = if support::is_long() { 500 } else { 24 };
    let hub = Hub::start(kind).await;
    let user = hub.user().await;
    let channel = user.link(&Correspondent::start()).await;
    user.receive(&channel, "chat", "first", "hello").await;
    let page = user.get("/api/events").await.expect(200);
    let epoch = page["epoch"].as_str().unwrap().to_owned();
    let begin = i64::try_from(user.events().await.len()).unwrap();

    let (finish, finished) = tokio::sync::watch::channel(false);
    let publisher = actix_rt::spawn(publish(seed, user.clone(), channel, finished.clone()));
    let listeners: Vec<_> = (0..LISTENERS)
        .map(|number| {
            let listener = Listener::new(&user, number, seed, format!("{epoch}:{begin}"));
            actix_rt::spawn(listener.cut_and_resume(cuts / LISTENERS))
        })
        .collect();
    let mut listeners: Vec<Listener> = {
        let mut done = Vec::new();
        for listener in listeners {
            done.push(listener.await.unwrap());
        }
        done
    };
    finish.send_replace(true);
    publisher.await.unwrap();

    let events = user.events().await;
    history::assert_gapless(&events);
    let later = &events[usize::try_from(begin).unwrap()..];
    let (mut lost, mut duplicate, mut reordered, mut cut) = (0, 0, 0, 0);
    for listener in &mut listeners {
        listener.hear_the_rest(events.len()).await;
        let heard = history::numbers(&listener.heard);
        cut += listener.proxy.cuts();
        lost += later.len() - heard.iter().collect::<std::collections::HashSet<_>>().len();
        duplicate += heard.len() - heard.iter().collect::<std::collections::HashSet<_>>().len();
        reordered += heard.windows(2).filter(|pair| pair[1] < pair[0]).count();
        for (frame, event) in listener.heard.iter().zip(later) {
            assert_eq!(frame["event"], event["event"], "seed {seed}: {frame}");
            assert_eq!(
                frame["data"]["message"], event["data"]["message"],
                "seed {seed}: the same event under the same number"
            );
        }
    }
    println!(
        "P11 {kind:?}: seed {seed}, {cut} cuts, {} events for {LISTENERS} sockets, lost {lost}, duplicate {duplicate}, \
         reordered {reordered}",
        later.len()
    );
    assert_eq!((lost, duplicate, reordered), (0, 0, 0), "seed {seed}");
    assert!(cut >= cuts as u64, "seed {seed}: {cut} cuts");
    hub.stop().await;
}

/// What retention has deleted cannot be resumed: `recovered: false`, or, when that turns out only while the socket
/// catches up, close code 4003. Either way the client begins at the position that it is told.
#[test]
fn what_has_been_deleted_is_said() {
    support::run(async {
        let hub = Hub::start(Kind::Postgres).await;
        for is_online in [false, true] {
            let user = hub.user().await;
            let channel = user.link(&Correspondent::start()).await;
            for number in 0..8 {
                user.receive(&channel, "chat", &format!("m{number}"), "old").await;
            }
            let page = user.get("/api/events").await.expect(200);
            let epoch = page["epoch"].as_str().unwrap().to_owned();
            let last = user.events().await.len() as i64;
            // A session that is in memory already knows the bounds of before.
            let online = if is_online { Some(user.socket(None).await) } else { None };
            let trim = format!(
                "WITH trimmed AS (UPDATE users SET trimmed_seq = 6 WHERE id = '{0}' RETURNING id) \
                 DELETE FROM events WHERE user_id = '{0}' AND seq <= 6 RETURNING seq",
                user.user_id
            );
            assert_eq!(hub.database.query(&trim).await.len(), 6);
            user.get("/api/events?after=3").await.expect(410);
            let (mut socket, first) = user.socket(Some(&format!("{epoch}:3"))).await;
            if is_online {
                assert_eq!(socket.closed().await, Some(4003));
                (socket, _) = user.socket(None).await;
            } else {
                assert_eq!(
                    (&first["data"]["recovered"], &first["data"]["seq"]),
                    (&Value::Bool(false), &last.into())
                );
            }
            user.receive(&channel, "chat", "new", "new").await;
            assert_eq!(socket.next_event().await["seq"], last + 1);
            let (mut socket, first) = user.socket(Some(&format!("{epoch}:6"))).await;
            assert_eq!(first["data"]["recovered"], true, "everything after it is still there");
            assert_eq!(socket.next_event().await["seq"], 7);
            drop(online);
        }
        hub.stop().await;
    });
}

/// A damaged event ends whoever asks across it in the same way, instead of for ever at the same place.
#[test]
fn what_cannot_be_read_is_said() {
    support::run(async {
        let hub = Hub::start(Kind::Postgres).await;
        let user = hub.user().await;
        let channel = user.link(&Correspondent::start()).await;
        for number in 0..8 {
            user.receive(&channel, "chat", &format!("m{number}"), "old").await;
        }
        let page = user.get("/api/events").await.expect(200);
        let epoch = page["epoch"].as_str().unwrap().to_owned();
        let last = user.events().await.len() as i64;
        let spoil = format!(
            "UPDATE events SET payload = payload || '\\x00' WHERE user_id = '{}' AND seq = 5 RETURNING seq",
            user.user_id
        );
        assert_eq!(hub.database.query(&spoil).await.len(), 1);

        let page = user.get("/api/events?after=3").await.expect(200);
        assert_eq!(
            (&page["next"], &page["hasMore"]),
            (&format!("{epoch}:4").into(), &true.into())
        );
        let gone = user.get("/api/events?after=4").await.expect(410);
        assert_eq!(gone["error"]["details"]["position"], format!("{epoch}:{last}"));
        assert_eq!(user.get("/api/events?after=5").await.expect(200)["events"][0]["seq"], 6);

        let (mut socket, _) = user.socket(Some(&format!("{epoch}:3"))).await;
        assert_eq!(socket.next_event().await["seq"], 4);
        assert_eq!(socket.closed().await, Some(4003));
        let (mut socket, first) = user.socket(None).await;
        assert_eq!(first["data"]["seq"], last);
        user.receive(&channel, "chat", "new", "new").await;
        assert_eq!(socket.next_event().await["seq"], last + 1);
        hub.stop().await;
    });
}

/// Messages come in all the time, one by one and now and then very many.
async fn publish(seed: u64, user: Client, channel: Channel, finished: tokio::sync::watch::Receiver<bool>) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut number = 0;
    while !*finished.borrow() {
        let count = if number == 0 || random.random_ratio(1, 40) {
            BURST
        } else {
            random.random_range(1..4)
        };
        let messages = (0..count).map(|_| {
            number += 1;
            let chat = format!("chat{}", random.random_range(0..5));
            let text = "x".repeat(random.random_range(1..400));
            support::received(&chat, &format!("m{number}"), &format!("{number} {text}"))
        });
        let events: Vec<Value> = messages.collect();
        user.deliver(&channel, &format!("d{number}"), &Value::Array(events))
            .await
            .expect(200);
        tokio::time::sleep(Duration::from_millis(random.random_range(0..20))).await;
    }
}

/// A client with a position, as docs/API.md tells clients to do it.
struct Listener {
    client: Client,
    proxy: Proxy,
    random: StdRng,
    since: String,
    heard: Vec<Value>,
}

impl Listener {
    fn new(client: &Client, number: usize, seed: u64, since: String) -> Self {
        let seed = seed.wrapping_add(1 + number as u64);
        let proxy = Proxy::start(client.address, seed);
        Self {
            client: client.at(proxy.address),
            proxy,
            random: StdRng::seed_from_u64(seed),
            since,
            heard: Vec::new(),
        }
    }

    /// Connects, hears, is cut, comes back, so many times; sometimes only after a while.
    async fn cut_and_resume(mut self, cuts: usize) -> Self {
        while self.proxy.cuts() < cuts as u64 {
            let is_up = self.random.random_ratio(1, 4);
            // The first hundreds of bytes are the handshake.
            let (direction, bytes) = if is_up {
                (Direction::Up, self.random.random_range(0..1_500))
            } else {
                (Direction::Down, self.random.random_range(0..40_000))
            };
            self.proxy.cut_after(direction, bytes);
            if let Some(mut socket) = self.connect().await {
                while self.hear(&mut socket).await {
                    if is_up {
                        socket.try_send_text(r#"{"event":"ping"}"#).await;
                    }
                }
            }
            if self.random.random_ratio(1, 5) {
                tokio::time::sleep(Duration::from_millis(self.random.random_range(0..500))).await;
            }
        }
        self
    }

    /// One try; none when it is cut during the handshake or before the first frame.
    async fn connect(&mut self) -> Option<Socket> {
        let token = self.client.token.as_deref().unwrap();
        let url = format!(
            "ws://{}/ws/messages/?token={token}&since={}",
            self.client.address, self.since
        );
        let mut socket = Socket::try_open(url.as_str()).await.ok()?;
        let first = socket.next_or_close().await.ok()?;
        assert_eq!(first["event"], "authenticated");
        assert_eq!(first["data"]["recovered"], true, "nothing has been deleted: {first}");
        Some(socket)
    }

    /// The next frame; false when the connection is over.
    async fn hear(&mut self, socket: &mut Socket) -> bool {
        let Ok(frame) = socket.next_or_close().await else {
            return false;
        };
        if let Some(seq) = frame["seq"].as_i64() {
            self.since = format!("{}:{seq}", frame["epoch"].as_str().unwrap());
            self.heard.push(frame);
        }
        true
    }

    async fn hear_the_rest(&mut self, last: usize) {
        self.proxy.heal();
        let mut socket = self.connect().await.expect("nothing is cut any more");
        while self
            .heard
            .last()
            .is_none_or(|event| event["seq"].as_i64() < Some(last as i64))
        {
            assert!(self.hear(&mut socket).await, "nothing is cut any more");
        }
    }
}
