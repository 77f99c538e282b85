//! P17: of two hubs on one database one owns an account's link. One that stood still past its lease and wakes up sends
//! nothing and changes nothing.

use std::collections::HashSet;
use std::time::Duration;

use telegram_dc::{LogFilter, Peer};

use crate::bed::{SEED, account, addresses, conversation, dc, friend, log_in, message, messages, state, text, write};
use crate::support::{self, Database, Kind, Process, until};

#[test]
fn a_hub_that_wakes_up_late_has_no_say() {
    support::run(async {
        let dc = dc().await;
        let me = account(&dc, "+15557000", None).await;
        let friend = friend(&dc, "Friend").await;
        let database = Database::fresh(Kind::Postgres).await;
        let addresses = addresses(&dc);
        let variables = [
            ("HUB__PLATFORMS__TELEGRAM__API_ID", "12345"),
            ("HUB__PLATFORMS__TELEGRAM__API_HASH", "0123456789abcdef"),
            ("HUB__PLATFORMS__TELEGRAM__DC", addresses.as_str()),
            ("HUB__PLATFORMS__TELEGRAM__TEST_KEY_SEED", SEED),
            ("HUB__TREE__LEASE_SECONDS", "3"),
        ];
        let first = Process::start_with(&database, &variables).await;
        let mut user = first.client();
        user.register().await;
        let account = log_in(&user, "+15557000").await;
        state(&user, &account, "live").await;
        write(&dc, me, friend, "one").await;
        let chat = conversation(&user, "Friend").await;
        message(&user, &chat, "one").await;
        let second = Process::start_with(&database, &variables).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        let calls = async || {
            let log = dc.log(LogFilter::default()).await;
            log.into_iter()
                .filter(|entry| entry.account == Some(me))
                .collect::<Vec<_>>()
        };
        let of_first: HashSet<u64> = calls().await.iter().map(|entry| entry.conn).collect();

        first.pause();
        // These come to the first hub's socket too, and lie there.
        write(&dc, me, friend, "two").await;
        let at_second = user.at(second.address);
        message(&at_second, &chat, "two").await;
        state(&at_second, &account, "live").await;
        let taken_over = calls().await;
        assert!(
            taken_over.iter().any(|entry| !of_first.contains(&entry.conn)),
            "the second hub has a connection of its own"
        );
        for number in 0..5 {
            at_second.send(&chat, &format!("out {number}"), None).await.expect(201);
        }
        let asleep = calls().await.last().map_or(0, |entry| entry.n);
        first.resume();
        write(&dc, me, friend, "three").await;
        message(&at_second, &chat, "three").await;
        // Through the first hub: it stores what it is given, and the owner sends it.
        let accepted = user.try_send(&chat, "by the first", Some("k"), true).await.unwrap();
        accepted.expect(202);
        let sent = LogFilter {
            after: asleep,
            ..LogFilter::method("messages.sendMessage")
        };
        // The owner finds what another hub has accepted when it looks, twice a minute.
        assert_eq!(dc.wait_for(sent, 1, Duration::from_secs(45)).await.len(), 1);
        let late: Vec<_> = calls()
            .await
            .into_iter()
            .filter(|entry| {
                entry.n > asleep && of_first.contains(&entry.conn) && entry.method == "messages.sendMessage"
            })
            .collect();
        assert_eq!(late, [], "the first hub has sent");
        let mut expected = ["one", "two", "three", "by the first"].map(str::to_owned).to_vec();
        expected.extend((0..5).map(|number| format!("out {number}")));
        expected.sort();
        // Telegram's echo may come before its answer; then the two become one when the answer is stored.
        until("each is there once", async || {
            let all = messages(&at_second, &chat).await;
            let mut texts: Vec<String> = all.iter().map(|one| text(&one["content"])).collect();
            texts.sort();
            (texts == expected).then_some(())
        })
        .await;
        let stored = dc.messages(me, Some(Peer::User(friend))).await.unwrap();
        assert_eq!(stored.len(), expected.len(), "each is there once: {stored:?}");
        state(&at_second, &account, "live").await;
    });
}
