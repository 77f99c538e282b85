//! What a person does with a linked account: reads, answers, scrolls up, looks at pictures, and what others do meanwhile.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use telegram_dc::{
    Delete, Edit, Fault, FaultScript, LogFilter, MessageRef, NewHistory, Peer, React, Read, ReadSide, Typing,
};

use crate::bed::{
    Bed, SOON, account, conversation, conversations, friend, live_message, log_in, message, messages, state, text,
    write,
};
use crate::support::{self, Kind, answer, until};

crate::on_both_databases!(dialogs_a_push_and_a_reply);

async fn dialogs_a_push_and_a_reply(kind: Kind) {
    let bed = Bed::start(kind).await;
    let me = account(&bed.dc, "+15551000", None).await;
    let mut friends = Vec::new();
    for number in 0..120 {
        let friend = friend(&bed.dc, &format!("Friend {number}")).await;
        write(&bed.dc, me, friend, &format!("from {number}")).await;
        friends.push(friend);
        let read = Read {
            account: me,
            peer: Peer::User(friend),
            max_id: 0,
            side: ReadSide::Inbox,
        };
        bed.dc.read(read).await.unwrap();
    }
    let user = bed.hub.user().await;
    let account = log_in(&user, "+15551000").await;
    // The page asks for this right after the login, and then once for the list.
    user.post(&format!("/api/telegram/{account}/sync"), &json!({}))
        .await
        .expect(200);
    assert_eq!(conversations(&user).await.len(), 120);
    state(&user, &account, "live").await;
    let list = user.get(&format!("/api/telegram/{account}/dialogs")).await.expect(200);
    let dialogs = list["dialogs"].as_array().unwrap();
    assert_eq!(dialogs.len(), 120);
    assert_eq!(
        (&dialogs[0]["isUser"], &dialogs[0]["isChannel"]),
        (&json!(true), &json!(false))
    );
    let unread: i64 = conversations(&user)
        .await
        .iter()
        .map(|one| one["unread_count"].as_i64().unwrap())
        .sum();
    assert_eq!(unread, 0, "what was read before stays read");

    let (mut socket, _) = user.socket(None).await;
    let mut waits = Vec::new();
    for (round, friend) in friends.iter().copied().take(10).enumerate() {
        let begun = hub_actors::clock::instant();
        let content = format!("ping {round}");
        write(&bed.dc, me, friend, &content).await;
        let frame = live_message(&mut socket, &content).await;
        waits.push(begun.elapsed());
        assert_eq!(frame["data"]["message"]["isOutgoing"], false);
        assert_eq!(frame["data"]["conversation"]["accountId"], account.as_str());
    }
    waits.sort();
    println!(
        "{kind:?}: push to socket: median {:?}, slowest {:?}",
        waits[5], waits[9]
    );
    assert!(waits[5] < Duration::from_secs(2), "{waits:?}");

    let chat = conversation(&user, "Friend 7").await;
    let sent = user.send(&chat, "**bold** reply", Some("k")).await.expect(201);
    assert_eq!(sent["message"]["status"], "sent");
    user.send(&chat, "**bold** reply", Some("k")).await.expect(201);
    let stored = bed.dc.messages(me, Some(Peer::User(friends[7]))).await.unwrap();
    let replies: Vec<_> = stored.iter().filter(|one| one.random_id.is_some()).collect();
    assert_eq!(replies.len(), 1);
    assert_eq!((replies[0].text.as_str(), replies[0].out), ("bold reply", true));
    assert_eq!(bed.dc.count("messages.sendMessage").await, 1);

    let by_chat = user
        .post(
            &format!("/api/telegram/{account}/send/{}", friends[7]),
            &json!({ "text": "by chat" }),
        )
        .await
        .expect(200);
    assert_eq!(
        (&by_chat["message"]["text"], &by_chat["message"]["out"]),
        (&json!("by chat"), &json!(true))
    );
    let path = format!("/api/telegram/{account}/messages/{}", friends[7]);
    let list = user.get(&path).await.expect(200);
    assert_eq!(list["messages"][0]["text"], "by chat");
    assert!(list["messages"][0]["date"].is_i64());
    user.get(&format!("/api/telegram/{account}/messages/99"))
        .await
        .expect(404);
    let begun = hub_actors::clock::instant();
    let sync = user
        .post(&format!("/api/telegram/{account}/sync"), &json!({}))
        .await
        .expect(200);
    assert_eq!(sync["success"], true);
    assert!(begun.elapsed() < Duration::from_secs(2));
    bed.hub.stop().await;
}

#[test]
fn history_pages_back_to_the_first_message() {
    support::run(async {
        let bed = Bed::start(Kind::Embedded).await;
        let me = account(&bed.dc, "+15551001", None).await;
        let friend = friend(&bed.dc, "Old friend").await;
        let past = NewHistory {
            account: Some(me),
            peer: Peer::User(friend),
            from: Some(friend),
            count: 330,
            text: "old ".to_owned(),
            first_date: None,
        };
        bed.dc.seed_history(past).await.unwrap();
        let read = Read {
            account: me,
            peer: Peer::User(friend),
            max_id: 0,
            side: ReadSide::Inbox,
        };
        bed.dc.read(read).await.unwrap();
        let user = bed.hub.user().await;
        let account = log_in(&user, "+15551001").await;
        let chat = conversation(&user, "Old friend").await;
        state(&user, &account, "live").await;
        until("the newest 50", async || {
            (messages(&user, &chat).await.len() >= 50).then_some(())
        })
        .await;
        let (mut seen, mut offset) = (Vec::new(), 0);
        loop {
            // As the page asks: 50, leaving out those it has.
            let page = user
                .get(&format!("/api/messages/{chat}?limit=50&offset={offset}"))
                .await
                .expect(200);
            let found = page["messages"].as_array().unwrap().clone();
            offset += found.len();
            seen.extend(found);
            if page["hasMore"] == false {
                break;
            }
            assert!(offset <= 330, "it never ends");
        }
        assert_eq!(seen.len(), 330);
        for (place, message) in seen.iter().enumerate() {
            let expected = format!("old {}", 330 - place);
            assert_eq!(message["content"].as_str().unwrap().replace("  ", " "), expected);
            assert_eq!(message["is_read"], true);
        }
        // The first message is known now: nobody asks again.
        let asked = bed.dc.count("messages.getHistory").await;
        user.get(&format!("/api/messages/{chat}?limit=50&offset=330"))
            .await
            .expect(200);
        user.get(&format!("/api/messages/{chat}?limit=50&offset=300"))
            .await
            .expect(200);
        assert_eq!(bed.dc.count("messages.getHistory").await, asked);
        bed.hub.stop().await;
    });
}

#[test]
fn what_others_do_is_seen() {
    support::run(async {
        let bed = Bed::start(Kind::Postgres).await;
        let me = account(&bed.dc, "+15551004", None).await;
        let friend = friend(&bed.dc, "Busy").await;
        let user = bed.hub.user().await;
        let account = log_in(&user, "+15551004").await;
        state(&user, &account, "live").await;
        let placed = write(&bed.dc, me, friend, "first").await;
        let chat = conversation(&user, "Busy").await;
        let shown = message(&user, &chat, "first").await;
        let peer = Peer::User(friend);
        let at = MessageRef {
            account: Some(me),
            peer,
            id: placed.id,
        };
        let (mut socket, _) = user.socket(None).await;
        bed.dc
            .typing(Typing {
                account: Some(me),
                peer,
                user: None,
                action: telegram_dc::TypingAction::Typing,
            })
            .await
            .unwrap();
        socket.next_named("typing").await;

        let edit = Edit {
            message: at,
            text: "second".to_owned(),
            lost: false,
        };
        bed.dc.edit(edit).await.unwrap();
        let edited = message(&user, &chat, "second").await;
        assert_eq!((&edited["id"], edited["edited_at"].is_string()), (&shown["id"], true));

        let react = |emoji: Option<&str>| React {
            message: at,
            user: friend,
            emoji: emoji.map(str::to_owned),
        };
        let reactions = async || {
            let found = messages(&user, &chat).await;
            let found = found.into_iter().find(|one| one["id"] == shown["id"]).unwrap();
            found["reactions"].as_array().unwrap().clone()
        };
        bed.dc.react(react(Some("\u{1f44d}"))).await.unwrap();
        let shown_reactions = until("a reaction", async || {
            Some(reactions().await).filter(|all| !all.is_empty())
        })
        .await;
        assert_eq!(shown_reactions[0]["emoji"], "\u{1f44d}");
        bed.dc.react(react(None)).await.unwrap();
        until("the reaction goes", async || reactions().await.is_empty().then_some(())).await;

        user.send(&chat, "mine", None).await.expect(201);
        let side = ReadSide::Outbox;
        bed.dc
            .read(Read {
                account: me,
                peer,
                max_id: 0,
                side,
            })
            .await
            .unwrap();
        until("it is read", async || {
            (message(&user, &chat, "mine").await["status"] == "read").then_some(())
        })
        .await;

        write(&bed.dc, me, friend, "unread").await;
        message(&user, &chat, "unread").await;
        let side = ReadSide::Inbox;
        bed.dc
            .read(Read {
                account: me,
                peer,
                max_id: 0,
                side,
            })
            .await
            .unwrap();
        until("it was read on the phone", async || {
            let all = conversations(&user).await;
            all.iter().all(|one| one["unread_count"] == 0).then_some(())
        })
        .await;

        let delete = Delete {
            account: Some(me),
            peer,
            ids: vec![placed.id],
            lost: false,
        };
        bed.dc.delete(delete).await.unwrap();
        until("it is deleted", async || {
            let all = messages(&user, &chat).await;
            let found = all.into_iter().find(|one| one["id"] == shown["id"]).unwrap();
            (found["deleted_at"].is_string() && found["content"] == "").then_some(())
        })
        .await;
        let trouble = bed.hub.database.query("SELECT reason FROM quarantine").await;
        assert!(trouble.is_empty(), "{trouble:?}");
        bed.hub.stop().await;
    });
}

#[test]
fn what_the_person_does_reaches_telegram() {
    support::run(async {
        let bed = Bed::start(Kind::Embedded).await;
        let me = account(&bed.dc, "+15551005", None).await;
        let friend = friend(&bed.dc, "Quiet").await;
        let user = bed.hub.user().await;
        let account = log_in(&user, "+15551005").await;
        state(&user, &account, "live").await;
        let placed = write(&bed.dc, me, friend, "read me").await;
        let chat = conversation(&user, "Quiet").await;
        message(&user, &chat, "read me").await;
        let peer = Peer::User(friend);
        let (mut socket, _) = user.socket(None).await;
        socket
            .send(&json!({ "event": "typing", "data": { "conversationId": chat } }))
            .await;
        let typed = bed.dc.wait_for(LogFilter::method("messages.setTyping"), 1, SOON).await;
        assert_eq!(typed.len(), 1);
        let path = format!("/api/messages/conversation/{chat}/read");
        user.patch(&path, &Value::Null).await.expect(200);
        let read = bed
            .dc
            .wait_for(LogFilter::method("messages.readHistory"), 1, SOON)
            .await;
        let sent = user.send(&chat, "frist", None).await.expect(201);
        let id = text(&sent["message"]["id"]);
        let path = format!("/api/messages/{id}");
        let edited = user.patch(&path, &json!({ "content": "first" })).await.expect(200);
        assert_eq!(edited["message"]["content"], "first");
        let at_telegram = async || bed.dc.messages(me, Some(peer)).await.unwrap();
        let stored = at_telegram().await;
        assert!(stored.iter().any(|one| one.text == "first" && one.edited), "{stored:?}");
        let incoming = text(&message(&user, &chat, "read me").await["id"]);
        let reactions = format!("/api/messages/{incoming}/reactions");
        let emoji = json!({ "emoji": "\u{1f44d}" });
        let reacted = user.post(&reactions, &emoji).await.expect(200);
        assert_eq!(reacted["message"]["reactions"][0]["actorId"], me.to_string());
        let theirs = async || {
            let all = at_telegram().await;
            all.into_iter().find(|one| one.id == placed.id).unwrap().reactions
        };
        assert_eq!(theirs().await, [(me, "\u{1f44d}".to_owned())]);
        let request = user.request(Method::DELETE, &reactions).json(&emoji);
        assert_eq!(answer(request).await.expect(200)["message"]["reactions"], json!([]));
        assert_eq!(theirs().await, []);

        let foreign = format!("/api/messages/{incoming}");
        user.patch(&foreign, &json!({ "content": "x" })).await.expect(409);
        let stranger = bed.hub.user().await;
        stranger.patch(&path, &json!({ "content": "x" })).await.expect(404);
        stranger.delete(&path).await.expect(404);
        stranger.post(&reactions, &emoji).await.expect(404);
        let too_late = Fault::Error {
            code: 400,
            name: "MESSAGE_EDIT_TIME_EXPIRED".to_owned(),
        };
        bed.dc
            .script(FaultScript::next("messages.editMessage", too_late))
            .await
            .unwrap();
        let refused = user.patch(&path, &json!({ "content": "late" })).await.expect(502);
        assert!(text(&refused["error"]).contains("too old"), "{refused}");
        message(&user, &chat, "first").await;
        let deleted = user.delete(&path).await.expect(200);
        assert!(deleted["message"]["deletedAt"].is_string());
        assert!(at_telegram().await.iter().all(|one| one.text != "first"));
        user.delete(&path).await.expect(404);
        assert_eq!(
            (read[0].peer, read[0].ids.as_slice()),
            (Some(Peer::User(friend)), [placed.id].as_slice())
        );
        bed.hub.stop().await;
    });
}
