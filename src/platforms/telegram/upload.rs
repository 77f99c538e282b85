//! Brings a file that a person sends by its address to Telegram. See <https://core.telegram.org/api/files>.

use std::time::Duration;

use grammers_tl_types::{self as tl, enums, functions};
use hub_actors::OutboxId;
use hub_actors::domain::{SendError, SendFailure};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::super::address::{self, Guard};
use super::super::client::{self, BodyError};
use super::line::Line;
use super::send::random_id;

/// Largest file taken.
const MAX_BYTES: usize = 50 * 1024 * 1024;
/// Bytes in one part: it divides 512 KiB, and a part is acknowledged soon enough on slow lines.
const PART: usize = 256 * 1024;
/// From this size on, Telegram wants a big file to be told as one.
const BIG: usize = 10 * 1024 * 1024;
/// Largest picture that Telegram shows as one.
const MAX_PHOTO: usize = 10 * 1024 * 1024;
/// Longest file name, in characters.
const MAX_NAME: usize = 120;
/// Files that this hub holds in memory at once, each of at most [`MAX_BYTES`], and those of them that are one account's.
pub(super) const MAX_AT_ONCE: usize = 4;
pub(super) const MAX_OF_ACCOUNT: usize = 1;
/// How long a file waits for its turn; then the try is made again later, and the place of the try is free for another.
const TURN_PATIENCE: Duration = Duration::from_secs(30);

/// How files are fetched.
pub(super) struct Fetch<'a> {
    pub(super) http: &'a Client,
    pub(super) guard: Guard,
    /// The turns of the account, and of the whole hub.
    pub(super) turns: [&'a Semaphore; 2],
}

/// A file that has been fetched.
struct File {
    /// [`PART`] bytes each, the last one what is left.
    parts: Vec<Vec<u8>>,
    mime: String,
    name: String,
}

/// Fetches the file and uploads it.
pub(super) async fn upload(
    line: &Line,
    fetch: &Fetch<'_>,
    url: &str,
    key: OutboxId,
) -> Result<enums::InputMedia, SendError> {
    let _turn = fetch.turn().await?;
    let mut file = fetch.file(url).await?;
    // Parts of the same file under the same number: a repeated try writes over what an earlier one left.
    let id = random_id(key);
    let size = file.size();
    let parts = std::mem::take(&mut file.parts);
    let total = i32::try_from(parts.len()).unwrap_or(i32::MAX);
    let is_big = size > BIG;
    for (number, bytes) in (0..).zip(parts) {
        let saved = if is_big {
            let request = functions::upload::SaveBigFilePart {
                file_id: id,
                file_part: number,
                file_total_parts: total,
                bytes,
            };
            line.ask(&request).await
        } else {
            let request = functions::upload::SaveFilePart {
                file_id: id,
                file_part: number,
                bytes,
            };
            line.ask(&request).await
        };
        // Nothing has been sent yet, whatever became of the part.
        saved.map_err(|error| match error.send_error() {
            error if error.failure == SendFailure::AnswerLost => SendError::new(SendFailure::Unreachable),
            error => error,
        })?;
    }
    Ok(file.media(id, total, size))
}

impl<'a> Fetch<'a> {
    /// Waits until the file may be held in memory, which it may for as long as the turn lasts.
    async fn turn(&self) -> Result<[SemaphorePermit<'a>; 2], SendError> {
        let [account, hub] = self.turns;
        let both = async { Ok([account.acquire().await?, hub.acquire().await?]) };
        match tokio::time::timeout(TURN_PATIENCE, both).await {
            Ok(Ok::<_, tokio::sync::AcquireError>(turn)) => Ok(turn),
            _ => Err(SendError::with_detail(
                SendFailure::Unreachable,
                "other files are still on their way",
            )),
        }
    }

    async fn file(&self, url: &str) -> Result<File, SendError> {
        let url = address::check_url(url, self.guard.allow_private)?;
        let response = self.http.get(url.clone()).send().await.map_err(|error| {
            if client::forbidden_address(&error).is_some() {
                SendError::new(SendFailure::ForbiddenAddress)
            } else {
                SendError::with_detail(SendFailure::Unreachable, "the file could not be fetched")
            }
        })?;
        match response.status() {
            status if status.is_success() => {}
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(SendError::with_detail(
                    SendFailure::Unreachable,
                    "the file could not be fetched",
                ));
            }
            status => {
                let detail = format!("the file could not be fetched: status {}", status.as_u16());
                return Err(SendError::with_detail(SendFailure::Refused, &detail));
            }
        }
        let mime = response.headers().get(CONTENT_TYPE).and_then(|mime| mime.to_str().ok());
        let mime = mime
            .and_then(|mime| mime.split(';').next())
            .map(|mime| mime.trim().to_ascii_lowercase());
        let mime = mime.filter(|mime| mime.contains('/'));
        let mime = mime.unwrap_or_else(|| "application/octet-stream".to_owned());
        let parts = client::read_parts(response, PART, MAX_BYTES)
            .await
            .map_err(|error| match error {
                BodyError::TooLong(_) => SendError::with_detail(SendFailure::Refused, "the file is larger than 50 MiB"),
                BodyError::BrokeOff(_) => SendError::with_detail(SendFailure::Unreachable, "the file broke off"),
            })?;
        if parts.is_empty() {
            return Err(SendError::with_detail(SendFailure::Refused, "the file is empty"));
        }
        let name = url
            .path_segments()
            .and_then(|mut segments| segments.next_back().map(str::to_owned));
        let name: String = name.unwrap_or_default().chars().take(MAX_NAME).collect();
        Ok(File {
            parts,
            mime,
            name: if name.is_empty() { "file".to_owned() } else { name },
        })
    }
}

impl File {
    fn size(&self) -> usize {
        self.parts.iter().map(Vec::len).sum()
    }

    /// What the message says of the file, of which so many parts and bytes were uploaded.
    fn media(self, id: i64, parts: i32, size: usize) -> enums::InputMedia {
        let (is_photo, name) = (self.is_photo(size), self.name.clone());
        let file: enums::InputFile = if size > BIG {
            tl::types::InputFileBig { id, parts, name }.into()
        } else {
            tl::types::InputFile {
                id,
                parts,
                name,
                md5_checksum: String::new(),
            }
            .into()
        };
        if is_photo {
            return tl::types::InputMediaUploadedPhoto {
                spoiler: false,
                live_photo: false,
                file,
                stickers: None,
                ttl_seconds: None,
                video: None,
            }
            .into();
        }
        let name = tl::types::DocumentAttributeFilename { file_name: self.name };
        tl::types::InputMediaUploadedDocument {
            nosound_video: false,
            force_file: false,
            spoiler: false,
            file,
            thumb: None,
            mime_type: self.mime,
            attributes: vec![name.into()],
            stickers: None,
            video_cover: None,
            video_timestamp: None,
            ttl_seconds: None,
        }
        .into()
    }

    /// True for what Telegram shows as a picture.
    fn is_photo(&self, size: usize) -> bool {
        matches!(self.mime.as_str(), "image/jpeg" | "image/png" | "image/webp") && size <= MAX_PHOTO
    }
}
