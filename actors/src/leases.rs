//! Which accounts' links this hub holds: it renews its leases, takes those that nobody holds, and gives each to its
//! connection.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use uuid::Uuid;

use crate::clock;
use crate::connection;
use crate::ids::AccountId;
use crate::mailbox::{Letter, Receiver};
use crate::supervise::{ChildGuard, ChildSpec};
use crate::tree::Hub;

/// What can be asked of the leases.
pub enum Command {
    /// An account was linked or wants its link again: look now.
    Look,
    /// End.
    Stop,
}

/// The leases of this hub.
pub struct Leases {
    hub: Arc<Hub>,
    held: HashSet<AccountId>,
    is_looking: bool,
    /// Asked to look while it was looking.
    look_again: bool,
    _guard: ChildGuard,
}

/// Makes the leases.
pub struct LeasesSpec {
    pub(crate) hub: Weak<Hub>,
}

impl ChildSpec for LeasesSpec {
    type Key = u32;
    type Child = Leases;
    const PATH: &'static str = "leases";
    const MAILBOX: usize = 1_024;
    const PERMANENT: bool = true;

    fn build(&self, _key: &u32, guard: ChildGuard) -> Leases {
        Leases {
            hub: Hub::upgrade(&self.hub),
            held: HashSet::new(),
            is_looking: false,
            look_again: false,
            _guard: guard,
        }
    }
}

impl Actor for Leases {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_later(Duration::ZERO, Self::look);
        context.run_interval(self.hub.settings.lease / 3, Self::look);
    }
}

impl Receiver for Leases {
    type Command = Command;

    fn stop() -> Command {
        Command::Stop
    }
}

impl Handler<Letter<Command>> for Leases {
    type Result = ();

    fn handle(&mut self, letter: Letter<Command>, context: &mut Self::Context) {
        match letter.open() {
            Command::Look => self.look(context),
            Command::Stop => context.stop(),
        }
    }
}

impl Leases {
    /// Renews and takes leases, and hands each to its connection, started if need be.
    fn look(&mut self, context: &mut Context<Self>) {
        fail::fail_point!("leases");
        let platforms = self.hub.adapters.live();
        if platforms.is_empty() {
            return;
        }
        if self.is_looking {
            self.look_again = true;
            return;
        }
        self.is_looking = true;
        let hub = Arc::clone(&self.hub);
        // Counted from before the question, so that it ends here no later than there.
        let length = hub.settings.lease;
        let until = clock::instant() + length;
        let work = async move {
            let leases = match hub.store.lease_accounts(hub.owner, &platforms, length).await {
                Ok(leases) => leases,
                Err(error) => {
                    tracing::warn!(%error, "leases could not be renewed");
                    return None;
                }
            };
            for lease in &leases {
                let told = match hub.connections.get(&lease.account_id).await {
                    Ok(connection) => connection.tell(connection::Command::Lease { lease: *lease, until }),
                    Err(error) => Err(error),
                };
                if let Err(error) = told {
                    tracing::debug!(account_id = %lease.account_id, %error, "a lease waits for its connection");
                }
            }
            Some(leases.into_iter().map(|lease| lease.account_id).collect::<HashSet<_>>())
        };
        context.spawn(work.into_actor(self).map(|held, leases, context| {
            leases.is_looking = false;
            if let Some(held) = held {
                for lost in leases.held.difference(&held) {
                    if let Some(connection) = leases.hub.connections.find(lost) {
                        connection.insist(connection::Command::LeaseEnded);
                    }
                }
                leases.held = held;
            }
            if std::mem::take(&mut leases.look_again) {
                leases.look(context);
            }
        }));
    }
}

/// The name under which a hub holds its leases: a new one at each start.
pub(crate) fn new_owner() -> Uuid {
    Uuid::new_v4()
}
