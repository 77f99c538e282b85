//! The command line.
#![expect(clippy::print_stdout, reason = "answers go there")]
#![expect(clippy::print_stderr, reason = "complaints go there")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use messaging_hub::app::{Application, StartError};
use messaging_hub::demo::DemoError;
use messaging_hub::settings::{KeySource, Settings, SettingsError};
use messaging_hub::{demo, doctor, http, maintenance, telemetry};

/// Messages are many small values that are made on one thread and dropped on another, which is where the system's allocator is
/// weak; see docs/PERFORMANCE.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A self-hosted hub that brings the messages of every platform into one ordered, durable, live inbox.
///
/// Exit codes: 0 done, 1 failed, 2 wrong command line or settings.
#[derive(Parser)]
#[command(version)]
struct CommandLine {
    /// Settings file; the default is ./config.toml if it is there. HUB__SECTION__KEY in the environment wins over it.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Copy, Subcommand)]
enum Command {
    /// Run the hub (the default).
    Serve,
    /// Run a hub with a correspondent that writes to you, to try it out.
    Demo,
    /// Bring the database to the version that this hub needs, and end.
    Migrate {
        /// Also let every client read afresh: after data/, or the files of a database server, were put back from a copy.
        #[arg(long)]
        new_epoch: bool,
    },
    /// Check settings, address, folder, keys, database, clock and Redis; say what is wrong and what to do.
    Doctor,
    /// Ask the hub that runs with these settings whether it is well.
    Health,
    /// Print the OpenAPI document.
    Openapi,
    /// Seal everything in the database with a new key, while hubs on the same external database keep serving.
    RotateKey,
}

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _failpoints = failpoints();
    let line = CommandLine::parse();
    match actix_rt::System::new().block_on(run(line)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(failure) => {
            eprintln!("messaging-hub: {failure}");
            ExitCode::from(if matches!(failure, Failure::Settings(_)) { 2 } else { 1 })
        }
    }
}

/// What `FAILPOINTS` says and, with `ABORT_AT=point:count:milliseconds`, an end when that point has been passed so often,
/// after its thread has stood still for so long. It is as sudden as SIGKILL: nothing is flushed, nothing is closed.
#[cfg(feature = "failpoints")]
fn failpoints() -> fail::FailScenario<'static> {
    use std::sync::atomic::{AtomicU64, Ordering};
    let scenario = fail::FailScenario::setup();
    let abort_at = std::env::var("ABORT_AT").unwrap_or_default();
    let mut parts = abort_at.split(':');
    if let Some(point) = parts.next().filter(|point| !point.is_empty()) {
        let mut numbers = parts.map(|number| number.parse().unwrap_or(0));
        let left = AtomicU64::new(numbers.next().unwrap_or(1));
        let pause = std::time::Duration::from_millis(numbers.next().unwrap_or(0));
        #[expect(clippy::disallowed_methods, reason = "the thread is meant to stand still")]
        let abort = move || {
            if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                std::thread::sleep(pause);
                std::process::abort();
            }
        };
        if let Err(error) = fail::cfg_callback(point, abort) {
            eprintln!("messaging-hub: ABORT_AT: {error}");
        }
    }
    scenario
}

/// Why a command ends without having done its work.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("{0}")]
    Work(String),
}

fn failed(error: impl std::error::Error) -> Failure {
    Failure::Work(error.to_string())
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Settings(error) => Self::Settings(error),
            error => failed(error),
        }
    }
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        match error {
            DemoError::Settings(error) | DemoError::Hub(StartError::Settings(error)) => Self::Settings(error),
            error => failed(error),
        }
    }
}

/// False when a check found something wrong.
async fn run(CommandLine { config, command }: CommandLine) -> Result<bool, Failure> {
    let settings = Settings::load(config.as_deref());
    match command.unwrap_or(Command::Serve) {
        Command::Serve => serve(settings?).await?,
        Command::Demo => demo::run(settings?).await?,
        Command::Doctor => {
            let findings = doctor::examine(settings).await;
            findings.iter().for_each(|finding| println!("{finding}"));
            return Ok(findings.iter().all(|finding| finding.result.is_ok()));
        }
        Command::Health => return Ok(doctor::is_healthy(&settings?).await),
        Command::Openapi => println!("{}", http::openapi::document().to_pretty_json().map_err(failed)?),
        Command::Migrate { new_epoch } => {
            println!("{}", maintenance::migrate(settings?, new_epoch).await?);
        }
        Command::RotateKey => println!("{}", maintenance::rotate_key(settings?).await?),
    }
    Ok(true)
}

async fn serve(mut settings: Settings) -> Result<(), Failure> {
    telemetry::start(&settings.log);
    if let KeySource::Created(file) = settings.ensure_keys()? {
        tracing::info!("the keys of this hub were made; they are in {}", file.display());
    }
    for section in settings.platforms.without_effect() {
        tracing::warn!("{section} is set, and has no effect in this version");
    }
    match Application::build(settings).await {
        Err(StartError::Interrupted) => {
            tracing::info!("{}", StartError::Interrupted);
            Ok(())
        }
        application => Ok(application?.run_until_stopped().await?),
    }
}
