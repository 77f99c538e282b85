//! A server, an account that is logged in, and a feed that keeps in memory what a link hands over.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hub_actors::domain::{
    Account, AccountState, Credentials, InboundEvent, InboundKind, InboundMessage, OutboundAction, Receipt, Remember,
    SendError,
};
use hub_actors::ports::{
    Adapter, FeedError, Link, LinkBatch, LinkEnd, LinkFeed, LinkMemory, LinkStart, LinkState, LoginAnswer,
    LoginRequest, LoginStep, OpenLink, Outbound,
};
use hub_actors::{AccountId, Clock, ExternalId, OutboxId, UserId};
use messaging_hub::platforms::address::Guard;
use messaging_hub::platforms::telegram::Telegram;
use messaging_hub::platforms::{TELEGRAM, client};
use messaging_hub::settings::TelegramSettings;
use secrecy::SecretString;
use telegram_dc::{DcConfig, NewAccount, NewChannel, NewMessage, NewUser, Peer, Placed, TelegramDc};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

pub const PATIENCE: Duration = Duration::from_secs(20);
pub const PHONE: &str = "+15550001";

/// What a link has handed over.
#[derive(Default)]
pub struct Feed {
    kept: Mutex<Kept>,
    news: Notify,
    is_stopped: AtomicBool,
}

#[derive(Default)]
struct Kept {
    events: Vec<InboundEvent>,
    memory: LinkMemory,
    states: Vec<LinkState>,
}

impl Feed {
    /// While stopped, nothing is taken, as when the database is away.
    pub fn stop(&self, is_stopped: bool) {
        self.is_stopped.store(is_stopped, Ordering::SeqCst);
        self.news.notify_waiters();
    }

    fn apply(&self, events: Vec<InboundEvent>, remember: Remember) {
        let mut kept = self.kept.lock().unwrap();
        kept.events.extend(events);
        for (name, value) in remember {
            match value {
                Some(value) => drop(kept.memory.insert(name, value)),
                None => drop(kept.memory.remove(&name)),
            }
        }
        drop(kept);
        self.news.notify_waiters();
    }

    async fn allowed(&self) {
        loop {
            let news = self.news.notified();
            if !self.is_stopped.load(Ordering::SeqCst) {
                return;
            }
            news.await;
        }
    }

    pub fn memory(&self) -> LinkMemory {
        self.kept.lock().unwrap().memory.clone()
    }

    pub fn events(&self) -> Vec<InboundEvent> {
        self.kept.lock().unwrap().events.clone()
    }

    pub fn states(&self) -> Vec<LinkState> {
        self.kept.lock().unwrap().states.clone()
    }

    /// Waits until something can be found in what was handed over.
    pub async fn until<T>(&self, what: &str, find: impl Fn(&[InboundEvent], &[LinkState]) -> Option<T>) -> T {
        let search = async {
            loop {
                let news = self.news.notified();
                {
                    let kept = self.kept.lock().unwrap();
                    if let Some(found) = find(&kept.events, &kept.states) {
                        return found;
                    }
                }
                // A word that comes between the look and the wait is found by the next look.
                let _ = tokio::time::timeout(Duration::from_millis(50), news).await;
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(found) => found,
            Err(_) => panic!(
                "{what} did not come; texts: {:?}, states: {:?}",
                self.texts(),
                self.states()
            ),
        }
    }

    pub async fn live(&self) {
        self.until("live", |_, states| {
            (states.last() == Some(&LinkState::Live)).then_some(())
        })
        .await;
    }

    /// Waits for a message with this text.
    pub async fn message(&self, text: &str) -> (InboundEvent, InboundMessage) {
        self.until(text, |events, _| {
            events.iter().find_map(|event| match &event.kind {
                InboundKind::Message(message) if message.text == text => Some((event.clone(), (**message).clone())),
                _ => None,
            })
        })
        .await
    }

    /// Waits for an event of this kind.
    pub async fn event<T>(&self, what: &str, pick: impl Fn(&InboundKind) -> Option<T>) -> (InboundEvent, T) {
        self.until(what, |events, _| {
            events
                .iter()
                .find_map(|event| Some((event.clone(), pick(&event.kind)?)))
        })
        .await
    }

    /// The texts of messages, in the order in which they were handed over, each message once, as the hub keeps them.
    pub fn texts(&self) -> Vec<String> {
        texts(&self.events())
    }
}

pub fn texts(events: &[InboundEvent]) -> Vec<String> {
    let mut seen = HashSet::new();
    let messages = events.iter().filter_map(|event| match &event.kind {
        InboundKind::Message(message) => Some((event.conversation.clone(), message)),
        _ => None,
    });
    let first = messages.filter(|(chat, message)| seen.insert((chat.clone(), message.external_id.clone())));
    first.map(|(_, message)| message.text.clone()).collect()
}

#[async_trait]
impl LinkFeed for Feed {
    async fn take(&self, batch: LinkBatch) -> Result<(), FeedError> {
        self.allowed().await;
        self.apply(batch.events, batch.remember);
        Ok(())
    }

    async fn remember(&self, changes: Remember) -> Result<(), FeedError> {
        self.allowed().await;
        self.apply(Vec::new(), changes);
        Ok(())
    }

    async fn chats_of(&self, messages: &[ExternalId]) -> Vec<(ExternalId, ExternalId)> {
        let known = self.events();
        let known = known.iter().filter_map(|event| match &event.kind {
            InboundKind::Message(message) => Some((event.conversation.clone(), message.external_id.clone())),
            _ => None,
        });
        known.filter(|(_, message)| messages.contains(message)).collect()
    }

    fn state(&self, state: LinkState) {
        self.kept.lock().unwrap().states.push(state);
        self.news.notify_waiters();
    }
}

/// An open link; ends with the bed.
pub struct Linked {
    pub link: Arc<dyn Link>,
    ended: JoinHandle<LinkEnd>,
}

impl Linked {
    /// How the link ended.
    pub async fn end(&mut self) -> LinkEnd {
        tokio::time::timeout(PATIENCE, &mut self.ended)
            .await
            .expect("the link ends in time")
            .unwrap()
    }

    pub fn has_ended(&self) -> bool {
        self.ended.is_finished()
    }
}

impl Drop for Linked {
    fn drop(&mut self) {
        self.ended.abort();
    }
}

/// A server with an account that is logged in, and somebody to talk to.
pub struct Bed {
    pub dc: TelegramDc,
    pub telegram: Telegram,
    pub feed: Arc<Feed>,
    pub me: i64,
    pub friend: i64,
    account: Arc<Account>,
    clock: Clock,
}

impl Bed {
    pub async fn new() -> Self {
        Self::with(DcConfig::default()).await
    }

    pub async fn with(config: DcConfig) -> Self {
        let seed = config.seed.clone();
        let dc = TelegramDc::start(config).await.unwrap();
        let account = NewAccount {
            phone: PHONE.into(),
            first_name: "Me".into(),
            ..Default::default()
        };
        let me = dc.add_account(account).await.unwrap();
        let friend = user(&dc, "Friend").await;
        let clock = Clock::system();
        let centers = dc
            .addrs
            .iter()
            .map(|(id, address): &(i32, SocketAddr)| format!("{id}={address}"));
        let settings = TelegramSettings {
            dc: Some(centers.collect::<Vec<_>>().join(",")),
            test_key_seed: Some(SecretString::from(seed)),
            ..TelegramSettings::default()
        };
        let guard = Guard { allow_private: true };
        let http = client::build(Duration::from_secs(5), guard).unwrap();
        let telegram = Telegram::new(&settings, http, guard, clock.clone());
        let feed = Arc::new(Feed::default());
        feed.apply(Vec::new(), log_in(&telegram).await);
        let now = clock.now();
        let account = Account {
            id: AccountId::generate(now),
            user_id: UserId::generate(now),
            platform: TELEGRAM.into(),
            external_id: me.to_string().into(),
            name: None,
            is_active: true,
            state: AccountState::Connecting,
            state_reason: None,
            state_until: None,
            credentials: Credentials::default(),
            created_at: now,
            updated_at: now,
        };
        Self {
            dc,
            telegram,
            feed,
            me,
            friend,
            account: Arc::new(account),
            clock,
        }
    }

    /// Opens the link with what is remembered.
    pub async fn try_open(&self) -> Result<Linked, LinkEnd> {
        let start = LinkStart {
            account: Arc::clone(&self.account),
            memory: self.feed.memory(),
            feed: Arc::clone(&self.feed) as Arc<dyn LinkFeed>,
        };
        let OpenLink { link, ended } = self.telegram.live().unwrap().open(start).await?;
        Ok(Linked {
            link,
            ended: tokio::spawn(ended),
        })
    }

    /// Opens the link and waits until it is live.
    pub async fn open(&self) -> Linked {
        let linked = match self.try_open().await {
            Ok(linked) => linked,
            Err(end) => panic!("{end:?}"),
        };
        self.feed.live().await;
        linked
    }

    /// A message of the friend's.
    pub async fn push(&self, text: &str) -> Placed {
        self.push_as(self.friend, text).await
    }

    pub async fn push_as(&self, from: i64, text: &str) -> Placed {
        let message = NewMessage {
            account: Some(self.me),
            peer: Some(Peer::User(from)),
            text: text.into(),
            ..Default::default()
        };
        self.dc.push_message(message).await.unwrap().remove(0)
    }

    /// A supergroup with the friend and the account in it.
    pub async fn channel(&self, title: &str) -> i64 {
        let spec = NewChannel {
            title: title.into(),
            members: vec![self.friend, self.me],
            ..Default::default()
        };
        self.dc.add_channel(spec).await.unwrap()
    }

    /// The friend writes in a channel.
    pub async fn speak(&self, channel: i64, text: &str) -> Placed {
        let message = NewMessage {
            peer: Some(Peer::Channel(channel)),
            from: Some(self.friend),
            text: text.into(),
            ..Default::default()
        };
        self.dc.push_message(message).await.unwrap().remove(0)
    }

    pub fn outbound(&self, conversation: &str, action: OutboundAction) -> Outbound {
        Outbound {
            key: OutboxId::generate(self.clock.now()),
            conversation: conversation.into(),
            action,
        }
    }

    pub async fn send(
        &self,
        linked: &Linked,
        conversation: &str,
        action: OutboundAction,
    ) -> Result<Receipt, SendError> {
        linked.link.send(&self.outbound(conversation, action)).await
    }
}

pub async fn user(dc: &TelegramDc, name: &str) -> i64 {
    let user = NewUser {
        first_name: name.into(),
        ..Default::default()
    };
    dc.add_user(user).await.unwrap()
}

async fn log_in(telegram: &Telegram) -> Remember {
    let live = telegram.live().unwrap();
    let (mut attempt, step) = live.begin_login(LoginRequest::Phone(PHONE.into())).await.unwrap();
    assert!(matches!(step, LoginStep::Code));
    let LoginStep::Done(done) = attempt.answer(LoginAnswer::Code("12345".into())).await.unwrap() else {
        panic!("the code is enough");
    };
    done.memory
        .into_iter()
        .map(|(name, value)| (name, Some(value)))
        .collect()
}

pub fn channel_id(channel: i64) -> String {
    format!("-{}", 1_000_000_000_000 + channel)
}

pub fn text(text: &str) -> OutboundAction {
    OutboundAction::Send {
        text: text.into(),
        kind: hub_actors::domain::MessageKind::Text,
        media_url: None,
        reply_to: None,
    }
}

/// Waits until a condition holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, holds).await.is_ok(), "{what}");
}
