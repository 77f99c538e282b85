//! P3: a crash around a send repeats it under the same `webhook-id` and with the same body, so that a receiver that
//! looks the id up has each message exactly once; a crash before the first byte repeats nothing.

use std::time::Duration;

use rand::RngExt;

use super::crash::{Run, die_at_each};
use super::history::{self, Entry};
use crate::support::{By, Correspondent, Database, Kind, Process, Reply, failpoints_of};
use crate::{on_both_databases, support};

on_both_databases!(
    killed_at_every_step_of_the_way_out,
    killed_before_the_first_byte,
    killed_between_the_answer_and_its_commit,
);

const MESSAGES: usize = 5;

/// Between reading an outbox entry and storing its receipt, while the other end is in a bad mood.
async fn killed_at_every_step_of_the_way_out(kind: Kind) {
    let mut run = Run::begin(kind).await;
    for chat in ["chat0", "chat2", "chat3", "chat5"] {
        let moods = [
            Reply::DoneThen(500),
            Reply::DoneThenGone,
            Reply::Refuse(503, None),
            Reply::Late(Duration::from_millis(50)),
        ];
        // Well again after each, so that no message waits for long.
        let replies = (0..5).flat_map(|_| [Reply::Done, moods[run.random.random_range(0..moods.len())].clone()]);
        let replies: Vec<Reply> = replies.collect();
        run.correspondent.reply(chat, replies);
    }
    let rounds = if support::is_long() { 10 } else { 1 };
    for _ in 0..rounds {
        die_at_each(&mut run, kind, failpoints_of(By::P3), 3).await;
    }
    run.end().await;
}

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
    correspondent.assert_same_bodies();
    let tries = correspondent.messages();
    assert_eq!(tries.len(), MESSAGES + repeated, "{point}: {tries:#?}");
    let differences = history::differences(&accepted, &history::by_id(tries));
    assert!(differences.is_empty(), "{point}: {differences:#?}");
}
