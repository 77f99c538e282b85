//! (d) `GET /api/auth/me` by 64 clients that keep their connections.

use std::cell::Cell;
use std::rc::Rc;

use hub_actors::clock::instant;

use super::{Bench, Crew, Meter, Spent};
use crate::hub::Server;
use crate::report::Report;
use crate::wire::{Connection, get};
use crate::{Outcome, seed};

pub const CLIENTS: usize = 64;

pub async fn run(bench: &Bench, report: &mut Report) -> Outcome {
    let database = bench.database().await?;
    let people = seed::people(&database, CLIENTS, "http://127.0.0.1:9/").await?;
    let requests = |path| {
        people
            .iter()
            .map(move |person| get(path, &person.token))
            .collect::<Vec<_>>()
    };
    let bare = Server::floor("me", &database.url)?;
    let (floor, floor_count, _) = ask(bench, &bare, requests("/me")).await?;
    drop(bare);
    let hub = Server::hub(&database.url)?;
    let (spent, count, head) = ask(bench, &hub, requests("/api/auth/me")).await?;
    report.compare(
        "me",
        "GET /api/auth/me",
        spent.rate(count),
        "/s",
        floor.rate(floor_count),
    );
    let (each, floor_each) = (spent.server_each(count), floor.server_each(floor_count));
    report.compare("me", "  hub CPU", each, "us", floor_each);
    let (each, floor_each) = (spent.postgres_each(count), floor.postgres_each(floor_count));
    report.compare("me", "  PostgreSQL CPU", each, "us", floor_each);
    report.add("me", "  bytes of headers", head as f64, "bytes");
    Ok(())
}

/// Every client repeats its request; counts the answers after a second of warming up.
async fn ask(bench: &Bench, server: &Server, requests: Vec<Vec<u8>>) -> Outcome<(Spent, usize, usize)> {
    let (crew, count, head) = (Crew::default(), Rc::new(Cell::new(0_usize)), Rc::new(Cell::new(0)));
    let begun = instant();
    let warm = std::time::Duration::from_secs(1);
    let length = warm + bench.size.time();
    for request in requests {
        let (count, head, address) = (Rc::clone(&count), Rc::clone(&head), server.address);
        crew.spawn(async move {
            let mut connection = Connection::open(address).await?;
            while begun.elapsed() < length {
                let answer = connection.exchange(&request).await?;
                if answer.status != 200 || !answer.body.starts_with(b"{") {
                    return Err(format!("{}: {}", answer.status, String::from_utf8_lossy(answer.body)).into());
                }
                head.set(answer.head_bytes);
                count.set(count.get() + 1);
            }
            Ok(())
        });
    }
    tokio::time::sleep(warm).await;
    let (meter, before) = (Meter::start(bench, server), count.get());
    tokio::time::sleep(bench.size.time()).await;
    let (spent, counted) = (meter.read(), count.get() - before);
    crew.finish().await?;
    Ok((spent, counted, head.get()))
}
