//! Whatever is lost on the way, every message is handed over, and in the order of its chat.

use std::time::Duration;

use telegram_dc::{
    ChannelHints, ConnFilter, DcConfig, Fault, FaultScript, Gap, MakeGap, NewMessage, Peer, RepeatAnswer, Settings,
};

use super::bed::{Bed, Linked, eventually, texts};

async fn live(bed: &Bed) -> Linked {
    let linked = bed.open().await;
    bed.push("first").await;
    bed.feed.message("first").await;
    linked
}

async fn lose(bed: &Bed, channel: Option<i64>, kind: Gap, count: u32) {
    let gap = MakeGap {
        account: channel.is_none().then_some(bed.me),
        channel,
        kind,
        count,
    };
    bed.dc.gap(gap).await.unwrap();
}

/// The texts of one chat, in order.
fn chat(bed: &Bed, id: &str) -> Vec<String> {
    let events = bed.feed.events();
    let events: Vec<_> = events
        .into_iter()
        .filter(|event| event.conversation.as_str() == id)
        .collect();
    let mut texts = texts(&events);
    // The past of a channel comes beside its news.
    texts.retain(|text| !text.ends_with("was created"));
    texts
}

#[tokio::test]
async fn a_gap_of_the_account_is_closed() {
    let bed = Bed::new().await;
    let _linked = live(&bed).await;
    lose(&bed, None, Gap::Lose, 3).await;
    for number in 0..5 {
        bed.push(&format!("{number}")).await;
    }
    bed.feed.message("4").await;
    assert_eq!(bed.feed.texts(), ["first", "0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn gaps_of_several_channels_at_once_are_closed() {
    let bed = Bed::new().await;
    let mut channels = Vec::new();
    for number in 0..4 {
        channels.push(bed.channel(&format!("Channel {number}")).await);
    }
    let _linked = live(&bed).await;
    for channel in &channels {
        bed.speak(*channel, &format!("{channel} seen")).await;
        bed.feed.message(&format!("{channel} seen")).await;
    }
    for channel in &channels {
        lose(&bed, Some(*channel), Gap::Lose, 2).await;
        for text in ["lost", "lost too", "shows the gap"] {
            bed.speak(*channel, &format!("{channel} {text}")).await;
        }
        // So that one gap opens while another waits: grammers forgets it.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    for channel in &channels {
        bed.feed.message(&format!("{channel} shows the gap")).await;
        let id = super::bed::channel_id(*channel);
        let expected: Vec<_> = ["seen", "lost", "lost too", "shows the gap"]
            .map(|text| format!("{channel} {text}"))
            .into();
        assert_eq!(chat(&bed, &id), expected);
    }
}

#[tokio::test]
async fn what_no_update_shows_is_found_by_the_probe() {
    let bed = Bed::new().await;
    let linked = live(&bed).await;
    lose(&bed, None, Gap::Lose, 1).await;
    bed.push("hidden").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bed.feed.texts(), ["first"]);
    assert_eq!(linked.link.probe().await, Ok(()));
    bed.feed.message("hidden").await;
}

#[tokio::test]
async fn a_refresh_looks_everywhere() {
    let bed = Bed::new().await;
    let channel = bed.channel("Channel").await;
    let linked = live(&bed).await;
    bed.speak(channel, "seen").await;
    bed.feed.message("seen").await;
    lose(&bed, None, Gap::Lose, 1).await;
    lose(&bed, Some(channel), Gap::Lose, 1).await;
    bed.push("hidden").await;
    bed.speak(channel, "channel hidden").await;
    linked.link.refresh().await;
    bed.feed.message("hidden").await;
    bed.feed.message("channel hidden").await;
}

#[tokio::test]
async fn what_comes_while_the_connection_is_down_arrives_whatever_the_hints() {
    for hints in [ChannelHints::None, ChannelHints::WithoutPts, ChannelHints::WithPts] {
        let bed = Bed::with(DcConfig {
            channel_hints: hints,
            ..DcConfig::default()
        })
        .await;
        let channel = bed.channel("Channel").await;
        let linked = live(&bed).await;
        bed.speak(channel, "seen").await;
        bed.feed.message("seen").await;
        for round in 0..3 {
            bed.dc.stop_listening().await;
            bed.dc.drop_connections(ConnFilter::default()).await;
            bed.push(&format!("away {round}")).await;
            bed.speak(channel, &format!("channel away {round}")).await;
            bed.dc.start_listening().await.unwrap();
            bed.feed.message(&format!("away {round}")).await;
            bed.feed.message(&format!("channel away {round}")).await;
        }
        assert!(!linked.has_ended(), "{hints:?}");
    }
}

#[tokio::test]
async fn a_server_that_stays_away_ends_the_link() {
    let bed = Bed::new().await;
    let mut linked = live(&bed).await;
    bed.dc.stop_listening().await;
    let end = linked.end().await;
    assert!(matches!(end, hub_actors::ports::LinkEnd::Lost { .. }), "{end:?}");
    drop(linked);
    bed.push("while away").await;
    bed.dc.start_listening().await.unwrap();
    let _linked = bed.open().await;
    bed.feed.message("while away").await;
}

#[tokio::test]
async fn a_hint_with_a_number_does_not_hide_what_lies_before_it() {
    let bed = Bed::new().await;
    let channel = bed.channel("Channel").await;
    let _linked = live(&bed).await;
    bed.speak(channel, "seen").await;
    bed.feed.message("seen").await;
    lose(&bed, Some(channel), Gap::Lose, 2).await;
    bed.speak(channel, "hidden 1").await;
    bed.speak(channel, "hidden 2").await;
    bed.dc.push_channel_too_long(channel, true).await.unwrap();
    bed.feed.message("hidden 1").await;
    bed.feed.message("hidden 2").await;
}

#[tokio::test]
async fn an_absence_that_was_too_long_is_read_from_the_chats() {
    let bed = Bed::new().await;
    let other = super::bed::user(&bed.dc, "Other").await;
    let linked = live(&bed).await;
    drop(linked);
    eventually("the connection closes", || async {
        bed.dc.state().await.connections == 0
    })
    .await;
    let mut expected = vec!["first".to_owned()];
    for number in 0..120 {
        bed.push(&format!("missed {number}")).await;
        expected.push(format!("missed {number}"));
    }
    bed.push_as(other, "from another").await;
    lose(&bed, None, Gap::TooLong, 1).await;
    let _linked = bed.open().await;
    bed.feed.message("missed 119").await;
    let (_, message) = bed.feed.message("from another").await;
    assert!(!message.is_history);
    assert_eq!(chat(&bed, &bed.friend.to_string()), expected);
    bed.push("live again").await;
    bed.feed.message("live again").await;
}

#[tokio::test]
async fn a_channel_that_was_away_too_long_is_read_too() {
    let bed = Bed::new().await;
    let channel = bed.channel("Channel").await;
    let linked = live(&bed).await;
    bed.speak(channel, "seen").await;
    bed.feed.message("seen").await;
    drop(linked);
    eventually("the connection closes", || async {
        bed.dc.state().await.connections == 0
    })
    .await;
    let settings = Settings {
        channel_too_long: Some(20),
        ..Settings::default()
    };
    bed.dc.set(settings).await;
    let mut expected = vec!["seen".to_owned()];
    for number in 0..130 {
        bed.speak(channel, &format!("missed {number}")).await;
        expected.push(format!("missed {number}"));
    }
    let _linked = bed.open().await;
    bed.feed.message("missed 129").await;
    assert_eq!(chat(&bed, &super::bed::channel_id(channel)), expected);
    bed.speak(channel, "live again").await;
    bed.feed.message("live again").await;
}

#[tokio::test]
async fn a_channel_joined_while_nobody_listened_is_there_afterwards() {
    let bed = Bed::new().await;
    let linked = live(&bed).await;
    drop(linked);
    eventually("the connection closes", || async {
        bed.dc.state().await.connections == 0
    })
    .await;
    let channel = bed.channel("New channel").await;
    bed.speak(channel, "in the new channel").await;
    let _linked = bed.open().await;
    let (event, _) = bed.feed.message("in the new channel").await;
    assert_eq!(event.profile.name.as_deref(), Some("New channel"));
    bed.speak(channel, "and live").await;
    bed.feed.message("and live").await;
}

#[tokio::test]
async fn shortened_messages_of_strangers_get_their_names() {
    let bed = Bed::with(DcConfig {
        short_pushes: true,
        ..DcConfig::default()
    })
    .await;
    let _linked = bed.open().await;
    bed.push("short").await;
    let (event, message) = bed.feed.message("short").await;
    assert_eq!(event.profile.name.as_deref(), Some("Friend"));
    assert_eq!(message.sender_name.as_deref(), Some("Friend"));
    bed.push("short again").await;
    let (event, _) = bed.feed.message("short again").await;
    assert_eq!(event.profile.name.as_deref(), Some("Friend"));
}

#[tokio::test]
async fn trouble_of_the_difference_only_delays_it() {
    let bed = Bed::new().await;
    let channel = bed.channel("Channel").await;
    let linked = live(&bed).await;
    bed.speak(channel, "seen").await;
    bed.feed.message("seen").await;
    let flood = Fault::Error {
        code: 420,
        name: "FLOOD_WAIT_1".into(),
    };
    bed.dc
        .script(FaultScript::next("updates.getDifference", flood.clone()))
        .await
        .unwrap();
    bed.dc
        .script(FaultScript::next("updates.getDifference", Fault::Close))
        .await
        .unwrap();
    bed.dc
        .script(FaultScript::next("updates.getChannelDifference", flood))
        .await
        .unwrap();
    lose(&bed, None, Gap::Lose, 1).await;
    lose(&bed, Some(channel), Gap::Lose, 1).await;
    bed.push("lost").await;
    bed.push("shows").await;
    bed.speak(channel, "channel lost").await;
    bed.speak(channel, "channel shows").await;
    for text in ["lost", "shows", "channel lost", "channel shows"] {
        bed.feed.message(text).await;
    }
    assert!(!linked.has_ended());
}

#[tokio::test]
async fn a_storm_loses_nothing() {
    let bed = Bed::with(DcConfig {
        channel_hints: ChannelHints::WithPts,
        repeat: RepeatAnswer::Duplicate,
        slice: 7,
        ..DcConfig::default()
    })
    .await;
    let channel = bed.channel("Channel").await;
    let mut linked = Some(live(&bed).await);
    bed.speak(channel, "seen").await;
    bed.feed.message("seen").await;
    let (mut own, mut others) = (vec!["first".to_owned()], vec!["seen".to_owned()]);
    for round in 0..60 {
        let is_lost = round % 5 == 3;
        for (peer, account, texts) in [
            (Peer::User(bed.friend), Some(bed.me), &mut own),
            (Peer::Channel(channel), None, &mut others),
        ] {
            let text = format!("{peer} {round}");
            let message = NewMessage {
                account,
                peer: Some(peer),
                from: Some(bed.friend),
                text: text.clone(),
                lost: is_lost,
                ..Default::default()
            };
            bed.dc.push_message(message).await.unwrap();
            texts.push(text);
        }
        match round % 12 {
            4 => drop(bed.dc.drop_connections(ConnFilter::default()).await),
            8 => bed.dc.restart(Duration::from_millis(30)).await.unwrap(),
            11 => {
                drop(linked.take());
                linked = bed.try_open().await.ok();
            }
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    if linked.is_none() {
        linked = Some(bed.open().await);
    }
    bed.feed.message(own.last().unwrap()).await;
    bed.feed.message(others.last().unwrap()).await;
    assert!(linked.is_some());
    assert_eq!(chat(&bed, &bed.friend.to_string()), own);
    assert_eq!(chat(&bed, &super::bed::channel_id(channel)), others);
}
