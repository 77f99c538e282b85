//! P1 and P3: what was answered with a 2xx is there after a SIGKILL, once, with one event, and goes out: at least once
//! on the wire and, by `webhook-id`, exactly once. What was not answered can be repeated under the same key or id.

use std::time::Duration;

use rand::RngExt;

use super::crash::{Run, die_at_each};
use crate::support::{By, Doom, Kind, failpoints_of};
use crate::{on_both_databases, support};

on_both_databases!(killed_at_every_step, killed_at_random_moments);

async fn killed_at_every_step(kind: Kind) {
    let mut run = Run::begin(kind).await;
    for _ in 0..if support::is_long() { 5 } else { 1 } {
        die_at_each(&mut run, kind, failpoints_of(By::P1), 5).await;
    }
    run.end().await;
}

async fn killed_at_random_moments(kind: Kind) {
    let kills = match (support::is_long(), kind) {
        (true, Kind::Postgres) => 1_000,
        (true, Kind::Embedded) => 60,
        (false, _) => 4,
    };
    let mut run = Run::begin(kind).await;
    for _ in 0..kills {
        let pause = Duration::from_millis(run.random.random_range(5..500));
        run.live_and_die(&Doom::After(pause)).await;
    }
    run.end().await;
}
