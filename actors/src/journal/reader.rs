//! Reads of streams, grouped like the commits: reads that arrive while one is in flight share the next statement.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use tokio::sync::oneshot;

use crate::mailbox::{CallError, Letter, Receiver};
use crate::ports::{StoreError, StreamPage, StreamRead};
use crate::supervise::{ChildGuard, ChildSpec};
use crate::tree::Hub;

const PATIENCE: Duration = Duration::from_secs(15);
/// Tries when the reader restarts under the caller.
const TRIES: usize = 3;
/// Reads that share one statement.
const MAX_BATCH: usize = 512;
/// Events that one statement may return in all; later reads wait for the next one.
const MAX_EVENTS: usize = 16_384;

/// Reads a part of a user's stream, sharing the statement with others who read at the same time. When the reader
/// restarts meanwhile, it is asked again.
///
/// # Errors
/// [`StoreError::Unavailable`] also when the reader is too busy.
pub async fn read_stream(hub: &Hub, read: StreamRead) -> Result<StreamPage, StoreError> {
    let busy = |error: CallError| StoreError::Unavailable(error.to_string());
    for _ in 0..TRIES {
        let read = read.clone();
        let question = |reply| Command::Read { read, reply };
        match hub.readers.ask(&0, PATIENCE, question).await {
            Err(CallError::Gone) => {}
            answered => return answered.map_err(busy)?,
        }
    }
    Err(busy(CallError::Gone))
}

/// What can be asked of the reader.
pub enum Command {
    /// Read this.
    Read { read: StreamRead, reply: Reply },
    /// End.
    Stop,
}

type Reply = oneshot::Sender<Result<StreamPage, StoreError>>;

/// The reader of streams.
pub struct Reader {
    hub: Arc<Hub>,
    waiting: VecDeque<(StreamRead, Reply)>,
    is_reading: bool,
    _guard: ChildGuard,
}

/// Makes the reader.
pub struct ReaderSpec {
    pub(crate) hub: Weak<Hub>,
}

impl ChildSpec for ReaderSpec {
    type Key = u32;
    type Child = Reader;
    const PATH: &'static str = "reader";
    const MAILBOX: usize = 65_536;
    const PERMANENT: bool = true;

    fn build(&self, _key: &u32, guard: ChildGuard) -> Reader {
        Reader {
            hub: Hub::upgrade(&self.hub),
            waiting: VecDeque::new(),
            is_reading: false,
            _guard: guard,
        }
    }
}

impl Actor for Reader {
    type Context = Context<Self>;
}

impl Receiver for Reader {
    type Command = Command;

    fn stop() -> Command {
        Command::Stop
    }
}

impl Handler<Letter<Command>> for Reader {
    type Result = ();

    fn handle(&mut self, letter: Letter<Command>, context: &mut Self::Context) {
        fail::fail_point!("reader");
        match letter.open() {
            Command::Read { read, reply } => {
                self.waiting.push_back((read, reply));
                self.read_next(context);
            }
            Command::Stop => context.stop(),
        }
    }
}

impl Reader {
    fn read_next(&mut self, context: &mut Context<Self>) {
        if self.is_reading || self.waiting.is_empty() {
            return;
        }
        self.is_reading = true;
        let mut events = 0;
        let mut size = 0;
        while let Some((read, _)) = self.waiting.get(size)
            && size < MAX_BATCH
            && (size == 0 || events + read.limit <= MAX_EVENTS)
        {
            events += read.limit;
            size += 1;
        }
        let (reads, replies): (Vec<StreamRead>, Vec<Reply>) = self.waiting.drain(..size).unzip();
        let hub = Arc::clone(&self.hub);
        let read = async move {
            match hub.store.read_streams(&reads).await {
                Ok(pages) => {
                    for (page, reply) in pages.into_iter().zip(replies) {
                        let _ = reply.send(page);
                    }
                }
                Err(error) => {
                    for reply in replies {
                        let _ = reply.send(Err(error.clone()));
                    }
                }
            }
        };
        context.spawn(read.into_actor(self).map(|(), reader, context| {
            reader.is_reading = false;
            reader.read_next(context);
        }));
    }
}
