//! A hub as a real process, to be killed.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::hub::{ADMIN_TOKEN, JWT_SECRET, VAULT_KEY};
use super::{Client, Database};

/// What `abort` ends a process with (POSIX).
const SIGABRT: i32 = 6;

/// When a process is to die.
#[derive(Clone, Debug)]
pub enum Doom {
    /// Killed from outside after that time.
    After(Duration),
    /// By its own hand, as suddenly as by SIGKILL, when it has passed that failpoint so often; its thread stands still
    /// there for a while first.
    At(&'static str, u32, Duration),
}

/// A running process of the real binary.
pub struct Process {
    pub address: SocketAddr,
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts the hub on a database and waits until it listens.
    pub async fn start(database: &Database) -> Self {
        Self::start_with(database, &[]).await
    }

    /// With other environment variables: settings, or `FAILPOINTS`.
    pub async fn start_with(database: &Database, variables: &[(&str, &str)]) -> Self {
        match Self::try_start(database, variables).await {
            Ok(process) => process,
            Err(process) => panic!("the hub does not listen:\n{}", process.log()),
        }
    }

    /// Starts a hub that is to die. None when it died before it listened: then its doom came so early.
    pub async fn start_doomed(database: &Database, doom: &Doom) -> Option<Self> {
        let Doom::At(point, count, pause) = doom else {
            return Some(Self::start(database).await);
        };
        let abort_at = format!("{point}:{count}:{}", pause.as_millis());
        match Self::try_start(database, &[("ABORT_AT", &abort_at)]).await {
            Ok(process) => Some(process),
            Err(process) => {
                process.died_at(doom).await;
                None
            }
        }
    }

    /// The process without an address when it ended, or did not listen for a minute.
    async fn try_start(database: &Database, variables: &[(&str, &str)]) -> Result<Self, Self> {
        let built = env!("CARGO_BIN_EXE_messaging-hub");
        let mut command = Command::new(std::env::var_os("HUB_TEST_BINARY").unwrap_or_else(|| built.into()));
        command
            .current_dir(database.folder())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        command.envs(database.environment()).envs([
            ("HUB__SERVER__BIND", "127.0.0.1:0"),
            ("HUB__SERVER__WORKERS", "2"),
            ("HUB__AUTH__JWT_SECRET", JWT_SECRET),
            // A long run outlives the usual quarter of an hour.
            ("HUB__AUTH__ACCESS_TTL", "24h"),
            ("HUB__VAULT__KEY", VAULT_KEY),
            ("HUB__ADMIN__TOKEN", ADMIN_TOKEN),
            ("HUB__LIMITS__STANDARD_PER_MINUTE", "1000000"),
            ("HUB__LIMITS__STRICT_PER_MINUTE", "1000000"),
            ("HUB__PLATFORMS__CUSTOM__ALLOW_PRIVATE_NETWORKS", "true"),
        ]);
        let mut child = command
            .envs(variables.iter().copied())
            .spawn()
            .expect("the binary starts");
        let log = Arc::new(Mutex::new(String::new()));
        let output = child.stdout.take().expect("the log is piped");
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let shared = Arc::clone(&log);
        std::thread::spawn(move || read_log(BufReader::new(output), &shared, sender));
        let address = tokio::time::timeout(Duration::from_secs(60), receiver).await;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        match address.ok().and_then(Result::ok) {
            Some(address) => Ok(Self { address, child, log }),
            None => Err(Self {
                address: nowhere,
                child,
                log,
            }),
        }
    }

    /// Waits for its doom to strike. That a process dies of itself at a failpoint proves that the point was passed.
    pub async fn meet(self, doom: &Doom) {
        if let Doom::After(pause) = doom {
            tokio::time::sleep(*pause).await;
            self.kill();
        } else {
            self.died_at(doom).await;
        }
    }

    async fn died_at(mut self, doom: &Doom) {
        use std::os::unix::process::ExitStatusExt;
        for _ in 0..3_000 {
            if let Some(status) = self.child.try_wait().expect("the process can be asked") {
                assert_eq!(status.signal(), Some(SIGABRT), "{doom:?}: {status}\n{}", self.log());
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the process does not come to its end: {doom:?}\n{}", self.log());
    }

    /// A client that is not signed in.
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// The number by which the system knows it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its memory that lies in RAM, now.
    pub fn resident_bytes(&self) -> u64 {
        self.memory()()
    }

    /// Tells its memory that lies in RAM (`VmRSS` of proc_pid_status(5)) whenever it is asked; 0 once it has ended.
    pub fn memory(&self) -> impl Fn() -> u64 + use<> {
        let file = format!("/proc/{}/status", self.child.id());
        move || {
            let status = std::fs::read_to_string(&file).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            kibibytes.unwrap_or_default() * 1_024
        }
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// SIGKILL: nothing is flushed, nothing is closed.
    pub fn kill(mut self) {
        self.child.kill().expect("the process is there to be killed");
        self.child.wait().expect("the process ends");
    }

    /// SIGTERM, and how long it took to end.
    pub async fn terminate(mut self) -> (std::process::ExitStatus, Duration) {
        let begun = hub_actors::clock::instant();
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .expect("kill runs")
                .success()
        );
        loop {
            if let Some(status) = self.child.try_wait().expect("the process can be asked") {
                return (status, begun.elapsed());
            }
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "the hub does not end:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// SIGSTOP: it stands still, its sockets stay open.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT: it goes on as if no time had passed.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &id]).status();
        assert!(status.expect("kill runs").success());
    }

    /// True once it has ended by itself, for example at a failpoint.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the process can be asked").is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_log(output: impl BufRead, log: &Mutex<String>, sender: tokio::sync::oneshot::Sender<SocketAddr>) {
    let mut sender = Some(sender);
    for line in output.lines().map_while(Result::ok) {
        if let Some((_, address)) = line.split_once("listening on http://")
            && let Some(address) = address.split(|end: char| end.is_whitespace() || end == '"').next()
            && let Ok(address) = address.parse()
            && let Some(sender) = sender.take()
        {
            let _ = sender.send(address);
        }
        let mut log = log.lock().unwrap();
        log.push_str(&line);
        log.push('\n');
    }
}
