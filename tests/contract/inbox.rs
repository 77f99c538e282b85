//! Conversations and messages as they are read: lists, pages, counters, marks, positions, both casings.

use serde_json::{Value, json};

use crate::bed::{Bed, assert_both_casings, assert_utc, column};
use crate::on_both_databases;
use crate::support::{self, Correspondent, Hub, Kind, received};

on_both_databases!(
    conversations_come_unread_first_with_numbers_and_a_position,
    a_conversation_is_read_page_by_page,
);

async fn conversations_come_unread_first_with_numbers_and_a_position(kind: Kind) {
    let hub = Hub::start(kind).await;
    let user = hub.user().await;
    let empty = user.get("/api/conversations").await.expect(200);
    assert_eq!((&empty["count"], &empty["total"]), (&json!(0), &json!(0)));
    assert_eq!(empty["conversations"], json!([]));

    let channel = user.link(&Correspondent::start()).await;
    let mut ids = Vec::new();
    for chat in ["c1", "c2", "c3"] {
        ids.push(user.receive(&channel, chat, &format!("{chat}-m1"), "hello").await);
    }
    user.patch(&format!("/api/messages/conversation/{}/read", ids[2]), &json!({}))
        .await
        .expect(200);

    let page = user.get("/api/conversations").await.expect(200);
    assert_eq!(
        user.get("/api/conversations/").await.expect(200),
        page,
        "with and without a slash"
    );
    assert_eq!(
        column(&page["conversations"], "platform_conversation_id"),
        ["c2", "c1", "c3"]
    );
    for (field, value) in [
        ("count", 3),
        ("total", 3),
        ("unreadCount", 2),
        ("readCount", 1),
        ("offset", 0),
    ] {
        assert_eq!(page[field], value, "{field}");
    }
    let c2 = &page["conversations"][0];
    assert_both_casings(c2);
    for field in ["last_message_at", "created_at", "updated_at"] {
        assert_utc(&c2[field]);
    }
    assert_eq!((&c2["unread_count"], &c2["has_unread"]), (&json!(1), &json!(true)));
    assert_eq!(
        (&c2["platform"], &c2["account_id"]),
        (&json!("custom"), &json!(channel.account_id))
    );
    assert_eq!(c2["participant_name"], "Chat c2");
    assert_eq!(page["conversations"][2]["has_unread"], false);

    let part = user
        .get("/api/conversations?platform=custom&limit=1&offset=1")
        .await
        .expect(200);
    assert_eq!(column(&part["conversations"], "platform_conversation_id"), ["c1"]);
    assert_eq!(
        (&part["count"], &part["total"], &part["limit"]),
        (&json!(1), &json!(3), &json!(1))
    );
    let none = user.get("/api/conversations?platform=teams").await.expect(200);
    assert_eq!((&none["count"], &none["limit"]), (&json!(0), &json!(50)));
    let unread = user.get("/api/conversations?max_read=0").await.expect(200);
    assert_eq!((&unread["count"], &unread["readCount"]), (&json!(2), &json!(0)));
    let far = user.get("/api/conversations?offset=1000000000").await.expect(200);
    assert_eq!((&far["count"], &far["total"]), (&json!(0), &json!(3)));

    let mut one = user.get(&format!("/api/conversations/{}", ids[1])).await.expect(200);
    let position = one.as_object_mut().unwrap().remove("position").unwrap();
    assert_eq!(&one, c2, "the same object alone as in the list");
    let events = user
        .get(&format!("/api/events?after={}", position.as_str().unwrap()))
        .await
        .expect(200);
    assert_eq!(events["events"], json!([]), "nothing is newer than the answer");
    hub.stop().await;
}

async fn a_conversation_is_read_page_by_page(kind: Kind) {
    let hub = Hub::start(kind).await;
    let user = hub.user().await;
    let channel = user.link(&Correspondent::start()).await;
    let events: Vec<Value> = (0..7)
        .map(|number| {
            let mut event = received("c1", &format!("m{number}"), &format!("text {number} 😀"));
            event["message"]["sentAt"] = json!(format!("2026-01-02T03:04:0{number}.123456Z"));
            event
        })
        .collect();
    user.deliver(&channel, "all", &json!(events)).await.expect(200);
    let chat = user.conversation("c1").await.unwrap();

    let page = user.get(&format!("/api/messages/{chat}?limit=3")).await.expect(200);
    assert_eq!(column(&page["messages"], "platform_message_id"), ["m6", "m5", "m4"]);
    let numbers = ["count", "total", "limit", "offset"].map(|field| page[field].as_i64().unwrap());
    assert_eq!(numbers, [3, 7, 3, 0]);
    assert_eq!(page["hasMore"], true);
    let message = &page["messages"][0];
    assert_both_casings(message);
    for field in ["sent_at", "created_at"] {
        assert_utc(&message[field]);
    }
    assert_eq!(message["sent_at"], "2026-01-02T03:04:06.123456Z");
    assert_eq!(
        (&message["content"], &message["conversation_id"]),
        (&json!("text 6 😀"), &json!(chat))
    );
    assert_eq!(
        (&message["message_type"], &message["media_url"]),
        (&json!("text"), &Value::Null)
    );
    assert_eq!(
        (&message["is_outgoing"], &message["is_read"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(
        (&message["sender_id"], &message["sender_name"]),
        (&json!("peer"), &json!("Peer"))
    );

    let before = page["messages"][2]["id"].as_str().unwrap();
    let older = user
        .get(&format!("/api/messages/{chat}?limit=3&before={before}"))
        .await
        .expect(200);
    assert_eq!(column(&older["messages"], "platform_message_id"), ["m3", "m2", "m1"]);
    assert_eq!(older["hasMore"], true);
    for (query, count, has_more) in [
        ("limit=4&offset=2", 4, true),
        ("limit=5&offset=2", 5, false),
        ("limit=200", 7, false),
        ("limit=1000", 7, false),
        ("offset=7", 0, false),
    ] {
        let page = user.get(&format!("/api/messages/{chat}?{query}")).await.expect(200);
        assert_eq!(
            (&page["count"], &page["hasMore"]),
            (&json!(count), &json!(has_more)),
            "{query}"
        );
    }
    hub.stop().await;
}

#[test]
fn recent_messages_reach_over_conversations_and_back_to_a_time() {
    support::run(async {
        let bed = Bed::usual();
        let (user, _peer, channel) = bed.linked().await;
        for (chat, message, at) in [("c1", "m1", "01:00"), ("c2", "m2", "02:00"), ("c1", "m3", "03:00")] {
            let mut event = received(chat, message, "x");
            event["message"]["sentAt"] = json!(format!("2026-02-03T04:{at}Z"));
            user.deliver(&channel, message, &event).await.expect(200);
        }
        let all = user.get("/api/messages").await.expect(200);
        assert_eq!(
            all,
            user.get("/api/messages/").await.expect(200),
            "with and without a slash"
        );
        assert_eq!(column(&all["messages"], "platform_message_id"), ["m3", "m2", "m1"]);
        assert_eq!(all["count"], 3);
        assert!(all["position"].as_str().unwrap().contains(':'));
        let since = user.get("/api/messages?since=2026-02-03T04:01:00Z").await.expect(200);
        assert_eq!(column(&since["messages"], "platform_message_id"), ["m3", "m2"]);
        // A plus sign that nobody escaped arrives as a space.
        let since = user
            .get("/api/messages/?since=2026-02-03T06:02:00+02:00")
            .await
            .expect(200);
        assert_eq!(column(&since["messages"], "platform_message_id"), ["m3"]);
        let since = user.get("/api/messages?since=2099-01-01T00:00:00Z").await.expect(200);
        assert_eq!(since["count"], 0);
    });
}

#[test]
fn unread_counters_go_down_once_for_each_message() {
    support::run(async {
        let bed = Bed::usual();
        let (user, peer, channel) = bed.linked().await;
        let second = user.link(&peer).await;
        let chat = user.receive(&channel, "c1", "m1", "one").await;
        user.receive(&channel, "c1", "m2", "two").await;
        user.receive(&channel, "c2", "m3", "three").await;
        user.receive(&second, "d1", "m4", "four").await;
        let count = async || user.get("/api/messages/unread/count").await.expect(200);
        assert_eq!(
            count().await,
            json!({ "total": 4, "byPlatform": { "custom": 4 } }),
            "two accounts add up"
        );

        let page = user.get(&format!("/api/messages/{chat}")).await.expect(200);
        let read = format!("/api/messages/{}/read", page["messages"][0]["id"].as_str().unwrap());
        for _ in 0..3 {
            let done = user.patch(&read, &json!({})).await.expect(200);
            assert_eq!(done, json!({ "success": true, "message": "Message marked as read" }));
            assert_eq!(count().await["total"], 3, "once");
        }
        let page = user.get(&format!("/api/messages/{chat}")).await.expect(200);
        assert_eq!(page["messages"][0]["is_read"], true);
        assert_eq!(page["messages"][1]["is_read"], false);

        for _ in 0..2 {
            let path = format!("/api/messages/conversation/{chat}/read");
            let done = user.patch(&path, &json!({})).await.expect(200);
            assert_eq!(
                done,
                json!({ "success": true, "message": "All messages marked as read" })
            );
            assert_eq!(count().await["total"], 2);
        }
        assert_eq!(
            user.get(&format!("/api/conversations/{chat}")).await.expect(200)["unread_count"],
            0
        );
    });
}

#[test]
fn events_are_read_from_any_place() {
    support::run(async {
        let bed = Bed::usual();
        let (user, _peer, channel) = bed.linked().await;
        for number in 1..=4 {
            user.receive(&channel, "c1", &format!("m{number}"), "x").await;
        }
        let all = user.get("/api/events").await.expect(200);
        let events = all["events"].as_array().unwrap();
        let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>(), "no gap");
        assert_eq!(events[0]["event"], "connection_update");
        assert_eq!((&all["seq"], &all["hasMore"]), (&json!(events.len()), &json!(false)));
        let (epoch, last) = (all["epoch"].as_str().unwrap(), events.len());
        assert_eq!(all["next"], format!("{epoch}:{last}"));

        let part = user
            .get(&format!("/api/events?limit=2&after={epoch}:1"))
            .await
            .expect(200);
        assert_eq!((&part["events"][0], &part["events"][1]), (&events[1], &events[2]));
        assert_eq!(
            (&part["next"], &part["hasMore"]),
            (&json!(format!("{epoch}:3")), &json!(true))
        );
        let end = user.get(&format!("/api/events?after={last}")).await.expect(200);
        assert_eq!((&end["events"], &end["hasMore"]), (&json!([]), &json!(false)));
    });
}
