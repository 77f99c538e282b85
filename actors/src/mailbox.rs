//! The one audited place where messages enter mailboxes: bounded, counted, and with a stated answer when full.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler, Message};
use tokio::sync::oneshot;

/// How long a command that must not be lost waits before it tries a full mailbox again.
const INSIST_PAUSE: Duration = Duration::from_millis(50);

/// Why a command did not get an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The mailbox is full: the caller should slow down and try again.
    #[error("the hub is busy")]
    Full,
    /// The actor is gone, or crashed while it had the command.
    #[error("the part of the hub that does this is restarting")]
    Gone,
    /// The actor crashed too often and is stopped for now.
    #[error("the part of the hub that does this crashed too often and is stopped")]
    GaveUp,
    /// No answer in time. What was asked may still happen.
    #[error("the hub did not answer in time")]
    TimedOut,
}

/// An actor of the tree: it takes one type of command, so its commands have one order.
pub trait Receiver: Actor<Context = Context<Self>> + Handler<Letter<Self::Command>> {
    /// What can be asked of it. Answers travel back through channels inside the commands.
    type Command: Send + 'static;

    /// The command that makes it end in good order.
    fn stop() -> Self::Command;
}

/// A command in a mailbox. While it lies there, it counts.
pub struct Letter<C> {
    /// The command itself.
    pub command: C,
    _counted: Counted,
}

impl<C> Message for Letter<C> {
    type Result = ();
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<C> Letter<C> {
    /// Takes the command out; from here on it no longer counts as waiting.
    pub fn open(self) -> C {
        self.command
    }
}

/// The way to one actor.
pub struct Mailbox<A: Receiver> {
    address: Addr<A>,
    depth: Arc<AtomicUsize>,
}

impl<A: Receiver> Clone for Mailbox<A> {
    fn clone(&self) -> Self {
        Self {
            address: self.address.clone(),
            depth: Arc::clone(&self.depth),
        }
    }
}

impl<A: Receiver> Mailbox<A> {
    /// The mailbox of a started actor.
    pub fn new(address: Addr<A>) -> Self {
        Self {
            address,
            depth: Arc::default(),
        }
    }

    /// Puts a command into the mailbox without waiting. Commands from one thread keep their order.
    ///
    /// # Errors
    /// [`CallError::Full`] when the mailbox is at its bound, [`CallError::Gone`] when the actor has ended. The command
    /// is dropped, and with it the channel for its answer.
    pub fn tell(&self, command: A::Command) -> Result<(), CallError> {
        self.depth.fetch_add(1, Ordering::Relaxed);
        let letter = Letter {
            command,
            _counted: Counted(Arc::clone(&self.depth)),
        };
        self.address.try_send(letter).map_err(|error| match error {
            actix::prelude::SendError::Full(_) => CallError::Full,
            actix::prelude::SendError::Closed(_) => CallError::Gone,
        })
    }

    /// Puts a command that must not be lost into the mailbox, as soon as there is a place, without waiting here. For rare
    /// commands, or ones whose number is bounded elsewhere: each waits in a task of its own. One for an actor that ends is
    /// dropped.
    pub fn insist(&self, command: impl Fn() -> A::Command + 'static) {
        if self.tell(command()) != Err(CallError::Full) {
            return;
        }
        let mailbox = self.clone();
        actix_rt::spawn(async move {
            while mailbox.tell(command()) == Err(CallError::Full) {
                tokio::time::sleep(INSIST_PAUSE).await;
            }
        });
    }

    /// Commands that wait.
    pub fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed)
    }

    /// False once the actor has ended.
    pub fn is_open(&self) -> bool {
        self.address.connected()
    }
}

/// Tells whether an actor that crashed was working on this very command, so that only the command that causes crashes
/// is blamed for them, and not those that waited behind it.
#[derive(Clone, Debug, Default)]
pub struct Blame(Arc<AtomicBool>);

impl Blame {
    /// Does the work of the command; a panic in it leaves the blame here.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.store(true, Ordering::Release);
        let result = work();
        self.0.store(false, Ordering::Release);
        result
    }

    /// True when an actor panicked while it worked on the command.
    pub fn is_here(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Reports that must never be lost and are bounded by their nature: one per ended child.
///
/// This is the only use of the unbounded send.
#[expect(
    clippy::disallowed_methods,
    reason = "the one audited unbounded send; see the function's comment"
)]
pub(crate) fn report<A, M>(address: &Addr<A>, message: M)
where
    A: Actor + Handler<M>,
    A::Context: actix::dev::ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    address.do_send(message);
}

/// Waits for the answer to a command, at most `patience` long.
///
/// # Errors
/// [`CallError::Gone`] when the actor ended, or crashed, before it answered; [`CallError::TimedOut`].
pub async fn answer<T>(receiver: oneshot::Receiver<T>, patience: Duration) -> Result<T, CallError> {
    match tokio::time::timeout(patience, receiver).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(CallError::Gone),
        Err(_) => Err(CallError::TimedOut),
    }
}
