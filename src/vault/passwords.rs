//! Passwords: bcrypt at cost 12, never on an async thread, and never more at once than there are processors.

use std::sync::LazyLock;
use std::thread::available_parallelism;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

/// The work factor: 2^12 rounds, about a quarter of a second.
const COST: u32 = 12;
/// bcrypt reads no more bytes of a password than these (Provos and Mazières, "A Future-Adaptable Password Scheme").
/// Longer ones are refused rather than silently cut.
pub const MAX_BYTES: usize = 72;
/// Calls that may wait for a processor; more are refused at once.
const MAX_WAITING: usize = 64;
/// What the password of an unknown user is compared with: a hash of the same cost that no known password has.
const NOBODY: &str = "$2b$12$jpBt/AOzffNuXIP365xtQ.3md41XmoMsay9oulEu9T2M5y2KS0G4.";

static RUNNING: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(available_parallelism().map_or(1, std::num::NonZero::get)));
static ADMITTED: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(MAX_WAITING));

/// A password cannot be hashed or checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// More than [`MAX_BYTES`] bytes in UTF-8.
    #[error("Ensure this field has no more than 72 bytes.")]
    TooLong,
    /// Too many others wait: try again shortly.
    #[error("too many sign-ins at once")]
    Busy,
    /// The stored hash is not one of bcrypt, or the blocking pool is gone.
    #[error("the password cannot be checked")]
    Broken,
}

/// Hashes a new password.
///
/// # Errors
/// When it is too long or too many calls wait.
pub async fn hash(password: SecretString) -> Result<String, PasswordError> {
    refuse_long(&password)?;
    run(move || bcrypt::hash(password.expose_secret(), COST)).await
}

/// Whether the password fits the hash. Without a hash (an unknown user) it does the same work and answers false.
///
/// # Errors
/// When the password is too long, too many calls wait, or the hash is damaged.
pub async fn verify(password: SecretString, hash: Option<String>) -> Result<bool, PasswordError> {
    refuse_long(&password)?;
    run(move || {
        let is_known = hash.is_some();
        let hash = hash.as_deref().unwrap_or(NOBODY);
        bcrypt::verify(password.expose_secret(), hash).map(|fits| fits && is_known)
    })
    .await
}

fn refuse_long(password: &SecretString) -> Result<(), PasswordError> {
    if password.expose_secret().len() > MAX_BYTES {
        return Err(PasswordError::TooLong);
    }
    Ok(())
}

async fn run<Answer, Work>(work: Work) -> Result<Answer, PasswordError>
where
    Answer: Send + 'static,
    Work: FnOnce() -> Result<Answer, bcrypt::BcryptError> + Send + 'static,
{
    let admitted = ADMITTED.try_acquire().map_err(|_| PasswordError::Busy)?;
    let running = RUNNING.acquire().await.map_err(|_| PasswordError::Broken)?;
    // The permits go into the work: when the caller hangs up, the processor is busy all the same.
    tokio::task::spawn_blocking(move || {
        let _permits = (admitted, running);
        work()
    })
    .await
    .map_err(|_| PasswordError::Broken)?
    .map_err(|_| PasswordError::Broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text)
    }

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let hash = hash(secret("correct horse")).await.unwrap();
        assert!(hash.starts_with("$2b$12$"), "{hash}");
        assert_eq!(verify(secret("correct horse"), Some(hash.clone())).await, Ok(true));
        assert_eq!(verify(secret("correct horsf"), Some(hash.clone())).await, Ok(false));
        assert_eq!(verify(secret(""), Some(hash)).await, Ok(false));
    }

    #[tokio::test]
    async fn seventy_two_bytes_are_the_limit() {
        let longest = "é".repeat(36);
        let hash = hash(secret(&longest)).await.unwrap();
        assert_eq!(verify(secret(&longest), Some(hash.clone())).await, Ok(true));
        let longer = format!("{longest}x");
        assert_eq!(super::hash(secret(&longer)).await, Err(PasswordError::TooLong));
        assert_eq!(verify(secret(&longer), Some(hash)).await, Err(PasswordError::TooLong));
        assert_eq!(verify(secret(&longer), None).await, Err(PasswordError::TooLong));
    }

    #[tokio::test]
    async fn an_unknown_user_costs_the_same_work() {
        assert_eq!(verify(secret("correct horse"), None).await, Ok(false));
        let parts: bcrypt::HashParts = NOBODY.parse().unwrap();
        assert_eq!(parts.get_cost(), COST);
    }

    #[tokio::test]
    async fn a_damaged_hash_is_an_error() {
        assert_eq!(
            verify(secret("x"), Some("plain".to_owned())).await,
            Err(PasswordError::Broken)
        );
    }
}
