//! The soak: mixed load on the real binary for a long time. Memory, file descriptors and queues stay flat, and at the
//! end every history is exact: what was accepted is in the stream once, in order, and at the correspondent once.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hub_actors::clock;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::history::{self, Entry};
use crate::support::{self, Channel, Client, Correspondent, Database, Kind, Process, Vitals, median};

const PEOPLE: usize = 6;
const CHATS: usize = 3;
/// Samples in all: a quarter of them are compared with another quarter.
const SAMPLES: u32 = 240;

#[test]
fn everything_stays_flat() {
    let given = std::env::var("HUB_TEST_SOAK_SECONDS")
        .ok()
        .and_then(|seconds| seconds.parse().ok());
    let seconds = given.unwrap_or(if support::is_long() { 3_600 } else { 15 });
    support::run(soak(Duration::from_secs(seconds)));
}

/// Somebody who uses the hub, and what the hub has accepted of this person.
struct Person {
    number: usize,
    client: RefCell<Client>,
    channel: Channel,
    conversations: Vec<String>,
    accepted: RefCell<Vec<Entry>>,
    connections: RefCell<usize>,
    until: Instant,
}

async fn soak(length: Duration) {
    let seed = support::seed();
    let database = Database::fresh(Kind::Postgres).await;
    let process = Process::start(&database).await;
    let correspondent = Correspondent::start();
    let until = clock::instant() + length;
    let mut people = Vec::new();
    for number in 0..PEOPLE {
        people.push(Rc::new(Person::arrive(&process, &correspondent, number, until).await));
    }
    let mut work = Vec::new();
    for person in &people {
        let random = |salt: u64| StdRng::seed_from_u64(seed ^ (person.number as u64 * 100 + salt));
        work.push(actix_rt::spawn(Rc::clone(person).deliver(random(1))));
        work.push(actix_rt::spawn(Rc::clone(person).send(random(2))));
        work.push(actix_rt::spawn(Rc::clone(person).look(random(3))));
        for socket in 0..2 {
            work.push(actix_rt::spawn(Rc::clone(person).listen(random(4 + socket))));
        }
    }
    let restarts = actix_rt::spawn(restart(correspondent.clone(), until, StdRng::seed_from_u64(seed)));
    let samples = sample(&process, length).await;
    for work in work {
        work.await.expect("nobody meets an error");
    }
    let restarts = restarts.await.unwrap();

    let context = format!("soak of {} s, seed {seed}", length.as_secs());
    wait_until_empty(&process, length).await;
    let (received, sent) = check_history(&context, &people, &correspondent).await;
    let connections: usize = people.iter().map(|person| *person.connections.borrow()).sum();
    println!(
        "{context}: {received} messages in, {sent} out, {connections} sockets, {restarts} restarts of the \
         correspondent; lost 0, duplicate 0, reordered 0, phantom 0"
    );
    check_flat(&context, &samples);
}

impl Person {
    async fn arrive(process: &Process, correspondent: &Correspondent, number: usize, until: Instant) -> Self {
        let mut client = process.client();
        client.register().await;
        let channel = client.link(correspondent).await;
        let mut conversations = Vec::new();
        for chat in 0..CHATS {
            let chat = format!("p{number}c{chat}");
            let event = json!({ "type": "conversation.updated", "conversation": { "id": chat, "name": chat } });
            client.deliver(&channel, &chat, &event).await.expect(200);
            conversations.push(client.conversation(&chat).await.expect("it is there"));
        }
        Self {
            number,
            client: RefCell::new(client),
            channel,
            conversations,
            accepted: RefCell::default(),
            connections: RefCell::default(),
            until,
        }
    }

    fn client(&self) -> Client {
        self.client.borrow().clone()
    }

    fn is_over(&self) -> bool {
        clock::instant() >= self.until
    }

    fn accept(&self, lane: String, text: String) {
        self.accepted.borrow_mut().push(Entry::new(lane, text));
    }

    /// Messages come in, and now and then the same ones again.
    async fn deliver(self: Rc<Self>, mut random: StdRng) {
        let mut count = 0;
        while !self.is_over() {
            let chat = format!("p{}c{}", self.number, random.random_range(0..CHATS));
            let texts: Vec<String> = (0..random.random_range(1..4))
                .map(|_| {
                    count += 1;
                    format!("in-p{}-{count}", self.number)
                })
                .collect();
            let events: Vec<Value> = texts.iter().map(|text| support::received(&chat, text, text)).collect();
            let id = format!("p{}-{count}", self.number);
            for _ in 0..=usize::from(random.random_ratio(1, 10)) {
                let client = self.client();
                client
                    .deliver(&self.channel, &id, &Value::Array(events.clone()))
                    .await
                    .expect(200);
            }
            for text in texts {
                self.accept(chat.clone(), text);
            }
            pause(&mut random, 700).await;
        }
    }

    /// Messages go out; the answer comes right after the commit.
    async fn send(self: Rc<Self>, mut random: StdRng) {
        let mut count = 0;
        while !self.is_over() {
            let chat = random.random_range(0..CHATS);
            count += 1;
            let text = format!("out-p{}-{count}", self.number);
            let answer = self
                .client()
                .try_send(&self.conversations[chat], &text, Some(&text), true)
                .await;
            answer.unwrap().expect(202);
            self.accept(format!("out:p{}c{chat}", self.number), text);
            pause(&mut random, 1_000).await;
        }
    }

    /// Looks at the inbox, reads, signs on again before the token ends.
    async fn look(self: Rc<Self>, mut random: StdRng) {
        let mut refreshed = clock::instant();
        while !self.is_over() {
            let client = self.client();
            client
                .get("/api/conversations?platform=custom&max_read=500&limit=500")
                .await
                .expect(200);
            let chat = &self.conversations[random.random_range(0..CHATS)];
            client.get(&format!("/api/messages/{chat}?limit=50")).await.expect(200);
            client
                .patch(&format!("/api/messages/conversation/{chat}/read"), &Value::Null)
                .await
                .expect(200);
            if refreshed.elapsed() > Duration::from_secs(240) {
                refreshed = clock::instant();
                let body = json!({ "refreshToken": client.refresh_token });
                let answer = client.post("/api/auth/refresh", &body).await.expect(200);
                self.client.borrow_mut().keep(&answer);
            }
            pause(&mut random, 3_000).await;
        }
    }

    /// Listens for a while, goes, comes back with the position: every number once.
    async fn listen(self: Rc<Self>, mut random: StdRng) {
        let mut since: Option<(String, i64)> = None;
        while !self.is_over() {
            let position = since.as_ref().map(|(epoch, seq)| format!("{epoch}:{seq}"));
            let (mut socket, first) = self.client().socket(position.as_deref()).await;
            *self.connections.borrow_mut() += 1;
            let data = &first["data"];
            assert_eq!(data["recovered"], since.is_some(), "{first}");
            let (epoch, mut seq) = since.unwrap_or((
                data["epoch"].as_str().unwrap().to_owned(),
                data["seq"].as_i64().unwrap(),
            ));
            let leave_at = clock::instant() + Duration::from_millis(random.random_range(200..8_000));
            while let Some(left) = leave_at.checked_duration_since(clock::instant()) {
                let Ok(frame) = tokio::time::timeout(left, socket.next()).await else {
                    break;
                };
                if let Some(next) = frame["seq"].as_i64() {
                    assert_eq!(next, seq + 1, "{frame}");
                    seq = next;
                }
            }
            drop(socket);
            since = Some((epoch, seq));
            pause(&mut random, 1_500).await;
        }
    }
}

/// Up to twice so many milliseconds would be too regular without chance.
async fn pause(random: &mut StdRng, milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(random.random_range(0..milliseconds * 2))).await;
}

/// The correspondent goes away in the middle of what it does, three times in ten minutes, at least twice in all.
async fn restart(correspondent: Correspondent, until: Instant, mut random: StdRng) -> usize {
    let left = until - clock::instant();
    let pause = (left / 3).min(Duration::from_secs(200));
    let mut count = 0;
    while clock::instant() + pause < until {
        tokio::time::sleep(pause).await;
        correspondent
            .restart(Duration::from_millis(random.random_range(50..2_000)))
            .await;
        count += 1;
    }
    count
}

async fn sample(process: &Process, length: Duration) -> Vec<Vitals> {
    let client = process.client();
    let mut samples = Vec::new();
    for _ in 0..SAMPLES {
        tokio::time::sleep(length / SAMPLES).await;
        samples.push(Vitals::of(process.id(), &client).await);
    }
    samples
}

/// What waits for the correspondent leaves.
async fn wait_until_empty(process: &Process, length: Duration) {
    let client = process.client();
    let patience = clock::instant() + Duration::from_secs(60) + length / 20;
    while Vitals::of(process.id(), &client).await.outbox > 0 {
        assert!(clock::instant() < patience, "the outbox does not empty");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn check_history(context: &str, people: &[Rc<Person>], correspondent: &Correspondent) -> (usize, usize) {
    let (mut received, mut sent) = (0, Vec::new());
    for person in people {
        let mut accepted = person.accepted.take();
        let events = person.client().events().await;
        history::assert_gapless(&events);
        let differences = history::differences(&accepted, &history::messages(&events));
        assert!(differences.is_empty(), "{context}: stream: {differences:#?}");
        let all = accepted.len();
        accepted.retain(|entry| entry.lane.starts_with("out:"));
        received += all - accepted.len();
        sent.append(&mut accepted);
    }
    let mut known = HashSet::new();
    let once: Vec<Entry> = correspondent
        .messages()
        .into_iter()
        .filter(|(id, ..)| known.insert(id.clone()))
        .map(|(_, chat, text)| Entry::new(format!("out:{chat}"), text))
        .collect();
    let differences = history::differences(&sent, &once);
    assert!(differences.is_empty(), "{context}: correspondent: {differences:#?}");
    (received, sent.len())
}

/// The last quarter uses what the second one used.
fn check_flat(context: &str, samples: &[Vitals]) {
    let quarter = samples.len() / 4;
    let (second, last) = (&samples[quarter..2 * quarter], &samples[3 * quarter..]);
    let middle = |samples: &[Vitals], of: fn(&Vitals) -> usize| median(samples.iter().map(of).collect());
    let most = |samples: &[Vitals], of: fn(&Vitals) -> usize| samples.iter().map(of).max().unwrap_or_default();
    let resident = [second, last].map(|samples| middle(samples, |sample| sample.resident));
    let files = [second, last].map(|samples| middle(samples, |sample| sample.files));
    let outbox = [second, last].map(|samples| most(samples, |sample| sample.outbox));
    let mailboxes = [second, last].map(|samples| most(samples, |sample| sample.mailboxes));
    println!(
        "{context}: second and last quarter: resident {resident:?} KiB, files {files:?}, most in the outbox {outbox:?}, \
         most in mailboxes {mailboxes:?}"
    );
    // A short run is still warming up.
    assert!(
        resident[1] < resident[0] + resident[0] / 10 + 8 * 1_024,
        "{context}: memory grows: {resident:?} KiB"
    );
    assert!(files[1] <= files[0] + 10, "{context}: files are left open: {files:?}");
    assert!(
        outbox[1] <= outbox[0].max(50) * 2,
        "{context}: the outbox grows: {outbox:?}"
    );
    assert!(
        mailboxes[1] <= mailboxes[0].max(50) * 2,
        "{context}: mailboxes grow: {mailboxes:?}"
    );
}
