//! A hub that the tests of a theme share, and what several of them need.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use messaging_hub::settings::Settings;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::{self, Channel, Client, Correspondent, Hub, Kind};

/// Where a shared hub is kept: for as long as a test uses it.
pub type Slot = Mutex<Weak<Bed>>;

/// An empty slot.
pub const fn slot() -> Slot {
    Mutex::new(Weak::new())
}

/// The hub of the themes that need no settings of their own.
static USUAL: Slot = slot();

/// A running hub on a thread of its own.
pub struct Bed {
    pub address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Bed {
    /// The usual hub.
    pub fn usual() -> Arc<Self> {
        Self::shared(&USUAL, |_| {})
    }

    /// The hub in a slot; it is started when nobody has it.
    pub fn shared(slot: &Slot, change: impl FnOnce(&mut Settings) + Send + 'static) -> Arc<Self> {
        let mut slot = slot.lock().unwrap();
        slot.upgrade().unwrap_or_else(|| {
            let bed = Arc::new(Self::start(change));
            *slot = Arc::downgrade(&bed);
            bed
        })
    }

    fn start(change: impl FnOnce(&mut Settings) + Send + 'static) -> Self {
        let (started, address) = std::sync::mpsc::sync_channel(1);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            support::run(async move {
                let hub = Hub::start_with(Kind::Embedded, change).await;
                started.send(hub.address).unwrap();
                let _ = stopped.await;
                hub.stop().await;
            });
        });
        Self {
            address: address.recv().expect("the hub starts"),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// A client that is not signed in.
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// A client of a new user.
    pub async fn user(&self) -> Client {
        let mut client = self.client();
        client.register().await;
        client
    }

    /// A new user with a channel to a new correspondent.
    pub async fn linked(&self) -> (Client, Correspondent, Channel) {
        let (user, peer) = (self.user().await, Correspondent::start());
        let channel = user.link(&peer).await;
        (user, peer, channel)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An id that nothing has.
pub const NOBODY: &str = "0190a3c4-0000-7000-8000-00000000abcd";

/// What a token says, without a look at its signature.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a token has three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64")).expect("JSON")
}

/// A token of one's own making.
pub fn forge(secret: &str, algorithm: &str, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({ "alg": algorithm, "typ": "JWT" })), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key length will do");
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// The values of one field of a list.
#[track_caller]
pub fn column<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    let list = list.as_array().expect("a list");
    list.iter().map(|one| one[field].as_str().expect("a text")).collect()
}

/// Every snake_case name stands beside its camelCase twin with the same value.
#[track_caller]
pub fn assert_both_casings(object: &Value) {
    let fields = object.as_object().expect("an object");
    for (name, value) in fields.iter().filter(|(name, _)| name.contains('_')) {
        let mut parts = name.split('_');
        let mut twin = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (first, rest) = part.split_at(1);
            twin.push_str(&first.to_uppercase());
            twin.push_str(rest);
        }
        assert_eq!(fields.get(&twin), Some(value), "{name} and {twin}");
    }
}

/// A time as the contract writes it: RFC 3339 in UTC.
#[track_caller]
pub fn assert_utc(value: &Value) {
    let text = value.as_str().unwrap_or_else(|| panic!("a time, not {value}"));
    let is_utc = text.ends_with('Z') || text.ends_with("+00:00");
    assert!(is_utc && text.as_bytes().get(10) == Some(&b'T'), "{text}");
}
