//! The one module that names `actix-web-actors`.
//!
//! The crate is deprecated upstream and puts no bound on what waits to be written. So the actor writes nothing but
//! control frames through it: everything else goes through the [`Wire`], which counts, and which this module merges
//! into the stream that the actor's context yields.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use actix::{Actor, StreamHandler};
use actix_http::ws::Codec;
use actix_web::{Error, HttpRequest, HttpResponse, web};
use actix_web_actors::ws;
use bytes::Bytes;
use futures_util::Stream;

use super::guard::Guarded;
use super::wire::Wire;

pub(super) use actix_web_actors::ws::{Message, ProtocolError};

/// The context of a socket actor.
pub(super) type Context<A> = ws::WebsocketContext<A>;

/// Answers the handshake and starts the actor on this HTTP worker's arbiter.
///
/// # Errors
/// When the request is not a WebSocket handshake (RFC 6455, section 4.2.1).
pub(super) fn start<A>(
    actor: A,
    wire: Arc<Wire>,
    request: &HttpRequest,
    payload: web::Payload,
    max_frame_bytes: usize,
) -> Result<HttpResponse, Error>
where
    A: Actor<Context = Context<A>> + StreamHandler<Result<Message, ProtocolError>>,
{
    let mut response = ws::handshake_with_protocols(request, &["bearer"])?;
    let codec = Codec::new().max_size(max_frame_bytes);
    let control = ws::WebsocketContext::with_codec(actor, Guarded::new(payload, max_frame_bytes), codec);
    Ok(response.streaming(Merged {
        control: Box::pin(control),
        wire,
        actor_has_ended: false,
    }))
}

/// The actor's control frames and the wire's frames, as one stream for the connection. When the actor ends, what waits
/// on the wire, such as a close frame, still goes out.
struct Merged<S> {
    control: Pin<Box<S>>,
    wire: Arc<Wire>,
    actor_has_ended: bool,
}

impl<S: Stream<Item = Result<Bytes, Error>>> Stream for Merged<S> {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if !this.actor_has_ended {
            match this.control.as_mut().poll_next(context) {
                Poll::Ready(Some(piece)) => return Poll::Ready(Some(piece)),
                Poll::Ready(None) => this.actor_has_ended = true,
                Poll::Pending => {}
            }
        }
        match this.wire.poll_next(context) {
            Poll::Pending if this.actor_has_ended => Poll::Ready(None),
            next => next.map(|piece| piece.map(Ok)),
        }
    }
}

impl<S> Drop for Merged<S> {
    fn drop(&mut self) {
        self.wire.gone();
    }
}
