//! (a) One user's stream to 1,000 sockets: at 50 messages a second, and at saturation. Every socket must get every event
//! once and in order. Before that, the floors of sockets: an echo, and a loop that writes one frame to each.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hub_actors::clock::instant;
use tokio::time::MissedTickBehavior;

use super::{Bench, Crew, Meter, Spent};
use crate::hub::Server;
use crate::latency::Latencies;
use crate::report::Report;
use crate::seed::{Person, received};
use crate::socket::{Socket, in_order, number_after, source};
use crate::wire::{Connection, post};
use crate::{Outcome, seed};

const SOCKETS: usize = 1_000;
const RATE: u32 = 50;
/// Events of one delivery at saturation, and events that may be on their way at once: the hub ends a socket for which
/// a megabyte waits.
const BURST: usize = 50;
const ON_THE_WAY: usize = 150;
const PATIENCE: Duration = Duration::from_secs(30);

/// What all sockets have got.
#[derive(Default)]
struct Got {
    events: Cell<usize>,
    bytes: Cell<usize>,
    latencies: RefCell<Latencies>,
    /// When each message was due.
    due: RefCell<Vec<Instant>>,
}

pub async fn run(bench: &Bench, report: &mut Report) -> Outcome {
    echo(bench, report).await?;
    let sockets = bench.size.of(SOCKETS);
    let database = bench.database().await?;
    let person = seed::people(&database, 1, "http://127.0.0.1:9/").await?.remove(0);
    let hub = Server::hub(&database.url)?;
    let path = person.socket_path(None);
    let (crew, got) = listen(&hub, sockets, &path).await?;
    let mut source = Source::Hub(&person, Connection::open(hub.address).await?, 0);
    let (steady, count) = steadily(bench, &hub, &crew, &got, &mut source, sockets).await?;
    let frame = got.bytes.get() / got.events.get().max(1);
    let p99 = got.latencies.borrow_mut().milliseconds(0.99);
    let (full, full_count) = saturated(bench, &hub, &crew, &got, &mut source, sockets).await?;
    drop(hub);

    let bare = Server::floor("loop", "")?;
    let (crew, got) = listen(&bare, sockets, "/").await?;
    let mut source = Source::Floor(frame, Connection::open(bare.address).await?, 0);
    let (floor, floor_count) = steadily(bench, &bare, &crew, &got, &mut source, sockets).await?;
    let (floor_full, floor_full_count) = saturated(bench, &bare, &crew, &got, &mut source, sockets).await?;

    let (each, floor_each) = (steady.server_each(count), floor.server_each(floor_count));
    report.compare(
        "fanout",
        format!("hub CPU a delivery, {sockets} sockets, {RATE}/s"),
        each,
        "us",
        floor_each,
    );
    report.add("fanout", "  p99 from due to received, all sockets", p99, "ms");
    report.add("fanout", "  bytes of a frame", frame as f64, "bytes");
    let (rate, floor_rate) = (full.rate(full_count), floor_full.rate(floor_full_count));
    report.compare("fanout", "deliveries at saturation", rate, "/s", floor_rate);
    let (each, floor_each) = (full.server_each(full_count), floor_full.server_each(floor_full_count));
    report.compare("fanout", "  hub CPU a delivery", each, "us", floor_each);
    Ok(())
}

/// Where messages come from.
enum Source<'a> {
    /// Signed deliveries of the person's platform; the number of the last one.
    Hub(&'a Person, Connection, usize),
    /// Frames of so many bytes, posted to the floor.
    Floor(usize, Connection, usize),
}

impl Source<'_> {
    /// Sends so many messages.
    async fn send(&mut self, count: usize) -> Outcome {
        match self {
            Self::Hub(person, connection, last) => {
                let numbers = *last + 1..=*last + count;
                let events =
                    numbers.map(|number| received(&format!("m{number}"), &format!("Message number {number}.")));
                let body = format!("[{}]", events.collect::<Vec<_>>().join(","));
                *last += count;
                let request = person.delivery(&format!("d{last}"), &body);
                let answer = connection.exchange(&request).await?;
                if answer.status != 200 {
                    return Err(format!("{}: {}", answer.status, String::from_utf8_lossy(answer.body)).into());
                }
            }
            Self::Floor(bytes, connection, last) => {
                for _ in 0..count {
                    *last += 1;
                    let text = format!("Message number {last}.");
                    let body = format!(
                        r#"{{"text":"{text:<width$}","seq":{last}}}"#,
                        width = bytes.saturating_sub(28)
                    );
                    connection.exchange(&post("/publish", "", &body)).await?;
                }
            }
        }
        Ok(())
    }
}

/// Opens the sockets, which then count and check what they get.
async fn listen(server: &Server, sockets: usize, path: &str) -> Outcome<(Crew, Rc<Got>)> {
    let (crew, got) = (Crew::default(), Rc::new(Got::default()));
    for number in 0..sockets {
        let mut socket = Socket::open(server.address, source(number), path).await?;
        let got = Rc::clone(&got);
        crew.spawn(async move {
            loop {
                socket
                    .read(|last, payload| {
                        if in_order(last, payload)? {
                            got.events.set(got.events.get() + 1);
                            got.bytes.set(got.bytes.get() + payload.len());
                            let number = number_after(payload, b"Message number ").unwrap_or_default();
                            if let Some(due) = got.due.borrow().get(number.wrapping_sub(1)) {
                                got.latencies.borrow_mut().add(due.elapsed());
                            }
                        }
                        Ok(())
                    })
                    .await?;
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok((crew, got))
}

/// One message at a time, at the rate. The latencies are counted from the moment at which a message was due.
async fn steadily(
    bench: &Bench,
    server: &Server,
    crew: &Crew,
    got: &Got,
    source: &mut Source<'_>,
    sockets: usize,
) -> Outcome<(Spent, usize)> {
    let meter = Meter::start(bench, server);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let messages = usize::try_from(bench.size.time().as_secs())? * RATE as usize;
    for _ in 0..messages {
        let due = ticks.tick().await.into_std();
        got.due.borrow_mut().push(due);
        source.send(1).await?;
    }
    crew.until(|| got.events.get() == messages * sockets, PATIENCE).await?;
    Ok((meter.read(), messages * sockets))
}

/// As many as the slowest socket takes.
async fn saturated(
    bench: &Bench,
    server: &Server,
    crew: &Crew,
    got: &Got,
    source: &mut Source<'_>,
    sockets: usize,
) -> Outcome<(Spent, usize)> {
    let before = got.events.get();
    let meter = Meter::start(bench, server);
    let mut sent = 0;
    while meter.begun.elapsed() < bench.size.time() {
        source.send(BURST).await?;
        sent += BURST;
        crew.until(
            || before + (sent.saturating_sub(ON_THE_WAY)) * sockets <= got.events.get(),
            PATIENCE,
        )
        .await?;
    }
    crew.until(|| got.events.get() == before + sent * sockets, PATIENCE)
        .await?;
    Ok((meter.read(), sent * sockets))
}

/// The floor of a socket that answers: 64 clients, one text at a time.
async fn echo(bench: &Bench, report: &mut Report) -> Outcome {
    let bare = Server::floor("echo", "")?;
    let (crew, count) = (Crew::default(), Rc::new(Cell::new(0_usize)));
    let meter = Meter::start(bench, &bare);
    let (begun, length) = (instant(), bench.size.time());
    for _ in 0..super::me::CLIENTS {
        let mut socket = Socket::open(bare.address, source(0), "/").await?;
        let count = Rc::clone(&count);
        crew.spawn(async move {
            while begun.elapsed() < length {
                socket.send("an echo").await?;
                let back = Cell::new(false);
                while !back.get() {
                    socket
                        .read(|_, payload| {
                            back.set(payload == b"an echo");
                            Ok(())
                        })
                        .await?;
                }
                count.set(count.get() + 1);
            }
            Ok(())
        });
    }
    crew.finish().await?;
    let spent = meter.read();
    report.add(
        "fanout",
        "floor: bare actix-web socket echo",
        spent.rate(count.get()),
        "/s",
    );
    report.add("fanout", "  CPU an echo", spent.server_each(count.get()), "us");
    Ok(())
}
