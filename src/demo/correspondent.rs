//! The demo's other side: a server of its own that speaks the custom channel over real sockets, and the people in it.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use hub_actors::Clock;
use hub_actors::ports::Delivery;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::DemoError;
use super::courier::Courier;
use super::keepsake::LinkedAccount;
use super::screen::Screen;
use super::script::{self, CONTACTS, Contact, Reception, Step};
use crate::platforms::custom::{Secret, signature};

/// Deliveries remembered, to know a repetition; the oldest are forgotten first.
const REMEMBERED: usize = 1_024;
/// Messages that wait to be answered; more are turned away with 503, and the hub comes again.
const WAITING: usize = 64;
/// Answers under way at the same time.
const AT_ONCE: usize = 16;
/// The time between two messages that nobody asked for, and by how much it varies, in seconds.
const CHATTER_SECONDS: (u64, u64) = (20, 20);

/// A message of the person, taken by the server, for the people to react to.
struct Taken {
    contact: Contact,
    /// The id that the correspondent gave it.
    id: String,
    text: String,
}

/// The correspondent.
pub(super) struct Correspondent {
    courier: Courier,
    server: ServerHandle,
    taken: mpsc::Receiver<Taken>,
    /// By contact: the person's last message, to react to.
    last_heard: HashMap<&'static str, String>,
}

impl Correspondent {
    /// Starts the server on the listener.
    pub(super) fn start(
        listener: TcpListener,
        hub_url: &str,
        account: &LinkedAccount,
        client: Client,
        clock: Clock,
        screen: Screen,
    ) -> Result<Self, DemoError> {
        let secret = Secret::parse(&account.secret)
            .map_err(|error| DemoError::Answer(format!("its answer holds a secret that is none: {error}")))?;
        let (sender, taken) = mpsc::channel(WAITING);
        let desk = web::Data::new(Desk {
            secret: secret.clone(),
            clock: clock.clone(),
            screen: screen.clone(),
            people: sender,
            memory: Mutex::default(),
        });
        let server = HttpServer::new(move || {
            let body_limit = web::PayloadConfig::new(1024 * 1024);
            App::new()
                .app_data(desk.clone())
                .app_data(body_limit)
                .route("/hook", web::post().to(hook))
        })
        .workers(1)
        .disable_signals()
        .listen(listener)
        .map_err(DemoError::Correspondent)?
        .run();
        let handle = server.handle();
        actix_rt::spawn(server);
        let courier = Courier {
            client,
            url: format!("{hub_url}/api/webhooks/custom/{}", account.id),
            secret,
            clock,
            screen,
        };
        Ok(Self {
            courier,
            server: handle,
            taken,
            last_heard: HashMap::new(),
        })
    }

    /// The first words, on a new account. Comes back when the hub has them.
    pub(super) async fn greet(&self) {
        for contact in CONTACTS {
            perform(&self.courier, contact, None, script::greeting(contact)).await;
        }
    }

    /// Answers what comes in, and writes now and then. Ends only by being dropped, which also ends what is under way.
    pub(super) async fn live(mut self) -> Infallible {
        let mut under_way = JoinSet::new();
        let (mut answers, mut chatters) = (0, 0);
        let mut next_chatter = Box::pin(tokio::time::sleep(Duration::from_secs(10)));
        loop {
            tokio::select! {
                Some(taken) = self.taken.recv(), if under_way.len() < AT_ONCE => {
                    self.last_heard.insert(taken.contact.id, taken.id.clone());
                    under_way.spawn(react(self.courier.clone(), taken, answers));
                    answers += 1;
                }
                Some(_) = under_way.join_next() => {}
                () = &mut next_chatter => {
                    let contact = CONTACTS[chatters % CONTACTS.len()];
                    let heard = self.last_heard.get(contact.id).cloned();
                    let (courier, steps) = (self.courier.clone(), script::chatter(chatters));
                    under_way.spawn(async move { perform(&courier, contact, heard, steps).await });
                    chatters += 1;
                    let pause = CHATTER_SECONDS.0 + rand::random::<u64>() % CHATTER_SECONDS.1;
                    next_chatter = Box::pin(tokio::time::sleep(Duration::from_secs(pause)));
                }
            }
        }
    }
}

impl Drop for Correspondent {
    fn drop(&mut self) {
        // The future only waits for the end; the order to stop is given by making it.
        drop(self.server.stop(false));
    }
}

/// What the server needs to answer.
struct Desk {
    secret: Secret,
    clock: Clock,
    screen: Screen,
    people: mpsc::Sender<Taken>,
    memory: Mutex<Memory>,
}

/// What was delivered before: by webhook-id the id of the message, or how often it was turned away.
#[derive(Default)]
struct Memory {
    known: HashMap<String, Known>,
    order: VecDeque<String>,
}

#[derive(Clone)]
enum Known {
    Taken { id: String },
    TurnedAway { times: u32 },
}

impl Memory {
    fn keep(&mut self, key: &str, known: Known) {
        if self.known.insert(key.to_owned(), known).is_none() {
            self.order.push_back(key.to_owned());
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// Where the hub delivers to.
async fn hook(desk: web::Data<Desk>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let headers = request.headers().iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let delivery = Delivery {
        headers: headers.collect(),
        body,
        received_at: desk.clock.now(),
    };
    if let Err(error) = signature::verify(&delivery, std::slice::from_ref(&desk.secret)) {
        desk.screen.correspondent(&format!("refused a delivery: {error}"));
        return HttpResponse::Unauthorized().json(json!({ "error": error.to_string() }));
    }
    let event: Value = serde_json::from_slice(&delivery.body).unwrap_or_default();
    let contact = CONTACTS
        .into_iter()
        .find(|contact| event["conversation"]["id"] == contact.id);
    let (Some(key), Some(contact)) = (delivery.header(signature::ID_HEADER), contact) else {
        return HttpResponse::NotFound().json(json!({ "error": "there is no such chat" }));
    };
    match event["type"].as_str() {
        Some("message.send") => desk.take(key, contact, event["message"]["text"].as_str().unwrap_or_default()),
        Some("conversation.read") => {
            desk.screen
                .correspondent(&format!("{} sees that you have read", contact.name));
            HttpResponse::NoContent().finish()
        }
        Some("typing") => {
            desk.screen
                .correspondent(&format!("{} sees that you are typing", contact.name));
            HttpResponse::NoContent().finish()
        }
        Some(_) => HttpResponse::NoContent().finish(),
        None => HttpResponse::BadRequest().json(json!({ "error": "the event has no type" })),
    }
}

impl Desk {
    /// A message for one of the people. The same webhook-id gets the same answer, and is read only once.
    fn take(&self, key: &str, contact: Contact, text: &str) -> HttpResponse {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let turned_away = match memory.known.get(key) {
            Some(Known::Taken { id }) => {
                self.screen
                    .correspondent(&format!("{} has that message already: same answer again", contact.name));
                return HttpResponse::Ok().json(json!({ "id": id }));
            }
            Some(Known::TurnedAway { times }) => *times,
            None => 0,
        };
        match script::reception(text) {
            Reception::Refuse => {
                self.screen
                    .correspondent("signature valid; refused it with 422, as it asks for");
                HttpResponse::UnprocessableEntity().json(json!({ "error": "the demo was asked to refuse this one" }))
            }
            Reception::Busy { times } if turned_away < times => {
                memory.keep(key, Known::TurnedAway { times: turned_away + 1 });
                self.screen
                    .correspondent("signature valid; answered 503 with Retry-After: 2, as it asks for");
                HttpResponse::ServiceUnavailable()
                    .insert_header(("retry-after", "2"))
                    .finish()
            }
            Reception::Busy { .. } | Reception::Take => {
                let id = format!("heard-{key}");
                let taken = Taken {
                    contact,
                    id: id.clone(),
                    text: text.to_owned(),
                };
                if self.people.try_send(taken).is_err() {
                    return HttpResponse::ServiceUnavailable()
                        .insert_header(("retry-after", "2"))
                        .finish();
                }
                memory.keep(key, Known::Taken { id: id.clone() });
                self.screen
                    .correspondent(&format!("{} got your message; signature valid", contact.name));
                HttpResponse::Ok().json(json!({ "id": id }))
            }
        }
    }
}

/// Receipts first, then what the script says.
async fn react(courier: Courier, taken: Taken, turn: usize) {
    for (status, pause) in [("receipt.delivered", 300), ("receipt.read", 700)] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let mut receipt = event(status, taken.contact);
        receipt["message"] = json!({ "id": taken.id });
        receipt["at"] = courier.timestamp();
        courier.deliver(receipt).await;
    }
    perform(
        &courier,
        taken.contact,
        Some(taken.id),
        script::answer(&taken.text, turn),
    )
    .await;
}

/// Does what the script says, one step after the other.
async fn perform(courier: &Courier, contact: Contact, heard: Option<String>, steps: Vec<Step>) {
    let mut said = None;
    for step in steps {
        let mut said_now = |message: &mut Value| {
            let id = courier.fresh_id();
            message["id"] = json!(id);
            message["sender"] = json!({ "id": contact.id, "name": contact.name });
            message["sentAt"] = courier.timestamp();
            said = Some(id);
        };
        let event = match step {
            Step::Pause(milliseconds) => {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                continue;
            }
            Step::Typing(milliseconds) => {
                // Seen by sockets only: typing is no step of the stream, so the view below does not show it.
                courier.screen.correspondent(&format!("{} is typing …", contact.name));
                courier.deliver(sender_event("typing", contact)).await;
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                continue;
            }
            Step::Say(text) => {
                let mut message = json!({ "text": text });
                said_now(&mut message);
                with_message("message.received", contact, message)
            }
            Step::Picture { url, text } => {
                let mut message = json!({ "text": text, "type": "image", "mediaUrl": url });
                said_now(&mut message);
                with_message("message.received", contact, message)
            }
            Step::Edit(text) => with_message("message.edited", contact, json!({ "id": said, "text": text })),
            Step::Delete => with_message("message.deleted", contact, json!({ "id": said })),
            Step::React(emoji) | Step::Unreact(emoji) => {
                let Some(heard) = &heard else { continue };
                let name = if matches!(step, Step::React(_)) {
                    "reaction.added"
                } else {
                    "reaction.removed"
                };
                let mut event = sender_event(name, contact);
                event["message"] = json!({ "id": heard });
                event["emoji"] = json!(emoji);
                event
            }
        };
        // Without it a try that is made again later would count as later: see "at" in docs/CUSTOM-CHANNEL.md.
        let mut event = event;
        event["at"] = courier.timestamp();
        courier.deliver(event).await;
    }
}

fn event(name: &str, contact: Contact) -> Value {
    json!({ "type": name, "conversation": { "id": contact.id, "name": contact.name, "participantId": contact.id } })
}

fn with_message(name: &str, contact: Contact, message: Value) -> Value {
    let mut event = event(name, contact);
    event["message"] = message;
    event
}

fn sender_event(name: &str, contact: Contact) -> Value {
    let mut event = event(name, contact);
    event["sender"] = json!({ "id": contact.id, "name": contact.name });
    event
}
