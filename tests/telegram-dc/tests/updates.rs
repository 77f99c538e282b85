//! Pushes, gaps, differences, channels, restarts: no message is lost and none comes twice.

#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "times are measured by the clock of the server under test"
)]

mod common;

use std::time::Duration;

use common::*;
use grammers_tl_types::{self as tl, enums, functions as f};
use telegram_dc::{
    ChannelHints, ConnFilter, DcConfig, Delete, Edit, Gap, MakeGap, MessageRef, NewChannel, NewMessage, Peer, Settings,
};

async fn live() -> (Scene, Updates) {
    live_with(DcConfig::default()).await
}

async fn live_with(config: DcConfig) -> (Scene, Updates) {
    let mut scene = Scene::with(config).await;
    scene.push("first").await;
    let _ = scene.friend_peer().await;
    let mut updates = scene.hub.updates().await;
    assert_eq!(updates.texts(1).await, ["first"]);
    (scene, updates)
}

/// A gap of the channel, or else of the account.
async fn lose(scene: &Scene, channel: Option<i64>, kind: Gap, count: u32) {
    let gap = MakeGap {
        account: channel.is_none().then_some(scene.me),
        channel,
        kind,
        count,
    };
    scene.dc.gap(gap).await.unwrap();
}

/// A channel the client has seen in its list of chats.
async fn channel(scene: &Scene) -> i64 {
    let members = vec![scene.friend, scene.me];
    let spec = NewChannel {
        title: "Channel".into(),
        members,
        ..Default::default()
    };
    scene.dc.add_channel(spec).await.unwrap()
}

async fn speak(scene: &Scene, channel: i64, text: &str) {
    let message = NewMessage {
        peer: Some(Peer::Channel(channel)),
        from: Some(scene.friend),
        text: text.into(),
        ..Default::default()
    };
    scene.dc.push_message(message).await.unwrap();
}

#[tokio::test]
async fn pushes_arrive_in_order_and_fast() {
    let (scene, mut updates) = live().await;
    let start = tokio::time::Instant::now();
    let mut expected = Vec::new();
    for n in 0..200 {
        let text = format!("push {n}");
        scene.push(&text).await;
        expected.push(text);
    }
    assert_eq!(updates.texts(200).await, expected);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(scene.dc.count("updates.getDifference").await, 1);
}

#[tokio::test]
async fn short_pushes_arrive_too() {
    let (scene, mut updates) = live_with(DcConfig {
        short_pushes: true,
        ..Default::default()
    })
    .await;
    scene.push("short").await;
    assert_eq!(updates.texts(1).await, ["short"]);
}

#[tokio::test]
async fn edits_and_deletes_arrive() {
    let (scene, mut updates) = live().await;
    let placed = scene.push("second").await;
    assert_eq!(updates.texts(1).await, ["second"]);
    let message = MessageRef {
        account: Some(scene.me),
        peer: Peer::User(scene.friend),
        id: placed.id,
    };
    scene
        .dc
        .edit(Edit {
            message,
            text: "changed".into(),
            lost: false,
        })
        .await
        .unwrap();
    let enums::Update::EditMessage(edit) = updates.next().await else {
        panic!("an edit")
    };
    let enums::Message::Message(edited) = edit.message else {
        panic!("a message")
    };
    assert_eq!((edited.id, edited.message.as_str()), (placed.id, "changed"));
    let delete = Delete {
        account: Some(scene.me),
        peer: Peer::User(scene.friend),
        ids: vec![placed.id],
        lost: false,
    };
    scene.dc.delete(delete).await.unwrap();
    // Ids only, no chat: the client has to know where they were.
    let enums::Update::DeleteMessages(deleted) = updates.next().await else {
        panic!("a delete")
    };
    assert_eq!((deleted.messages, deleted.pts_count), (vec![placed.id], 1));
}

#[tokio::test]
async fn a_gap_is_filled_by_the_difference() {
    let (scene, mut updates) = live().await;
    lose(&scene, None, Gap::Lose, 2).await;
    for text in ["lost 1", "lost 2", "seen"] {
        scene.push(text).await;
    }
    let mut texts = updates.texts(3).await;
    texts.sort();
    assert_eq!(texts, ["lost 1", "lost 2", "seen"]);
    assert!(updates.try_next(Duration::from_millis(100)).await.is_none());
    assert_eq!(updates.receiver_pts().await, scene.dc.state().await.accounts[0].pts);
}

#[tokio::test]
async fn an_empty_gap_only_moves_pts() {
    let (scene, mut updates) = live().await;
    lose(&scene, None, Gap::Pts, 5).await;
    scene.push("after").await;
    assert_eq!(updates.texts(1).await, ["after"]);
    assert_eq!(updates.receiver_pts().await, scene.dc.state().await.accounts[0].pts);
}

#[tokio::test]
async fn gaps_of_seq_and_qts_are_noticed() {
    let (scene, mut updates) = live_with(DcConfig {
        seq_pushes: true,
        ..Default::default()
    })
    .await;
    scene.push("numbered").await;
    assert_eq!(updates.texts(1).await, ["numbered"]);
    let before = scene.dc.count("updates.getDifference").await;
    lose(&scene, None, Gap::Seq, 3).await;
    scene.push("after").await;
    assert_eq!(updates.texts(1).await, ["after"]);
    assert_eq!(scene.dc.count("updates.getDifference").await, before + 1);
    lose(&scene, None, Gap::Qts, 1).await;
    scene.dc.push_encrypted(scene.me).await.unwrap();
    let mut encrypted = 0;
    while encrypted < 2 {
        if let enums::Update::NewEncryptedMessage(_) = updates.next().await {
            encrypted += 1;
        }
    }
    assert_eq!(scene.dc.state().await.accounts[0].qts, 3);
}

#[tokio::test]
async fn a_long_absence_comes_in_slices() {
    let (mut scene, updates) = live_with(DcConfig {
        slice: 7,
        ..Default::default()
    })
    .await;
    updates.save().await;
    drop(updates);
    scene.hub = scene.hub.again();
    let expected: Vec<_> = (0..30).map(|n| format!("missed {n}")).collect();
    for text in &expected {
        scene.push(text).await;
    }
    scene.dc.clear_log().await;
    let mut updates = scene.hub.updates().await;
    assert_eq!(updates.texts(30).await, expected);
    assert_eq!(scene.dc.count("updates.getDifference").await, 5);
    assert!(updates.try_next(Duration::from_millis(100)).await.is_none());
}

#[tokio::test]
async fn an_absence_that_was_too_long_starts_over() {
    let (scene, mut updates) = live().await;
    lose(&scene, None, Gap::TooLong, 1).await;
    lose(&scene, None, Gap::Lose, 1).await;
    scene.push("never seen").await;
    scene.push("reveals the gap").await;
    assert!(updates.try_next(Duration::from_millis(900)).await.is_none());
    assert_eq!(updates.receiver_pts().await, scene.dc.state().await.accounts[0].pts);
    scene.push("after").await;
    assert_eq!(updates.texts(1).await, ["after"]);
}

#[tokio::test]
async fn channels_have_gaps_of_their_own() {
    let mut scene = Scene::new().await;
    let id = channel(&scene).await;
    let _ = scene.peer(Peer::Channel(id)).await;
    let mut updates = scene.hub.updates().await;
    speak(&scene, id, "seen").await;
    assert_eq!(updates.texts(1).await, ["seen"]);
    lose(&scene, Some(id), Gap::Lose, 3).await;
    for n in 0..4 {
        speak(&scene, id, &format!("channel {n}")).await;
    }
    let mut texts = updates.texts(4).await;
    texts.sort();
    assert_eq!(texts, ["channel 0", "channel 1", "channel 2", "channel 3"]);
    scene.dc.push_channel_too_long(id, false).await.unwrap();
    speak(&scene, id, "go on").await;
    assert_eq!(updates.texts(1).await, ["go on"]);
}

#[tokio::test]
async fn cleared_faults_leave_no_hole_behind() {
    let (scene, mut updates) = live().await;
    let id = channel(&scene).await;
    let _ = scene.peer(Peer::Channel(id)).await;
    speak(&scene, id, "seen").await;
    assert_eq!(updates.texts(1).await, ["seen"]);
    for owner in [None, Some(id)] {
        for kind in [Gap::Lose, Gap::TooLong] {
            lose(&scene, owner, kind, 9).await;
        }
    }
    scene.dc.clear_faults().await;
    scene.push("to the account").await;
    assert_eq!(updates.texts(1).await, ["to the account"]);
    speak(&scene, id, "to the channel").await;
    assert_eq!(updates.texts(1).await, ["to the channel"]);
    // Differences are answered too.
    scene.dc.drop_connections(ConnFilter::default()).await;
    scene.push("while away").await;
    speak(&scene, id, "there too").await;
    let mut texts = updates.texts(2).await;
    texts.sort();
    assert_eq!(texts, ["there too", "while away"]);
}

#[tokio::test]
async fn a_channel_difference_pages_and_can_be_too_long() {
    let scene = Scene::new().await;
    let id = channel(&scene).await;
    for n in 0..12 {
        speak(&scene, id, &format!("{n}")).await;
    }
    let enums::InputPeer::Channel(peer) = scene.peer(Peer::Channel(id)).await else {
        panic!("a channel")
    };
    let channel: enums::InputChannel = tl::types::InputChannel {
        channel_id: peer.channel_id,
        access_hash: peer.access_hash,
    }
    .into();
    let mut call = f::updates::GetChannelDifference {
        force: false,
        channel,
        filter: enums::ChannelMessagesFilter::Empty,
        pts: 2,
        limit: 5,
    };
    let mut texts = Vec::new();
    loop {
        match scene.hub.call(&call).await.unwrap() {
            enums::updates::ChannelDifference::Difference(part) => {
                texts.extend(part.new_messages.iter().filter_map(|message| match message {
                    enums::Message::Message(message) => Some(message.message.clone()),
                    _ => None,
                }));
                call.pts = part.pts;
                if part.r#final {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(texts.len(), 12);
    let empty = scene.hub.call(&call).await.unwrap();
    assert!(matches!(empty, enums::updates::ChannelDifference::Empty(_)));
    scene
        .dc
        .set(Settings {
            channel_too_long: Some(3),
            ..Default::default()
        })
        .await;
    call.pts = 2;
    let long = scene.hub.call(&call).await.unwrap();
    assert!(matches!(long, enums::updates::ChannelDifference::TooLong(_)));
}

#[tokio::test]
async fn a_restart_of_the_client_catches_up() {
    let mut scene = Scene::new().await;
    let id = channel(&scene).await;
    let _ = scene.peer(Peer::Channel(id)).await;
    let mut updates = scene.hub.updates().await;
    scene.push("before").await;
    speak(&scene, id, "channel before").await;
    updates.texts(2).await;
    updates.save().await;
    drop(updates);
    let again = scene.hub.again();
    drop(std::mem::replace(&mut scene.hub, again));
    scene.push("while away").await;
    speak(&scene, id, "channel while away").await;
    let mut updates = scene.hub.updates().await;
    let mut texts = updates.texts(2).await;
    texts.sort();
    assert_eq!(texts, ["channel while away", "while away"]);
    scene.push("live again").await;
    assert_eq!(updates.texts(1).await, ["live again"]);
}

#[tokio::test]
async fn a_restart_of_the_server_loses_nothing() {
    let (scene, mut updates) = live().await;
    scene.dc.stop_listening().await;
    assert_eq!(scene.dc.state().await.connections, 0);
    scene.push("while down").await;
    assert!(updates.try_next(Duration::from_millis(100)).await.is_none());
    scene.dc.start_listening().await.unwrap();
    assert_eq!(updates.texts(1).await, ["while down"]);
    scene.dc.restart(Duration::from_millis(20)).await.unwrap();
    scene.push("after").await;
    assert_eq!(updates.texts(1).await, ["after"]);
}

#[tokio::test]
async fn dropped_sockets_lose_nothing() {
    let (scene, mut updates) = live().await;
    let mut expected = Vec::new();
    let mut seen = Vec::new();
    for n in 0..10 {
        scene.push(&format!("{n}")).await;
        expected.push(format!("{n}"));
        if n % 3 == 0 {
            scene.dc.drop_connections(ConnFilter::default()).await;
            scene.push(&format!("{n} offline")).await;
            expected.push(format!("{n} offline"));
        }
        seen.extend(updates.texts(if n % 3 == 0 { 2 } else { 1 }).await);
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn updates_too_long_asks_for_a_difference() {
    let (scene, mut updates) = live().await;
    lose(&scene, None, Gap::Lose, 1).await;
    scene.push("hidden").await;
    scene.dc.push_too_long(scene.me).await;
    assert_eq!(updates.texts(1).await, ["hidden"]);
}

impl Updates {
    /// pts the client has reached.
    async fn receiver_pts(&mut self) -> i32 {
        // Let a difference under way finish.
        while self.try_next(Duration::from_millis(50)).await.is_some() {}
        self.pts().await
    }
}

#[tokio::test]
async fn a_difference_names_the_channels_that_changed() {
    let mut scene = Scene::new().await;
    let id = channel(&scene).await;
    scene.push("first").await;
    let _ = scene.peer(Peer::Channel(id)).await;
    let mut updates = scene.hub.updates().await;
    speak(&scene, id, "seen").await;
    updates.texts(2).await;
    scene.dc.drop_connections(ConnFilter::default()).await;
    speak(&scene, id, "while away").await;
    assert_eq!(updates.texts(1).await, ["while away"]);
    let state = scene.dc.state().await;
    let call = f::updates::GetDifference {
        pts: state.accounts[0].pts,
        pts_limit: None,
        pts_total_limit: None,
        date: 1,
        qts: 1,
        qts_limit: None,
    };
    for (channel_hints, pts) in [
        (ChannelHints::WithPts, Some(state.channels[0].pts)),
        (ChannelHints::WithoutPts, None),
    ] {
        scene
            .dc
            .set(Settings {
                channel_hints: Some(channel_hints),
                ..Default::default()
            })
            .await;
        let enums::updates::Difference::Difference(difference) = scene.hub.call(&call).await.unwrap() else {
            panic!("a difference");
        };
        let enums::Update::ChannelTooLong(hint) = &difference.other_updates[0] else {
            panic!("a hint")
        };
        assert_eq!((hint.channel_id, hint.pts), (id, pts));
    }
    scene
        .dc
        .set(Settings {
            channel_hints: Some(ChannelHints::None),
            ..Default::default()
        })
        .await;
    let empty = scene.hub.call(&call).await.unwrap();
    assert!(matches!(empty, enums::updates::Difference::Empty(_)));
}
