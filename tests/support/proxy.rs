//! A TCP proxy to put in front of a database, of Redis, or of the hub: it cuts, delays, swallows and refuses.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the proxy does with the bytes that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// Every piece waits for so long, give or take half of it.
    Latency(Duration),
    /// Bytes vanish and connections stay open, new ones too. A connection that has lost bytes is never whole again.
    HalfOpen,
    /// New connections are reset at once.
    Refuse,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    Up,
    /// To the client.
    Down,
}

/// A running proxy. It lives on a thread of its own, and ends, with its connections, when it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _alive: tokio::sync::oneshot::Sender<()>,
}

struct Shared {
    upstream: SocketAddr,
    trouble: watch::Sender<Trouble>,
    /// Goes up with every cut; connections of an earlier number end.
    cuts: watch::Sender<u64>,
    budget: Mutex<Option<(Direction, usize)>>,
    random: Mutex<StdRng>,
    connections: AtomicU64,
}

impl Proxy {
    /// A proxy to `upstream`. Its choices follow from the seed.
    pub fn start(upstream: SocketAddr, seed: u64) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("a listener can wait");
        let shared = Arc::new(Shared {
            upstream,
            trouble: watch::Sender::new(Trouble::None),
            cuts: watch::Sender::new(0),
            budget: Mutex::new(None),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            connections: AtomicU64::new(0),
        });
        let (alive, ended) = tokio::sync::oneshot::channel();
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    _ = ended => {}
                    () = accept(listener, accepting) => {}
                }
            });
        });
        Self {
            address,
            shared,
            _alive: alive,
        }
    }

    /// Makes trouble until [`Proxy::heal`].
    pub fn make(&self, trouble: Trouble) {
        self.shared.trouble.send_replace(trouble);
    }

    /// Ends the trouble. Connections that have lost bytes end too.
    pub fn heal(&self) {
        *self.shared.budget.lock().unwrap() = None;
        self.make(Trouble::None);
    }

    /// Ends every connection now; half of them with a reset.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Ends every connection once exactly so many more bytes have gone that way.
    pub fn cut_after(&self, direction: Direction, bytes: usize) {
        *self.shared.budget.lock().unwrap() = Some((direction, bytes));
    }

    /// How often it has cut.
    pub fn cuts(&self) -> u64 {
        *self.shared.cuts.borrow()
    }

    /// Connections that were accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// How many of these bytes may go; less than all when the connections are to be cut behind them.
    fn allowed(&self, direction: Direction, length: usize) -> Option<usize> {
        let mut budget = self.budget.lock().unwrap();
        match &mut *budget {
            Some((limited, left)) if *limited == direction => {
                if *left > length {
                    *left -= length;
                    return None;
                }
                let left = *left;
                *budget = None;
                Some(left)
            }
            _ => None,
        }
    }

    fn jitter(&self, around: Duration) -> Duration {
        around.mul_f64(self.random.lock().unwrap().random_range(0.5..1.5))
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        shared.connections.fetch_add(1, Ordering::Relaxed);
        if *shared.trouble.borrow() == Trouble::Refuse {
            reset(&client);
            continue;
        }
        tokio::spawn(carry(client, Arc::clone(&shared)));
    }
}

/// Carries one connection until both sides have closed it, it is cut, or it has lost bytes and the trouble is over.
async fn carry(mut client: TcpStream, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    let Ok(mut server) = TcpStream::connect(shared.upstream).await else {
        return reset(&client);
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let is_reset = shared.random.lock().unwrap().random::<bool>();
    let is_cut = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let both = async {
            tokio::try_join!(
                pump(&shared, Direction::Up, from_client, to_server),
                pump(&shared, Direction::Down, from_server, to_client),
            )
        };
        tokio::select! {
            biased;
            _ = cuts.changed() => true,
            ended = both => ended.is_err(),
        }
    };
    if is_cut && is_reset {
        reset(&client);
        reset(&server);
    }
}

/// The connection cannot go on.
struct Broken;

async fn pump(
    shared: &Shared,
    direction: Direction,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
) -> Result<(), Broken> {
    let mut trouble = shared.trouble.subscribe();
    let mut piece = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut piece).await.map_err(|_| Broken)?;
        let now = *trouble.borrow_and_update();
        if now == Trouble::HalfOpen {
            // Neither bytes nor the end are passed on, and what follows would make no sense without them.
            while *trouble.borrow_and_update() == Trouble::HalfOpen {
                tokio::select! {
                    read = from.read(&mut piece) => if !read.is_ok_and(|length| length > 0) {
                        let _ = trouble.changed().await;
                    },
                    _ = trouble.changed() => {}
                }
            }
            return Err(Broken);
        }
        if let Trouble::Latency(pause) = now {
            tokio::time::sleep(shared.jitter(pause)).await;
        }
        if length == 0 {
            return to.shutdown().await.map_err(|_| Broken);
        }
        let allowed = shared.allowed(direction, length);
        let bytes = &piece[..allowed.unwrap_or(length)];
        to.write_all(bytes).await.map_err(|_| Broken)?;
        if allowed.is_some() {
            shared.cut();
            return Err(Broken);
        }
    }
}

/// The connection ends with a reset instead of in good order.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
