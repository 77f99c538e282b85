//! Questions that come while one is being asked share the next statement, as appends share a commit: when thousands of
//! sockets come back at once, they ask the same few things.

use std::future::Future;
use std::time::Duration;

use hub_actors::ports::StoreError;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::errors::unavailable;

/// Questions that may wait; who comes later waits for a place.
const WAITING: usize = 4_096;
/// Questions of one statement.
const BATCH: usize = 1_000;
/// From so many questions at once on, it is a crowd.
const CROWD: usize = 32;

type Asked<Q, A> = (Q, oneshot::Sender<Result<A, StoreError>>);

/// A kind of question.
pub(super) struct Together<Q, A> {
    sender: mpsc::Sender<Asked<Q, A>>,
}

impl<Q: Send + 'static, A: Send + 'static> Together<Q, A> {
    /// `ask` answers many questions, in their order. After a crowd, `pause` lets more of it share the next statement.
    pub fn start<Asking>(runtime: &Handle, pause: Duration, ask: impl Fn(Vec<Q>) -> Asking + Send + 'static) -> Self
    where
        Asking: Future<Output = Result<Vec<A>, StoreError>> + Send,
    {
        let (sender, mut receiver) = mpsc::channel(WAITING);
        runtime.spawn(async move {
            let mut batch: Vec<Asked<Q, A>> = Vec::new();
            while receiver.recv_many(&mut batch, BATCH).await > 0 {
                let (questions, replies): (Vec<Q>, Vec<_>) = batch.drain(..).unzip();
                let crowd = replies.len() >= CROWD;
                match ask(questions).await {
                    Ok(answers) => {
                        for (reply, answer) in replies.into_iter().zip(answers) {
                            // Whoever asked may have stopped waiting.
                            let _ = reply.send(Ok(answer));
                        }
                    }
                    Err(error) => {
                        for reply in replies {
                            let _ = reply.send(Err(error.clone()));
                        }
                    }
                }
                if crowd && !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
        });
        Self { sender }
    }

    /// Asks one question.
    pub async fn ask(&self, question: Q) -> Result<A, StoreError> {
        let (reply, answer) = oneshot::channel();
        let gone = || unavailable("the store is closed");
        self.sender.send((question, reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn questions_that_wait_share_a_statement_and_each_gets_its_answer() {
        let statements = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&statements);
        let doubled = Together::start(&Handle::current(), Duration::ZERO, move |questions: Vec<usize>| {
            seen.lock().unwrap().push(questions.len());
            async move { Ok(questions.into_iter().map(|number| number * 2).collect()) }
        });
        let answers = futures_util::future::join_all((0..100).map(|number| doubled.ask(number))).await;
        for (number, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.unwrap(), number * 2);
        }
        assert_eq!(*statements.lock().unwrap(), [100]);
    }

    #[tokio::test]
    async fn an_error_is_everybodys() {
        let failing = Together::start(&Handle::current(), Duration::ZERO, |_: Vec<usize>| async {
            Err::<Vec<usize>, _>(unavailable("away"))
        });
        let answers = futures_util::future::join_all((0..3).map(|number| failing.ask(number))).await;
        assert!(answers.iter().all(Result::is_err));
    }
}
