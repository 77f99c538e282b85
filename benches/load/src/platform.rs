//! The other end of the custom channel: takes what the hub sends, or, frozen, takes it and never answers.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Outcome;
use crate::socket::number_after;

/// What [`Platform`] looks for in a message's text: `sender <n> number <m>`.
pub const SENDER: &str = "sender ";
pub const NUMBER: &str = "number ";

/// The platform, shared by its connections.
#[derive(Default)]
struct State {
    frozen: Cell<bool>,
    delivered: Cell<usize>,
    /// The last number of each sender.
    last: RefCell<Vec<usize>>,
    wrong: RefCell<Option<String>>,
}

/// A receiver on this machine.
pub struct Platform {
    pub address: SocketAddr,
    state: Rc<State>,
}

impl Platform {
    /// Listens, for messages of so many senders.
    pub async fn start(senders: usize) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Rc::new(State::default());
        state.last.replace(vec![0; senders]);
        let shared = Rc::clone(&state);
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Rc::clone(&shared);
                // The hub closes connections as it likes.
                tokio::task::spawn_local(async move { serve(stream, &state).await.unwrap_or_default() });
            }
        });
        Ok(Self { address, state })
    }

    /// Where the hub sends to.
    pub fn url(&self) -> String {
        format!("http://{}/hub", self.address)
    }

    /// While frozen it takes requests and answers none.
    pub fn freeze(&self, frozen: bool) {
        self.state.frozen.set(frozen);
    }

    /// Messages that it has taken and answered.
    pub fn delivered(&self) -> usize {
        self.state.delivered.get()
    }

    /// The first lost, doubled or reordered message, if there was one.
    pub fn check(&self) -> Outcome {
        self.state
            .wrong
            .borrow()
            .clone()
            .map_or(Ok(()), |wrong| Err(wrong.into()))
    }
}

async fn serve(mut stream: TcpStream, state: &State) -> Outcome {
    let mut buffer = Vec::with_capacity(4_096);
    loop {
        let (head, length) = loop {
            if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = std::str::from_utf8(&buffer[..end])?.to_ascii_lowercase();
                let (_, rest) = head.split_once("content-length:").ok_or("no length")?;
                break (
                    end + 4,
                    rest.lines().next().unwrap_or_default().trim().parse::<usize>()?,
                );
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        while buffer.len() < head + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        if state.frozen.get() {
            // Until the hub gives up.
            while stream.read_buf(&mut buffer).await? > 0 {}
            return Ok(());
        }
        note(state, &buffer[head..head + length]);
        buffer.drain(..head + length);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            .await?;
    }
}

fn note(state: &State, body: &[u8]) {
    let sender = number_after(body, SENDER.as_bytes());
    let (Some(sender), Some(number)) = (sender, number_after(body, NUMBER.as_bytes())) else {
        return;
    };
    if let Some(last) = state.last.borrow_mut().get_mut(sender) {
        if number != *last + 1 {
            let wrong = format!("sender {sender}: message {number} was delivered after message {last}");
            state.wrong.borrow_mut().get_or_insert(wrong);
        }
        *last = number;
        state.delivered.set(state.delivered.get() + 1);
    }
}
