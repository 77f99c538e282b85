//! One actor per linked account: it owns the link to the platform.
//!
//! For a platform that calls us, the link is the account with its credentials, held open so that a delivery needs no
//! database before its signature is checked. It ends when it has been idle, and is started by the next use.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Handler, WrapFuture};
use tokio::sync::oneshot;

use crate::clock;
use crate::conversation::{self, ConversationKey};
use crate::domain::{Account, AccountState, InboundEvent, Receipt, Refusal, SendError, SendFailure};
use crate::ids::{AccountId, ExternalId};
use crate::mailbox::{Blame, Letter, Receiver, answer};
use crate::ports::{
    Adapter, AppendError, Delivery, Outbound, QuarantinedDelivery, ReceiveError, StoreError, TypingNotice,
};
use crate::supervise::{ChildGuard, ChildSpec};
use crate::tree::{DeliverError, Delivered, Hub};

/// Deliveries of one account that may be worked on at once; more are answered with "busy", and the platform comes
/// again.
const MAX_IN_FLIGHT: usize = 512;
const IDLE: Duration = Duration::from_secs(600);
const IDLE_CHECK: Duration = Duration::from_secs(60);
const COMMIT_PATIENCE: Duration = Duration::from_secs(20);

/// What can be asked of a connection.
pub enum Command {
    /// The platform called.
    Deliver {
        delivery: Delivery,
        blame: Blame,
        reply: oneshot::Sender<Result<Delivered, DeliverError>>,
    },
    /// Hand this to the platform, once.
    Send {
        outbound: Outbound,
        reply: oneshot::Sender<Result<Receipt, SendError>>,
    },
    /// The person is writing.
    Typing { notice: TypingNotice },
    /// The account or its credentials have changed.
    Reload,
    /// End.
    Stop,
}

/// A connection. Without an account when there is none of that id.
pub struct Connection {
    hub: Arc<Hub>,
    account_id: AccountId,
    account: Result<Arc<Account>, StoreError>,
    is_known: bool,
    /// The platform refused the credentials at the last try.
    is_refused: bool,
    in_flight: usize,
    last_activity: Instant,
    _guard: ChildGuard,
}

/// Makes connections.
pub struct ConnectionSpec {
    pub(crate) hub: Weak<Hub>,
}

impl ChildSpec for ConnectionSpec {
    type Key = AccountId;
    type Child = Connection;
    const PATH: &'static str = "connections/connection";
    const MAILBOX: usize = 1_024;

    fn build(&self, account_id: &AccountId, guard: ChildGuard) -> Connection {
        Connection {
            hub: Hub::upgrade(&self.hub),
            account_id: *account_id,
            account: Err(StoreError::Unavailable("not loaded yet".to_owned())),
            is_known: true,
            is_refused: false,
            in_flight: 0,
            last_activity: clock::instant(),
            _guard: guard,
        }
    }

    fn gave_up(&self, account_id: &AccountId, error: &str) {
        Hub::upgrade(&self.hub).account_failed(*account_id, error);
    }
}

impl Actor for Connection {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.load(context);
        context.run_interval(IDLE_CHECK, |connection, context| {
            if connection.last_activity.elapsed() > IDLE && connection.in_flight == 0 {
                context.stop();
            }
        });
    }
}

impl Receiver for Connection {
    type Command = Command;

    fn stop() -> Command {
        Command::Stop
    }
}

impl Handler<Letter<Command>> for Connection {
    type Result = ();

    fn handle(&mut self, letter: Letter<Command>, context: &mut Self::Context) {
        fail::fail_point!("connection");
        self.last_activity = clock::instant();
        match letter.open() {
            Command::Deliver { delivery, blame, reply } => self.deliver(delivery, blame, reply, context),
            Command::Send { outbound, reply } => self.send(outbound, reply, context),
            Command::Typing { notice } => {
                if let Ok((account, adapter)) = self.link() {
                    context.spawn(async move { adapter.typing(&account, &notice).await }.into_actor(self));
                }
            }
            Command::Reload => self.load(context),
            Command::Stop => context.stop(),
        }
    }
}

impl Connection {
    /// Loads the account; commands wait meanwhile.
    fn load(&mut self, context: &mut Context<Self>) {
        let (hub, id) = (Arc::clone(&self.hub), self.account_id);
        async move { hub.store.account(id).await }
            .into_actor(self)
            .map(|loaded, connection, context| match loaded {
                Ok(Some(account)) => {
                    connection.is_refused = account.state == AccountState::NeedsLogin;
                    connection.account = Ok(Arc::new(account));
                }
                Ok(None) => {
                    connection.is_known = false;
                    // An id that somebody made up: the few commands that wait are answered, then it ends.
                    context.run_later(Duration::from_secs(1), |_, context| context.stop());
                }
                Err(error) => {
                    connection.account = Err(error);
                    context.run_later(Duration::from_secs(1), |_, context| context.stop());
                }
            })
            .wait(context);
    }

    fn link(&self) -> Result<(Arc<Account>, Arc<dyn Adapter>), DeliverError> {
        if !self.is_known {
            return Err(DeliverError::NoAccount);
        }
        let account = self
            .account
            .as_ref()
            .map_err(|error| DeliverError::Unavailable(error.to_string()))?;
        if !account.is_active {
            return Err(DeliverError::NoAccount);
        }
        let adapter = self
            .hub
            .adapters
            .get(&account.platform)
            .ok_or(DeliverError::NoAccount)?;
        Ok((Arc::clone(account), Arc::clone(adapter)))
    }

    fn deliver(
        &mut self,
        delivery: Delivery,
        blame: Blame,
        reply: oneshot::Sender<Result<Delivered, DeliverError>>,
        context: &mut Context<Self>,
    ) {
        let link = if self.in_flight >= MAX_IN_FLIGHT {
            Err(DeliverError::Busy)
        } else {
            self.link()
        };
        let (account, adapter) = match link {
            Ok(link) => link,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let received = blame.during(|| adapter.receive(&account, &delivery));
        fail::fail_point!("webhook.mapped");
        let hub = Arc::clone(&self.hub);
        let work = async move {
            match received {
                Ok(events) => take(&hub, &account, &delivery, events, blame).await,
                Err(ReceiveError::Unsigned(reason)) => Err(DeliverError::Unsigned(reason.to_owned())),
                Err(ReceiveError::Stale(reason)) => Err(DeliverError::Stale(reason.to_owned())),
                Err(ReceiveError::Unmappable(reason)) => quarantine(&hub, &account, &delivery, reason).await,
            }
        };
        self.in_flight += 1;
        context.spawn(work.into_actor(self).map(|result, connection, _context| {
            connection.in_flight -= 1;
            let _ = reply.send(result);
        }));
    }

    fn send(
        &mut self,
        outbound: Outbound,
        reply: oneshot::Sender<Result<Receipt, SendError>>,
        context: &mut Context<Self>,
    ) {
        let (account, adapter) = match self.link() {
            Ok(link) => link,
            Err(DeliverError::NoAccount) => {
                let error = SendError::with_detail(SendFailure::Refused, "the account is disconnected");
                return drop(reply.send(Err(error)));
            }
            Err(_) => return drop(reply.send(Err(SendError::new(SendFailure::Unreachable)))),
        };
        self.in_flight += 1;
        let hub = Arc::clone(&self.hub);
        let was_refused = self.is_refused;
        let work = async move {
            let result = adapter.send(&account, &outbound).await;
            fail::fail_point!("connection.sent");
            let is_refused = matches!(&result, Err(error) if error.failure == SendFailure::Unauthorized);
            let news = match (&result, was_refused) {
                (Err(_), _) if is_refused => {
                    Some((AccountState::NeedsLogin, Some(SendFailure::Unauthorized.sentence())))
                }
                (Ok(_), true) => Some((AccountState::Live, None)),
                _ => None,
            };
            if let Some((state, reason)) = news {
                let told = hub
                    .set_account_state(account.user_id, account.id, state, reason.map(str::to_owned))
                    .await;
                if let Err(error) = told {
                    tracing::warn!(account_id = %account.id, %error, "an account's new state could not be stored");
                }
            }
            let still_refused = if result.is_ok() {
                false
            } else {
                was_refused || is_refused
            };
            (result, still_refused)
        };
        context.spawn(work.into_actor(self).map(|(result, is_refused), connection, _context| {
            connection.in_flight -= 1;
            connection.is_refused = is_refused;
            let _ = reply.send(result);
        }));
    }
}

/// Hands the events to their conversations and waits until all are committed.
async fn take(
    hub: &Hub,
    account: &Account,
    delivery: &Delivery,
    events: Vec<InboundEvent>,
    blame: Blame,
) -> Result<Delivered, DeliverError> {
    let mut committed = 0;
    let mut waiting = Vec::new();
    for (external_id, events) in by_conversation(events) {
        let key = ConversationKey {
            account_id: account.id,
            external_id,
        };
        waiting.push(hand_over(hub, account, key, events, blame.clone()).await?);
    }
    for receiver in waiting {
        match answer(receiver, COMMIT_PATIENCE).await.map_err(DeliverError::from)? {
            Ok(appended) => committed += appended.events.len(),
            Err(AppendError::Refused(Refusal::NoAccount | Refusal::AccountDisconnected)) => {
                return Err(DeliverError::NoAccount);
            }
            Err(error @ (AppendError::Refused(_) | AppendError::Poison(_))) => {
                return quarantine(hub, account, delivery, error.to_string()).await;
            }
            Err(AppendError::Store(error)) => return Err(DeliverError::Unavailable(error.to_string())),
            Err(AppendError::Busy) => return Err(DeliverError::Busy),
        }
    }
    fail::fail_point!("webhook.committed");
    Ok(Delivered::Committed { events: committed })
}

type Answer = oneshot::Receiver<Result<crate::domain::Appended, AppendError>>;

async fn hand_over(
    hub: &Hub,
    account: &Account,
    key: ConversationKey,
    events: Vec<InboundEvent>,
    blame: Blame,
) -> Result<Answer, DeliverError> {
    let conversation = hub.conversations.get(&key).await?;
    let (reply, receiver) = oneshot::channel();
    conversation.tell(conversation::Command::Inbound {
        user_id: account.user_id,
        events,
        blame,
        reply,
    })?;
    fail::fail_point!("webhook.handed_over");
    Ok(receiver)
}

/// Groups events by conversation; both the groups and the events in each keep their order.
fn by_conversation(events: Vec<InboundEvent>) -> Vec<(ExternalId, Vec<InboundEvent>)> {
    let mut places: HashMap<ExternalId, usize> = HashMap::new();
    let mut groups: Vec<(ExternalId, Vec<InboundEvent>)> = Vec::new();
    for event in events {
        let place = *places.entry(event.conversation.clone()).or_insert_with(|| {
            groups.push((event.conversation.clone(), Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(event);
    }
    groups
}

pub(crate) async fn quarantine(
    hub: &Hub,
    account: &Account,
    delivery: &Delivery,
    reason: String,
) -> Result<Delivered, DeliverError> {
    tracing::warn!(account_id = %account.id, %reason, bytes = delivery.body.len(), "a delivery was put into quarantine");
    let quarantined = QuarantinedDelivery {
        user_id: account.user_id,
        account_id: account.id,
        reason,
        body: delivery.body.clone(),
    };
    match hub.store.quarantine(quarantined).await {
        Ok(()) => Ok(Delivered::Quarantined),
        Err(error) => Err(DeliverError::Unavailable(error.to_string())),
    }
}
