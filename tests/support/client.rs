//! A client of the hub's API.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Correspondent, Socket};

/// A status, headers and a body.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The body, after checking the status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.json()
    }
}

/// A person, or nobody yet, who talks to a hub.
#[derive(Clone)]
pub struct Client {
    pub address: SocketAddr,
    pub http: reqwest::Client,
    pub token: Option<String>,
    pub refresh_token: Option<String>,
    pub email: String,
    pub user_id: String,
}

/// A linked custom channel.
#[derive(Clone, Debug)]
pub struct Channel {
    pub account_id: String,
    pub secret: String,
}

pub const PASSWORD: &str = "correct horse";

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build();
        Self {
            address,
            http: http.expect("a client can be made"),
            token: None,
            refresh_token: None,
            email: String::new(),
            user_id: String::new(),
        }
    }

    /// The same person, talking to the hub's next life.
    pub fn at(&self, address: SocketAddr) -> Self {
        Self {
            address,
            ..self.clone()
        }
    }

    /// Registers a new person and signs in.
    pub async fn register(&mut self) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        self.email = format!("person{}@example.org", COUNT.fetch_add(1, Ordering::Relaxed));
        let body = json!({ "email": self.email, "password": PASSWORD });
        let answer = self.post("/api/auth/register", &body).await.expect(201);
        answer["user"]["id"]
            .as_str()
            .expect("an id")
            .clone_into(&mut self.user_id);
        self.keep(&answer);
    }

    /// Keeps the tokens of an answer.
    pub fn keep(&mut self, answer: &Value) {
        self.token = answer["tokens"]["accessToken"].as_str().map(str::to_owned);
        self.refresh_token = answer["tokens"]["refreshToken"].as_str().map(str::to_owned);
    }

    /// Any request, with the person's token.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("http://{}{path}", self.address));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.request(Method::POST, path).json(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        answer(self.request(Method::PATCH, path).json(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        answer(self.request(Method::DELETE, path)).await
    }

    /// Links a custom channel that sends to the correspondent.
    pub async fn link(&self, correspondent: &Correspondent) -> Channel {
        let body = json!({ "name": "Test channel", "outboundUrl": correspondent.url() });
        let linked = self.post("/api/accounts/custom", &body).await.expect(201);
        let account_id = linked["account"]["id"].as_str().expect("an id").to_owned();
        let secret = linked["secret"].as_str().expect("a secret").to_owned();
        correspondent.trust(&secret);
        Channel { account_id, secret }
    }

    /// Delivers events with a valid signature under a delivery id.
    pub async fn deliver(&self, channel: &Channel, id: &str, events: &Value) -> Answer {
        self.try_deliver(channel, id, events).await.expect("the hub answers")
    }

    /// As [`Client::deliver`], for a hub that may die under it.
    pub async fn try_deliver(&self, channel: &Channel, id: &str, events: &Value) -> Result<Answer, reqwest::Error> {
        self.try_deliver_at(channel, id, events, now()).await
    }

    /// As [`Client::try_deliver`], signed at another time.
    pub async fn try_deliver_at(
        &self,
        channel: &Channel,
        id: &str,
        events: &Value,
        timestamp: i64,
    ) -> Result<Answer, reqwest::Error> {
        let body = events.to_string();
        let signature = sign(&channel.secret, id, timestamp, body.as_bytes());
        let url = format!("http://{}/api/webhooks/custom/{}", self.address, channel.account_id);
        let request = self
            .http
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", id);
        let request = request
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature);
        try_answer(request.body(body)).await
    }

    /// A message comes in; the conversation's id.
    pub async fn receive(&self, channel: &Channel, chat: &str, message: &str, text: &str) -> String {
        self.deliver(channel, message, &received(chat, message, text))
            .await
            .expect(200);
        self.conversation(chat).await.expect("the conversation is there")
    }

    /// The hub's id of a chat.
    pub async fn conversation(&self, chat: &str) -> Option<String> {
        let page = self
            .get("/api/conversations?platform=custom&max_read=500&limit=500")
            .await
            .expect(200);
        let found = page["conversations"]
            .as_array()?
            .iter()
            .find(|one| one["platform_conversation_id"] == chat)?;
        found["id"].as_str().map(str::to_owned)
    }

    /// Every event of the person's stream.
    pub async fn events(&self) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let last = events.last().map(|event: &Value| event["seq"].as_i64());
            let after = last.map_or(0, |seq| seq.expect("a number"));
            let page = self.try_events_page(after).await.expect("the hub answers");
            events.extend(page["events"].as_array().expect("events").clone());
            if page["hasMore"] == false {
                return events;
            }
        }
    }

    /// The events after that number, at most 1,000, of a hub that may die under it.
    pub async fn try_events_page(&self, after: i64) -> Result<Value, reqwest::Error> {
        let path = format!("/api/events?after={after}&limit=1000");
        Ok(try_answer(self.request(Method::GET, &path)).await?.expect(200))
    }

    /// Sends a message; with a key when there is one.
    pub async fn send(&self, conversation: &str, text: &str, key: Option<&str>) -> Answer {
        self.try_send(conversation, text, key, false)
            .await
            .expect("the hub answers")
    }

    /// As [`Client::send`], for a hub that may die under it; `is_async` asks for the answer right after the commit.
    pub async fn try_send(
        &self,
        conversation: &str,
        text: &str,
        key: Option<&str>,
        is_async: bool,
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self.request(Method::POST, &format!("/api/messages/{conversation}/send"));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if is_async {
            request = request.header("prefer", "respond-async");
        }
        try_answer(request.json(&json!({ "content": text }))).await
    }

    /// Opens a socket and waits for its first frame, which is returned with it.
    pub async fn socket(&self, since: Option<&str>) -> (Socket, Value) {
        let token = self.token.as_deref().expect("signed in");
        let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
        let mut socket = Socket::open(&format!("ws://{}/ws/messages/?token={token}{since}", self.address)).await;
        let first = socket.next().await;
        assert_eq!(first["event"], "authenticated");
        (socket, first)
    }
}

/// The event of one incoming text message.
pub fn received(chat: &str, message: &str, text: &str) -> Value {
    json!({
        "type": "message.received",
        "conversation": { "id": chat, "name": format!("Chat {chat}") },
        "message": { "id": message, "sender": { "id": "peer", "name": "Peer" }, "text": text, "type": "text" },
    })
}

/// Standard Webhooks: `v1,` and the base64 HMAC-SHA256 of `id.timestamp.body`.
pub fn sign(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> String {
    let key = STANDARD
        .decode(secret.trim_start_matches("whsec_"))
        .expect("a secret is base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any key length will do");
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// Seconds since 1970.
pub fn now() -> i64 {
    hub_actors::Clock::system().now().unix_timestamp()
}

/// Sends a request and reads the whole answer.
pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    try_answer(request).await.expect("the hub answers")
}

pub async fn try_answer(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    Ok(Answer {
        status,
        headers,
        text: response.text().await?,
    })
}
