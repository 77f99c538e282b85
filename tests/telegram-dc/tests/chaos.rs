//! Everything at once: what the client ends up with is exactly what the DC has.

#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "times are measured by the clock of the server under test"
)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::*;
use telegram_dc::{ConnFilter, DcConfig, Fault, FaultScript, Gap, MakeGap, NewAccount, NewChannel, NewMessage, Peer};
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

#[tokio::test]
async fn nothing_is_lost_and_nothing_comes_twice() {
    let mut scene = Scene::with(DcConfig {
        slice: 5,
        ..Default::default()
    })
    .await;
    let members = vec![scene.friend, scene.me];
    let spec = NewChannel {
        title: "Channel".into(),
        members,
        ..Default::default()
    };
    let channel = scene.dc.add_channel(spec).await.unwrap();
    scene.push("start").await;
    let peer = scene.friend_peer().await;
    let mut updates = scene.hub.updates().await;
    updates.texts(1).await;
    let mut seen = BTreeMap::<String, u32>::new();
    let mut sent = 0;
    for n in 0_u32..60 {
        let account = Some(scene.me);
        match n % 12 {
            1 => drop(scene.dc.drop_connections(ConnFilter::default()).await),
            3 => {
                let gap = MakeGap {
                    account,
                    channel: None,
                    kind: Gap::Lose,
                    count: 2,
                };
                scene.dc.gap(gap).await.unwrap();
            }
            5 => {
                let gap = MakeGap {
                    account: None,
                    channel: Some(channel),
                    kind: Gap::Lose,
                    count: 1,
                };
                scene.dc.gap(gap).await.unwrap();
            }
            7 => scene.dc.rotate_salts().await,
            9 => {
                let fault = if n % 24 == 9 {
                    Fault::DoThenClose
                } else {
                    Fault::DoThenNoAnswer
                };
                scene
                    .dc
                    .script(FaultScript::next("messages.sendMessage", fault))
                    .await
                    .unwrap();
            }
            11 => {
                let fault = Fault::Delay { ms: 30 };
                scene
                    .dc
                    .script(FaultScript::next("updates.getDifference", fault))
                    .await
                    .unwrap();
            }
            _ => {}
        }
        scene.push(&format!("private {n}")).await;
        let message = NewMessage {
            peer: Some(Peer::Channel(channel)),
            from: Some(scene.friend),
            text: format!("channel {n}"),
            ..Default::default()
        };
        scene.dc.push_message(message).await.unwrap();
        if n % 5 == 0 || n % 12 == 9 {
            // Like an outbox: the same random_id until an answer comes.
            let call = send(peer.clone(), &format!("mine {n}"), i64::from(n) + 1);
            sent += 1;
            while !matches!(
                tokio::time::timeout(Duration::from_millis(300), scene.hub.client.invoke(&call)).await,
                Ok(Ok(_))
            ) {}
        }
        while let Some(update) = updates.try_next(Duration::from_millis(1)).await {
            if let Some(text) = text_of(&update) {
                *seen.entry(text).or_default() += 1;
            }
        }
    }
    // One more of each shows the last gaps.
    scene.push("private 60").await;
    let end = Instant::now() + PATIENCE;
    let wanted = |seen: &BTreeMap<String, u32>, kind: &str| seen.keys().filter(|text| text.starts_with(kind)).count();
    while (wanted(&seen, "private"), wanted(&seen, "channel")) != (61, 60) && Instant::now() < end {
        if let Some(update) = updates.try_next(Duration::from_millis(100)).await
            && let Some(text) = text_of(&update)
        {
            *seen.entry(text).or_default() += 1;
        }
    }
    assert_eq!(
        (wanted(&seen, "private"), wanted(&seen, "channel")),
        (61, 60),
        "{seen:?}"
    );
    let mut mine: Vec<_> = scene
        .dc
        .messages(scene.me, Some(Peer::User(scene.friend)))
        .await
        .unwrap()
        .into_iter()
        .filter_map(|message| message.random_id)
        .collect();
    assert_eq!(mine.len(), sent);
    mine.dedup();
    assert_eq!(mine.len(), sent);
}

#[tokio::test]
async fn many_accounts_at_once() {
    let dc = TelegramDcWith::accounts(40).await;
    let start = Instant::now();
    for round in 0..20 {
        for (account, friend, ..) in &dc.people {
            push(&dc.dc, *account, *friend, &format!("{round}")).await;
        }
    }
    let expected: Vec<_> = (0..20).map(|round| round.to_string()).collect();
    for (_, _, hub, updates) in dc.people {
        let (_hub, mut updates) = (hub, updates);
        assert_eq!(updates.texts(20).await, expected);
    }
    let took = start.elapsed();
    println!("800 pushes to 40 clients in {took:?}");
    assert!(took < PATIENCE);
}

struct TelegramDcWith {
    dc: telegram_dc::TelegramDc,
    people: Vec<(i64, i64, Hub, Updates)>,
}

impl TelegramDcWith {
    async fn accounts(count: u32) -> Self {
        let dc = start().await;
        let friend = user(&dc, "Friend").await;
        let mut people = Vec::new();
        for n in 0..count {
            let phone = format!("+1666{n:04}");
            let spec = NewAccount {
                phone: phone.clone(),
                first_name: "Me".into(),
                ..Default::default()
            };
            let account = dc.add_account(spec).await.unwrap();
            let mut hub = Hub::connect(&dc, n);
            hub.log_in(&phone).await;
            let updates = hub.updates().await;
            people.push((account, friend, hub, updates));
        }
        Self { dc, people }
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let scene = Scene::with(DcConfig {
        queue_cap: 16,
        ..Default::default()
    })
    .await;
    // The client's task does not run while this loop does not wait.
    let text = "x".repeat(4000);
    for _ in 0..20_000 {
        scene.push(&text).await;
        if scene.dc.state().await.connections == 0 {
            break;
        }
    }
    assert_eq!(scene.dc.state().await.connections, 0);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut socket = tokio::net::TcpStream::connect(scene.dc.addr).await.unwrap();
    drop(tokio::time::timeout(Duration::from_millis(10), socket.read_u8()).await);
    let again = scene.hub.again();
    assert!(again.client.is_authorized().await.unwrap());
}
