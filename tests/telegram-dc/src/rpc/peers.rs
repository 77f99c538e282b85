//! People, groups, channels and the server's own settings.

use grammers_tl_types::{self as tl, enums, functions as f};

use super::Cx;
use crate::spec::Peer;
use crate::tl::{Refusal, Rpc, bad, notify_settings, now, required};
use crate::world::Faces;

pub fn get_config(cx: &mut Cx<'_>, _: f::help::GetConfig) -> Rpc<enums::Config> {
    let mut dc_options: Vec<enums::DcOption> = Vec::new();
    if cx.world.config.send_dc_options {
        for (id, port) in cx.world.config.dcs.clone() {
            let mut option = required!(tl::types::DcOption;
                0_i32, id, String::from("127.0.0.1"), i32::from(port))?;
            option.r#static = true;
            dc_options.push(option.into());
        }
    }
    let text = String::from;
    Ok(required!(tl::types::Config;
        0_i32, now(), now() + 3600, true, cx.dc, dc_options, text("localhost"),
        200_i32, 200_000_i32, 100_i32, 210_000_i32, 5_000_i32, 30_000_i32, 300_000_i32, 30_000_i32,
        1_500_i32, 10_000_i32, 2_i32, 172_800_i32, 172_800_i32, 172_800_i32, 2_419_200_i32, 20_i32,
        604_800_i32, 20_000_i32, 90_000_i32, 30_000_i32, 10_000_i32, text("https://t.me/"),
        1024_i32, 4096_i32, cx.dc)?
    .into())
}

pub fn get_nearest_dc(cx: &mut Cx<'_>, _: f::help::GetNearestDc) -> Rpc<enums::NearestDc> {
    let country = "XX".to_owned();
    Ok(tl::types::NearestDc {
        country,
        this_dc: cx.dc,
        nearest_dc: cx.world.home_dc(),
    }
    .into())
}

pub fn update_status(_: &mut Cx<'_>, _: f::account::UpdateStatus) -> Rpc<bool> {
    Ok(true)
}

pub fn get_users(cx: &mut Cx<'_>, call: f::users::GetUsers) -> Rpc<Vec<enums::User>> {
    call.id
        .iter()
        .filter_map(|user| cx.user(user).ok())
        .map(|id| cx.world.render_user(cx.me, id))
        .collect()
}

pub fn get_full_user(cx: &mut Cx<'_>, call: f::users::GetFullUser) -> Rpc<enums::users::UserFull> {
    let id = cx.user(&call.id)?;
    let settings: enums::PeerSettings = required!(tl::types::PeerSettings; 0_i32)?.into();
    let full = required!(tl::types::UserFull;
        0_i32, 0_i32, id, settings, notify_settings()?, 0_i32)?;
    let users = vec![cx.world.render_user(cx.me, id)?];
    Ok(tl::types::users::UserFull {
        full_user: full.into(),
        chats: Vec::new(),
        users,
    }
    .into())
}

pub fn get_contacts(cx: &mut Cx<'_>, _: f::contacts::GetContacts) -> Rpc<enums::contacts::Contacts> {
    let contacts = cx.world.users.values().filter(|user| user.spec.contact);
    let ids: Vec<_> = contacts.map(|user| user.id).take(1000).collect();
    let users = ids
        .iter()
        .map(|id| cx.world.render_user(cx.me, *id))
        .collect::<Rpc<_>>()?;
    let entry = |user_id: &i64| {
        tl::types::Contact {
            user_id: *user_id,
            mutual: false,
        }
        .into()
    };
    let contacts = ids.iter().map(entry).collect();
    Ok(tl::types::contacts::Contacts {
        contacts,
        saved_count: 0,
        users,
    }
    .into())
}

pub fn resolve_username(cx: &mut Cx<'_>, call: f::contacts::ResolveUsername) -> Rpc<enums::contacts::ResolvedPeer> {
    let named = |name: &Option<String>| {
        name.as_ref()
            .is_some_and(|name| name.eq_ignore_ascii_case(&call.username))
    };
    let user = cx.world.users.values().find(|user| named(&user.spec.username));
    let channel = cx.world.channels.iter().find(|(_, channel)| named(&channel.username));
    let peer = match (user, channel) {
        (Some(user), _) => Peer::User(user.id),
        (None, Some((id, _))) => Peer::Channel(*id),
        (None, None) => return bad("USERNAME_NOT_OCCUPIED"),
    };
    let mut faces = Faces::default();
    faces.peer(peer);
    let (users, chats) = cx.world.render_faces(cx.me, &faces)?;
    let peer = crate::world::World::render_peer(peer);
    Ok(tl::types::contacts::ResolvedPeer { peer, chats, users }.into())
}

pub fn get_chats(cx: &mut Cx<'_>, call: f::messages::GetChats) -> Rpc<enums::messages::Chats> {
    let chats = call
        .id
        .into_iter()
        .map(|id| cx.world.render_chat(cx.me, Peer::Chat(id)))
        .collect::<Rpc<_>>()?;
    Ok(tl::types::messages::Chats { chats }.into())
}

pub fn get_channels(cx: &mut Cx<'_>, call: f::channels::GetChannels) -> Rpc<enums::messages::Chats> {
    let mut chats = Vec::new();
    for channel in &call.id {
        let id = cx.channel(channel)?;
        chats.push(cx.world.render_chat(cx.me, Peer::Channel(id))?);
    }
    Ok(tl::types::messages::Chats { chats }.into())
}

pub fn get_full_chat(cx: &mut Cx<'_>, call: f::messages::GetFullChat) -> Rpc<enums::messages::ChatFull> {
    let chat_id = call.chat_id;
    let chat = cx
        .world
        .chats
        .get(&chat_id)
        .filter(|chat| chat.members.contains(&cx.me));
    let Some(chat) = chat.cloned() else {
        return bad("CHAT_ID_INVALID");
    };
    let mut people: Vec<enums::ChatParticipant> = Vec::new();
    let creator = chat.members.first().copied().unwrap_or(cx.me);
    for id in &chat.members {
        people.push(required!(tl::types::ChatParticipant; 0_i32, *id, creator, chat.date)?.into());
    }
    let participants: enums::ChatParticipants = tl::types::ChatParticipants {
        chat_id,
        participants: people,
        version: 1,
    }
    .into();
    let full = required!(tl::types::ChatFull;
        0_i32, chat_id, String::new(), participants, notify_settings()?)?;
    let mut faces = Faces::default();
    faces.peer(Peer::Chat(chat_id));
    faces.users.extend(chat.members);
    let (users, chats) = cx.world.render_faces(cx.me, &faces)?;
    Ok(tl::types::messages::ChatFull {
        full_chat: full.into(),
        chats,
        users,
    }
    .into())
}

pub fn get_full_channel(cx: &mut Cx<'_>, call: f::channels::GetFullChannel) -> Rpc<enums::messages::ChatFull> {
    let id = cx.channel(&call.channel)?;
    cx.member(id)?;
    let channel = cx.world.channel(id)?;
    let peer = Peer::Channel(id);
    let read_in = cx.world.account(cx.me)?.channel_read.get(&id).copied().unwrap_or(0);
    let read_out = channel.mailbox.read_out.get(&peer).copied().unwrap_or(0);
    let unread = channel.mailbox.unread(peer, read_in, cx.me);
    let photo: enums::Photo = tl::types::PhotoEmpty { id: 0 }.into();
    let mut full = required!(tl::types::ChannelFull;
        0_i32, 0_i32, id, String::new(), read_in, read_out, unread, photo, notify_settings()?,
        Vec::<enums::BotInfo>::new(), channel.mailbox.pts)?;
    full.participants_count = i32::try_from(channel.members.len()).ok();
    full.slowmode_seconds = channel.slowmode;
    let (users, chats) = cx.world.render_faces(cx.me, &Faces::channel(id))?;
    Ok(tl::types::messages::ChatFull {
        full_chat: full.into(),
        chats,
        users,
    }
    .into())
}

pub fn get_participants(
    cx: &mut Cx<'_>,
    call: f::channels::GetParticipants,
) -> Rpc<enums::channels::ChannelParticipants> {
    let id = cx.channel(&call.channel)?;
    cx.member(id)?;
    let channel = cx.world.channel(id)?;
    let count = i32::try_from(channel.members.len()).unwrap_or(i32::MAX);
    let offset = usize::try_from(call.offset).unwrap_or(0);
    let limit = usize::try_from(call.limit).unwrap_or(0).min(200);
    let page: Vec<_> = channel.members.iter().skip(offset).take(limit).copied().collect();
    let date = channel.date;
    let mut participants: Vec<enums::ChannelParticipant> = Vec::new();
    for user in &page {
        participants.push(required!(tl::types::ChannelParticipant; 0_i32, *user, date)?.into());
    }
    let mut faces = Faces::channel(id);
    faces.users.extend(page);
    let (users, chats) = cx.world.render_faces(cx.me, &faces)?;
    Ok(tl::types::channels::ChannelParticipants {
        count,
        participants,
        chats,
        users,
    }
    .into())
}

pub fn join_channel(cx: &mut Cx<'_>, call: f::channels::JoinChannel) -> Rpc<enums::messages::ChatInviteJoinResult> {
    let id = cx.channel(&call.channel)?;
    if !cx.world.channel_mut(id)?.members.insert(cx.me) {
        return bad("USER_ALREADY_PARTICIPANT");
    }
    let updates = membership(cx, id)?;
    Ok(tl::types::messages::ChatInviteJoinResultOk { updates }.into())
}

pub fn leave_channel(cx: &mut Cx<'_>, call: f::channels::LeaveChannel) -> Rpc<enums::Updates> {
    let id = cx.channel(&call.channel)?;
    if !cx.world.channel_mut(id)?.members.remove(&cx.me) {
        return Err(Refusal::new(400, "USER_NOT_PARTICIPANT"));
    }
    membership(cx, id)
}

fn membership(cx: &Cx<'_>, channel_id: i64) -> Rpc<enums::Updates> {
    let update = tl::types::UpdateChannel { channel_id }.into();
    cx.world.wrap(cx.me, vec![update], &Faces::channel(channel_id), 0)
}
