//! What lives here: group commit. Appends that arrive while a commit is in flight join the next one.
//! Who calls it: conversations, connections and the outbox, through [`append`].
//! What it may not know: SQL; what an append means.

mod reader;

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use tokio::sync::oneshot;

pub use reader::{Reader, ReaderSpec, read_stream};

use crate::domain::{Append, Appended, Event};
use crate::ids::UserId;
use crate::mailbox::{CallError, Letter, Mailbox, Receiver, answer};
use crate::ports::{AppendError, StoreError};
use crate::supervise::{ChildGuard, ChildSpec};
use crate::tree::Hub;

/// How long a caller waits for its commit. What is asked may still be committed afterwards; every append is safe to
/// repeat.
const PATIENCE: Duration = Duration::from_secs(15);
/// Tries when the journal restarts under the caller.
const TRIES: usize = 3;

/// Commits a change: the answer comes after the commit. The journal is told before this returns, so that appends keep the
/// order in which they are made; when it restarts meanwhile, it is asked again.
///
/// # Errors
/// [`AppendError`]; after any of them the append may be repeated as it is.
pub fn append(hub: &Hub, append: Append) -> impl Future<Output = Result<Appended, AppendError>> + Send + use<> {
    let shard = shard_of(append.user_id, hub.settings.journal_shards);
    let journals = hub.journals.clone();
    let mut told = journals.find(&shard).map(|journal| tell(&journal, &append));
    async move {
        for _ in 0..TRIES {
            let receiver = match told.take() {
                Some(receiver) => receiver,
                None => tell(&journals.get(&shard).await.map_err(|_| AppendError::Busy)?, &append),
            };
            let answered = match receiver {
                Ok(receiver) => answer(receiver, PATIENCE).await,
                Err(error) => Err(error),
            };
            match answered {
                Ok(result) => return result,
                Err(CallError::Gone) => {}
                Err(CallError::TimedOut) => {
                    return Err(AppendError::Store(StoreError::Unknown("no answer in time".to_owned())));
                }
                Err(CallError::Full | CallError::GaveUp) => return Err(AppendError::Busy),
            }
        }
        Err(AppendError::Busy)
    }
}

type Answer = oneshot::Receiver<Result<Appended, AppendError>>;

fn tell(journal: &Mailbox<Journal>, append: &Append) -> Result<Answer, CallError> {
    let append = append.clone();
    journal.ask(|reply| Command::Append { append, reply })
}

/// All appends of a user go through one shard, so that they keep their order.
fn shard_of(user_id: UserId, shards: u32) -> u32 {
    let mut hasher = DefaultHasher::new();
    user_id.hash(&mut hasher);
    u32::try_from(hasher.finish() % u64::from(shards.max(1))).unwrap_or(0)
}

/// What can be asked of a journal.
pub enum Command {
    /// Commit this.
    Append { append: Append, reply: Reply },
    /// Commit what waits, then end.
    Stop,
}

type Reply = oneshot::Sender<Result<Appended, AppendError>>;

/// One shard of the journal.
pub struct Journal {
    hub: Arc<Hub>,
    waiting: VecDeque<(Append, Reply)>,
    is_committing: bool,
    is_stopping: bool,
    _guard: ChildGuard,
}

/// Makes journals; the key is the shard's number.
pub struct JournalSpec {
    pub(crate) hub: Weak<Hub>,
}

impl ChildSpec for JournalSpec {
    type Key = u32;
    type Child = Journal;
    const PATH: &'static str = "journal";
    const MAILBOX: usize = 8_192;
    const PERMANENT: bool = true;

    fn build(&self, _shard: &u32, guard: ChildGuard) -> Journal {
        Journal {
            hub: Hub::upgrade(&self.hub),
            waiting: VecDeque::new(),
            is_committing: false,
            is_stopping: false,
            _guard: guard,
        }
    }
}

impl Actor for Journal {
    type Context = Context<Self>;
}

impl Receiver for Journal {
    type Command = Command;

    fn stop() -> Command {
        Command::Stop
    }
}

impl Handler<Letter<Command>> for Journal {
    type Result = ();

    fn handle(&mut self, letter: Letter<Command>, context: &mut Self::Context) {
        fail::fail_point!("journal");
        match letter.open() {
            Command::Append { reply, .. } if self.waiting.len() >= self.hub.settings.journal_queue => {
                let _ = reply.send(Err(AppendError::Busy));
            }
            Command::Append { append, reply } => {
                self.waiting.push_back((append, reply));
                self.commit_next(context);
            }
            Command::Stop => {
                self.is_stopping = true;
                self.commit_next(context);
            }
        }
    }
}

impl Journal {
    fn commit_next(&mut self, context: &mut Context<Self>) {
        if self.is_committing {
            return;
        }
        if self.waiting.is_empty() {
            if self.is_stopping {
                context.stop();
            }
            return;
        }
        self.is_committing = true;
        let size = self.waiting.len().min(self.hub.settings.journal_batch);
        let (batch, replies): (Vec<Append>, Vec<Reply>) = self.waiting.drain(..size).unzip();
        let hub = Arc::clone(&self.hub);
        let commit = async move {
            fail::fail_point!("journal.batched");
            let results = hub.store.commit(batch).await;
            fail::fail_point!("journal.after_commit");
            settle(&hub, results, replies);
        };
        context.spawn(commit.into_actor(self).map(|(), journal, context| {
            journal.is_committing = false;
            journal.commit_next(context);
        }));
    }
}

/// Tells sessions, outbox and callers, in the order of the commit.
fn settle(hub: &Hub, results: Result<Vec<Result<Appended, AppendError>>, StoreError>, replies: Vec<Reply>) {
    let results = results.unwrap_or_else(|error| {
        tracing::warn!(%error, appends = replies.len(), "a batch was not committed");
        replies.iter().map(|_| Err(AppendError::Store(error.clone()))).collect()
    });
    publish(
        hub,
        results.iter().flatten().flat_map(|appended| &appended.events).collect(),
    );
    fail::fail_point!("journal.published");
    for (result, reply) in results.into_iter().zip(replies) {
        if let Ok(appended) = &result {
            let queued = appended.queued.iter();
            let entries = queued.filter_map(|queued| Some((queued.entry.as_ref()?, queued.is_repeat)));
            for (entry, is_repeat) in entries.chain(appended.outbox.as_deref().map(|entry| (entry, false))) {
                if is_repeat {
                    hub.found(entry.clone());
                } else {
                    hub.enqueue(entry);
                }
            }
        }
        let _ = reply.send(result);
    }
}

/// Hands each user's new events to the session that listens, and tells the other hubs.
fn publish(hub: &Hub, mut events: Vec<&Event>) {
    // Stable: each user's events keep the order of their numbers.
    events.sort_by_key(|event| event.user_id);
    for own in events.chunk_by(|event, next| event.user_id == next.user_id) {
        if let Some(last) = own.last() {
            hub.bus.announce(last.user_id, last.seq);
            hub.publish(last.user_id, own);
        }
    }
}
