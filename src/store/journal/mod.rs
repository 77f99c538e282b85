//! Group commit: many appends, one transaction, at most three round trips.
//!
//! 1. `BEGIN`, the locks on the users' rows, and everything that the rules will look at, all sent at once.
//! 2. The rules run, in memory.
//! 3. Everything that they changed, and `COMMIT`, all sent at once.

/// True for a message `n` that was seen by who has read up to `v`; see [`hub_actors::domain::ReadUpTo::covers`].
macro_rules! covered {
    () => {
        "CASE WHEN v.number IS NOT NULL AND n.platform_message_id ~ '^[+-]?[0-9]{1,19}$' \
         THEN n.platform_message_id::numeric <= v.number ELSE coalesce(n.sent_at <= v.sent_at, false) END"
    };
}

mod load;
mod rows;
mod save;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::slice;

use hub_actors::domain::{self, Append, Appended, Needs, Workspace};
use hub_actors::ports::{AppendError, StoreError};

use super::Store;
use super::errors::unavailable;
use super::pool::Transaction;
use load::Lock;
use rows::Rows;

/// The answers of a batch, in the order of its appends.
type Answers = Vec<Result<Appended, AppendError>>;

/// Why a transaction was not committed.
enum Trouble {
    /// The moment is to blame: nothing is stored, or perhaps all of it.
    Moment(StoreError),
    /// One of the appends is to blame: nothing is stored.
    Append(String),
    /// Others hold rows that the batch needs, or wait for rows that it holds: nothing is stored.
    Contended(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Failed(text) => Self::Append(text),
            error => Self::Moment(error),
        }
    }
}

impl Store {
    /// See [`hub_actors::ports::Store::commit`]. All of it happens on the thread where the bytes of the connections move:
    /// a batch is a dozen statements, and each answer would wake the caller's thread by a system call.
    pub(super) async fn commit_batch(&self, batch: Vec<Append>) -> Result<Answers, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let store = self.clone();
        let work = self
            .inner
            .pool
            .runtime()
            .spawn(async move { store.commit_here(&batch).await });
        match work.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            Err(error) => Err(StoreError::Unknown(error.to_string())),
        }
    }

    async fn commit_here(&self, batch: &[Append]) -> Result<Answers, StoreError> {
        let mut lock = Lock::Wait;
        let mut result = self.commit_together(batch, lock).await;
        if let Err(Trouble::Contended(error)) = &result {
            // Perhaps for long, by a hub that stands still: the other users do not wait with those.
            tracing::warn!(%error, appends = batch.len(), "rows of a batch are locked; those of other users are tried alone");
            lock = Lock::Skip;
            result = self.commit_together(batch, lock).await;
        }
        match result {
            Ok(answers) => Ok(answers),
            Err(Trouble::Moment(error) | Trouble::Contended(error)) => Err(error),
            Err(Trouble::Append(text)) if batch.len() == 1 => Ok(vec![Err(AppendError::Poison(text))]),
            Err(Trouble::Append(reason)) => {
                tracing::warn!(%reason, appends = batch.len(), "a batch failed; its appends are tried one by one");
                Ok(self.commit_one_by_one(batch, lock).await)
            }
        }
    }

    /// So that one bad append hurts only itself. From here on some appends may be stored and others not, so each has its
    /// own answer also when the database goes away.
    async fn commit_one_by_one(&self, batch: &[Append], lock: Lock) -> Answers {
        let mut answers = Vec::with_capacity(batch.len());
        for append in batch {
            match self.commit_together(slice::from_ref(append), lock).await {
                Ok(answer) => answers.extend(answer),
                Err(Trouble::Contended(error)) => answers.push(Err(AppendError::Store(error))),
                Err(Trouble::Append(text)) => answers.push(Err(AppendError::Poison(text))),
                Err(Trouble::Moment(error)) => {
                    answers.push(Err(AppendError::Store(error)));
                    break;
                }
            }
        }
        answers.resize_with(batch.len(), || {
            Err(AppendError::Store(unavailable(
                "the database went away during the batch",
            )))
        });
        answers
    }

    async fn commit_together(&self, batch: &[Append], lock: Lock) -> Result<Answers, Trouble> {
        let mut needs = Needs::default();
        for append in batch {
            append.add_needs(&mut needs);
        }
        let mut connection = self.connection().await?;
        connection.prepare_list(&load::STATEMENTS).await?;
        connection.prepare_list(&save::STATEMENTS).await?;
        let transaction = Transaction::new(&connection);
        let mut workspace = Workspace::new(self.now());
        load::load(&connection, self.vault(), &needs, lock, &mut workspace).await?;
        // The wait for the locks is over: what is stamped now is stamped in the order of the commits.
        workspace.now = self.now();
        fail::fail_point!("journal.loaded");
        let streams = workspace.streams.clone();
        let answers = apply(&mut workspace, batch, lock)?;
        let rows = Rows::collect(&workspace, &streams, self.vault())?;
        save::save_and_commit(&connection, transaction, &rows).await?;
        Ok(answers)
    }
}

/// A rule that panics may leave the workspace half changed, so the whole transaction goes.
fn apply(workspace: &mut Workspace, batch: &[Append], lock: Lock) -> Result<Answers, Trouble> {
    let mut answers = Vec::with_capacity(batch.len());
    for append in batch {
        if lock == Lock::Skip && !workspace.streams.contains_key(&append.user_id) {
            answers.push(Err(AppendError::Store(unavailable(
                "another hub holds the user's rows",
            ))));
            continue;
        }
        match catch_unwind(AssertUnwindSafe(|| domain::apply(workspace, append))) {
            Ok(answer) => answers.push(answer.map_err(AppendError::Refused)),
            Err(panic) => return Err(Trouble::Append(panic_text(panic.as_ref()))),
        }
    }
    Ok(answers)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a rule panicked: {}", text.unwrap_or("without a message"))
}
