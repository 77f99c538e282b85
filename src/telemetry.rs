//! The log: lines for people or JSON for machines, on standard output.

use std::io::IsTerminal;

use hub_actors::supervise::install_panic_hook;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, registry};

use crate::settings::{LogFormat, LogSettings};

/// Libraries that tell of their every step at `info`, and one that calls what a stranger sends badly an error: anybody
/// could fill the log with it. A setting that names them wins.
const QUIETER: &str = "actix_server=warn,actix_http=off,refinery_core=warn";
/// Below `warn` it logs the parameters of statements, among them hashes of passwords. No setting makes it.
const NEVER_BELOW_WARN: &str = "tokio_postgres";

/// Starts the log of a hub that serves, on standard output. A second call in one process does nothing.
pub fn start(settings: &LogSettings) {
    start_on(
        settings,
        BoxMakeWriter::new(std::io::stdout),
        std::io::stdout().is_terminal(),
    );
}

/// Starts the log on standard error, for commands whose standard output is their answer.
pub fn start_beside_answer(settings: &LogSettings) {
    start_on(
        settings,
        BoxMakeWriter::new(std::io::stderr),
        std::io::stderr().is_terminal(),
    );
}

fn start_on(settings: &LogSettings, writer: BoxMakeWriter, is_terminal: bool) {
    if log(settings, writer, is_terminal).try_init().is_ok() {
        install_panic_hook();
    }
}

fn log(settings: &LogSettings, writer: BoxMakeWriter, is_terminal: bool) -> impl Subscriber + Send + Sync + 'static {
    // Settings have been checked; a filter that cannot be read still leaves a log.
    let filter =
        EnvFilter::try_new(format!("{QUIETER},{}", settings.filter)).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = fmt::layer().with_writer(writer);
    let lines = match settings.format {
        LogFormat::Text => {
            let has_colours = is_terminal && std::env::var_os("NO_COLOR").is_none();
            lines.with_target(false).with_ansi(has_colours).boxed()
        }
        // Flat, so that a field such as `address` stands beside the message.
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    registry().with(lines).with(filter).with(filter_fn(may_be_logged))
}

fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::WARN || !metadata.target().starts_with(NEVER_BELOW_WARN)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_filter_brings_the_parameters_of_statements_into_the_log() {
        for filter in [
            "trace",
            "tokio_postgres=trace",
            "info,tokio_postgres::query=debug",
            "info,[request]=trace",
            "info,tokio_postgres[request]=trace",
        ] {
            for format in [LogFormat::Text, LogFormat::Json] {
                let paper = Paper::default();
                let copy = paper.clone();
                let settings = LogSettings {
                    format,
                    filter: filter.to_owned(),
                };
                let log = log(&settings, BoxMakeWriter::new(move || copy.clone()), false);
                tracing::subscriber::with_default(log, || {
                    let _inside = tracing::info_span!("request").entered();
                    tracing::debug!(target: "tokio_postgres::query", "executing with parameters: canary");
                    tracing::warn!(target: "tokio_postgres::connection", "in trouble");
                    tracing::info!("ordinary");
                });
                let written = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
                assert!(!written.contains("canary"), "{filter}: {written}");
                assert!(
                    written.contains("in trouble") || filter.contains("tokio_postgres["),
                    "{filter}: {written}"
                );
                assert!(
                    written.contains("ordinary") || !filter.contains("info"),
                    "{filter}: {written}"
                );
            }
        }
    }
}
