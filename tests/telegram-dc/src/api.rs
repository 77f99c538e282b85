//! The DC as a value: start it, fill it, break it, ask it. What people do in chats is in `actions`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use grammers_tl_types::{self as tl, Serializable as _, enums};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::control;
use crate::faults::FaultScript;
use crate::journal::{LogFilter, Received};
use crate::server::{Shared, listen, lock};
use crate::spec::{
    ConnFilter, DcConfig, DcState, NewAccount, NewChannel, NewChat, NewMedia, NewUser, Peer, PhoneRule, Revoke,
    Settings, Stored,
};
use crate::tl::{Refusal, now};
use crate::world::{Owner, World, digits};

/// What the DC answers to a test's wish.
pub type Done<T> = Result<T, Refusal>;

/// A running test DC. Clones are the same DC; it stops when the last one is dropped.
#[derive(Clone)]
pub struct TelegramDc {
    /// Address of the first DC.
    pub addr: SocketAddr,
    /// All DCs: id and address.
    pub addrs: Vec<(i32, SocketAddr)>,
    /// Address of the control port, if there is one.
    pub control: Option<SocketAddr>,
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    shared: Shared,
    listeners: Mutex<Vec<JoinHandle<()>>>,
    control: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in self.listeners.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        if let Some(task) = self.control.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// A DC that does not keep itself alive: what the control port holds.
#[derive(Clone)]
pub(crate) struct WeakDc {
    addrs: Vec<(i32, SocketAddr)>,
    inner: Weak<Inner>,
}

impl WeakDc {
    pub fn upgrade(&self) -> Option<TelegramDc> {
        let inner = self.inner.upgrade()?;
        let addr = self.addrs.first()?.1;
        Some(TelegramDc {
            addr,
            addrs: self.addrs.clone(),
            control: None,
            inner,
        })
    }
}

async fn bind(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await
}

#[expect(
    clippy::unused_async,
    reason = "one way to call everything, whether it has to wait or not"
)]
impl TelegramDc {
    /// Starts the DC on 127.0.0.1.
    pub async fn start(mut config: DcConfig) -> std::io::Result<Self> {
        if config.dcs.is_empty() {
            return Err(std::io::Error::other("at least one DC is needed"));
        }
        let mut addrs = Vec::new();
        let mut listeners = Vec::new();
        for (id, port) in &mut config.dcs {
            let listener = bind(*port).await?;
            let addr = listener.local_addr()?;
            *port = addr.port();
            addrs.push((*id, addr));
            listeners.push((*id, listener));
        }
        let control = match config.control {
            Some(port) => Some(bind(port).await?),
            None => None,
        };
        let shared: Shared = Arc::new(Mutex::new(World::new(config)));
        let tasks = listeners
            .into_iter()
            .map(|(id, listener)| tokio::spawn(listen(Arc::clone(&shared), id, listener)))
            .collect();
        let inner = Arc::new(Inner {
            shared,
            listeners: Mutex::new(tasks),
            control: Mutex::new(None),
        });
        let control_addr = control.as_ref().map(TcpListener::local_addr).transpose()?;
        if let Some(listener) = control {
            let weak = WeakDc {
                addrs: addrs.clone(),
                inner: Arc::downgrade(&inner),
            };
            let task = tokio::spawn(control::serve(weak, listener));
            *inner.control.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        }
        let addr = addrs[0].1;
        Ok(Self {
            addr,
            addrs,
            control: control_addr,
            inner,
        })
    }

    pub(crate) fn world(&self) -> std::sync::MutexGuard<'_, World> {
        lock(&self.inner.shared)
    }

    /// Auth key `n` of this DC's chain.
    pub fn auth_key(&self, n: u32) -> [u8; 256] {
        crate::key::derive_auth_key(&self.world().config.seed, n)
    }

    /// Stops accepting and closes every connection; the ports stay reserved in name only.
    pub async fn stop_listening(&self) {
        let tasks: Vec<_> = std::mem::take(&mut *self.inner.listeners.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
    }

    /// Listens again on the same ports.
    pub async fn start_listening(&self) -> std::io::Result<()> {
        self.stop_listening().await;
        for (id, addr) in &self.addrs {
            let mut tries = 0;
            let listener = loop {
                match bind(addr.port()).await {
                    Ok(listener) => break listener,
                    Err(error) if tries == 50 => return Err(error),
                    Err(_) => tries += 1,
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            let task = tokio::spawn(listen(Arc::clone(&self.inner.shared), *id, listener));
            self.inner
                .listeners
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(task);
        }
        Ok(())
    }

    /// Stops listening, waits, listens again. What the DC knows stays.
    pub async fn restart(&self, down: Duration) -> std::io::Result<()> {
        self.stop_listening().await;
        tokio::time::sleep(down).await;
        self.start_listening().await
    }

    /// Creates a person who can log in; answers the user id.
    pub async fn add_account(&self, spec: NewAccount) -> Done<i64> {
        self.world().add_account(spec)
    }

    /// Creates a person; answers the user id.
    pub async fn add_user(&self, spec: NewUser) -> Done<i64> {
        self.world().add_user(spec)
    }

    /// Creates a basic group; answers its id.
    pub async fn add_chat(&self, spec: NewChat) -> Done<i64> {
        self.world().add_chat(spec)
    }

    /// Creates a channel or supergroup; answers its id.
    pub async fn add_channel(&self, spec: NewChannel) -> Done<i64> {
        self.world().add_channel(spec)
    }

    /// Decides what happens to a phone number without an account.
    pub async fn set_phone(&self, phone: &str, rule: PhoneRule) {
        self.world().phones.insert(digits(phone), rule);
    }

    /// Adds somebody to a channel or group.
    pub async fn join(&self, peer: Peer, user: i64) -> Done<()> {
        self.world().join(peer, user)
    }

    /// Takes somebody out of a channel or group.
    pub async fn leave(&self, peer: Peer, user: i64) -> Done<()> {
        self.world().leave(peer, user)
    }

    /// Changes settings of the running DC.
    pub async fn set(&self, settings: Settings) {
        self.world().set(&settings);
    }

    /// The code sent to this number is no longer valid.
    pub async fn expire_code(&self, phone: &str) {
        let mut world = self.world();
        let phone = digits(phone);
        if let Some((_, expires)) = world.stranger_codes.get_mut(&phone) {
            *expires = 0;
        }
        if let Some(id) = world.account_by_phone(&phone)
            && let Ok(account) = world.account_mut(id)
            && let Some((_, expires)) = &mut account.code_hash
        {
            *expires = 0;
        }
    }

    /// Somebody scans a QR login token with their phone; the waiting client is told.
    pub async fn scan_login_token(&self, token: &[u8], account: i64) -> Done<()> {
        let mut world = self.world();
        world.account(account)?;
        let mut waiting = None;
        for ((_, key), slot) in &mut world.slots {
            if let Some(entry) = slot.token.as_mut().filter(|entry| entry.bytes == token) {
                if entry.expires <= now() {
                    return Err(Refusal::new(400, "AUTH_TOKEN_EXPIRED"));
                }
                entry.scanned = Some(account);
                waiting = Some(*key);
            }
        }
        let key = waiting.ok_or_else(|| Refusal::new(400, "AUTH_TOKEN_INVALID"))?;
        let update = tl::types::UpdateShort {
            update: enums::Update::LoginToken,
            date: now(),
        };
        world.send_to_key(key, &enums::Updates::from(update).to_bytes());
        Ok(())
    }

    /// Every salt given out so far becomes wrong.
    pub async fn rotate_salts(&self) {
        self.world().rotate_salts();
    }

    /// Every file reference given out so far becomes stale.
    pub async fn expire_file_references(&self) {
        self.world().expire_file_references();
    }

    /// Adds a scripted fault.
    pub async fn script(&self, script: FaultScript) -> Done<()> {
        if self.world().faults.add(script) {
            Ok(())
        } else {
            Err(Refusal::new(400, "too many scripts"))
        }
    }

    /// The scripted faults still in force.
    pub async fn faults(&self) -> Vec<FaultScript> {
        self.world().faults.list()
    }

    /// Takes all scripted faults back, and what is left of every gap.
    pub async fn clear_faults(&self) {
        self.world().clear_faults();
    }

    /// Closes sockets; answers how many.
    pub async fn drop_connections(&self, filter: ConnFilter) -> usize {
        let mut world = self.world();
        let keys = filter.account.map(|account| world.keys_of(account));
        world.drop_connections(|conn| {
            filter.key.is_none_or(|key| key == conn.key)
                && filter.dc.is_none_or(|dc| dc == conn.dc)
                && keys.as_ref().is_none_or(|keys| keys.contains(&conn.key))
        })
    }

    /// Ends logins, as another device or Telegram itself would.
    pub async fn revoke(&self, revoke: Revoke) {
        let mut world = self.world();
        let mut keys: Vec<_> = revoke.key.into_iter().collect();
        keys.extend(revoke.account.map(|account| world.keys_of(account)).unwrap_or_default());
        for key in keys {
            world.revoke(key, revoke.kind, revoke.drop);
        }
    }

    /// What was received and fits the filter, oldest first.
    pub async fn log(&self, filter: LogFilter) -> Vec<Received> {
        self.world().journal.list(&filter)
    }

    /// How often a method was called.
    pub async fn count(&self, method: &str) -> usize {
        self.log(LogFilter::method(method)).await.len()
    }

    /// Empties the log; numbers go on.
    pub async fn clear_log(&self) {
        self.world().journal.clear();
    }

    /// Waits until at least `count` calls fit the filter; answers them. Empty after `within`.
    pub async fn wait_for(&self, filter: LogFilter, count: usize, within: Duration) -> Vec<Received> {
        let end = tokio::time::Instant::now() + within;
        loop {
            let found = self.log(filter.clone()).await;
            if found.len() >= count {
                return found;
            }
            if tokio::time::Instant::now() >= end {
                return Vec::new();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Everything countable.
    pub async fn state(&self) -> DcState {
        self.world().state()
    }

    /// The messages of an account (private chats and basic groups), oldest first.
    pub async fn messages(&self, account: i64, peer: Option<Peer>) -> Done<Vec<Stored>> {
        match peer {
            Some(Peer::Channel(id)) => self.channel_messages(id).await,
            peer => self.world().stored(Owner::Account(account), peer),
        }
    }

    /// The messages of a channel, oldest first.
    pub async fn channel_messages(&self, channel: i64) -> Done<Vec<Stored>> {
        self.world().stored(Owner::Channel(channel), None)
    }

    /// The bytes of a file.
    pub async fn file(&self, id: i64) -> Option<Arc<[u8]>> {
        self.world().files.get(&id).map(|file| Arc::clone(&file.bytes))
    }

    /// Stores a file without a message; answers its id.
    pub async fn add_file(&self, media: &NewMedia) -> Done<i64> {
        self.world().add_media(media)
    }
}
