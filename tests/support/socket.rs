//! A client's WebSocket.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Longest wait for a frame.
const PATIENCE: Duration = Duration::from_secs(20);

/// An open socket.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    /// Opens a socket at an address.
    pub async fn open(url: &str) -> Self {
        Self::try_open(url)
            .await
            .unwrap_or_else(|error| panic!("the handshake fails: {error}"))
    }

    /// Opens a socket, or says why not.
    pub async fn try_open(
        request: impl IntoClientRequest + Unpin,
    ) -> Result<Self, tokio_tungstenite::tungstenite::Error> {
        let (stream, _) = tokio_tungstenite::connect_async(request).await?;
        Ok(Self { stream })
    }

    /// Opens a socket over a connection that is there already.
    pub async fn over(stream: TcpStream, url: &str) -> Self {
        let opened = tokio_tungstenite::client_async(url, MaybeTlsStream::Plain(stream)).await;
        let (stream, _) = opened.unwrap_or_else(|error| panic!("the handshake fails: {error}"));
        Self { stream }
    }

    /// The next frame of text, as JSON.
    pub async fn next(&mut self) -> Value {
        match self.next_or_close().await {
            Ok(frame) => frame,
            Err(code) => panic!("the socket was closed with {code:?}"),
        }
    }

    /// The next frame of text, or the close code, none when the connection just ended.
    pub async fn next_or_close(&mut self) -> Result<Value, Option<u16>> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.stream.next()).await;
            match message.expect("a frame comes in time") {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("a frame is JSON")),
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// The next frame that belongs to the stream: it has a number.
    pub async fn next_event(&mut self) -> Value {
        loop {
            let frame = self.next().await;
            if frame["seq"].is_i64() {
                return frame;
            }
        }
    }

    /// The next frame of that name.
    pub async fn next_named(&mut self, name: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["event"] == name {
                return frame;
            }
        }
    }

    /// Waits for the end; the close code.
    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Err(code) = self.next_or_close().await {
                return code;
            }
        }
    }

    /// Sends a command.
    pub async fn send(&mut self, command: &Value) {
        self.send_text(&command.to_string()).await;
    }

    /// Sends a command to a hub that may die under it.
    pub async fn try_send(&mut self, command: &Value) -> Result<(), tokio_tungstenite::tungstenite::Error> {
        self.stream.send(Message::text(command.to_string())).await
    }

    /// Sends any text.
    pub async fn send_text(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    /// Sends a message of the protocol, such as a ping.
    pub async fn send_message(&mut self, message: Message) {
        self.stream.send(message).await.expect("the socket takes it");
    }

    /// As [`Socket::send_text`], for a connection that may be cut under it.
    pub async fn try_send_text(&mut self, text: &str) -> bool {
        self.stream.send(Message::text(text)).await.is_ok()
    }

    /// The next message of the protocol, pongs and pings included.
    pub async fn next_message(&mut self) -> Message {
        let message = tokio::time::timeout(PATIENCE, self.stream.next()).await;
        let message = message.expect("a message comes in time");
        message.expect("the socket is open").expect("the message is good")
    }
}
