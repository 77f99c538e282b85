//! The floors: what actix-web does with nothing around it. Each runs as a process of its own, like the hub.
//!
//! * `echo`: a WebSocket actor that sends each text back.
//! * `loop`: what is posted to `/publish` is written, as one frame, to every open socket; one write per message and socket.
//! * `insert`: POST with a JSON body, one single-row autocommit INSERT, 201.
//! * `me`: a JWT check and one SELECT.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use actix::{Actor, StreamHandler};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use actix_web_actors::ws;
use bytes::Bytes;
use futures_util::Stream;
use hub_actors::Clock;
use messaging_hub::vault::tokens::Tokens;
use secrecy::SecretString;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_postgres::{Client, NoTls, Statement};
use uuid::Uuid;

use crate::Outcome;
use crate::hub::JWT_SECRET;

/// Workers, as many as the hub has on two cores.
const WORKERS: usize = 2;
/// Connections of one worker, so that 64 clients never wait for one.
const CONNECTIONS: usize = 32;
/// Frames that may wait for one socket.
const WAITING: usize = 1_024;

const INSERT: &str = "INSERT INTO floor_messages (id, user_id, content, created_at) VALUES ($1, $2, $3, now())";
const SELECT: &str = "SELECT id, email, created_at, updated_at FROM users WHERE id = $1";

/// Runs a floor until it is killed.
pub fn serve(arguments: &[String]) -> Outcome {
    let [kind, url] = arguments else {
        return Err("floor <echo|loop|insert|me> <postgres url>".into());
    };
    let (kind, url) = (kind.clone(), url.clone());
    actix_rt::System::new().block_on(async move {
        let sockets = web::Data::new(Sockets::default());
        let server = HttpServer::new(move || {
            let app = App::new().app_data(sockets.clone());
            match kind.as_str() {
                "echo" => app.route("/", web::get().to(echo)),
                "loop" => app
                    .route("/", web::get().to(open))
                    .route("/publish", web::post().to(publish)),
                kind => {
                    let (statement, path) = if kind == "insert" {
                        (INSERT, "/messages")
                    } else {
                        (SELECT, "/me")
                    };
                    let database = web::Data::new(Database::new(&url, statement));
                    let app = app.app_data(database).app_data(web::Data::new(tokens()));
                    app.route(path, web::post().to(insert)).route(path, web::get().to(me))
                }
            }
        })
        .workers(WORKERS)
        .backlog(4_096)
        .bind("127.0.0.1:0")?;
        for address in server.addrs() {
            println!("listening on http://{address}");
        }
        Ok(server.run().await?)
    })
}

fn tokens() -> Tokens {
    let life = Duration::from_secs(86_400);
    Tokens::new(&SecretString::from(JWT_SECRET), life, life, Clock::system())
}

struct Echo;

impl Actor for Echo {
    type Context = ws::WebsocketContext<Self>;
}

impl StreamHandler<Result<ws::Message, ws::ProtocolError>> for Echo {
    fn handle(&mut self, message: Result<ws::Message, ws::ProtocolError>, context: &mut Self::Context) {
        if let Ok(ws::Message::Text(text)) = message {
            context.text(text);
        }
    }
}

async fn echo(request: HttpRequest, payload: web::Payload) -> actix_web::Result<HttpResponse> {
    ws::start(Echo, &request, payload)
}

#[derive(Default)]
struct Sockets(Mutex<Vec<mpsc::Sender<Bytes>>>);

/// Frames on their way into a socket.
struct Frames {
    receiver: mpsc::Receiver<Bytes>,
    // Dropped, it would end the connection.
    _payload: web::Payload,
}

impl Stream for Frames {
    type Item = actix_web::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context).map(|frame| frame.map(Ok))
    }
}

async fn open(
    request: HttpRequest,
    payload: web::Payload,
    sockets: web::Data<Sockets>,
) -> actix_web::Result<HttpResponse> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let mut response = ws::handshake(&request)?;
    if let Ok(mut sockets) = sockets.0.lock() {
        sockets.push(sender);
    }
    Ok(response.streaming(Frames {
        receiver,
        _payload: payload,
    }))
}

async fn publish(body: Bytes, sockets: web::Data<Sockets>) -> HttpResponse {
    // A whole text frame with a length of 16 bits (RFC 6455, section 5.2).
    let mut frame = vec![0x81, 126];
    frame.extend_from_slice(&u16::try_from(body.len()).unwrap_or_default().to_be_bytes());
    frame.extend_from_slice(&body);
    let frame = Bytes::from(frame);
    if let Ok(sockets) = sockets.0.lock() {
        for socket in sockets.iter() {
            // The generator never lets so many wait.
            let _ = socket.try_send(frame.clone());
        }
    }
    HttpResponse::Ok().finish()
}

/// The connections of one worker, made when they are first needed, each with its one statement prepared.
struct Database {
    url: String,
    sql: &'static str,
    connections: tokio::sync::OnceCell<Vec<(Client, Statement)>>,
    next: Cell<usize>,
}

impl Database {
    fn new(url: &str, sql: &'static str) -> Self {
        Self {
            url: url.to_owned(),
            sql,
            connections: tokio::sync::OnceCell::new(),
            next: Cell::new(0),
        }
    }

    async fn connection(&self) -> actix_web::Result<&(Client, Statement)> {
        let connect = || async {
            let mut connections = Vec::new();
            for _ in 0..CONNECTIONS {
                let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await?;
                actix_rt::spawn(connection);
                let statement = client.prepare(self.sql).await?;
                connections.push((client, statement));
            }
            Ok(connections)
        };
        let connections = self.connections.get_or_try_init(connect).await.map_err(failed)?;
        let next = self.next.get();
        self.next.set((next + 1) % connections.len());
        Ok(&connections[next])
    }
}

fn failed(error: tokio_postgres::Error) -> actix_web::Error {
    actix_web::error::ErrorInternalServerError(error)
}

#[derive(Deserialize)]
struct NewMessage {
    user: Uuid,
    content: String,
}

async fn insert(body: web::Json<NewMessage>, database: web::Data<Database>) -> actix_web::Result<HttpResponse> {
    let (client, statement) = database.connection().await?;
    let id = Uuid::new_v4();
    client
        .execute(statement, &[&id, &body.user, &body.content])
        .await
        .map_err(failed)?;
    Ok(HttpResponse::Created().json(serde_json::json!({ "id": id })))
}

async fn me(
    request: HttpRequest,
    tokens: web::Data<Tokens>,
    database: web::Data<Database>,
) -> actix_web::Result<HttpResponse> {
    let header = request
        .headers()
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    let token = header
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    let claims = tokens.verify_access(token).map_err(actix_web::error::ErrorForbidden)?;
    let (client, statement) = database.connection().await?;
    let row = client.query_one(statement, &[&claims.sub.0]).await.map_err(failed)?;
    let (id, email): (Uuid, &str) = (row.get(0), row.get(1));
    Ok(HttpResponse::Ok().json(serde_json::json!({ "id": id, "email": email })))
}
