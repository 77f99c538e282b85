//! The session of one account, as grammers needs it: in memory, and written through to what the link remembers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddrV4, SocketAddrV6};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use grammers_session::types::{DcOption, PeerId, PeerInfo, UpdateState, UpdatesState};
use grammers_session::{BoxFuture, Session, SessionData};
use hub_actors::domain::Remember;
use hub_actors::ports::{LinkFeed, LinkMemory};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};

/// The name under which a link remembers its session.
pub const SESSION: &str = "session";
/// What the names of remembered peers begin with; the dialog id follows.
pub const PEER: &str = "peer/";

/// The data centres that a new session begins with.
#[derive(Default)]
pub struct Centers {
    /// Replacements of Telegram's own, the home first; empty for Telegram's own.
    pub addresses: Vec<(i32, SocketAddrV4)>,
    /// Tests only: authorisation keys are derived from it.
    pub seed: Option<SecretString>,
    /// The number of the next new session, which chooses its key.
    next: AtomicU32,
}

impl Centers {
    /// Data centres at these addresses, with keys made from `seed` where there is one.
    pub fn new(addresses: Vec<(i32, SocketAddrV4)>, seed: Option<SecretString>) -> Self {
        Self {
            addresses,
            seed,
            next: AtomicU32::new(0),
        }
    }

    /// Takes over the addresses that the settings give: they may have moved since the session was stored.
    fn place(&self, options: &mut BTreeMap<i32, DcOption>, key: Option<&[u8; 256]>) {
        for (id, address) in &self.addresses {
            let option = options.entry(*id).or_insert_with(|| DcOption {
                id: *id,
                ipv4: *address,
                ipv6: mapped(*address),
                auth_key: key.copied(),
            });
            option.ipv4 = *address;
            option.ipv6 = mapped(*address);
        }
    }
}

fn mapped(address: SocketAddrV4) -> SocketAddrV6 {
    SocketAddrV6::new(Ipv4Addr::to_ipv6_mapped(address.ip()), address.port(), 0, 0)
}

/// Key `number` of a seed: a chain of four SHA-512, the first over the seed, a zero byte and the number (big endian).
fn derived_key(seed: &str, number: u32) -> [u8; 256] {
    let mut first = Sha512::new();
    first.update(seed.as_bytes());
    first.update([0]);
    first.update(number.to_be_bytes());
    let mut block = first.finalize();
    let mut key = [0; 256];
    for part in key.chunks_exact_mut(64) {
        part.copy_from_slice(&block);
        block = Sha512::digest(block);
    }
    key
}

/// Why the session cannot serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Nothing was stored: the person has to log in.
    #[error("there is no session")]
    Missing,
    #[error("the stored session cannot be read: {0}")]
    Unreadable(String),
    /// grammers made a new key because the server did not know the old one. The old one is kept: it may be needed by a
    /// server that knew it only yesterday.
    #[error("data centre {0} does not know this session's key")]
    KeyRefused(i32),
    #[error("the session could not be stored: {0}")]
    NotStored(String),
}

#[derive(Serialize, Deserialize)]
struct Saved {
    home_dc: i32,
    centers: Vec<DcOption>,
    self_id: Option<i64>,
    /// Tests only: the number of the derived key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_number: Option<u32>,
}

/// What is known of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPeer {
    pub info: PeerInfo,
    /// As people see it.
    pub name: Option<String>,
}

#[derive(Default)]
struct State {
    home_dc: i32,
    centers: BTreeMap<i32, DcOption>,
    self_id: Option<i64>,
    key_number: Option<u32>,
    peers: HashMap<PeerId, KnownPeer>,
    dirty: HashSet<PeerId>,
}

impl State {
    fn saved(&self) -> Vec<u8> {
        let saved = Saved {
            home_dc: self.home_dc,
            centers: self.centers.values().cloned().collect(),
            self_id: self.self_id,
            key_number: self.key_number,
        };
        serde_json::to_vec(&saved).unwrap_or_default()
    }
}

/// The session of one account.
pub struct HubSession {
    state: Mutex<State>,
    /// Where changes go at once; none during a login, whose end hands everything over.
    keeper: OnceLock<Arc<dyn LinkFeed>>,
}

impl HubSession {
    /// A session that nobody has logged in with.
    pub fn fresh(centers: &Centers) -> Self {
        let mut state = State::default();
        let mut key = None;
        if let Some(seed) = &centers.seed {
            let number = centers.next.fetch_add(1, Ordering::Relaxed);
            key = Some(derived_key(seed.expose_secret(), number));
            state.key_number = Some(number);
        }
        match centers.addresses.first() {
            Some((home, _)) => {
                state.home_dc = *home;
                centers.place(&mut state.centers, key.as_ref());
            }
            None => {
                let data = SessionData::default();
                state.home_dc = data.home_dc;
                state.centers = data.dc_options.into_iter().collect();
            }
        }
        Self::with(state)
    }

    /// The session that a link remembers.
    ///
    /// # Errors
    /// [`SessionError::Missing`], or [`SessionError::Unreadable`] when its form is not known.
    pub fn load(memory: &LinkMemory, centers: &Centers) -> Result<Self, SessionError> {
        let bytes = memory.get(SESSION).ok_or(SessionError::Missing)?;
        let unreadable = |error: serde_json::Error| SessionError::Unreadable(error.to_string());
        let saved: Saved = serde_json::from_slice(bytes).map_err(unreadable)?;
        if let Some(number) = saved.key_number {
            // A later login of this process must not take the key of an account that is linked already.
            centers.next.fetch_max(number.saturating_add(1), Ordering::Relaxed);
        }
        let mut state = State {
            home_dc: saved.home_dc,
            centers: saved.centers.into_iter().map(|center| (center.id, center)).collect(),
            self_id: saved.self_id,
            key_number: saved.key_number,
            ..State::default()
        };
        centers.place(&mut state.centers, None);
        for (name, bytes) in memory.range(PEER.to_owned()..) {
            if !name.starts_with(PEER) {
                break;
            }
            match serde_json::from_slice::<KnownPeer>(bytes) {
                Ok(peer) => drop(state.peers.insert(peer.info.id(), peer)),
                // It is learnt again when it is seen again.
                Err(error) => tracing::warn!(%error, "a remembered peer cannot be read"),
            }
        }
        Ok(Self::with(state))
    }

    fn with(state: State) -> Self {
        Self {
            state: Mutex::new(state),
            keeper: OnceLock::new(),
        }
    }

    /// From now on, a changed key is stored before it is used.
    pub fn keep_in(&self, feed: Arc<dyn LinkFeed>) {
        drop(self.keeper.set(feed));
    }

    /// Everything that a link needs to open with this session.
    pub fn memory(&self) -> LinkMemory {
        let state = self.state();
        let peers = state.peers.iter().filter_map(|(id, peer)| remembered(*id, peer));
        let mut memory: LinkMemory = peers.collect();
        memory.insert(SESSION.to_owned(), state.saved());
        memory
    }

    /// The logged-in user's id.
    pub fn self_id(&self) -> Option<i64> {
        self.state().self_id
    }

    /// Takes note of who has logged in.
    pub fn logged_in(&self, self_id: i64) {
        self.state().self_id = Some(self_id);
    }

    /// True for the data centre that keeps the account.
    pub fn is_home(&self, center: i32) -> bool {
        self.state().home_dc == center
    }

    /// What is known of a peer.
    pub fn known(&self, id: PeerId) -> Option<KnownPeer> {
        self.state().peers.get(&id).cloned()
    }

    /// Takes over what is new about a peer.
    pub fn learn(&self, info: &PeerInfo, name: Option<String>) {
        let mut state = self.state();
        if let PeerInfo::User {
            id,
            is_self: Some(true),
            ..
        } = info
        {
            state.self_id = Some(*id);
        }
        let id = info.id();
        let known = state.peers.get(&id);
        let mut peer = known.cloned().unwrap_or_else(|| KnownPeer {
            info: info.clone(),
            name: None,
        });
        peer.info.extend_info(info);
        if name.is_some() {
            peer.name = name;
        }
        if known != Some(&peer) {
            state.peers.insert(id, peer);
            state.dirty.insert(id);
        }
    }

    /// What has been learnt since the last call, to be remembered.
    pub fn take_news(&self) -> Remember {
        let mut state = self.state();
        let dirty = std::mem::take(&mut state.dirty);
        let news = dirty.into_iter().filter_map(|id| {
            let (name, bytes) = remembered(id, state.peers.get(&id)?)?;
            Some((name, Some(bytes)))
        });
        news.collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn keep(&self) -> Result<(), SessionError> {
        let Some(feed) = self.keeper.get() else { return Ok(()) };
        let saved = self.state().saved();
        let stored = feed.remember(vec![(SESSION.to_owned(), Some(saved))]).await;
        stored.map_err(|error| SessionError::NotStored(error.to_string()))
    }

    /// True when something changed.
    fn place_center(&self, center: &DcOption) -> Result<bool, SessionError> {
        let mut state = self.state();
        let is_home = center.id == state.home_dc;
        let is_logged_in = state.self_id.is_some();
        let known = state.centers.get(&center.id);
        if known == Some(center) {
            return Ok(false);
        }
        let known_key = known.and_then(|known| known.auth_key);
        if is_home && is_logged_in && known_key.is_some() && known_key != center.auth_key {
            tracing::error!(
                data_center = center.id,
                "the server does not know this session's key; the key is kept"
            );
            return Err(SessionError::KeyRefused(center.id));
        }
        state.centers.insert(center.id, center.clone());
        Ok(true)
    }
}

fn remembered(id: PeerId, peer: &KnownPeer) -> Option<(String, Vec<u8>)> {
    let bytes = serde_json::to_vec(peer).ok()?;
    Some((format!("{PEER}{}", id.bot_api_dialog_id()?), bytes))
}

impl Session for HubSession {
    type Error = SessionError;

    fn home_dc_id(&self) -> Result<i32, SessionError> {
        Ok(self.state().home_dc)
    }

    fn set_home_dc_id(&self, dc_id: i32) -> BoxFuture<'_, Result<(), SessionError>> {
        Box::pin(async move {
            let before = std::mem::replace(&mut self.state().home_dc, dc_id);
            if before == dc_id { Ok(()) } else { self.keep().await }
        })
    }

    fn dc_option(&self, dc_id: i32) -> Result<Option<DcOption>, SessionError> {
        Ok(self.state().centers.get(&dc_id).cloned())
    }

    fn set_dc_option(&self, dc_option: &DcOption) -> BoxFuture<'_, Result<(), SessionError>> {
        let center = dc_option.clone();
        Box::pin(async move {
            if self.place_center(&center)? {
                self.keep().await?;
            }
            Ok(())
        })
    }

    fn peer(&self, peer: PeerId) -> BoxFuture<'_, Result<Option<PeerInfo>, SessionError>> {
        Box::pin(async move {
            if peer != PeerId::self_user() {
                return Ok(self.known(peer).map(|known| known.info));
            }
            let own = self.self_id();
            Ok(own.map(|id| PeerInfo::User {
                id,
                auth: None,
                bot: None,
                is_self: Some(true),
            }))
        })
    }

    fn cache_peer(&self, peer: PeerInfo) -> BoxFuture<'_, Result<(), SessionError>> {
        self.learn(&peer, None);
        Box::pin(async { Ok(()) })
    }

    // The cursors are the link's own, stored with the messages that they count: what grammers thinks it has reached may
    // not be stored yet.
    fn updates_state(&self) -> BoxFuture<'_, Result<UpdatesState, SessionError>> {
        Box::pin(async { Ok(UpdatesState::default()) })
    }

    fn set_update_state(&self, _update: UpdateState) -> BoxFuture<'_, Result<(), SessionError>> {
        Box::pin(async { Ok(()) })
    }
}

#[cfg(test)]
mod tests {
    use grammers_session::types::PeerAuth;

    use super::*;

    fn local(seed: Option<&str>) -> Centers {
        let address = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        Centers::new(vec![(2, address(1)), (4, address(2))], seed.map(SecretString::from))
    }

    #[test]
    fn keys_are_those_of_the_test_server() {
        let centers = local(Some("seed"));
        for number in 0..3 {
            let session = HubSession::fresh(&centers);
            for center in [2, 4] {
                let option = session.dc_option(center).expect("a lock").expect("a data centre");
                assert_eq!(option.auth_key, Some(telegram_dc::derive_auth_key("seed", number)));
            }
        }
        assert!(
            HubSession::fresh(&local(None))
                .dc_option(2)
                .expect("a lock")
                .expect("a centre")
                .auth_key
                .is_none()
        );
    }

    #[test]
    fn a_session_comes_back_from_memory_and_later_logins_take_other_keys() {
        let session = HubSession::fresh(&local(Some("seed")));
        session.logged_in(100);
        let peer = PeerInfo::Channel {
            id: 5,
            auth: Some(PeerAuth::from_hash(77)),
            kind: None,
        };
        session.learn(&peer, Some("Channel".to_owned()));
        assert_eq!(session.take_news().len(), 1);
        assert!(session.take_news().is_empty());
        let centers = local(Some("seed"));
        let again = HubSession::load(&session.memory(), &centers).expect("a session");
        assert_eq!((again.self_id(), again.home_dc_id()), (Some(100), Ok(2)));
        assert_eq!(again.dc_option(4), session.dc_option(4));
        let known = again
            .known(PeerId::channel(5).expect("a possible number"))
            .expect("a peer");
        assert_eq!((known.name.as_deref(), known.info), (Some("Channel"), peer));
        assert!(again.take_news().is_empty());
        let fresh = HubSession::fresh(&centers);
        let key = fresh.dc_option(2).expect("a lock").and_then(|option| option.auth_key);
        assert_eq!(key, Some(telegram_dc::derive_auth_key("seed", 1)));
    }

    #[test]
    fn a_missing_or_broken_session_is_told() {
        let mut memory = LinkMemory::new();
        let load = |memory: &LinkMemory| HubSession::load(memory, &Centers::default()).err();
        assert_eq!(load(&memory), Some(SessionError::Missing));
        memory.insert(SESSION.to_owned(), b"{}".to_vec());
        assert!(matches!(load(&memory), Some(SessionError::Unreadable(_))));
    }

    #[tokio::test]
    async fn the_key_of_a_logged_in_home_is_never_replaced() {
        let session = HubSession::fresh(&local(Some("seed")));
        let mut option = session.dc_option(2).expect("a lock").expect("a data centre");
        option.auth_key = Some([9; 256]);
        assert_eq!(session.set_dc_option(&option).await, Ok(()));
        session.logged_in(100);
        option.auth_key = Some([8; 256]);
        assert_eq!(session.set_dc_option(&option).await, Err(SessionError::KeyRefused(2)));
        let mut away = session.dc_option(4).expect("a lock").expect("a data centre");
        away.auth_key = Some([8; 256]);
        assert_eq!(session.set_dc_option(&away).await, Ok(()));
    }
}
