//! Bytes on the socket: transport frames (`Full`), the plaintext of a packet, containers and gzip.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use grammers_tl_types::{Cursor, Deserializable as _, Serializable as _};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// `msg_container`, which the schema leaves to be written by hand.
pub const CONTAINER: u32 = 0x73f1_f8dc;
/// `gzip_packed`.
pub const GZIP: u32 = 0x3072_cfa1;
/// `rpc_result`.
pub const RPC_RESULT: u32 = 0xf35c_6d01;

/// Nesting of gzip and containers that is still believed.
const MAX_DEPTH: u8 = 4;
/// Messages in one container; clients send at most 100.
const MAX_MESSAGES: usize = 1020;

/// Why a connection ends: what it sent cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The socket failed.
    #[error("socket: {0}")]
    Io(#[from] std::io::Error),
    /// The length field is impossible or above the cap.
    #[error("a frame of {0} bytes")]
    FrameLength(i64),
    /// Frames are numbered from zero.
    #[error("frame number {got} instead of {expected}")]
    Sequence {
        /// What came.
        got: u32,
        /// What had to come.
        expected: u32,
    },
    /// The checksum at the end of the frame does not match.
    #[error("wrong frame checksum")]
    Checksum,
    /// The decrypted packet is cut short or malformed.
    #[error("malformed packet: {0}")]
    Packet(&'static str),
}

/// One message of a packet, unpacked from containers and gzip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The client's message id, which answers refer to.
    pub id: i64,
    /// The client's sequence number.
    pub seq: i32,
    /// A TL object.
    pub body: Vec<u8>,
}

/// A decrypted packet.
#[derive(Debug)]
pub struct Packet {
    /// Salt the client believes in.
    pub salt: i64,
    /// The client's session.
    pub session: i64,
    /// Id and sequence number of the outermost message: what `bad_server_salt` refers to.
    pub outer: (i64, i32),
    /// The messages inside, in order.
    pub messages: Vec<Message>,
}

/// Reads one frame; `None` is an orderly end.
pub async fn read_frame(
    socket: &mut (impl AsyncRead + Unpin),
    expected: &mut u32,
    cap: usize,
) -> Result<Option<Vec<u8>>, WireError> {
    let mut head = [0; 4];
    if let Err(error) = socket.read_exact(&mut head).await {
        return match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Ok(None),
            _ => Err(error.into()),
        };
    }
    let length = i64::from(i32::from_le_bytes(head));
    let Ok(size) = usize::try_from(length) else {
        return Err(WireError::FrameLength(length));
    };
    if !(12..=cap).contains(&size) || !size.is_multiple_of(4) {
        return Err(WireError::FrameLength(length));
    }
    let mut rest = vec![0; size - 4];
    socket.read_exact(&mut rest).await?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head);
    crc.update(&rest[..rest.len() - 4]);
    let (body, tail) = rest.split_at(rest.len() - 4);
    if crc.finalize().to_le_bytes() != tail {
        return Err(WireError::Checksum);
    }
    let got = u32::from_le_bytes([body[0], body[1], body[2], body[3]]);
    if got != *expected {
        return Err(WireError::Sequence {
            got,
            expected: *expected,
        });
    }
    *expected = expected.wrapping_add(1);
    Ok(Some(body[4..].to_vec()))
}

/// Wraps `payload` into frame number `sequence`.
pub fn write_frame(sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 12);
    frame.extend_from_slice(&(u32::try_from(payload.len() + 12).unwrap_or(u32::MAX)).to_le_bytes());
    frame.extend_from_slice(&sequence.to_le_bytes());
    frame.extend_from_slice(payload);
    let crc = crc32fast::hash(&frame);
    frame.extend_from_slice(&crc.to_le_bytes());
    frame
}

/// Takes a decrypted packet apart.
pub fn read_packet(plain: &[u8], cap: usize) -> Result<Packet, WireError> {
    let mut cursor = Cursor::from_slice(plain);
    let short = |_| WireError::Packet("cut short");
    let salt = i64::deserialize(&mut cursor).map_err(short)?;
    let session = i64::deserialize(&mut cursor).map_err(short)?;
    let outer = read_message(&mut cursor)?;
    let padding = plain.len() - cursor.pos();
    if !(12..=1024).contains(&padding) {
        return Err(WireError::Packet("padding out of range"));
    }
    let head = (outer.id, outer.seq);
    let mut messages = Vec::new();
    unpack(outer, cap, 0, &mut messages)?;
    Ok(Packet {
        salt,
        session,
        outer: head,
        messages,
    })
}

fn read_message(cursor: &mut Cursor) -> Result<Message, WireError> {
    let short = |_| WireError::Packet("message cut short");
    let id = i64::deserialize(cursor).map_err(short)?;
    let seq = i32::deserialize(cursor).map_err(short)?;
    let length = i32::deserialize(cursor).map_err(short)?;
    let length = usize::try_from(length).map_err(|_| WireError::Packet("negative length"))?;
    let mut body = vec![0; length.min(16 << 20)];
    cursor.read_exact(&mut body).map_err(short)?;
    if body.len() != length {
        return Err(WireError::Packet("message too long"));
    }
    Ok(Message { id, seq, body })
}

fn unpack(message: Message, cap: usize, depth: u8, out: &mut Vec<Message>) -> Result<(), WireError> {
    if depth > MAX_DEPTH || out.len() > MAX_MESSAGES {
        return Err(WireError::Packet("nested too deeply"));
    }
    match constructor(&message.body) {
        Some(CONTAINER) => {
            let mut cursor = Cursor::from_slice(&message.body[4..]);
            let count = i32::deserialize(&mut cursor)
                .ok()
                .and_then(|count| usize::try_from(count).ok())
                .filter(|count| *count <= MAX_MESSAGES)
                .ok_or(WireError::Packet("container count"))?;
            for _ in 0..count {
                unpack(read_message(&mut cursor)?, cap, depth + 1, out)?;
            }
            Ok(())
        }
        Some(GZIP) => {
            let body = gunzip(&message.body, cap)?;
            unpack(Message { body, ..message }, cap, depth + 1, out)
        }
        Some(_) => {
            out.push(message);
            Ok(())
        }
        None => Err(WireError::Packet("empty message")),
    }
}

/// The constructor id at the head of a TL object.
pub fn constructor(body: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(body.get(..4)?.try_into().ok()?))
}

fn gunzip(packed: &[u8], cap: usize) -> Result<Vec<u8>, WireError> {
    let bytes = Vec::<u8>::from_bytes(&packed[4..]).map_err(|_| WireError::Packet("gzip"))?;
    let mut out = Vec::new();
    GzDecoder::new(&bytes[..])
        .take(cap as u64 + 1)
        .read_to_end(&mut out)
        .map_err(|_| WireError::Packet("gzip"))?;
    if out.len() > cap {
        return Err(WireError::Packet("gzip bomb"));
    }
    Ok(out)
}

/// `body` as `gzip_packed`, if that makes it smaller.
pub fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).ok()?;
    let packed = encoder.finish().ok()?;
    let mut out = GZIP.to_bytes();
    packed.serialize(&mut out);
    (out.len() < body.len()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_numbered_checked_and_capped() {
        let frame = write_frame(0, &[1, 2, 3, 4]);
        let mut next = 0;
        let read = read_frame(&mut &frame[..], &mut next, 1024).await;
        assert_eq!(read.ok().flatten(), Some(vec![1, 2, 3, 4]));
        let again = read_frame(&mut &frame[..], &mut next, 1024).await;
        assert!(matches!(again, Err(WireError::Sequence { got: 0, expected: 1 })));
        let mut broken = write_frame(1, &[1, 2, 3, 4]);
        broken[9] ^= 1;
        assert!(matches!(
            read_frame(&mut &broken[..], &mut next, 1024).await,
            Err(WireError::Checksum)
        ));
        assert!(matches!(
            read_frame(&mut &i32::MAX.to_le_bytes()[..], &mut next, 1024).await,
            Err(WireError::FrameLength(_))
        ));
    }

    #[test]
    fn a_gzip_bomb_is_refused() {
        let packed = gzip(&vec![0; 1 << 20]).unwrap_or_default();
        assert!(!packed.is_empty());
        assert!(gunzip(&packed, 1 << 10).is_err());
    }
}
