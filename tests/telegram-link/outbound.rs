//! Sending: once, whatever happens to the answer, and refusals in words.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hub_actors::domain::{FailureClass, InboundKind, MessageKind, OutboundAction, SendError, SendFailure};
use hub_actors::ports::{LinkState, TypingNotice};
use telegram_dc::{DcConfig, Fault, FaultScript, NewChannel, Peer, RepeatAnswer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::bed::{Bed, Linked, channel_id, eventually, text};

async fn live(config: DcConfig) -> (Bed, Linked, String) {
    let bed = Bed::with(config).await;
    let linked = bed.open().await;
    bed.push("hello").await;
    bed.feed.message("hello").await;
    let friend = bed.friend.to_string();
    (bed, linked, friend)
}

async fn stored(bed: &Bed, text: &str) -> Vec<telegram_dc::Stored> {
    let all = bed.dc.messages(bed.me, None).await.unwrap();
    all.into_iter().filter(|message| message.text == text).collect()
}

#[tokio::test]
async fn every_action_reaches_the_server() {
    let (bed, linked, friend) = live(DcConfig::default()).await;
    let reply = OutboundAction::Send {
        text: "**bold** words".into(),
        kind: MessageKind::Text,
        media_url: None,
        reply_to: Some("1".into()),
    };
    let receipt = bed.send(&linked, &friend, reply).await.unwrap();
    let sent = stored(&bed, "bold words").await.remove(0);
    let id = receipt.external_id.clone().unwrap();
    assert_eq!(
        (id.as_str(), sent.reply_to, sent.out),
        (sent.id.to_string().as_str(), Some(1), true)
    );
    // The echo carries the same number and the format.
    let (event, echo) = bed.feed.message("**bold** words").await;
    assert_eq!((event.conversation.as_str(), echo.is_outgoing), (friend.as_str(), true));
    assert_eq!(echo.external_id, id);
    let edit = OutboundAction::Edit {
        message: id.clone(),
        text: "changed".into(),
    };
    for _ in 0..2 {
        assert_eq!(bed.send(&linked, &friend, edit.clone()).await, Ok(Default::default()));
    }
    assert!(stored(&bed, "changed").await[0].edited);
    for is_active in [true, false] {
        let react = OutboundAction::React {
            message: "1".into(),
            emoji: "👍".into(),
            is_active,
        };
        bed.send(&linked, &friend, react).await.unwrap();
        assert_eq!(stored(&bed, "hello").await[0].reactions.len(), usize::from(is_active));
    }
    bed.send(&linked, &friend, OutboundAction::Read { message: "1".into() })
        .await
        .unwrap();
    assert_eq!(bed.dc.count("messages.readHistory").await, 1);
    bed.send(&linked, &friend, OutboundAction::Delete { message: id })
        .await
        .unwrap();
    assert!(stored(&bed, "changed").await.is_empty());
    let notice = TypingNotice {
        conversation: friend.as_str().into(),
    };
    linked.link.typing(&notice).await;
    assert_eq!(bed.dc.count("messages.setTyping").await, 1);
}

#[tokio::test]
async fn channels_and_groups_are_written_to_as_well() {
    let (bed, linked, _) = live(DcConfig::default()).await;
    let channel = bed.channel("Channel").await;
    let placed = bed.speak(channel, "in the channel").await;
    bed.feed.message("in the channel").await;
    let chat = channel_id(channel);
    let receipt = bed.send(&linked, &chat, text("an answer")).await.unwrap();
    let id = receipt.external_id.unwrap();
    assert!(
        bed.dc
            .channel_messages(channel)
            .await
            .unwrap()
            .iter()
            .any(|message| message.text == "an answer")
    );
    let (_, echo) = bed.feed.message("an answer").await;
    assert_eq!((echo.external_id.clone(), echo.is_outgoing), (id.clone(), true));
    let read = OutboundAction::Read {
        message: placed.id.to_string().into(),
    };
    bed.send(&linked, &chat, read).await.unwrap();
    bed.send(&linked, &chat, OutboundAction::Delete { message: id.clone() })
        .await
        .unwrap();
    assert!(
        !bed.dc
            .channel_messages(channel)
            .await
            .unwrap()
            .iter()
            .any(|message| message.text == "an answer")
    );
    bed.feed
        .event("the deletion", |kind| match kind {
            InboundKind::Deleted { message, .. } if *message == id => Some(()),
            _ => None,
        })
        .await;
}

#[tokio::test]
async fn a_lost_answer_is_repeated_and_sends_nothing_twice() {
    for repeat in [RepeatAnswer::FirstResult, RepeatAnswer::Duplicate] {
        let (bed, linked, friend) = live(DcConfig {
            repeat,
            ..DcConfig::default()
        })
        .await;
        bed.dc
            .script(FaultScript::next("messages.sendMessage", Fault::DoThenClose))
            .await
            .unwrap();
        let outbound = bed.outbound(&friend, text("only _once_"));
        let error = linked.link.send(&outbound).await.unwrap_err();
        assert_eq!(error.failure, SendFailure::AnswerLost);
        let receipt = linked.link.send(&outbound).await.unwrap();
        let sent = stored(&bed, "only once").await;
        assert_eq!(sent.len(), 1, "{repeat:?}");
        assert_eq!(receipt.external_id.unwrap().as_str(), sent[0].id.to_string());
        assert_eq!(bed.dc.count("messages.sendMessage").await, 2);
    }
}

#[tokio::test]
async fn waits_are_told() {
    let (bed, linked, friend) = live(DcConfig::default()).await;
    let flood = Fault::Error {
        code: 420,
        name: "FLOOD_WAIT_7".into(),
    };
    bed.dc
        .script(FaultScript::next("messages.sendMessage", flood))
        .await
        .unwrap();
    let error = bed.send(&linked, &friend, text("too much")).await.unwrap_err();
    let after = Duration::from_secs(7);
    assert_eq!(error.failure, SendFailure::RateLimited { after });
    assert!(matches!(bed.feed.states().last(), Some(LinkState::FloodWait { .. })));
    let slow = NewChannel {
        title: "Slow".into(),
        members: vec![bed.friend, bed.me],
        slowmode: Some(30),
        ..Default::default()
    };
    let slow = bed.dc.add_channel(slow).await.unwrap();
    bed.speak(slow, "slowly").await;
    bed.feed.message("slowly").await;
    let states = bed.feed.states().len();
    bed.send(&linked, &channel_id(slow), text("one")).await.unwrap();
    let error = bed.send(&linked, &channel_id(slow), text("two")).await.unwrap_err();
    assert!(matches!(error.failure.class(), FailureClass::RateLimited { after } if after > Duration::from_secs(20)));
    // One slow chat is no reason to stop the account.
    assert_eq!(bed.feed.states().len(), states);
}

#[tokio::test]
async fn refusals_are_final_and_have_words() {
    let (bed, linked, friend) = live(DcConfig::default()).await;
    for (chat, action) in [
        ("424242", text("who is that")),
        ("not a chat", text("what is that")),
        (
            friend.as_str(),
            OutboundAction::Edit {
                message: "999999".into(),
                text: "x".into(),
            },
        ),
        (friend.as_str(), text("")),
    ] {
        let SendError { failure, detail } = bed.send(&linked, chat, action).await.unwrap_err();
        assert_eq!(failure, SendFailure::Refused, "{chat}");
        assert!(detail.is_some_and(|detail| detail.len() > 5), "{chat}");
    }
    let internal = Fault::Error {
        code: 500,
        name: "INTERNAL".into(),
    };
    bed.dc
        .script(FaultScript::next("messages.sendMessage", internal))
        .await
        .unwrap();
    let error = bed.send(&linked, &friend, text("try again")).await.unwrap_err();
    assert_eq!(error.failure, SendFailure::PlatformFailed);
    bed.dc.stop_listening().await;
    let error = bed.send(&linked, &friend, text("nobody there")).await.unwrap_err();
    assert_eq!(error.failure.class(), FailureClass::Transient);
}

#[tokio::test]
async fn an_ended_session_is_told_by_the_send_that_finds_it() {
    let (bed, mut linked, friend) = live(DcConfig::default()).await;
    let revoke = telegram_dc::Revoke {
        account: Some(bed.me),
        ..Default::default()
    };
    bed.dc.revoke(revoke).await;
    let error = bed.send(&linked, &friend, text("too late")).await.unwrap_err();
    assert_eq!(error.failure, SendFailure::Unauthorized);
    assert!(matches!(linked.end().await, hub_actors::ports::LinkEnd::Revoked { .. }));
}

/// Serves one file over HTTP to everybody who asks.
async fn serve(mime: &'static str, bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {mime}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                bytes.len()
            );
            let _ = socket.write_all(head.as_bytes()).await;
            let _ = socket.write_all(&bytes).await;
        }
    });
    format!("http://{address}/folder/picture.jpg?size=1")
}

#[tokio::test]
async fn files_are_sent_with_their_caption() {
    let (bed, linked, friend) = live(DcConfig::default()).await;
    let bytes: Vec<u8> = (0..700_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    for (mime, large) in [
        ("image/jpeg", false),
        ("application/pdf", false),
        ("application/zip", true),
    ] {
        let bytes = if large { bytes.repeat(16) } else { bytes.clone() };
        let url = serve(mime, bytes.clone()).await;
        let action = OutboundAction::Send {
            text: format!("a {mime}"),
            kind: MessageKind::File,
            media_url: Some(url),
            reply_to: None,
        };
        let receipt = bed.send(&linked, &friend, action).await.unwrap();
        let sent = stored(&bed, &format!("a {mime}")).await.remove(0);
        assert_eq!(receipt.external_id.unwrap().as_str(), sent.id.to_string());
        let file = bed.dc.file(sent.file.unwrap()).await.unwrap();
        assert!(file[..] == bytes[..], "{mime}: the bytes differ");
        let (_, echo) = bed.feed.message(&format!("a {mime}")).await;
        assert_eq!(echo.attachments.len(), 1);
    }
    let forbidden = OutboundAction::Send {
        text: "x".into(),
        kind: MessageKind::File,
        media_url: Some("ftp://example.com/".into()),
        reply_to: None,
    };
    let error = bed.send(&linked, &friend, forbidden).await.unwrap_err();
    assert_eq!(error.failure, SendFailure::Refused);
    assert_eq!(
        bed.dc
            .messages(bed.me, Some(Peer::User(bed.friend)))
            .await
            .unwrap()
            .len(),
        4
    );
}

/// Each is held in memory: 64 chats that send a large one must not fill it.
#[tokio::test]
async fn an_account_s_files_go_one_after_the_other() {
    let (bed, linked, friend) = live(DcConfig::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/file.bin", listener.local_addr().unwrap());
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = (Arc::clone(&open), Arc::clone(&most));
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (open, most) = (Arc::clone(&counted.0), Arc::clone(&counted.1));
            tokio::spawn(async move {
                most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let mut request = [0; 4096];
                let _ = socket.read(&mut request).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                open.fetch_sub(1, Ordering::SeqCst);
                let _ = socket
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nfile")
                    .await;
            });
        }
    });
    let outbounds: Vec<_> = (0..5)
        .map(|number| {
            let action = OutboundAction::Send {
                text: format!("file {number}"),
                kind: MessageKind::File,
                media_url: Some(url.clone()),
                reply_to: None,
            };
            bed.outbound(&friend, action)
        })
        .collect();
    let sends = outbounds.iter().map(|outbound| linked.link.send(outbound));
    let sent = futures_util::future::join_all(sends).await;
    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn two_sends_at_once_and_the_updates_between_them_do_not_disturb_each_other() {
    let (bed, linked, friend) = live(DcConfig::default()).await;
    let outbounds: Vec<_> = (0..20)
        .map(|number| bed.outbound(&friend, text(&format!("mine {number}"))))
        .collect();
    let sends = outbounds.iter().map(|outbound| linked.link.send(outbound));
    let pushes = async {
        for number in 0..20 {
            bed.push(&format!("theirs {number}")).await;
        }
    };
    let (sent, ()) = tokio::join!(futures_util::future::join_all(sends), pushes);
    assert!(sent.iter().all(Result::is_ok));
    eventually("all echoes come", || async { bed.feed.texts().len() == 41 }).await;
}
