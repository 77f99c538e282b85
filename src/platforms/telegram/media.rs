//! Streams files from Telegram, in pieces. See <https://core.telegram.org/api/files>.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use grammers_session::types::PeerId;
use grammers_tl_types::{self as tl, enums, functions};
use hub_actors::domain::{SendError, SendFailure};
use hub_actors::ports::{MediaRequest, MediaStream};

use super::attachment::{self, Locator};
use super::errors::CallError;
use super::line::Line;
use super::{history, peers};

/// Bytes in one piece: a divisor of a mebibyte, which no piece may cross, and small enough for one answer.
const PIECE: u64 = 256 * 1024;

/// A file that is being read.
struct Reading {
    line: Arc<Line>,
    locator: Locator,
    /// The next byte wanted, and the first one that is not.
    offset: u64,
    end: u64,
    is_renewed: bool,
    has_moved: bool,
}

/// Opens a file at the part that is asked for. The first piece is fetched at once, so that a file that is gone is an
/// error and not an empty stream.
pub(super) async fn open(line: Arc<Line>, request: &MediaRequest) -> Result<MediaStream, SendError> {
    let locator: Locator = serde_json::from_str(&request.locator)
        .map_err(|_| SendError::with_detail(SendFailure::Refused, "the place of this file cannot be read"))?;
    let end = request.offset.saturating_add(request.length);
    let mut reading = Reading {
        line,
        offset: request.offset,
        end: if locator.size > 0 { end.min(locator.size) } else { end },
        locator,
        is_renewed: false,
        has_moved: false,
    };
    let Some(first) = reading.next().await? else {
        return Ok(stream::empty().boxed());
    };
    let rest = stream::try_unfold(reading, |mut reading| async move {
        let piece = reading.next().await?;
        Ok(piece.map(|piece| (piece, reading)))
    });
    Ok(stream::iter([Ok(first)]).chain(rest).boxed())
}

impl Reading {
    /// The next bytes; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, SendError> {
        if self.offset >= self.end {
            return Ok(None);
        }
        let start = self.offset - self.offset % PIECE;
        let piece = self.piece(start).await?;
        let bytes = Bytes::from(piece);
        let from = usize::try_from(self.offset - start)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let to = usize::try_from(self.end - start).unwrap_or(usize::MAX).min(bytes.len());
        if from >= to {
            // The file is shorter than it says.
            self.offset = self.end;
            return Ok(None);
        }
        self.offset = start + PIECE;
        Ok(Some(bytes.slice(from..to)))
    }

    /// The piece that begins at `start`, wherever the file has gone meanwhile.
    async fn piece(&mut self, start: u64) -> Result<Vec<u8>, SendError> {
        loop {
            let request = functions::upload::GetFile {
                precise: false,
                cdn_supported: false,
                location: self.locator.location(),
                offset: i64::try_from(start).unwrap_or(i64::MAX),
                limit: i32::try_from(PIECE).unwrap_or(i32::MAX),
            };
            let error = match self.ask(&request).await {
                Ok(enums::upload::File::File(file)) => return Ok(file.bytes),
                Ok(enums::upload::File::CdnRedirect(_)) => {
                    return Err(SendError::with_detail(SendFailure::Unsupported, "the file is on a CDN"));
                }
                Err(error) => error,
            };
            let center = error.rpc().filter(|error| error.name == "FILE_MIGRATE");
            let center = center.and_then(|error| i32::try_from(error.value?).ok());
            match center {
                Some(center) if !self.has_moved => {
                    self.has_moved = true;
                    self.locator.center = center;
                }
                _ if error.is("FILE_REFERENCE_*") && !self.is_renewed => {
                    self.is_renewed = true;
                    self.renew().await?;
                }
                _ => return Err(error.send_error()),
            }
        }
    }

    /// Asks the data centre that has the file, which has to be told first who is asking.
    async fn ask(&self, request: &functions::upload::GetFile) -> Result<enums::upload::File, CallError> {
        let is_home = self.line.session().is_home(self.locator.center);
        if is_home {
            return self.line.ask(request).await;
        }
        let center = self.locator.center;
        match self.line.connected.call_in(center, request).await {
            Err(error) if error.rpc().is_some_and(|error| error.code == 401) => {
                self.introduce(center).await?;
                self.line.connected.call_in(center, request).await
            }
            Err(error) if error.rpc().is_none() => self.line.connected.call_in(center, request).await,
            result => result,
        }
    }

    /// Carries the login over to another data centre. See <https://core.telegram.org/api/datacenter>.
    async fn introduce(&self, center: i32) -> Result<(), CallError> {
        let export = functions::auth::ExportAuthorization { dc_id: center };
        let enums::auth::ExportedAuthorization::Authorization(exported) = self.line.ask(&export).await?;
        let import = functions::auth::ImportAuthorization {
            id: exported.id,
            bytes: exported.bytes,
        };
        self.line.connected.call_in(center, &import).await.map(drop)
    }

    /// Gets a new file reference from the message that carries the file.
    async fn renew(&mut self) -> Result<(), SendError> {
        let gone = || SendError::with_detail(SendFailure::Refused, "the message with this file is not there any more");
        let dialog = PeerId::from_bot_api_dialog_id(self.locator.dialog).ok_or_else(gone)?;
        let id = vec![
            tl::types::InputMessageId {
                id: self.locator.message,
            }
            .into(),
        ];
        let answer = if peers::is_channel(dialog) {
            let channel = peers::input_channel(self.line.session(), dialog).ok_or_else(gone)?;
            self.line.ask(&functions::channels::GetMessages { channel, id }).await
        } else {
            self.line.ask(&functions::messages::GetMessages { id }).await
        };
        let (messages, ..) = history::parts(answer.map_err(|error| error.send_error())?);
        // A message that is gone comes as an empty one.
        let found = messages.iter().find_map(|message| match message {
            enums::Message::Message(message) if message.id == self.locator.message => {
                let (_, attachment) = attachment::attachment(message.media.as_ref()?, dialog, message.id)?;
                serde_json::from_str::<Locator>(&attachment.locator).ok()
            }
            _ => None,
        });
        let found = found.filter(|found| found.id == self.locator.id).ok_or_else(gone)?;
        if STANDARD.decode(&found.reference).is_ok() {
            self.locator.reference = found.reference;
        }
        Ok(())
    }
}
