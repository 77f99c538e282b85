//! A login under way: it holds the platform's live connection between the steps, until the person is in, gives up, or
//! ten minutes have passed.
//!
//! A login that is lost, because this hub restarted or another one is asked, answers "start again": what it held cannot
//! be stored.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Handler, WrapFuture};
use time::OffsetDateTime;
use tokio::sync::oneshot;

use crate::ids::{AccountId, LoginId, PlatformId, UserId};
use crate::mailbox::{Letter, Receiver};
use crate::ports::{LoginAnswer, LoginAttempt, LoginDone, LoginError, LoginRequest, LoginStep, NewLink};
use crate::supervise::{ChildGuard, ChildSpec};
use crate::tree::{Hub, Tree};

/// How long a person may take for all steps together.
const LIFETIME: Duration = Duration::from_secs(600);
/// Longer than any adapter's own limit for one step.
const STEP_PATIENCE: Duration = Duration::from_secs(50);
/// Logins of one person under way; one more ends the oldest.
const MAX_PER_USER: usize = 3;
/// Logins under way in all: each holds a connection.
const MAX_LOGINS: usize = 1_000;

/// How far a login has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginProgress {
    /// A code was sent.
    Code,
    /// The account has a second password.
    Password,
    /// Scan this, before that time.
    Qr { url: String, expires_at: OffsetDateTime },
    /// The account is linked.
    Done {
        account_id: AccountId,
        /// The account's public name, else the name that the person knows it by.
        username: Option<String>,
    },
}

type Reply = oneshot::Sender<Result<LoginProgress, LoginError>>;

/// What can be asked of a login.
pub enum Command {
    /// Begin.
    Begin {
        user_id: UserId,
        platform: PlatformId,
        request: LoginRequest,
        reply: Reply,
    },
    /// The person's next step. With [`LoginAnswer::Look`] how far it has come.
    Answer {
        user_id: UserId,
        answer: LoginAnswer,
        reply: Reply,
    },
    /// End.
    Stop,
}

/// What a step leaves: the attempt unless it is over, and what came of it.
type Outcome = (Option<Box<dyn LoginAttempt>>, Result<LoginStep, LoginError>);

/// A login.
pub struct Login {
    hub: Arc<Hub>,
    id: LoginId,
    owner: Option<(UserId, PlatformId)>,
    /// The live connection between the steps. None before the first step, after the last, and after a crash.
    attempt: Option<Box<dyn LoginAttempt>>,
    progress: Option<LoginProgress>,
    /// The platform let the person in and this is not stored yet; with the name to show.
    link: Option<(NewLink, Option<String>)>,
    _guard: ChildGuard,
}

/// Makes logins.
pub struct LoginSpec {
    pub(crate) hub: Weak<Hub>,
}

impl ChildSpec for LoginSpec {
    type Key = LoginId;
    type Child = Login;
    const PATH: &'static str = "logins/login";
    const MAILBOX: usize = 16;

    fn build(&self, id: &LoginId, guard: ChildGuard) -> Login {
        Login {
            hub: Hub::upgrade(&self.hub),
            id: *id,
            owner: None,
            attempt: None,
            progress: None,
            link: None,
            _guard: guard,
        }
    }
}

impl Actor for Login {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_later(LIFETIME, |_, context| context.stop());
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        self.hub.logins_under_way.remove(self.id);
    }
}

impl Receiver for Login {
    type Command = Command;

    fn stop() -> Command {
        Command::Stop
    }
}

impl Handler<Letter<Command>> for Login {
    type Result = ();

    fn handle(&mut self, letter: Letter<Command>, context: &mut Self::Context) {
        match letter.open() {
            Command::Begin {
                user_id,
                platform,
                request,
                reply,
            } => {
                self.owner = Some((user_id, platform.clone()));
                let hub = Arc::clone(&self.hub);
                let begin = async move {
                    let adapter = hub.adapters.get(&platform).ok_or(LoginError::Lost)?;
                    adapter.live().ok_or(LoginError::Lost)?.begin_login(request).await
                };
                let work = async move {
                    match tokio::time::timeout(STEP_PATIENCE, begin).await {
                        Ok(Ok((attempt, step))) => (Some(attempt), Ok(step)),
                        Ok(Err(error)) => (None, Err(error)),
                        Err(_) => (None, Err(LoginError::Unreachable)),
                    }
                };
                self.step(work, reply, context);
            }
            Command::Answer { user_id, answer, reply } => self.answer(user_id, answer, reply, context),
            Command::Stop => context.stop(),
        }
    }
}

impl Login {
    fn answer(&mut self, user_id: UserId, answer: LoginAnswer, reply: Reply, context: &mut Context<Self>) {
        if self.owner.as_ref().is_some_and(|(owner, _)| *owner != user_id) {
            return drop(reply.send(Err(LoginError::Lost)));
        }
        if self.link.is_some() {
            return self.store(reply, context);
        }
        // Only a code on a screen changes by itself.
        let is_asked = !matches!(answer, LoginAnswer::Look) || matches!(self.progress, Some(LoginProgress::Qr { .. }));
        if let Some(progress) = &self.progress
            && (!is_asked || matches!(progress, LoginProgress::Done { .. }))
        {
            return drop(reply.send(Ok(progress.clone())));
        }
        let Some(mut attempt) = self.attempt.take() else {
            let _ = reply.send(Err(LoginError::Lost));
            return context.stop();
        };
        let work = async move {
            match tokio::time::timeout(STEP_PATIENCE, attempt.answer(answer)).await {
                Ok(Err(error)) if !error.may_go_on() => (None, Err(error)),
                Ok(result) => (Some(attempt), result),
                // It is not known how far the platform has come.
                Err(_) => (None, Err(LoginError::Lost)),
            }
        };
        self.step(work, reply, context);
    }

    /// One step at a time: what comes meanwhile waits.
    fn step(&self, work: impl Future<Output = Outcome> + 'static, reply: Reply, context: &mut Context<Self>) {
        work.into_actor(self)
            .map(|(attempt, result), login, context| login.stepped(attempt, result, reply, context))
            .wait(context);
    }

    fn stepped(
        &mut self,
        attempt: Option<Box<dyn LoginAttempt>>,
        result: Result<LoginStep, LoginError>,
        reply: Reply,
        context: &mut Context<Self>,
    ) {
        self.attempt = attempt;
        let progress = match result {
            Ok(LoginStep::Code) => LoginProgress::Code,
            Ok(LoginStep::Password) => LoginProgress::Password,
            Ok(LoginStep::Qr { url, expires_at }) => LoginProgress::Qr { url, expires_at },
            Ok(LoginStep::Done(done)) => {
                // Its connection must be gone before the link opens with the same session.
                self.attempt = None;
                self.keep(*done);
                return self.store(reply, context);
            }
            Err(error) => {
                if self.attempt.is_none() {
                    context.stop();
                }
                return drop(reply.send(Err(error)));
            }
        };
        self.progress = Some(progress.clone());
        let _ = reply.send(Ok(progress));
    }

    fn keep(&mut self, done: LoginDone) {
        let Some((user_id, platform)) = self.owner.clone() else {
            return;
        };
        let username = done.username.clone().or_else(|| done.name.clone());
        let link = NewLink {
            user_id,
            platform,
            external_id: done.external_id,
            name: done.username.or(done.name),
            memory: done.memory,
        };
        self.link = Some((link, username));
    }

    /// Stores the account and opens its link. What the platform has granted is kept until that is done.
    fn store(&self, reply: Reply, context: &mut Context<Self>) {
        let Some((link, username)) = self.link.clone() else {
            return drop(reply.send(Err(LoginError::Lost)));
        };
        let hub = Arc::clone(&self.hub);
        let work = async move {
            let account = hub.store.link_account(link).await.map_err(|error| error.to_string())?;
            let tree = Tree::of(hub);
            let linked = tree.account_linked(account.user_id, account.id).await;
            linked.map_err(|error| error.to_string())?;
            Ok(account.id)
        };
        work.into_actor(self)
            .map(|stored: Result<AccountId, String>, login, _context| {
                let result = match stored {
                    Ok(account_id) => {
                        login.link = None;
                        let done = LoginProgress::Done { account_id, username };
                        login.progress = Some(done.clone());
                        // Over for the bounds; it stays to tell so to who looks.
                        login.hub.logins_under_way.remove(login.id);
                        Ok(done)
                    }
                    Err(error) => {
                        tracing::warn!(login_id = %login.id, %error, "a login is not stored yet");
                        Err(LoginError::NotStored)
                    }
                };
                let _ = reply.send(result);
            })
            .wait(context);
    }
}

/// The logins under way on this hub, for the bounds on them.
#[derive(Default)]
pub(crate) struct UnderWay(Mutex<Vec<Entry>>);

struct Entry {
    id: LoginId,
    user_id: UserId,
    /// The phone number, when it is by phone.
    number: Option<String>,
}

impl UnderWay {
    /// Adds a login. Returns those that it replaces, to be ended: one with the same number, and the person's oldest when
    /// there are too many.
    ///
    /// # Errors
    /// [`LoginError::NumberBusy`] and [`LoginError::Busy`].
    pub(crate) fn add(&self, id: LoginId, user_id: UserId, request: &LoginRequest) -> Result<Vec<LoginId>, LoginError> {
        let number = match request {
            LoginRequest::Phone(number) => Some(number.clone()),
            LoginRequest::Qr => None,
        };
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = entries.iter().find(|entry| number.is_some() && entry.number == number);
        if same.is_some_and(|entry| entry.user_id != user_id) {
            return Err(LoginError::NumberBusy);
        }
        let mut replaced: Vec<LoginId> = same.map(|entry| entry.id).into_iter().collect();
        entries.retain(|entry| !replaced.contains(&entry.id));
        while entries.iter().filter(|entry| entry.user_id == user_id).count() >= MAX_PER_USER
            && let Some(oldest) = entries.iter().position(|entry| entry.user_id == user_id)
        {
            replaced.push(entries.remove(oldest).id);
        }
        if entries.len() >= MAX_LOGINS {
            return Err(LoginError::Busy);
        }
        entries.push(Entry { id, user_id, number });
        Ok(replaced)
    }

    /// A login is over.
    pub(crate) fn remove(&self, id: LoginId) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.id != id);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn add(logins: &UnderWay, id: u128, user: u128, number: Option<&str>) -> Result<Vec<u128>, LoginError> {
        let request = number.map_or(LoginRequest::Qr, |number| LoginRequest::Phone(number.to_owned()));
        let replaced = logins.add(LoginId(Uuid::from_u128(id)), UserId(Uuid::from_u128(user)), &request)?;
        Ok(replaced.into_iter().map(|id| id.0.as_u128()).collect())
    }

    #[test]
    fn a_person_has_three_logins_and_a_number_has_one() {
        let logins = UnderWay::default();
        assert_eq!(add(&logins, 1, 1, Some("+1")), Ok(vec![]));
        assert_eq!(add(&logins, 2, 1, Some("+1")), Ok(vec![1]));
        assert_eq!(add(&logins, 3, 2, Some("+1")), Err(LoginError::NumberBusy));
        assert_eq!(add(&logins, 4, 1, None), Ok(vec![]));
        assert_eq!(add(&logins, 5, 1, None), Ok(vec![]));
        assert_eq!(add(&logins, 6, 1, Some("+2")), Ok(vec![2]));
        logins.remove(LoginId(Uuid::from_u128(6)));
        assert_eq!(add(&logins, 7, 2, Some("+2")), Ok(vec![]));
    }

    #[test]
    fn there_is_a_bound_on_all_logins_together() {
        let logins = UnderWay::default();
        for user in 0..MAX_LOGINS as u128 {
            assert_eq!(add(&logins, user, user, None), Ok(vec![]));
        }
        assert_eq!(add(&logins, 5_000, 5_000, None), Err(LoginError::Busy));
    }
}
