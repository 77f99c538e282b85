//! P18: an actor that panics is back with its state, and nobody else notices: a panic is injected into each kind of
//! actor while four people work, and none of their requests fails.

use std::collections::HashSet;
use std::time::Duration;

use hub_actors::clock;
use serde_json::Value;

use super::history::{self, Entry};
use crate::support::{self, ADMIN_TOKEN, Channel, Client, Correspondent, Database, Kind, Process, Socket};

const PEOPLE: usize = 4;
const ROUNDS: usize = 12;
/// Longest time for any request, also of those whose actor crashed under it, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// Panics twice at the named point of an actor: after it was passed `between` times, and again after as many.
async fn panics(kind: Kind, point: &str, between: usize, path: &str) {
    let database = Database::fresh(kind).await;
    let failpoints = format!("{point}={between}*off->1*panic->{between}*off->1*panic");
    let process = Process::start_with(&database, &[("FAILPOINTS", &failpoints)]).await;
    let correspondent = Correspondent::start();
    let mut people = Vec::new();
    for number in 0..PEOPLE {
        let mut client = process.client();
        client.register().await;
        let channel = client.link(&correspondent).await;
        people.push((number, client, channel));
    }
    let work: Vec<_> = people
        .iter()
        .map(|(number, client, channel)| actix_rt::spawn(person(*number, client.clone(), channel.clone())))
        .collect();
    let mut heard = Vec::new();
    for work in work {
        heard.push(work.await.expect("no request fails"));
    }
    let expected = |number: usize| {
        (0..ROUNDS).flat_map(move |round| {
            [
                Entry::new(format!("chat{number}"), format!("in p{number}r{round}")),
                Entry::new(format!("out:chat{number}"), format!("out p{number}r{round}")),
            ]
        })
    };
    for ((number, client, _), heard) in people.iter().zip(heard) {
        let events = support::until("all is sent", async || {
            let events = client.events().await;
            let sent = events
                .iter()
                .filter(|event| event["event"] == "message_status_update" && event["data"]["status"] == "sent");
            (sent.count() >= ROUNDS).then_some(events)
        })
        .await;
        history::assert_gapless(&events);
        let accepted: Vec<Entry> = expected(*number).collect();
        let differences = history::differences(&accepted, &history::messages(&events));
        assert!(differences.is_empty(), "{point}: stream: {differences:#?}");
        let begin = usize::try_from(history::numbers(&heard)[0] - 1).unwrap();
        let numbers = history::numbers(&events[begin..begin + heard.len()]);
        assert_eq!(
            history::numbers(&heard),
            numbers,
            "{point}: the socket had every event once, in order"
        );
    }
    let mut known = HashSet::new();
    let once: Vec<Entry> = correspondent
        .messages()
        .into_iter()
        .filter(|(id, ..)| known.insert(id.clone()))
        .map(|(_, chat, text)| Entry::new(format!("out:{chat}"), text))
        .collect();
    let accepted: Vec<Entry> = (0..PEOPLE)
        .flat_map(expected)
        .filter(|entry| entry.lane.starts_with("out:"))
        .collect();
    let differences = history::differences(&accepted, &once);
    assert!(differences.is_empty(), "{point}: platform: {differences:#?}");
    check_tree(&process, point, path).await;
}

/// The tree shows who has crashed, twice in all, and that it runs again.
async fn check_tree(process: &Process, point: &str, path: &str) {
    let mut operator = process.client();
    operator.token = Some(ADMIN_TOKEN.to_owned());
    let crashed = support::until("the tree shows both crashes and that all is well again", async || {
        let tree = operator.get("/api/admin/tree").await.expect(200);
        let nodes = tree["nodes"].as_array().unwrap().clone();
        let crashed: Vec<Value> = nodes
            .into_iter()
            .filter(|node| node["restarts"].as_u64().unwrap() > 0)
            .collect();
        let restarts: u64 = crashed.iter().filter_map(|node| node["restarts"].as_u64()).sum();
        let is_well = crashed.iter().all(|node| node["state"] == "running");
        (restarts >= 2 && is_well).then_some(crashed)
    })
    .await;
    let restarts: u64 = crashed.iter().filter_map(|node| node["restarts"].as_u64()).sum();
    assert_eq!(restarts, 2, "{point}: {crashed:#?}\n{}", process.log());
    for node in crashed {
        assert!(node["path"].as_str().unwrap().starts_with(path), "{point}: {node}");
        assert!(
            node["lastError"].as_str().is_some_and(|error| error.contains("panic")),
            "{point}: {node}"
        );
        assert_eq!(node["state"], "running", "{point}: {node}");
    }
}

/// Delivers, sends, reads and listens; every request must succeed. What the socket heard, over all its connections.
async fn person(number: usize, client: Client, channel: Channel) -> Vec<Value> {
    let last = format!("in p{number}r{}", ROUNDS - 1);
    let begin = client
        .events()
        .await
        .last()
        .map_or(0, |event| event["seq"].as_i64().unwrap());
    let listener = actix_rt::spawn(listen(client.clone(), begin, last));
    let chat = format!("chat{number}");
    for round in 0..ROUNDS {
        let text = format!("in p{number}r{round}");
        let id = format!("p{number}r{round}");
        let event = support::received(&chat, &id, &text);
        soon(client.deliver(&channel, &id, &event)).await.expect(200);
        let conversation = soon(client.conversation(&chat))
            .await
            .expect("the conversation is there");
        let text = format!("out p{number}r{round}");
        let sent = soon(client.send(&conversation, &text, Some(&id))).await;
        assert!(sent.status.is_success(), "{} {}", sent.status, sent.text);
        soon(client.get("/api/messages/unread/count")).await.expect(200);
        // Each socket that opens reads the stream.
        drop(connect(&client, None).await);
    }
    listener.await.expect("the listener hears it all")
}

/// The answer of a request, which nobody's crash may delay for long.
async fn soon<T>(request: impl Future<Output = T>) -> T {
    let begun = clock::instant();
    let answer = request.await;
    assert!(begun.elapsed() < PATIENCE, "a request took {:?}", begun.elapsed());
    answer
}

/// Opens a socket; where its session has just crashed the hub says come back, and it does.
async fn connect(client: &Client, since: Option<&str>) -> Socket {
    let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
    let url = format!(
        "ws://{}/ws/messages/?token={}{since}",
        client.address,
        client.token.as_deref().unwrap()
    );
    loop {
        let mut socket = Socket::try_open(&url).await.expect("no handshake fails");
        match socket.next_or_close().await {
            Ok(first) => {
                assert_eq!(first["event"], "authenticated", "{first}");
                assert!(since.is_empty() || first["data"]["recovered"] == true, "{first}");
                return socket;
            }
            Err(code) => assert_eq!(code, Some(4001), "come back and resume"),
        }
    }
}

async fn listen(client: Client, begin: i64, last: String) -> Vec<Value> {
    let epoch = client.get("/api/events").await.expect(200)["epoch"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut heard: Vec<Value> = Vec::new();
    loop {
        let seq = heard.last().map_or(begin, |event| event["seq"].as_i64().unwrap());
        let mut socket = connect(&client, Some(&format!("{epoch}:{seq}"))).await;
        loop {
            match socket.next_or_close().await {
                Ok(frame) if frame["seq"].is_i64() && frame["event"] != "authenticated" => {
                    let is_last = frame["data"]["message"]["content"] == last.as_str();
                    heard.push(frame);
                    if is_last {
                        return heard;
                    }
                }
                Ok(_) => {}
                Err(code) => {
                    assert_eq!(code, Some(4001), "come back and resume");
                    break;
                }
            }
        }
    }
}

/// One test for each kind of actor.
macro_rules! panics_in {
    ($($name:ident: $point:literal, $between:literal, $path:literal;)*) => {
        mod embedded {
            use crate::support::{Kind, run};
            $(#[test] fn $name() { run(super::panics(Kind::Embedded, $point, $between, $path)); })*
        }
        mod postgres {
            use crate::support::{Kind, run};
            $(#[test] fn $name() { run(super::panics(Kind::Postgres, $point, $between, $path)); })*
        }
    };
}

panics_in! {
    journal: "journal", 9, "journal";
    reader: "reader", 1, "reader";
    scheduler: "scheduler", 0, "scheduler";
    leases: "leases", 0, "leases";
    connection: "connection", 9, "connections/connection/";
    conversation: "conversation", 9, "conversations/conversation/";
    session: "session", 9, "sessions/session/";
    outbox: "outbox", 9, "outbox";
    outbox_before_a_try: "outbox.before_send", 9, "outbox";
    outbox_after_a_try: "outbox.after_send", 9, "outbox";
    outbox_after_an_outcome: "outbox.ended", 9, "outbox";
}
