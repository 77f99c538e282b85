//! Every other method a client may call answers in the shape grammers expects.

#![cfg(test)]

mod common;

use common::*;
use grammers_tl_types::{self as tl, enums, functions as f};
use telegram_dc::{NewChannel, NewChat, NewHistory, NewUser, Peer};

struct Place {
    scene: Scene,
    chat: i64,
    forum: i64,
    input_chat: enums::InputPeer,
    input_forum: enums::InputPeer,
    channel: enums::InputChannel,
}

async fn place() -> Place {
    let scene = Scene::new().await;
    let members = vec![scene.me, scene.friend];
    let spec = NewChat {
        title: "Group".into(),
        members: members.clone(),
        ..Default::default()
    };
    let chat = scene.dc.add_chat(spec).await.unwrap();
    let spec = NewChannel {
        title: "Forum".into(),
        username: Some("forum".into()),
        members,
        ..Default::default()
    };
    let forum = scene.dc.add_channel(spec).await.unwrap();
    let input_chat = scene.peer(Peer::Chat(chat)).await;
    let input_forum = scene.peer(Peer::Channel(forum)).await;
    let enums::InputPeer::Channel(peer) = &input_forum else {
        panic!("a channel")
    };
    let channel = tl::types::InputChannel {
        channel_id: peer.channel_id,
        access_hash: peer.access_hash,
    }
    .into();
    Place {
        scene,
        chat,
        forum,
        input_chat,
        input_forum,
        channel,
    }
}

#[tokio::test]
async fn people_and_chats_can_be_looked_up() {
    let Place {
        scene,
        chat,
        forum,
        channel,
        ..
    } = place().await;
    let hub = &scene.hub;
    let named = NewUser {
        first_name: "Named".into(),
        username: Some("named".into()),
        ..Default::default()
    };
    let named = scene.dc.add_user(named).await.unwrap();
    let contact = NewUser {
        first_name: "Contact".into(),
        contact: true,
        phone: Some("+49".into()),
        ..Default::default()
    };
    let contact = scene.dc.add_user(contact).await.unwrap();
    let enums::users::UserFull::Full(me) = hub
        .call(&f::users::GetFullUser {
            id: enums::InputUser::UserSelf,
        })
        .await
        .unwrap();
    let enums::UserFull::Full(full) = me.full_user;
    assert_eq!(full.id, scene.me);
    let resolved = hub.client.resolve_username("named").await.unwrap().unwrap();
    assert_eq!(resolved.id().bare_id_unchecked(), named);
    let resolved = hub.client.resolve_username("Forum").await.unwrap().unwrap();
    assert_eq!(resolved.id().bare_id_unchecked(), forum);
    let missing = f::contacts::ResolveUsername {
        username: "nobody".into(),
        referer: None,
    };
    assert_eq!(rpc(hub.call(&missing).await).1, "USERNAME_NOT_OCCUPIED");
    let enums::contacts::Contacts::Contacts(contacts) = hub.call(&f::contacts::GetContacts { hash: 0 }).await.unwrap()
    else {
        panic!("contacts");
    };
    let enums::User::User(user) = &contacts.users[0] else {
        panic!("a user")
    };
    assert_eq!((user.id, user.phone.as_deref()), (contact, Some("+49")));
    let enums::messages::Chats::Chats(chats) = hub.call(&f::messages::GetChats { id: vec![chat] }).await.unwrap()
    else {
        panic!("chats");
    };
    assert_eq!(chats.chats[0].id(), chat);
    hub.call(&f::channels::GetChannels {
        id: vec![channel.clone()],
    })
    .await
    .unwrap();
    let enums::messages::ChatFull::Full(full) = hub.call(&f::messages::GetFullChat { chat_id: chat }).await.unwrap();
    assert_eq!(full.users.len(), 2);
    let call = f::channels::GetFullChannel {
        channel: channel.clone(),
    };
    let enums::messages::ChatFull::Full(full) = hub.call(&call).await.unwrap();
    let enums::ChatFull::ChannelFull(full) = full.full_chat else {
        panic!("a channel")
    };
    assert_eq!((full.id, full.participants_count, full.pts), (forum, Some(2), 2));
    let call = f::channels::GetParticipants {
        channel,
        filter: enums::ChannelParticipantsFilter::ChannelParticipantsRecent,
        offset: 0,
        limit: 10,
        hash: 0,
    };
    let enums::channels::ChannelParticipants::Participants(people) = hub.call(&call).await.unwrap() else {
        panic!("participants");
    };
    assert_eq!((people.count, people.users.len()), (2, 2));
    hub.call(&f::help::GetNearestDc {}).await.unwrap();
    assert!(hub.call(&f::account::UpdateStatus { offline: false }).await.unwrap());
}

#[tokio::test]
async fn channels_are_left_and_joined() {
    let Place {
        scene,
        input_forum,
        channel,
        ..
    } = place().await;
    let hub = &scene.hub;
    hub.call(&f::channels::LeaveChannel {
        channel: channel.clone(),
    })
    .await
    .unwrap();
    assert_eq!(
        rpc(hub.call(&send(input_forum.clone(), "x", 1)).await).1,
        "CHANNEL_PRIVATE"
    );
    hub.call(&f::channels::JoinChannel { channel }).await.unwrap();
    hub.call(&send(input_forum, "x", 1)).await.unwrap();
}

#[tokio::test]
async fn messages_are_found_pinned_forwarded_and_cleared() {
    let Place {
        scene,
        chat,
        input_chat,
        input_forum,
        channel,
        forum,
    } = place().await;
    let hub = &scene.hub;
    let peer: grammers_session::types::PeerRef = input_chat.clone().into();
    for (n, text) in ["apple", "pear", "Apple pie"].into_iter().enumerate() {
        hub.call(&send(input_chat.clone(), text, 10 + i64::try_from(n).unwrap()))
            .await
            .unwrap();
    }
    let mut found = hub.client.search_messages(peer).query("apple");
    let mut texts = Vec::new();
    while let Some(message) = found.next().await.unwrap() {
        texts.push(message.text().to_owned());
    }
    assert_eq!(texts, ["Apple pie", "apple"]);
    let by_id = hub.client.get_messages_by_id(peer, &[2, 999]).await.unwrap();
    assert_eq!(
        by_id[0].as_ref().map(grammers_client::message::Message::text),
        Some("apple")
    );
    assert!(matches!(by_id[1].as_ref().unwrap().raw, enums::Message::Empty(_)));
    hub.client.pin_message(peer, 3).await.unwrap();
    assert_eq!(hub.client.get_pinned_message(peer).await.unwrap().unwrap().id(), 3);
    hub.client.unpin_message(peer, 3).await.unwrap();
    assert!(hub.client.get_pinned_message(peer).await.unwrap().is_none());
    let target: grammers_session::types::PeerRef = input_forum.clone().into();
    let forwarded = hub.client.forward_messages(target, &[2, 3], peer).await.unwrap();
    assert_eq!(forwarded.iter().flatten().count(), 2);
    assert_eq!(scene.dc.channel_messages(forum).await.unwrap().len(), 3);
    hub.client.pin_message(target, 2).await.unwrap();
    let call = f::messages::GetMessagesReactions {
        peer: input_forum,
        id: vec![2],
    };
    hub.call(&call).await.unwrap();
    assert!(
        hub.call(&f::channels::ReadHistory {
            channel: channel.clone(),
            max_id: 0
        })
        .await
        .unwrap()
    );
    assert_eq!(hub.client.delete_messages(target, &[2]).await.unwrap(), 1);
    let call = f::messages::DeleteHistory {
        just_clear: false,
        revoke: true,
        peer: input_chat,
        max_id: 0,
        min_date: None,
        max_date: None,
    };
    hub.call(&call).await.unwrap();
    assert!(
        scene
            .dc
            .messages(scene.me, Some(Peer::Chat(chat)))
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn large_requests_and_answers_are_packed() {
    let scene = Scene::new().await;
    let history = NewHistory {
        account: Some(scene.me),
        peer: Peer::User(scene.friend),
        from: None,
        count: 100,
        text: "a".repeat(4000),
        first_date: None,
    };
    scene.dc.seed_history(history).await.unwrap();
    let peer = scene.friend_peer().await;
    // 400 KB of text in one answer; grammers packs what it sends from 512 bytes on.
    let call = f::messages::GetHistory {
        peer: peer.clone(),
        offset_id: 0,
        offset_date: 0,
        add_offset: 0,
        limit: 100,
        max_id: 0,
        min_id: 0,
        hash: 0,
    };
    let enums::messages::Messages::Messages(page) = scene.hub.call(&call).await.unwrap() else {
        panic!("all messages at once");
    };
    assert_eq!(page.messages.len(), 100);
    let long = "long ".repeat(800);
    scene.hub.call(&send(peer.clone(), &long, 1)).await.unwrap();
    assert_eq!(
        scene.dc.messages(scene.me, None).await.unwrap().last().unwrap().text,
        long
    );
    let refused = scene.hub.call(&send(peer.clone(), &"x".repeat(5000), 2)).await;
    assert_eq!(rpc(refused).1, "MESSAGE_TOO_LONG");
    // Many at once share containers.
    let calls: Vec<_> = (10..60).map(|n| send(peer.clone(), &format!("{n}"), n)).collect();
    let sent = futures_util::future::join_all(calls.iter().map(|call| scene.hub.call(call))).await;
    assert!(sent.iter().all(Result::is_ok));
    assert_eq!(scene.dc.messages(scene.me, None).await.unwrap().len(), 151);
}
