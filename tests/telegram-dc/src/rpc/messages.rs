//! What is done to messages: edit, delete, read, react, pin, and typing.

use grammers_tl_types::{self as tl, enums, functions as f};

use super::{Cx, media};
use crate::spec::{Peer, Service};
use crate::tl::{Refusal, Rpc, bad};
use crate::world::{Draft, Faces, Owner, Place, World};

/// The newest event of the caller's box for `peer`, as an answer.
fn last_event(cx: &Cx<'_>, owner: Owner) -> Rpc<enums::Updates> {
    let mut faces = Faces::default();
    let event = cx.world.mailbox(owner)?.events.back().cloned();
    let update = match event {
        Some(event) => cx.world.render_update(cx.me, owner, &event, &mut faces)?,
        None => None,
    };
    cx.world.wrap(cx.me, update.into_iter().collect(), &faces, 0)
}

pub fn edit_message(cx: &mut Cx<'_>, call: f::messages::EditMessage) -> Rpc<enums::Updates> {
    let peer = cx.peer(&call.peer)?;
    let post = cx.world.find(cx.me, peer, call.id)?.clone();
    if post.author != Some(cx.me) || post.service.is_some() {
        return Err(Refusal::new(403, "MESSAGE_AUTHOR_REQUIRED"));
    }
    let file = match &call.media {
        Some(media) => Some(media::take(cx, media)?),
        None => post.file,
    };
    let text = call.message.unwrap_or_else(|| post.text.clone());
    let entities = call.entities.unwrap_or_default();
    if text == post.text && entities == post.entities && file == post.file {
        return bad("MESSAGE_NOT_MODIFIED");
    }
    if text.is_empty() && file.is_none() {
        return bad("MESSAGE_EMPTY");
    }
    let change = |post: &mut crate::world::Post| {
        post.text.clone_from(&text);
        post.entities.clone_from(&entities);
        post.file = file;
    };
    cx.world.edit(post.uid, change, false, Some(cx.conn))?;
    last_event(cx, World::owner_of(cx.me, peer))
}

pub fn delete_messages(cx: &mut Cx<'_>, call: f::messages::DeleteMessages) -> Rpc<enums::messages::AffectedMessages> {
    let owner = Owner::Account(cx.me);
    let (pts_count, pts) = cx.world.delete(owner, &call.id, call.revoke, false, Some(cx.conn))?;
    Ok(tl::types::messages::AffectedMessages { pts, pts_count }.into())
}

pub fn delete_channel_messages(
    cx: &mut Cx<'_>,
    call: f::channels::DeleteMessages,
) -> Rpc<enums::messages::AffectedMessages> {
    let id = cx.channel(&call.channel)?;
    cx.member(id)?;
    let channel = cx.world.channel(id)?;
    let foreign = |id: &i32| {
        channel
            .mailbox
            .posts
            .get(id)
            .is_some_and(|post| post.author != Some(cx.me))
    };
    if channel.creator != Some(cx.me) && call.id.iter().any(foreign) {
        return Err(Refusal::new(403, "MESSAGE_DELETE_FORBIDDEN"));
    }
    let owner = Owner::Channel(id);
    let (pts_count, pts) = cx.world.delete(owner, &call.id, true, false, Some(cx.conn))?;
    Ok(tl::types::messages::AffectedMessages { pts, pts_count }.into())
}

pub fn delete_history(cx: &mut Cx<'_>, call: f::messages::DeleteHistory) -> Rpc<enums::messages::AffectedHistory> {
    let peer = cx.peer(&call.peer)?;
    let owner = Owner::Account(cx.me);
    let ids: Vec<_> = cx
        .world
        .mailbox(owner)?
        .ids(peer)
        .filter(|id| call.max_id == 0 || *id <= call.max_id)
        .collect();
    let (pts_count, pts) = cx.world.delete(owner, &ids, call.revoke, false, Some(cx.conn))?;
    Ok(tl::types::messages::AffectedHistory {
        pts,
        pts_count,
        offset: 0,
    }
    .into())
}

pub fn read_history(cx: &mut Cx<'_>, call: f::messages::ReadHistory) -> Rpc<enums::messages::AffectedMessages> {
    let peer = cx.peer(&call.peer)?;
    if let Peer::Channel(_) = peer {
        return bad("PEER_ID_INVALID");
    }
    let (pts, pts_count) = cx.world.read_inbox(cx.me, peer, call.max_id, Some(cx.conn))?;
    Ok(tl::types::messages::AffectedMessages { pts, pts_count }.into())
}

pub fn read_channel_history(cx: &mut Cx<'_>, call: f::channels::ReadHistory) -> Rpc<bool> {
    let id = cx.channel(&call.channel)?;
    cx.member(id)?;
    cx.world
        .read_inbox(cx.me, Peer::Channel(id), call.max_id, Some(cx.conn))?;
    Ok(true)
}

pub fn read_mentions(cx: &mut Cx<'_>, call: f::messages::ReadMentions) -> Rpc<enums::messages::AffectedHistory> {
    cx.peer(&call.peer)?;
    let pts = cx.world.account(cx.me)?.mailbox.pts;
    Ok(tl::types::messages::AffectedHistory {
        pts,
        pts_count: 0,
        offset: 0,
    }
    .into())
}

pub fn read_message_contents(
    cx: &mut Cx<'_>,
    _: f::messages::ReadMessageContents,
) -> Rpc<enums::messages::AffectedMessages> {
    let pts = cx.world.account(cx.me)?.mailbox.pts;
    Ok(tl::types::messages::AffectedMessages { pts, pts_count: 0 }.into())
}

pub fn received_messages(_: &mut Cx<'_>, _: f::messages::ReceivedMessages) -> Rpc<Vec<enums::ReceivedNotifyMessage>> {
    Ok(Vec::new())
}

pub fn set_typing(cx: &mut Cx<'_>, call: f::messages::SetTyping) -> Rpc<bool> {
    let me = cx.me;
    match cx.peer(&call.peer)? {
        Peer::User(other) => {
            if cx.world.accounts.contains_key(&other) {
                cx.world.typing(other, Peer::User(me), me, &call.action, None)?;
            }
        }
        peer => cx.world.typing(me, peer, me, &call.action, None)?,
    }
    Ok(true)
}

pub fn send_reaction(cx: &mut Cx<'_>, call: f::messages::SendReaction) -> Rpc<enums::Updates> {
    let peer = cx.peer(&call.peer)?;
    let uid = cx.world.find(cx.me, peer, call.msg_id)?.uid;
    let emoji = call
        .reaction
        .unwrap_or_default()
        .into_iter()
        .find_map(|reaction| match reaction {
            enums::Reaction::Emoji(emoji) => Some(emoji.emoticon),
            _ => None,
        });
    if emoji.as_ref().is_some_and(|emoji| emoji.is_empty() || emoji.len() > 32) {
        return bad("REACTION_INVALID");
    }
    cx.world.react(uid, cx.me, emoji.as_deref(), Some(cx.conn))?;
    reactions(cx, peer, &[call.msg_id])
}

pub fn get_messages_reactions(cx: &mut Cx<'_>, call: f::messages::GetMessagesReactions) -> Rpc<enums::Updates> {
    let peer = cx.peer(&call.peer)?;
    reactions(cx, peer, &call.id)
}

fn reactions(cx: &Cx<'_>, peer: Peer, ids: &[i32]) -> Rpc<enums::Updates> {
    let owner = World::owner_of(cx.me, peer);
    let mut all = Faces::default();
    let mut updates = Vec::new();
    for id in ids.iter().take(100) {
        let (update, faces) = cx.world.reactions_update(cx.me, owner, *id)?;
        updates.push(update);
        all.users.extend(faces.users);
        all.chats.extend(faces.chats);
    }
    cx.world.wrap(cx.me, updates, &all, 0)
}

pub fn update_pinned_message(cx: &mut Cx<'_>, call: f::messages::UpdatePinnedMessage) -> Rpc<enums::Updates> {
    let peer = cx.peer(&call.peer)?;
    let uid = cx.world.find(cx.me, peer, call.id)?.uid;
    cx.world.pin(uid, !call.unpin, Some(cx.conn))?;
    let answer = last_event(cx, World::owner_of(cx.me, peer))?;
    if !call.silent && !call.unpin {
        let place = match peer {
            Peer::User(id) => Place::Private(cx.me, id),
            Peer::Chat(id) => Place::Chat(id),
            Peer::Channel(id) => Place::Channel(id),
        };
        let mut draft = Draft::to(place);
        draft.author = Some(cx.me);
        draft.reply = Some(uid);
        draft.service = Some(Service::Pinned);
        cx.world.post(draft, false, None)?;
    }
    Ok(answer)
}
