//! (e) 19,000 authenticated sockets on which nothing happens, each of another user: resident memory of one.

use std::time::Duration;

use super::{Bench, Crew};
use crate::hub::Server;
use crate::report::Report;
use crate::socket::{Socket, source};
use crate::{Outcome, cpu, seed};

const SOCKETS: usize = 19_000;
/// Handshakes at a time.
const DOORS: usize = 100;

pub async fn run(bench: &Bench, report: &mut Report) -> Outcome {
    let sockets = bench.size.of(SOCKETS);
    let database = bench.database().await?;
    let people = seed::people(&database, sockets, "http://127.0.0.1:9/").await?;
    let hub = Server::hub(&database.url)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = cpu::resident(hub.pid());
    let crew = Crew::default();
    for group in people.chunks(DOORS).enumerate() {
        let (number, group) = group;
        let opening = group.iter().enumerate().map(|(offset, person)| {
            let source = source(number * DOORS + offset);
            async move { Socket::open(hub.address, source, &person.socket_path(None)).await }
        });
        for mut socket in futures_util::future::try_join_all(opening).await? {
            crew.spawn(async move {
                loop {
                    socket.read(|_, _| Ok(())).await?;
                }
            });
        }
    }
    // What opening needed for a moment is given back or used again.
    tokio::time::sleep(Duration::from_secs(30)).await;
    crew.check()?;
    let grown = cpu::resident(hub.pid()).saturating_sub(before) as f64;
    report.add(
        "idle",
        format!("resident memory of one of {sockets} idle sockets"),
        grown / sockets as f64 / 1024.0,
        "KiB",
    );
    report.add("idle", "  the hub before them, resident", before as f64 / 1e6, "MB");
    let begun = hub.cpu();
    let time = Duration::from_secs(20);
    tokio::time::sleep(time).await;
    let share = (hub.cpu() - begun).as_secs_f64() / time.as_secs_f64() * 100.0;
    report.add(
        "idle",
        "  CPU of the hub meanwhile (pings, checks)",
        share,
        "% of a core",
    );
    crew.check()
}
