//! Word between hubs on one database, over Redis publish/subscribe.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bb8_redis::redis;
use bb8_redis::redis::aio::PubSub;
use futures_util::StreamExt;
use hub_actors::ports::Bus;
use hub_actors::{Seq, UserId};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Notify;
use uuid::Uuid;

use super::ClusterError;

/// Users whose growth waits to be told. Beyond it word is dropped: sessions read the stream by themselves in time.
const MAX_WAITING: usize = 10_000;
/// Longest wait for a connection or an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the line is tried while nobody says anything: a Redis that vanished without a word would keep it up for ever.
const PING: Duration = Duration::from_secs(10);
/// First and longest pause before connecting again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What another hub says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusNotice {
    /// A user's stream has grown to this number.
    Grown {
        /// The user.
        user_id: UserId,
        /// The stream's last number.
        last: Seq,
    },
}

/// The bus over Redis. Announcing never waits. Its tasks end when it is dropped.
pub struct RedisBus {
    shared: Arc<Shared>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

struct Shared {
    client: redis::Client,
    channel: String,
    /// This hub, so that it does not hear itself.
    node: String,
    /// The highest announced number of each user since the last publication.
    waiting: Mutex<HashMap<UserId, Seq>>,
    wake: Notify,
}

impl RedisBus {
    /// Connects to the hubs that share the database of this `epoch`, and calls `hear` for what they say. Must be called
    /// inside a tokio runtime. A Redis that does not answer is tried again for ever, with growing pauses.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub fn start(
        url: &SecretString,
        epoch: &str,
        hear: impl Fn(BusNotice) + Send + Sync + 'static,
    ) -> Result<Self, ClusterError> {
        Self::with_ping(url, epoch, PING, hear)
    }

    fn with_ping(
        url: &SecretString,
        epoch: &str,
        ping: Duration,
        hear: impl Fn(BusNotice) + Send + Sync + 'static,
    ) -> Result<Self, ClusterError> {
        let client = redis::Client::open(url.expose_secret())
            .map_err(|error| ClusterError::Address(format!("{:?}", error.kind())))?;
        let shared = Arc::new(Shared {
            client,
            channel: format!("hub:stream:{epoch}"),
            node: Uuid::new_v4().simple().to_string(),
            waiting: Mutex::new(HashMap::new()),
            wake: Notify::new(),
        });
        let tasks = [
            tokio::spawn(publish(Arc::clone(&shared))),
            tokio::spawn(subscribe(Arc::clone(&shared), ping, hear)),
        ];
        Ok(Self { shared, tasks })
    }
}

impl Drop for RedisBus {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Bus for RedisBus {
    fn announce(&self, user_id: UserId, last: Seq) {
        note(&mut self.shared.waiting(), user_id, last);
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, HashMap<UserId, Seq>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes how far a user's stream has grown.
fn note(waiting: &mut HashMap<UserId, Seq>, user_id: UserId, last: Seq) {
    if waiting.len() >= MAX_WAITING && !waiting.contains_key(&user_id) {
        metrics::counter!("hub_bus_dropped_total").increment(1);
        return;
    }
    let known = waiting.entry(user_id).or_insert(last);
    *known = last.max(*known);
}

/// What connecting again waits for.
struct Backoff(Duration);

impl Backoff {
    const fn new() -> Self {
        Self(PAUSES.0)
    }

    /// Waits a random part of the pause (full jitter), and doubles the next one.
    async fn pause(&mut self) {
        tokio::time::sleep(self.0.mul_f64(rand::random::<f64>())).await;
        self.0 = (self.0 * 2).min(PAUSES.1);
    }
}

async fn publish(shared: Arc<Shared>) {
    let mut backoff = Backoff::new();
    loop {
        shared.wake.notified().await;
        let connecting = shared.client.get_multiplexed_async_connection();
        let Ok(Ok(mut connection)) = tokio::time::timeout(PATIENCE, connecting).await else {
            backoff.pause().await;
            shared.wake.notify_one();
            continue;
        };
        backoff = Backoff::new();
        loop {
            let batch = std::mem::take(&mut *shared.waiting());
            if batch.is_empty() {
                shared.wake.notified().await;
                continue;
            }
            let mut pipeline = redis::pipe();
            for (user_id, last) in &batch {
                pipeline
                    .publish(&shared.channel, format!("{} {user_id} {last}", shared.node))
                    .ignore();
            }
            let published = pipeline.query_async::<()>(&mut connection);
            if !matches!(tokio::time::timeout(PATIENCE, published).await, Ok(Ok(()))) {
                let mut waiting = shared.waiting();
                for (user_id, last) in batch {
                    note(&mut waiting, user_id, last);
                }
                break;
            }
        }
        shared.wake.notify_one();
    }
}

async fn subscribe(shared: Arc<Shared>, ping: Duration, hear: impl Fn(BusNotice)) {
    let mut backoff = Backoff::new();
    loop {
        let subscribing = async {
            let mut line = shared.client.get_async_pubsub().await?;
            line.subscribe(&shared.channel).await?;
            redis::RedisResult::Ok(line)
        };
        match tokio::time::timeout(PATIENCE, subscribing).await {
            Ok(Ok(line)) => {
                tracing::info!("the line to the other hubs is up");
                backoff = Backoff::new();
                listen(line, ping, |word| {
                    if let Some(notice) = read_notice(word, &shared.node) {
                        hear(notice);
                    }
                })
                .await;
                tracing::warn!("the line to the other hubs broke");
            }
            Ok(Err(error)) => tracing::debug!(kind = ?error.kind(), "the line to the other hubs is down"),
            Err(_) => tracing::debug!("the line to the other hubs is down: no answer in time"),
        }
        backoff.pause().await;
    }
}

/// Returns when the line is broken.
async fn listen(line: PubSub, ping: Duration, hear: impl Fn(&[u8])) {
    let (mut sink, mut messages) = line.split();
    let mut ticks = tokio::time::interval(ping);
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => hear(message.get_payload_bytes()),
                None => return,
            },
            _ = ticks.tick() => {
                // What is said meanwhile waits.
                let answer = tokio::time::timeout(PATIENCE, sink.ping::<redis::Value>()).await;
                if !matches!(answer, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }
}

/// Reads `node user seq`; none for this hub's own word and for what is malformed.
fn read_notice(payload: &[u8], own_node: &str) -> Option<BusNotice> {
    let mut parts = std::str::from_utf8(payload).ok()?.split(' ');
    let (node, user, last) = (parts.next()?, parts.next()?, parts.next()?);
    if node == own_node || parts.next().is_some() {
        return None;
    }
    Some(BusNotice::Grown {
        user_id: user.parse().ok()?,
        last: Seq(last.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::cluster::testing::RedisServer;

    #[test]
    fn only_the_word_of_others_is_heard() {
        let user = UserId(Uuid::from_u128(7));
        let grown = BusNotice::Grown {
            user_id: user,
            last: Seq(5),
        };
        assert_eq!(read_notice(format!("b {user} 5").as_bytes(), "a"), Some(grown));
        for wrong in [
            format!("a {user} 5"),
            format!("b {user}"),
            format!("b {user} x"),
            format!("b {user} 5 6"),
            "b x 5".to_owned(),
            String::new(),
        ] {
            assert_eq!(read_notice(wrong.as_bytes(), "a"), None, "{wrong}");
        }
        assert_eq!(read_notice(b"\xFF", "a"), None);
    }

    fn start(redis: &RedisServer, epoch: &str) -> (RedisBus, mpsc::Receiver<BusNotice>) {
        let (sender, receiver) = mpsc::channel(1_000);
        let url = SecretString::from(redis.url());
        let bus = RedisBus::with_ping(&url, epoch, Duration::from_millis(200), move |notice| {
            let _ = sender.try_send(notice);
        });
        (bus.unwrap(), receiver)
    }

    async fn heard(receiver: &mut mpsc::Receiver<BusNotice>) -> BusNotice {
        let wait = tokio::time::timeout(Duration::from_secs(20), receiver.recv());
        wait.await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn hubs_on_one_database_hear_each_other_also_after_redis_was_gone() {
        let mut redis = RedisServer::start().await;
        let (speaker, mut own_ear) = start(&redis, "epoch");
        let (_listener, mut ear) = start(&redis, "epoch");
        let (_stranger, mut strange_ear) = start(&redis, "other");
        let user = UserId(Uuid::from_u128(7));
        let say = |last| async move {
            BusNotice::Grown {
                user_id: user,
                last: Seq(last),
            }
        };
        // The subscription may need a moment: word that comes too early is lost, so it is repeated.
        let repeated = async {
            loop {
                speaker.announce(user, Seq(1));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = repeated => {}
            notice = heard(&mut ear) => assert_eq!(notice, say(1).await),
        }
        redis.restart().await;
        let repeated = async {
            loop {
                speaker.announce(user, Seq(2));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let next = async {
            loop {
                let notice = heard(&mut ear).await;
                if notice != say(1).await {
                    return notice;
                }
            }
        };
        tokio::select! {
            () = repeated => {}
            notice = next => assert_eq!(notice, say(2).await),
        }
        assert!(own_ear.try_recv().is_err() && strange_ear.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_redis_that_falls_silent_is_noticed() {
        let redis = RedisServer::start().await;
        let (speaker, _) = start(&redis, "epoch");
        let (_listener, mut ear) = start(&redis, "epoch");
        let user = UserId(Uuid::from_u128(7));
        let repeated = async {
            loop {
                speaker.announce(user, Seq(1));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = repeated => {}
            _ = heard(&mut ear) => {}
        }
        let before = redis.subscribers().await;
        redis.pause(true);
        tokio::time::sleep(PATIENCE + Duration::from_secs(1)).await;
        redis.pause(false);
        let renewed = async {
            loop {
                let now = redis.subscribers().await;
                if now.len() == before.len() && now.is_disjoint(&before) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), renewed).await.unwrap();
    }
}
