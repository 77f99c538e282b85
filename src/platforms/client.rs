//! The one HTTP client that calls platforms: guarded, bounded in time and in what it reads, and following nothing.

use std::error::Error;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Client, Response};

use super::address::{ForbiddenAddress, Guard};

/// How long making a connection may take, name lookup and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What is read of an answer at most, in bytes.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// The client could not be made.
#[derive(Debug, thiserror::Error)]
#[error("no HTTP client can be made (is the package ca-certificates installed?): {0}")]
pub struct ClientError(#[source] reqwest::Error);

/// Why an answer's body is not there.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Longer than the cap.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// The connection broke or the time was up.
    #[error("the answer broke off")]
    BrokeOff(#[source] reqwest::Error),
}

/// A client that gives up after `timeout`, from the first byte of the request to the last byte of the answer.
///
/// # Errors
/// [`ClientError`] when TLS cannot be set up.
pub fn build(timeout: Duration, guard: Guard) -> Result<Client, ClientError> {
    Client::builder()
        .dns_resolver(guard)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(timeout)
        // A redirect would lead past the check of the address, and would carry a signed body to somebody else.
        .redirect(reqwest::redirect::Policy::none())
        // A proxy from the environment would resolve names itself, past the guard.
        .no_proxy()
        .referer(false)
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(8)
        .user_agent(concat!("messaging-hub/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(ClientError)
}

/// Reads an answer's body in chunks and stops at the cap, so that no answer can fill the memory.
///
/// # Errors
/// [`BodyError`] when it is too long or ends early.
pub async fn read_body(mut response: Response, cap: usize) -> Result<Bytes, BodyError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::BrokeOff)? {
        if body.len() + chunk.len() > cap {
            return Err(BodyError::TooLong(cap));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Reads an answer's body into parts of `part` bytes, the last one shorter, and stops at the cap.
///
/// # Errors
/// As [`read_body`].
pub async fn read_parts(mut response: Response, part: usize, cap: usize) -> Result<Vec<Vec<u8>>, BodyError> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut left = cap;
    while let Some(mut chunk) = response.chunk().await.map_err(BodyError::BrokeOff)? {
        left = left.checked_sub(chunk.len()).ok_or(BodyError::TooLong(cap))?;
        while !chunk.is_empty() {
            match parts.last_mut().filter(|last| last.len() < part) {
                Some(last) => last.extend_from_slice(&chunk.split_to(chunk.len().min(part - last.len()))),
                None => parts.push(Vec::with_capacity(part)),
            }
        }
    }
    Ok(parts)
}

/// The guard's refusal, where that is why a request failed.
pub fn forbidden_address(error: &reqwest::Error) -> Option<ForbiddenAddress> {
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(current) = source {
        if let Some(refusal) = current.downcast_ref::<ForbiddenAddress>() {
            return Some(*refusal);
        }
        source = current.source();
    }
    None
}
