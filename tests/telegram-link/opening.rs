//! Opening a link: for the first time, again, and never again.

use std::time::Duration;

use hub_actors::domain::{InboundKind, MessageKind};
use hub_actors::ports::{HistoryRequest, LinkEnd, LinkState};
use telegram_dc::{Fault, FaultScript, LogFilter, NewChat, NewHistory, Peer, Read, ReadSide, Revocation, Revoke};

use super::bed::{Bed, channel_id, eventually, user};

#[tokio::test]
async fn the_first_time_brings_the_chats_and_their_newest_messages() {
    let bed = Bed::new().await;
    let history = NewHistory {
        account: Some(bed.me),
        peer: Peer::User(bed.friend),
        from: None,
        count: 60,
        text: "old".into(),
        first_date: Some(1_600_000_000),
    };
    // The server tells where the last one went; their numbers follow each other.
    let last = bed.dc.seed_history(history).await.unwrap()[0].id;
    let read = Read {
        account: bed.me,
        peer: Peer::User(bed.friend),
        max_id: last - 10,
        side: ReadSide::Inbox,
    };
    bed.dc.read(read).await.unwrap();
    let group = NewChat {
        title: "Group".into(),
        members: vec![bed.friend, bed.me],
        ..Default::default()
    };
    let group = bed.dc.add_chat(group).await.unwrap();
    let channel = bed.channel("Channel").await;
    let _linked = bed.open().await;
    let (event, newest) = bed.feed.message("old 60").await;
    assert_eq!(event.conversation.as_str(), bed.friend.to_string());
    assert_eq!(event.profile.name.as_deref(), Some("Friend"));
    assert!(newest.is_history && !newest.is_read && !newest.is_outgoing);
    assert_eq!(newest.sender_name.as_deref(), Some("Friend"));
    let (_, read) = bed.feed.message("old 50").await;
    assert!(read.is_history && read.is_read);
    assert_eq!(read.sent_at.unix_timestamp(), 1_600_000_049);
    assert!(!bed.feed.texts().contains(&"old 10".to_owned()));
    for (chat, title) in [(format!("-{group}"), "Group"), (channel_id(channel), "Channel")] {
        let (event, message) = bed
            .feed
            .until(title, |events, _| {
                events.iter().find_map(|event| match &event.kind {
                    InboundKind::Message(message) if event.conversation.as_str() == chat => {
                        Some((event.clone(), message.clone()))
                    }
                    _ => None,
                })
            })
            .await;
        assert_eq!(
            (event.profile.name.as_deref(), message.kind),
            (Some(title), MessageKind::System)
        );
    }
    // What comes now is news.
    bed.push("new").await;
    let (_, new) = bed.feed.message("new").await;
    assert!(!new.is_history && !new.is_read);
    eventually("the backfill is remembered", || async {
        bed.feed
            .memory()
            .get("backfill")
            .is_some_and(|bytes| bytes.windows(4).any(|part| part == b"true"))
    })
    .await;
    assert_eq!(
        bed.feed.states().first(),
        Some(&LinkState::CatchingUp { progress: None })
    );
}

#[tokio::test]
async fn many_chats_come_page_by_page_and_only_once() {
    let bed = Bed::new().await;
    for number in 0..120 {
        let person = user(&bed.dc, &format!("Person {number}")).await;
        bed.push_as(person, &format!("hello from {number}")).await;
    }
    let linked = bed.open().await;
    for number in 0..120 {
        bed.feed.message(&format!("hello from {number}")).await;
    }
    let progress = bed.feed.states().into_iter().filter(
        |state| matches!(state, LinkState::CatchingUp { progress: Some(words) } if words.ends_with("of 120 chats")),
    );
    assert!(progress.count() >= 1);
    eventually("all is done", || async {
        bed.feed
            .memory()
            .get("backfill")
            .is_some_and(|bytes| bytes.windows(4).any(|part| part == b"true"))
    })
    .await;
    drop(linked);
    bed.dc.clear_log().await;
    let events = bed.feed.events().len();
    let _linked = bed.open().await;
    bed.push("new").await;
    bed.feed.message("new").await;
    assert_eq!(bed.dc.count("messages.getHistory").await, 0);
    assert_eq!(bed.feed.events().len(), events + 1);
}

#[tokio::test]
async fn a_broken_backfill_goes_on() {
    let bed = Bed::new().await;
    for number in 0..30 {
        let person = user(&bed.dc, &format!("Person {number}")).await;
        bed.push_as(person, &format!("hello from {number}")).await;
    }
    let linked = bed.try_open().await.ok().unwrap();
    bed.feed.message("hello from 29").await;
    drop(linked);
    let done = bed
        .feed
        .memory()
        .keys()
        .filter(|name| name.starts_with("backfill/"))
        .count();
    bed.dc.clear_log().await;
    let _linked = bed.open().await;
    for number in 0..30 {
        bed.feed.message(&format!("hello from {number}")).await;
    }
    assert!(done < 30, "it was too fast to be broken");
    assert_eq!(bed.dc.count("messages.getHistory").await, 30 - done);
}

#[tokio::test]
async fn older_messages_come_on_demand_to_the_first() {
    let bed = Bed::new().await;
    let history = NewHistory {
        account: Some(bed.me),
        peer: Peer::User(bed.friend),
        from: None,
        count: 170,
        text: "old".into(),
        first_date: Some(1_600_000_000),
    };
    let last = bed.dc.seed_history(history).await.unwrap()[0].id;
    let linked = bed.open().await;
    bed.feed.message("old 170").await;
    let request = |before: i32, limit| HistoryRequest {
        conversation: bed.friend.to_string().as_str().into(),
        before: Some(before.to_string().as_str().into()),
        limit,
    };
    assert_eq!(linked.link.history(&request(last - 49, 100)).await, Ok(100));
    bed.feed.message("old 21").await;
    assert!(!bed.feed.texts().contains(&"old 20".to_owned()));
    assert_eq!(linked.link.history(&request(last - 149, 100)).await, Ok(20));
    let (_, first) = bed.feed.message("old 1").await;
    assert!(first.is_history && !first.is_read);
    let stranger = HistoryRequest {
        conversation: "424242".into(),
        before: None,
        limit: 10,
    };
    assert!(linked.link.history(&stranger).await.is_err());
}

#[tokio::test]
async fn what_was_missed_comes_at_the_next_opening() {
    let bed = Bed::new().await;
    let channel = bed.channel("Channel").await;
    bed.push("before").await;
    let linked = bed.open().await;
    bed.feed.message("before").await;
    bed.speak(channel, "channel before").await;
    bed.feed.message("channel before").await;
    drop(linked);
    eventually("the connection closes", || async {
        bed.dc.state().await.connections == 0
    })
    .await;
    let mut expected = bed.feed.texts();
    for number in 0..130 {
        bed.push(&format!("missed {number}")).await;
        expected.push(format!("missed {number}"));
    }
    for number in 0..70 {
        bed.speak(channel, &format!("channel missed {number}")).await;
        expected.push(format!("channel missed {number}"));
    }
    let _linked = bed.open().await;
    bed.feed.message("missed 129").await;
    bed.feed.message("channel missed 69").await;
    assert_eq!(bed.feed.texts(), expected);
}

#[tokio::test]
async fn what_was_not_stored_comes_again() {
    let bed = Bed::new().await;
    let channel = bed.channel("Channel").await;
    let linked = bed.open().await;
    bed.push("stored").await;
    bed.speak(channel, "channel stored").await;
    bed.feed.message("channel stored").await;
    bed.feed.message("stored").await;
    bed.feed.stop(true);
    for number in 0..20 {
        bed.push(&format!("unstored {number}")).await;
        bed.speak(channel, &format!("channel unstored {number}")).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(linked);
    bed.feed.stop(false);
    assert!(!bed.feed.texts().contains(&"unstored 0".to_owned()));
    let _linked = bed.open().await;
    for number in 0..20 {
        bed.feed.message(&format!("unstored {number}")).await;
        bed.feed.message(&format!("channel unstored {number}")).await;
    }
}

#[tokio::test]
async fn a_slow_database_loses_nothing_and_keeps_the_order() {
    let bed = Bed::new().await;
    let _linked = bed.open().await;
    bed.push("first").await;
    bed.feed.message("first").await;
    bed.feed.stop(true);
    let mut expected = bed.feed.texts();
    for number in 0..400 {
        bed.push(&format!("{number}")).await;
        expected.push(format!("{number}"));
    }
    bed.feed.stop(false);
    bed.feed.message("399").await;
    assert_eq!(bed.feed.texts(), expected);
}

#[tokio::test]
async fn an_ended_session_ends_the_link_and_nothing_more_is_tried() {
    for (kind, is_revoked) in [
        (Revocation::Revoked, true),
        (Revocation::Expired, false),
        (Revocation::Unregistered, false),
        (Revocation::Deactivated, false),
        (Revocation::Duplicated, false),
    ] {
        let bed = Bed::new().await;
        let mut linked = bed.open().await;
        let revoke = Revoke {
            account: Some(bed.me),
            kind,
            drop: true,
            ..Default::default()
        };
        bed.dc.revoke(revoke).await;
        let end = linked.end().await;
        match (&end, is_revoked) {
            (LinkEnd::Revoked { .. }, true) | (LinkEnd::NeedsLogin { .. }, false) => {}
            _ => panic!("{kind:?}: {end:?}"),
        }
        drop(linked);
        bed.dc.clear_log().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(bed.dc.log(LogFilter::default()).await, []);
        let Err(end) = bed.try_open().await else {
            panic!("it opened")
        };
        assert!(
            matches!(end, LinkEnd::Revoked { .. } | LinkEnd::NeedsLogin { .. }),
            "{end:?}"
        );
    }
}

#[tokio::test]
async fn a_probe_finds_an_ended_session() {
    let bed = Bed::new().await;
    let mut linked = bed.open().await;
    assert_eq!(linked.link.probe().await, Ok(()));
    let revoke = Revoke {
        account: Some(bed.me),
        ..Default::default()
    };
    bed.dc.revoke(revoke).await;
    let link = std::sync::Arc::clone(&linked.link);
    let probe = tokio::spawn(async move { link.probe().await });
    assert!(matches!(linked.end().await, LinkEnd::Revoked { .. }));
    assert!(
        !probe.is_finished(),
        "another reason would have started the link once more"
    );
    probe.abort();
}

#[tokio::test]
async fn an_unknown_key_is_kept_and_tried_a_few_times() {
    let bed = Bed::new().await;
    drop(bed.open().await);
    let session = bed.feed.memory()["session"].clone();
    let revoke = Revoke {
        account: Some(bed.me),
        kind: Revocation::Unknown,
        drop: true,
        ..Default::default()
    };
    bed.dc.revoke(revoke).await;
    for _ in 0..4 {
        let Err(end) = bed.try_open().await else {
            panic!("it opened")
        };
        assert!(
            matches!(
                end,
                LinkEnd::Lost {
                    not_before: Some(_),
                    ..
                }
            ),
            "{end:?}"
        );
    }
    let Err(end) = bed.try_open().await else {
        panic!("it opened")
    };
    assert!(matches!(end, LinkEnd::NeedsLogin { .. }), "{end:?}");
    assert_eq!(bed.feed.memory()["session"], session);
}

#[tokio::test]
async fn a_dropped_link_leaves_nothing_behind() {
    let bed = Bed::new().await;
    let linked = bed.open().await;
    assert_eq!(bed.dc.state().await.connections, 1);
    drop(linked);
    eventually("the connection closes", || async {
        bed.dc.state().await.connections == 0
    })
    .await;
}

#[tokio::test]
async fn a_crash_of_the_connections_ends_the_link() {
    let bed = Bed::new().await;
    let mut linked = bed.open().await;
    let script = FaultScript::next("updates.getState", Fault::WrongSession);
    bed.dc.script(script).await.unwrap();
    let link = std::sync::Arc::clone(&linked.link);
    tokio::spawn(async move { link.probe().await });
    assert!(matches!(linked.end().await, LinkEnd::Lost { .. }));
    drop(linked);
    let _linked = bed.open().await;
    bed.push("after").await;
    bed.feed.message("after").await;
}

#[tokio::test]
async fn signing_out_ends_the_login() {
    let bed = Bed::new().await;
    let linked = bed.open().await;
    linked.link.sign_out().await;
    assert_eq!(bed.dc.count("auth.logOut").await, 1);
    assert!(bed.dc.state().await.accounts[0].keys.is_empty());
}
