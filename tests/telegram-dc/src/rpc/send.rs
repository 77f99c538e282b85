//! Sending: text, media, albums, forwards; every message once per `random_id`.

use std::time::Duration;

use grammers_tl_types::{self as tl, enums, functions as f};
use tokio::time::Instant;

use super::{Cx, media};
use crate::spec::{Peer, RepeatAnswer};
use crate::tl::{Refusal, Rpc, bad, required};
use crate::world::{Draft, Event, Faces, Owner, Place, What, World};

const TEXT_MAX: usize = 4096;
const CAPTION_MAX: usize = 1024;

pub fn send_message(cx: &mut Cx<'_>, call: f::messages::SendMessage) -> Rpc<enums::Updates> {
    if call.message.is_empty() {
        return bad("MESSAGE_EMPTY");
    }
    if call.message.chars().count() > TEXT_MAX {
        return bad("MESSAGE_TOO_LONG");
    }
    let peer = cx.peer(&call.peer)?;
    let mut draft = Draft::to(place(cx.me, peer));
    draft.text = call.message;
    draft.entities = call.entities.unwrap_or_default();
    send(cx, peer, draft, call.reply_to.as_ref(), call.random_id, |_| Ok(None))
}

pub fn send_media(cx: &mut Cx<'_>, call: f::messages::SendMedia) -> Rpc<enums::Updates> {
    if call.message.chars().count() > CAPTION_MAX {
        return bad("MEDIA_CAPTION_TOO_LONG");
    }
    let peer = cx.peer(&call.peer)?;
    let mut draft = Draft::to(place(cx.me, peer));
    draft.text = call.message;
    draft.entities = call.entities.unwrap_or_default();
    let file = |cx: &mut Cx<'_>| media::take(cx, &call.media).map(Some);
    send(cx, peer, draft, call.reply_to.as_ref(), call.random_id, file)
}

/// One message of its own per medium; the album is recognised by `grouped_id`.
pub fn send_multi_media(cx: &mut Cx<'_>, call: f::messages::SendMultiMedia) -> Rpc<enums::Updates> {
    if !(1..=10).contains(&call.multi_media.len()) {
        return bad("MULTI_MEDIA_TOO_LONG");
    }
    let peer = cx.peer(&call.peer)?;
    let grouped = cx.world.number();
    let mut all = Vec::new();
    let mut faces = Faces::default();
    for enums::InputSingleMedia::Media(single) in call.multi_media {
        let mut draft = Draft::to(place(cx.me, peer));
        draft.text = single.message;
        draft.entities = single.entities.unwrap_or_default();
        draft.grouped = Some(grouped);
        let reply_to = call.reply_to.as_ref();
        let file = |cx: &mut Cx<'_>| media::take(cx, &single.media).map(Some);
        let id = place_once(cx, peer, draft, reply_to, single.random_id, file)?;
        all.extend(sent_updates(cx, peer, single.random_id, id, &mut faces)?);
    }
    cx.world.wrap(cx.me, all, &faces, 0)
}

pub fn forward_messages(cx: &mut Cx<'_>, call: f::messages::ForwardMessages) -> Rpc<enums::Updates> {
    if call.id.is_empty() || call.id.len() != call.random_id.len() || call.id.len() > 100 {
        return bad("MESSAGE_IDS_EMPTY");
    }
    let from = cx.peer(&call.from_peer)?;
    let peer = cx.peer(&call.to_peer)?;
    let mut all = Vec::new();
    let mut faces = Faces::default();
    for (id, random_id) in call.id.into_iter().zip(call.random_id) {
        let original = cx.world.find(cx.me, from, id)?.clone();
        let mut draft = Draft::to(place(cx.me, peer));
        draft.text = original.text;
        draft.entities = original.entities;
        draft.file = original.file;
        draft.forward = Some((original.author, original.date));
        let id = place_once(cx, peer, draft, None, random_id, |_| Ok(original.file))?;
        all.extend(sent_updates(cx, peer, random_id, id, &mut faces)?);
    }
    cx.world.wrap(cx.me, all, &faces, 0)
}

/// Where a message of `me` to `peer` goes.
fn place(me: i64, peer: Peer) -> Place {
    match peer {
        Peer::User(id) => Place::Private(me, id),
        Peer::Chat(id) => Place::Chat(id),
        Peer::Channel(id) => Place::Channel(id),
    }
}

fn send(
    cx: &mut Cx<'_>,
    peer: Peer,
    draft: Draft,
    reply_to: Option<&enums::InputReplyTo>,
    random_id: i64,
    file: impl FnOnce(&mut Cx<'_>) -> Rpc<Option<i64>>,
) -> Rpc<enums::Updates> {
    let id = place_once(cx, peer, draft, reply_to, random_id, file)?;
    if let Some(short) = short_answer(cx, peer, id)? {
        return Ok(short);
    }
    let mut faces = Faces::default();
    let updates = sent_updates(cx, peer, random_id, id, &mut faces)?;
    cx.world.wrap(cx.me, updates, &faces, 0)
}

/// Writes the message, or finds the one this `random_id` wrote before.
fn place_once(
    cx: &mut Cx<'_>,
    peer: Peer,
    mut draft: Draft,
    reply_to: Option<&enums::InputReplyTo>,
    random_id: i64,
    file: impl FnOnce(&mut Cx<'_>) -> Rpc<Option<i64>>,
) -> Rpc<i32> {
    if random_id == 0 {
        return bad("RANDOM_ID_EMPTY");
    }
    let owner = World::owner_of(cx.me, peer);
    if let Some(id) = cx.world.already_sent(cx.me, peer, random_id) {
        let gone = !cx.world.mailbox(owner)?.posts.contains_key(&id);
        return match cx.world.config.repeat {
            RepeatAnswer::FirstResult if !gone => Ok(id),
            _ => Err(Refusal::new(500, "RANDOM_ID_DUPLICATE")),
        };
    }
    if let Peer::Channel(id) = peer {
        may_write(cx, id)?;
    }
    if let Some(enums::InputReplyTo::Message(reply)) = reply_to {
        let Ok(post) = cx.world.find(cx.me, peer, reply.reply_to_msg_id) else {
            return bad("REPLY_MESSAGE_ID_INVALID");
        };
        draft.reply = Some(post.uid);
    }
    draft.file = file(cx)?;
    draft.author = Some(cx.me);
    draft.random_id = Some(random_id);
    let placed = cx.world.post(draft, false, Some(cx.conn))?;
    let mine = placed.iter().find(|p| p.account.is_none() || p.account == Some(cx.me));
    let Some(mine) = mine else {
        return bad("PEER_ID_INVALID");
    };
    cx.world.remember_sent(cx.me, peer, random_id, mine.id);
    if let Peer::Channel(id) = peer {
        cx.world.channel_mut(id)?.last_sent.insert(cx.me, Instant::now());
    }
    Ok(mine.id)
}

fn may_write(cx: &Cx<'_>, id: i64) -> Rpc<()> {
    cx.member(id)?;
    let channel = cx.world.channel(id)?;
    let creator = channel.creator == Some(cx.me);
    if channel.broadcast && !creator {
        return Err(Refusal::new(403, "CHAT_WRITE_FORBIDDEN"));
    }
    if let (Some(seconds), Some(last)) = (channel.slowmode, channel.last_sent.get(&cx.me)) {
        let pause = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let left = pause.saturating_sub(last.elapsed());
        if !left.is_zero() && !creator {
            let left = left.as_millis().div_ceil(1000);
            return Err(Refusal::new(420, format!("SLOWMODE_WAIT_{left}")));
        }
    }
    Ok(())
}

/// The event that wrote message `id`; a made-up one if it is no longer kept.
fn event_of(cx: &Cx<'_>, owner: Owner, id: i32) -> Rpc<Event> {
    let mailbox = cx.world.mailbox(owner)?;
    let wrote = |event: &&Event| matches!(event.what, What::New(new) if new == id);
    let event = mailbox.events.iter().rev().find(wrote).cloned();
    Ok(event.unwrap_or(Event {
        pts: mailbox.pts,
        count: 0,
        what: What::New(id),
    }))
}

/// `updateMessageID` and the message itself.
fn sent_updates(cx: &Cx<'_>, peer: Peer, random_id: i64, id: i32, faces: &mut Faces) -> Rpc<Vec<enums::Update>> {
    let owner = World::owner_of(cx.me, peer);
    let event = event_of(cx, owner, id)?;
    let mut updates = vec![tl::types::UpdateMessageId { id, random_id }.into()];
    updates.extend(cx.world.render_update(cx.me, owner, &event, faces)?);
    Ok(updates)
}

/// The short form Telegram uses for plain text to a person.
fn short_answer(cx: &Cx<'_>, peer: Peer, id: i32) -> Rpc<Option<enums::Updates>> {
    let owner = World::owner_of(cx.me, peer);
    let post = cx.world.find(cx.me, peer, id)?;
    let plain = matches!(peer, Peer::User(_)) && post.file.is_none();
    if !cx.world.config.short_sent || !plain {
        return Ok(None);
    }
    let event = event_of(cx, owner, id)?;
    let mut short = required!(tl::types::UpdateShortSentMessage;
        0_i32, id, event.pts, event.count, post.date)?;
    short.out = true;
    short.entities = Some(post.entities.clone()).filter(|list| !list.is_empty());
    Ok(Some(short.into()))
}
