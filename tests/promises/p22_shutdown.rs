//! P22: a hub that is told to stop takes no new connection, tells its sockets to come back, answers what it has begun,
//! finishes or hands back what is on its way, all within ten seconds; and the next one goes on from there.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;

use super::history::{self, Entry};
use crate::support::{Correspondent, Database, Kind, Process, Reply};
use crate::{on_both_databases, support};

on_both_databases!(stopped_in_the_middle_of_work);

/// The setting `server.shutdown_seconds`, and what starting and ending a process may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(11);
const SOCKETS: usize = 8;
/// Each chat has one message under way and one behind it.
const CHATS: usize = 6;

async fn stopped_in_the_middle_of_work(kind: Kind) {
    let database = Database::fresh(kind).await;
    let process = Process::start(&database).await;
    let (mut user, correspondent) = (process.client(), Correspondent::start());
    user.register().await;
    let channel = user.link(&correspondent).await;
    let mut chats = Vec::new();
    for number in 0..CHATS {
        chats.push(
            user.receive(&channel, &format!("chat{number}"), &format!("m{number}"), "hello")
                .await,
        );
    }
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(user.socket(None).await.0);
    }
    // Half of the tries end soon, half do not end before the hub.
    for number in 0..CHATS {
        let late = if number % 2 == 0 { 400 } else { 20_000 };
        correspondent.reply(&format!("chat{number}"), [Reply::Late(Duration::from_millis(late))]);
    }
    let mut accepted = Vec::new();
    for (number, chat) in chats.iter().enumerate() {
        for place in 0..2 {
            let text = format!("c{number}m{place}");
            user.try_send(chat, &text, Some(&text), true).await.unwrap().expect(202);
            accepted.push(Entry::new(format!("out:chat{number}"), text));
        }
    }
    // A request that waits for its platform's answer while the hub stops.
    let waiting = {
        let (user, chat) = (user.clone(), chats[0].clone());
        actix_rt::spawn(async move { user.try_send(&chat, "waited for", Some("waited"), false).await })
    };
    accepted.push(Entry::new("out:chat0", "waited for"));
    tokio::time::sleep(Duration::from_millis(100)).await;

    let address = process.address;
    let ended = actix_rt::spawn(process.terminate());
    let codes = join_all(sockets.iter_mut().map(support::Socket::closed)).await;
    assert_eq!(codes, [Some(4000); SOCKETS], "every socket is told to come back");
    support::until("no new connection is taken", async || {
        tokio::net::TcpStream::connect(address).await.is_err().then_some(())
    })
    .await;
    let answer = waiting.await.unwrap().expect("a request that was begun is answered");
    assert!(answer.status.is_success(), "{}: {}", answer.status, answer.text);
    let (status, length) = ended.await.unwrap();
    assert!(status.success(), "{status}");
    assert!(length < PATIENCE, "it took {length:?}");
    database.assert_nothing_is_sending().await;

    let process = Process::start(&database).await;
    let user = user.at(process.address);
    support::until("all is sent", async || {
        let ids: HashSet<String> = correspondent.messages().into_iter().map(|(id, ..)| id).collect();
        (ids.len() == accepted.len()).then_some(())
    })
    .await;
    let mut known = HashSet::new();
    let arrived = correspondent
        .messages()
        .into_iter()
        .filter(|(id, ..)| known.insert(id.clone()));
    let once: Vec<Entry> = arrived
        .map(|(_, chat, text)| Entry::new(format!("out:{chat}"), text))
        .collect();
    let differences = history::differences(&accepted, &once);
    assert!(differences.is_empty(), "correspondent: {differences:#?}");
    let events = user.events().await;
    history::assert_gapless(&events);
    let (status, _) = process.terminate().await;
    assert!(status.success());
}
