//! P1 and P3: what was answered with a 2xx is there after a SIGKILL, once, with one event, and goes out: at least once
//! on the wire and, by `webhook-id`, exactly once. What was not answered can be repeated under the same key or id.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::history::{self, Entry};
use crate::support::{Channel, Client, Correspondent, Database, Kind, Process};
use crate::{on_both_databases, support};

on_both_databases!(killed_at_random_moments);

const WRITERS: usize = 6;

/// One request: half of the writers send, half deliver.
#[derive(Clone, Debug)]
struct Action {
    entry: Entry,
    is_send: bool,
    /// The message's id, of a send that was answered.
    id: Option<String>,
    is_accepted: bool,
}

/// A writer has a chat of its own, and does one thing after another.
#[derive(Clone)]
struct Writer {
    number: usize,
    client: Client,
    channel: Channel,
    conversation: String,
}

impl Writer {
    /// Does it, or does it again: the same text, key and ids.
    async fn act(&self, action: &mut Action, is_async: bool) -> Result<u16, reqwest::Error> {
        let text = action.entry.text.as_str();
        let answer = if action.is_send {
            self.client
                .try_send(&self.conversation, text, Some(text), is_async)
                .await?
        } else {
            let event = support::received(&format!("chat{}", self.number), text, text);
            self.client.try_deliver(&self.channel, text, &event).await?
        };
        if answer.status.is_success() {
            action.is_accepted = true;
            action.id = answer.json()["message"]["id"].as_str().map(str::to_owned);
        }
        Ok(answer.status.as_u16())
    }

    /// Until the hub is gone under it; the last action's answer is lost then.
    async fn until_killed(self, round: usize) -> Vec<Action> {
        let mut actions = Vec::new();
        for count in 0.. {
            let is_send = self.number.is_multiple_of(2);
            let direction = if is_send { "out:" } else { "" };
            let lane = format!("{direction}chat{}", self.number);
            let mut action = Action {
                entry: Entry::new(lane, format!("w{}r{round}n{count}", self.number)),
                is_send,
                id: None,
                is_accepted: false,
            };
            let result = self.act(&mut action, count % 2 == 0).await;
            actions.push(action);
            if result.is_err() {
                break;
            }
        }
        actions
    }
}

async fn killed_at_random_moments(kind: Kind) {
    let seed = support::seed();
    let mut random = StdRng::seed_from_u64(seed);
    let rounds = if support::is_long() { 60 } else { 6 };
    let database = Database::fresh(kind).await;
    let mut process = Process::start(&database).await;
    let correspondent = Correspondent::start();
    let mut writers = writers(&process, &correspondent).await;
    let mut history: Vec<Action> = Vec::new();
    for round in 0..rounds {
        let running: Vec<_> = writers
            .iter()
            .map(|writer| actix_rt::spawn(writer.clone().until_killed(round)))
            .collect();
        tokio::time::sleep(Duration::from_millis(random.random_range(5..500))).await;
        process.kill();
        let done: Vec<Vec<Action>> = join_all(running).await.into_iter().map(Result::unwrap).collect();
        process = Process::start(&database).await;
        for writer in &mut writers {
            writer.client = writer.client.at(process.address);
        }
        let context = format!("seed {seed}, {kind:?}, round {round}");
        let so_far: Vec<&Action> = history.iter().chain(done.iter().flatten()).collect();
        check_accepted(&context, &so_far, &writers).await;
        for (writer, mut actions) in writers.iter().zip(done) {
            for action in actions.iter_mut().filter(|action| !action.is_accepted) {
                let status = writer.act(action, false).await.unwrap();
                assert!(action.is_accepted, "{context}: a repetition is refused with {status}");
            }
            history.append(&mut actions);
        }
    }
    let context = format!("seed {seed}, {kind:?}, at the end");
    check_everything(&context, &history, &writers, &correspondent).await;
    println!("{context}: {} messages, {rounds} kills", history.len());
}

async fn writers(process: &Process, correspondent: &Correspondent) -> Vec<Writer> {
    let mut people = Vec::new();
    for _ in 0..2 {
        let mut client = process.client();
        client.register().await;
        let channel = client.link(correspondent).await;
        people.push((client, channel));
    }
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let (client, channel) = people[(number / 2) % 2].clone();
        let event = serde_json::json!({ "type": "conversation.updated", "conversation": { "id": format!("chat{number}"), "name": "Chat" } });
        client
            .deliver(&channel, &format!("begin{number}"), &event)
            .await
            .expect(200);
        let conversation = client
            .conversation(&format!("chat{number}"))
            .await
            .expect("it is there");
        writers.push(Writer {
            number,
            client,
            channel,
            conversation,
        });
    }
    writers
}

/// The stream of each person who writes.
async fn streams(writers: &[Writer]) -> Vec<serde_json::Value> {
    let mut all = Vec::new();
    let mut seen = HashSet::new();
    for writer in writers {
        if seen.insert(writer.client.user_id.clone()) {
            let events = writer.client.events().await;
            history::assert_gapless(&events);
            all.extend(events);
        }
    }
    all
}

/// Right after a restart: whatever was accepted is there once, and nothing that nobody wrote.
async fn check_accepted(context: &str, actions: &[&Action], writers: &[Writer]) {
    let events = streams(writers).await;
    let mut seen = history::messages(&events);
    let accepted: Vec<Entry> = actions
        .iter()
        .filter(|action| action.is_accepted)
        .map(|action| action.entry.clone())
        .collect();
    // An action without an answer may have happened; once, if so.
    for action in actions.iter().filter(|action| !action.is_accepted) {
        if let Some(place) = seen.iter().position(|entry| *entry == action.entry) {
            seen.remove(place);
        }
    }
    let differences = history::differences(&accepted, &seen);
    assert!(differences.is_empty(), "{context}: {differences:#?}");
    check_ids(context, actions, &events);
}

/// A message that was answered is found by its id.
fn check_ids(context: &str, actions: &[&Action], events: &[serde_json::Value]) {
    let new = events.iter().filter(|event| event["event"] == "new_message");
    let ids: HashMap<&str, &str> = new
        .filter_map(|event| {
            let message = &event["data"]["message"];
            Some((message["id"].as_str()?, message["content"].as_str()?))
        })
        .collect();
    for action in actions {
        if let Some(id) = &action.id {
            assert_eq!(
                ids.get(id.as_str()),
                Some(&action.entry.text.as_str()),
                "{context}: lost: {action:?}"
            );
        }
    }
}

async fn check_everything(context: &str, actions: &[Action], writers: &[Writer], correspondent: &Correspondent) {
    let accepted: Vec<Entry> = actions.iter().map(|action| action.entry.clone()).collect();
    let sent: Vec<Entry> = actions
        .iter()
        .filter(|action| action.is_send)
        .map(|action| action.entry.clone())
        .collect();
    // The outbox is finished when every message that was sent says so.
    support::until(&format!("{context}: all is sent"), async || {
        let arrived: HashSet<String> = correspondent.messages().into_iter().map(|(_, _, text)| text).collect();
        if !sent.iter().all(|entry| arrived.contains(&entry.text)) {
            return None;
        }
        let mut fates: HashMap<String, String> = HashMap::new();
        for event in streams(writers).await {
            let data = &event["data"];
            let (id, status) = match event["event"].as_str()? {
                "new_message" => (&data["message"]["id"], &data["message"]["status"]),
                "message_status_update" => (&data["messageId"], &data["status"]),
                _ => continue,
            };
            fates.insert(id.as_str()?.to_owned(), status.as_str()?.to_owned());
        }
        let mut ids = actions.iter().filter_map(|action| action.id.as_ref());
        ids.all(|id| fates.get(id).is_some_and(|fate| fate == "sent"))
            .then_some(())
    })
    .await;
    let events = streams(writers).await;
    let differences = history::differences(&accepted, &history::messages(&events));
    assert!(differences.is_empty(), "{context}: stream: {differences:#?}");

    assert!(correspondent.received().iter().all(|one| one.is_signed), "{context}");
    let mut known = HashSet::new();
    let arrived = correspondent.messages().into_iter();
    let once: Vec<Entry> = arrived
        .filter(|(id, ..)| known.insert(id.clone()))
        .map(|(_, chat, text)| Entry::new(format!("out:{chat}"), text))
        .collect();
    let differences = history::differences(&sent, &once);
    assert!(differences.is_empty(), "{context}: platform: {differences:#?}");
}
