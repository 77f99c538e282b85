//! What lives here: the demo: a hub, a ready user, and a correspondent that speaks the custom channel from outside.
//! Who calls it: main, for the command `demo`.
//! What it may not know: the hub from inside. It reaches the hub like anybody: through REST and signed webhooks.

mod correspondent;
mod courier;
mod hub_client;
mod keepsake;
mod screen;
mod script;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use hub_actors::Clock;
use secrecy::SecretString;
use serde_json::Value;

use crate::app::{Application, StartError};
use crate::platforms::address::Guard;
use crate::platforms::{ClientError, client};
use crate::settings::{Settings, SettingsError};
use crate::telemetry;

use correspondent::Correspondent;
use hub_client::{HubClient, RequestError};
use keepsake::{Keepsake, KeepsakeError};
use screen::Screen;

/// How often the view asks for new events.
const POLL: Duration = Duration::from_millis(400);
/// How long the first message may take from the correspondent's socket to the inbox.
const FIRST_MESSAGE_PATIENCE: Duration = Duration::from_secs(15);
/// The demo's own limit: its view asks often, under the same user as the person who tries it.
const REQUESTS_PER_MINUTE: u32 = 2_000;

const STOPPED: &str = "Stopped. The next run finds its data.";

/// Why the demo ends.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The settings do not allow it.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The demo's own file cannot be read or written, or another demo holds it.
    #[error(transparent)]
    Keepsake(#[from] KeepsakeError),
    /// The hub does not start, or ended with an error.
    #[error("the hub: {0}")]
    Hub(#[from] StartError),
    /// The hub's answer cannot be used.
    #[error("the hub: {0}")]
    Answer(String),
    /// The hub ended without a word.
    #[error("the hub crashed: {0}")]
    Crashed(#[from] tokio::task::JoinError),
    /// The correspondent cannot listen.
    #[error("the correspondent cannot listen on 127.0.0.1: {0}")]
    Correspondent(#[source] std::io::Error),
    /// No HTTP client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The hub answered otherwise than expected.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The user of an earlier run cannot sign in any more.
    #[error("the demo's user cannot sign in: remove the folder {} to begin afresh", .0.display())]
    OtherPassword(PathBuf),
    /// Something on the way is stuck.
    #[error("the correspondent's first message did not reach the inbox within 15 seconds")]
    NoFirstMessage,
}

/// Runs the demo until Ctrl-C or SIGTERM.
///
/// # Errors
/// [`DemoError`] says what does not work.
pub async fn run(settings: Settings) -> Result<(), DemoError> {
    let screen = Screen::new();
    let clock = Clock::system();
    let mut settings = prepare(settings);
    telemetry::start_beside_answer(&settings.log);
    let folder = settings.database.path.clone();
    screen.step(&format!("Data folder: {}", folder.display()));
    let mut keepsake = Keepsake::open(&folder)?;
    settings.ensure_keys()?;
    pick_free_port(&mut settings, &screen);

    screen.step("Starting the hub on its embedded PostgreSQL (the first start makes the database) …");
    let give_up = settings.platforms.custom.timeout_seconds;
    let client = client::build(Duration::from_secs(give_up.max(10)), Guard { allow_private: true })?;
    let application = match Application::build(settings).await {
        Err(StartError::Interrupted) => return Ok(()),
        application => application?,
    };
    let url = format!("http://{}", application.address());
    screen.step(&format!("listening on {url}"));
    let stop = application.stop_handle();
    let mut hub = actix_rt::spawn(application.run_until_stopped());

    let visit = async {
        let hub = HubClient::new(client.clone(), &url);
        let correspondent = introduce(&screen, &hub, &mut keepsake, client, clock).await?;
        let conversation = first_conversation(&hub).await?;
        screen.welcome(&url, &keepsake, &conversation);
        let watching = watch(&screen, &hub);
        tokio::select! {
            never = correspondent.live() => match never {},
            result = watching => result,
        }
    };
    let outcome = tokio::select! {
        // The hub listens to signals by itself: it has drained when this comes back.
        ended = &mut hub => {
            ended??;
            screen.step(STOPPED);
            return Ok(());
        }
        result = visit => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    screen.step("Stopping …");
    stop.stop();
    let ended = hub.await?;
    outcome?;
    ended?;
    screen.step(STOPPED);
    Ok(())
}

/// What a demo needs to differ from a served hub.
fn prepare(mut settings: Settings) -> Settings {
    if settings.log.filter == Settings::default().log.filter {
        "warn".clone_into(&mut settings.log.filter);
    }
    settings.database.url = SecretString::from("embedded");
    // Never a served hub's own data, wherever that lies: in the demo the hub may call this machine.
    settings.database.path = settings.database.path.join("demo");
    settings.redis.url = None;
    settings.auth.allow_registration = true;
    settings.platforms.custom.allow_private_networks = true;
    settings.limits.standard_per_minute = settings.limits.standard_per_minute.max(REQUESTS_PER_MINUTE);
    settings
}

/// Somebody who tries a demo should not have to look for what occupies port 8000.
fn pick_free_port(settings: &mut Settings, screen: &Screen) {
    let wanted = settings.server.bind;
    if wanted.port() != 0 && TcpListener::bind(wanted).is_err() {
        settings.server.bind = SocketAddr::new(wanted.ip(), 0);
        screen.step(&format!("{wanted} is taken; taking a free port instead"));
    }
}

/// Makes everybody known to each other: the user to the hub, the hub to the correspondent and the other way round.
async fn introduce(
    screen: &Screen,
    hub: &HubClient,
    keepsake: &mut Keepsake,
    client: reqwest::Client,
    clock: Clock,
) -> Result<Correspondent, DemoError> {
    if !hub.sign_in(&keepsake.email, &keepsake.password).await? {
        if !hub.register(&keepsake.email, &keepsake.password).await? {
            return Err(DemoError::OtherPassword(keepsake.folder().to_owned()));
        }
        screen.step(&format!(
            "Registered the user {} (POST /api/auth/register)",
            keepsake.email
        ));
    }
    let listener = listen(keepsake.port).map_err(DemoError::Correspondent)?;
    let port = listener.local_addr().map_err(DemoError::Correspondent)?.port();
    screen.step(&format!("The correspondent listens on 127.0.0.1:{port}"));
    let outbound_url = format!("http://127.0.0.1:{port}/hook");
    let known = match &keepsake.account {
        Some(account) if hub.has_account(&account.id).await? => Some(account.clone()),
        _ => None,
    };
    let is_new = known.is_none();
    let account = match known {
        Some(account) => {
            if keepsake.port != Some(port) {
                hub.move_account(&account.id, &outbound_url).await?;
            }
            account
        }
        None => {
            let account = hub.link("Demo", &outbound_url).await?;
            screen.step("Linked it as an account of the custom channel (POST /api/accounts/custom)");
            account
        }
    };
    keepsake.account = Some(account.clone());
    keepsake.port = Some(port);
    keepsake.save()?;
    screen.step("In the demo only, the hub may call this machine (platforms.custom.allow_private_networks)");
    screen.step(&format!(
        "and takes {REQUESTS_PER_MINUTE} requests a minute from a user, because this view asks often"
    ));
    let correspondent = Correspondent::start(listener, hub.url(), &account, client, clock, screen.clone())?;
    if is_new {
        correspondent.greet().await;
    }
    Ok(correspondent)
}

/// The port of the last run, so that the account still leads to it, else any.
fn listen(port: Option<u16>) -> std::io::Result<TcpListener> {
    let kept = port.and_then(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    kept.map_or_else(|| TcpListener::bind(("127.0.0.1", 0)), Ok)
}

/// The id of Ada's conversation, once her first message has come through.
async fn first_conversation(hub: &HubClient) -> Result<String, DemoError> {
    let search = async {
        loop {
            if let Some(id) = hub.conversation(script::ADA.id).await? {
                return Ok(id);
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(FIRST_MESSAGE_PATIENCE, search)
        .await
        .map_err(|_| DemoError::NoFirstMessage)?
}

/// Shows every event of the user's stream, from now on, by the same cursor that any program can use.
async fn watch(screen: &Screen, hub: &HubClient) -> Result<(), DemoError> {
    let mut view = screen::EventView::default();
    let mut after = hub.stream_end().await?;
    loop {
        match hub.events(&after).await {
            Ok(page) => {
                for line in page.events.iter().filter_map(|event: &Value| view.line(event)) {
                    screen.event(&line);
                }
                after = page.next;
                if page.has_more {
                    continue;
                }
            }
            // The person may be using up the limit, or the hub may be busy: the cursor loses nothing.
            Err(RequestError::Refused { status: 429 | 503, .. }) => tokio::time::sleep(Duration::from_secs(2)).await,
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_never_touches_the_data_of_a_served_hub() {
        for folder in ["./data", "/var/lib/messaging-hub/data"] {
            let mut settings = Settings::default();
            settings.database.path = PathBuf::from(folder);
            settings.database.url = SecretString::from("postgres://hub@db.example/hub");
            settings.redis.url = Some(SecretString::from("redis://redis.example/"));
            let prepared = prepare(settings);
            assert_eq!(prepared.database.path, PathBuf::from(folder).join("demo"));
            assert!(prepared.database.is_embedded() && prepared.redis.url.is_none());
        }
    }
}
