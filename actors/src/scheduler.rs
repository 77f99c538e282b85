//! What happens by the clock rather than by a message: retention.

use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, WrapFuture};

use crate::mailbox::{Letter, Receiver};
use crate::supervise::{ChildGuard, ChildSpec};
use crate::tree::Hub;

/// Soon after the start, but not in its way.
const FIRST_RETENTION: Duration = Duration::from_secs(2);
const RETENTION: Duration = Duration::from_secs(3_600);

/// What can be asked of the scheduler.
pub enum Command {
    /// End.
    Stop,
}

/// The scheduler.
pub struct Scheduler {
    hub: Arc<Hub>,
    _guard: ChildGuard,
}

/// Makes the scheduler.
pub struct SchedulerSpec {
    pub(crate) hub: Weak<Hub>,
}

impl ChildSpec for SchedulerSpec {
    type Key = u32;
    type Child = Scheduler;
    const PATH: &'static str = "scheduler";
    const MAILBOX: usize = 64;
    const PERMANENT: bool = true;

    fn build(&self, _key: &u32, guard: ChildGuard) -> Scheduler {
        Scheduler {
            hub: Hub::upgrade(&self.hub),
            _guard: guard,
        }
    }
}

impl Actor for Scheduler {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_later(FIRST_RETENTION, Self::retain);
        context.run_interval(RETENTION, Self::retain);
    }
}

impl Receiver for Scheduler {
    type Command = Command;

    fn stop() -> Command {
        Command::Stop
    }
}

impl Handler<Letter<Command>> for Scheduler {
    type Result = ();

    fn handle(&mut self, letter: Letter<Command>, context: &mut Self::Context) {
        match letter.open() {
            Command::Stop => context.stop(),
        }
    }
}

impl Scheduler {
    fn retain(&mut self, context: &mut Context<Self>) {
        fail::fail_point!("scheduler");
        let hub = Arc::clone(&self.hub);
        let work = async move {
            match hub.store.retain().await {
                Ok(rows) => tracing::info!(rows, "retention deleted old rows"),
                Err(error) => tracing::warn!(%error, "retention could not delete old rows"),
            }
        };
        context.spawn(work.into_actor(self));
    }
}
