//! What lives here: what must still go out. Each conversation is a lane: its entries leave one by one, in the order in
//! which they were accepted, and a lane that is stuck holds up no other.
//! Who calls it: the journal, after each commit that queued something; the tree, for those who wait for an outcome.
//! What it may not know: SQL, platforms by name.

mod attempt;
mod lanes;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Handler, WrapFuture};
use tokio::sync::oneshot;

use crate::clock;
use crate::domain::{Message, OutboxEntry, OutboxState};
use crate::ids::{AccountId, ConversationId, MessageId, OutboxId};
use crate::mailbox::{Letter, Receiver};
use crate::ports::{OutboxPage, StoreError};
use crate::supervise::{ChildGuard, ChildSpec};
use crate::tree::Hub;
use attempt::{LONGEST_PAUSE, Outcome, Park, attempt};
use lanes::{Lanes, Waiting};

/// Entries read at once.
const PAGE: usize = 1_000;
/// Outcomes waited for at once; who comes later is answered with what is known at that moment.
const MAX_WATCHERS: usize = 100_000;
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
    /// Nor for these, unless their links open before.
    unlinked: HashMap<AccountId, Instant>,
    /// Entries that could not be read when it was last looked: they are told of once.
    unreadable: HashSet<OutboxId>,
    is_looking: bool,
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
            unlinked: HashMap::new(),
            unreadable: HashSet::new(),
            is_looking: false,
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
        self.load(context);
        context.run_interval(self.hub.settings.outbox_look, Self::look);
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
                if entry.state != OutboxState::Stopped {
                    self.read(vec![entry.id], context);
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
                self.unlinked.remove(&account_id);
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
    /// Takes over what was committed before this actor was born. Commands wait meanwhile.
    fn load(&mut self, context: &mut Context<Self>) {
        let hub = Arc::clone(&self.hub);
        async move { insist(|| hub.store.pending_outbox()).await }
            .into_actor(self)
            .map(|ids, outbox, context| outbox.read(ids, context))
            .wait(context);
    }

    /// Looks for what was committed without its being told: when a commit's answer was lost, or when the database brought
    /// a commit of a killed hub to its end after this one had started. Nothing waits for the ids.
    fn look(&mut self, context: &mut Context<Self>) {
        if self.is_stopping || self.is_looking {
            return;
        }
        self.is_looking = true;
        let hub = Arc::clone(&self.hub);
        let ids = async move { hub.store.pending_outbox().await };
        context.spawn(ids.into_actor(self).map(|ids, outbox, context| {
            outbox.is_looking = false;
            match ids {
                Ok(ids) => outbox.read(ids, context),
                Err(error) => {
                    tracing::warn!(%error, "the outbox could not be looked through; it is looked again later");
                }
            }
        }));
    }

    /// Takes over those of these entries that are not here and still to be sent: they may have left since their ids were
    /// read. Commands and the ends of tries wait meanwhile, so that what is accepted later does not leave first, and no
    /// entry ends between its being read and its being taken.
    fn read(&mut self, mut ids: Vec<OutboxId>, context: &mut Context<Self>) {
        ids.retain(|id| !self.lanes.has(*id));
        if ids.is_empty() {
            return;
        }
        let hub = Arc::clone(&self.hub);
        async move {
            let mut whole = OutboxPage::default();
            for part in ids.chunks(PAGE) {
                let page = insist(|| hub.store.outbox(part)).await;
                whole.entries.extend(page.entries);
                whole.unreadable.extend(page.unreadable);
            }
            whole
        }
        .into_actor(self)
        .map(|page, outbox, context| outbox.take_over(page, context))
        .wait(context);
    }

    fn take_over(&mut self, page: OutboxPage, context: &mut Context<Self>) {
        for entry in page.entries {
            self.take(entry);
        }
        for (id, error) in &page.unreadable {
            if !self.unreadable.contains(id) {
                tracing::error!(outbox_id = %id, %error, "an entry of the outbox cannot be read; it stays, and the others go on");
            }
        }
        self.unreadable = page.unreadable.into_iter().map(|(id, _)| id).collect();
        self.note_depth();
        self.start_ready(context);
    }

    fn take(&mut self, entry: OutboxEntry) {
        let give_up_after = self.hub.settings.outbox_give_up_after;
        let now = clock::instant();
        let waiting = Waiting::new(entry, give_up_after, self.hub.clock.now(), now);
        if waiting.due > now + LONGEST_PAUSE {
            self.park(waiting.entry.account_id, Park::Asked(waiting.due));
        }
        self.lanes.insert(waiting);
    }

    /// A shorter wait never ends a longer one.
    fn park(&mut self, account_id: AccountId, park: Park) {
        let (parked, until) = match park {
            Park::Asked(until) => (&mut self.parked, until),
            Park::Unlinked(until) => (&mut self.unlinked, until),
        };
        let known = parked.entry(account_id).or_insert(until);
        *known = until.max(*known);
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
        let parked = [&self.parked, &self.unlinked].map(|parked| parked.get(&account_id));
        let due = parked.into_iter().flatten().copied().fold(waiting.due, Instant::max);
        if due > now {
            self.lanes.sleep(conversation_id, due);
            self.wake_at(due, now, context);
            return;
        }
        self.parked.remove(&account_id);
        self.unlinked.remove(&account_id);
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
        if let Some(park) = outcome.park {
            self.park(outcome.entry.account_id, park);
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
            if at <= due {
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

/// Asks until there is an answer.
async fn insist<T, Asking: Future<Output = Result<T, StoreError>>>(ask: impl Fn() -> Asking) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => {
                tracing::warn!(%error, "the outbox could not be read; trying again");
                tokio::time::sleep(LOAD_AGAIN).await;
            }
        }
    }
}
