//! Groups, supergroups and broadcast channels: who speaks, who may, how often.

#![cfg(test)]

mod common;

use common::*;
use grammers_tl_types::{self as tl, enums};
use telegram_dc::{NewChannel, NewChat, NewMessage, Peer, Service};

#[tokio::test]
async fn groups_and_channels_show_who_speaks() {
    let mut scene = Scene::new().await;
    let members = vec![scene.friend, scene.me];
    let spec = NewChat {
        title: "Family".into(),
        members: members.clone(),
        ..Default::default()
    };
    let chat = Peer::Chat(scene.dc.add_chat(spec).await.unwrap());
    let spec = NewChannel {
        title: "Forum".into(),
        members: members.clone(),
        ..Default::default()
    };
    let forum = Peer::Channel(scene.dc.add_channel(spec).await.unwrap());
    let spec = NewChannel {
        title: "News".into(),
        members,
        broadcast: true,
        ..Default::default()
    };
    let news = Peer::Channel(scene.dc.add_channel(spec).await.unwrap());
    let mut dialogs = scene.hub.client.iter_dialogs();
    while dialogs.next().await.unwrap().is_some() {}
    let mut updates = scene.hub.updates().await;
    for (peer, from) in [(chat, Some(scene.friend)), (forum, Some(scene.friend)), (news, None)] {
        let text = format!("to {peer}");
        let message = NewMessage {
            peer: Some(peer),
            from,
            text,
            ..Default::default()
        };
        scene.dc.push_message(message).await.unwrap();
        let message = loop {
            match updates.next().await {
                enums::Update::NewMessage(tl::types::UpdateNewMessage {
                    message: enums::Message::Message(m),
                    ..
                })
                | enums::Update::NewChannelMessage(tl::types::UpdateNewChannelMessage {
                    message: enums::Message::Message(m),
                    ..
                }) => break m,
                _ => {}
            }
        };
        let author = message.from_id.map(|peer| match peer {
            enums::Peer::User(user) => user.user_id,
            other => panic!("{other:?}"),
        });
        assert_eq!(author, from);
        assert_eq!(message.post, peer == news);
    }
    let denied = scene.hub.call(&send(scene.peer(news).await, "no", 1)).await;
    assert_eq!(rpc(denied).1, "CHAT_WRITE_FORBIDDEN");
    scene.hub.call(&send(scene.peer(chat).await, "yes", 2)).await.unwrap();
    scene.hub.call(&send(scene.peer(forum).await, "yes", 3)).await.unwrap();
    let Peer::Channel(id) = forum else { unreachable!() };
    assert_eq!(
        scene.dc.channel_messages(id).await.unwrap().last().unwrap().from,
        Some(scene.me)
    );
    // Service messages: who joined, a new title.
    let service = Some(Service::Title("Friends".into()));
    let message = NewMessage {
        peer: Some(chat),
        from: Some(scene.friend),
        service,
        ..Default::default()
    };
    scene.dc.push_message(message).await.unwrap();
    loop {
        if let enums::Update::NewMessage(update) = updates.next().await
            && let enums::Message::Service(message) = update.message
        {
            assert!(matches!(message.action, enums::MessageAction::ChatEditTitle(_)));
            break;
        }
    }
    scene.dc.leave(forum, scene.me).await.unwrap();
    let peer = enums::InputPeer::Channel(tl::types::InputPeerChannel {
        channel_id: id,
        access_hash: 0,
    });
    assert_eq!(rpc(scene.hub.call(&send(peer, "gone", 4)).await).1, "CHANNEL_INVALID");
}

#[tokio::test]
async fn slow_mode_and_floods_say_how_long() {
    let scene = Scene::new().await;
    let members = vec![scene.friend, scene.me];
    let spec = NewChannel {
        title: "Slow".into(),
        members,
        slowmode: Some(30),
        ..Default::default()
    };
    let slow = Peer::Channel(scene.dc.add_channel(spec).await.unwrap());
    let peer = scene.peer(slow).await;
    scene.hub.call(&send(peer.clone(), "one", 1)).await.unwrap();
    let (code, name, value) = rpc(scene.hub.call(&send(peer.clone(), "two", 2)).await);
    assert_eq!((code, name.as_str()), (420, "SLOWMODE_WAIT"));
    assert!((29..=30).contains(&value.unwrap()));
    // A repeat of what was sent is not slowed down.
    scene.hub.call(&send(peer, "one", 1)).await.unwrap();
    let flood = telegram_dc::Fault::Error {
        code: 420,
        name: "FLOOD_WAIT_9".into(),
    };
    scene
        .dc
        .script(telegram_dc::FaultScript::next("messages.sendMessage", flood))
        .await
        .unwrap();
    scene.push("x").await;
    let peer = scene.friend_peer().await;
    let (code, name, value) = rpc(scene.hub.call(&send(peer.clone(), "a", 5)).await);
    assert_eq!((code, name.as_str(), value), (420, "FLOOD_WAIT", Some(9)));
    scene.hub.call(&send(peer, "a", 5)).await.unwrap();
}
