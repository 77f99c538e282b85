//! A Redis server of the tests' own.

use std::collections::HashSet;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server on a free port, without persistence. Ends when it is dropped.
pub struct RedisServer {
    process: Child,
    port: u16,
}

impl RedisServer {
    /// Starts one.
    pub async fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self {
            process: spawn(port),
            port,
        };
        server.wait().await;
        server
    }

    /// Lets it stand still, or go on: its connections stay, but it does not answer.
    pub fn pause(&self, is_paused: bool) {
        let signal = if is_paused { "-STOP" } else { "-CONT" };
        let status = Command::new("kill")
            .args([signal, &self.process.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// The numbers that it has given to the connections which subscribe to something.
    pub async fn subscribers(&self) -> HashSet<String> {
        let client = redis::Client::open(self.url()).unwrap();
        let mut line = client.get_multiplexed_async_connection().await.unwrap();
        let mut ask = redis::cmd("CLIENT");
        let list: String = ask
            .arg("LIST")
            .arg("TYPE")
            .arg("pubsub")
            .query_async(&mut line)
            .await
            .unwrap();
        list.lines()
            .filter_map(|line| line.split(' ').next().map(str::to_owned))
            .collect()
    }

    /// Kills it and starts it again.
    pub async fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = spawn(self.port);
        self.wait().await;
    }

    async fn wait(&self) {
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("Redis does not listen");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(port: u16) -> Child {
    Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is needed: ./test.sh installs it, or apt-get install redis-server")
}
