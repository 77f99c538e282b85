//! The account itself: whose it is, how it is disconnected, how it begins anew.

use reqwest::Method;
use serde_json::json;
use telegram_dc::Peer;

use crate::bed::{Bed, account, conversation, conversations, friend, log_in, message, messages, state, text, write};
use crate::support::{self, Kind, answer, until};

#[test]
fn a_foreign_account_is_not_there() {
    support::run(async {
        let bed = Bed::start(Kind::Embedded).await;
        let me = account(&bed.dc, "+15552000", None).await;
        let friend = friend(&bed.dc, "Friend").await;
        write(&bed.dc, me, friend, "secret").await;
        let user = bed.hub.user().await;
        let account = log_in(&user, "+15552000").await;
        let chat = conversation(&user, "Friend").await;
        message(&user, &chat, "secret").await;
        let stranger = bed.hub.user().await;
        let nobody = "0190a3c4-0000-7000-8000-00000000abcd";
        for (method, path) in [
            (Method::GET, "dialogs".to_owned()),
            (Method::GET, format!("messages/{friend}")),
            (Method::POST, format!("send/{friend}")),
            (Method::POST, "sync".to_owned()),
            (Method::POST, "reset".to_owned()),
        ] {
            let mut answers = Vec::new();
            for account in [account.as_str(), nobody] {
                let path = format!("/api/telegram/{account}/{path}");
                let request = stranger.request(method.clone(), &path).json(&json!({ "text": "x" }));
                answers.push(answer(request).await.expect(404));
                let request = bed
                    .hub
                    .client()
                    .request(method.clone(), &path)
                    .json(&json!({ "text": "x" }));
                answer(request).await.expect(401);
            }
            assert_eq!(
                answers[0], answers[1],
                "{path}: a foreign account answers as one that is not there"
            );
            assert!(answers[0]["error"].is_string());
        }
        assert_eq!(bed.dc.count("messages.sendMessage").await, 0);
        message(&user, &chat, "secret").await;
        bed.hub.stop().await;
    });
}

#[test]
fn disconnecting_signs_out_and_erases_the_keys() {
    support::run(async {
        let bed = Bed::start(Kind::Postgres).await;
        let me = account(&bed.dc, "+15552001", None).await;
        let friend = friend(&bed.dc, "Friend").await;
        write(&bed.dc, me, friend, "stays").await;
        let user = bed.hub.user().await;
        let account = log_in(&user, "+15552001").await;
        state(&user, &account, "live").await;
        let chat = conversation(&user, "Friend").await;
        message(&user, &chat, "stays").await;
        let remembered = || bed.hub.database.query("SELECT count(*) FROM link_memory");
        assert_ne!(remembered().await, ["0"]);
        user.delete(&format!("/api/oauth/disconnect/{account}"))
            .await
            .expect(200);
        assert_eq!(remembered().await, ["0"]);
        assert_eq!(bed.dc.count("auth.logOut").await, 1);
        let dc = bed.dc.state().await;
        assert!(dc.accounts.iter().all(|one| one.keys.is_empty()), "{dc:?}");
        until("no connection is left", async || {
            (bed.dc.state().await.connections == 0).then_some(())
        })
        .await;
        let account_now = state(&user, &account, "disabled").await;
        assert_eq!(account_now["is_active"], false);
        let sync = user
            .post(&format!("/api/telegram/{account}/sync"), &json!({}))
            .await
            .expect(401);
        assert_eq!(sync["needsReconnect"], true);
        assert_eq!(messages(&user, &chat).await[0]["content"], "stays");
        user.delete(&format!("/api/oauth/disconnect/{account}"))
            .await
            .expect(200);
        assert_eq!(bed.dc.count("auth.logOut").await, 1);
        bed.hub.stop().await;
    });
}

crate::on_both_databases!(a_reset_begins_anew_and_loses_nothing_that_must_go_out);

async fn a_reset_begins_anew_and_loses_nothing_that_must_go_out(kind: Kind) {
    let bed = Bed::start(kind).await;
    let me = account(&bed.dc, "+15552002", None).await;
    let (first, second) = (friend(&bed.dc, "First").await, friend(&bed.dc, "Second").await);
    let user = bed.hub.user().await;
    let account = log_in(&user, "+15552002").await;
    state(&user, &account, "live").await;
    for friend in [first, second] {
        write(&bed.dc, me, friend, "hello").await;
    }
    let chat = conversation(&user, "First").await;
    let other = conversation(&user, "Second").await;
    user.send(&other, "gone and back", None).await.expect(201);
    // This one has to wait, and then goes out.
    bed.dc
        .script(telegram_dc::FaultScript::next(
            "messages.sendMessage",
            telegram_dc::Fault::Error {
                code: 420,
                name: "FLOOD_WAIT_6".to_owned(),
            },
        ))
        .await
        .unwrap();
    let queued = user
        .try_send(&chat, "in the outbox", None, true)
        .await
        .unwrap()
        .expect(202);
    until("it was tried", async || {
        (bed.dc.count("messages.sendMessage").await == 2).then_some(())
    })
    .await;
    user.post(&format!("/api/telegram/{account}/reset"), &json!({}))
        .await
        .expect(200);
    until("the chats are back", async || {
        let all = conversations(&user).await;
        (all.len() == 2).then_some(())
    })
    .await;
    let other_now = conversation(&user, "Second").await;
    assert_ne!(other, other_now, "it was deleted and fetched again");
    message(&user, &other_now, "gone and back").await;
    assert_eq!(
        conversation(&user, "First").await,
        chat,
        "the outbox holds on to its chat"
    );
    message(&user, &chat, "hello").await;
    until("it went out", async || {
        let found = message(&user, &chat, "in the outbox").await;
        (found["id"] == text(&queued["pendingId"]) && found["status"] == "sent").then_some(())
    })
    .await;
    let stored = bed.dc.messages(me, Some(Peer::User(first))).await.unwrap();
    assert_eq!(stored.iter().filter(|one| one.text == "in the outbox").count(), 1);
    // Live as before.
    write(&bed.dc, me, second, "after").await;
    message(&user, &other_now, "after").await;
    for (chat, count) in [(&chat, 2), (&other_now, 3)] {
        assert_eq!(messages(&user, chat).await.len(), count);
    }
    bed.hub.stop().await;
}
