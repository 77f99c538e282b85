//! The list of chats and the messages in them, page by page.

use std::sync::Arc;

use grammers_session::types::PeerId;
use grammers_tl_types::{enums, functions};

use super::errors::CallError;
use super::line::Line;
use super::{heard, peers};

/// Chats or messages in one answer: an answer of more than about a megabyte would break the connection.
pub(super) const PAGE: i32 = 50;
/// Telegram's number of the archive.
const ARCHIVE: i32 = 1;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum HistoryError {
    #[error("this chat is not known")]
    UnknownChat,
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Which messages of a chat.
#[derive(Clone, Copy, Debug)]
pub(super) enum Window {
    Newest,
    /// Older than this one.
    Before(i32),
    /// Newer than this one, beginning with the oldest of them.
    After(i32),
}

/// At most `limit` messages of a chat, oldest first, and whom they mention is learnt.
pub(super) async fn page(
    line: &Line,
    dialog: PeerId,
    window: Window,
    limit: i32,
) -> Result<Vec<enums::Message>, HistoryError> {
    let peer = peers::input(line.session(), dialog).ok_or(HistoryError::UnknownChat)?;
    // See <https://core.telegram.org/api/offsets>: a negative `add_offset` reaches above the anchor.
    let (offset_id, add_offset, min_id) = match window {
        Window::Newest => (0, 0, 0),
        Window::Before(id) => (id, 0, 0),
        Window::After(id) => (id.saturating_add(1), -limit, id),
    };
    let request = functions::messages::GetHistory {
        peer,
        offset_id,
        offset_date: 0,
        add_offset,
        limit,
        max_id: 0,
        min_id,
        hash: 0,
    };
    let answer = line.ask(&request).await?;
    let (mut messages, users, chats) = parts(answer);
    peers::learn(line.session(), &users, &chats);
    messages.sort_by_key(|message| heard::address(message).map(|(_, id)| id));
    Ok(messages)
}

/// What an answer with messages holds.
pub(super) fn parts(answer: enums::messages::Messages) -> (Vec<enums::Message>, Vec<enums::User>, Vec<enums::Chat>) {
    match answer {
        enums::messages::Messages::Messages(answer) => (answer.messages, answer.users, answer.chats),
        enums::messages::Messages::Slice(answer) => (answer.messages, answer.users, answer.chats),
        enums::messages::Messages::ChannelMessages(answer) => (answer.messages, answer.users, answer.chats),
        enums::messages::Messages::NotModified(_) => Default::default(),
    }
}

/// A chat in the list of chats.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) id: PeerId,
    pub(super) top: i32,
    pub(super) read_up_to: i32,
    /// Where a channel's mailbox stands.
    pub(super) pts: Option<i32>,
}

/// The heads among dialogs.
pub(super) fn heads(dialogs: &[enums::Dialog]) -> Vec<Head> {
    let heads = dialogs.iter().filter_map(|dialog| match dialog {
        enums::Dialog::Dialog(dialog) => Some(Head {
            id: peers::id_of(&dialog.peer)?,
            top: dialog.top_message,
            read_up_to: dialog.read_inbox_max_id,
            pts: dialog.pts,
        }),
        enums::Dialog::Folder(_) | enums::Dialog::Community(_) => None,
    });
    heads.collect()
}

/// Goes through the list of chats, the archive last.
pub(super) struct Chats {
    line: Arc<Line>,
    folder: Option<i32>,
    offset: (i32, i32, enums::InputPeer),
    has_archive: bool,
    is_over: bool,
    /// How many chats Telegram says there are.
    pub(super) total: usize,
}

impl Chats {
    pub(super) fn new(line: Arc<Line>) -> Self {
        Self {
            line,
            folder: None,
            offset: (0, 0, enums::InputPeer::Empty),
            has_archive: false,
            is_over: false,
            total: 0,
        }
    }

    /// The next page; none after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Head>>, CallError> {
        if self.is_over {
            if self.folder.is_some() || !self.has_archive {
                return Ok(None);
            }
            self.folder = Some(ARCHIVE);
            self.offset = (0, 0, enums::InputPeer::Empty);
            self.is_over = false;
        }
        let (offset_date, offset_id, offset_peer) = self.offset.clone();
        let request = functions::messages::GetDialogs {
            exclude_pinned: offset_date != 0,
            folder_id: self.folder,
            offset_date,
            offset_id,
            offset_peer,
            limit: PAGE,
            hash: 0,
        };
        let (dialogs, messages, users, chats, count) = match self.line.ask(&request).await? {
            enums::messages::Dialogs::Dialogs(answer) => {
                (answer.dialogs, answer.messages, answer.users, answer.chats, None)
            }
            enums::messages::Dialogs::Slice(answer) => (
                answer.dialogs,
                answer.messages,
                answer.users,
                answer.chats,
                Some(answer.count),
            ),
            enums::messages::Dialogs::NotModified(_) => return Ok(None),
        };
        peers::learn(self.line.session(), &users, &chats);
        self.has_archive |= dialogs.iter().any(|dialog| matches!(dialog, enums::Dialog::Folder(_)));
        let heads = heads(&dialogs);
        if offset_date == 0 {
            let count = count.and_then(|count| usize::try_from(count).ok());
            self.total += count.unwrap_or(heads.len());
        }
        self.is_over = count.is_none() || heads.is_empty() || !self.advance(&heads, &messages);
        Ok(Some(heads))
    }

    /// Moves below the last chat of a page; false when that is not possible.
    fn advance(&mut self, heads: &[Head], messages: &[enums::Message]) -> bool {
        let last = heads.iter().rev().find_map(|head| {
            let date = messages.iter().find_map(|message| {
                let is_top = heard::address(message) == Some((head.id, head.top));
                date(message).filter(|_| is_top)
            })?;
            Some((date, head.top, peers::input(self.line.session(), head.id)?))
        });
        match last {
            Some(last) if (last.0, last.1) != (self.offset.0, self.offset.1) => {
                self.offset = last;
                true
            }
            _ => false,
        }
    }
}

/// When a message was sent, in seconds since 1970.
pub(super) fn date(message: &enums::Message) -> Option<i32> {
    match message {
        enums::Message::Message(message) => Some(message.date),
        enums::Message::Service(message) => Some(message.date),
        enums::Message::Empty(_) => None,
    }
}

/// What is known of these chats now.
pub(super) async fn heads_of(line: &Line, dialogs: &[PeerId]) -> Result<Vec<Head>, CallError> {
    let session = line.session();
    let peers = dialogs.iter().filter_map(|id| peers::input(session, *id));
    let peers = peers.map(|peer| grammers_tl_types::types::InputDialogPeer { peer }.into());
    let request = functions::messages::GetPeerDialogs { peers: peers.collect() };
    let enums::messages::PeerDialogs::Dialogs(answer) = line.ask(&request).await?;
    peers::learn(session, &answer.users, &answer.chats);
    Ok(heads(&answer.dialogs))
}
