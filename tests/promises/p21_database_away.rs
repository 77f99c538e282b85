//! P21: while the database is away the hub says 503, accepts nothing, and does not hang; when it is back the hub works by
//! itself, and whatever was accepted is there once.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use hub_actors::clock;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use super::history::{self, Entry};
use crate::support::{
    self, Answer, Channel, Client, Correspondent, Database, Direction, Kind, Process, Proxy, Trouble,
};

/// The setting under test: how long a request waits for a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Longest wait for a statement that the database does not answer (docs/PROMISES.md).
const STATEMENT: Duration = Duration::from_secs(30);
/// `/health` waits no longer.
const HEALTH: Duration = Duration::from_secs(2);
/// The machine is shared.
const SLACK: Duration = Duration::from_secs(2);

/// A hub whose database is behind a proxy, somebody with a channel, and a chat.
struct Bed {
    proxy: Proxy,
    process: Process,
    user: Client,
    channel: Channel,
    conversation: String,
    correspondent: Correspondent,
    _database: Database,
}

impl Bed {
    async fn start(seed: u64) -> Self {
        let database = Database::fresh(Kind::Postgres).await;
        let proxy = Proxy::start(database.server(), seed);
        let url = database.url_through(proxy.address);
        let connect = CONNECT.as_secs().to_string();
        let variables = [
            ("HUB__DATABASE__URL", url.as_str()),
            ("HUB__DATABASE__CONNECT_TIMEOUT_SECONDS", connect.as_str()),
        ];
        let process = Process::start_with(&database, &variables).await;
        let (mut user, correspondent) = (process.client(), Correspondent::start());
        user.register().await;
        let channel = user.link(&correspondent).await;
        let conversation = user.receive(&channel, "chat", "first", "hello").await;
        Self {
            proxy,
            process,
            user,
            channel,
            conversation,
            correspondent,
            _database: database,
        }
    }

    /// Every kind of request at once; what each was answered, and after how long.
    async fn ask_everything(&self, name: &str) -> Vec<(&'static str, Answer, Duration)> {
        let (user, path) = (
            &self.user,
            format!("/api/messages/conversation/{}/read", self.conversation),
        );
        let (delivered, sent) = (format!("delivered-{name}"), format!("sent-{name}"));
        let event = support::received("chat", &delivered, &delivered);
        let (deliver, send, list, read, events, health) = (
            timed("webhook", user.deliver(&self.channel, &delivered, &event)),
            timed("send", user.send(&self.conversation, &sent, Some(&sent))),
            timed("list", user.get("/api/conversations?platform=custom")),
            timed("read", user.patch(&path, &Value::Null)),
            timed("events", user.get("/api/events")),
            timed("health", user.get("/health")),
        );
        let (a, b, c, d, e, f) = futures_util::join!(deliver, send, list, read, events, health);
        vec![a, b, c, d, e, f]
    }

    async fn recovers(&self, context: &str) {
        support::until(&format!("{context}: the hub is well again"), async || {
            (self.user.get("/health").await.status == 200).then_some(())
        })
        .await;
    }

    async fn texts(&self) -> HashSet<String> {
        let events = self.user.events().await;
        history::assert_gapless(&events);
        history::messages(&events).into_iter().map(|entry| entry.text).collect()
    }
}

async fn timed(name: &'static str, answer: impl Future<Output = Answer>) -> (&'static str, Answer, Duration) {
    let begun = clock::instant();
    let answer = answer.await;
    (name, answer, begun.elapsed())
}

/// Everything is refused in time.
fn check_refused(context: &str, answers: &[(&str, Answer, Duration)], patience: Duration) {
    for (name, answer, elapsed) in answers {
        assert_eq!(answer.status, 503, "{context}: {name}: {}", answer.text);
        let limit = if *name == "health" { HEALTH } else { patience } + SLACK;
        assert!(*elapsed < limit, "{context}: {name} took {elapsed:?}");
    }
}

#[test]
fn a_database_that_refuses_makes_503_and_nothing_is_accepted() {
    support::run(async {
        let bed = Bed::start(support::seed()).await;
        for round in 0..2 {
            let context = format!("refused, round {round}");
            bed.proxy.make(Trouble::Refuse);
            bed.proxy.cut();
            let answers = bed.ask_everything(&format!("refused{round}")).await;
            check_refused(&context, &answers, CONNECT);
            bed.proxy.heal();
            bed.recovers(&context).await;
        }
        let texts = bed.texts().await;
        assert_eq!(
            texts,
            HashSet::from(["hello".to_owned()]),
            "what was refused is not there"
        );
        for (name, answer, _) in bed.ask_everything("after").await {
            assert!(answer.status.is_success(), "{name}: {}", answer.text);
        }
        assert_eq!(bed.correspondent.messages().len(), 1);
    });
}

#[test]
fn a_database_that_does_not_answer_makes_503_in_time() {
    support::run(async {
        let bed = Bed::start(support::seed()).await;
        bed.proxy.make(Trouble::HalfOpen);
        let (_, answer, elapsed) = timed("health", bed.user.get("/health")).await;
        assert!(
            answer.status == 503 && elapsed < HEALTH + SLACK,
            "{elapsed:?}: {}",
            answer.text
        );
        if support::is_long() {
            for round in 0..2 {
                let answers = bed.ask_everything(&format!("halfopen{round}")).await;
                check_refused("half-open", &answers, STATEMENT + CONNECT);
            }
        } else {
            // In the short run the connections end while requests wait for their answer.
            let asked = bed.ask_everything("halfopen");
            let heal = async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                bed.proxy.cut();
            };
            let (answers, ()) = futures_util::join!(asked, heal);
            check_refused("half-open", &answers, CONNECT);
        }
        bed.proxy.heal();
        bed.recovers("half-open").await;
        let late: HashSet<String> = bed.texts().await;
        assert_eq!(
            late,
            HashSet::from(["hello".to_owned()]),
            "no byte has reached the database"
        );
    });
}

#[test]
fn a_slow_database_loses_nothing() {
    support::run(async {
        let bed = Bed::start(support::seed()).await;
        bed.proxy.make(Trouble::Latency(Duration::from_millis(60)));
        for (name, answer, _) in bed.ask_everything("slow").await {
            assert!(answer.status.is_success(), "{name}: {}", answer.text);
        }
        let texts = bed.texts().await;
        assert_eq!(texts.len(), 3, "{texts:?}");
    });
}

const WRITERS: usize = 4;

#[test]
fn whatever_happens_to_the_database_each_accepted_message_is_there_once() {
    support::run(random_trouble());
}

/// What a writer got accepted, and how often it was told 503 before.
#[derive(Default)]
struct Written {
    accepted: Vec<Entry>,
    refused: usize,
    slowest: Duration,
}

async fn random_trouble() {
    let seed = support::seed();
    let mut random = StdRng::seed_from_u64(seed);
    let rounds = if support::is_long() { 200 } else { 8 };
    let bed = Bed::start(seed).await;
    let (finish, finished) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let (user, channel) = (bed.user.clone(), bed.channel.clone());
            actix_rt::spawn(write(number, user, channel, bed.conversation.clone(), finished.clone()))
        })
        .collect();
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(random.random_range(50..600))).await;
        match random.random_range(0..5) {
            0 => bed.proxy.cut(),
            1 => bed.proxy.cut_after(Direction::Up, random.random_range(0..4_000)),
            2 => bed.proxy.cut_after(Direction::Down, random.random_range(0..2_000)),
            3 => bed.proxy.make(Trouble::HalfOpen),
            _ => {
                bed.proxy.make(Trouble::Refuse);
                bed.proxy.cut();
            }
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(50..1_500))).await;
        bed.proxy.heal();
    }
    finish.send_replace(true);
    let written: Vec<Written> = join_all(writers).await.into_iter().map(Result::unwrap).collect();
    let context = format!("seed {seed}");
    bed.recovers(&context).await;
    let refused: usize = written.iter().map(|written| written.refused).sum();
    let slowest = written.iter().map(|written| written.slowest).max().unwrap_or_default();
    let mut accepted: Vec<Entry> = written.into_iter().flat_map(|written| written.accepted).collect();
    let sent: Vec<Entry> = accepted
        .iter()
        .filter(|entry| entry.lane == "out:chat")
        .cloned()
        .collect();
    support::until(&format!("{context}: all is sent"), async || {
        let arrived: HashSet<String> = bed.correspondent.messages().into_iter().map(|(id, ..)| id).collect();
        (arrived.len() == sent.len()).then_some(())
    })
    .await;
    accepted.push(Entry::new("chat", "hello"));
    let events = bed.user.events().await;
    history::assert_gapless(&events);
    // Several writers share a lane, so its order is that of the stream.
    let (accepted, seen) = (sorted(accepted), sorted(history::messages(&events)));
    let differences = history::differences(&accepted, &seen);
    assert!(
        differences.is_empty(),
        "{context}: {differences:#?}\n{}",
        bed.process.log()
    );
    let mut known = HashSet::new();
    let arrived = bed.correspondent.messages().into_iter();
    let once = arrived.filter(|(id, ..)| known.insert(id.clone()));
    let once: Vec<Entry> = once
        .map(|(_, chat, text)| Entry::new(format!("out:{chat}"), text))
        .collect();
    let in_stream: Vec<Entry> = history::messages(&events)
        .into_iter()
        .filter(|entry| entry.lane == "out:chat")
        .collect();
    let differences = history::differences(&in_stream, &once);
    assert!(differences.is_empty(), "{context}: correspondent: {differences:#?}");
    println!(
        "P21: {context}, {rounds} troubles, {} messages, {refused} times 503, the slowest answer after {slowest:?}",
        accepted.len()
    );
    assert!(slowest < STATEMENT + CONNECT + SLACK, "{context}: {slowest:?}");
}

fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(|one, other| (&one.lane, &one.text).cmp(&(&other.lane, &other.text)));
    entries
}

/// One message after another; each is repeated under the same key or id until it is accepted.
async fn write(
    number: usize,
    user: Client,
    channel: Channel,
    conversation: String,
    finished: tokio::sync::watch::Receiver<bool>,
) -> Written {
    let mut written = Written::default();
    for count in 0.. {
        if *finished.borrow() {
            break;
        }
        let text = format!("w{number}n{count}");
        let is_send = number.is_multiple_of(2);
        loop {
            let begun = clock::instant();
            let answer = if is_send {
                user.try_send(&conversation, &text, Some(&text), true)
                    .await
                    .expect("the hub answers")
            } else {
                user.deliver(&channel, &text, &support::received("chat", &text, &text))
                    .await
            };
            written.slowest = written.slowest.max(begun.elapsed());
            if answer.status.is_success() {
                break;
            }
            assert_eq!(answer.status, 503, "{text}: {}", answer.text);
            written.refused += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        written
            .accepted
            .push(Entry::new(if is_send { "out:chat" } else { "chat" }, text));
    }
    written
}
