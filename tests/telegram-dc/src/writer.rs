//! The writing half of a connection: numbers messages, packs containers, encrypts, frames.

use grammers_tl_types::Serializable as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;

use crate::crypto;
use crate::wire::{self, CONTAINER, RPC_RESULT};
use crate::world::{AuthKey, Out};

/// Objects in one container, and how large it may grow.
const BATCH: usize = 50;
const BATCH_BYTES: usize = 256 << 10;

struct Numbers {
    session: i64,
    salt: i64,
    last_id: i64,
    content: i32,
    frames: u32,
}

impl Numbers {
    /// A fresh message id: time in the upper half, `01` at the end of answers, `11` of all else.
    fn id(&mut self, answer: bool) -> i64 {
        let now = crate::clock::since_1970();
        let seconds = i64::try_from(now.as_secs()).unwrap_or(0);
        let time = (seconds << 32) | (i64::from(now.subsec_nanos()) << 2);
        self.last_id = (time & !3).max((self.last_id & !3) + 4);
        self.last_id | if answer { 1 } else { 3 }
    }

    fn message(&mut self, body: &[u8], content: bool, answer: bool) -> Vec<u8> {
        let sequence = self.content * 2 + i32::from(content);
        self.content += i32::from(content);
        let mut out = Vec::with_capacity(body.len() + 16);
        self.id(answer).serialize(&mut out);
        sequence.serialize(&mut out);
        i32::try_from(body.len()).unwrap_or(i32::MAX).serialize(&mut out);
        out.extend_from_slice(body);
        out
    }

    fn frame(&mut self, session: i64, message: &[u8], auth: &AuthKey) -> Vec<u8> {
        let mut plain = Vec::with_capacity(message.len() + 48);
        self.salt.serialize(&mut plain);
        session.serialize(&mut plain);
        plain.extend_from_slice(message);
        let sealed = crypto::seal(plain, &auth.bytes, &auth.id);
        let frame = wire::write_frame(self.frames, &sealed);
        self.frames = self.frames.wrapping_add(1);
        frame
    }
}

/// A transport error: four bytes instead of a frame.
pub(crate) async fn transport_error(socket: &mut OwnedWriteHalf, code: i32) {
    let _ = socket.write_all(&code.to_le_bytes()).await;
    let _ = socket.shutdown().await;
}

/// Writes what is queued until told to close.
pub(crate) async fn run(
    mut queue: mpsc::Receiver<Out>,
    socket: &mut OwnedWriteHalf,
    auth: &AuthKey,
    gzip_above: usize,
) -> std::io::Result<()> {
    let mut numbers = Numbers {
        session: 0,
        salt: 0,
        last_id: 0,
        content: 0,
        frames: 0,
    };
    let mut next = queue.recv().await;
    while let Some(out) = next.take() {
        let mut batch: Vec<Vec<u8>> = Vec::new();
        let mut bytes = 0;
        let mut current = Some(out);
        let mut special = None;
        while let Some(out) = current.take() {
            match out {
                Out::Object { body, content, answer } => {
                    bytes += body.len();
                    batch.push(numbers.message(&body, content, answer));
                }
                Out::Answer { request, body, pack } => {
                    let packed = (pack && gzip_above > 0 && body.len() > gzip_above)
                        .then(|| wire::gzip(&body))
                        .flatten();
                    let body = packed.unwrap_or(body);
                    let mut result = RPC_RESULT.to_bytes();
                    request.serialize(&mut result);
                    result.extend_from_slice(&body);
                    bytes += result.len();
                    batch.push(numbers.message(&result, true, true));
                }
                other => {
                    special = Some(other);
                    break;
                }
            }
            if batch.len() < BATCH && bytes < BATCH_BYTES {
                current = queue.try_recv().ok();
            }
        }
        if let Some(message) = container(&mut numbers, batch) {
            let frame = numbers.frame(numbers.session, &message, auth);
            socket.write_all(&frame).await?;
        }
        match special {
            Some(Out::Session { session, salt }) => {
                (numbers.session, numbers.salt) = (session, salt);
            }
            Some(Out::WrongSession) => {
                let message = numbers.message(&CONTAINER.to_bytes(), false, false);
                let frame = numbers.frame(numbers.session ^ 1, &message, auth);
                socket.write_all(&frame).await?;
            }
            Some(Out::TransportError(code)) => {
                transport_error(socket, code).await;
                return Ok(());
            }
            Some(Out::Close) => {
                socket.shutdown().await?;
                return Ok(());
            }
            _ => {}
        }
        next = queue.recv().await;
    }
    Ok(())
}

/// One message as it is, several in a container.
fn container(numbers: &mut Numbers, mut batch: Vec<Vec<u8>>) -> Option<Vec<u8>> {
    if batch.len() < 2 {
        return batch.pop();
    }
    let mut body = CONTAINER.to_bytes();
    i32::try_from(batch.len()).unwrap_or(0).serialize(&mut body);
    for message in batch {
        body.extend_from_slice(&message);
    }
    Some(numbers.message(&body, false, false))
}
