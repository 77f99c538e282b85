//! P3: a crash around a send repeats it under the same `webhook-id` and with the same body, so that a receiver that
//! looks the id up has each message exactly once; a crash before the first byte repeats nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::history::{self, Entry};
use crate::support::{Correspondent, Database, Kind, Process, Reply};
use crate::{on_both_databases, support};

on_both_databases!(killed_before_the_first_byte, killed_between_the_answer_and_its_commit);

const MESSAGES: usize = 5;

async fn killed_before_the_first_byte(kind: Kind) {
    killed_at(kind, "outbox.before_send", 1, 0).await;
}

async fn killed_between_the_answer_and_its_commit(kind: Kind) {
    killed_at(kind, "outbox.after_send", 2, 1).await;
}

/// The second try stands still at the point, `before` messages having arrived, and the process is killed there.
async fn killed_at(kind: Kind, point: &str, before: usize, repeated: usize) {
    let database = Database::fresh(kind).await;
    let failpoints = format!("{point}=1*off->1*sleep(600000)");
    let process = Process::start_with(&database, &[("FAILPOINTS", &failpoints)]).await;
    let (mut user, correspondent) = (process.client(), Correspondent::start());
    user.register().await;
    let channel = user.link(&correspondent).await;
    let chat = user.receive(&channel, "chat", "m1", "hello").await;
    // All are accepted while the first is under way.
    correspondent.reply("chat", [Reply::Late(Duration::from_secs(1))]);
    let mut accepted = Vec::new();
    for number in 0..MESSAGES {
        let text = format!("message {number}");
        let answer = user
            .try_send(&chat, &text, Some(&format!("key{number}")), true)
            .await
            .unwrap();
        answer.expect(202);
        accepted.push(Entry::new("out:chat", text));
    }
    support::until("the first ones arrive", async || {
        (correspondent.messages().len() == before).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        correspondent.messages().len(),
        before,
        "{point}: the hub stands still there"
    );
    process.kill();

    let process = Process::start(&database).await;
    let user = user.at(process.address);
    support::until("all are sent", async || {
        let events = user.events().await;
        let sent = events
            .iter()
            .filter(|event| event["event"] == "message_status_update" && event["data"]["status"] == "sent");
        (sent.count() == MESSAGES).then_some(())
    })
    .await;
    let received = correspondent.received();
    assert!(received.iter().all(|one| one.is_signed));
    let mut bodies: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    let mut once = Vec::new();
    for one in received.iter().filter(|one| one.body["type"] == "message.send") {
        let same = bodies.entry(&one.id).or_default();
        same.push(&one.body);
        if same.len() == 1 {
            once.push(Entry::new("out:chat", one.body["message"]["text"].as_str().unwrap()));
        }
        assert_eq!(same[0], &one.body, "{point}: a repetition has the same body");
    }
    let tries: usize = bodies.values().map(Vec::len).sum();
    assert_eq!(tries, MESSAGES + repeated, "{point}: {bodies:#?}");
    let differences = history::differences(&accepted, &once);
    assert!(differences.is_empty(), "{point}: {differences:#?}");
}
