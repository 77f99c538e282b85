//! Logging in.

use std::sync::Arc;

use hub_actors::ports::{LoginAttempt, LoginError, LoginRequest, LoginStep};

use super::Parts;

pub(super) async fn begin(
    _parts: Arc<Parts>,
    _request: LoginRequest,
) -> Result<(Box<dyn LoginAttempt>, LoginStep), LoginError> {
    Err(LoginError::Unreachable)
}
