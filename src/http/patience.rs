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
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, web};
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::Sleep;

use super::AppState;
use super::shape::is_under;

/// Middleware: ends the reading of a body that takes too long, and the connection of one that is answered before it has
/// been read. What a socket sends has no end, and no body.
///
/// # Errors
/// Those of the routes.
pub async fn limit_body_time(
    state: web::Data<AppState>,
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<Answer>, Error> {
    let mut unread = None;
    if !is_under(request.match_info().as_str(), "/ws") {
        let payload = request.take_payload();
        if !matches!(payload, Payload::None) {
            let patience = Duration::from_secs(state.settings.server.body_seconds);
            let shared = Rc::new(RefCell::new(payload));
            let payload = Box::pin(Hurried::new(Rc::clone(&shared), patience));
            request.set_payload(Payload::Stream { payload });
            unread = Some(shared);
        }
    }
    let response = next.call(request).await?;
    Ok(response.map_body(|_, body| Answer { body, _unread: unread }))
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

    #[tokio::test]
    async fn a_body_in_drops_has_an_end() {
        let drops = stream::unfold(0, |number| async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok(Bytes::from_static(b"x")), number + 1))
        });
        let mut body = Hurried::new(shared(Box::pin(drops)), Duration::from_millis(100));
        let mut taken = 0;
        let error = loop {
            match body.next().await.unwrap() {
                Ok(_) => taken += 1,
                Err(error) => break error,
            }
        };
        assert!(is_too_slow(&error), "{error}");
        assert!(taken > 0, "the first drops are taken");
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
