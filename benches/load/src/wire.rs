//! HTTP/1.1 over one connection that is kept: just what the hub and the floors answer with, and little work.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::Outcome;

/// A connection to a server on this machine, from the given address of the loopback network.
pub async fn connect(address: SocketAddr, source: Ipv4Addr) -> Outcome<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_nodelay(true)?;
    socket.bind((source, 0).into())?;
    Ok(socket.connect(address).await?)
}

/// A kept connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of the last answer, to be let go.
    used: usize,
}

/// One answer.
pub struct Answer<'a> {
    pub status: u16,
    pub body: &'a [u8],
    /// Bytes of status line and headers.
    pub head_bytes: usize,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Outcome<Self> {
        Ok(Self {
            stream: connect(address, Ipv4Addr::LOCALHOST).await?,
            buffer: Vec::with_capacity(8_192),
            used: 0,
        })
    }

    /// Sends a request and waits for its answer.
    pub async fn exchange(&mut self, request: &[u8]) -> Outcome<Answer<'_>> {
        self.buffer.drain(..self.used);
        self.used = 0;
        self.stream.write_all(request).await?;
        let (status, head, length) = loop {
            if let Some(end) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = std::str::from_utf8(&self.buffer[..end])?;
                let status = head.get(9..12).ok_or("an answer without a status")?.parse()?;
                break (status, end + 4, content_length(head)?);
            }
            self.read().await?;
        };
        while self.buffer.len() < head + length {
            self.read().await?;
        }
        self.used = head + length;
        Ok(Answer {
            status,
            body: &self.buffer[head..head + length],
            head_bytes: head,
        })
    }

    async fn read(&mut self) -> Outcome {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err("the server closed the connection".into());
        }
        Ok(())
    }
}

fn content_length(head: &str) -> Outcome<usize> {
    let values = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = values.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    Ok(lengths.next().map_or(Ok(0), |(_, value)| value.trim().parse())?)
}

/// A GET.
pub fn get(path: &str, token: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n").into_bytes()
}

/// A POST with a JSON body; `headers` are whole lines, each with its line end.
pub fn post(path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         {headers}\r\n{body}"
    )
    .into_bytes()
}
