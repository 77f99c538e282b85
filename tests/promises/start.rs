//! A hub that does not start has done nothing, and one that is told to stop while it starts does so (P3, P22).

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use hub_actors::Clock;
use messaging_hub::app::{Application, StartError};

use crate::support::{self, Correspondent, Database, Kind, Process, VAULT_KEY};

/// A second hub on a port that is taken must not send what the first one is sending.
#[test]
fn a_start_on_a_taken_port_sends_nothing() {
    support::run(async {
        let database = Database::fresh(Kind::Postgres).await;
        let process = Process::start(&database).await;
        let (mut user, correspondent) = (process.client(), Correspondent::start());
        user.register().await;
        let channel = user.link(&correspondent).await;
        let chat = user.receive(&channel, "chat", "m1", "hello").await;
        correspondent.freeze("chat");
        user.try_send(&chat, "once", None, true).await.unwrap().expect(202);
        process.kill();
        correspondent.thaw("chat");

        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut settings = support::settings(&database);
        settings.server.bind = taken.local_addr().unwrap();
        let refused = Application::build_with_clock(settings.clone(), Clock::system()).await;
        assert!(matches!(refused.err(), Some(StartError::Bind { .. })));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(correspondent.received().is_empty(), "it did not start, and has sent");

        drop(taken);
        let started = Application::build_with_clock(settings, Clock::system()).await.unwrap();
        let stop = started.stop_handle();
        let running = actix_rt::spawn(started.run_until_stopped());
        support::until("the hub that does start sends", async || {
            (correspondent.received().len() == 1).then_some(())
        })
        .await;
        stop.stop();
        running.await.unwrap().unwrap();
    });
}

/// The first process of a container is spared by signals that it does not listen to: they must be heard during the start.
#[test]
fn a_start_that_is_told_to_stop_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://hub@{}/hub", silent.local_addr().unwrap());
    let mut child = Command::new(env!("CARGO_BIN_EXE_messaging-hub"))
        .current_dir(folder.path())
        .envs([
            ("HUB__SERVER__BIND", "127.0.0.1:0"),
            ("HUB__DATABASE__URL", &url),
            ("HUB__DATABASE__CONNECT_TIMEOUT_SECONDS", "300"),
            ("HUB__AUTH__JWT_SECRET", support::JWT_SECRET),
            ("HUB__VAULT__KEY", VAULT_KEY),
        ])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _connection = silent.accept().unwrap();
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let status = support::run(support::until("it ends", async || child.try_wait().unwrap()));
    assert_eq!((status.code(), status.signal()), (Some(0), None));
}
