//! (f) 10,000 clients that were away come back at once, each with its position, and get what they missed.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::{Bench, Crew, Meter};
use crate::hub::Server;
use crate::report::Report;
use crate::seed::received;
use crate::socket::{Socket, in_order, source};
use crate::wire::Connection;
use crate::{Outcome, seed};

const CLIENTS: usize = 10_000;
/// Events that each has missed.
const MISSED: i64 = 5;
/// Handshakes under way at a time: as many as the system's queue of connections holds.
const DOORS: usize = 2_000;
const WRITERS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(120);

pub async fn run(bench: &Bench, report: &mut Report) -> Outcome {
    let clients = bench.size.of(CLIENTS);
    let database = bench.database().await?;
    let people = seed::people(&database, clients, "http://127.0.0.1:9/").await?;
    let hub = Server::hub(&database.url)?;
    let writers = (0..WRITERS).map(|writer| {
        let (people, address) = (&people, hub.address);
        async move {
            let mut connection = Connection::open(address).await?;
            for person in people.iter().skip(writer).step_by(WRITERS) {
                let events = (1..=MISSED).map(|number| received(&format!("m{number}"), "While you were away"));
                let body = format!("[{}]", events.collect::<Vec<_>>().join(","));
                let answer = connection.exchange(&person.delivery("first", &body)).await?;
                if answer.status != 200 {
                    return Err(format!("{}: {}", answer.status, String::from_utf8_lossy(answer.body)).into());
                }
            }
            Outcome::Ok(())
        }
    });
    futures_util::future::try_join_all(writers).await?;
    drop(hub);

    // Another life of the hub: nothing is in its memory.
    database.count_statements().await?;
    let hub = Server::hub(&database.url)?;
    let before = database.statements().await?;
    let (crew, done) = (Crew::default(), Rc::new(Cell::new(0_usize)));
    let doors = Rc::new(Semaphore::new(DOORS));
    let meter = Meter::start(bench, &hub);
    for (number, person) in people.iter().enumerate() {
        let path = person.socket_path(Some(&format!("{}:0", database.epoch)));
        let (address, done, doors) = (hub.address, Rc::clone(&done), Rc::clone(&doors));
        crew.spawn(async move {
            let door = doors.acquire().await?;
            let mut socket = Socket::open(address, source(number), &path).await?;
            drop(door);
            while socket.seq < MISSED {
                socket.read(|last, payload| in_order(last, payload).map(drop)).await?;
            }
            done.set(done.get() + 1);
            // It stays, and nothing may come twice.
            loop {
                socket.read(|last, payload| in_order(last, payload).map(drop)).await?;
                if socket.seq > MISSED {
                    return Err("an event came that nobody sent".into());
                }
            }
        });
    }
    crew.until(|| done.get() == clients, PATIENCE).await?;
    let spent = meter.read();
    let statements = database.statements().await? - before;
    report.add(
        "resume",
        format!("{clients} clients resume at once, {MISSED} events each"),
        spent.time.as_secs_f64(),
        "s",
    );
    report.add("resume", "  SQL statements", statements as f64, "");
    report.add("resume", "  hub CPU a client", spent.server_each(clients), "us");
    report.add(
        "resume",
        "  PostgreSQL CPU a client",
        spent.postgres_each(clients),
        "us",
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    report.add(
        "resume",
        "  SQL statements two seconds later",
        database.statements().await? as f64,
        "",
    );
    crew.check()
}
