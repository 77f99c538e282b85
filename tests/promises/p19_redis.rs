//! P19: Redis is emptied, started anew and taken away while two hubs on one database work: nothing is lost, no request
//! fails or takes long, and who listens at one hub to what the other commits hears it late at worst.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hub_actors::clock;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::history::{self, Entry};
use crate::support::{self, Channel, Client, Correspondent, Database, Kind, Process, Socket};

/// Longest time for any request.
const PATIENCE: Duration = Duration::from_secs(3);

/// A Redis of its own.
struct Redis {
    port: u16,
    folder: TempDir,
    child: Child,
}

impl Redis {
    async fn start() -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let folder = tempfile::tempdir().expect("a folder");
        let child = serve(port, &folder);
        let redis = Self { port, folder, child };
        redis.answers().await;
        redis
    }

    async fn answers(&self) {
        support::until("Redis answers", async || {
            (self.ask("PING").await? == "+PONG").then_some(())
        })
        .await;
    }

    async fn ask(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.ok()?;
        stream.write_all(format!("{command}\r\n").as_bytes()).await.ok()?;
        let mut answer = [0; 64];
        let length = stream.read(&mut answer).await.ok()?;
        Some(String::from_utf8_lossy(&answer[..length]).trim().to_owned())
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    async fn restart(&mut self, away: Duration) {
        self.kill();
        tokio::time::sleep(away).await;
        self.child = serve(self.port, &self.folder);
        self.answers().await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serve(port: u16, folder: &TempDir) -> Child {
    Command::new("redis-server")
        .args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--port",
            &port.to_string(),
        ])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server starts: ./test.sh installs it")
}

/// A person who is at both hubs.
struct Person {
    hubs: [Client; 2],
    channel: Channel,
    conversation: String,
    accepted: Vec<Entry>,
}

#[test]
fn nothing_is_lost_when_redis_is_emptied_or_gone() {
    support::run(async {
        let mut redis = Redis::start().await;
        let database = Database::fresh(Kind::Postgres).await;
        let url = format!("redis://127.0.0.1:{}/", redis.port);
        let settings = [("HUB__REDIS__URL", url.as_str())];
        let hubs = [
            Process::start_with(&database, &settings).await,
            Process::start_with(&database, &settings).await,
        ];
        let correspondent = Correspondent::start();
        let mut user = hubs[0].client();
        user.register().await;
        let channel = user.link(&correspondent).await;
        let mut person = Person {
            conversation: user.receive(&channel, "chat", "first", "first").await,
            hubs: [user.clone(), user.at(hubs[1].address)],
            channel,
            accepted: vec![Entry::new("chat", "first")],
        };
        let (socket, first) = person.hubs[0].socket(None).await;
        let begin = first["data"]["seq"].as_i64().unwrap();
        let listener = actix_rt::spawn(listen(socket));

        let rounds = if support::is_long() { 50 } else { 2 };
        for round in 0..rounds {
            person.work(&format!("{round} as always")).await;
            assert_eq!(redis.ask("FLUSHALL").await.unwrap(), "+OK");
            person.work(&format!("{round} emptied")).await;
            redis.restart(Duration::from_millis(300)).await;
            person.work(&format!("{round} anew")).await;
        }
        redis.kill();
        person.work("gone").await;
        let health = person.hubs[1].get("/health").await.expect(200);
        assert_eq!(health["services"]["redis"], "disconnected", "{health}");
        // Word of the last message has no way to the other hub: it looks by itself.
        person.receive(1, "the end").await;
        let heard = listener.await.unwrap();
        person.check(&heard, begin, &correspondent).await;
        println!(
            "P19: {} messages, lost 0, duplicate 0, reordered 0",
            person.accepted.len()
        );
    });
}

impl Person {
    /// Messages come and go at both hubs.
    async fn work(&mut self, what: &str) {
        for hub in [0, 1, 1, 0] {
            self.receive(hub, &format!("in {what} {}", self.accepted.len())).await;
            let text = format!("out {what} {}", self.accepted.len());
            let begun = clock::instant();
            let sent = self.hubs[hub].send(&self.conversation, &text, None).await;
            assert!(sent.status.is_success(), "{}", sent.text);
            assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
            self.accepted.push(Entry::new("out:chat", text));
        }
    }

    async fn receive(&mut self, hub: usize, text: &str) {
        let begun = clock::instant();
        let event = support::received("chat", text, text);
        let id = text.replace(' ', "-");
        self.hubs[hub].deliver(&self.channel, &id, &event).await.expect(200);
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        self.accepted.push(Entry::new("chat", text));
    }

    async fn check(&self, heard: &[Value], begin: i64, correspondent: &Correspondent) {
        let events = self.hubs[1].events().await;
        history::assert_gapless(&events);
        let differences = history::differences(&self.accepted, &history::messages(&events));
        assert!(differences.is_empty(), "stream: {differences:#?}");
        let expected: Vec<i64> = (begin + 1..).take(heard.len()).collect();
        assert_eq!(
            history::numbers(heard),
            expected,
            "the socket heard all, once, in order"
        );
        assert_eq!(heard.len(), events.len() - usize::try_from(begin).unwrap());
        let sent: Vec<Entry> = correspondent
            .messages()
            .into_iter()
            .map(|(_, chat, text)| Entry::new(format!("out:{chat}"), text))
            .collect();
        let mut own = self.accepted.clone();
        own.retain(|entry| entry.lane == "out:chat");
        let differences = history::differences(&own, &sent);
        assert!(differences.is_empty(), "correspondent: {differences:#?}");
    }
}

/// Everything that a socket hears, over one connection, until the last message.
async fn listen(mut socket: Socket) -> Vec<Value> {
    let mut heard = Vec::new();
    loop {
        let event = socket.next_event().await;
        let is_last = event["data"]["message"]["content"] == "the end";
        heard.push(event);
        if is_last {
            return heard;
        }
    }
}
