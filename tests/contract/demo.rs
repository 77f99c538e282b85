//! The demo, as a newcomer runs it: a real process, what it prints, Ctrl-C, and a second run.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::support::{self, Client};

/// A running demo and what it has printed.
struct Demo {
    child: Child,
    screen: Arc<Mutex<String>>,
}

impl Demo {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_messaging-hub"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HUB__") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .arg("demo")
            .env("HUB__SERVER__BIND", "127.0.0.1:0")
            .current_dir(folder)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let screen = Arc::new(Mutex::new(String::new()));
        let (output, shared) = (child.stdout.take().unwrap(), Arc::clone(&screen));
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                shared.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        Self { child, screen }
    }

    /// What stands behind the words, as soon as it is printed.
    async fn shows(&self, words: &str) -> String {
        let screen = || self.screen.lock().unwrap().clone();
        let look = async || {
            let text = screen();
            let (_, rest) = text.split_once(words)?;
            rest.split_once('\n').map(|(line, _)| line.trim().to_owned())
        };
        support::until_in(std::time::Duration::from_secs(60), words, look).await
    }

    /// A client that is signed in as the screen says, and the conversation that it names.
    async fn sign_in(&self) -> (Client, String, String) {
        let url = self.shows("The hub runs at http://").await;
        let (email, password) = (self.shows("  e-mail    ").await, self.shows("  password  ").await);
        let conversation = self.shows("/api/messages/").await;
        let conversation = conversation.split('/').next().unwrap().to_owned();
        self.shows("Live:").await;
        let mut client = Client::new(url.parse().unwrap());
        let answer = client
            .post("/api/auth/login", &json!({ "email": email, "password": password }))
            .await
            .expect(200);
        client.keep(&answer);
        (client, conversation, password)
    }

    /// Ctrl-C.
    async fn interrupt(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        let status = support::until("the demo ends", async || self.child.try_wait().unwrap()).await;
        assert!(status.success(), "{status}");
        assert!(self.screen.lock().unwrap().contains("The next run finds its data."));
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_newcomer_writes_stops_and_comes_back() {
    support::run(async {
        let folder = tempfile::tempdir().unwrap();
        let demo = Demo::start(folder.path());
        let (user, conversation, password) = demo.sign_in().await;
        user.send(&conversation, "my first words", None).await.expect(201);
        demo.shows("Ada  my first words").await;
        demo.shows("Ada got your message; signature valid").await;
        demo.interrupt().await;
        assert!(folder.path().join("data/demo/secrets.toml").is_file());
        assert!(!folder.path().join("data/secrets.toml").exists());

        let demo = Demo::start(folder.path());
        let (user, same, password_again) = demo.sign_in().await;
        assert_eq!((same, password_again), (conversation.clone(), password));
        let thread = user.get(&format!("/api/messages/{conversation}")).await;
        thread.expect(200);
        assert!(thread.text.contains("my first words"), "{}", thread.text);
        demo.interrupt().await;
    });
}
