//! Sockets: one task per connection reads frames, does the calls and writes the answers.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::call::{self, Flow, Origin};
use crate::crypto;
use crate::spec::Revocation;
use crate::wire::{self, WireError};
use crate::world::{AuthKey, Conn, Out, World};
use crate::writer;

/// The world behind its lock.
pub(crate) type Shared = Arc<Mutex<World>>;

/// Connections at once per listening socket.
const CONNECTIONS: usize = 4096;

/// Locks the world. A panic elsewhere while it was locked is no reason to stop serving.
pub(crate) fn lock(shared: &Shared) -> MutexGuard<'_, World> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Accepts connections until the task is aborted; its connections end with it.
pub(crate) async fn listen(shared: Shared, dc: i32, listener: TcpListener) {
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(dc, %error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if tasks.len() >= CONNECTIONS {
            tracing::warn!(dc, "too many connections");
            continue;
        }
        let (stop, stopper) = oneshot::channel();
        let shared = Arc::clone(&shared);
        let handle = tasks.spawn(async move {
            if let Ok(stop) = stopper.await {
                connection(shared, dc, socket, stop).await;
            }
        });
        // Only fails if the task is gone already.
        let _ = stop.send(handle);
    }
}

/// Takes the connection out of the world whichever way its task ends.
struct Entered {
    shared: Shared,
    conn: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        lock(&self.shared).close(self.conn);
    }
}

async fn connection(shared: Shared, dc: i32, socket: TcpStream, stop: AbortHandle) {
    let _ = socket.set_nodelay(true);
    let (mut reader, mut socket) = socket.into_split();
    let (cap, queue, conn) = {
        let mut world = lock(&shared);
        (
            world.config.frame_cap,
            world.config.queue_cap,
            world.number().unsigned_abs(),
        )
    };
    let mut sequence = 0;
    let first = match wire::read_frame(&mut reader, &mut sequence, cap).await {
        Ok(Some(frame)) => frame,
        Ok(None) => return,
        Err(error) => {
            tracing::info!(dc, conn, %error, "connection refused");
            return;
        }
    };
    let known = {
        let mut world = lock(&shared);
        let found = crypto::frame_key_id(&first).and_then(|id| world.key_by_id(id));
        found.filter(|(n, _)| world.slot(dc, *n).dead != Some(Revocation::Unknown))
    };
    let Some((key, auth)) = known else {
        tracing::info!(dc, conn, "unknown auth key (or a key exchange, which is not served)");
        writer::transport_error(&mut socket, -404).await;
        return;
    };
    let (tx, rx) = mpsc::channel(queue.max(16));
    lock(&shared).open(
        conn,
        Conn {
            dc,
            key,
            tx,
            stop,
            silent: false,
        },
    );
    let _entered = Entered {
        shared: Arc::clone(&shared),
        conn,
    };
    let origin = Origin {
        shared: Arc::clone(&shared),
        dc,
        key,
        conn,
    };
    let gzip_above = lock(&shared).config.gzip_above;
    let ended = tokio::select! {
        read = read_all(&origin, &auth, reader, sequence, first, cap) => read,
        written = writer::run(rx, &mut socket, &auth, gzip_above) => written.map_err(WireError::from),
    };
    match ended {
        Ok(()) => tracing::debug!(dc, key, conn, "connection ended"),
        Err(error) => tracing::info!(dc, key, conn, %error, "connection closed"),
    }
}

/// Frames until the end; the answers go through the queue.
async fn read_all(
    origin: &Origin,
    auth: &AuthKey,
    mut reader: OwnedReadHalf,
    mut sequence: u32,
    first: Vec<u8>,
    cap: usize,
) -> Result<(), WireError> {
    let mut session = None;
    let mut deadline: Option<Instant> = None;
    let mut frame = first;
    loop {
        if crypto::frame_key_id(&frame) != Some(auth.id) {
            return Err(WireError::Packet("another auth key on the same connection"));
        }
        let plain = crypto::open(&frame, &auth.bytes).map_err(|_| WireError::Packet("cannot be decrypted"))?;
        let packet = wire::read_packet(&plain, cap)?;
        if !call::greet(origin, &packet, &mut session) {
            // Wrong salt: the client sends it all again.
        } else {
            for message in packet.messages {
                match call::take(origin, message).await {
                    Flow::Go => {}
                    Flow::Deadline(delay) => deadline = Some(Instant::now() + delay),
                    Flow::Close => return Ok(()),
                    // Let the writer send what is queued; it closes.
                    Flow::Drain => pending().await,
                }
            }
        }
        let next = wire::read_frame(&mut reader, &mut sequence, cap);
        frame = match deadline {
            Some(at) => match tokio::time::timeout_at(at, next).await {
                Ok(next) => next,
                Err(_) => return Err(WireError::Packet("no ping in time")),
            },
            None => next.await,
        }?
        .unwrap_or_default();
        if frame.is_empty() {
            return Ok(());
        }
    }
}

impl Origin {
    /// Queues something for this connection.
    pub fn send(&self, out: Out) {
        lock(&self.shared).send(self.conn, out);
    }
}
