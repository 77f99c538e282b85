//! The list of chats and the messages in them.

use std::cmp::Reverse;

use grammers_tl_types::{self as tl, enums, functions as f};

use super::Cx;
use crate::spec::Peer;
use crate::tl::{Rpc, bad, required};
use crate::world::{Faces, Owner, Post, World};

/// Most chats or messages in one answer.
const PAGE: usize = 100;

fn page_size(limit: i32) -> usize {
    usize::try_from(limit).unwrap_or(0).min(PAGE)
}

/// Sort key of a chat: date and id of its newest message.
fn dialog_key(world: &World, me: i64, peer: Peer) -> Option<(i32, i32, Peer)> {
    let top = world.mailbox(World::owner_of(me, peer)).ok()?.top(peer)?;
    Some((top.date, top.id, peer))
}

/// All chats of an account, the newest first.
fn all_dialogs(world: &World, me: i64) -> Rpc<Vec<(i32, i32, Peer)>> {
    let own = world.account(me)?.mailbox.peers();
    let channels = world
        .channels
        .iter()
        .filter(|(_, channel)| channel.members.contains(&me));
    let mut keys: Vec<_> = own
        .chain(channels.map(|(id, _)| Peer::Channel(*id)))
        .filter_map(|peer| dialog_key(world, me, peer))
        .collect();
    keys.sort_unstable_by_key(|key| Reverse(*key));
    Ok(keys)
}

struct Page {
    dialogs: Vec<enums::Dialog>,
    messages: Vec<enums::Message>,
    users: Vec<enums::User>,
    chats: Vec<enums::Chat>,
}

fn render(cx: &Cx<'_>, peers: impl Iterator<Item = Peer>) -> Rpc<Page> {
    let (world, me) = (&*cx.world, cx.me);
    let mut faces = Faces::default();
    let (mut dialogs, mut messages) = (Vec::new(), Vec::new());
    for peer in peers {
        let owner = World::owner_of(me, peer);
        let Some(top) = world.mailbox(owner)?.top(peer) else {
            continue;
        };
        faces.peer(peer);
        dialogs.extend(world.render_dialog(me, peer)?);
        messages.push(world.render_message(me, owner, top, &mut faces)?);
    }
    let (users, chats) = world.render_faces(me, &faces)?;
    Ok(Page {
        dialogs,
        messages,
        users,
        chats,
    })
}

pub fn get_dialogs(cx: &mut Cx<'_>, call: f::messages::GetDialogs) -> Rpc<enums::messages::Dialogs> {
    let all = all_dialogs(cx.world, cx.me)?;
    let offset_peer = match &call.offset_peer {
        enums::InputPeer::Empty => None,
        peer => Some(cx.peer(peer)?),
    };
    let start = match offset_peer {
        _ if call.offset_date == 0 => 0,
        // Everything strictly older than the last chat of the page before.
        Some(peer) => {
            let last = (call.offset_date, call.offset_id, peer);
            all.iter().position(|key| *key < last).unwrap_or(all.len())
        }
        None => {
            let older = |key: &(i32, i32, Peer)| key.0 < call.offset_date;
            all.iter().position(older).unwrap_or(all.len())
        }
    };
    let limit = page_size(call.limit).max(1);
    let page = render(cx, all.iter().skip(start).take(limit).map(|(.., peer)| *peer))?;
    let Page {
        dialogs,
        messages,
        users,
        chats,
    } = page;
    if start == 0 && all.len() <= limit {
        return Ok(tl::types::messages::Dialogs {
            dialogs,
            messages,
            chats,
            users,
        }
        .into());
    }
    let count = i32::try_from(all.len()).unwrap_or(i32::MAX);
    Ok(tl::types::messages::DialogsSlice {
        count,
        dialogs,
        messages,
        chats,
        users,
    }
    .into())
}

pub fn get_pinned_dialogs(cx: &mut Cx<'_>, _: f::messages::GetPinnedDialogs) -> Rpc<enums::messages::PeerDialogs> {
    peer_dialogs(cx, std::iter::empty())
}

pub fn get_peer_dialogs(cx: &mut Cx<'_>, call: f::messages::GetPeerDialogs) -> Rpc<enums::messages::PeerDialogs> {
    let mut peers = Vec::new();
    for peer in &call.peers {
        match peer {
            enums::InputDialogPeer::Peer(peer) => peers.push(cx.peer(&peer.peer)?),
            _ => return bad("PEER_ID_INVALID"),
        }
    }
    peer_dialogs(cx, peers.into_iter())
}

fn peer_dialogs(cx: &mut Cx<'_>, peers: impl Iterator<Item = Peer>) -> Rpc<enums::messages::PeerDialogs> {
    let Page {
        dialogs,
        messages,
        users,
        chats,
    } = render(cx, peers)?;
    let state = super::updates::get_state(cx, f::updates::GetState {})?;
    Ok(tl::types::messages::PeerDialogs {
        dialogs,
        messages,
        chats,
        users,
        state,
    }
    .into())
}

/// A window of a history.
#[derive(Default)]
struct Window {
    offset_id: i32,
    offset_date: i32,
    add_offset: i32,
    limit: i32,
    max_id: i32,
    min_id: i32,
}

impl Window {
    /// Picks from `posts`, newest first.
    fn cut<'a>(&self, posts: &[&'a Post]) -> Vec<&'a Post> {
        let anchor = if self.offset_id > 0 {
            posts.partition_point(|post| post.id >= self.offset_id)
        } else if self.offset_date > 0 {
            posts.partition_point(|post| post.date >= self.offset_date)
        } else {
            0
        };
        let anchor = i64::try_from(anchor).unwrap_or(i64::MAX);
        let start = anchor + i64::from(self.add_offset);
        let limit = i64::try_from(page_size(self.limit)).unwrap_or(0);
        let end = usize::try_from(start + limit).unwrap_or(0).min(posts.len());
        let start = usize::try_from(start).unwrap_or(0).min(end);
        let fits =
            |post: &&&Post| (self.max_id == 0 || post.id < self.max_id) && (self.min_id == 0 || post.id > self.min_id);
        posts[start..end].iter().filter(fits).copied().collect()
    }
}

fn answer(cx: &Cx<'_>, owner: Owner, total: usize, posts: &[&Post]) -> Rpc<enums::messages::Messages> {
    let mut faces = Faces::default();
    let messages = cx.world.render_posts(cx.me, owner, posts.iter().copied(), &mut faces)?;
    if let Owner::Channel(id) = owner {
        faces.chats.insert(Peer::Channel(id));
    }
    wrap(cx, owner, total, messages, &faces)
}

fn wrap(
    cx: &Cx<'_>,
    owner: Owner,
    total: usize,
    messages: Vec<enums::Message>,
    faces: &Faces,
) -> Rpc<enums::messages::Messages> {
    let (users, chats) = cx.world.render_faces(cx.me, faces)?;
    let count = i32::try_from(total).unwrap_or(i32::MAX);
    let topics = Vec::<enums::ForumTopic>::new();
    Ok(match owner {
        Owner::Channel(_) => {
            let pts = cx.world.mailbox(owner)?.pts;
            required!(tl::types::messages::ChannelMessages;
                0_i32, pts, count, messages, topics, chats, users)?
            .into()
        }
        Owner::Account(_) if messages.len() >= total => tl::types::messages::Messages {
            messages,
            topics,
            chats,
            users,
        }
        .into(),
        Owner::Account(_) => required!(tl::types::messages::MessagesSlice;
            0_i32, count, messages, topics, chats, users)?
        .into(),
    })
}

fn open(cx: &Cx<'_>, peer: &enums::InputPeer) -> Rpc<(Owner, Peer)> {
    let peer = cx.peer(peer)?;
    if let Peer::Channel(id) = peer {
        cx.member(id)?;
    }
    Ok((World::owner_of(cx.me, peer), peer))
}

pub fn get_history(cx: &mut Cx<'_>, call: f::messages::GetHistory) -> Rpc<enums::messages::Messages> {
    let (owner, peer) = open(cx, &call.peer)?;
    let mailbox = cx.world.mailbox(owner)?;
    let posts: Vec<_> = mailbox.ids(peer).filter_map(|id| mailbox.posts.get(&id)).collect();
    let window = Window {
        offset_id: call.offset_id,
        offset_date: call.offset_date,
        add_offset: call.add_offset,
        limit: call.limit,
        max_id: call.max_id,
        min_id: call.min_id,
    };
    answer(cx, owner, posts.len(), &window.cut(&posts))
}

/// Finds text in one chat; filters by kind are not looked at.
pub fn search(cx: &mut Cx<'_>, call: f::messages::Search) -> Rpc<enums::messages::Messages> {
    let (owner, peer) = open(cx, &call.peer)?;
    let wanted = call.q.to_lowercase();
    let mailbox = cx.world.mailbox(owner)?;
    let posts: Vec<_> = mailbox
        .ids(peer)
        .filter_map(|id| mailbox.posts.get(&id))
        .filter(|post| post.text.to_lowercase().contains(&wanted))
        .collect();
    let window = Window {
        offset_id: call.offset_id,
        add_offset: call.add_offset,
        limit: call.limit,
        max_id: call.max_id,
        min_id: call.min_id,
        ..Window::default()
    };
    answer(cx, owner, posts.len(), &window.cut(&posts))
}

pub fn get_messages(cx: &mut Cx<'_>, call: f::messages::GetMessages) -> Rpc<enums::messages::Messages> {
    by_ids(cx, Owner::Account(cx.me), &call.id)
}

pub fn get_channel_messages(cx: &mut Cx<'_>, call: f::channels::GetMessages) -> Rpc<enums::messages::Messages> {
    let id = cx.channel(&call.channel)?;
    cx.member(id)?;
    by_ids(cx, Owner::Channel(id), &call.id)
}

/// Missing ids are answered with `messageEmpty`, as Telegram does.
fn by_ids(cx: &Cx<'_>, owner: Owner, ids: &[enums::InputMessage]) -> Rpc<enums::messages::Messages> {
    let mailbox = cx.world.mailbox(owner)?;
    let mut faces = match owner {
        Owner::Channel(id) => Faces::channel(id),
        Owner::Account(_) => Faces::default(),
    };
    let mut messages: Vec<enums::Message> = Vec::new();
    for wanted in ids.iter().take(PAGE) {
        let id = match wanted {
            enums::InputMessage::Id(wanted) => wanted.id,
            enums::InputMessage::ReplyTo(wanted) => mailbox
                .posts
                .get(&wanted.id)
                .and_then(|post| post.reply_to)
                .unwrap_or(0),
            enums::InputMessage::Pinned => mailbox
                .posts
                .values()
                .rev()
                .find(|post| post.pinned)
                .map_or(0, |post| post.id),
            enums::InputMessage::CallbackQuery(_) => 0,
        };
        match mailbox.posts.get(&id) {
            Some(post) => messages.push(cx.world.render_message(cx.me, owner, post, &mut faces)?),
            None if id > 0 => messages.push(required!(tl::types::MessageEmpty; 0_i32, id)?.into()),
            None => {}
        }
    }
    wrap(cx, owner, messages.len(), messages, &faces)
}
