//! P2: the same `Idempotency-Key` and the same body get the same answer and the same message; another body gets 409.
//! Also for calls at the same moment, and across a kill.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use rand::{RngExt, SeedableRng};

use super::history::{self, Entry};
use crate::support::{Answer, Correspondent, Database, Doom, Hub, Kind, Process};
use crate::{on_both_databases, support};

on_both_databases!(
    fifty_parallel_calls_with_one_key,
    the_same_message_across_a_kill,
    fifty_parallel_calls_across_a_kill,
);

async fn fifty_parallel_calls_with_one_key(kind: Kind) {
    let hub = Hub::start(kind).await;
    let (user, correspondent) = (hub.user().await, Correspondent::start());
    let channel = user.link(&correspondent).await;
    let chat = user.receive(&channel, "chat", "m1", "hello").await;
    for is_async in [false, true] {
        let key = format!("key-{is_async}");
        let calls = (0..50).map(|_| user.try_send(&chat, &key, Some(&key), is_async));
        let answers: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
        let statuses: BTreeSet<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
        let texts: BTreeSet<&str> = answers.iter().map(|answer| answer.text.as_str()).collect();
        let expected = if is_async { 202 } else { 201 };
        assert_eq!(statuses, BTreeSet::from([expected]), "{texts:?}");
        assert_eq!(texts.len(), 1, "one answer for all: {texts:?}");
        let other = user.send(&chat, "another body", Some(&key)).await;
        other.expect(409);
    }
    let elsewhere = user.receive(&channel, "chat2", "m1", "hello").await;
    let other = user.send(&elsewhere, "key-false", Some("key-false")).await;
    other.expect(409);

    // A key belongs to its person.
    let stranger = hub.user().await;
    let channel = stranger.link(&correspondent).await;
    let theirs = stranger.receive(&channel, "chat3", "m1", "hello").await;
    stranger.send(&theirs, "mine", Some("key-false")).await.expect(201);

    support::until("all are sent", async || {
        (correspondent.messages().len() == 3).then_some(())
    })
    .await;
    let outgoing = history::messages(&user.events().await);
    let outgoing: Vec<_> = outgoing.iter().filter(|entry| entry.lane == "out:chat").collect();
    assert_eq!(
        outgoing,
        [
            &Entry::new("out:chat", "key-false"),
            &Entry::new("out:chat", "key-true")
        ]
    );
    hub.stop().await;
}

async fn the_same_message_across_a_kill(kind: Kind) {
    let seed = support::seed();
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let database = Database::fresh(kind).await;
    let process = Process::start(&database).await;
    let (mut user, correspondent) = (process.client(), Correspondent::start());
    user.register().await;
    let channel = user.link(&correspondent).await;
    let chat = user.receive(&channel, "chat", "m1", "hello").await;
    let first = user.send(&chat, "answered", Some("answered")).await;
    let first_id = first.expect(201)["message"]["id"].clone();

    // Ten more are under way when the process dies: their answers may be lost.
    let calls: Vec<_> = (0..10)
        .map(|number| {
            let (user, chat) = (user.clone(), chat.clone());
            actix_rt::spawn(async move {
                let key = format!("lost-{number}");
                user.try_send(&chat, &key, Some(&key), false).await.ok()
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
    process.kill();
    let answers: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();

    let process = Process::start(&database).await;
    let user = user.at(process.address);
    let again = user.send(&chat, "answered", Some("answered")).await;
    assert_eq!((again.status.as_u16(), &again.text), (201, &first.text), "seed {seed}");
    user.send(&chat, "not what was answered", Some("answered"))
        .await
        .expect(409);
    let mut ids = BTreeSet::from([first_id.to_string()]);
    for (number, answer) in answers.iter().enumerate() {
        let key = format!("lost-{number}");
        let again = user.send(&chat, &key, Some(&key)).await;
        assert!(again.status.is_success(), "seed {seed}: {}", again.text);
        let id = &again.json()["message"]["id"];
        if let Some(answer) = answer {
            assert_eq!(&answer.json()["message"]["id"], id, "seed {seed}: {}", answer.text);
        }
        ids.insert(id.to_string());
    }
    assert_eq!(ids.len(), 11, "seed {seed}: one message for each key");
    support::until("all are sent", async || {
        let sent: BTreeSet<_> = correspondent.messages().into_iter().map(|(id, ..)| id).collect();
        (sent.len() == 11).then_some(())
    })
    .await;
    let events = user.events().await;
    let outgoing = history::messages(&events);
    assert_eq!(
        outgoing.iter().filter(|entry| entry.lane == "out:chat").count(),
        11,
        "seed {seed}"
    );
}

/// The hub dies under fifty calls with one key, at each of the steps around the commit; fifty more come to the next one.
async fn fifty_parallel_calls_across_a_kill(kind: Kind) {
    let database = Database::fresh(kind).await;
    let process = Process::start(&database).await;
    let (mut user, correspondent) = (process.client(), Correspondent::start());
    user.register().await;
    let channel = user.link(&correspondent).await;
    let chat = user.receive(&channel, "chat", "m1", "hello").await;
    process.kill();
    let mut points = vec![
        "journal.before_commit",
        "journal.commit_sent",
        "send.committed",
        "send.answer_saved",
        "send.before_response",
    ];
    if kind == Kind::Embedded && !support::is_long() {
        // It starts slowly: one point, another one in each run.
        points = vec![points[support::seed() as usize % points.len()]];
    }
    for point in points.iter().copied() {
        let doom = Doom::At(point, 1, Duration::ZERO);
        let process = Process::start_doomed(&database, &doom)
            .await
            .expect("nothing is sent at start");
        let dying = user.at(process.address);
        let calls = (0..50).map(|number| dying.try_send(&chat, point, Some(point), number % 2 == 0));
        let mut texts: BTreeSet<String> = BTreeSet::new();
        let mut ids: BTreeSet<String> = BTreeSet::new();
        let mut note = |answer: Answer| {
            ids.insert(answer.json()["message"]["id"].to_string());
            texts.insert(answer.text);
        };
        for answer in join_all(calls).await.into_iter().flatten() {
            assert!(answer.status.is_success(), "{point}: {}", answer.text);
            note(answer);
        }
        process.meet(&doom).await;
        let process = Process::start(&database).await;
        let living = user.at(process.address);
        let calls = (0..50).map(|_| living.try_send(&chat, point, Some(point), false));
        for answer in join_all(calls).await {
            let answer = answer.unwrap();
            assert!(answer.status.is_success(), "{point}: {}", answer.text);
            note(answer);
        }
        assert_eq!(
            (ids.len(), texts.len()),
            (1, 1),
            "{point}: one message, one answer: {texts:#?}"
        );
        living.send(&chat, "another body", Some(point)).await.expect(409);
        process.kill();
    }
    let process = Process::start(&database).await;
    support::until("all are sent", async || {
        (history::by_id(correspondent.messages()).len() == points.len()).then_some(())
    })
    .await;
    let sent: Vec<Entry> = points.iter().map(|point| Entry::new("out:chat", *point)).collect();
    assert_eq!(
        history::differences(&sent, &history::by_id(correspondent.messages())),
        []
    );
    let stream = history::messages(&user.at(process.address).events().await);
    assert_eq!(history::differences(&sent, &stream[1..]), []);
}
