//! The control port: the DC's own methods as JSON over a very small HTTP/1.1 server.
//!
//! Bodies have a length, nothing is chunked, connections stay open. Wrong requests are answered with a
//! status and `{"error": "..."}`; nothing a caller sends can stop the DC.

use std::time::Duration;

use base64::Engine as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::api::{TelegramDc, WeakDc};
use crate::journal::LogFilter;
use crate::spec::{Peer, PhoneRule};
use crate::tl::Refusal;

/// Largest body.
const BODY: usize = 64 << 20;
/// Longest request line or header, and how many headers.
const LINE: u64 = 8 << 10;
const HEADERS: usize = 64;
/// Connections at once.
const CONNECTIONS: usize = 256;
/// How long a caller may take to send its request.
const PATIENCE: Duration = Duration::from_secs(30);

struct Request {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    body: Vec<u8>,
    /// Whether the connection stays open.
    keep: bool,
}

enum Reply {
    Json(Value),
    Bytes(Vec<u8>),
}

struct Failed {
    status: u16,
    text: String,
}

impl Failed {
    fn new(status: u16, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::new(400, refusal.name)
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::new(500, error.to_string())
    }
}

/// Serves until the task is aborted or the DC is gone.
pub(crate) async fn serve(dc: WeakDc, listener: TcpListener) {
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if tasks.len() < CONNECTIONS {
            tasks.spawn(answer(dc.clone(), socket));
        }
    }
}

/// Requests of one connection, one after the other, until it is closed or idle for too long.
async fn answer(dc: WeakDc, socket: TcpStream) {
    let mut socket = BufReader::new(socket);
    loop {
        match tokio::time::timeout(PATIENCE, socket.fill_buf()).await {
            Ok(Ok(waiting)) if !waiting.is_empty() => {}
            _ => return,
        }
        let (keep, result) = match tokio::time::timeout(PATIENCE, read(&mut socket)).await {
            Ok(Ok(request)) => {
                let Some(dc) = dc.upgrade() else { return };
                (request.keep, route(&dc, request).await)
            }
            Ok(Err(failed)) => (false, Err(failed)),
            Err(_) => (false, Err(Failed::new(408, "the request did not arrive in time"))),
        };
        if let Err(error) = write(&mut socket, result, keep).await {
            tracing::debug!(%error, "control caller went away");
            return;
        }
        if !keep {
            return;
        }
    }
}

async fn write(socket: &mut BufReader<TcpStream>, result: Result<Reply, Failed>, keep: bool) -> std::io::Result<()> {
    let (status, kind, body) = match result {
        Ok(Reply::Json(value)) => (200, "application/json", value.to_string().into_bytes()),
        Ok(Reply::Bytes(bytes)) => (200, "application/octet-stream", bytes),
        Err(Failed { status, text }) => (
            status,
            "application/json",
            json!({ "error": text }).to_string().into_bytes(),
        ),
    };
    let reason = if status == 200 { "OK" } else { "Failed" };
    let connection = if keep { "keep-alive" } else { "close" };
    let mut answer = format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: {connection}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend(body);
    socket.get_mut().write_all(&answer).await?;
    if !keep {
        socket.get_mut().shutdown().await?;
    }
    Ok(())
}

async fn line(socket: &mut BufReader<TcpStream>) -> Result<String, Failed> {
    let mut text = String::new();
    let read = (&mut *socket).take(LINE).read_line(&mut text).await;
    match read {
        Ok(n) if n > 0 && text.ends_with('\n') => Ok(text.trim_end().to_owned()),
        _ => Err(Failed::new(400, "not an HTTP request")),
    }
}

async fn read(socket: &mut BufReader<TcpStream>) -> Result<Request, Failed> {
    let first = line(socket).await?;
    let mut parts = first.split(' ');
    let (Some(method), Some(target)) = (parts.next(), parts.next()) else {
        return Err(Failed::new(400, "not an HTTP request"));
    };
    let mut length = 0;
    let mut keep = parts.next() == Some("HTTP/1.1");
    for n in 0.. {
        if n == HEADERS {
            return Err(Failed::new(431, "too many headers"));
        }
        let header = line(socket).await?;
        if header.is_empty() {
            break;
        }
        let Some((name, value)) = header.split_once(':') else {
            continue;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(|_| Failed::new(400, "content-length"))?;
        } else if name.eq_ignore_ascii_case("connection") {
            keep = keep && !value.trim().eq_ignore_ascii_case("close");
        }
    }
    if length > BODY {
        return Err(Failed::new(413, "the body is too large"));
    }
    let mut body = vec![0; length];
    socket
        .read_exact(&mut body)
        .await
        .map_err(|_| Failed::new(400, "the body is cut short"))?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.replace("%3A", ":").replace("%3a", ":")))
        .collect();
    Ok(Request {
        method: method.to_owned(),
        path: path.trim_end_matches('/').to_owned(),
        query,
        body,
        keep,
    })
}

impl Request {
    fn json<T: DeserializeOwned>(&self) -> Result<T, Failed> {
        let body: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        serde_json::from_slice(body).map_err(|error| Failed::new(400, error.to_string()))
    }

    fn query(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Failed> {
        let Some(text) = self.query(name) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| Failed::new(400, format!("{name} is not a number")))
    }
}

#[derive(Deserialize)]
struct Batch {
    messages: Vec<crate::spec::NewMessage>,
}

#[derive(Deserialize)]
struct Phone {
    phone: String,
    rule: PhoneRule,
}

#[derive(Deserialize)]
struct PhoneOnly {
    phone: String,
}

#[derive(Deserialize)]
struct Membership {
    peer: Peer,
    user: i64,
}

#[derive(Deserialize)]
struct Pin {
    message: crate::spec::MessageRef,
    pinned: bool,
}

#[derive(Deserialize)]
struct Scan {
    /// base64url, as in the QR code.
    token: String,
    account: i64,
}

#[derive(Deserialize)]
struct Down {
    #[serde(default)]
    down_ms: u64,
}

#[derive(Deserialize)]
struct AccountOnly {
    account: i64,
}

#[derive(Deserialize)]
struct ChannelTooLong {
    channel: i64,
    #[serde(default)]
    with_pts: bool,
}

fn value(thing: impl serde::Serialize) -> Result<Reply, Failed> {
    serde_json::to_value(thing)
        .map(Reply::Json)
        .map_err(|error| Failed::new(500, error.to_string()))
}

fn done() -> Result<Reply, Failed> {
    Ok(Reply::Json(json!({ "ok": true })))
}

fn id(id: i64) -> Result<Reply, Failed> {
    Ok(Reply::Json(json!({ "id": id })))
}

async fn route(dc: &TelegramDc, request: Request) -> Result<Reply, Failed> {
    let parts: Vec<&str> = request.path.split('/').skip(1).collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["health"]) => done(),
        ("GET", ["state"]) => value(dc.state().await),
        ("GET", ["log"]) => value(dc.log(filter(&request)?).await),
        ("GET", ["log", "count"]) => Ok(Reply::Json(json!({ "count": dc.log(filter(&request)?).await.len() }))),
        ("DELETE", ["log"]) => {
            dc.clear_log().await;
            done()
        }
        ("GET", ["accounts", account, "messages"]) => {
            let account = number(account)?;
            let peer = match request.query("peer") {
                Some(text) => Some(Peer::try_from(text.to_owned()).map_err(|e| Failed::new(400, e))?),
                None => None,
            };
            value(dc.messages(account, peer).await?)
        }
        ("GET", ["channels", channel, "messages"]) => value(dc.channel_messages(number(channel)?).await?),
        ("GET", ["files", file]) => match dc.file(number(file)?).await {
            Some(bytes) => Ok(Reply::Bytes(bytes.to_vec())),
            None => Err(Failed::new(404, "no such file")),
        },
        ("GET", ["faults"]) => value(dc.faults().await),
        ("DELETE", ["faults"]) => {
            dc.clear_faults().await;
            done()
        }
        ("POST", path) => post(dc, path, &request).await,
        _ => Err(Failed::new(404, "no such route; see the README")),
    }
}

async fn post(dc: &TelegramDc, path: &[&str], request: &Request) -> Result<Reply, Failed> {
    match path {
        ["accounts"] => return id(dc.add_account(request.json()?).await?),
        ["users"] => return id(dc.add_user(request.json()?).await?),
        ["chats"] => return id(dc.add_chat(request.json()?).await?),
        ["channels"] => return id(dc.add_channel(request.json()?).await?),
        ["files"] => return id(dc.add_file(&request.json()?).await?),
        ["messages", "batch"] => {
            let Batch { messages } = request.json()?;
            return value(dc.push_messages(messages).await?);
        }
        ["messages"] => return value(dc.push_message(request.json()?).await?),
        ["history"] => return value(dc.seed_history(request.json()?).await?),
        ["connections", "drop"] => {
            let closed = dc.drop_connections(request.json()?).await;
            return Ok(Reply::Json(json!({ "closed": closed })));
        }
        ["encrypted"] => {
            let AccountOnly { account } = request.json()?;
            return Ok(Reply::Json(json!({ "qts": dc.push_encrypted(account).await? })));
        }
        ["phones"] => {
            let Phone { phone, rule } = request.json()?;
            dc.set_phone(&phone, rule).await;
        }
        ["members", "join"] => {
            let Membership { peer, user } = request.json()?;
            dc.join(peer, user).await?;
        }
        ["members", "leave"] => {
            let Membership { peer, user } = request.json()?;
            dc.leave(peer, user).await?;
        }
        ["messages", "edit"] => dc.edit(request.json()?).await?,
        ["messages", "delete"] => dc.delete(request.json()?).await?,
        ["messages", "react"] => dc.react(request.json()?).await?,
        ["messages", "pin"] => {
            let Pin { message, pinned } = request.json()?;
            dc.pin(message, pinned).await?;
        }
        ["typing"] => dc.typing(request.json()?).await?,
        ["read"] => dc.read(request.json()?).await?,
        ["gap"] => dc.gap(request.json()?).await?,
        ["too-long", "channel"] => {
            let ChannelTooLong { channel, with_pts } = request.json()?;
            dc.push_channel_too_long(channel, with_pts).await?;
        }
        ["too-long", "account"] => {
            let AccountOnly { account } = request.json()?;
            dc.push_too_long(account).await;
        }
        ["revoke"] => dc.revoke(request.json()?).await,
        ["faults"] => dc.script(request.json()?).await?,
        ["settings"] => dc.set(request.json()?).await,
        ["codes", "expire"] => {
            let PhoneOnly { phone } = request.json()?;
            dc.expire_code(&phone).await;
        }
        ["qr", "scan"] => {
            let Scan { token, account } = request.json()?;
            let token = base64::engine::general_purpose::URL_SAFE_NO_PAD
                .decode(token.trim_end_matches('='))
                .map_err(|error| Failed::new(400, error.to_string()))?;
            dc.scan_login_token(&token, account).await?;
        }
        ["salts", "rotate"] => dc.rotate_salts().await,
        ["file-references", "expire"] => dc.expire_file_references().await,
        ["restart"] => {
            let Down { down_ms } = request.json()?;
            dc.restart(Duration::from_millis(down_ms.min(600_000))).await?;
        }
        ["stop-listening"] => dc.stop_listening().await,
        ["start-listening"] => dc.start_listening().await?,
        _ => return Err(Failed::new(404, "no such route; see the README")),
    }
    done()
}

fn number(text: &str) -> Result<i64, Failed> {
    text.parse()
        .map_err(|_| Failed::new(400, format!("`{text}` is not an id")))
}

fn filter(request: &Request) -> Result<LogFilter, Failed> {
    Ok(LogFilter {
        method: request.query("method").map(str::to_owned),
        account: request.number("account")?,
        key: request.number("key")?,
        random_id: request.number("random_id")?,
        after: request.number("after")?.unwrap_or(0),
    })
}
