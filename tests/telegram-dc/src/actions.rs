//! What people other than the client under test do: write, edit, delete, react, read, type; and the
//! holes a test makes in what the client hears of it.

use grammers_tl_types::{self as tl, Serializable as _, enums};

use crate::api::{Done, TelegramDc};
use crate::spec::{
    Delete, Edit, MakeGap, MessageRef, NewEntity, NewHistory, NewMessage, Peer, Placed, React, Read, ReadSide, Typing,
    TypingAction,
};
use crate::tl::{Refusal, now};
use crate::world::{Draft, Place, World};

/// Messages of one seeded history.
const HISTORY: u32 = 100_000;

#[expect(
    clippy::unused_async,
    reason = "one way to call everything, whether it has to wait or not"
)]
impl TelegramDc {
    /// Writes a message as somebody else. Answers every copy.
    pub async fn push_message(&self, message: NewMessage) -> Done<Vec<Placed>> {
        let mut world = self.world();
        let peer = message.peer.ok_or_else(|| Refusal::new(400, "`peer` is missing"))?;
        let (place, from) = world.place_of(message.account, peer, message.from)?;
        let mut draft = Draft::to(place);
        draft.author = from;
        draft.text = message.text;
        draft.entities = message.entities.iter().map(entity).collect::<Done<_>>()?;
        draft.date = message.date;
        draft.service = message.service;
        if let Some(id) = message.reply_to {
            draft.reply = Some(world.uid_of(message.account, peer, id)?);
        }
        if let Some(media) = &message.media {
            draft.file = Some(world.add_media(media)?);
        }
        world.post(draft, message.lost, None)
    }

    /// Gives a chat a past: stored as if it had always been there, without events, so that clients learn
    /// of it only by asking. Answers the copies of the last message.
    pub async fn seed_history(&self, history: NewHistory) -> Done<Vec<Placed>> {
        let mut world = self.world();
        let (place, from) = world.place_of(history.account, history.peer, history.from)?;
        if history.count > HISTORY {
            return Err(Refusal::new(400, format!("at most {HISTORY} messages at once")));
        }
        let count = i32::try_from(history.count).unwrap_or(i32::MAX);
        let first = history.first_date.unwrap_or_else(|| now().saturating_sub(count));
        let mut last = Vec::new();
        for n in 0..count {
            let mut draft = Draft::to(place);
            draft.author = from;
            draft.text = format!("{} {}", history.text, n + 1);
            draft.date = Some(first.saturating_add(n));
            last = world.store(draft)?;
        }
        Ok(last)
    }

    /// Writes several messages at once, in order. Stops at the first that is refused.
    pub async fn push_messages(&self, messages: Vec<NewMessage>) -> Done<Vec<Vec<Placed>>> {
        let mut placed = Vec::with_capacity(messages.len());
        for message in messages {
            placed.push(self.push_message(message).await?);
        }
        Ok(placed)
    }

    /// Changes the text of a message, for everybody.
    pub async fn edit(&self, edit: Edit) -> Done<()> {
        let mut world = self.world();
        let at = edit.message;
        let uid = world.uid_of(at.account, at.peer, at.id)?;
        world.edit(uid, |post| post.text.clone_from(&edit.text), edit.lost, None)
    }

    /// Deletes messages, for everybody.
    pub async fn delete(&self, delete: Delete) -> Done<()> {
        let mut world = self.world();
        let owner = World::owner_of(delete.account.unwrap_or(0), delete.peer);
        world.delete(owner, &delete.ids, true, delete.lost, None).map(drop)
    }

    /// Somebody reacts to a message.
    pub async fn react(&self, react: React) -> Done<()> {
        let mut world = self.world();
        let at = react.message;
        let uid = world.uid_of(at.account, at.peer, at.id)?;
        world.react(uid, react.user, react.emoji.as_deref(), None)
    }

    /// Pins or unpins a message.
    pub async fn pin(&self, at: MessageRef, pinned: bool) -> Done<()> {
        let mut world = self.world();
        let uid = world.uid_of(at.account, at.peer, at.id)?;
        world.pin(uid, pinned, None)
    }

    /// Somebody types.
    pub async fn typing(&self, typing: Typing) -> Done<()> {
        let ((Some(user), _) | (None, Peer::User(user))) = (typing.user, typing.peer) else {
            return Err(Refusal::new(400, "`user` is missing"));
        };
        let action = match typing.action {
            TypingAction::Typing => enums::SendMessageAction::SendMessageTypingAction,
            TypingAction::Cancel => enums::SendMessageAction::SendMessageCancelAction,
            TypingAction::RecordVoice => enums::SendMessageAction::SendMessageRecordAudioAction,
            TypingAction::UploadPhoto => tl::types::SendMessageUploadPhotoAction { progress: 50 }.into(),
        };
        let account = typing.account.unwrap_or(0);
        self.world().typing(account, typing.peer, user, &action, None)
    }

    /// Messages were read, by the account or by the others.
    pub async fn read(&self, read: Read) -> Done<()> {
        let mut world = self.world();
        match read.side {
            ReadSide::Inbox => world.read_inbox(read.account, read.peer, read.max_id, None).map(drop),
            ReadSide::Outbox => world.read_outbox(read.account, read.peer, read.max_id),
        }
    }

    /// Makes a hole in the numbering.
    pub async fn gap(&self, gap: MakeGap) -> Done<()> {
        self.world().gap(gap)
    }

    /// Stores and pushes an encrypted-chat event, which moves qts. Answers qts.
    pub async fn push_encrypted(&self, account: i64) -> Done<i32> {
        self.world().push_qts(account, false)
    }

    /// Tells the members of a channel that they are too far behind (`updateChannelTooLong`).
    pub async fn push_channel_too_long(&self, channel: i64, with_pts: bool) -> Done<()> {
        self.world().push_channel_too_long(channel, with_pts)
    }

    /// Pushes `updatesTooLong` to every device of an account.
    pub async fn push_too_long(&self, account: i64) {
        let mut world = self.world();
        for key in world.keys_of(account) {
            world.send_to_key(key, &enums::Updates::TooLong.to_bytes());
        }
    }
}

fn entity(spec: &NewEntity) -> Done<enums::MessageEntity> {
    let (offset, length) = (spec.offset, spec.length);
    Ok(match spec.kind.as_str() {
        "bold" => tl::types::MessageEntityBold { offset, length }.into(),
        "italic" => tl::types::MessageEntityItalic { offset, length }.into(),
        "code" => tl::types::MessageEntityCode { offset, length }.into(),
        "pre" => {
            let language = String::new();
            tl::types::MessageEntityPre {
                offset,
                length,
                language,
            }
            .into()
        }
        "strike" => tl::types::MessageEntityStrike { offset, length }.into(),
        "url" => tl::types::MessageEntityUrl { offset, length }.into(),
        "link" => {
            let url = spec.url.clone();
            tl::types::MessageEntityTextUrl { offset, length, url }.into()
        }
        other => return Err(Refusal::new(400, format!("no such entity: {other}"))),
    })
}

impl World {
    /// Where a test's message goes and who writes it.
    fn place_of(&self, account: Option<i64>, peer: Peer, from: Option<i64>) -> Done<(Place, Option<i64>)> {
        if let Some(from) = from
            && !self.users.contains_key(&from)
        {
            return Err(Refusal::new(400, format!("there is no user {from}")));
        }
        match peer {
            Peer::User(other) => {
                let account = account.ok_or_else(|| Refusal::new(400, "`account` is missing"))?;
                self.account(account)?;
                let from = from.unwrap_or(other);
                if !self.users.contains_key(&other) || (from != other && from != account) {
                    return Err(Refusal::new(400, "nobody in this chat"));
                }
                Ok((Place::Private(account, other), Some(from)))
            }
            Peer::Chat(id) => Ok((Place::Chat(id), from)),
            Peer::Channel(id) => Ok((Place::Channel(id), from)),
        }
    }

    fn uid_of(&self, account: Option<i64>, peer: Peer, id: i32) -> Done<u64> {
        let account = match (account, peer) {
            (Some(account), _) => account,
            (None, Peer::Channel(_)) => 0,
            _ => return Err(Refusal::new(400, "`account` is missing")),
        };
        self.find(account, peer, id).map(|post| post.uid)
    }
}
