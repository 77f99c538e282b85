//! The signals that ask a hub to end. Heard from the first moment of a start: the first process of a container ignores
//! those that it does not listen to (PID 1, see kill(2)).

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on, for as long as the process lives.
    ///
    /// # Errors
    /// When the system has no way to tell.
    pub(super) fn hear() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Comes back when one has come since [`Signals::hear`].
    pub(super) async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
