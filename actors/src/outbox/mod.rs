//! What lives here: what must still go out. Each conversation is a lane: its entries leave one by one, in the order in
//! which they were accepted, and a lane that is stuck holds up no other.
//! Who calls it: the journal, after each commit that queued something; the tree, for those who wait for an outcome.
//! What it may not know: SQL, platforms by name.

mod attempt;
mod lanes;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Handler, WrapFuture};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::clock;
use crate::domain::{Message, OutboxEntry, OutboxState};
use crate::ids::{AccountId, ConversationId, MessageId, OutboxId};
use crate::mailbox::{Letter, Receiver};
use crate::ports::StoreError;
use crate::supervise::{ChildGuard, ChildSpec};
use crate::tree::Hub;
use attempt::{Outcome, attempt};
use lanes::{Lanes, Waiting};

/// Entries read at once at start.
const PAGE: usize = 1_000;
/// Outcomes waited for at once; who comes later is answered with what is known at that moment.
const MAX_WATCHERS: usize = 100_000;
/// How often it looks for what was committed without its being told: when a commit's answer was lost, or when the
/// database brought a commit of a killed hub to its end after this one had started.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
const LOAD_AGAIN: Duration = Duration::from_secs(1);

/// What can be asked of the outbox.
pub enum Command {
    /// This was committed and must go out.
    Enqueue { entry: Box<OutboxEntry> },
    /// This was found committed when it was asked for again; perhaps nobody has told of it.
    Found { entry: Box<OutboxEntry> },
    /// Tell me when this message is sent, failed or of unknown fate.
    /// With `only_if_waiting`
    /// the question is dropped when the message is not here (any more): its fate is known already.
    Watch {
        conversation_id: ConversationId,
        message_id: MessageId,
        only_if_waiting: bool,
        reply: oneshot::Sender<Box<Message>>,
    },
    /// Tell me what became of this entry, which is about to be committed.
    WatchEntry {
        id: OutboxId,
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// The account's link is open: what waited for it goes out.
    Connected { account_id: AccountId },
    /// End once the tries under way have ended; start no other.
    Stop,
}

/// The outbox.
pub struct Outbox {
    hub: Arc<Hub>,
    lanes: Lanes,
    watchers: HashMap<MessageId, Vec<oneshot::Sender<Box<Message>>>>,
    entry_watchers: HashMap<OutboxId, oneshot::Sender<Result<(), String>>>,
    /// Nothing leaves for these accounts before that time: the platform asked to wait.
    parked: HashMap<AccountId, Instant>,
    in_flight: usize,
    /// Of those under way, how many each account has.
    in_flight_of: HashMap<AccountId, usize>,
    wake: Option<(Instant, actix::SpawnHandle)>,
    is_stopping: bool,
    _guard: ChildGuard,
}

/// Makes the outbox.
pub struct OutboxSpec {
    pub(crate) hub: Weak<Hub>,
}

impl ChildSpec for OutboxSpec {
    type Key = u32;
    type Child = Outbox;
    const PATH: &'static str = "outbox";
    const MAILBOX: usize = 65_536;
    const PERMANENT: bool = true;

    fn build(&self, _key: &u32, guard: ChildGuard) -> Outbox {
        let hub = Hub::upgrade(&self.hub);
        hub.outbox_depth.store(0, Ordering::Relaxed);
        Outbox {
            hub,
            lanes: Lanes::default(),
            watchers: HashMap::new(),
            entry_watchers: HashMap::new(),
            parked: HashMap::new(),
            in_flight: 0,
            in_flight_of: HashMap::new(),
            wake: None,
            is_stopping: false,
            _guard: guard,
        }
    }
}

impl Actor for Outbox {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.load(None, context);
        context.run_interval(LOOK_AGAIN, |outbox, context| {
            if !outbox.is_stopping {
                outbox.load(None, context);
            }
        });
    }
}

impl Receiver for Outbox {
    type Command = Command;

    fn stop() -> Command {
        Command::Stop
    }
}

impl Handler<Letter<Command>> for Outbox {
    type Result = ();

    fn handle(&mut self, letter: Letter<Command>, context: &mut Self::Context) {
        fail::fail_point!("outbox");
        match letter.open() {
            Command::Enqueue { entry } => {
                let conversation_id = entry.conversation_id;
                self.take(*entry);
                self.note_depth();
                self.start(conversation_id, context);
            }
            Command::Found { entry } => {
                if entry.state != OutboxState::Stopped && !self.lanes.has(&entry) {
                    self.look_up(entry.id, context);
                }
            }
            Command::Watch {
                conversation_id,
                message_id,
                only_if_waiting,
                reply,
            } => {
                if !only_if_waiting || self.lanes.holds(conversation_id, message_id) {
                    self.watch(message_id, reply);
                }
            }
            Command::WatchEntry { id, reply } => {
                if self.entry_watchers.len() >= MAX_WATCHERS {
                    self.entry_watchers.retain(|_, reply| !reply.is_closed());
                }
                if self.entry_watchers.len() < MAX_WATCHERS {
                    self.entry_watchers.insert(id, reply);
                }
            }
            Command::Connected { account_id } => {
                self.parked.remove(&account_id);
                self.lanes.wake(account_id, clock::instant());
                self.start_ready(context);
            }
            Command::Stop => {
                self.is_stopping = true;
                self.stop_when_quiet(context);
            }
        }
    }
}

impl Outbox {
    /// Takes over what was committed without being told of: before this actor was born, or by a commit whose answer
    /// was lost. Commands and the ends of tries wait meanwhile.
    fn load(&mut self, after: Option<OutboxId>, context: &mut Context<Self>) {
        let hub = Arc::clone(&self.hub);
        async move { load_all(&hub, after).await }
            .into_actor(self)
            .map(|entries, outbox, context| {
                outbox.take_over(entries);
                for conversation_id in outbox.lanes.conversations() {
                    outbox.start(conversation_id, context);
                }
            })
            .wait(context);
    }

    /// Takes over one entry, if it is still to be sent: it may have left since its caller read it. Everything else waits
    /// meanwhile, so that what is accepted later does not leave first.
    fn look_up(&mut self, id: OutboxId, context: &mut Context<Self>) {
        let hub = Arc::clone(&self.hub);
        let just_before = OutboxId(Uuid::from_u128(id.0.as_u128().saturating_sub(1)));
        async move { load_page(&hub, Some(just_before), 1).await }
            .into_actor(self)
            .map(move |mut entries, outbox, context| {
                entries.retain(|entry| entry.id == id);
                let conversation_id = entries.first().map(|entry| entry.conversation_id);
                outbox.take_over(entries);
                if let Some(conversation_id) = conversation_id {
                    outbox.start(conversation_id, context);
                }
            })
            .wait(context);
    }

    /// What is here is newer than what was read: a try may be under way.
    fn take_over(&mut self, entries: Vec<OutboxEntry>) {
        for entry in entries {
            if !self.lanes.has(&entry) {
                self.take(entry);
            }
        }
        self.note_depth();
    }

    fn take(&mut self, entry: OutboxEntry) {
        let give_up_after = self.hub.settings.outbox_give_up_after;
        let waiting = Waiting::new(entry, give_up_after, self.hub.clock.now(), clock::instant());
        self.lanes.insert(waiting);
    }

    fn note_depth(&self) {
        self.hub.outbox_depth.store(self.lanes.len(), Ordering::Relaxed);
    }

    fn watch(&mut self, message_id: MessageId, reply: oneshot::Sender<Box<Message>>) {
        if self.watchers.len() >= MAX_WATCHERS {
            self.watchers
                .retain(|_, replies| replies.iter().any(|reply| !reply.is_closed()));
        }
        if self.watchers.len() < MAX_WATCHERS {
            self.watchers.entry(message_id).or_default().push(reply);
        }
    }

    /// Starts the lane's first entry if it is due and nothing forbids it.
    fn start(&mut self, conversation_id: ConversationId, context: &mut Context<Self>) {
        if self.is_stopping || self.in_flight >= self.hub.settings.outbox_in_flight {
            return;
        }
        let Some(waiting) = self.lanes.next(conversation_id) else {
            return;
        };
        let now = clock::instant();
        let account_id = waiting.entry.account_id;
        if room(&self.hub, &self.in_flight_of, account_id) == 0 {
            return;
        }
        let parked_until = self.parked.get(&account_id).copied().filter(|until| *until > now);
        let due = parked_until.map_or(waiting.due, |until| until.max(waiting.due));
        if due > now {
            self.lanes.sleep(conversation_id, due);
            self.wake_at(due, now, context);
            return;
        }
        self.parked.remove(&account_id);
        let (entry, too_old) = (waiting.entry.clone(), waiting.too_old);
        self.lanes.set_busy(conversation_id);
        self.in_flight += 1;
        *self.in_flight_of.entry(entry.account_id).or_default() += 1;
        let hub = Arc::clone(&self.hub);
        let work = async move { attempt(&hub, entry, too_old).await };
        context.spawn(
            work.into_actor(self)
                .map(|outcome, outbox, context| outbox.ended(outcome, context)),
        );
    }

    fn ended(&mut self, outcome: Outcome, context: &mut Context<Self>) {
        fail::fail_point!("outbox.ended");
        self.in_flight -= 1;
        if let Entry::Occupied(mut count) = self.in_flight_of.entry(outcome.entry.account_id) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        let conversation_id = outcome.entry.conversation_id;
        if let Some(until) = outcome.park_account_until {
            self.parked.insert(outcome.entry.account_id, until);
        }
        let is_current = self.lanes.settle(&outcome.entry, outcome.again_at);
        self.note_depth();
        if outcome.again_at.is_none()
            && outcome.message.is_none()
            && let Some(id) = outcome.entry.message_id
        {
            // Its end was stored by a commit whose answer was lost: who waits is answered with what was known.
            self.watchers.remove(&id);
        }
        if let Some(message) = outcome.message.filter(|_| is_current) {
            for watcher in self.watchers.remove(&message.id).unwrap_or_default() {
                let _ = watcher.send(message.clone());
            }
        }
        if let Some(fate) = outcome.fate
            && let Some(watcher) = self.entry_watchers.remove(&outcome.entry.id)
        {
            let _ = watcher.send(fate);
        }
        if self.is_stopping {
            return self.stop_when_quiet(context);
        }
        self.start(conversation_id, context);
        self.start_ready(context);
    }

    /// Starts lanes that waited for a free place.
    fn start_ready(&mut self, context: &mut Context<Self>) {
        while !self.is_stopping {
            let free = self.hub.settings.outbox_in_flight.saturating_sub(self.in_flight);
            let (hub, in_flight_of) = (&self.hub, &self.in_flight_of);
            let ready = self.lanes.ready(free, |account| room(hub, in_flight_of, account));
            if ready.is_empty() {
                return;
            }
            // Each of them leaves the idle ones: it starts, or sleeps.
            for conversation_id in ready {
                self.start(conversation_id, context);
            }
        }
    }

    /// One timer for the lane that is due first.
    fn wake_at(&mut self, due: Instant, now: Instant, context: &mut Context<Self>) {
        if let Some((at, timer)) = self.wake.take() {
            if at <= due && at > now {
                self.wake = Some((at, timer));
                return;
            }
            context.cancel_future(timer);
        }
        let timer = context.run_later(due.saturating_duration_since(now), |outbox, context| {
            outbox.wake = None;
            let now = clock::instant();
            for conversation_id in outbox.lanes.due(now) {
                outbox.start(conversation_id, context);
            }
            if let Some(next) = outbox.lanes.next_due() {
                outbox.wake_at(next, now, context);
            }
        });
        self.wake = Some((due, timer));
    }

    fn stop_when_quiet(&mut self, context: &mut Context<Self>) {
        if self.in_flight == 0 {
            context.stop();
        }
    }
}

/// Tries that an account may begin now. One account has a quarter of all at most, so that a platform that never answers
/// holds up no other account.
fn room(hub: &Hub, in_flight_of: &HashMap<AccountId, usize>, account_id: AccountId) -> usize {
    let share = hub.settings.outbox_in_flight.div_ceil(4);
    share.saturating_sub(in_flight_of.get(&account_id).copied().unwrap_or(0))
}

async fn load_all(hub: &Hub, mut after: Option<OutboxId>) -> Vec<OutboxEntry> {
    let mut entries: Vec<OutboxEntry> = Vec::new();
    loop {
        let page = load_page(hub, after, PAGE).await;
        let is_last = page.len() < PAGE;
        after = page.last().map(|entry| entry.id).or(after);
        entries.extend(page);
        if is_last {
            return entries;
        }
    }
}

async fn load_page(hub: &Hub, after: Option<OutboxId>, limit: usize) -> Vec<OutboxEntry> {
    loop {
        match hub.store.outbox(after, limit).await {
            Ok(page) => return page,
            Err(StoreError::Unavailable(error) | StoreError::Unknown(error) | StoreError::Failed(error)) => {
                tracing::warn!(%error, "the outbox could not be read; trying again");
                tokio::time::sleep(LOAD_AGAIN).await;
            }
        }
    }
}
