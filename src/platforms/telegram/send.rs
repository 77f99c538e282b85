//! Sends through an open link: each action is one call, and the same `random_id` at every try.

use grammers_session::types::PeerId;
use grammers_tl_types::{self as tl, enums, functions};
use hub_actors::domain::{OutboundAction, Receipt, SendError, SendFailure};
use hub_actors::ports::Outbound;
use hub_actors::{ExternalId, OutboxId};
use sha2::{Digest, Sha256};

use super::errors::CallError;
use super::heard;
use super::history::{self, Window};
use super::line::Line;
use super::upload::{self, Fetch};
use super::{markdown, peers};

/// How far back an own message is looked for whose number was lost.
const SEARCHED: i32 = 30;

/// Makes one try.
pub(super) async fn send(line: &Line, fetch: &Fetch<'_>, outbound: &Outbound) -> Result<Receipt, SendError> {
    let dialog = peers::parse(&outbound.conversation).ok_or_else(unknown_chat)?;
    let peer = peers::input(line.session(), dialog).ok_or_else(unknown_chat)?;
    match &outbound.action {
        OutboundAction::Send {
            text,
            media_url,
            reply_to,
            ..
        } => {
            let reply_to = reply_to.as_ref().map(number).transpose()?;
            let random_id = random_id(outbound.key);
            let (plain, entities) = markdown::from_markdown(text);
            let message = Message {
                peer,
                reply_to: reply_to.map(reply),
                plain,
                entities: Some(entities).filter(|entities| !entities.is_empty()),
                random_id,
            };
            let sent = match media_url {
                None => line.call(&message.text()).await,
                Some(url) => {
                    let media = upload::upload(line, fetch, url, outbound.key).await?;
                    let own_text = message.plain.clone();
                    let sent = line.call(&message.media(media)).await;
                    return receipt(line, dialog, random_id, &own_text, sent).await;
                }
            };
            let (plain, _) = markdown::from_markdown(text);
            receipt(line, dialog, random_id, &plain, sent).await
        }
        OutboundAction::Edit { message, text } => {
            let (plain, entities) = markdown::from_markdown(text);
            let request = functions::messages::EditMessage {
                no_webpage: false,
                invert_media: false,
                peer,
                id: number(message)?,
                message: Some(plain),
                media: None,
                reply_markup: None,
                entities: Some(entities).filter(|entities| !entities.is_empty()),
                schedule_date: None,
                schedule_repeat_period: None,
                quick_reply_shortcut_id: None,
                rich_message: None,
            };
            // It says so already: an earlier try got through.
            settle(line.call(&request).await, "MESSAGE_NOT_MODIFIED")
        }
        OutboundAction::Delete { message } => {
            let id = vec![number(message)?];
            match peers::input_channel(line.session(), dialog) {
                Some(channel) => settle(
                    line.call(&functions::channels::DeleteMessages { channel, id }).await,
                    "",
                ),
                None => settle(
                    line.call(&functions::messages::DeleteMessages { revoke: true, id })
                        .await,
                    "",
                ),
            }
        }
        OutboundAction::React {
            message,
            emoji,
            is_active,
        } => {
            let reaction: enums::Reaction = tl::types::ReactionEmoji {
                emoticon: emoji.clone(),
            }
            .into();
            let request = functions::messages::SendReaction {
                big: false,
                add_to_recent: false,
                peer,
                msg_id: number(message)?,
                reaction: is_active.then(|| vec![reaction]),
            };
            settle(line.call(&request).await, "MESSAGE_NOT_MODIFIED")
        }
        OutboundAction::Read { message } => {
            let max_id = number(message)?;
            match peers::input_channel(line.session(), dialog) {
                Some(channel) => settle(
                    line.call(&functions::channels::ReadHistory { channel, max_id }).await,
                    "",
                ),
                None => settle(line.call(&functions::messages::ReadHistory { peer, max_id }).await, ""),
            }
        }
    }
}

/// Tells that the person is writing; whether it arrives does not matter.
pub(super) async fn typing(line: &Line, conversation: &ExternalId) {
    let peer = peers::parse(conversation).and_then(|id| peers::input(line.session(), id));
    let Some(peer) = peer else { return };
    let request = functions::messages::SetTyping {
        peer,
        top_msg_id: None,
        action: enums::SendMessageAction::SendMessageTypingAction,
    };
    // A flood of them is no reason to stop the account's messages.
    let outcome = line.connected.call(&request).await;
    tracing::debug!(arrived = outcome.is_ok(), "typing notice");
}

/// Telegram's key of a message: the same for every try of an outbox entry, and never zero.
pub(super) fn random_id(key: OutboxId) -> i64 {
    let digest = Sha256::digest(key.0.as_bytes());
    let number = digest.first_chunk().map_or(1, |bytes| i64::from_be_bytes(*bytes));
    if number == 0 { 1 } else { number }
}

/// What a message consists of.
struct Message {
    peer: enums::InputPeer,
    reply_to: Option<enums::InputReplyTo>,
    plain: String,
    entities: Option<Vec<enums::MessageEntity>>,
    random_id: i64,
}

impl Message {
    fn text(self) -> functions::messages::SendMessage {
        functions::messages::SendMessage {
            no_webpage: false,
            silent: false,
            background: false,
            clear_draft: false,
            noforwards: false,
            update_stickersets_order: false,
            invert_media: false,
            allow_paid_floodskip: false,
            peer: self.peer,
            reply_to: self.reply_to,
            message: self.plain,
            random_id: self.random_id,
            reply_markup: None,
            entities: self.entities,
            schedule_date: None,
            schedule_repeat_period: None,
            send_as: None,
            quick_reply_shortcut: None,
            effect: None,
            allow_paid_stars: None,
            suggested_post: None,
            rich_message: None,
        }
    }

    fn media(self, media: enums::InputMedia) -> functions::messages::SendMedia {
        functions::messages::SendMedia {
            silent: false,
            background: false,
            clear_draft: false,
            noforwards: false,
            update_stickersets_order: false,
            invert_media: false,
            allow_paid_floodskip: false,
            peer: self.peer,
            reply_to: self.reply_to,
            media,
            message: self.plain,
            random_id: self.random_id,
            reply_markup: None,
            entities: self.entities,
            schedule_date: None,
            schedule_repeat_period: None,
            send_as: None,
            quick_reply_shortcut: None,
            effect: None,
            allow_paid_stars: None,
            suggested_post: None,
        }
    }
}

fn reply(reply_to_msg_id: i32) -> enums::InputReplyTo {
    tl::types::InputReplyToMessage {
        reply_to_msg_id,
        top_msg_id: None,
        reply_to_peer_id: None,
        quote_text: None,
        quote_entities: None,
        quote_offset: None,
        monoforum_peer_id: None,
        todo_item_id: None,
        poll_option: None,
    }
    .into()
}

/// The receipt of a message that was sent, now or by an earlier try.
async fn receipt(
    line: &Line,
    dialog: PeerId,
    random_id: i64,
    plain: &str,
    sent: Result<enums::Updates, CallError>,
) -> Result<Receipt, SendError> {
    let id = match sent {
        Ok(updates) => sent_id(&updates, random_id),
        Err(error) if error.is("RANDOM_ID_DUPLICATE") => find_own(line, dialog, plain).await,
        Err(error) => return Err(error.send_error()),
    };
    Ok(Receipt {
        external_id: id.map(|id| id.to_string().into()),
    })
}

/// The number that the message got.
fn sent_id(updates: &enums::Updates, random_id: i64) -> Option<i32> {
    let list = match updates {
        enums::Updates::UpdateShortSentMessage(sent) => return Some(sent.id),
        enums::Updates::Updates(updates) => &updates.updates,
        enums::Updates::Combined(updates) => &updates.updates,
        _ => return None,
    };
    list.iter().find_map(|update| match update {
        enums::Update::MessageId(named) if named.random_id == random_id => Some(named.id),
        _ => None,
    })
}

/// An earlier try was taken, but its answer with the number was lost. The chat's newest own message with this text is
/// it: within a chat, messages go out one after the other.
async fn find_own(line: &Line, dialog: PeerId, plain: &str) -> Option<i32> {
    let messages = history::page(line, dialog, Window::Newest, SEARCHED).await.ok()?;
    let own = messages.iter().rev().find(|message| match message {
        enums::Message::Message(message) => message.out && message.message == plain,
        _ => false,
    });
    own.and_then(heard::address).map(|(_, id)| id)
}

/// The outcome of what has no number; `done` is what Telegram says when it was done before.
fn settle<T>(result: Result<T, CallError>, done: &str) -> Result<Receipt, SendError> {
    match result {
        Ok(_) => Ok(Receipt::default()),
        Err(error) if !done.is_empty() && error.is(done) => Ok(Receipt::default()),
        Err(error) => Err(error.send_error()),
    }
}

fn number(message: &ExternalId) -> Result<i32, SendError> {
    let number = message.as_str().parse().ok();
    number.ok_or_else(|| SendError::with_detail(SendFailure::Refused, "this is no message of Telegram's"))
}

fn unknown_chat() -> SendError {
    SendError::with_detail(SendFailure::Refused, "this chat is not known to the account")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_id_follows_from_the_key_alone() {
        let key = |number| OutboxId(uuid::Uuid::from_u128(number));
        assert_eq!(random_id(key(1)), random_id(key(1)));
        assert_ne!(random_id(key(1)), random_id(key(2)));
        // A change of this would send messages twice that were under way during an update of the hub.
        assert_eq!(random_id(key(7)), 7_759_212_223_035_036_362);
    }
}
