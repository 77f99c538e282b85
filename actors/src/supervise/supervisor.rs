//! The parent of all actors of one kind.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::{Hash, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message};
use tokio::sync::oneshot;

use super::backoff::{Backoff, RestartWindow};
use super::directory::{Directory, place};
use super::guard::{ChildGuard, Exit};
use super::node::{Node, NodeState};
use crate::clock;
use crate::mailbox::{CallError, Mailbox, Receiver, answer, report};

/// How long a caller waits for a child that is being restarted.
const START_PATIENCE: Duration = Duration::from_secs(10);
const RESTART: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(5));

/// How children of one kind are made.
pub trait ChildSpec: Send + Sync + 'static {
    /// What tells one child from another.
    type Key: Clone + Eq + Hash + Display + Send + Sync + Unpin + 'static;
    /// The child.
    type Child: Receiver;

    /// The path of the group in the tree, for example `connections/connection`.
    const PATH: &'static str;

    /// Bound of a child's mailbox.
    const MAILBOX: usize;

    /// Children that are always there: they are started again also after a stop that nobody asked for.
    const PERMANENT: bool = false;

    /// How long a child that crashed too often stays stopped unless somebody resets it.
    const STOPPED_FOR: Duration = Duration::from_secs(300);

    /// Builds a child from its arguments, never from an earlier child's state. Runs on the child's own arbiter.
    fn build(&self, key: &Self::Key, guard: ChildGuard) -> Self::Child;

    /// Called when a child has crashed too often and stays stopped.
    fn gave_up(&self, key: &Self::Key, error: &str) {
        let _ = (key, error);
    }

    /// Called when a child that had crashed too often is started again.
    fn came_back(&self, key: &Self::Key) {
        let _ = key;
    }
}

/// The children of one kind, as the rest of the tree sees them.
pub struct Children<S: ChildSpec> {
    directory: Arc<Directory<S>>,
    supervisor: Addr<Supervisor<S>>,
}

impl<S: ChildSpec> Clone for Children<S> {
    fn clone(&self) -> Self {
        Self {
            directory: Arc::clone(&self.directory),
            supervisor: self.supervisor.clone(),
        }
    }
}

impl<S: ChildSpec> Children<S> {
    /// Starts the supervisor on the current arbiter; children are spread over `arbiters` by key.
    pub fn start(spec: S, arbiters: Vec<ArbiterHandle>) -> Self {
        let directory = Arc::new(Directory::new());
        let shared = Arc::clone(&directory);
        let supervisor = Supervisor::create(|context| {
            // Bounded by the callers: each waits for its answer, and exits are reported outside the bound.
            context.set_mailbox_capacity(65_536);
            Supervisor {
                spec: Arc::new(spec),
                directory: shared,
                children: HashMap::new(),
                arbiters,
                placement: RandomState::new(),
                next_incarnation: 0,
                is_stopping: false,
            }
        });
        Self { directory, supervisor }
    }

    /// The child, if it is running.
    pub fn find(&self, key: &S::Key) -> Option<Mailbox<S::Child>> {
        self.directory.get(key).filter(Mailbox::is_open)
    }

    /// The child, started if need be; waits for one that is being restarted.
    ///
    /// # Errors
    /// [`CallError::GaveUp`] when it crashed too often, [`CallError::TimedOut`] and [`CallError::Gone`].
    pub async fn get(&self, key: &S::Key) -> Result<Mailbox<S::Child>, CallError> {
        if let Some(mailbox) = self.find(key) {
            return Ok(mailbox);
        }
        let (reply, receiver) = oneshot::channel();
        self.supervisor
            .try_send(Start {
                key: key.clone(),
                reply,
            })
            .map_err(|error| match error {
                actix::prelude::SendError::Full(_) => CallError::Full,
                actix::prelude::SendError::Closed(_) => CallError::Gone,
            })?;
        answer(receiver, START_PATIENCE).await?
    }

    /// Asks the child, started if need be, and waits for its answer, at most `patience` long from when it has the question.
    ///
    /// # Errors
    /// As [`Children::get`]; [`CallError::Full`]; [`CallError::Gone`] also when it ended before it answered.
    pub async fn ask<T>(
        &self,
        key: &S::Key,
        patience: Duration,
        question: impl FnOnce(oneshot::Sender<T>) -> <S::Child as Receiver>::Command,
    ) -> Result<T, CallError> {
        answer(self.get(key).await?.ask(question)?, patience).await
    }

    /// Forgets of the wanted children that they crashed too often, so that they can be started again.
    pub fn reset(&self, is_wanted: impl Fn(&S::Key) -> bool + Send + 'static) {
        let is_wanted = Box::new(is_wanted);
        report(&self.supervisor, Reset::<S> { is_wanted });
    }

    /// The running children whose keys are wanted.
    pub fn matching(&self, is_wanted: impl Fn(&S::Key) -> bool) -> Vec<Mailbox<S::Child>> {
        self.directory.matching(is_wanted)
    }

    /// All children, for the person who looks at the tree.
    pub async fn nodes(&self) -> Vec<Node> {
        let (reply, receiver) = oneshot::channel();
        report(&self.supervisor, List { reply });
        answer(receiver, START_PATIENCE).await.unwrap_or_default()
    }

    /// Number of running children.
    pub fn count(&self) -> usize {
        self.directory.count()
    }

    /// Ends all children in good order and waits until the last is gone, at most `patience` long. No child is started
    /// any more.
    pub async fn stop(&self, patience: Duration) {
        let (reply, receiver) = oneshot::channel();
        report(&self.supervisor, StopAll { reply });
        let deadline = clock::instant() + patience;
        let _ = answer(receiver, patience).await;
        while self.directory.count() > 0 && clock::instant() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

type Reply<S> = oneshot::Sender<Result<Mailbox<<S as ChildSpec>::Child>, CallError>>;

struct Child<S: ChildSpec> {
    mailbox: Option<Mailbox<S::Child>>,
    incarnation: u64,
    started_at: Instant,
    gave_up_at: Option<Instant>,
    restarts: u32,
    window: RestartWindow,
    last_error: Option<String>,
    waiting: Vec<Reply<S>>,
}

struct Supervisor<S: ChildSpec> {
    spec: Arc<S>,
    directory: Arc<Directory<S>>,
    children: HashMap<S::Key, Child<S>>,
    arbiters: Vec<ArbiterHandle>,
    placement: RandomState,
    next_incarnation: u64,
    is_stopping: bool,
}

struct Start<S: ChildSpec> {
    key: S::Key,
    reply: Reply<S>,
}

struct Ended<S: ChildSpec> {
    key: S::Key,
    incarnation: u64,
    exit: Exit,
}

type Wanted<S> = Box<dyn Fn(&<S as ChildSpec>::Key) -> bool + Send>;

struct Reset<S: ChildSpec> {
    is_wanted: Wanted<S>,
}

struct List {
    reply: oneshot::Sender<Vec<Node>>,
}

struct StopAll {
    reply: oneshot::Sender<()>,
}

impl<S: ChildSpec> Message for Start<S> {
    type Result = ();
}
impl<S: ChildSpec> Message for Ended<S> {
    type Result = ();
}
impl<S: ChildSpec> Message for Reset<S> {
    type Result = ();
}
impl Message for List {
    type Result = ();
}
impl Message for StopAll {
    type Result = ();
}

impl<S: ChildSpec> Actor for Supervisor<S> {
    type Context = Context<Self>;
}

impl<S: ChildSpec> Supervisor<S> {
    /// Starts the child, or starts it again, and answers those who wait for it.
    fn launch(&mut self, key: &S::Key, address: Addr<Self>) {
        self.next_incarnation += 1;
        let incarnation = self.next_incarnation;
        let ended = key.clone();
        let guard = ChildGuard::new(move |exit| {
            report(
                &address,
                Ended {
                    key: ended,
                    incarnation,
                    exit,
                },
            );
        });
        let arbiter = &self.arbiters[place(&self.placement, key, self.arbiters.len())];
        let (spec, build_key) = (Arc::clone(&self.spec), key.clone());
        let (directory, depth) = (Arc::clone(&self.directory), Arc::default());
        let shared = Arc::clone(&depth);
        let started = S::Child::start_in_arbiter(arbiter, move |context| {
            // The mailbox counts by itself.
            context.set_mailbox_capacity(0);
            // Found before it starts, so that it misses nothing that is said after what it reads then.
            directory.insert(build_key.clone(), Mailbox::new(context.address(), shared, S::MAILBOX));
            spec.build(&build_key, guard)
        });
        let mailbox = Mailbox::new(started, depth, S::MAILBOX);
        // And before anybody is told that it is there; its end is heard later.
        self.directory.insert(key.clone(), mailbox.clone());
        let child = self.children.entry(key.clone()).or_insert_with(|| Child {
            mailbox: None,
            incarnation,
            started_at: clock::instant(),
            gave_up_at: None,
            restarts: 0,
            window: RestartWindow::default(),
            last_error: None,
            waiting: Vec::new(),
        });
        child.incarnation = incarnation;
        child.started_at = clock::instant();
        child.gave_up_at = None;
        child.mailbox = Some(mailbox.clone());
        for reply in child.waiting.drain(..) {
            let _ = reply.send(Ok(mailbox.clone()));
        }
    }

    /// Starts a child that had crashed too often.
    fn bring_back(&mut self, key: &S::Key, address: Addr<Self>) {
        if let Some(child) = self.children.get_mut(key) {
            child.window = RestartWindow::default();
            self.spec.came_back(key);
            self.launch(key, address);
        }
    }

    fn stopped(&mut self, key: &S::Key, address: Addr<Self>) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        child.mailbox = None;
        if !self.is_stopping && (S::PERMANENT || !child.waiting.is_empty()) {
            self.launch(key, address);
        } else {
            self.children.remove(key);
        }
    }

    fn crashed(&mut self, key: &S::Key, error: String, context: &mut Context<Self>) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        child.mailbox = None;
        child.restarts += 1;
        child.last_error = Some(error.clone());
        if self.is_stopping {
            self.children.remove(key);
            return;
        }
        if child.window.allow(clock::instant()) {
            let delay = RESTART.delay(child.window.recent());
            tracing::warn!(path = %format_args!("{}/{key}", S::PATH), %error, ?delay, "restarting a crashed actor");
            let key = key.clone();
            context.run_later(delay, move |supervisor, context| {
                let is_due = supervisor
                    .children
                    .get(&key)
                    .is_some_and(|child| child.mailbox.is_none() && child.gave_up_at.is_none());
                if is_due && !supervisor.is_stopping {
                    supervisor.launch(&key, context.address());
                }
            });
        } else {
            tracing::error!(path = %format_args!("{}/{key}", S::PATH), %error, "an actor crashed too often and stays stopped");
            child.gave_up_at = Some(clock::instant());
            if S::PERMANENT {
                Self::try_again_later(key.clone(), context);
            }
            for reply in child.waiting.drain(..) {
                let _ = reply.send(Err(CallError::GaveUp));
            }
            self.spec.gave_up(key, &error);
        }
    }

    /// Nobody asks for a child that is always there, so its time to come back is waited for.
    fn try_again_later(key: S::Key, context: &mut Context<Self>) {
        context.run_later(S::STOPPED_FOR, move |supervisor, context| {
            let is_stopped = supervisor
                .children
                .get(&key)
                .is_some_and(|child| child.gave_up_at.is_some());
            if is_stopped && !supervisor.is_stopping {
                supervisor.bring_back(&key, context.address());
            }
        });
    }

    fn node(key: &S::Key, child: &Child<S>) -> Node {
        let state = match (&child.mailbox, child.gave_up_at) {
            (_, Some(_)) => NodeState::GaveUp,
            (Some(_), None) => NodeState::Running,
            (None, None) => NodeState::Restarting,
        };
        Node {
            path: format!("{}/{key}", S::PATH),
            state,
            mailbox_depth: child.mailbox.as_ref().map_or(0, Mailbox::depth),
            restarts: child.restarts,
            last_error: child.last_error.clone(),
            uptime_seconds: if child.mailbox.is_some() {
                child.started_at.elapsed().as_secs()
            } else {
                0
            },
        }
    }
}

impl<S: ChildSpec> Handler<Start<S>> for Supervisor<S> {
    type Result = ();

    fn handle(&mut self, Start { key, reply }: Start<S>, context: &mut Self::Context) {
        if self.is_stopping {
            return;
        }
        let Some(child) = self.children.get_mut(&key) else {
            self.launch(&key, context.address());
            if let Some(mailbox) = self.children.get(&key).and_then(|child| child.mailbox.clone()) {
                let _ = reply.send(Ok(mailbox));
            }
            return;
        };
        match (&child.mailbox, child.gave_up_at) {
            (Some(mailbox), _) if mailbox.is_open() => drop(reply.send(Ok(mailbox.clone()))),
            (_, Some(since)) if since.elapsed() < S::STOPPED_FOR => drop(reply.send(Err(CallError::GaveUp))),
            (_, Some(_)) => {
                child.waiting.push(reply);
                self.bring_back(&key, context.address());
            }
            // Its end has not been reported yet, or its restart is due soon.
            (_, None) => {
                child.waiting.retain(|waiting| !waiting.is_closed());
                child.waiting.push(reply);
            }
        }
    }
}

impl<S: ChildSpec> Handler<Ended<S>> for Supervisor<S> {
    type Result = ();

    fn handle(&mut self, Ended { key, incarnation, exit }: Ended<S>, context: &mut Self::Context) {
        if self
            .children
            .get(&key)
            .is_none_or(|child| child.incarnation != incarnation)
        {
            return;
        }
        self.directory.remove(&key);
        match exit {
            Exit::Stopped => self.stopped(&key, context.address()),
            Exit::Crashed(error) => self.crashed(&key, error, context),
        }
    }
}

impl<S: ChildSpec> Handler<Reset<S>> for Supervisor<S> {
    type Result = ();

    fn handle(&mut self, Reset { is_wanted }: Reset<S>, _context: &mut Self::Context) {
        self.children
            .retain(|key, child| child.gave_up_at.is_none() || !is_wanted(key));
    }
}

impl<S: ChildSpec> Handler<List> for Supervisor<S> {
    type Result = ();

    fn handle(&mut self, List { reply }: List, _context: &mut Self::Context) {
        let mut nodes: Vec<Node> = self
            .children
            .iter()
            .map(|(key, child)| Self::node(key, child))
            .collect();
        nodes.sort_by(|left, right| left.path.cmp(&right.path));
        let _ = reply.send(nodes);
    }
}

impl<S: ChildSpec> Handler<StopAll> for Supervisor<S> {
    type Result = ();

    fn handle(&mut self, StopAll { reply }: StopAll, _context: &mut Self::Context) {
        self.is_stopping = true;
        for mailbox in self.children.values().filter_map(|child| child.mailbox.as_ref()) {
            mailbox.insist(S::Child::stop());
        }
        let _ = reply.send(());
    }
}
