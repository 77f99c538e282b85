//! Everything that can happen in a chat, in the hub's words.

use hub_actors::domain::{AttachmentKind, InboundKind, MessageKind};
use telegram_dc::{
    Delete, Edit, MediaKind, MessageRef, NewChannel, NewChat, NewEntity, NewMedia, NewMessage, Peer, Placed, React,
    Read, ReadSide, Service, Typing,
};

use super::bed::{Bed, Linked, channel_id};

struct Scene {
    bed: Bed,
    _linked: Linked,
    placed: Placed,
}

impl Scene {
    /// A live link and a message of the friend's that has arrived.
    async fn new() -> Self {
        let bed = Bed::new().await;
        let linked = bed.open().await;
        let placed = bed.push("hello").await;
        bed.feed.message("hello").await;
        Self {
            bed,
            _linked: linked,
            placed,
        }
    }

    fn at(&self) -> MessageRef {
        MessageRef {
            account: Some(self.bed.me),
            peer: Peer::User(self.bed.friend),
            id: self.placed.id,
        }
    }

    async fn say(&self, message: NewMessage) -> Placed {
        self.bed.dc.push_message(message).await.unwrap().remove(0)
    }

    fn to_me(&self) -> NewMessage {
        NewMessage {
            account: Some(self.bed.me),
            peer: Some(Peer::User(self.bed.friend)),
            ..NewMessage::default()
        }
    }
}

#[tokio::test]
async fn texts_replies_and_formats() {
    let scene = Scene::new().await;
    let (feed, friend) = (&scene.bed.feed, scene.bed.friend.to_string());
    let entity = |kind: &str, offset, length, url: &str| NewEntity {
        kind: kind.into(),
        offset,
        length,
        url: url.into(),
    };
    let reply = NewMessage {
        text: "bold and a link".into(),
        entities: vec![entity("bold", 0, 4, ""), entity("link", 11, 4, "https://example.com/")],
        reply_to: Some(scene.placed.id),
        date: Some(1_700_000_000),
        ..scene.to_me()
    };
    let placed = scene.say(reply).await;
    let (event, message) = feed.message("**bold** and a [link](https://example.com/)").await;
    assert_eq!(event.conversation.as_str(), friend);
    assert_eq!(event.profile.participant_id.as_deref(), Some(friend.as_str()));
    assert_eq!(message.external_id.as_str(), placed.id.to_string());
    assert_eq!(
        (message.sender_id.as_str(), message.sender_name.as_deref()),
        (friend.as_str(), Some("Friend"))
    );
    assert_eq!(message.reply_to.unwrap().as_str(), scene.placed.id.to_string());
    assert_eq!(message.sent_at.unix_timestamp(), 1_700_000_000);
    assert_eq!(
        (message.kind, message.is_outgoing, message.is_history),
        (MessageKind::Text, false, false)
    );
    // Written on another device.
    let own = NewMessage {
        from: Some(scene.bed.me),
        text: "mine".into(),
        ..scene.to_me()
    };
    scene.say(own).await;
    let (event, message) = feed.message("mine").await;
    assert_eq!(event.conversation.as_str(), friend);
    assert_eq!(
        (message.is_outgoing, message.sender_id.as_str()),
        (true, scene.bed.me.to_string().as_str())
    );
}

#[tokio::test]
async fn edits_and_reactions() {
    let scene = Scene::new().await;
    let (feed, dc) = (&scene.bed.feed, &scene.bed.dc);
    let edit = Edit {
        message: scene.at(),
        text: "changed".into(),
        lost: false,
    };
    dc.edit(edit).await.unwrap();
    let (event, (message, text)) = feed
        .event("the edit", |kind| match kind {
            InboundKind::Edited { message, text, .. } => Some((message.clone(), text.clone())),
            _ => None,
        })
        .await;
    assert_eq!(event.conversation.as_str(), scene.bed.friend.to_string());
    assert_eq!(
        (message.as_str(), text.as_str()),
        (scene.placed.id.to_string().as_str(), "changed")
    );
    for (emoji, is_active) in [(Some("👍"), true), (None, false)] {
        let react = React {
            message: scene.at(),
            user: scene.bed.friend,
            emoji: emoji.map(str::to_owned),
        };
        dc.react(react).await.unwrap();
        let (_, actor) = feed
            .event("the reaction", |kind| match kind {
                InboundKind::Reaction {
                    actor_id,
                    emoji,
                    is_active: active,
                    ..
                } if emoji == "👍" && *active == is_active => Some(actor_id.clone()),
                _ => None,
            })
            .await;
        assert_eq!(actor, scene.bed.friend.to_string());
    }
}

#[tokio::test]
async fn a_deletion_without_a_chat_finds_its_chat() {
    let scene = Scene::new().await;
    let (feed, dc) = (&scene.bed.feed, &scene.bed.dc);
    let channel = scene.bed.channel("Channel").await;
    // The same number in a channel is another message.
    let mut placed = scene.bed.push("one more").await;
    while placed.id < 4 {
        placed = scene.bed.push("one more").await;
    }
    let mut id = 0;
    while id < placed.id {
        id = scene.bed.speak(channel, "in the channel").await.id;
    }
    assert_eq!(id, placed.id);
    feed.until("the channel's message", |events, _| {
        let is_it = |kind: &InboundKind| kind.message().is_some_and(|message| message.as_str() == id.to_string());
        events
            .iter()
            .any(|event| event.conversation.as_str().starts_with("-100") && is_it(&event.kind))
            .then_some(())
    })
    .await;
    let delete = Delete {
        account: Some(scene.bed.me),
        peer: Peer::User(scene.bed.friend),
        ids: vec![placed.id],
        lost: false,
    };
    dc.delete(delete).await.unwrap();
    let deleted = |kind: &InboundKind| match kind {
        InboundKind::Deleted { message, .. } => Some(message.clone()),
        _ => None,
    };
    let (event, message) = feed.event("the deletion", deleted).await;
    assert_eq!(event.conversation.as_str(), scene.bed.friend.to_string());
    assert_eq!(message.as_str(), placed.id.to_string());
    let delete = Delete {
        account: None,
        peer: Peer::Channel(channel),
        ids: vec![id],
        lost: false,
    };
    dc.delete(delete).await.unwrap();
    let in_channel = channel_id(channel);
    feed.until("the channel's deletion", |events, _| {
        events
            .iter()
            .any(|event| event.conversation.as_str() == in_channel && deleted(&event.kind).is_some())
            .then_some(())
    })
    .await;
    let count = feed
        .events()
        .iter()
        .filter(|event| deleted(&event.kind).is_some())
        .count();
    assert_eq!(count, 2);
}

#[tokio::test]
async fn read_marks_and_typing() {
    let scene = Scene::new().await;
    let (feed, dc) = (&scene.bed.feed, &scene.bed.dc);
    let channel = scene.bed.channel("Channel").await;
    scene.bed.speak(channel, "in the channel").await;
    feed.message("in the channel").await;
    let peers = [
        (Peer::User(scene.bed.friend), scene.bed.friend.to_string()),
        (Peer::Channel(channel), channel_id(channel)),
    ];
    for (peer, chat) in peers {
        for (side, by_peer) in [(ReadSide::Inbox, false), (ReadSide::Outbox, true)] {
            if by_peer {
                let own = NewMessage {
                    from: Some(scene.bed.me),
                    text: format!("mine in {chat}"),
                    peer: Some(peer),
                    ..scene.to_me()
                };
                scene.say(own).await;
            }
            let read = Read {
                account: scene.bed.me,
                peer,
                max_id: 0,
                side,
            };
            dc.read(read).await.unwrap();
            feed.until("the read mark", |events, _| {
                let is_it =
                    |kind: &InboundKind| matches!(kind, InboundKind::SeenUpTo { by_peer: by, .. } if *by == by_peer);
                events
                    .iter()
                    .any(|event| event.conversation.as_str() == chat && is_it(&event.kind))
                    .then_some(())
            })
            .await;
        }
        let typing = Typing {
            account: Some(scene.bed.me),
            peer,
            user: Some(scene.bed.friend),
            action: Default::default(),
        };
        dc.typing(typing).await.unwrap();
        feed.until("the typing", |events, _| {
            let friend = scene.bed.friend.to_string();
            let is_it = |kind: &InboundKind| {
                matches!(kind, InboundKind::Typing { actor_id, actor_name }
                    if *actor_id == friend && actor_name.as_deref() == Some("Friend"))
            };
            events
                .iter()
                .any(|event| event.conversation.as_str() == chat && is_it(&event.kind))
                .then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn groups_and_channels_and_what_happens_in_them() {
    let scene = Scene::new().await;
    let (feed, dc) = (&scene.bed.feed, &scene.bed.dc);
    let other = super::bed::user(dc, "Other").await;
    let group = NewChat {
        title: "Group".into(),
        members: vec![scene.bed.friend, scene.bed.me],
        ..Default::default()
    };
    let group = dc.add_chat(group).await.unwrap();
    let peer = Peer::Chat(group);
    let say = |service: Option<Service>, text: &str| NewMessage {
        from: Some(scene.bed.friend),
        peer: Some(peer),
        account: None,
        text: text.into(),
        service,
        ..Default::default()
    };
    scene.say(say(None, "hello group")).await;
    let (event, message) = feed.message("hello group").await;
    assert_eq!(event.conversation.as_str(), format!("-{group}"));
    assert_eq!(event.profile.name.as_deref(), Some("Group"));
    assert_eq!(
        (message.sender_id, message.sender_name.as_deref()),
        (scene.bed.friend.to_string(), Some("Friend"))
    );
    for (service, sentence) in [
        (Service::Joined(vec![other]), "Friend added Other"),
        (Service::Joined(vec![scene.bed.friend]), "Friend joined"),
        (
            Service::Title("Renamed".into()),
            "Friend changed the title to “Renamed”",
        ),
        (Service::Left(other), "Friend removed Other"),
        (Service::Left(scene.bed.friend), "Friend left"),
    ] {
        scene.say(say(Some(service), "")).await;
        let (event, message) = feed.message(sentence).await;
        assert_eq!(
            (message.kind, event.conversation.as_str()),
            (MessageKind::System, format!("-{group}").as_str())
        );
    }
    let (event, _) = feed.message("Friend changed the title to “Renamed”").await;
    assert_eq!(event.profile.name.as_deref(), Some("Renamed"));
    dc.pin(scene.at(), true).await.unwrap();
    let broadcast = NewChannel {
        title: "News".into(),
        broadcast: true,
        members: vec![scene.bed.friend, scene.bed.me],
        ..Default::default()
    };
    let broadcast = dc.add_channel(broadcast).await.unwrap();
    let news = NewMessage {
        peer: Some(Peer::Channel(broadcast)),
        text: "the news".into(),
        ..Default::default()
    };
    scene.say(news).await;
    let (event, message) = feed.message("the news").await;
    assert_eq!(event.conversation.as_str(), channel_id(broadcast));
    assert_eq!(
        (message.sender_id, message.sender_name.as_deref()),
        (channel_id(broadcast), Some("News"))
    );
}

#[tokio::test]
async fn files_are_described_and_not_fetched() {
    let scene = Scene::new().await;
    let feed = &scene.bed.feed;
    let media = |kind, name: Option<&str>| NewMedia {
        kind,
        name: name.map(str::to_owned),
        size: 100_000,
        seed: 7,
        duration: Some(12),
        ..Default::default()
    };
    for (text, media, kind, expected) in [
        (
            "a photo",
            media(MediaKind::Photo, None),
            MessageKind::Image,
            AttachmentKind::Photo,
        ),
        (
            "a video",
            media(MediaKind::Video, None),
            MessageKind::Video,
            AttachmentKind::Video,
        ),
        (
            "a voice",
            media(MediaKind::Voice, None),
            MessageKind::File,
            AttachmentKind::Voice,
        ),
        (
            "a file",
            media(MediaKind::Document, Some("a.bin")),
            MessageKind::File,
            AttachmentKind::Document,
        ),
    ] {
        let message = NewMessage {
            text: text.into(),
            media: Some(media),
            ..scene.to_me()
        };
        scene.say(message).await;
        let (_, message) = feed.message(text).await;
        let [attachment] = &message.attachments[..] else {
            panic!("{text}: one file")
        };
        assert_eq!(
            (message.kind, attachment.kind, attachment.size),
            (kind, expected, Some(100_000)),
            "{text}"
        );
        match expected {
            AttachmentKind::Photo | AttachmentKind::Video => {
                assert_eq!((attachment.width, attachment.height), (Some(1280), Some(720)));
            }
            AttachmentKind::Document => assert_eq!(attachment.name.as_deref(), Some("a.bin")),
            _ => assert_eq!(attachment.duration, Some(12)),
        }
    }
    assert_eq!(scene.bed.dc.count("upload.getFile").await, 0);
}
