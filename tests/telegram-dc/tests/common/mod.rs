//! A real grammers client, wired to the test DC the way the hub wires it: preset auth keys, no retries.

#![expect(
    clippy::disallowed_methods,
    reason = "times are measured by the clock of the server under test"
)]
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use grammers_client::Client;
use grammers_mtsender::{
    ConnectionParams, InvocationError, NoRetries, SenderPool, UpdatesConfiguration, UpdatesReceiver,
};
use grammers_session::storages::MemorySession;
use grammers_session::types::{DcOption, UpdatesState};
use grammers_session::updates::UpdatesLike;
use grammers_session::{Session as _, SessionData};
use grammers_tl_types as tl;
use telegram_dc::{DcConfig, NewAccount, NewMessage, NewUser, Peer, Placed, TelegramDc};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub const PATIENCE: Duration = Duration::from_secs(10);
pub const API_ID: i32 = 1;
pub const API_HASH: &str = "hash";

/// One client with its connections.
pub struct Hub {
    pub client: Client,
    pub session: Arc<MemorySession>,
    pub pool: grammers_mtsender::SenderPoolFatHandle,
    pub raw_updates: Option<mpsc::Receiver<UpdatesLike>>,
    runner: JoinHandle<()>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.runner.abort();
    }
}

pub async fn start() -> TelegramDc {
    TelegramDc::start(DcConfig::default()).await.unwrap()
}

pub fn v4(addr: SocketAddr) -> SocketAddrV4 {
    match addr {
        SocketAddr::V4(addr) => addr,
        SocketAddr::V6(_) => panic!("the test DC listens on IPv4"),
    }
}

/// A fresh session that knows the DC's addresses and presets key `n`.
pub fn session(dc: &TelegramDc, n: u32) -> Arc<MemorySession> {
    let key = dc.auth_key(n);
    let dc_options: HashMap<i32, DcOption> = dc
        .addrs
        .iter()
        .map(|(id, addr)| {
            let option = DcOption {
                id: *id,
                ipv4: v4(*addr),
                ipv6: SocketAddrV6::new(Ipv6Addr::LOCALHOST, addr.port(), 0, 0),
                auth_key: Some(key),
            };
            (*id, option)
        })
        .collect();
    let data = SessionData {
        home_dc: dc.addrs[0].0,
        dc_options,
        peer_infos: HashMap::new(),
        updates_state: UpdatesState::default(),
    };
    Arc::new(MemorySession::from(data))
}

/// A fresh session that knows one DC.
pub fn plain_session(id: i32, ipv4: SocketAddrV4, key: [u8; 256]) -> Arc<MemorySession> {
    let ipv6 = SocketAddrV6::new(Ipv6Addr::LOCALHOST, ipv4.port(), 0, 0);
    let option = DcOption {
        id,
        ipv4,
        ipv6,
        auth_key: Some(key),
    };
    Arc::new(MemorySession::from(SessionData {
        home_dc: id,
        dc_options: HashMap::from([(id, option)]),
        peer_infos: HashMap::new(),
        updates_state: UpdatesState::default(),
    }))
}

impl Hub {
    pub fn connect(dc: &TelegramDc, n: u32) -> Self {
        Self::with_session(session(dc, n))
    }

    pub fn with_session(session: Arc<MemorySession>) -> Self {
        let params = ConnectionParams {
            retry_policy: Box::new(NoRetries),
            updates_channel_capacity: NonZeroUsize::new(10_000).unwrap(),
            ..ConnectionParams::default()
        };
        let pool = SenderPool::with_configuration(Arc::clone(&session), API_ID, params);
        let client = Client::new(pool.handle.clone());
        Self {
            client,
            session,
            pool: pool.handle,
            raw_updates: Some(pool.updates),
            runner: tokio::spawn(pool.runner.run()),
        }
    }

    /// The same session in a new pool, as after a restart of the hub.
    pub fn again(&self) -> Self {
        Self::with_session(Arc::clone(&self.session))
    }

    pub async fn log_in(&self, phone: &str) -> i64 {
        let token = self.client.request_login_code(phone, API_HASH).await.unwrap();
        let user = self.client.sign_in(&token, "12345").await.unwrap();
        user.id().bare_id_unchecked()
    }

    pub async fn call<R: tl::RemoteCall>(&self, call: &R) -> Result<R::Return, InvocationError> {
        tokio::time::timeout(PATIENCE, self.client.invoke(call))
            .await
            .expect("the DC answers in time")
    }

    /// Updates from where the session left off.
    pub async fn updates(&mut self) -> Updates {
        let raw = self.raw_updates.take().expect("updates are taken once");
        let receiver = UpdatesReceiver::create(
            self.pool.thin.clone(),
            Arc::clone(&self.pool.session),
            raw,
            UpdatesConfiguration { catch_up: true },
        )
        .await
        .unwrap();
        Updates {
            receiver,
            waiting: VecDeque::new(),
            session: Arc::clone(&self.session),
        }
    }

    pub async fn pts(&self) -> i32 {
        self.session.updates_state().await.unwrap().pts
    }
}

pub struct Updates {
    pub receiver: UpdatesReceiver,
    waiting: VecDeque<tl::enums::Update>,
    session: Arc<MemorySession>,
}

impl Updates {
    pub async fn next(&mut self) -> tl::enums::Update {
        self.try_next(PATIENCE).await.expect("an update arrives in time")
    }

    pub async fn try_next(&mut self, within: Duration) -> Option<tl::enums::Update> {
        let end = tokio::time::Instant::now() + within;
        while self.waiting.is_empty() {
            match tokio::time::timeout_at(end, self.receiver.next()).await {
                Ok(Ok((updates, ..))) => self.waiting.extend(updates.into_iter().map(|(u, _)| u)),
                // The connection was lost: the next poll reconnects.
                Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(_) => return None,
            }
        }
        self.waiting.pop_front()
    }

    /// Texts of the next `count` new messages.
    pub async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            if let Some(text) = text_of(&self.next().await) {
                texts.push(text);
            }
        }
        texts
    }

    /// pts reached so far, saved in the session.
    pub async fn pts(&self) -> i32 {
        self.save().await;
        self.session.updates_state().await.unwrap().pts
    }

    pub async fn save(&self) {
        self.receiver.sync_update_state().await.unwrap();
    }
}

pub fn text_of(update: &tl::enums::Update) -> Option<String> {
    let message = match update {
        tl::enums::Update::NewMessage(update) => &update.message,
        tl::enums::Update::NewChannelMessage(update) => &update.message,
        _ => return None,
    };
    match message {
        tl::enums::Message::Message(message) => Some(message.message.clone()),
        _ => None,
    }
}

/// An account with a phone, a friend, and a client that is logged in.
pub struct Scene {
    pub dc: TelegramDc,
    pub hub: Hub,
    pub me: i64,
    pub friend: i64,
}

pub const PHONE: &str = "+15550001";

impl Scene {
    pub async fn new() -> Self {
        Self::with(DcConfig::default()).await
    }

    pub async fn with(config: DcConfig) -> Self {
        let dc = TelegramDc::start(config).await.unwrap();
        let me = account(&dc, PHONE).await;
        let friend = user(&dc, "Friend").await;
        let hub = Hub::connect(&dc, 0);
        assert_eq!(hub.log_in(PHONE).await, me);
        Self { dc, hub, me, friend }
    }

    pub async fn push(&self, text: &str) -> Placed {
        push(&self.dc, self.me, self.friend, text).await
    }

    /// The friend as the client addresses them.
    pub async fn friend_peer(&self) -> tl::enums::InputPeer {
        self.peer(Peer::User(self.friend)).await
    }

    /// Finds the access hash the way a client does: in the list of chats.
    pub async fn peer(&self, wanted: Peer) -> tl::enums::InputPeer {
        let mut dialogs = self.hub.client.iter_dialogs();
        while let Some(dialog) = dialogs.next().await.unwrap() {
            let peer: tl::enums::InputPeer = dialog.peer_ref().into();
            let here = match &peer {
                tl::enums::InputPeer::User(user) => Peer::User(user.user_id),
                tl::enums::InputPeer::Chat(chat) => Peer::Chat(chat.chat_id),
                tl::enums::InputPeer::Channel(channel) => Peer::Channel(channel.channel_id),
                _ => continue,
            };
            if here == wanted {
                return peer;
            }
        }
        panic!("{wanted} is not in the list of chats");
    }
}

pub async fn account(dc: &TelegramDc, phone: &str) -> i64 {
    let spec = NewAccount {
        phone: phone.into(),
        first_name: "Me".into(),
        ..Default::default()
    };
    dc.add_account(spec).await.unwrap()
}

pub async fn user(dc: &TelegramDc, name: &str) -> i64 {
    dc.add_user(NewUser {
        first_name: name.into(),
        ..Default::default()
    })
    .await
    .unwrap()
}

pub async fn push(dc: &TelegramDc, account: i64, from: i64, text: &str) -> Placed {
    let message = NewMessage {
        account: Some(account),
        peer: Some(Peer::User(from)),
        text: text.into(),
        ..Default::default()
    };
    dc.push_message(message).await.unwrap().remove(0)
}

/// Raw `messages.sendMessage` with a random_id of our own.
pub fn send(peer: tl::enums::InputPeer, text: &str, random_id: i64) -> tl::functions::messages::SendMessage {
    tl::functions::messages::SendMessage {
        no_webpage: true,
        silent: false,
        background: false,
        clear_draft: false,
        noforwards: false,
        update_stickersets_order: false,
        invert_media: false,
        allow_paid_floodskip: false,
        peer,
        reply_to: None,
        message: text.into(),
        random_id,
        reply_markup: None,
        entities: None,
        schedule_date: None,
        schedule_repeat_period: None,
        send_as: None,
        quick_reply_shortcut: None,
        effect: None,
        allow_paid_stars: None,
        suggested_post: None,
        rich_message: None,
    }
}

/// Code and name of an RPC error.
pub fn rpc<T: std::fmt::Debug>(result: Result<T, InvocationError>) -> (i32, String, Option<u32>) {
    match result {
        Err(InvocationError::Rpc(error)) => (error.code, error.name, error.value),
        other => panic!("not an RPC error: {other:?}"),
    }
}
