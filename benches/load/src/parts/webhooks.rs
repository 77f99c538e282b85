//! (b) 2,500 users, each with a socket: signed webhooks in, events out, at rising rates. Latency counts from the moment
//! at which a message was due, so a hub that falls behind shows it. Each user must get each message once and in order.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hub_actors::clock::instant;
use tokio::sync::Notify;

use super::{Bench, Crew, Meter};
use crate::hub::Server;
use crate::latency::Latencies;
use crate::report::Report;
use crate::seed::{Person, received};
use crate::socket::{Socket, in_order, number_after, source};
use crate::wire::Connection;
use crate::{Outcome, seed};

const USERS: usize = 2_500;
const RATES: [usize; 7] = [500, 1_000, 2_000, 3_000, 5_000, 7_500, 10_000];
/// Connections on which platforms deliver.
const CONNECTIONS: usize = 200;
/// A rate counts as held when its messages arrive in the time in which they were sent, and a little more.
const SLACK: f64 = 1.1;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct State {
    /// Numbers of the messages that are due.
    queue: RefCell<VecDeque<usize>>,
    news: Notify,
    due: RefCell<Vec<Instant>>,
    /// Which of them have arrived.
    seen: RefCell<Vec<bool>>,
    arrived: Cell<usize>,
    latencies: RefCell<Latencies>,
}

pub async fn run(bench: &Bench, report: &mut Report) -> Outcome {
    let users = bench.size.of(USERS);
    let database = bench.database().await?;
    let people = Rc::new(seed::people(&database, users, "http://127.0.0.1:9/").await?);
    let hub = Server::hub(&database.url)?;
    let (crew, state) = (Crew::default(), Rc::new(State::default()));
    for (user, person) in people.iter().enumerate() {
        let socket = Socket::open(hub.address, source(user), &person.socket_path(None)).await?;
        crew.spawn(follow(socket, user, users, Rc::clone(&state)));
    }
    for _ in 0..CONNECTIONS.min(users) {
        let connection = Connection::open(hub.address).await?;
        crew.spawn(deliver(connection, Rc::clone(&people), Rc::clone(&state)));
    }
    // Everybody once before it counts: what is measured is a day's traffic, not the birth of thousands of actors.
    due(&state, bench.size.of(RATES[0]), users).await;
    crew.until(|| state.arrived.get() == users, PATIENCE).await?;
    let mut best = 0.0;
    for rate in RATES {
        let rate = bench.size.of(rate);
        state.latencies.take();
        let count = rate * usize::try_from(bench.size.seconds)?;
        let meter = Meter::start(bench, &hub);
        due(&state, rate, count).await;
        let first = state.due.borrow().len() - count;
        crew.until(|| state.arrived.get() == first + count, PATIENCE).await?;
        let spent = meter.read();
        let mut latencies = state.latencies.take();
        let (middle, high) = (latencies.milliseconds(0.5), latencies.milliseconds(0.99));
        best = spent.rate(count).max(best);
        report.add(
            "webhooks",
            format!("webhook in -> socket out at {rate}/s: p99 from due"),
            high,
            "ms",
        );
        report.add("webhooks", "  p50 from due", middle, "ms");
        report.add("webhooks", "  hub CPU", spent.server_each(count), "us");
        report.add("webhooks", "  PostgreSQL CPU", spent.postgres_each(count), "us");
        if spent.time > bench.size.time().mul_f64(SLACK) {
            break;
        }
    }
    report.add("webhooks", "saturation", best, "/s");
    Ok(())
}

/// Lets `count` messages become due at the rate; the users take turns.
async fn due(state: &State, rate: usize, count: usize) {
    let begun = instant();
    let mut sent = 0;
    while sent < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let until = ((begun.elapsed().as_secs_f64() * rate as f64) as usize).min(count);
        for turn in sent..until {
            let at = begun + Duration::from_secs_f64(turn as f64 / rate as f64);
            let number = state.due.borrow().len();
            state.due.borrow_mut().push(at);
            state.seen.borrow_mut().push(false);
            state.queue.borrow_mut().push_back(number);
            state.news.notify_one();
        }
        sent = until;
    }
}

/// One of the platforms' connections: delivers what is due, one after the other.
async fn deliver(mut connection: Connection, people: Rc<Vec<Person>>, state: Rc<State>) -> Outcome {
    loop {
        let next = state.queue.borrow_mut().pop_front();
        let Some(number) = next else {
            state.news.notified().await;
            continue;
        };
        let person = &people[number % people.len()];
        let body = received(&format!("m{number}"), &format!("Message number {number}."));
        let answer = connection
            .exchange(&person.delivery(&format!("d{number}"), &body))
            .await?;
        if answer.status != 200 {
            return Err(format!("{}: {}", answer.status, String::from_utf8_lossy(answer.body)).into());
        }
    }
}

/// One user's socket.
async fn follow(mut socket: Socket, user: usize, users: usize, state: Rc<State>) -> Outcome {
    loop {
        socket
            .read(|seq, payload| {
                if !in_order(seq, payload)? {
                    return Ok(());
                }
                let number = number_after(payload, b"Message number ").ok_or("an event without a number")?;
                // The numbers of the stream are checked for order; here, that each message came once, to its user.
                if number % users != user || std::mem::replace(&mut state.seen.borrow_mut()[number], true) {
                    return Err(format!("user {user} got message {number}, again or in vain").into());
                }
                state.arrived.set(state.arrived.get() + 1);
                state.latencies.borrow_mut().add(state.due.borrow()[number].elapsed());
                Ok(())
            })
            .await?;
    }
}
