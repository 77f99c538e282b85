//! P10: each event of a person's stream has a number without gap, in the order of commits: who reads by cursor, and
//! who listens on a socket, sees 1 to n, none late.

use std::time::Duration;

use futures_util::future::join_all;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use super::history;
use crate::support::{Channel, Client, Correspondent, Hub, Kind, Socket};
use crate::{on_both_databases, support};

on_both_databases!(sixty_four_writers_and_two_readers);

const WRITERS: usize = 64;
const CHATS: usize = 9;
const LAST: &str = "the last message";

async fn sixty_four_writers_and_two_readers(kind: Kind) {
    let seed = support::seed();
    let hub = Hub::start(kind).await;
    let user = hub.user().await;
    let channel = user.link(&Correspondent::start()).await;
    let mut conversations = Vec::new();
    for chat in 0..CHATS {
        conversations.push(
            user.receive(&channel, &format!("chat{chat}"), &format!("first{chat}"), "hello")
                .await,
        );
    }
    let (socket, first) = user.socket(None).await;
    let begin: i64 = user.events().await.last().unwrap()["seq"].as_i64().unwrap();
    assert!(first.to_string().contains(&begin.to_string()), "{first}");
    let listener = actix_rt::spawn(listen(socket));
    let polling = user.clone();
    let poller = actix_rt::spawn(async move { poll(&polling).await });

    let writers = (0..WRITERS).map(|writer| write(seed, writer, &user, &channel, &conversations));
    join_all(writers).await;
    user.receive(&channel, "chat0", "last", LAST).await;

    let heard = listener.await.unwrap();
    let polled = poller.await.unwrap();
    history::assert_gapless(&polled);
    let later = &polled[usize::try_from(begin).unwrap()..];
    assert_eq!(
        history::numbers(&heard),
        history::numbers(later),
        "seed {seed}: the socket has 1..n too"
    );
    for (frame, event) in heard.iter().zip(later) {
        let (mut frame, mut event) = (frame.clone(), event.clone());
        // Of messages that come in one go, only the last of a chat brings what its conversation is now.
        if frame["event"] == "new_message" && frame["data"].get("conversation").is_none() {
            event["data"].as_object_mut().unwrap().remove("conversation");
        }
        assert_eq!(
            (frame["event"].take(), frame["data"].take()),
            (event["event"].take(), event["data"].take()),
            "seed {seed}"
        );
    }
    assert_eq!(
        user.events().await,
        polled,
        "seed {seed}: nothing comes in late, before the end"
    );
    hub.stop().await;
}

/// Deliveries, sends and marks of having read, in turn.
async fn write(seed: u64, writer: usize, user: &Client, channel: &Channel, conversations: &[String]) {
    let mut random = rand::rngs::StdRng::seed_from_u64(seed ^ (writer as u64));
    let actions = if support::is_long() { 100 } else { 6 };
    for action in 0..actions {
        let chat = random.random_range(0..CHATS);
        let text = format!("w{writer}a{action}");
        match writer % 3 {
            0 => {
                let event = support::received(&format!("chat{chat}"), &text, &text);
                user.deliver(channel, &text, &event).await.expect(200);
            }
            1 => {
                let answer = user.send(&conversations[chat], &text, Some(&text)).await;
                assert!(answer.status.is_success(), "seed {seed}: {}", answer.text);
            }
            _ => {
                let path = format!("/api/messages/conversation/{}/read", conversations[chat]);
                user.patch(&path, &Value::Null).await.expect(200);
            }
        }
    }
}

fn is_last(event: &Value) -> bool {
    event["data"]["message"]["content"] == LAST
}

/// Reads by cursor in small pages until the last message; each page begins right after the one before.
async fn poll(user: &Client) -> Vec<Value> {
    let mut seen: Vec<Value> = Vec::new();
    while !seen.last().is_some_and(is_last) {
        let page = user
            .get(&format!("/api/events?after={}&limit=7", seen.len()))
            .await
            .expect(200);
        seen.extend(page["events"].as_array().unwrap().clone());
        history::assert_gapless(&seen);
        if page["hasMore"] == false {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    seen
}

async fn listen(mut socket: Socket) -> Vec<Value> {
    let mut heard: Vec<Value> = Vec::new();
    while !heard.last().is_some_and(is_last) {
        heard.push(socket.next_event().await);
    }
    heard
}
