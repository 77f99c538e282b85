//! The other end of a custom channel: a server that checks signatures, notes what it is sent, and answers as told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
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
    /// Does the work, then closes the connection without an answer.
    DoneThenGone,
    /// Does nothing and never answers; the connection stays open.
    Silence,
}

/// One way to close a connection from within.
struct Line(socket2::Socket);

#[derive(Default)]
struct State {
    secrets: Mutex<Vec<String>>,
    received: Mutex<Vec<Received>>,
    replies: Mutex<HashMap<String, VecDeque<Reply>>>,
    frozen: Mutex<HashSet<String>>,
    server: Mutex<Option<ServerHandle>>,
}

/// Serves at an address; where it is.
fn serve(state: &Arc<State>, address: SocketAddr) -> SocketAddr {
    let shared = web::Data::from(Arc::clone(state));
    let server = HttpServer::new(move || App::new().app_data(shared.clone()).default_service(web::to(take)))
        .on_connect(|connection, data| {
            if let Some(stream) = connection.downcast_ref::<actix_rt::net::TcpStream>() {
                data.insert(Line(
                    socket2::SockRef::from(stream).try_clone().expect("a second handle"),
                ));
            }
        })
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

    /// Answers nothing of this chat any more, until it thaws.
    pub fn freeze(&self, chat: &str) {
        self.state.frozen.lock().unwrap().insert(chat.to_owned());
    }

    /// It answers there again.
    pub fn thaw(&self, chat: &str) {
        self.state.frozen.lock().unwrap().remove(chat);
    }

    /// Whatever came again under one id had the same body.
    pub fn assert_same_bodies(&self) {
        let mut first: HashMap<String, Value> = HashMap::new();
        for one in self.received() {
            assert!(one.is_signed, "{one:?}");
            let known = first.entry(one.id.clone()).or_insert_with(|| one.body.clone());
            assert_eq!(*known, one.body, "a repetition has the same body");
        }
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

/// A storm of deliveries: each of the messages 0, 1, 2 … one to five times, in any order.
pub fn storm(messages: usize, random: &mut impl Rng) -> Vec<usize> {
    let mut deliveries: Vec<usize> = (0..messages)
        .flat_map(|message| std::iter::repeat_n(message, random.random_range(1..=5)))
        .collect();
    deliveries.shuffle(random);
    deliveries
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
    let scripted = state
        .replies
        .lock()
        .unwrap()
        .get_mut(&chat)
        .and_then(VecDeque::pop_front);
    let is_frozen = state.frozen.lock().unwrap().contains(&chat);
    let reply = if is_frozen {
        Reply::Silence
    } else {
        scripted.unwrap_or(Reply::Done)
    };
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
        Reply::DoneThenGone => {
            done();
            let Line(line) = request.conn_data().expect("every connection has one");
            let _ = line.shutdown(Shutdown::Both);
            std::future::pending().await
        }
        Reply::Silence => std::future::pending().await,
    }
}
