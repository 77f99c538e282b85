//! The one module that names `actix-web-actors`.
//!
//! The crate is deprecated upstream and puts no bound on what waits to be written. So the actor writes nothing but
//! control frames through it: everything else goes through the [`Wire`], which counts, and which this module merges
//! into the stream that the actor's context yields.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll, Waker};

use actix::{Actor, StreamHandler};
use actix_http::ws::Codec;
use actix_web::{Error, HttpRequest, HttpResponse, web};
use actix_web_actors::ws;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::task::{ArcWake, AtomicWaker, waker};

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
    Ok(response.streaming(Merged::new(control, wire)))
}

/// Tells whether the actor has something to do: nearly always it is only the wire that has, and looking at the actor costs
/// more than writing a frame.
struct Call {
    is_called: AtomicBool,
    connection: AtomicWaker,
}

impl Default for Call {
    fn default() -> Self {
        Self {
            is_called: AtomicBool::new(true),
            connection: AtomicWaker::new(),
        }
    }
}

impl ArcWake for Call {
    fn wake_by_ref(call: &Arc<Self>) {
        call.is_called.store(true, Ordering::Release);
        call.connection.wake();
    }
}

/// The actor's control frames and the wire's frames, as one stream for the connection. When the actor ends, what waits
/// on the wire, such as a close frame, still goes out.
struct Merged<S> {
    control: Pin<Box<S>>,
    call: Arc<Call>,
    waker: Waker,
    wire: Arc<Wire>,
    actor_has_ended: bool,
}

impl<S> Merged<S> {
    fn new(control: S, wire: Arc<Wire>) -> Self {
        let call = Arc::new(Call::default());
        Self {
            control: Box::pin(control),
            waker: waker(Arc::clone(&call)),
            call,
            wire,
            actor_has_ended: false,
        }
    }
}

impl<S: Stream<Item = Result<Bytes, Error>>> Stream for Merged<S> {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.call.connection.register(context.waker());
        if !this.actor_has_ended && this.call.is_called.swap(false, Ordering::AcqRel) {
            match this
                .control
                .as_mut()
                .poll_next(&mut TaskContext::from_waker(&this.waker))
            {
                Poll::Ready(Some(piece)) => {
                    // There may be more of them.
                    this.call.is_called.store(true, Ordering::Release);
                    return Poll::Ready(Some(piece));
                }
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

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use futures_util::stream::poll_fn;
    use futures_util::task::noop_waker;

    use super::*;

    #[test]
    fn the_actor_is_looked_at_only_when_it_is_called() {
        let (looks, called) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(None)));
        let (counted, kept) = (Rc::clone(&looks), Rc::clone(&called));
        let control = poll_fn(move |context| {
            counted.set(counted.get() + 1);
            *kept.borrow_mut() = Some(context.waker().clone());
            Poll::<Option<Result<Bytes, Error>>>::Pending
        });
        let wire = Arc::new(Wire::new(1_000));
        let mut merged = Merged::new(control, Arc::clone(&wire));
        let mut next = || {
            let polled = Pin::new(&mut merged).poll_next(&mut TaskContext::from_waker(&noop_waker()));
            polled.map(|piece| piece.map(Result::ok))
        };
        assert_eq!((next(), looks.get()), (Poll::Pending, 1));
        wire.push(Bytes::from_static(b"a frame"));
        let frame = Some(Some(Bytes::from_static(b"a frame")));
        assert_eq!((next(), looks.get()), (Poll::Ready(frame), 1));
        assert_eq!((next(), looks.get()), (Poll::Pending, 1));
        called.borrow().as_ref().map(Waker::wake_by_ref);
        assert_eq!((next(), looks.get()), (Poll::Pending, 2));
    }
}
