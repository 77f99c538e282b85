//! Accounts under fire: the server loses updates, drops sockets, fails, answers late or never, asks to wait and restarts, and
//! the hub is killed again and again. At the end its database and the server's log agree exactly: P3, P7, P13, P16.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use hub_actors::clock::instant;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use telegram_dc::{
    ConnFilter, Fault, FaultScript, Gap, LogFilter, MakeGap, NewChannel, NewMessage, Peer, Stored, TelegramDc,
};

use crate::bed::{SEED, account, addresses, conversations, dc, friend, log_in, state, text, write};
use crate::support::{self, Client, Database, Kind, Process};

struct Plan {
    accounts: usize,
    kills: usize,
    /// Between two kills.
    round: Duration,
}

fn plan() -> Plan {
    if support::is_long() {
        return Plan {
            accounts: 50,
            kills: 20,
            round: Duration::from_secs(12),
        };
    }
    Plan {
        accounts: 6,
        kills: 3,
        round: Duration::from_secs(7),
    }
}

/// An account with two private chats.
#[derive(Clone)]
struct Person {
    client: Client,
    account_id: String,
    telegram_id: i64,
    friends: [i64; 2],
    /// The hub's ids of the private chats.
    chats: [String; 2],
}

#[test]
fn server_and_database_agree_after_everything() {
    support::run(chaos());
}

async fn chaos() {
    let seed = support::seed();
    let mut random = StdRng::seed_from_u64(seed);
    let plan = plan();
    let dc = dc().await;
    let database = Database::fresh(Kind::Postgres).await;
    let addresses = addresses(&dc);
    let variables = [
        ("HUB__PLATFORMS__TELEGRAM__API_ID", "12345"),
        ("HUB__PLATFORMS__TELEGRAM__API_HASH", "0123456789abcdef"),
        ("HUB__PLATFORMS__TELEGRAM__DC", addresses.as_str()),
        ("HUB__PLATFORMS__TELEGRAM__TEST_KEY_SEED", SEED),
        ("HUB__TREE__LEASE_SECONDS", "3"),
        ("HUB__TREE__PROBE_SECONDS", "4"),
    ];
    let mut process = Process::start_with(&database, &variables).await;
    let (mut people, group) = people(&dc, &process, plan.accounts).await;
    let mut pushed = 0;
    let mut accepted: Vec<(usize, usize, String)> = Vec::new();
    for round in 0..=plan.kills {
        let writers: Vec<_> = people
            .iter()
            .enumerate()
            .map(|(number, person)| actix_rt::spawn(send_until_killed(person.clone(), number, round)))
            .collect();
        let end = instant() + plan.round;
        while instant() < end {
            pushed += push(&dc, &people, group, &mut random, pushed).await;
            if random.random_ratio(1, 12) {
                disturb(&dc, &people, group, &mut random).await;
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(5..60))).await;
        }
        let is_last = round == plan.kills;
        if !is_last {
            process.kill();
            // While nobody listens.
            for _ in 0..10 {
                pushed += push(&dc, &people, group, &mut random, pushed).await;
            }
            process = Process::start_with(&database, &variables).await;
        }
        for (writer, person) in writers.into_iter().zip(&mut people) {
            person.client = person.client.at(process.address);
            let (sent, lost) = if is_last {
                writer_stops(writer).await
            } else {
                writer.await.unwrap()
            };
            accepted.extend(sent);
            // What was not answered is asked again under its key.
            if let Some((number, chat, content)) = lost {
                let again = person.client.send(&person.chats[chat], &content, Some(&content)).await;
                assert!(again.status.is_success(), "seed {seed}: {again:?}");
                accepted.push((number, chat, content));
            }
        }
    }
    // A hole still to come would swallow the last message, and what it swallows shows at no next one.
    lose(&dc, None, Some(group), 2).await;
    dc.clear_faults().await;
    let context = format!("seed {seed}");
    for person in &people {
        // What channels lost on the way shows at their next event.
        write(&dc, person.telegram_id, person.friends[0], "the end").await;
        state(&person.client, &person.account_id, "live").await;
    }
    group_message(&dc, group, "the end").await;
    check(&context, &dc, &people, group, &accepted, &plan).await;
    println!(
        "chaos: seed {seed}, {} accounts, {} kills, {pushed} pushed, {} sent; 0 missing, 0 doubled, 0 disordered",
        plan.accounts,
        plan.kills,
        accepted.len()
    );
}

async fn people(dc: &TelegramDc, process: &Process, count: usize) -> (Vec<Person>, i64) {
    let mut people = Vec::new();
    let mut members = vec![friend(dc, "Speaker").await];
    for number in 0..count {
        let telegram_id = account(dc, &format!("+1556{number:04}"), None).await;
        members.push(telegram_id);
        let friends = [
            friend(dc, &format!("A of {number}")).await,
            friend(dc, &format!("B of {number}")).await,
        ];
        for friend in friends {
            write(dc, telegram_id, friend, "the beginning").await;
        }
        let mut client = process.client();
        client.register().await;
        people.push(Person {
            client,
            account_id: String::new(),
            telegram_id,
            friends,
            chats: Default::default(),
        });
    }
    let channel = NewChannel {
        title: "Everybody".to_owned(),
        members,
        quiet: true,
        ..NewChannel::default()
    };
    let group = dc.add_channel(channel).await.unwrap();
    for (number, person) in people.iter_mut().enumerate() {
        person.account_id = log_in(&person.client, &format!("+1556{number:04}")).await;
        state(&person.client, &person.account_id, "live").await;
        for (place, name) in ["A", "B"].into_iter().enumerate() {
            person.chats[place] = crate::bed::conversation(&person.client, &format!("{name} of {number}")).await;
        }
    }
    (people, group)
}

type Sent = (usize, usize, String);

/// Sends one message after another in both chats until the hub is gone: what was accepted, and what was not answered.
async fn send_until_killed(person: Person, number: usize, round: usize) -> (Vec<Sent>, Option<Sent>) {
    let mut accepted = Vec::new();
    for count in 0..200 {
        let chat = count % 2;
        // It is its own Idempotency-Key.
        let content = format!("out-p{number}r{round}n{count}");
        let sent = person
            .client
            .try_send(&person.chats[chat], &content, Some(&content), true)
            .await;
        match sent {
            Ok(answer) if answer.status.is_success() => accepted.push((number, chat, content)),
            _ => return (accepted, Some((number, chat, content))),
        }
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    (accepted, None)
}

/// The last round ends without a kill: the writer is stopped between two messages or within one.
async fn writer_stops(writer: actix_rt::task::JoinHandle<(Vec<Sent>, Option<Sent>)>) -> (Vec<Sent>, Option<Sent>) {
    tokio::time::timeout(Duration::from_secs(60), writer)
        .await
        .expect("a writer ends")
        .unwrap()
}

async fn push(dc: &TelegramDc, people: &[Person], group: i64, random: &mut StdRng, number: usize) -> usize {
    if random.random_ratio(1, 5) {
        group_message(dc, group, &format!("group {number}")).await;
        return 1;
    }
    let person = &people[random.random_range(0..people.len())];
    let message = NewMessage {
        account: Some(person.telegram_id),
        peer: Some(Peer::User(person.friends[random.random_range(0..2)])),
        text: format!("in {number}"),
        lost: random.random_ratio(1, 10),
        ..NewMessage::default()
    };
    dc.push_message(message).await.unwrap();
    1
}

async fn group_message(dc: &TelegramDc, group: i64, content: &str) {
    let message = NewMessage {
        peer: Some(Peer::Channel(group)),
        text: content.to_owned(),
        ..NewMessage::default()
    };
    dc.push_message(message).await.unwrap();
}

async fn disturb(dc: &TelegramDc, people: &[Person], group: i64, random: &mut StdRng) {
    let account = people[random.random_range(0..people.len())].telegram_id;
    let error = |code, name: &str| Fault::Error {
        code,
        name: name.to_owned(),
    };
    let (method, fault) = match random.random_range(0..14) {
        0 => {
            let filter = ConnFilter {
                account: Some(account),
                ..ConnFilter::default()
            };
            dc.drop_connections(filter).await;
            return;
        }
        1 => return dc.restart(Duration::from_millis(400)).await.unwrap(),
        2 => return lose(dc, Some(account), None, 3).await,
        3 => return lose(dc, None, Some(group), 2).await,
        4 => return dc.push_too_long(account).await,
        5 => return dc.rotate_salts().await,
        6 => ("messages.sendMessage", Fault::DoThenClose),
        7 => ("messages.sendMessage", Fault::Close),
        8 => ("messages.sendMessage", error(420, "FLOOD_WAIT_1")),
        9 => (
            "messages.sendMessage",
            Fault::DoThenError {
                code: 500,
                name: "INTERNAL".to_owned(),
            },
        ),
        10 => ("messages.sendMessage", Fault::Delay { ms: 900 }),
        11 => ("updates.getDifference", Fault::Close),
        12 => ("updates.getDifference", error(500, "INTERNAL")),
        _ => ("updates.getChannelDifference", Fault::DelayThenDo { ms: 700 }),
    };
    let script = FaultScript {
        account: Some(account),
        ..FaultScript::next(method, fault)
    };
    dc.script(script).await.unwrap();
}

/// The next `count` events of an account or a channel are stored but told to nobody.
async fn lose(dc: &TelegramDc, account: Option<i64>, channel: Option<i64>, count: u32) {
    let gap = MakeGap {
        account,
        channel,
        kind: Gap::Lose,
        count,
    };
    dc.gap(gap).await.unwrap();
}

/// All messages that the hub has of a chat, by the platform's id.
async fn of_hub(client: &Client, conversation: &str) -> BTreeMap<i64, (String, String)> {
    let (mut all, mut offset) = (BTreeMap::new(), 0);
    loop {
        let page = client
            .get(&format!("/api/messages/{conversation}?limit=200&offset={offset}"))
            .await
            .expect(200);
        let messages = page["messages"].as_array().unwrap();
        offset += messages.len();
        for one in messages {
            let id = one["platform_message_id"].as_str().and_then(|id| id.parse().ok());
            // One that is not sent yet has none: it is found missing at the server.
            let known = all.insert(id.unwrap_or_default(), (text(&one["content"]), text(&one["status"])));
            assert!(known.is_none(), "twice in one chat: {one}");
        }
        if page["hasMore"] == false {
            return all;
        }
    }
}

fn of_server(stored: &[Stored]) -> BTreeMap<i64, String> {
    let messages = stored.iter().filter(|one| !one.service);
    messages.map(|one| (i64::from(one.id), one.text.clone())).collect()
}

/// What differs between the server and the hub in one chat.
fn difference(server: &BTreeMap<i64, String>, hub: &BTreeMap<i64, (String, String)>) -> Vec<String> {
    let mut found = Vec::new();
    for (id, content) in server {
        match hub.get(id) {
            None => found.push(format!("{id} \"{content}\" is missing")),
            Some((other, _)) if other != content => found.push(format!("{id} is \"{other}\", not \"{content}\"")),
            Some(_) => {}
        }
    }
    for (id, (content, status)) in hub {
        let is_known = server.contains_key(id) || content.is_empty();
        if !is_known {
            found.push(format!("{id} \"{content}\" ({status}) is not at the server"));
        }
    }
    found
}

async fn check(context: &str, dc: &TelegramDc, people: &[Person], group: i64, accepted: &[Sent], plan: &Plan) {
    let group_messages = dc.channel_messages(group).await.unwrap();
    for (number, person) in people.iter().enumerate() {
        let mut chats: Vec<(String, Peer)> = Vec::new();
        for (place, friend) in person.friends.into_iter().enumerate() {
            chats.push((person.chats[place].clone(), Peer::User(friend)));
        }
        let all = conversations(&person.client).await;
        let everybody = all
            .iter()
            .find(|one| one["participant_name"] == "Everybody")
            .expect("the group");
        chats.push((text(&everybody["id"]), Peer::Channel(group)));
        for (place, (chat, peer)) in chats.iter().enumerate() {
            let mut server = group_messages.clone();
            let mut last = vec!["not looked yet".to_owned()];
            for _ in 0..400 {
                if let Peer::User(_) = peer {
                    server = dc.messages(person.telegram_id, Some(*peer)).await.unwrap();
                }
                last = difference(&of_server(&server), &of_hub(&person.client, chat).await);
                if last.is_empty() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert!(last.is_empty(), "{context}: account {number}, chat {peer}: {last:#?}");
            let wanted: Vec<&str> = accepted
                .iter()
                .filter(|(owner, at, _)| (*owner, *at) == (number, place))
                .map(|(_, _, content)| content.as_str())
                .collect();
            let sent: Vec<&str> = server
                .iter()
                .filter(|one| one.random_id.is_some())
                .map(|one| one.text.as_str())
                .collect();
            if let Peer::User(_) = peer {
                assert_eq!(
                    sent, wanted,
                    "{context}: account {number}, chat {peer}: each once, as accepted"
                );
            }
        }
    }
    // P16: no storm of connections.
    let mut connections: HashMap<u32, std::collections::HashSet<u64>> = HashMap::new();
    for entry in dc.log(LogFilter::default()).await {
        connections.entry(entry.key).or_default().insert(entry.conn);
    }
    let most = connections
        .values()
        .map(std::collections::HashSet::len)
        .max()
        .unwrap_or(0);
    let seconds = usize::try_from(plan.round.as_secs()).unwrap() * (plan.kills + 1);
    println!("{context}: at most {most} connections of one account in about {seconds} s");
    assert!(most <= seconds * 2 + 20, "{context}: {most} connections of one account");
}
