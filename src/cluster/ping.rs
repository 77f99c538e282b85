//! Whether Redis answers, for `doctor`.

use std::time::Duration;

use bb8_redis::redis;
use secrecy::{ExposeSecret, SecretString};

use super::ClusterError;

/// Longest wait for the answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Connects and asks for an answer.
///
/// # Errors
/// [`ClusterError::Address`] with the reason; the address itself is not shown.
pub async fn ping(url: &SecretString) -> Result<(), ClusterError> {
    let client = redis::Client::open(url.expose_secret()).map_err(failed)?;
    let answer = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("PING").query_async::<String>(&mut connection).await
    };
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer.map(drop).map_err(failed),
        Err(_) => Err(ClusterError::Address(format!(
            "no answer within {} s",
            PATIENCE.as_secs()
        ))),
    }
}

fn failed(error: redis::RedisError) -> ClusterError {
    ClusterError::Address(error.to_string())
}
