//! What a client missed: state, differences, channel differences.

use grammers_tl_types::{self as tl, enums, functions as f};

use super::Cx;
use crate::spec::{ChannelHints, Peer};
use crate::tl::{Rpc, bad, now, required};
use crate::world::{Event, Faces, Owner, What, World};

fn state(cx: &Cx<'_>, pts: i32) -> Rpc<enums::updates::State> {
    let account = cx.world.account(cx.me)?;
    let (qts, seq) = (account.qts, account.seq);
    Ok(tl::types::updates::State {
        pts,
        qts,
        date: now(),
        seq,
        unread_count: 0,
    }
    .into())
}

pub fn get_state(cx: &mut Cx<'_>, _: f::updates::GetState) -> Rpc<enums::updates::State> {
    let pts = cx.world.account(cx.me)?.mailbox.pts;
    state(cx, pts)
}

/// Events as a difference shows them: new messages apart from all else.
fn split(
    cx: &Cx<'_>,
    owner: Owner,
    events: &[Event],
    faces: &mut Faces,
) -> Rpc<(Vec<enums::Message>, Vec<enums::Update>)> {
    let (mut messages, mut others) = (Vec::new(), Vec::new());
    let mailbox = cx.world.mailbox(owner)?;
    for event in events {
        if let What::New(id) = event.what {
            if let Some(post) = mailbox.posts.get(&id) {
                messages.push(cx.world.render_message(cx.me, owner, post, faces)?);
            }
        } else {
            others.extend(cx.world.render_update(cx.me, owner, event, faces)?);
        }
    }
    Ok((messages, others))
}

/// The channels that changed since `date`.
fn hints(cx: &Cx<'_>, date: i32, faces: &mut Faces) -> Rpc<Vec<enums::Update>> {
    let kind = cx.world.config.channel_hints;
    let changed = cx.world.channels.iter().filter(|(_, channel)| {
        kind != ChannelHints::None && channel.members.contains(&cx.me) && channel.mailbox.changed >= date
    });
    let mut updates = Vec::new();
    for (id, channel) in changed {
        faces.peer(Peer::Channel(*id));
        let mut update = required!(tl::types::UpdateChannelTooLong; 0_i32, *id)?;
        update.pts = (kind == ChannelHints::WithPts).then_some(channel.mailbox.pts);
        updates.push(update.into());
    }
    Ok(updates)
}

pub fn get_difference(cx: &mut Cx<'_>, call: f::updates::GetDifference) -> Rpc<enums::updates::Difference> {
    let owner = Owner::Account(cx.me);
    let (slice, too_long) = (cx.world.config.slice.max(1), cx.world.config.too_long);
    if call.pts <= 0 || call.date <= 0 {
        return bad("PERSISTENT_TIMESTAMP_EMPTY");
    }
    let account = cx.world.account_mut(cx.me)?;
    let pts = account.mailbox.pts;
    let forced = account.force_too_long > 0;
    account.force_too_long = account.force_too_long.saturating_sub(1);
    let missed: Vec<_> = account.mailbox.since(call.pts).cloned().collect();
    let qts: Vec<_> = account
        .qts_events
        .iter()
        .filter(|qts| **qts > call.qts)
        .copied()
        .collect();
    if forced || missed.len() > too_long || call.pts < account.mailbox.floor {
        return Ok(tl::types::updates::DifferenceTooLong { pts }.into());
    }
    let seq = account.seq;
    let mut faces = Faces::default();
    let hints = hints(cx, call.date, &mut faces)?;
    if missed.is_empty() && qts.is_empty() && hints.is_empty() && call.pts >= pts {
        return Ok(tl::types::updates::DifferenceEmpty { date: now(), seq }.into());
    }
    let whole = missed.len() <= slice;
    let part = &missed[..missed.len().min(slice)];
    let (new_messages, mut other_updates) = split(cx, owner, part, &mut faces)?;
    if whole {
        other_updates.extend(hints);
    }
    let (users, chats) = cx.world.render_faces(cx.me, &faces)?;
    if whole {
        let new_encrypted_messages = qts.into_iter().map(World::render_encrypted).collect();
        let state = state(cx, pts)?;
        return Ok(tl::types::updates::Difference {
            new_messages,
            new_encrypted_messages,
            other_updates,
            chats,
            users,
            state,
        }
        .into());
    }
    let reached = part.last().map_or(call.pts, |event| event.pts);
    let enums::updates::State::State(mut state) = state(cx, reached)?;
    // The encrypted ones come with the last slice.
    state.qts = call.qts;
    Ok(tl::types::updates::DifferenceSlice {
        new_messages,
        new_encrypted_messages: Vec::new(),
        other_updates,
        chats,
        users,
        intermediate_state: state.into(),
    }
    .into())
}

pub fn get_channel_difference(
    cx: &mut Cx<'_>,
    call: f::updates::GetChannelDifference,
) -> Rpc<enums::updates::ChannelDifference> {
    let id = cx.channel(&call.channel)?;
    cx.member(id)?;
    if call.pts <= 0 {
        return bad("PERSISTENT_TIMESTAMP_EMPTY");
    }
    let too_long = cx.world.config.channel_too_long;
    let limit = usize::try_from(call.limit).unwrap_or(0).clamp(1, 100);
    let owner = Owner::Channel(id);
    let channel = cx.world.channel_mut(id)?;
    let pts = channel.mailbox.pts;
    let forced = channel.force_too_long > 0;
    channel.force_too_long = channel.force_too_long.saturating_sub(1);
    let missed: Vec<_> = channel.mailbox.since(call.pts).cloned().collect();
    if forced || missed.len() > too_long || call.pts < channel.mailbox.floor {
        return channel_too_long(cx, id);
    }
    if missed.is_empty() {
        let mut empty = required!(tl::types::updates::ChannelDifferenceEmpty; 0_i32, pts)?;
        empty.r#final = true;
        return Ok(empty.into());
    }
    let part = &missed[..missed.len().min(limit)];
    let whole = part.len() == missed.len();
    let reached = if whole {
        pts
    } else {
        part.last().map_or(pts, |event| event.pts)
    };
    let mut faces = Faces::channel(id);
    let (messages, others) = split(cx, owner, part, &mut faces)?;
    let (users, chats) = cx.world.render_faces(cx.me, &faces)?;
    let mut difference = required!(tl::types::updates::ChannelDifference;
        0_i32, reached, messages, others, chats, users)?;
    difference.r#final = whole;
    Ok(difference.into())
}

/// The newest messages and a fresh start.
fn channel_too_long(cx: &Cx<'_>, id: i64) -> Rpc<enums::updates::ChannelDifference> {
    let peer = Peer::Channel(id);
    let owner = Owner::Channel(id);
    let mailbox = cx.world.mailbox(owner)?;
    let newest: Vec<_> = mailbox
        .ids(peer)
        .take(10)
        .filter_map(|id| mailbox.posts.get(&id))
        .collect();
    let mut faces = Faces::channel(id);
    let messages = cx.world.render_posts(cx.me, owner, newest, &mut faces)?;
    let Some(dialog) = cx.world.render_dialog(cx.me, peer)? else {
        return bad("CHANNEL_PRIVATE");
    };
    let (users, chats) = cx.world.render_faces(cx.me, &faces)?;
    let mut answer = required!(tl::types::updates::ChannelDifferenceTooLong;
        0_i32, dialog, messages, chats, users)?;
    answer.r#final = true;
    Ok(answer.into())
}
