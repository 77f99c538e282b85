//! Servers as processes of their own: the hub, and the floors.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use hub_actors::clock::instant;

use crate::{Outcome, cpu};

/// Signs access tokens; the hub and [`crate::seed`] know it.
pub const JWT_SECRET: &str = "a secret for measuring, at least thirty-two bytes";
/// Seals content.
pub const VAULT_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// What differs from the defaults: addresses, keys, and bounds that a single user of a measurement would meet.
const SETTINGS: [(&str, &str); 8] = [
    ("HUB__SERVER__BIND", "127.0.0.1:0"),
    ("HUB__AUTH__JWT_SECRET", JWT_SECRET),
    ("HUB__AUTH__ACCESS_TTL", "1d"),
    ("HUB__VAULT__KEY", VAULT_KEY),
    ("HUB__LIMITS__STANDARD_PER_MINUTE", "10000000"),
    ("HUB__LIMITS__STRICT_PER_MINUTE", "10000000"),
    ("HUB__WEBSOCKET__MAX_PER_USER", "10000"),
    ("HUB__PLATFORMS__CUSTOM__ALLOW_PRIVATE_NETWORKS", "true"),
];

/// A server that runs.
pub struct Server {
    pub address: SocketAddr,
    /// From the start of the process to the line that says that it listens.
    pub started_in: Duration,
    child: Child,
}

/// Builds the hub when cargo runs us; it then lies beside us.
pub fn build() -> Outcome {
    if let Some(cargo) = std::env::var_os("CARGO") {
        let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
        let arguments = [
            "build",
            "--package",
            "messaging-hub",
            "--bin",
            "messaging-hub",
            "--profile",
            profile,
        ];
        if !Command::new(cargo).args(arguments).status()?.success() {
            return Err("the hub does not build".into());
        }
    }
    Ok(())
}

impl Server {
    /// The hub on a database.
    pub fn hub(database_url: &str) -> Outcome<Self> {
        let program = std::env::current_exe()?.with_file_name("messaging-hub");
        // For profiles: LOAD_UNDER="valgrind --tool=callgrind", for example.
        let under = std::env::var("LOAD_UNDER").unwrap_or_default();
        let mut words = under.split_whitespace();
        let mut command = Command::new(words.next().map_or(program.as_os_str(), OsStr::new));
        command.args(words);
        if !under.is_empty() {
            command.arg(&program);
        }
        command.envs(SETTINGS).env("HUB__DATABASE__URL", database_url);
        // No settings file of the folder that we are called in.
        command.current_dir(PathBuf::from("/"));
        Self::start(command)
    }

    /// A floor; see [`crate::floor`].
    pub fn floor(kind: &str, database_url: &str) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["floor", kind, database_url]);
        Self::start(command)
    }

    fn start(mut command: Command) -> Outcome<Self> {
        let begun = instant();
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or("the output is not piped")?;
        let (sender, receiver) = sync_channel(1);
        std::thread::spawn(move || follow(BufReader::new(output), &sender));
        let Ok(address) = receiver.recv_timeout(Duration::from_secs(120)) else {
            let _ = child.kill();
            return Err("a server does not listen".into());
        };
        Ok(Self {
            address,
            started_in: begun.elapsed(),
            child,
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Processor time so far.
    pub fn cpu(&self) -> Duration {
        cpu::of(self.pid())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::env::var_os("LOAD_UNDER").is_some() {
            // A profiler writes when its program ends by itself.
            let _ = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
        } else {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Finds the address, then keeps reading so that the pipe never fills, and passes complaints on.
fn follow(output: impl BufRead, sender: &std::sync::mpsc::SyncSender<SocketAddr>) {
    let mut complaints = 0;
    for line in output.lines().map_while(Result::ok) {
        if let Some((_, rest)) = line.split_once("listening on http://")
            && let Some(Ok(address)) = rest.split_whitespace().next().map(str::parse)
        {
            let _ = sender.try_send(address);
        } else if (line.contains(" WARN ") || line.contains(" ERROR ")) && complaints < 5 {
            complaints += 1;
            eprintln!("hub: {line}");
        }
    }
}
