//! A PostgreSQL of our own: default durability (fsync and synchronous_commit on), a free port, an unprivileged user.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use crate::{Outcome, cpu};

/// A running server, ended with this value.
pub struct Postgres {
    server: Child,
    folder: PathBuf,
    port: u16,
}

impl Postgres {
    /// Makes a cluster in a fresh temporary folder and starts it.
    pub async fn start() -> Outcome<Self> {
        let programs = programs()?;
        let owner = owner()?;
        // Where another user may enter: PostgreSQL does not run as root.
        let folder = std::env::temp_dir().join(format!("hub-load.{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(&folder, Some(user), Some(group))?;
        }
        let as_owner = |program: &str| {
            let mut command = Command::new(programs.join(program));
            command.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
            if let Some((user, group)) = owner {
                command.uid(user).gid(group);
            }
            command
        };
        let data = folder.join("data");
        let made = as_owner("initdb")
            .args(["--username=hub", "--auth=trust", "--encoding=UTF8", "--no-locale", "-D"])
            .arg(&data)
            .status()?;
        if !made.success() {
            return Err("initdb failed".into());
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let server = as_owner("postgres")
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&folder)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={port}")])
            // The only other change: statements can be counted, and are not unless a part asks for it.
            .args([
                "-c",
                "max_connections=200",
                "-c",
                "shared_preload_libraries=pg_stat_statements",
            ])
            .args(["-c", "pg_stat_statements.track=none"])
            .spawn()?;
        let postgres = Self { server, folder, port };
        for _ in 0..300 {
            if postgres.client("postgres").await.is_ok() {
                return Ok(postgres);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err("PostgreSQL does not start".into())
    }

    /// Where a database is.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://hub@127.0.0.1:{}/{database}", self.port)
    }

    /// A connection, whose bytes move on this runtime.
    pub async fn client(&self, database: &str) -> Outcome<Client> {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Processor time of the server and all its processes, also of those that have ended.
    pub fn cpu(&self) -> Duration {
        cpu::of_family(self.server.id())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT: a fast shutdown (PostgreSQL, section 18.5).
        let id = self.server.id().to_string();
        let _ = Command::new("kill").args(["-INT", &id]).status();
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The folder with the newest server's programs.
fn programs() -> Outcome<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .map_err(|_| "PostgreSQL is missing: sudo apt-get install -y postgresql")?
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, programs)| programs.join("initdb").exists())
        .collect();
    versions.sort();
    let (_, newest) = versions
        .pop()
        .ok_or("initdb is missing: sudo apt-get install -y postgresql")?;
    Ok(newest)
}

/// The user and group to run the server as; none when we are not root, and may be the owner ourselves.
fn owner() -> Outcome<Option<(u32, u32)>> {
    if !fs::read_to_string("/proc/self/status")?
        .lines()
        .any(|line| line.starts_with("Uid:\t0"))
    {
        return Ok(None);
    }
    let users = fs::read_to_string(Path::new("/etc/passwd"))?;
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2);
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    Ok(Some(
        find("postgres")
            .or_else(|| find("nobody"))
            .ok_or("no user to run PostgreSQL as")?,
    ))
}
