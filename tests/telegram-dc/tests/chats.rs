//! Chats and messages: paging, sending once, replies, edits, deletes, reactions, reading, typing.

#![cfg(test)]

mod common;

use std::collections::BTreeSet;

use common::*;
use grammers_client::message::InputMessage;
use grammers_tl_types::{self as tl, enums, functions as f};
use telegram_dc::{
    DcConfig, LogFilter, MessageRef, NewAccount, NewChannel, NewChat, NewEntity, NewHistory, NewMessage, Peer, React,
    Read, ReadSide, RepeatAnswer, Settings, Typing,
};

#[tokio::test]
async fn chats_page_to_the_last_one() {
    let scene = Scene::new().await;
    let mut expected = BTreeSet::new();
    for n in 0..240 {
        let text = format!("from {n}");
        // Several share a second, so that paging has to break ties.
        let date = Some(1_700_000_000 + n / 7);
        let peer = match n % 3 {
            0 => Peer::User(user(&scene.dc, &format!("Person {n}")).await),
            1 => {
                let spec = NewChat {
                    title: format!("Group {n}"),
                    members: vec![scene.me, scene.friend],
                    ..quiet()
                };
                Peer::Chat(scene.dc.add_chat(spec).await.unwrap())
            }
            _ => {
                let members = vec![scene.friend, scene.me];
                let spec = NewChannel {
                    title: format!("Channel {n}"),
                    members,
                    quiet: true,
                    ..Default::default()
                };
                Peer::Channel(scene.dc.add_channel(spec).await.unwrap())
            }
        };
        let from = if matches!(peer, Peer::User(_)) {
            None
        } else {
            Some(scene.friend)
        };
        let message = NewMessage {
            account: Some(scene.me),
            peer: Some(peer),
            from,
            text,
            date,
            ..Default::default()
        };
        scene.dc.push_message(message).await.unwrap();
        expected.insert(peer);
    }
    let mut dialogs = scene.hub.client.iter_dialogs();
    let mut seen = Vec::new();
    let mut dates = Vec::new();
    while let Some(dialog) = dialogs.next().await.unwrap() {
        let peer = match dialog.peer_ref().into() {
            enums::InputPeer::User(user) => Peer::User(user.user_id),
            enums::InputPeer::Chat(chat) => Peer::Chat(chat.chat_id),
            enums::InputPeer::Channel(channel) => Peer::Channel(channel.channel_id),
            other => panic!("{other:?}"),
        };
        seen.push(peer);
        dates.push(dialog.last_message.unwrap().date());
    }
    assert_eq!(seen.len(), 240);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
    assert!(dates.is_sorted_by(|a, b| a >= b));
    assert_eq!(scene.dc.count("messages.getDialogs").await, 3);
}

fn quiet() -> NewChat {
    NewChat {
        quiet: true,
        ..Default::default()
    }
}

#[tokio::test]
async fn history_pages_to_the_first_message() {
    let scene = Scene::new().await;
    let history = NewHistory {
        account: Some(scene.me),
        peer: Peer::User(scene.friend),
        from: None,
        count: 350,
        text: "old".into(),
        first_date: Some(1_700_000_000),
    };
    scene.dc.seed_history(history).await.unwrap();
    let peer = scene.friend_peer().await;
    let peer: grammers_session::types::PeerRef = peer.into();
    let mut messages = scene.hub.client.iter_messages(peer);
    assert_eq!(messages.total().await.unwrap(), 350);
    let mut texts = Vec::new();
    while let Some(message) = messages.next().await.unwrap() {
        assert!(!message.outgoing());
        texts.push(message.text().to_owned());
    }
    let expected: Vec<_> = (1..=350).rev().map(|n| format!("old {n}")).collect();
    assert_eq!(texts, expected);
    let mut window = scene.hub.client.iter_messages(peer).offset_id(101).limit(10);
    let newest = window.next().await.unwrap().unwrap();
    assert_eq!(newest.id(), 100);
}

#[tokio::test]
async fn a_random_id_sends_once() {
    let scene = Scene::new().await;
    scene.push("hello").await;
    let peer = scene.friend_peer().await;
    let first = scene.hub.call(&send(peer.clone(), "answer", 4711)).await.unwrap();
    let again = scene.hub.call(&send(peer.clone(), "answer", 4711)).await.unwrap();
    let id = |updates: &enums::Updates| match updates {
        enums::Updates::UpdateShortSentMessage(short) => (short.id, short.pts, short.pts_count),
        other => panic!("{other:?}"),
    };
    assert_eq!(id(&first), id(&again));
    scene
        .dc
        .set(Settings {
            repeat: Some(RepeatAnswer::Duplicate),
            ..Default::default()
        })
        .await;
    let refused = rpc(scene.hub.call(&send(peer.clone(), "answer", 4711)).await);
    assert_eq!((refused.0, refused.1.as_str()), (500, "RANDOM_ID_DUPLICATE"));
    scene.hub.call(&send(peer, "another", 4712)).await.unwrap();
    let sent: Vec<_> = scene
        .dc
        .messages(scene.me, Some(Peer::User(scene.friend)))
        .await
        .unwrap()
        .into_iter()
        .filter_map(|message| Some((message.random_id?, message.text)))
        .collect();
    assert_eq!(sent, [(4711, "answer".into()), (4712, "another".into())]);
    let received = scene
        .dc
        .log(LogFilter {
            random_id: Some(4711),
            ..Default::default()
        })
        .await;
    assert_eq!(received.len(), 3);
    assert_eq!(received[0].peer, Some(Peer::User(scene.friend)));
    assert_eq!(received[0].text.as_deref(), Some("answer"));
    assert_eq!(received[2].outcome, "500 RANDOM_ID_DUPLICATE");
}

#[tokio::test]
async fn grammers_own_sends_replies_edits_and_deletes_work() {
    for short_sent in [true, false] {
        let scene = Scene::with(DcConfig {
            short_sent,
            ..Default::default()
        })
        .await;
        let placed = scene.push("question").await;
        let peer: grammers_session::types::PeerRef = scene.friend_peer().await.into();
        let client = &scene.hub.client;
        let message = InputMessage::new().text("answer").reply_to(Some(placed.id));
        let sent = Box::pin(client.send_message(peer, message)).await.unwrap();
        assert_eq!(sent.text(), "answer");
        client.edit_message(peer, sent.id(), "better answer").await.unwrap();
        let stored = scene.dc.messages(scene.me, None).await.unwrap();
        assert_eq!(stored.len(), 2);
        assert_eq!(
            (stored[1].text.as_str(), stored[1].reply_to),
            ("better answer", Some(placed.id))
        );
        assert!(stored[1].edited && stored[1].out);
        let same = client.edit_message(peer, sent.id(), "better answer").await;
        assert_eq!(rpc(same).1, "MESSAGE_NOT_MODIFIED");
        let foreign = client.edit_message(peer, placed.id, "not mine").await;
        assert_eq!(rpc(foreign).1, "MESSAGE_AUTHOR_REQUIRED");
        assert_eq!(client.delete_messages(peer, &[sent.id()]).await.unwrap(), 1);
        assert_eq!(scene.dc.messages(scene.me, None).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn two_accounts_talk_to_each_other() {
    let scene = Scene::new().await;
    let spec = NewAccount {
        phone: "+15550002".into(),
        first_name: "Other".into(),
        ..Default::default()
    };
    let other = scene.dc.add_account(spec).await.unwrap();
    let mut theirs = Hub::connect(&scene.dc, 1);
    theirs.log_in("+15550002").await;
    let mut updates = theirs.updates().await;
    // An offset between the two boxes, so that ids differ.
    push(&scene.dc, other, scene.friend, "noise").await;
    let hello = push(&scene.dc, scene.me, other, "hello").await;
    assert_eq!(hello.id, 1);
    let peer = scene.peer(Peer::User(other)).await;
    let mut call = send(peer.clone(), "reply", 1);
    call.reply_to = Some(reply_to(hello.id));
    scene.hub.call(&call).await.unwrap();
    assert_eq!(updates.texts(3).await, ["noise", "hello", "reply"]);
    let stored = scene.dc.messages(other, Some(Peer::User(scene.me))).await.unwrap();
    assert_eq!(stored[1].reply_to, Some(stored[0].id));
    assert_ne!(stored[0].id, hello.id);
    // The other side reads: the second tick arrives here.
    theirs
        .call(&f::messages::ReadHistory {
            peer: input_user(&theirs, scene.me).await,
            max_id: 0,
        })
        .await
        .unwrap();
    let dialogs = f::messages::GetPeerDialogs {
        peers: vec![tl::types::InputDialogPeer { peer: peer.clone() }.into()],
    };
    let enums::messages::PeerDialogs::Dialogs(dialogs) = scene.hub.call(&dialogs).await.unwrap();
    let enums::Dialog::Dialog(dialog) = &dialogs.dialogs[0] else {
        panic!("a dialog")
    };
    assert_eq!((dialog.read_outbox_max_id, dialog.top_message), (2, 2));
    // Deleting for both.
    scene
        .hub
        .call(&f::messages::DeleteMessages {
            revoke: true,
            id: vec![1, 2],
        })
        .await
        .unwrap();
    assert_eq!(scene.dc.messages(other, Some(Peer::User(scene.me))).await.unwrap(), []);
}

async fn input_user(hub: &Hub, id: i64) -> enums::InputPeer {
    let mut dialogs = hub.client.iter_dialogs();
    while let Some(dialog) = dialogs.next().await.unwrap() {
        let peer: enums::InputPeer = dialog.peer_ref().into();
        if matches!(&peer, enums::InputPeer::User(user) if user.user_id == id) {
            return peer;
        }
    }
    panic!("no chat with {id}");
}

fn reply_to(id: i32) -> enums::InputReplyTo {
    tl::types::InputReplyToMessage {
        reply_to_msg_id: id,
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

#[tokio::test]
async fn reading_moves_the_marks_both_ways() {
    let scene = Scene::new().await;
    for n in 0..3 {
        scene.push(&format!("{n}")).await;
    }
    let peer = scene.friend_peer().await;
    let marks = || async {
        let mut dialogs = scene.hub.client.iter_dialogs();
        let dialog = dialogs.next().await.unwrap().unwrap();
        let enums::Dialog::Dialog(raw) = dialog.raw else {
            panic!("a dialog")
        };
        (raw.unread_count, raw.read_inbox_max_id, raw.read_outbox_max_id)
    };
    assert_eq!(marks().await, (3, 0, 0));
    scene
        .hub
        .client
        .mark_as_read(grammers_session::types::PeerRef::from(peer.clone()))
        .await
        .unwrap();
    assert_eq!(marks().await, (0, 3, 0));
    scene.hub.call(&send(peer, "mine", 1)).await.unwrap();
    let theirs = Read {
        account: scene.me,
        peer: Peer::User(scene.friend),
        max_id: 0,
        side: ReadSide::Outbox,
    };
    scene.dc.read(theirs).await.unwrap();
    assert_eq!(marks().await, (0, 3, 4));
}

#[tokio::test]
async fn reactions_go_both_ways() {
    let mut scene = Scene::new().await;
    let placed = scene.push("nice").await;
    let peer = scene.friend_peer().await;
    let mut updates = scene.hub.updates().await;
    assert_eq!(updates.texts(1).await, ["nice"]);
    let at = MessageRef {
        account: Some(scene.me),
        peer: Peer::User(scene.friend),
        id: placed.id,
    };
    let react = |emoji: Option<&str>| React {
        message: at,
        user: scene.friend,
        emoji: emoji.map(str::to_owned),
    };
    scene.dc.react(react(Some("👍"))).await.unwrap();
    let enums::Update::MessageReactions(update) = updates.next().await else {
        panic!("reactions")
    };
    let enums::MessageReactions::Reactions(reactions) = update.reactions;
    assert_eq!((update.msg_id, reactions.results.len()), (placed.id, 1));
    scene.dc.react(react(None)).await.unwrap();
    let enums::Update::MessageReactions(update) = updates.next().await else {
        panic!("reactions")
    };
    let enums::MessageReactions::Reactions(reactions) = update.reactions;
    assert!(reactions.results.is_empty());
    let heart = vec![tl::types::ReactionEmoji { emoticon: "❤".into() }.into()];
    let call = f::messages::SendReaction {
        big: false,
        add_to_recent: false,
        peer,
        msg_id: placed.id,
        reaction: Some(heart),
    };
    scene.hub.call(&call).await.unwrap();
    let stored = scene.dc.messages(scene.me, None).await.unwrap();
    assert_eq!(stored[0].reactions, [(scene.me, "❤".to_owned())]);
    assert_eq!(
        scene.dc.log(LogFilter::method("messages.sendReaction")).await[0]
            .text
            .as_deref(),
        Some("❤")
    );
}

#[tokio::test]
async fn typing_is_seen_and_logged() {
    let mut scene = Scene::new().await;
    scene.push("hi").await;
    let peer = scene.friend_peer().await;
    let mut updates = scene.hub.updates().await;
    assert_eq!(updates.texts(1).await, ["hi"]);
    let typing = Typing {
        account: Some(scene.me),
        peer: Peer::User(scene.friend),
        user: None,
        action: Default::default(),
    };
    scene.dc.typing(typing).await.unwrap();
    let enums::Update::UserTyping(update) = updates.next().await else {
        panic!("typing")
    };
    assert_eq!(update.user_id, scene.friend);
    let action = enums::SendMessageAction::SendMessageTypingAction;
    assert!(
        scene
            .hub
            .call(&f::messages::SetTyping {
                peer,
                top_msg_id: None,
                action
            })
            .await
            .unwrap()
    );
    let log = scene.dc.log(LogFilter::method("messages.setTyping")).await;
    assert_eq!(log[0].peer, Some(Peer::User(scene.friend)));
}

#[tokio::test]
async fn wrong_access_hashes_are_refused() {
    let scene = Scene::new().await;
    let peer = enums::InputPeer::User(tl::types::InputPeerUser {
        user_id: scene.friend,
        access_hash: 1,
    });
    assert_eq!(
        rpc(scene.hub.call(&send(peer.clone(), "x", 1)).await).1,
        "PEER_ID_INVALID"
    );
    scene
        .dc
        .set(Settings {
            check_access_hashes: Some(false),
            ..Default::default()
        })
        .await;
    scene.hub.call(&send(peer, "x", 1)).await.unwrap();
}

#[tokio::test]
async fn formatted_text_keeps_its_format() {
    let scene = Scene::new().await;
    let bold = NewEntity {
        kind: "bold".into(),
        offset: 0,
        length: 4,
        url: String::new(),
    };
    let message = NewMessage {
        account: Some(scene.me),
        peer: Some(Peer::User(scene.friend)),
        text: "bold text".into(),
        entities: vec![bold],
        ..Default::default()
    };
    scene.dc.push_message(message).await.unwrap();
    let peer: grammers_session::types::PeerRef = scene.friend_peer().await.into();
    let message = scene.hub.client.iter_messages(peer).next().await.unwrap().unwrap();
    assert_eq!(message.fmt_entities().map(Vec::len), Some(1));
}
