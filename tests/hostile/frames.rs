//! WebSocket frames as no client should send them (RFC 6455, section 5).

use std::time::Duration;

use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::raw::{self, next_frame};
use crate::support::Client;
use crate::target::{Outcome, Target};

const PROTOCOL: u16 = 4502;
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// A frame whose header may lie.
fn frame(first: u8, is_masked: bool, announced: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    let mask_bit = if is_masked { 0x80 } else { 0 };
    if announced < 126 {
        frame.push(mask_bit | announced as u8);
    } else if announced <= u64::from(u16::MAX) {
        frame.push(mask_bit | 126);
        frame.extend((announced as u16).to_be_bytes());
    } else {
        frame.push(mask_bit | 127);
        frame.extend(announced.to_be_bytes());
    }
    if is_masked {
        frame.extend(MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    } else {
        frame.extend(payload);
    }
    frame
}

fn honest(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, true, payload.len() as u64, payload)
}

/// A socket that has been greeted.
async fn open(client: &Client) -> TcpStream {
    let mut stream = raw::connect(client.address).await;
    assert_eq!(raw::shake_hands(&mut stream, client, "").await, 101);
    let (first, greeting) = next_frame(&mut stream).await.expect("a greeting");
    assert_eq!(first, 0x81);
    assert!(String::from_utf8(greeting).unwrap().contains("authenticated"));
    stream
}

/// The number with which the hub ends a socket; none when it just ends.
async fn closed(stream: &mut TcpStream) -> Option<u16> {
    loop {
        match next_frame(stream).await? {
            (0x88, payload) => return payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]])),
            (0x81 | 0x89 | 0x8a, _) => {}
            (other, _) => panic!("the hub sends {other:x}"),
        }
    }
}

#[test]
fn each_breach_of_the_protocol_ends_the_socket_with_its_number() {
    let target = Target::start();
    target.run(async {
        let client = target.user().await;
        let mut breaches: Vec<(String, Vec<u8>)> = Vec::new();
        for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
            breaches.push((format!("opcode {opcode:x}"), honest(0x80 | opcode, b"x")));
        }
        for bits in [0x10, 0x20, 0x40, 0x70] {
            breaches.push((format!("reserved bits {bits:x}"), honest(0x81 | bits, b"{}")));
        }
        for announced in [65_537, 1 << 31, 1 << 32, 1 << 62, 1 << 63, u64::MAX] {
            // Nothing follows: the hub must not wait for what it would not take.
            breaches.push((
                format!("{announced} bytes announced"),
                frame(0x81, true, announced, b""),
            ));
        }
        for (name, bytes) in [
            ("not masked", frame(0x81, false, 2, b"{}")),
            ("not masked and huge", frame(0x81, false, 1 << 40, b"")),
            ("a continuation of nothing", honest(0x80, b"x")),
            ("a middle of nothing", honest(0x00, b"x")),
            ("binary", honest(0x82, b"{}")),
            ("a fragment", honest(0x01, b"{\"event\"")),
            ("a long ping", honest(0x89, &[b'x'; 126])),
            ("a long pong", honest(0x8a, &[b'x'; 126])),
            ("a long close", honest(0x88, &[b'x'; 126])),
            ("no UTF-8", honest(0x81, &[0xff, 0xfe])),
            ("half a surrogate", honest(0x81, &[0xed, 0xa0, 0x80])),
        ] {
            breaches.push((name.to_owned(), bytes));
        }
        for (name, bytes) in breaches {
            let mut stream = open(&client).await;
            stream.write_all(&bytes).await.unwrap();
            assert_eq!(closed(&mut stream).await, Some(PROTOCOL), "{name}");
        }
    });
    target.assert_well();
}

#[test]
fn the_longest_control_frame_and_an_odd_goodbye_are_taken() {
    let target = Target::start();
    target.run(async {
        let client = target.user().await;
        let mut stream = open(&client).await;
        stream.write_all(&honest(0x89, &[b'x'; 125])).await.unwrap();
        assert_eq!(next_frame(&mut stream).await, Some((0x8a, vec![b'x'; 125])));
        stream.write_all(&honest(0x8a, b"nobody asked")).await.unwrap();
        // One byte at a time.
        for byte in honest(0x81, br#"{"event":"ping","timestamp":1}"#) {
            stream.write_all(&[byte]).await.unwrap();
            stream.flush().await.unwrap();
        }
        let (_, pong) = next_frame(&mut stream).await.expect("a pong");
        assert_eq!(pong, br#"{"event":"pong","timestamp":1}"#);
        for goodbye in [
            &b""[..],
            b"\x03",
            b"\x03\xe8",
            b"\x00\x00",
            b"\xff\xff",
            b"\x03\xe8\xff\xff",
        ] {
            let mut stream = open(&client).await;
            stream.write_all(&honest(0x88, goodbye)).await.unwrap();
            closed(&mut stream).await;
            assert_eq!(next_frame(&mut stream).await, None, "{goodbye:?}");
        }
    });
    target.assert_well();
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let announced = prop_oneof![
        6 => Just(None),
        1 => any::<u64>().prop_map(Some),
        1 => prop::sample::select(vec![0, 125, 126, 65_535, 65_536, 65_537]).prop_map(Some),
    ];
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        crate::tokens::any_token().prop_map(String::into_bytes),
        Just(br#"{"event":"ping"}"#.to_vec()),
    ];
    let first = prop_oneof![Just(0x81), any::<u8>()];
    (first, prop::bool::weighted(0.9), announced, payload).prop_map(|(first, is_masked, announced, payload)| {
        frame(first, is_masked, announced.unwrap_or(payload.len() as u64), &payload)
    })
}

#[test]
fn any_bytes_end_in_an_orderly_socket_or_in_its_end() {
    let target = Target::start();
    let client = target.run(target.user());
    let noise = prop_oneof![
        3 => prop::collection::vec(any_frame(), 1..8).prop_map(|frames| frames.concat()),
        1 => prop::collection::vec(any::<u8>(), 0..2_000),
    ];
    let talk = async |bytes: Vec<u8>| -> Outcome {
        let mut stream = open(&client).await;
        // The hub may have ended it already.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        while let Some((first, payload)) = next_frame(&mut stream).await {
            let is_known = match first {
                0x81 => serde_json::from_slice::<serde_json::Value>(&payload).is_ok(),
                0x88..=0x8a => payload.len() <= 125,
                _ => false,
            };
            if !is_known {
                return Err(format!("the hub sends {first:x} {payload:?}"));
            }
        }
        Ok(())
    };
    target.try_all(300, &noise, talk);
    target.run(async {
        let (mut socket, _) = client.socket(None).await;
        socket
            .send(&serde_json::json!({ "event": "ping", "timestamp": 7 }))
            .await;
        assert_eq!(socket.next().await["timestamp"], 7);
    });
    target.assert_well();
}

#[test]
fn a_frame_without_end_is_not_kept() {
    let target = Target::start();
    target.run(async {
        let client = target.user().await;
        let before = target.hub.resident_bytes();
        let mut senders = Vec::new();
        for _ in 0..8 {
            let mut stream = open(&client).await;
            senders.push(actix_rt::spawn(async move {
                stream.write_all(&frame(0x81, true, 1 << 40, b"")).await.unwrap();
                let piece = vec![b'x'; 1 << 20];
                let mut taken = 0;
                while taken < 32 {
                    let writing = tokio::time::timeout(Duration::from_secs(5), stream.write_all(&piece));
                    match writing.await {
                        Ok(Ok(())) => taken += 1,
                        Ok(Err(_)) | Err(_) => break,
                    }
                }
                taken
            }));
        }
        let mut taken = 0;
        for sender in senders {
            taken += sender.await.unwrap();
        }
        let grown = target.hub.resident_bytes().saturating_sub(before) >> 20;
        println!("{taken} MiB of endless frames were taken from the wire, {grown} MiB kept");
        assert!(grown < 48, "{grown} MiB kept");
    });
    target.assert_well();
}
