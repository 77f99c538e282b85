//! A WebSocket client that reads whole frames and looks into them only as far as the checks need.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wire::connect;
use crate::{Failure, Outcome};

thread_local! {
    // One buffer for all sockets: nothing is awaited while it is borrowed.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 512 * 1024]);
}

/// An open socket.
pub struct Socket {
    stream: TcpStream,
    /// The beginning of a frame whose end has not come yet.
    rest: Vec<u8>,
    /// The last event's number.
    pub seq: i64,
}

impl Socket {
    /// Opens a socket at a path.
    pub async fn open(address: SocketAddr, source: Ipv4Addr, path: &str) -> Outcome<Self> {
        let mut stream = connect(address, source).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut rest = Vec::with_capacity(2_048);
        loop {
            if stream.read_buf(&mut rest).await? == 0 {
                return Err("the server closed the handshake".into());
            }
            if let Some(end) = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                if !rest.starts_with(b"HTTP/1.1 101") {
                    return Err(String::from_utf8_lossy(&rest).into_owned().into());
                }
                rest.drain(..end + 4);
                rest.shrink_to_fit();
                return Ok(Self { stream, rest, seq: 0 });
            }
        }
    }

    /// Sends a short text, masked with zeros as a client may.
    pub async fn send(&mut self, text: &str) -> Outcome {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 126);
        let length = length.ok_or("the text is too long")?;
        let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(text.as_bytes());
        Ok(self.stream.write_all(&frame).await?)
    }

    /// Waits for bytes and hands every text frame that is complete to `take`.
    pub async fn read(&mut self, mut take: impl FnMut(&mut i64, &[u8]) -> Outcome) -> Outcome {
        if !self.rest.is_empty() {
            // What came with the handshake.
            let mut rest = std::mem::take(&mut self.rest);
            let used = self.frames(&rest, &mut take)?;
            rest.drain(..used);
            self.rest = rest;
            if used > 0 {
                return Ok(());
            }
        }
        self.stream.readable().await?;
        SCRATCH.with_borrow_mut(|scratch| {
            let length = match self.stream.try_read(scratch) {
                Ok(0) => return Err("the hub closed a socket".into()),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Failure::from(error)),
            };
            let bytes = &scratch[..length];
            if self.rest.is_empty() {
                let used = self.frames(bytes, &mut take)?;
                self.rest.extend_from_slice(&bytes[used..]);
            } else {
                let mut rest = std::mem::take(&mut self.rest);
                rest.extend_from_slice(bytes);
                let used = self.frames(&rest, &mut take)?;
                rest.drain(..used);
                self.rest = rest;
            }
            if self.rest.is_empty() {
                self.rest = Vec::new();
            }
            Ok(())
        })
    }

    /// Bytes of whole frames.
    fn frames(&mut self, bytes: &[u8], take: &mut impl FnMut(&mut i64, &[u8]) -> Outcome) -> Outcome<usize> {
        let mut start = 0;
        while let Some((opcode, header, length)) = header(&bytes[start..])
            && bytes.len() >= start + header + length
        {
            let payload = &bytes[start + header..start + header + length];
            match opcode {
                1 => take(&mut self.seq, payload)?,
                8 => return Err(format!("closed: {}", String::from_utf8_lossy(payload)).into()),
                9 => drop(self.stream.try_write(&[0x8A, 0x80, 0, 0, 0, 0])?),
                other => return Err(format!("a frame of kind {other}").into()),
            }
            start += header + length;
        }
        Ok(start)
    }
}

/// Opcode, bytes of header and of payload (RFC 6455, section 5.2; a server does not mask).
fn header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (header, length) = match second {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    Some((first & 0x0F, header, usize::try_from(length).ok()?))
}

/// The number of an event's frame, which ends in `"seq":<number>}`; none for frames outside the stream.
pub fn seq_of(payload: &[u8]) -> Option<i64> {
    let digits = payload.strip_suffix(b"}")?;
    let start = digits.iter().rposition(|byte| !byte.is_ascii_digit())? + 1;
    if start == digits.len() || !digits[..start].ends_with(b"\"seq\":") {
        return None;
    }
    std::str::from_utf8(&digits[start..]).ok()?.parse().ok()
}

/// Checks that events come once and in order: each number is the last one's successor.
pub fn in_order(last: &mut i64, payload: &[u8]) -> Outcome<bool> {
    let Some(seq) = seq_of(payload) else {
        return Ok(false);
    };
    if seq != *last + 1 {
        return Err(format!("event {seq} follows event {last}").into());
    }
    *last = seq;
    Ok(true)
}

/// The number that stands behind `marker` in a frame.
pub fn number_after(payload: &[u8], marker: &[u8]) -> Option<usize> {
    let start = payload.windows(marker.len()).position(|bytes| bytes == marker)? + marker.len();
    let digits = payload[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&payload[start..start + digits]).ok()?.parse().ok()
}

/// The `number`th source address: enough of them that ports do not run out.
pub fn source(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, 1 + (number / 4_000) as u8)
}
