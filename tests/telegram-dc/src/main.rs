//! The test DC as a program of its own. Settings come from a JSON file or from flags:
//!
//! ```text
//! telegram-dc [--config FILE] [--seed TEXT] [--keys N] [--dc ID=PORT]... [--control PORT]
//! ```
//!
//! When it listens it prints one line of JSON with its addresses, then serves until it is ended.

use std::process::ExitCode;

use telegram_dc::{DcConfig, TelegramDc};

const USAGE: &str = "telegram-dc [--config FILE] [--seed TEXT] [--keys N] [--dc ID=PORT]... \
                     [--control PORT]\nAll ports are on 127.0.0.1; 0 takes a free one.";

fn config(mut args: impl Iterator<Item = String>) -> Result<DcConfig, String> {
    let mut config = DcConfig {
        control: Some(0),
        ..DcConfig::default()
    };
    let mut dcs = Vec::new();
    while let Some(flag) = args.next() {
        if flag == "--help" || flag == "-h" {
            return Err(USAGE.into());
        }
        let value = args.next().ok_or_else(|| format!("{flag} needs a value\n{USAGE}"))?;
        let wrong = |_| format!("{flag}: `{value}` is not a number");
        match flag.as_str() {
            "--config" => {
                let text = std::fs::read_to_string(&value).map_err(|e| format!("{value}: {e}"))?;
                config = serde_json::from_str(&text).map_err(|e| format!("{value}: {e}"))?;
            }
            "--seed" => config.seed = value,
            "--keys" => config.keys = value.parse().map_err(wrong)?,
            "--control" => config.control = Some(value.parse().map_err(wrong)?),
            "--dc" => {
                let (id, port) = value
                    .split_once('=')
                    .ok_or_else(|| format!("--dc wants ID=PORT: {value}"))?;
                dcs.push((id.parse().map_err(wrong)?, port.parse().map_err(wrong)?));
            }
            _ => return Err(format!("no such flag: {flag}\n{USAGE}")),
        }
    }
    if !dcs.is_empty() {
        config.dcs = dcs;
    }
    Ok(config)
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program talks to its caller"
)]
#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "telegram_dc=info".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    let config = match config(std::env::args().skip(1)) {
        Ok(config) => config,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    let seed = config.seed.clone();
    match TelegramDc::start(config).await {
        Ok(dc) => {
            let dcs: Vec<_> = dc
                .addrs
                .iter()
                .map(|(id, addr)| serde_json::json!({ "id": id, "addr": addr }))
                .collect();
            let line = serde_json::json!({ "dcs": dcs, "control": dc.control, "seed": seed });
            println!("{line}");
            if let Err(error) = tokio::signal::ctrl_c().await {
                eprintln!("cannot wait for the end: {error}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}
