//! How long a client may take to send a body. Without an end, a few slow clients would hold every connection.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::header::TRANSFER_ENCODING;
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, web};
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::Sleep;

use super::AppState;
use super::shape::is_under;

/// Middleware, the outermost, so that no answer is given without it: ends the reading of a body that takes too long, and
/// the connection of one that is answered before it has been read. What a socket sends has no end, and is no body.
///
/// # Errors
/// Those of what is inside.
pub async fn limit_body_time<Body: MessageBody + 'static>(
    state: web::Data<AppState>,
    mut request: ServiceRequest,
    next: Next<Body>,
) -> Result<ServiceResponse<Answer>, Error> {
    let mut unread = None;
    if !is_socket(&request) {
        let payload = request.take_payload();
        if !matches!(payload, Payload::None) {
            let patience = Duration::from_secs(state.settings.server.body_seconds);
            let shared = Rc::new(RefCell::new(payload));
            let payload = Box::pin(Hurried::new(Rc::clone(&shared), patience));
            request.set_payload(Payload::Stream { payload });
            unread = Some(shared);
        }
    }
    match next.call(request).await {
        Ok(response) => Ok(response
            .map_into_boxed_body()
            .map_body(|_, body| Answer { body, _unread: unread })),
        Err(mut error) => {
            // What is answered for the error must hold on to the body as well.
            error.add_response_mapper(move |response| {
                let unread = unread.clone();
                response.map_body(|_, body| BoxBody::new(Answer { body, _unread: unread }))
            });
            Err(error)
        }
    }
}

/// Whether what follows the head are a socket's frames. A chunked body is one, whatever else the head says.
fn is_socket(request: &ServiceRequest) -> bool {
    is_under(request.match_info().as_str(), "/ws")
        && request.head().upgrade()
        && !request.headers().contains_key(TRANSFER_ENCODING)
}

/// The body of an answer, and with it what the handler left unread: `actix-http` waits without end for the rest of a
/// chunked body that was dropped, but closes the connection when it is still held at the end of the answer.
pub struct Answer {
    body: BoxBody,
    _unread: Option<Rc<RefCell<Payload>>>,
}

impl MessageBody for Answer {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}

/// True for the error of a body that took too long.
pub(super) fn is_too_slow(error: &PayloadError) -> bool {
    matches!(error, PayloadError::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

struct Hurried<S> {
    stream: Rc<RefCell<S>>,
    patience: Duration,
    /// Set when the client is waited for: what is here already needs no clock.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Hurried<S> {
    fn new(stream: Rc<RefCell<S>>, patience: Duration) -> Self {
        Self {
            stream,
            patience,
            deadline: None,
        }
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for Hurried<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let piece = Pin::new(&mut *this.stream.borrow_mut()).poll_next(context);
        if piece.is_ready() && this.deadline.is_none() {
            return piece;
        }
        let patience = this.patience;
        let deadline = this
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        // Also when a piece is here: a client that sends one byte each second is as slow as one that sends none.
        if deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(PayloadError::Io(io::ErrorKind::TimedOut.into()))));
        }
        piece
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use futures_util::stream;

    use super::*;

    fn shared<S>(stream: S) -> Rc<RefCell<S>> {
        Rc::new(RefCell::new(stream))
    }

    /// One byte after another, each of which has to be waited for.
    fn drops() -> impl Stream<Item = Result<Bytes, PayloadError>> + Unpin {
        Box::pin(stream::repeat_with(|| Ok(Bytes::from_static(b"x"))).then(|drop| async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            drop
        }))
    }

    #[tokio::test]
    async fn a_body_in_drops_has_an_end() {
        let body = Hurried::new(shared(drops()), Duration::from_millis(30));
        let error = body.filter_map(|drop| async { drop.err() }).boxed_local().next().await;
        assert!(is_too_slow(&error.unwrap()));
        let body = Hurried::new(shared(drops()), Duration::from_hours(1));
        let taken: Vec<_> = body.take(5).map(Result::unwrap).collect().await;
        assert_eq!(taken.len(), 5, "what comes in time is taken");
    }

    #[tokio::test]
    async fn what_is_here_is_read_without_a_clock() {
        let pieces = [Ok(Bytes::from_static(b"a")), Ok(Bytes::from_static(b"b"))];
        let body = Hurried::new(shared(stream::iter(pieces)), Duration::ZERO);
        let read: Vec<_> = body.map(Result::unwrap).collect().await;
        assert_eq!(read, ["a", "b"]);
        let mut silent = Hurried::new(shared(stream::pending()), Duration::from_millis(5));
        assert!(is_too_slow(&silent.next().await.unwrap().unwrap_err()));
    }
}
