//! What sockets are told, also when storage answers late or holds an event that cannot be read.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use hub_actors::domain::{Account, Append, Change, StreamPosition};
use hub_actors::ports::SendKey;
use hub_actors::session::CloseReason;
use hub_actors::tree::Tree;
use hub_actors::{ExternalId, Seq, SessionId};
use support::sockets::Ear;
use support::{MemoryStore, START, Scripted, message_event, tree, until};

/// A message that another hub on the same database commits.
fn elsewhere(store: &MemoryStore, account: &Account, id: &str) {
    let change = Change::Inbound {
        account_id: account.id,
        conversation: ExternalId::from("chat"),
        events: vec![message_event("chat", id)],
        link: None,
    };
    let user_id = account.user_id;
    store.apply(&Append { user_id, change }).unwrap();
}

/// A socket that resumes after a number, or begins at the end of the stream.
async fn listen(tree: &Tree, account: &Account, since: Option<i64>) -> Ear {
    let position = since.map(|seq| StreamPosition {
        epoch: "memory".to_owned(),
        seq: Seq(seq),
    });
    for _ in 0..100 {
        let ear = Ear::default();
        let session_id = SessionId::generate(START);
        // A session that is just ending does not take it.
        if tree
            .listen(account.user_id, session_id, position.clone(), Box::new(ear.clone()))
            .await
            .is_ok()
        {
            return ear;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no session takes the socket");
}

fn closed(ear: &Ear) -> Option<CloseReason> {
    ear.0.lock().unwrap().closed
}

fn started(ear: &Ear) -> (i64, bool) {
    let heard = ear.0.lock().unwrap();
    let (position, recovered) = heard.opened.clone().unwrap();
    (position.seq.0, recovered)
}

async fn bench() -> (Arc<MemoryStore>, Account, Tree) {
    let (store, account) = MemoryStore::with_account();
    let tree = tree(&store, &Scripted::new(SendKey::Forever)).await;
    (store, account, tree)
}

#[actix_rt::test]
async fn what_is_announced_while_a_fetch_is_under_way_is_fetched_at_once() {
    let (store, account, tree) = bench().await;
    let ear = listen(&tree, &account, None).await;
    store.rows(|rows| rows.slow_reads = Duration::from_millis(300));
    elsewhere(&store, &account, "m1");
    tree.announced(account.user_id, Seq(1));
    tokio::time::sleep(Duration::from_millis(100)).await;
    // The fetch has seen the first one only, and its answer is still on its way.
    elsewhere(&store, &account, "m2");
    tree.announced(account.user_id, Seq(2));
    until("both are told", || ear.numbers() == [1, 2]).await;
}

#[actix_rt::test]
async fn a_socket_that_resumes_from_storage_is_told_the_counters() {
    let (store, account, tree) = bench().await;
    for number in 1..=600 {
        elsewhere(&store, &account, &format!("m{number}"));
    }
    let ear = listen(&tree, &account, Some(0)).await;
    until("it has caught up", || ear.numbers().len() == 600).await;
    until("it is told the counters", || {
        ear.0.lock().unwrap().text.contains("unread")
    })
    .await;
}

#[actix_rt::test]
async fn sockets_begin_anew_behind_an_event_that_cannot_be_read() {
    let (store, account, tree) = bench().await;
    for id in ["m1", "m2", "m3"] {
        elsewhere(&store, &account, id);
    }
    store.rows(|rows| rows.unreadable = Some(Seq(2)));
    let away = listen(&tree, &account, Some(0)).await;
    until("it has to begin anew", || {
        closed(&away) == Some(CloseReason::PositionGone)
    })
    .await;
    assert_eq!(away.numbers(), [1]);
    let back = listen(&tree, &account, None).await;
    assert_eq!(started(&back), (3, false));

    store.rows(|rows| rows.unreadable = Some(Seq(4)));
    elsewhere(&store, &account, "m4");
    tree.announced(account.user_id, Seq(4));
    until("it has to begin anew", || {
        closed(&back) == Some(CloseReason::PositionGone)
    })
    .await;
    let again = listen(&tree, &account, None).await;
    assert_eq!(started(&again), (4, false));
    elsewhere(&store, &account, "m5");
    tree.announced(account.user_id, Seq(5));
    until("it follows", || again.numbers() == [5]).await;
}
