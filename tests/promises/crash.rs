//! People who write, while the hub is killed under them again and again; and what must be so afterwards.
//!
//! Every writer has a chat of its own and does one thing after another. What was not answered is done again in the
//! hub's next life, under the same key and ids: so each thing must end up there exactly once, in order.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::history::{self, Entry, Tally};
use super::rows;
use crate::support::{self, Answer, Channel, Client, Correspondent, Database, Doom, Kind, Process, Socket};

const WRITERS: usize = 6;

/// How a writer speaks to the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `POST /api/messages/:id/send` with an `Idempotency-Key`.
    Request,
    /// `send` over a WebSocket with a `clientId`.
    Socket,
    /// A webhook: the platform writes.
    Webhook,
}

/// The hub is gone, and with it the answer.
#[derive(Debug)]
struct Gone;

/// One thing that a writer does.
#[derive(Clone, Debug)]
struct Action {
    entry: Entry,
    is_async: bool,
    /// The message's id, of a send that was answered.
    id: Option<String>,
}

struct Writer {
    number: usize,
    way: Way,
    socket: Option<Socket>,
    client: Client,
    channel: Channel,
    conversation: String,
    /// Everything that was answered with a 2xx, in order.
    accepted: Vec<Action>,
    /// What the hub died under: it may have happened, or not.
    unanswered: Option<Action>,
    /// How many of the accepted ones were found after a restart.
    checked: usize,
}

impl Writer {
    fn chat(&self) -> String {
        format!("chat{}", self.number)
    }

    /// Until the hub is gone; first again what was not answered.
    async fn write(mut self) -> Self {
        while self.act().await.is_ok() {}
        self.socket = None;
        self
    }

    async fn act(&mut self) -> Result<(), Gone> {
        let count = self.accepted.len();
        let direction = if self.way == Way::Webhook { "" } else { "out:" };
        let action = self.unanswered.get_or_insert_with(|| Action {
            entry: Entry::new(
                format!("{direction}chat{}", self.number),
                format!("w{}n{count}", self.number),
            ),
            is_async: count.is_multiple_of(2),
            id: None,
        });
        let (text, is_async) = (action.entry.text.clone(), action.is_async);
        let id = match self.way {
            Way::Socket => Some(self.send_by_socket(&text).await?),
            Way::Request => {
                let sent = self.client.try_send(&self.conversation, &text, Some(&text), is_async);
                accepted(&text, sent.await)?
            }
            Way::Webhook => {
                let event = support::received(&self.chat(), &text, &text);
                accepted(&text, self.client.try_deliver(&self.channel, &text, &event).await)?
            }
        };
        let mut action = self.unanswered.take().expect("it is under way");
        action.id = id;
        self.accepted.push(action);
        Ok(())
    }

    async fn send_by_socket(&mut self, text: &str) -> Result<String, Gone> {
        if self.socket.is_none() {
            self.socket = Some(open(&self.client).await?);
        }
        let socket = self.socket.as_mut().ok_or(Gone)?;
        let data = json!({ "conversationId": self.conversation, "content": text, "clientId": text });
        let command = json!({ "event": "send", "data": data });
        socket.try_send(&command).await.map_err(|_| Gone)?;
        loop {
            let frame = socket.next_or_close().await.map_err(|_| Gone)?;
            assert_ne!(frame["event"], "error", "{text}: {frame}");
            if frame["event"] == "ack" && frame["data"]["clientId"] == text {
                return Ok(frame["data"]["messageId"].as_str().expect("an id").to_owned());
            }
        }
    }
}

async fn open(client: &Client) -> Result<Socket, Gone> {
    let token = client.token.as_deref().expect("signed in");
    let url = format!("ws://{}/ws/messages/?token={token}", client.address);
    let mut socket = Socket::try_open(url).await.map_err(|_| Gone)?;
    let first = socket.next_or_close().await.map_err(|_| Gone)?;
    assert_eq!(first["event"], "authenticated");
    Ok(socket)
}

/// Every answer is a 2xx; the message's id, where it tells.
fn accepted(text: &str, answer: Result<Answer, reqwest::Error>) -> Result<Option<String>, Gone> {
    let answer = answer.map_err(|_| Gone)?;
    assert!(answer.status.is_success(), "{text}: {} {}", answer.status, answer.text);
    Ok(answer.json()["message"]["id"].as_str().map(str::to_owned))
}

/// What a person's stream says, read by cursor.
#[derive(Default)]
struct Reader {
    after: i64,
    messages: Vec<Entry>,
    texts: HashSet<String>,
    /// Texts by the message's id.
    ids: HashMap<String, String>,
    /// The newest status of each message that was sent.
    fates: HashMap<String, String>,
}

impl Reader {
    /// Reads on from where it is; the numbers go on without a gap.
    async fn read(&mut self, client: &Client) -> Result<(), reqwest::Error> {
        loop {
            let page = client.try_events_page(self.after).await?;
            for event in page["events"].as_array().expect("events") {
                self.after += 1;
                assert_eq!(event["seq"], self.after, "a gap, a repetition or a wrong order");
                self.take(event);
            }
            if page["hasMore"] == false {
                return Ok(());
            }
        }
    }

    fn take(&mut self, event: &Value) {
        let data = &event["data"];
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        if let Some(entry) = history::message(event) {
            self.ids.insert(text(&data["message"]["id"]), entry.text.clone());
            self.fates
                .insert(text(&data["message"]["id"]), text(&data["message"]["status"]));
            self.texts.insert(entry.text.clone());
            self.messages.push(entry);
        } else if event["event"] == "message_status_update" {
            self.fates.insert(text(&data["messageId"]), text(&data["status"]));
        }
    }
}

/// A run of many lives of one hub.
pub struct Run {
    kind: Kind,
    seed: u64,
    pub random: StdRng,
    pub correspondent: Correspondent,
    database: Database,
    writers: Vec<Writer>,
    /// By the person's id.
    readers: HashMap<String, Reader>,
    kills: usize,
}

impl Run {
    pub async fn begin(kind: Kind) -> Self {
        let seed = support::seed();
        let database = Database::fresh(kind).await;
        let process = Process::start(&database).await;
        let correspondent = Correspondent::start();
        let mut people = Vec::new();
        for _ in 0..2 {
            let mut client = process.client();
            client.register().await;
            let channel = client.link(&correspondent).await;
            people.push((client, channel));
        }
        let mut writers = Vec::new();
        for number in 0..WRITERS {
            let (client, channel) = people[number % 2].clone();
            let chat = format!("chat{number}");
            let event = json!({ "type": "conversation.updated", "conversation": { "id": chat, "name": "Chat" } });
            let begun = client.deliver(&channel, &format!("begin{number}"), &event).await;
            begun.expect(200);
            writers.push(Writer {
                number,
                way: [Way::Request, Way::Webhook, Way::Socket][number % 3],
                socket: None,
                conversation: client.conversation(&chat).await.expect("it is there"),
                client,
                channel,
                accepted: Vec::new(),
                unanswered: None,
                checked: 0,
            });
        }
        process.kill();
        Self {
            kind,
            seed,
            random: StdRng::seed_from_u64(seed),
            correspondent,
            database,
            writers,
            readers: HashMap::new(),
            kills: 0,
        }
    }

    /// One life: what was accepted before is there; then people write until the doom strikes.
    pub async fn live_and_die(&mut self, doom: &Doom) {
        self.kills += 1;
        let Some(process) = Process::start_doomed(&self.database, doom).await else {
            return;
        };
        self.move_to(&process);
        // A doom at a failpoint may strike any time, then the next life is asked.
        let checked = self.check().await;
        assert!(checked.is_ok() || matches!(doom, Doom::At(..)), "{self}: {checked:?}");
        let writing: Vec<_> = self
            .writers
            .drain(..)
            .map(|writer| actix_rt::spawn(writer.write()))
            .collect();
        process.meet(doom).await;
        rows::assert_whole(&self.to_string(), &self.database).await;
        self.writers = join_all(writing).await.into_iter().map(Result::unwrap).collect();
    }

    fn move_to(&mut self, process: &Process) {
        for writer in &mut self.writers {
            writer.client = writer.client.at(process.address);
        }
    }

    /// Everything that was answered since the last time is in the stream, under the id of the answer.
    async fn check(&mut self) -> Result<(), reqwest::Error> {
        for writer in &mut self.writers {
            let reader = self.readers.entry(writer.client.user_id.clone()).or_default();
            reader.read(&writer.client).await?;
            for action in &writer.accepted[writer.checked..] {
                let is_there = match &action.id {
                    Some(id) => reader.ids.get(id) == Some(&action.entry.text),
                    None => reader.texts.contains(&action.entry.text),
                };
                assert!(is_there, "seed {}, kill {}: lost: {action:?}", self.seed, self.kills);
            }
            writer.checked = writer.accepted.len();
        }
        Ok(())
    }

    /// A last life, in which nobody dies: all is there once, in order, and has gone out. Prints one line.
    pub async fn end(mut self) {
        let process = Process::start(&self.database).await;
        self.move_to(&process);
        self.check().await.expect("the hub answers");
        for writer in &mut self.writers {
            if writer.unanswered.is_some() {
                writer.act().await.expect("the hub answers");
            }
        }
        self.until_sent().await;

        let mut stream = Vec::new();
        for client in self.people() {
            let mut reader = Reader::default();
            reader.read(&client).await.expect("the hub answers");
            stream.extend(reader.messages);
        }
        let accepted: Vec<Entry> = self.accepted().map(|action| action.entry.clone()).collect();
        let (sent, delivered): (Vec<Entry>, Vec<Entry>) = accepted
            .iter()
            .cloned()
            .partition(|entry| entry.lane.starts_with("out:"));
        let tries = self.correspondent.messages();
        let repeated = tries.len() - sent.len().min(tries.len());
        let mut wrong = history::differences(&accepted, &stream);
        wrong.extend(history::differences(&sent, &history::by_id(tries)));
        let tally = Tally(wrong);
        println!(
            "{self}: {} messages accepted ({} sent, {} received), {repeated} tries repeated under their id: {tally}",
            accepted.len(),
            sent.len(),
            delivered.len()
        );
        assert!(tally.0.is_empty(), "{self}: {:#?}", tally.0);
        self.correspondent.assert_same_bodies();
        self.check_database(accepted.len(), sent.len()).await;
    }

    fn accepted(&self) -> impl Iterator<Item = &Action> {
        self.writers.iter().flat_map(|writer| &writer.accepted)
    }

    fn people(&self) -> Vec<Client> {
        let mut people: HashMap<&str, &Client> = HashMap::new();
        for writer in &self.writers {
            people.insert(&writer.client.user_id, &writer.client);
        }
        people.into_values().cloned().collect()
    }

    async fn until_sent(&mut self) {
        let (people, context) = (self.people(), self.to_string());
        let readers = &mut self.readers;
        let writers = &self.writers;
        support::until_in(
            Duration::from_secs(120),
            &format!("{context}: all is sent"),
            async || {
                let mut fates: HashMap<&str, &str> = HashMap::new();
                for client in &people {
                    let reader = readers.entry(client.user_id.clone()).or_default();
                    reader.read(client).await.expect("the hub answers");
                }
                for reader in readers.values() {
                    fates.extend(reader.fates.iter().map(|(id, fate)| (id.as_str(), fate.as_str())));
                }
                let mut ids = writers
                    .iter()
                    .flat_map(|writer| &writer.accepted)
                    .filter_map(|one| one.id.as_deref());
                ids.all(|id| fates.get(id) == Some(&"sent")).then_some(())
            },
        )
        .await;
    }

    /// The rows themselves: the conversations count what was accepted, and nothing is left to send.
    async fn check_database(&self, accepted: usize, sent: usize) {
        for writer in &self.writers {
            let page = writer
                .client
                .get(&format!("/api/messages/{}?limit=1", writer.conversation))
                .await;
            assert_eq!(
                page.expect(200)["total"],
                writer.accepted.len(),
                "{self}: {}",
                writer.chat()
            );
        }
        if self.kind == Kind::Postgres {
            for (table, rows) in [("messages", accepted), ("outbox", 0), ("idempotency_keys", sent)] {
                let count = self.database.query(&format!("SELECT count(*) FROM {table}")).await;
                assert_eq!(count, [rows.to_string()], "{self}: {table}");
            }
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "seed {}, {:?}, {} kills", self.seed, self.kind, self.kills)
    }
}

/// Dies once at each of the points, in a random order, each time after the point was passed a few times. On the
/// embedded database, which starts slowly, short runs take some of them.
pub async fn die_at_each(run: &mut Run, kind: Kind, mut points: Vec<&'static str>, some: usize) {
    use rand::seq::SliceRandom;
    points.shuffle(&mut run.random);
    if kind == Kind::Embedded && !support::is_long() {
        points.truncate(some);
    }
    for point in points {
        let count = run.random.random_range(1..=6);
        // At once, or when others have gone on for a while, so that what was begun there is done but nobody knows.
        let pause = Duration::from_millis(if run.random.random() { 0 } else { 30 });
        run.live_and_die(&Doom::At(point, count, pause)).await;
    }
}
