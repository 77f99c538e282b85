//! The measurements, one file each.

mod fanout;
mod idle;
mod me;
mod resume;
mod sends;
mod size;
mod webhooks;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hub_actors::clock::instant;

use crate::database::Database;
use crate::hub::Server;
use crate::postgres::Postgres;
use crate::report::Report;
use crate::{Failure, Outcome, Size, cpu};

/// What can be asked for.
pub const NAMES: [&str; 8] = ["memory", "fanout", "webhooks", "sends", "me", "idle", "resume", "size"];

/// What all parts share.
struct Bench {
    postgres: Postgres,
    size: Size,
    databases: Cell<usize>,
}

impl Bench {
    async fn database(&self) -> Outcome<Database> {
        let number = self.databases.replace(self.databases.get() + 1);
        Database::create(&self.postgres, &format!("load{number}")).await
    }
}

/// Measures the named parts.
pub async fn run(names: &[String], size: Size, report: &mut Report) -> Outcome {
    let bench = Bench {
        postgres: Postgres::start().await?,
        size,
        databases: Cell::new(0),
    };
    for name in names {
        match name.as_str() {
            "memory" => memory(&bench, report).await?,
            "fanout" => fanout::run(&bench, report).await?,
            "webhooks" => webhooks::run(&bench, report).await?,
            "sends" => sends::run(&bench, report).await?,
            "me" => me::run(&bench, report).await?,
            "idle" => idle::run(&bench, report).await?,
            "resume" => resume::run(&bench, report).await?,
            _ => size::run(&bench, report).await?,
        }
    }
    Ok(())
}

/// A hub with nothing to do.
async fn memory(bench: &Bench, report: &mut Report) -> Outcome {
    let database = bench.database().await?;
    let hub = Server::hub(&database.url)?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    report.add(
        "memory",
        "empty hub, resident",
        cpu::resident(hub.pid()) as f64 / 1e6,
        "MB",
    );
    Ok(())
}

/// Time and processor time from a moment on.
struct Meter<'b> {
    bench: &'b Bench,
    server: &'b Server,
    begun: Instant,
    server_cpu: Duration,
    postgres_cpu: Duration,
}

/// What a [`Meter`] has seen.
#[derive(Clone, Copy)]
struct Spent {
    time: Duration,
    server: Duration,
    postgres: Duration,
}

impl Spent {
    /// So many of them a second.
    fn rate(&self, count: usize) -> f64 {
        count as f64 / self.time.as_secs_f64()
    }

    /// Processor time of the server for one of them, in microseconds.
    fn server_each(&self, count: usize) -> f64 {
        self.server.as_secs_f64() * 1e6 / count as f64
    }

    /// The same of PostgreSQL.
    fn postgres_each(&self, count: usize) -> f64 {
        self.postgres.as_secs_f64() * 1e6 / count as f64
    }
}

impl<'b> Meter<'b> {
    fn start(bench: &'b Bench, server: &'b Server) -> Self {
        Self {
            bench,
            server,
            begun: instant(),
            server_cpu: server.cpu(),
            postgres_cpu: bench.postgres.cpu(),
        }
    }

    fn read(&self) -> Spent {
        Spent {
            time: self.begun.elapsed(),
            server: self.server.cpu() - self.server_cpu,
            postgres: self.bench.postgres.cpu() - self.postgres_cpu,
        }
    }
}

/// Tasks of which the first failure counts.
#[derive(Clone, Default)]
struct Crew {
    failure: Rc<RefCell<Option<Failure>>>,
    working: Rc<Cell<usize>>,
}

impl Crew {
    fn spawn(&self, work: impl Future<Output = Outcome> + 'static) {
        let crew = self.clone();
        self.working.set(self.working.get() + 1);
        tokio::task::spawn_local(async move {
            if let Err(failure) = work.await {
                crew.failure.borrow_mut().get_or_insert(failure);
            }
            crew.working.set(crew.working.get() - 1);
        });
    }

    fn check(&self) -> Outcome {
        self.failure.borrow_mut().take().map_or(Ok(()), Err)
    }

    /// Waits until all have ended, or one has failed.
    async fn finish(&self) -> Outcome {
        self.until(|| self.working.get() == 0, Duration::from_secs(600)).await
    }

    /// Waits for a condition; not longer than `patience`, and not after a failure.
    async fn until(&self, condition: impl Fn() -> bool, patience: Duration) -> Outcome {
        let begun = instant();
        loop {
            self.check()?;
            if condition() {
                return Ok(());
            }
            if begun.elapsed() > patience {
                return Err("what was sent has not all arrived".into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
