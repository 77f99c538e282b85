//! P7: in each conversation messages leave in the order in which they were accepted, tries repeated or not; and a
//! conversation that is stuck delays no other.

use std::collections::HashMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::history::{self, Entry};
use crate::on_both_databases;
use crate::support::{self, Client, Correspondent, Hub, Kind, Reply};

on_both_databases!(
    order_survives_every_trouble,
    a_flood_of_stuck_chats_delays_no_other_account
);

const CHATS: usize = 8;

async fn order_survives_every_trouble(kind: Kind) {
    let seed = support::seed();
    let mut random = StdRng::seed_from_u64(seed);
    let (messages, troubles) = if support::is_long() { (200, 8) } else { (25, 2) };
    let hub = Hub::start(kind).await;
    let (user, correspondent) = (hub.user().await, Correspondent::start());
    let channel = user.link(&correspondent).await;
    let moods = [
        Reply::Refuse(503, None),
        Reply::Refuse(429, Some(1)),
        Reply::DoneThen(500),
        Reply::DoneThenGone,
        Reply::Late(Duration::from_millis(100)),
    ];
    let mut chats = Vec::new();
    for number in 0..CHATS {
        let chat = format!("chat{number}");
        chats.push((user.receive(&channel, &chat, "m", "hello").await, chat.clone()));
        let mut replies = vec![Reply::Done; messages];
        for _ in 0..troubles {
            replies[random.random_range(0..messages)] = moods.choose(&mut random).unwrap().clone();
        }
        correspondent.reply(&chat, replies);
    }
    let frozen = user.receive(&channel, "frozen", "m", "hello").await;
    correspondent.freeze("frozen");
    let mut accepted = Vec::new();
    for number in 0..messages {
        for (id, chat) in &chats {
            accepted.push(accept(&user, id, chat, number).await);
        }
        accept(&user, &frozen, "frozen", number).await;
    }
    support::until(&format!("seed {seed}: all others are sent"), async || {
        (history::by_id(correspondent.messages()).len() == accepted.len()).then_some(())
    })
    .await;
    let tries = correspondent.messages();
    let differences = history::differences(&accepted, &history::by_id(tries.clone()));
    assert!(differences.is_empty(), "seed {seed}: {differences:#?}");
    // Also no message is tried before the one that was accepted earlier is done with.
    let mut newest: HashMap<&str, &str> = HashMap::new();
    let mut done: Vec<&str> = Vec::new();
    for (id, chat, _) in &tries {
        let before = newest.insert(chat, id).filter(|before| before != id);
        done.extend(before);
        assert!(!done.contains(&id.as_str()), "seed {seed}: {chat} goes back to {id}");
    }
    assert_eq!(
        statuses(&user, &frozen).await,
        vec!["queued"; messages],
        "the frozen ones wait"
    );
    hub.stop().await;
}

async fn accept(user: &Client, id: &str, chat: &str, number: usize) -> Entry {
    let text = format!("{chat} message {number}");
    let answer = user.try_send(id, &text, Some(&text.replace(' ', "-")), true).await;
    answer.unwrap().expect(202);
    Entry::new(format!("out:{chat}"), text)
}

/// The states of the messages that were sent into a conversation.
async fn statuses(user: &Client, conversation: &str) -> Vec<String> {
    let page = user
        .get(&format!("/api/messages/{conversation}?limit=200"))
        .await
        .expect(200);
    let messages = page["messages"].as_array().unwrap().iter();
    let own = messages.filter(|message| message["is_outgoing"] == true);
    own.map(|message| message["status"].as_str().unwrap().to_owned())
        .collect()
}

/// More chats than the hub makes tries at the same time never get an answer, which it waits for ten seconds each;
/// another account does not notice.
async fn a_flood_of_stuck_chats_delays_no_other_account(kind: Kind) {
    let hub = Hub::start_with(kind, |settings| settings.outbox.max_in_flight = 16).await;
    let correspondent = Correspondent::start();
    let (victim, bystander) = (hub.user().await, hub.user().await);
    let (stuck, free) = (victim.link(&correspondent).await, bystander.link(&correspondent).await);
    for number in 0..32 {
        let chat = format!("stuck{number}");
        correspondent.freeze(&chat);
        let id = victim.receive(&stuck, &chat, "m", "hello").await;
        accept(&victim, &id, &chat, 0).await;
    }
    let id = bystander.receive(&free, "free", "m", "hello").await;
    for number in 0..20 {
        let begun = hub_actors::clock::instant();
        bystander
            .send(&id, &format!("free message {number}"), None)
            .await
            .expect(201);
        let waited = begun.elapsed();
        assert!(
            waited < Duration::from_secs(5),
            "message {number} waited {waited:?} behind the stuck chats"
        );
    }
    hub.stop().await;
}
