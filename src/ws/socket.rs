//! The socket actor: it listens to its user's session, answers commands, and notices when its client is gone.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, StreamHandler, WrapFuture};
use actix_web::web;
use hub_actors::ConversationId;
use hub_actors::clock::instant;
use hub_actors::domain::StreamPosition;
use hub_actors::ports::{Frames, SocketOutlet};
use hub_actors::session::{CloseReason, SocketNumber};
use rand::RngExt;
use serde_json::json;

use super::codes::CloseCode;
use super::commands::{self, Act};
use super::transport::{Context, Message, ProtocolError};
use super::wire::Wire;
use crate::http::{AppState, session_is_live};
use crate::vault::tokens::Claims;
use crate::views::frames::text_frame;

/// Commands of one socket that may wait for their turn or their answer.
const MAX_IN_FLIGHT: usize = 64;
/// How often a socket makes sure that its session still lives; a sign-out on this hub is told at once.
const SESSION_CHECK: Duration = Duration::from_secs(600);
/// Pings without an answer after which the client is gone.
const SILENT_PINGS: u32 = 3;
/// How long a closing socket waits for its client to take the close frame.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// One open WebSocket.
pub(super) struct Socket {
    state: web::Data<AppState>,
    claims: Claims,
    since: Option<StreamPosition>,
    wire: Arc<Wire>,
    number: Option<SocketNumber>,
    in_flight: usize,
    /// What waits for an earlier command of its conversation, so that each conversation's are carried out in their order.
    waiting: HashMap<ConversationId, VecDeque<Act>>,
    heard_at: Instant,
}

impl Socket {
    pub(super) fn new(
        state: web::Data<AppState>,
        claims: Claims,
        since: Option<StreamPosition>,
        wire: Arc<Wire>,
    ) -> Self {
        metrics::gauge!("hub_sockets").increment(1.0);
        Self {
            state,
            claims,
            since,
            wire,
            number: None,
            in_flight: 0,
            waiting: HashMap::new(),
            heard_at: instant(),
        }
    }

    fn close(&mut self, code: CloseCode, context: &mut Context<Self>) {
        if self.wire.close(code) {
            context.run_later(CLOSE_PATIENCE, |_, context| context.stop());
        }
    }

    /// Asks the user's session for the stream.
    fn listen(&mut self, context: &mut Context<Self>) {
        let outlet = Outlet {
            wire: Arc::clone(&self.wire),
            user_id: self.claims.sub.to_string(),
            email: self.claims.email.clone(),
        };
        let tree = self.state.tree.clone();
        let (user_id, session_id, since) = (self.claims.sub, self.claims.sid, self.since.take());
        let work = async move { tree.listen(user_id, session_id, since, Box::new(outlet)).await };
        context.spawn(work.into_actor(self).map(|number, socket, context| match number {
            Ok(number) => {
                socket.number = Some(number);
                // From here on a sign-out is heard. One that came during the handshake is asked for.
                socket.check_session(context);
            }
            Err(error) => {
                tracing::warn!(user_id = %socket.claims.sub, %error, "a socket could not listen");
                socket.close(CloseCode::Restart, context);
            }
        }));
    }

    fn watch_client(&mut self, context: &mut Context<Self>) {
        let interval = Duration::from_secs(self.state.settings.websocket.ping_seconds);
        context.run_interval(interval, move |socket, context| {
            if socket.heard_at.elapsed() > interval * SILENT_PINGS {
                socket.wire.close(CloseCode::Silent);
                context.stop();
            } else {
                context.ping(b"");
            }
        });
    }

    /// Ends the socket if its session is over, else asks again later, at a random moment, so that sockets that came
    /// together do not ask together.
    fn check_session(&mut self, context: &mut Context<Self>) {
        let (state, session_id) = (self.state.clone(), self.claims.sid);
        let work = async move { session_is_live(&state, session_id).await };
        context.spawn(work.into_actor(self).map(|is_live, socket, context| {
            match is_live {
                Ok(true) => {}
                Ok(false) => return socket.close(CloseCode::SessionEnded, context),
                Err(error) => tracing::warn!(%error, "a socket could not check its session"),
            }
            let delay = SESSION_CHECK.mul_f64(0.5 + rand::rng().random::<f64>() / 2.0);
            context.run_later(delay, Self::check_session);
        }));
    }

    fn command(&mut self, text: &str, context: &mut Context<Self>) {
        let act = match commands::parse(text) {
            Ok(commands::Command::Ping { timestamp }) => {
                let pong = json!({ "event": "pong", "timestamp": timestamp });
                self.wire.push(text_frame(&pong));
                return;
            }
            Ok(commands::Command::Act(act)) => act,
            Err(error) => {
                self.wire.push(text_frame(&error.to_frame()));
                return;
            }
        };
        if self.in_flight >= MAX_IN_FLIGHT {
            return self.close(CloseCode::Flood, context);
        }
        fail::fail_point!("socket.parsed");
        self.in_flight += 1;
        self.wire.use_now();
        match self.waiting.entry(act.conversation_id) {
            Entry::Occupied(mut queue) => queue.get_mut().push_back(act),
            Entry::Vacant(place) => {
                place.insert(VecDeque::new());
                self.carry_out(act, context);
            }
        }
    }

    /// Carries a command out, and then the next one of its conversation.
    fn carry_out(&mut self, act: Act, context: &mut Context<Self>) {
        let conversation_id = act.conversation_id;
        let (state, claims) = (self.state.clone(), self.claims.clone());
        let work = async move { commands::run(&state, &claims, act).await };
        context.spawn(work.into_actor(self).map(move |answer, socket, context| {
            socket.in_flight -= 1;
            fail::fail_point!("socket.before_answer");
            match answer {
                Some(answer) => drop(socket.wire.push(text_frame(&answer))),
                None => socket.close(CloseCode::SessionEnded, context),
            }
            if !socket.wire.is_open() {
                return socket.waiting.clear();
            }
            let queue = socket.waiting.get_mut(&conversation_id);
            match queue.and_then(VecDeque::pop_front) {
                Some(next) => socket.carry_out(next, context),
                None => drop(socket.waiting.remove(&conversation_id)),
            }
        }));
    }
}

impl Actor for Socket {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.listen(context);
        self.watch_client(context);
    }

    fn stopped(&mut self, _context: &mut Self::Context) {
        if let Some(number) = self.number {
            self.state.tree.socket_closed(self.claims.sub, number);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        metrics::gauge!("hub_sockets").decrement(1.0);
    }
}

impl StreamHandler<Result<Message, ProtocolError>> for Socket {
    fn handle(&mut self, message: Result<Message, ProtocolError>, context: &mut Self::Context) {
        self.heard_at = instant();
        match message {
            // A client that is being sent away may not read that; it is not obeyed any more.
            Ok(Message::Text(_)) if !self.wire.is_open() => {}
            Ok(Message::Text(text)) => self.command(&text, context),
            Ok(Message::Ping(payload)) => context.pong(&payload),
            Ok(Message::Pong(_) | Message::Nop) => {}
            Ok(Message::Close(reason)) => {
                context.close(reason);
                context.stop();
            }
            Ok(Message::Binary(_) | Message::Continuation(_)) | Err(_) => self.close(CloseCode::Protocol, context),
        }
    }

    fn finished(&mut self, context: &mut Self::Context) {
        context.stop();
    }
}

/// The session's end of the wire.
struct Outlet {
    wire: Arc<Wire>,
    user_id: String,
    email: String,
}

impl SocketOutlet for Outlet {
    fn push(&self, frames: Frames) -> bool {
        self.wire.push(frames.bytes)
    }

    fn opened(&self, position: StreamPosition, recovered: bool) -> bool {
        let frame = json!({
            "event": "authenticated",
            "data": {
                "userId": self.user_id,
                "email": self.email,
                "realtime": true,
                "epoch": position.epoch,
                "seq": position.seq,
                "recovered": recovered,
            },
        });
        self.wire.push(text_frame(&frame))
    }

    fn waiting_bytes(&self) -> usize {
        self.wire.waiting_bytes()
    }

    fn used_at(&self) -> Instant {
        self.wire.used_at()
    }

    fn close(&self, reason: CloseReason) {
        self.wire.close(reason.into());
    }
}
