//! Measures the hub, the real binary on a real PostgreSQL with its default durability, and beside it what the same
//! machine does with no hub in between: the floors. See docs/PERFORMANCE.md.
//!
//! ```text
//! cargo run --release -p load                        everything, about ten minutes
//! cargo run --release -p load -- sends me            some parts
//! cargo run --release -p load -- --scale 0.02 --seconds 2    a smoke run
//! ```
//! Parts: `memory fanout webhooks sends me idle resume size`. Needs PostgreSQL's programs, not a running server: it starts
//! one by itself on a free port, as an unprivileged user. Ends with a table and one line of JSON.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the developer's terminal"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people; none comes near a limit"
)]

mod cpu;
mod database;
mod floor;
mod hub;
mod latency;
mod parts;
mod platform;
mod postgres;
mod report;
mod seed;
mod socket;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use report::Report;

/// What went wrong, in words.
type Failure = Box<dyn std::error::Error + Send + Sync>;
/// What a measurement gives.
type Outcome<T = ()> = Result<T, Failure>;

/// How large and how long.
#[derive(Clone, Copy, Debug)]
struct Size {
    scale: f64,
    seconds: u64,
}

impl Size {
    /// So many, or the scaled part of it.
    fn of(self, full: usize) -> usize {
        ((full as f64 * self.scale) as usize).max(2)
    }

    /// How long one figure is measured.
    fn time(self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("floor") => floor::serve(&arguments[1..]),
        _ => measure(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("load: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &[String]) -> Outcome {
    let mut size = Size { scale: 1.0, seconds: 8 };
    let mut names = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut number = || rest.next().ok_or(format!("{argument} wants a number"));
        match argument.as_str() {
            "--scale" => size.scale = number()?.parse()?,
            "--seconds" => size.seconds = number()?.parse()?,
            name if parts::NAMES.contains(&name) => names.push(name.to_owned()),
            other => return Err(format!("{other} is not known; parts: {}", parts::NAMES.join(" ")).into()),
        }
    }
    if names.is_empty() {
        names = parts::NAMES.map(str::to_owned).to_vec();
    }
    hub::build()?;
    // One thread: the generator shares two cores with what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report::default();
    let outcome = tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            outcome = parts::run(&names, size, &mut report) => outcome,
            // Everything that was started is ended when the work is dropped.
            _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
            _ = terminated.recv() => Err("terminated".into()),
        }
    });
    report.print();
    outcome
}
