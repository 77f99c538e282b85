//! The other end of a custom channel: a server that checks signatures, notes what it is sent, and answers as told.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};

use super::sign;

/// One request that it was sent.
#[derive(Clone, Debug)]
pub struct Received {
    /// The `webhook-id`: the same for every try of one message.
    pub id: String,
    pub body: Value,
    /// Whether the signature is that of a trusted secret.
    pub is_signed: bool,
}

/// How it answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Does the work and says so.
    Done,
    /// Answers with this status and, if any, `Retry-After` seconds, without doing the work.
    Refuse(u16, Option<u64>),
    /// Does the work, then answers with this status.
    DoneThen(u16),
    /// Does the work, but only after a pause.
    Late(Duration),
}

#[derive(Default)]
struct State {
    secrets: Mutex<Vec<String>>,
    received: Mutex<Vec<Received>>,
    replies: Mutex<HashMap<String, VecDeque<Reply>>>,
    server: Mutex<Option<ServerHandle>>,
}

/// Serves at an address; where it is.
fn serve(state: &Arc<State>, address: SocketAddr) -> SocketAddr {
    let shared = web::Data::from(Arc::clone(state));
    let server = HttpServer::new(move || App::new().app_data(shared.clone()).default_service(web::to(take)))
        .workers(1)
        .disable_signals()
        .bind(address)
        .expect("a free port");
    let address = server.addrs()[0];
    let server = server.run();
    *state.server.lock().unwrap() = Some(server.handle());
    actix_rt::spawn(server);
    address
}

/// A running correspondent. It ends with the test's process.
#[derive(Clone)]
pub struct Correspondent {
    address: SocketAddr,
    state: Arc<State>,
}

impl Correspondent {
    pub fn start() -> Self {
        let state = Arc::new(State::default());
        let address = serve(&state, SocketAddr::from(([127, 0, 0, 1], 0)));
        Self { address, state }
    }

    /// Goes away in the middle of what it does, and comes back at the same address after a while. It forgets nothing.
    pub async fn restart(&self, away: Duration) {
        let handle = self.state.server.lock().unwrap().take();
        if let Some(handle) = handle {
            handle.stop(false).await;
        }
        tokio::time::sleep(away).await;
        serve(&self.state, self.address);
    }

    pub fn url(&self) -> String {
        format!("http://{}/inbox", self.address)
    }

    /// Accepts signatures made with this secret.
    pub fn trust(&self, secret: &str) {
        self.state.secrets.lock().unwrap().push(secret.to_owned());
    }

    /// Answers the next requests of a chat like this.
    pub fn reply(&self, chat: &str, replies: impl IntoIterator<Item = Reply>) {
        self.state
            .replies
            .lock()
            .unwrap()
            .entry(chat.to_owned())
            .or_default()
            .extend(replies);
    }

    /// Everything it was sent, in order.
    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    /// The messages it was sent, as (`webhook-id`, chat, text).
    pub fn messages(&self) -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let received = self
            .received()
            .into_iter()
            .filter(|one| one.body["type"] == "message.send");
        received
            .map(|one| {
                (
                    one.id.clone(),
                    text(&one.body["conversation"]["id"]),
                    text(&one.body["message"]["text"]),
                )
            })
            .collect()
    }
}

async fn take(request: HttpRequest, body: web::Bytes, state: web::Data<State>) -> HttpResponse {
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let (id, signature) = (header("webhook-id"), header("webhook-signature"));
    let timestamp = header("webhook-timestamp").parse().unwrap_or_default();
    let secrets = state.secrets.lock().unwrap().clone();
    let is_signed = secrets.iter().any(|secret| {
        let expected = sign(secret, &id, timestamp, &body);
        signature.split(' ').any(|one| one == expected)
    });
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let chat = body["conversation"]["id"].as_str().unwrap_or_default().to_owned();
    let reply = state
        .replies
        .lock()
        .unwrap()
        .get_mut(&chat)
        .and_then(VecDeque::pop_front)
        .unwrap_or(Reply::Done);
    let done = || {
        state.received.lock().unwrap().push(Received {
            id: id.clone(),
            body: body.clone(),
            is_signed,
        });
        HttpResponse::Ok().json(json!({ "id": format!("external-{id}") }))
    };
    match reply {
        Reply::Done => done(),
        Reply::Refuse(status, retry_after) => {
            let mut response = HttpResponse::build(status.try_into().expect("a status"));
            if let Some(seconds) = retry_after {
                response.insert_header(("retry-after", seconds.to_string()));
            }
            response.finish()
        }
        Reply::DoneThen(status) => {
            done();
            HttpResponse::build(status.try_into().expect("a status")).finish()
        }
        Reply::Late(pause) => {
            tokio::time::sleep(pause).await;
            done()
        }
    }
}
