//! P16: a platform in trouble is not flooded: tries come later and later, one a chat, never before the time that the
//! platform asked for, and nothing is lost meanwhile. How long the pauses are is tested where they are made
//! (`actors/src/outbox/attempt.rs`): full jitter, at most five minutes, `Retry-After` and more.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use hub_actors::clock;
use serde_json::{Value, json};

use super::history::{self, Entry};
use crate::on_both_databases;
use crate::support::{self, Channel, Client, Hub, Kind};

on_both_databases!(a_platform_in_trouble_is_not_flooded);

const CHATS: usize = 10;
/// Messages that wait in each chat.
const MESSAGES: usize = 3;
/// What a 429 asks for.
const WAIT: Duration = Duration::from_secs(3);
/// Calls this close together belong to tries that began before the first of them was answered.
const AT_ONCE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
struct Call {
    at: Instant,
    chat: String,
    text: String,
}

/// A platform that refuses everything until it is well.
struct Trouble {
    status: u16,
    asks_to_wait: bool,
    is_well: Mutex<bool>,
    refused: Mutex<Vec<Call>>,
    taken: Mutex<Vec<Call>>,
}

impl Trouble {
    fn start(status: u16, asks_to_wait: bool) -> (Arc<Self>, SocketAddr) {
        let trouble = Arc::new(Self {
            status,
            asks_to_wait,
            is_well: Mutex::default(),
            refused: Mutex::default(),
            taken: Mutex::default(),
        });
        let shared = web::Data::from(Arc::clone(&trouble));
        let server = HttpServer::new(move || App::new().app_data(shared.clone()).default_service(web::to(take)))
            .workers(1)
            .disable_signals()
            .bind("127.0.0.1:0")
            .expect("a free port");
        let address = server.addrs()[0];
        actix_rt::spawn(server.run());
        (trouble, address)
    }
}

async fn take(request: HttpRequest, body: web::Json<Value>, trouble: web::Data<Trouble>) -> HttpResponse {
    let id = request
        .headers()
        .get("webhook-id")
        .expect("an id")
        .to_str()
        .unwrap()
        .to_owned();
    let call = Call {
        at: clock::instant(),
        chat: body["conversation"]["id"].as_str().unwrap().to_owned(),
        text: body["message"]["text"].as_str().unwrap().to_owned(),
    };
    if *trouble.is_well.lock().unwrap() {
        trouble.taken.lock().unwrap().push(call);
        return HttpResponse::Ok().json(json!({ "id": id }));
    }
    trouble.refused.lock().unwrap().push(call);
    let mut response = HttpResponse::build(trouble.status.try_into().unwrap());
    if trouble.asks_to_wait {
        response.insert_header(("retry-after", WAIT.as_secs().to_string()));
    }
    response.finish()
}

async fn a_platform_in_trouble_is_not_flooded(kind: Kind) {
    let length = Duration::from_secs(if support::is_long() { 120 } else { 8 });
    let hub = Hub::start(kind).await;
    let user = hub.user().await;
    let broken = begin(&user, Trouble::start(503, false)).await;
    let limiting = begin(&user, Trouble::start(429, true)).await;
    tokio::time::sleep(length).await;

    let calls = broken.0.refused.lock().unwrap().clone();
    assert_turns(&calls);
    // The pauses of a chat have means of ½, 1, 2, 4 … seconds, so 1 + log₂ of the time are to be expected, and twice as
    // many on average of ten chats are no accident.
    let expected = (1.0 + length.as_secs_f64().log2()) * CHATS as f64;
    println!(
        "P16 {kind:?}: {} calls to a broken platform in {length:?}, about {expected} expected",
        calls.len()
    );
    assert!(
        (calls.len() as f64) < 2.0 * expected,
        "{} calls in {length:?}",
        calls.len()
    );
    assert!(calls.len() > CHATS, "it is tried again");

    let calls = limiting.0.refused.lock().unwrap().clone();
    assert_turns(&calls);
    let rounds = rounds(&calls);
    println!(
        "P16 {kind:?}: {} calls in {} rounds to a platform that asks to wait",
        calls.len(),
        rounds.len()
    );
    assert!(rounds.len() > 1, "it is tried again");
    for pair in rounds.windows(2) {
        let pause = pair[1][0].at - pair[0][0].at;
        assert!(pause >= WAIT, "asked again after {pause:?}");
    }
    assert!(rounds.iter().all(|round| round.len() <= CHATS), "one try for each chat");

    for (trouble, ..) in [&broken, &limiting] {
        *trouble.is_well.lock().unwrap() = true;
    }
    if support::is_long() {
        for (trouble, accepted) in [&broken, &limiting] {
            all_arrives(trouble, accepted).await;
        }
    } else {
        let events = user.events().await;
        let is_given_up = |event: &&Value| event["data"]["status"] == "failed" || event["data"]["status"] == "unknown";
        assert_eq!(events.iter().find(is_given_up), None, "everything waits");
    }
    hub.stop().await;
}

/// Messages for many chats; what was accepted.
async fn begin(user: &Client, (trouble, address): (Arc<Trouble>, SocketAddr)) -> (Arc<Trouble>, Vec<Entry>) {
    let body = json!({ "name": "Trouble", "outboundUrl": format!("http://{address}/") });
    let linked = user.post("/api/accounts/custom", &body).await.expect(201);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let channel = Channel {
        account_id: text(&linked["account"]["id"]),
        secret: text(&linked["secret"]),
    };
    let mut accepted = Vec::new();
    for chat in (0..CHATS).map(|chat| format!("{}-{chat}", trouble.status)) {
        let conversation = user.receive(&channel, &chat, &chat, "hello").await;
        for message in 0..MESSAGES {
            let text = format!("{chat} {message}");
            user.try_send(&conversation, &text, None, true)
                .await
                .unwrap()
                .expect(202);
            accepted.push(Entry::new(&chat, text));
        }
    }
    (trouble, accepted)
}

/// Only the first message of each chat is tried: the others wait for it.
fn assert_turns(calls: &[Call]) {
    let texts: HashSet<&str> = calls.iter().map(|call| call.text.as_str()).collect();
    let chats: HashSet<&str> = calls.iter().map(|call| call.chat.as_str()).collect();
    assert_eq!(texts.len(), chats.len(), "{texts:?}");
    assert!(texts.iter().all(|text| text.ends_with(" 0")), "{texts:?}");
}

/// Calls that were made at once, in rounds.
fn rounds(calls: &[Call]) -> Vec<Vec<Call>> {
    let mut rounds: Vec<Vec<Call>> = Vec::new();
    for call in calls {
        match rounds.last_mut() {
            Some(round) if call.at - round[0].at < AT_ONCE => round.push(call.clone()),
            _ => rounds.push(vec![call.clone()]),
        }
    }
    rounds
}

/// When the platform is well again everything goes out once, in order, within the longest pause.
async fn all_arrives(trouble: &Trouble, accepted: &[Entry]) {
    let patience = clock::instant() + Duration::from_secs(330);
    while trouble.taken.lock().unwrap().len() < accepted.len() {
        assert!(clock::instant() < patience, "not all goes out");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let taken = trouble.taken.lock().unwrap();
    let seen: Vec<Entry> = taken.iter().map(|call| Entry::new(&call.chat, &call.text)).collect();
    let differences = history::differences(accepted, &seen);
    assert!(differences.is_empty(), "{differences:#?}");
}
