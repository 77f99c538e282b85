//! The log: lines for people or JSON for machines, on standard output.

use std::io::IsTerminal;

use hub_actors::supervise::install_panic_hook;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::settings::{LogFormat, LogSettings};

/// Libraries that tell of their every step at `info`, and one that calls what a stranger sends badly an error: anybody
/// could fill the log with it. A setting that names them wins.
const QUIETER: &str = "actix_server=warn,actix_http=off,refinery_core=warn";
/// No setting wins over this: at `debug` it logs the parameters of statements, among them hashes of passwords.
const NEVER: &str = "tokio_postgres=warn";

/// Starts the log of a hub that serves, on standard output. A second call in one process does nothing.
pub fn start(settings: &LogSettings) {
    start_on(
        settings,
        BoxMakeWriter::new(std::io::stdout),
        std::io::stdout().is_terminal(),
    );
}

/// Starts a log that says only what goes wrong, on standard error, for commands whose standard output is their answer.
pub fn start_quiet(settings: &LogSettings) {
    let quiet = LogSettings {
        filter: "warn".to_owned(),
        ..settings.clone()
    };
    start_on(
        &quiet,
        BoxMakeWriter::new(std::io::stderr),
        std::io::stderr().is_terminal(),
    );
}

fn start_on(settings: &LogSettings, writer: BoxMakeWriter, is_terminal: bool) {
    // Settings have been checked; a filter that cannot be read still leaves a log.
    let filter =
        EnvFilter::try_new(format!("{QUIETER},{},{NEVER}", settings.filter)).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = match settings.format {
        LogFormat::Text => {
            let colours = is_terminal && std::env::var_os("NO_COLOR").is_none();
            builder.with_target(false).with_ansi(colours).try_init()
        }
        // Flat, so that a field such as `address` stands beside the message.
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(false).try_init(),
    };
    if started.is_ok() {
        install_panic_hook();
    }
}
