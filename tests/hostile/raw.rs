//! A client that speaks in bytes, so that it can speak badly.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::Client;

/// Longest wait for an answer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A connection from the n-th loopback address.
pub async fn connect_from(source: u8, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // Small, so that who does not read is soon noticed.
    socket.set_recv_buffer_size(8_192)?;
    socket.bind((Ipv4Addr::new(127, 0, 0, source), 0).into())?;
    socket.connect(address).await
}

/// A connection.
pub async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("the hub takes connections")
}

/// Everything until the other side ends, or the patience does; an error counts as an end.
pub async fn read_to_end(stream: &mut TcpStream, patience: Duration) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    let reading = async {
        let mut piece = vec![0; 65_536];
        while let Ok(count @ 1..) = stream.read(&mut piece).await {
            all.extend_from_slice(&piece[..count]);
        }
    };
    tokio::time::timeout(patience, reading).await.ok().map(|()| all)
}

/// The status of the first answer in some bytes.
pub fn status(answer: &[u8]) -> Option<u16> {
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

/// Bytes up to the first empty line.
pub async fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    let reading = async {
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("a head comes in time");
    head
}

/// Opens a WebSocket on a connection; what follows the handshake is not read.
pub async fn shake_hands(stream: &mut TcpStream, client: &Client, query: &str) -> u16 {
    let token = client.token.as_deref().expect("signed in");
    let request = format!(
        "GET /ws/messages/?token={token}{query} HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("the hub reads");
    status(&read_head(stream).await).expect("a status")
}

/// A frame from the server: its first byte and what it carries; none at the end.
pub async fn next_frame(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let reading = async {
        let first = stream.read_u8().await.ok()?;
        let length = match stream.read_u8().await.ok()? {
            126 => usize::from(stream.read_u16().await.ok()?),
            127 => usize::try_from(stream.read_u64().await.ok()?).ok()?,
            short => usize::from(short),
        };
        assert!(length < 2_000_000, "a frame of the hub has {length} bytes, or a mask");
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.ok()?;
        Some((first, payload))
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("a frame or the end comes in time")
}
