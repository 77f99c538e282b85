//! The parts of a file: those that are kept, and the others from the platform.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use hub_actors::domain::{SendError, SendFailure};
use hub_actors::ports::MediaRequest;
use hub_actors::{AccountId, UserId};

use crate::http::{ApiError, AppState};
use crate::media::PART;
use crate::views::AttachmentId;

/// How long a download waits for its turn.
const TURN_PATIENCE: Duration = Duration::from_secs(30);
/// How long the platform may take for one part.
const PART_PATIENCE: Duration = Duration::from_secs(60);

/// Where a file is.
pub(super) struct Source {
    state: web::Data<AppState>,
    /// Who looks.
    user_id: UserId,
    account_id: AccountId,
    file: String,
    locator: String,
    /// None when the platform does not tell.
    size: Option<u64>,
}

impl Source {
    pub(super) fn new(
        state: &web::Data<AppState>,
        user_id: UserId,
        account_id: AccountId,
        id: AttachmentId,
        locator: String,
        size: Option<u64>,
    ) -> Self {
        Self {
            state: state.clone(),
            user_id,
            account_id,
            file: id.to_string(),
            locator,
            size,
        }
    }

    /// The bytes from `start` to before `end`. The first part is there when this returns, so that an answer begins only
    /// when there is something to answer with.
    pub(super) async fn span(self, start: u64, end: u64) -> Result<Bodies, ApiError> {
        let first = cut(self.part(start / PART).await?, start / PART, start, end);
        let rest = stream::try_unfold((self, start / PART + 1), move |(source, part)| async move {
            if part * PART >= end {
                return Ok(None);
            }
            let bytes = cut(source.part(part).await?, part, start, end);
            Ok(Some((bytes, (source, part + 1))))
        });
        Ok(stream::once(async move { Ok(first) }).chain(rest).boxed_local())
    }

    /// All bytes of a file of unknown size; the connection breaks off when there are more than `max`.
    pub(super) async fn all(self, max: u64) -> Result<Bodies, ApiError> {
        let first = self.part(0).await?;
        let is_whole = (first.len() as u64) < PART;
        let rest = stream::try_unfold((self, 1, is_whole), move |(source, part, is_over)| async move {
            if is_over {
                return Ok(None);
            }
            if part * PART >= max {
                return Err(too_long());
            }
            let bytes = source.part(part).await?;
            let is_last = (bytes.len() as u64) < PART;
            Ok(Some((bytes, (source, part + 1, is_last))))
        });
        Ok(stream::once(async move { Ok(first) }).chain(rest).boxed_local())
    }

    async fn part(&self, part: u64) -> Result<Bytes, ApiError> {
        if let Some(kept) = self.state.media.get(&self.file, part).await {
            return Ok(kept);
        }
        let offset = part * PART;
        let length = self.size.map_or(PART, |size| size.saturating_sub(offset).min(PART));
        let turn = tokio::time::timeout(TURN_PATIENCE, self.state.downloads.take(self.user_id)).await;
        let Ok(Some(_turn)) = turn else {
            return Err(ApiError::busy());
        };
        let fetched = tokio::time::timeout(PART_PATIENCE, self.fetch(offset, length)).await;
        let bytes = fetched.map_err(|_| ApiError::unavailable())?.map_err(refused)?;
        if self.size.is_some() && bytes.len() as u64 != length {
            tracing::warn!(account_id = %self.account_id, "a platform gave less of a file than it had promised");
            return Err(ApiError::unavailable());
        }
        self.state.media.put(&self.file, part, bytes.clone()).await;
        Ok(bytes)
    }

    async fn fetch(&self, offset: u64, length: u64) -> Result<Bytes, SendError> {
        let request = MediaRequest {
            locator: self.locator.clone(),
            offset,
            length,
        };
        let mut stream = self.state.tree.media(self.account_id, request).await?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let mut bytes = BytesMut::new();
        while bytes.len() < length
            && let Some(piece) = stream.next().await
        {
            bytes.extend_from_slice(&piece?);
        }
        bytes.truncate(length);
        Ok(bytes.freeze())
    }
}

/// A body, piece by piece.
pub(super) type Bodies = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, ApiError>>>>;

/// What of a part lies between `start` and `end`.
fn cut(bytes: Bytes, part: u64, start: u64, end: u64) -> Bytes {
    let place = |at: u64| usize::try_from(at.saturating_sub(part * PART)).unwrap_or(usize::MAX);
    let (from, to) = (place(start).min(bytes.len()), place(end).min(bytes.len()));
    bytes.slice(from..to.max(from))
}

fn too_long() -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "TOO_LARGE",
        "The file is larger than the hub serves.",
    )
}

fn refused(error: SendError) -> ApiError {
    match error.failure {
        SendFailure::Refused | SendFailure::Unsupported => {
            ApiError::not_found("MEDIA_NOT_FOUND", "The platform does not have this file any more.")
        }
        SendFailure::RateLimited { after } => ApiError {
            retry_after: Some(after),
            message: error.to_string(),
            ..ApiError::unavailable()
        },
        _ => ApiError {
            message: error.to_string(),
            ..ApiError::unavailable()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_cut_to_what_was_asked() {
        let bytes = Bytes::from_static(b"0123456789");
        assert_eq!(cut(bytes.clone(), 0, 2, 5), "234");
        assert_eq!(cut(bytes.clone(), 1, 2, PART + 3), "012");
        assert_eq!(cut(bytes.clone(), 1, PART + 8, PART + 50), "89");
        assert_eq!(cut(bytes, 1, PART + 50, PART + 60), "");
    }
}
