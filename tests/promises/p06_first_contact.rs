//! P6: one chat of one account is one conversation, one message of one chat is one message, for ever.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::history;
use crate::on_both_databases;
use crate::support::{self, Correspondent, Database, Kind, Process};

on_both_databases!(fifty_first_messages_of_one_chat);

const MESSAGES: usize = 50;

async fn fifty_first_messages_of_one_chat(kind: Kind) {
    let database = Database::fresh(kind).await;
    let process = Process::start(&database).await;
    let (mut user, correspondent) = (process.client(), Correspondent::start());
    user.register().await;
    let channel = user.link(&correspondent).await;
    let other_channel = user.link(&correspondent).await;
    let event = |number: usize| support::received("new chat", &format!("m{number}"), &format!("text {number}"));

    let id = |number: usize| format!("d{number}");
    let calls = (0..MESSAGES).map(|number| {
        let (user, channel) = (&user, &channel);
        async move { user.deliver(channel, &id(number), &event(number)).await }
    });
    for answer in join_all(calls).await {
        answer.expect(200);
    }
    // The same ids elsewhere are other messages and other chats.
    user.deliver(
        &channel,
        "e1",
        &support::received("other chat", "m0", "same id, other chat"),
    )
    .await
    .expect(200);
    user.deliver(
        &other_channel,
        "e2",
        &support::received("new chat", "m0", "same id, other account"),
    )
    .await
    .expect(200);

    let before = user.events().await;
    history::assert_gapless(&before);
    assert_eq!(history::messages(&before).len(), MESSAGES + 2);
    let conversations = |chat: &str, account: &str| {
        let new = before.iter().filter(|event| event["event"] == "new_message");
        let here = new.map(|event| &event["data"]["conversation"]).filter(|conversation| {
            conversation["platform_conversation_id"] == chat && conversation["account_id"] == account
        });
        here.map(|conversation| conversation["id"].to_string())
            .collect::<BTreeSet<_>>()
    };
    let first = conversations("new chat", &channel.account_id);
    assert_eq!(first.len(), 1, "one chat, one conversation");
    assert_eq!(conversations("other chat", &channel.account_id).len(), 1);
    let elsewhere = conversations("new chat", &other_channel.account_id);
    assert!(elsewhere.len() == 1 && elsewhere != first);
    let list = "/api/conversations?platform=custom&max_read=500&limit=500";
    let listed = user.get(list).await.expect(200);
    assert_eq!(listed["conversations"].as_array().unwrap().len(), 3);

    process.kill();
    let process = Process::start(&database).await;
    let user = user.at(process.address);
    let again = (0..MESSAGES).map(|number| {
        let (user, channel) = (&user, &channel);
        async move { user.deliver(channel, &format!("again{number}"), &event(number)).await }
    });
    for answer in join_all(again).await {
        answer.expect(200);
    }
    assert_eq!(
        user.events().await,
        before,
        "redelivery after the restart changes nothing"
    );
    user.deliver(&channel, "one-more", &support::received("new chat", "one more", "new"))
        .await
        .expect(200);
    let events = user.events().await;
    let newest = events.last().unwrap();
    let conversation = newest["data"]["conversation"]["id"].to_string();
    assert_eq!(BTreeSet::from([conversation]), first, "the chat keeps its conversation");
    assert_eq!(events.len(), before.len() + 1);
}
