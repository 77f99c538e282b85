//! P5: a webhook is answered 200 only after what it carries is committed; redeliveries, however many and however
//! parallel, yield one message.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use rand::SeedableRng;
use serde_json::json;

use crate::support::{Correspondent, Hub, Kind};
use crate::{on_both_databases, support};

on_both_databases!(distinct_webhooks_shuffled_and_repeated);

/// One delivery in so many is genuine but cannot be understood.
const NONSENSE: usize = 100;

async fn distinct_webhooks_shuffled_and_repeated(kind: Kind) {
    let seed = support::seed();
    let messages = if support::is_long() { 10_000 } else { 1_000 };
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let hub = Hub::start(kind).await;
    let user = hub.user().await;
    let channel = user.link(&Correspondent::start()).await;
    let before = user.events().await.len();

    let deliveries = support::storm(messages + messages / NONSENSE, &mut random);
    let (user, channel) = (&user, &channel);
    let answers = futures_util::stream::iter(&deliveries).map(|message| async move {
        let id = format!("m{message}");
        let event = if *message < messages {
            support::received(&format!("chat{}", message % 7), &id, &format!("text {message}"))
        } else {
            json!({ "type": "message.from-the-future", "id": id })
        };
        user.deliver(channel, &id, &event).await
    });
    let answers: Vec<_> = answers.buffer_unordered(16).collect().await;
    assert!(answers.iter().all(|answer| answer.status == 200), "seed {seed}");

    let events = user.events().await.split_off(before);
    let numbers: Vec<i64> = events.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    let first = before as i64 + 1;
    assert_eq!(
        numbers,
        (first..first + messages as i64).collect::<Vec<_>>(),
        "seed {seed}: one event each, no gap"
    );
    let texts: BTreeSet<&str> = events
        .iter()
        .map(|event| event["data"]["message"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(texts.len(), messages, "seed {seed}: every message once");
    if kind == Kind::Postgres {
        let kept = hub.database.query("SELECT count(*) FROM quarantine").await;
        let nonsense = deliveries.iter().filter(|message| **message >= messages).count();
        assert_eq!(
            kept,
            [nonsense.to_string()],
            "seed {seed}: what was not understood is kept, sealed"
        );
    }
    hub.stop().await;
}
