//! The one audited place where messages enter mailboxes: bounded, counted, and with a stated answer when full.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler, Message};
use tokio::sync::oneshot;

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

/// The way to one actor. The bound is counted here: actix gives every clone of an address one place beyond its own bound,
/// and a clone is made for every command.
pub struct Mailbox<A: Receiver> {
    address: Addr<A>,
    depth: Arc<AtomicUsize>,
    bound: usize,
}

impl<A: Receiver> Clone for Mailbox<A> {
    fn clone(&self) -> Self {
        Self {
            address: self.address.clone(),
            depth: Arc::clone(&self.depth),
            bound: self.bound,
        }
    }
}

impl<A: Receiver> Mailbox<A> {
    /// A mailbox in which at most `bound` commands wait. All that share `depth` are one mailbox.
    pub(crate) fn new(address: Addr<A>, depth: Arc<AtomicUsize>, bound: usize) -> Self {
        Self { address, depth, bound }
    }

    /// Puts a command into the mailbox without waiting. Commands from one thread keep their order.
    ///
    /// # Errors
    /// [`CallError::Full`] when the mailbox is at its bound, [`CallError::Gone`] when the actor has ended. The command
    /// is dropped, and with it the channel for its answer.
    pub fn tell(&self, command: A::Command) -> Result<(), CallError> {
        let letter = self.letter(command);
        if self.depth() > self.bound {
            return Err(CallError::Full);
        }
        self.post(letter)
    }

    /// Puts a question into the mailbox; [`answer`] waits for what comes back.
    ///
    /// # Errors
    /// As [`Mailbox::tell`].
    pub fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> A::Command,
    ) -> Result<oneshot::Receiver<T>, CallError> {
        let (reply, receiver) = oneshot::channel();
        self.tell(question(reply))?;
        Ok(receiver)
    }

    /// Puts a command into the mailbox that is taken however full it is, behind those that wait. Only for commands that must
    /// not be lost and whose number is bounded elsewhere. One for an actor that has ended is dropped.
    pub fn insist(&self, command: A::Command) {
        let _ = self.post(self.letter(command));
    }

    fn letter(&self, command: A::Command) -> Letter<A::Command> {
        self.depth.fetch_add(1, Ordering::Relaxed);
        Letter {
            command,
            _counted: Counted(Arc::clone(&self.depth)),
        }
    }

    fn post(&self, letter: Letter<A::Command>) -> Result<(), CallError> {
        self.address.try_send(letter).map_err(|error| match error {
            actix::prelude::SendError::Full(_) => CallError::Full,
            actix::prelude::SendError::Closed(_) => CallError::Gone,
        })
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
///
/// It counts the actors that are at work on it: several may be, and the one that crashes never says that it is done. The
/// count is up before the command's reply can be lost.
#[derive(Clone, Debug, Default)]
pub struct Blame(Arc<AtomicUsize>);

impl Blame {
    /// Does the work of the command; a panic in it leaves the blame here.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.fetch_add(1, Ordering::AcqRel);
        let result = work();
        self.0.fetch_sub(1, Ordering::AcqRel);
        result
    }

    /// True when an actor panicked while it worked on the command.
    pub fn is_here(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
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

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn only_a_panic_leaves_blame_and_nothing_takes_it_away() {
        let blame = Blame::default();
        blame.during(|| ());
        assert!(!blame.is_here());
        let crashed = catch_unwind(AssertUnwindSafe(|| blame.during(|| panic!("on purpose"))));
        assert!(crashed.is_err() && blame.is_here());
        blame.clone().during(|| ());
        assert!(blame.is_here(), "another part of the same delivery went well");
    }
}
