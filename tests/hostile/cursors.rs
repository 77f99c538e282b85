//! Positions in the stream and in lists.

use std::collections::BTreeSet;

use proptest::prelude::*;
use reqwest::Method;
use serde_json::Value;

use crate::support::{Client, Correspondent};
use crate::target::{Outcome, Target};
use crate::{answers, raw};

/// A position, or what could be taken for one. The hub's own epoch stands for `EPOCH`.
fn any_cursor() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        (0..20_u8).prop_map(|number| number.to_string()),
        any::<u128>().prop_map(|number| number.to_string()),
        prop::sample::select(vec![
            "", "-1", "-0", "+1", " 1", "1 ", "1.0", "1e3", "0x10", "NaN", "\u{661}", "007"
        ])
        .prop_map(str::to_owned),
    ];
    let epoch = prop_oneof![Just("EPOCH".to_owned()), "[a-z0-9]{0,20}", "\\PC{0,5}"];
    prop_oneof![
        number.clone(),
        (epoch, number).prop_map(|(epoch, number)| format!("{epoch}:{number}")),
        prop::collection::vec(any::<char>(), 0..50).prop_map(String::from_iter),
        prop::sample::select(vec!["EPOCH:1:1", "EPOCH:", ":", "::", "EPOCH:1\0", "EPOCH:1\r\nx: y"])
            .prop_map(str::to_owned),
        prop::sample::select(vec![
            "2026-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999999Z",
            "-9999-01-01T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-01-01T00:00:00+99:99",
            "+292278994-08-17T07:12:55Z",
            "1970-01-01T00:00:00-23:59",
            "2016-12-31T23:59:60Z"
        ])
        .prop_map(str::to_owned),
        Just("9".repeat(5_000)),
    ]
}

fn escape(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

async fn over_http(person: &Client, cursor: &str) -> Outcome {
    let cursor = escape(cursor);
    for path in [
        "/api/events?after=",
        "/api/messages?since=",
        "/api/events?limit=",
        "/api/conversations?offset=",
    ] {
        let path = format!("{path}{cursor}");
        let answer = person.get(&path).await;
        answers::check(&Method::GET, &path, &answer)?;
        if !matches!(answer.status.as_u16(), 200 | 400 | 410) {
            return Err(format!("{path}: {answer:?}"));
        }
        let name = path
            .split_once('?')
            .and_then(|(_, query)| query.split_once('='))
            .map_or("", |(name, _)| name);
        if answer.status == 400 && !answer.text.contains(name) {
            return Err(format!("{path}: does not name {name}: {}", answer.text));
        }
    }
    Ok(())
}

/// A position opens a socket that says whether it can go on from there, or is refused by name.
async fn over_a_socket(person: &Client, cursor: &str, head: i64) -> Outcome {
    let mut stream = raw::connect(person.address).await;
    let status = raw::shake_hands(&mut stream, person, &format!("&since={}", escape(cursor))).await;
    if status == 400 {
        return Ok(());
    }
    if status != 101 {
        return Err(format!("since={cursor:?}: {status}"));
    }
    let mut numbers = BTreeSet::new();
    loop {
        let Some((first, payload)) = raw::next_frame(&mut stream).await else {
            return Err(format!("since={cursor:?}: the socket ends"));
        };
        if first == 0x88 {
            return Ok(());
        }
        let frame: Value = serde_json::from_slice(&payload).map_err(|error| error.to_string())?;
        if frame["event"] == "authenticated" {
            let from = frame["data"]["seq"].as_i64().unwrap_or(-1);
            return if (0..=head).contains(&from) {
                Ok(())
            } else {
                Err(format!("since={cursor:?}: {frame}"))
            };
        }
        numbers.insert(frame["seq"].as_i64());
    }
}

#[test]
fn a_position_is_taken_or_refused_by_name() {
    let target = Target::start();
    let (person, epoch, head) = target.run(async {
        let person = target.user().await;
        let channel = person.link(&Correspondent::start()).await;
        for number in 0..10 {
            person.receive(&channel, "chat", &number.to_string(), "hello").await;
        }
        let page = person.get("/api/events?limit=1").await.expect(200);
        let (epoch, head) = (
            page["epoch"].as_str().unwrap().to_owned(),
            page["seq"].as_i64().unwrap(),
        );
        (person, epoch, head)
    });
    target.try_all(300, &any_cursor(), async |cursor| {
        let cursor = cursor.replace("EPOCH", &epoch);
        over_http(&person, &cursor).await?;
        over_a_socket(&person, &cursor, head).await
    });
    target.assert_well();
}
