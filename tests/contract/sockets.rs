//! The live stream: first frame, resumption, commands and their answers, and the end.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::bed::{Bed, NOBODY, Slot, assert_both_casings, slot};
use crate::on_both_databases;
use crate::support::{self, Correspondent, Hub, Kind};

on_both_databases!(a_socket_goes_on_where_another_ended);

async fn a_socket_goes_on_where_another_ended(kind: Kind) {
    let hub = Hub::start(kind).await;
    let user = hub.user().await;
    let channel = user.link(&Correspondent::start()).await;
    let (mut socket, first) = user.socket(None).await;
    let data = &first["data"];
    assert_eq!(
        (&data["userId"], &data["email"]),
        (&json!(user.user_id), &json!(user.email))
    );
    assert_eq!((&data["realtime"], &data["recovered"]), (&json!(true), &json!(false)));
    let (epoch, tail) = (data["epoch"].as_str().unwrap(), data["seq"].as_i64().unwrap());
    assert_eq!(
        json!(tail),
        json!(user.events().await.len()),
        "the live tail starts here"
    );

    let chat = user.receive(&channel, "c1", "m1", "live").await;
    let live = socket.next_event().await;
    assert_eq!(
        (&live["event"], &live["epoch"], &live["seq"]),
        (&json!("new_message"), &json!(epoch), &json!(tail + 1))
    );
    assert_both_casings(&live["data"]["message"]);
    assert_eq!(live["data"]["message"]["content"], "live");
    assert_eq!(live["data"]["conversation"]["id"], chat.as_str());
    drop(socket);

    for number in 2..=5 {
        user.receive(&channel, "c1", &format!("m{number}"), "missed").await;
    }
    let since = format!("{epoch}:{}", tail + 1);
    let (mut socket, first) = user.socket(Some(&since)).await;
    assert_eq!(first["data"]["recovered"], true);
    for number in 2..=5 {
        let missed = socket.next_event().await;
        assert_eq!(missed["seq"], tail + number);
        assert_eq!(missed["data"]["message"]["platform_message_id"], format!("m{number}"));
    }
    user.receive(&channel, "c1", "m6", "live again").await;
    assert_eq!(socket.next_event().await["seq"], tail + 6);

    let (_socket, first) = user.socket(Some(&format!("{epoch}:{}", tail + 6))).await;
    assert_eq!(
        (&first["data"]["recovered"], &first["data"]["seq"]),
        (&json!(true), &json!(tail + 6))
    );
    for wrong in ["zzzzzz:1".to_owned(), format!("{epoch}:999999")] {
        let (_socket, first) = user.socket(Some(&wrong)).await;
        let data = &first["data"];
        assert_eq!(
            (&data["recovered"], &data["seq"]),
            (&json!(false), &json!(tail + 6)),
            "{wrong}"
        );
    }
    hub.stop().await;
}

#[test]
fn pings_of_both_kinds_are_answered() {
    support::run(async {
        let bed = Bed::usual();
        let (mut socket, _) = bed.user().await.socket(None).await;
        for timestamp in [json!(123), json!("now"), json!(null)] {
            socket.send(&json!({ "event": "ping", "timestamp": timestamp })).await;
            let pong = socket.next_named("pong").await;
            assert_eq!(pong, json!({ "event": "pong", "timestamp": timestamp }));
        }
        socket.send_message(Message::Ping("here?".into())).await;
        let pong = loop {
            if let Message::Pong(payload) = socket.next_message().await {
                break payload;
            }
        };
        assert_eq!(pong, "here?");
    });
}

#[test]
fn send_read_and_typing_are_acknowledged() {
    support::run(async {
        let bed = Bed::usual();
        let (user, peer, channel) = bed.linked().await;
        let chat = user.receive(&channel, "c1", "m1", "hello").await;
        let (mut socket, _) = user.socket(None).await;
        let data = json!({ "conversationId": chat, "content": "by socket", "clientId": "s-1" });
        let send = json!({ "event": "send", "data": data });
        let mut ids = Vec::new();
        for repeated in [false, true] {
            socket.send(&send).await;
            let ack = socket.next_named("ack").await;
            assert_eq!(
                (&ack["data"]["command"], &ack["data"]["clientId"]),
                (&json!("send"), &json!("s-1"))
            );
            assert_eq!(ack["data"]["repeated"], repeated);
            ids.push(ack["data"]["messageId"].as_str().unwrap().to_owned());
        }
        assert_eq!(ids[0], ids[1], "one message, however often its id comes");
        support::until("it goes out", async || (peer.messages().len() == 1).then_some(())).await;
        let queued = user
            .events()
            .await
            .into_iter()
            .find(|event| event["data"]["clientId"] == "s-1");
        assert_eq!(queued.unwrap()["data"]["message"]["id"], ids[0].as_str());

        let other = json!({ "conversationId": chat, "content": "other words", "clientId": "s-1" });
        socket.send(&json!({ "event": "send", "data": other })).await;
        assert_eq!(socket.next_named("error").await["data"]["code"], "CLIENT_ID_REUSED");

        // The hub's id of a message becomes the platform's, as over REST.
        let answer = json!({ "conversationId": chat, "content": "yes", "clientId": "s-2", "replyTo": ids[0] });
        socket.send(&json!({ "event": "send", "data": answer })).await;
        socket.next_named("ack").await;
        support::until("the reply goes out", async || {
            (peer.messages().len() == 2).then_some(())
        })
        .await;
        let sent = peer.received().pop().unwrap().body;
        let first = peer.messages().remove(0).0;
        assert_eq!(sent["message"]["replyTo"], format!("external-{first}"));

        let (mut second, _) = user.socket(None).await;
        socket
            .send(&json!({ "event": "read", "data": { "conversationId": chat, "clientId": "r-1" } }))
            .await;
        let ack = socket.next_named("ack").await;
        assert_eq!(
            (&ack["data"]["command"], &ack["data"]["conversationId"]),
            (&json!("read"), &json!(chat))
        );
        let counts = second.next_named("unread_count_update").await;
        assert_eq!(
            counts["data"],
            json!({ "unreadCounts": { "custom": 0 }, "totalUnread": 0 })
        );
        assert!(counts.get("seq").is_none(), "it stands outside the stream");

        socket
            .send(&json!({ "event": "typing", "data": { "conversationId": chat, "clientId": "t-1" } }))
            .await;
        let ack = socket.next_named("ack").await;
        assert_eq!(
            (&ack["data"]["command"], &ack["data"]["clientId"]),
            (&json!("typing"), &json!("t-1"))
        );
    });
}

#[test]
fn somebody_who_types_is_seen_live_and_not_stored() {
    support::run(async {
        let bed = Bed::usual();
        let (user, _peer, channel) = bed.linked().await;
        let chat = user.receive(&channel, "c1", "m1", "hello").await;
        let (mut socket, _) = user.socket(None).await;
        let before = user.events().await.len();
        let sender = json!({ "id": "peer", "name": "Peer" });
        let typing = json!({ "type": "typing", "conversation": { "id": "c1" }, "sender": sender });
        user.deliver(&channel, "t1", &typing).await.expect(200);
        let frame = socket.next_named("typing").await;
        assert_eq!(
            frame["data"],
            json!({ "conversationId": chat, "actorId": "peer", "actorName": "Peer" })
        );
        assert_eq!(user.events().await.len(), before);
    });
}

#[test]
fn wrong_commands_are_answered_by_error_frames_and_the_socket_lives_on() {
    support::run(async {
        let bed = Bed::usual();
        let (user, _peer, channel) = bed.linked().await;
        let chat = user.receive(&channel, "c1", "m1", "hello").await;
        let stranger = bed.user().await;
        let before = user.events().await;
        let (mut socket, _) = stranger.socket(None).await;
        let send = |data: Value| json!({ "event": "send", "data": data }).to_string();
        for (text, code, words) in [
            ("not json".to_owned(), "INVALID_JSON", "This is not a command"),
            ("[]".to_owned(), "INVALID_JSON", "This is not a command"),
            (
                json!({ "event": "dance" }).to_string(),
                "VALIDATION_ERROR",
                "event: ping, send, read or typing",
            ),
            (send(json!({})), "VALIDATION_ERROR", "conversationId: is required"),
            (
                send(json!({ "conversationId": "x" })),
                "VALIDATION_ERROR",
                "conversationId",
            ),
            (
                send(json!({ "conversationId": chat, "content": " " })),
                "VALIDATION_ERROR",
                "content: This field may not be blank.",
            ),
            (
                send(json!({ "conversationId": chat, "content": "x" })),
                "VALIDATION_ERROR",
                "clientId: is required",
            ),
            (
                send(json!({ "conversationId": chat, "content": "x", "clientId": "c" })),
                "NOT_FOUND",
                "",
            ),
            (
                send(json!({ "conversationId": NOBODY, "content": "x", "clientId": "d" })),
                "NOT_FOUND",
                "",
            ),
            (
                json!({ "event": "read", "data": { "conversationId": chat } }).to_string(),
                "NOT_FOUND",
                "",
            ),
            (
                json!({ "event": "typing", "data": { "conversationId": chat } }).to_string(),
                "NOT_FOUND",
                "",
            ),
        ] {
            socket.send_text(&text).await;
            let error = socket.next().await;
            assert_eq!(error["event"], "error", "{text}");
            assert_eq!(
                (&error["data"]["code"], &error["data"]["retryable"]),
                (&json!(code), &json!(false)),
                "{text}"
            );
            assert!(
                error["data"]["message"].as_str().unwrap().starts_with(words),
                "{text}: {error}"
            );
        }
        socket.send(&json!({ "event": "ping" })).await;
        assert_eq!(socket.next().await["event"], "pong");
        assert_eq!(user.events().await, before, "nothing reached the other person");
    });
}

#[test]
fn a_socket_ends_with_its_session_and_with_a_number() {
    support::run(async {
        let bed = Bed::usual();
        let user = bed.user().await;
        let login = json!({ "email": user.email, "password": support::PASSWORD });
        let mut elsewhere = user.clone();
        elsewhere.keep(&user.post("/api/auth/login", &login).await.expect(200));
        let ((mut first, _), (mut second, _)) = (user.socket(None).await, user.socket(None).await);
        let (mut other, _) = elsewhere.socket(None).await;
        let body = json!({ "refreshToken": user.refresh_token });
        user.post("/api/auth/logout", &body).await.expect(200);
        assert_eq!(first.closed().await, Some(4500));
        assert_eq!(second.closed().await, Some(4500));
        other.send(&json!({ "event": "ping" })).await;
        assert_eq!(other.next().await["event"], "pong", "another session's socket lives on");
        other.send_message(Message::binary(vec![1, 2, 3])).await;
        assert_eq!(other.closed().await, Some(4502));
        let (mut long, _) = elsewhere.socket(None).await;
        long.send_text(&"x".repeat(65_537)).await;
        assert_eq!(long.closed().await, Some(4502));
    });
}

#[test]
fn one_socket_too_many_ends_the_one_that_was_unused_for_longest() {
    static NARROW: Slot = slot();
    support::run(async {
        let bed = Bed::shared(&NARROW, |settings| settings.websocket.max_per_user = 2);
        let (user, other) = (bed.user().await, bed.user().await);
        let (mut others, _) = other.socket(None).await;
        let (mut first, _) = user.socket(None).await;
        let (mut second, _) = user.socket(None).await;
        // A ping may come from a tab that nobody looks at.
        second.send(&json!({ "event": "ping" })).await;
        assert_eq!(second.next_named("pong").await["event"], "pong");
        let read = json!({ "event": "read", "data": { "conversationId": NOBODY } });
        first.send(&read).await;
        assert_eq!(first.next_named("error").await["data"]["code"], "NOT_FOUND");
        let (mut third, _) = user.socket(None).await;
        assert_eq!(second.closed().await, Some(4501));
        for socket in [&mut first, &mut third, &mut others] {
            socket.send(&json!({ "event": "ping" })).await;
            assert_eq!(socket.next().await["event"], "pong");
        }
    });
}

#[test]
fn what_is_sent_without_waiting_leaves_in_its_order() {
    support::run(async {
        let bed = Bed::usual();
        let (user, peer, channel) = bed.linked().await;
        let chat = user.receive(&channel, "c1", "m1", "hello").await;
        let events = user.events().await;
        let received = events.iter().find(|event| event["event"] == "new_message").unwrap();
        let answered = &received["data"]["message"]["id"];
        let (mut socket, _) = user.socket(None).await;
        let texts: Vec<String> = (0..40).map(|number| format!("message {number}")).collect();
        for (number, text) in texts.iter().enumerate() {
            // The hub's id has to be looked up before the message can be sent.
            let reply_to = if number % 2 == 0 { answered } else { &Value::Null };
            let data = json!({ "conversationId": chat, "content": text, "clientId": text, "replyTo": reply_to });
            socket.send(&json!({ "event": "send", "data": data })).await;
        }
        for text in &texts {
            assert_eq!(socket.next_named("ack").await["data"]["clientId"], text.as_str());
        }
        support::until("all are sent", async || {
            (peer.messages().len() == texts.len()).then_some(())
        })
        .await;
        let sent: Vec<String> = peer.messages().into_iter().map(|(_, _, text)| text).collect();
        assert_eq!(sent, texts);
    });
}

#[test]
fn who_was_signed_out_at_another_hub_is_not_obeyed_for_long() {
    support::run(async {
        let hub = Hub::start(Kind::Postgres).await;
        let user = hub.user().await;
        let (mut socket, _) = user.socket(None).await;
        let typing = json!({ "event": "typing", "data": { "conversationId": NOBODY } });
        socket.send(&typing).await;
        assert_eq!(socket.next_named("error").await["data"]["code"], "NOT_FOUND");
        hub.database.query("UPDATE refresh_tokens SET revoked_at = now()").await;
        // For ten seconds the hub believes what it knew.
        let since = hub_actors::clock::instant();
        let code = loop {
            socket.send(&typing).await;
            match socket.next_or_close().await {
                Ok(frame) => assert_eq!(frame["event"], "error"),
                Err(code) => break code,
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        };
        assert_eq!(code, Some(4500));
        assert!(since.elapsed() < std::time::Duration::from_secs(20));
        hub.stop().await;
    });
}

#[test]
fn a_hub_that_stops_tells_its_sockets_to_come_back() {
    support::run(async {
        let hub = Hub::start(Kind::Embedded).await;
        let (mut socket, _) = hub.user().await.socket(None).await;
        let (_database, code) = futures_util::future::join(hub.stop(), socket.closed()).await;
        assert_eq!(code, Some(4000));
    });
}

#[test]
fn commands_are_limited_as_requests_are() {
    static LIMITED: Slot = slot();
    support::run(async {
        let bed = Bed::shared(&LIMITED, |settings| settings.limits.standard_per_minute = 3);
        let (mut socket, _) = bed.user().await.socket(None).await;
        let typing = json!({ "event": "typing", "data": { "conversationId": NOBODY, "clientId": "t" } });
        let mut codes = Vec::new();
        for _ in 0..4 {
            socket.send(&typing).await;
            codes.push(socket.next().await["data"]["code"].as_str().unwrap().to_owned());
        }
        assert_eq!(codes, ["NOT_FOUND", "NOT_FOUND", "NOT_FOUND", "RATE_LIMIT_EXCEEDED"]);
        socket.send(&json!({ "event": "ping" })).await;
        assert_eq!(
            socket.next().await["event"],
            "pong",
            "the socket lives on, and pings are free"
        );
    });
}
