//! (g) A hub starts on 100,000 conversations and 1,000,000 messages. (h) One conversation list and one thread's page there.

use std::time::Duration;

use hub_actors::clock::instant;
use hub_actors::{Clock, ConversationId, MessageId};
use messaging_hub::vault::Place;
use time::format_description::well_known::Rfc3339;

use super::Bench;
use crate::database::{Database, bytea};
use crate::hub::Server;
use crate::latency::Latencies;
use crate::report::Report;
use crate::seed::{CONVERSATIONS, Person, conversation_row};
use crate::wire::{Connection, get};
use crate::{Outcome, cpu, seed};

const ALL_CONVERSATIONS: usize = 100_000;
/// Messages of each; one thread has a hundred times as many in their place.
const EACH: usize = 9;
const LONG_THREAD: usize = 100_000;
const REPEATS: usize = 200;
/// One conversation in so many has unread messages.
const UNREAD: usize = 20;

pub async fn run(bench: &Bench, report: &mut Report) -> Outcome {
    let database = bench.database().await?;
    let person = seed::people(&database, 1, "http://127.0.0.1:9/").await?.remove(0);
    let (conversations, thread) = (bench.size.of(ALL_CONVERSATIONS), bench.size.of(LONG_THREAD));
    let begun = instant();
    let messages = fill(&database, &person, conversations, thread).await?;
    report.add(
        "size",
        format!("seeding {conversations} conversations, {messages} messages"),
        begun.elapsed().as_secs_f64(),
        "s",
    );

    let begun = instant();
    let hub = Server::hub(&database.url)?;
    report.add(
        "size",
        "cold start: process to listening",
        hub.started_in.as_secs_f64(),
        "s",
    );
    let mut connection = Connection::open(hub.address).await?;
    let list = get("/api/conversations?limit=50", &person.token);
    let page = get(
        &format!("/api/messages/{}?limit=50", person.conversation),
        &person.token,
    );
    check(&mut connection, &list, r#""count":50"#).await?;
    report.add(
        "size",
        "cold start: process to the first list answered",
        begun.elapsed().as_secs_f64(),
        "s",
    );
    report.add("size", "  resident", cpu::resident(hub.pid()) as f64 / 1e6, "MB");
    for (name, request) in [
        ("conversation list, 50 of all", &list),
        ("thread page, 50 of the longest", &page),
    ] {
        let mut latencies = Latencies::default();
        let spent = super::Meter::start(bench, &hub);
        for _ in 0..REPEATS {
            let begun = instant();
            check(&mut connection, request, r#""count":50"#).await?;
            latencies.add(begun.elapsed());
        }
        let spent = spent.read();
        report.add("size", format!("{name}: p50"), latencies.milliseconds(0.5), "ms");
        report.add("size", "  p99", latencies.milliseconds(0.99), "ms");
        report.add("size", "  hub CPU", spent.server_each(latencies.len()), "us");
        report.add("size", "  PostgreSQL CPU", spent.postgres_each(latencies.len()), "us");
    }
    Ok(())
}

async fn check(connection: &mut Connection, request: &[u8], holds: &str) -> Outcome {
    let answer = connection.exchange(request).await?;
    let body = std::str::from_utf8(answer.body)?;
    if answer.status == 200 && body.contains(holds) {
        return Ok(());
    }
    Err(format!("{}: {}", answer.status, body.get(..500).unwrap_or(body)).into())
}

/// Conversations with a few messages each, and one long thread; all belong to one person.
async fn fill(database: &Database, person: &Person, conversations: usize, thread: usize) -> Outcome<usize> {
    let now = Clock::system().now();
    let ago = |number: usize| now - Duration::from_secs(number as u64);
    let others: Vec<ConversationId> = (1..conversations)
        .map(|number| ConversationId::generate(ago(number)))
        .collect();
    let rows = others.iter().enumerate().map(|(number, id)| {
        let unread = usize::from(number % UNREAD == 0) * EACH;
        conversation_row(
            *id,
            person.user,
            person.account,
            &format!("chat{number}"),
            ago(number),
            unread,
        )
    });
    database.copy(CONVERSATIONS, rows).await?;
    let columns = "messages (id, conversation_id, platform_message_id, sender_id, sender_name, content, message_type, \
        is_outgoing, is_read, status, sent_at, created_at)";
    let row = |conversation: ConversationId, number: usize, age: usize, is_read: bool| {
        let id = MessageId::generate(now);
        let place = Place {
            table: "messages",
            column: "content",
            row: id.0.as_bytes(),
        };
        let text = format!("Message {number} of this conversation, a sentence of usual length.");
        let content = bytea(&database.vault.seal(place, text.as_bytes())?);
        let at = ago(age).format(&Rfc3339)?;
        Ok(format!(
            "{id}\t{conversation}\tm{number}\tada\tAda\t{content}\ttext\tfalse\t{is_read}\treceived\t{at}\t{at}"
        ))
    };
    let short = others.iter().enumerate().flat_map(|(place, id)| {
        (0..EACH).map(move |number| row(*id, number, place + EACH - number, place % UNREAD != 0))
    });
    let long = (0..thread).map(|number| row(person.conversation, number, thread - number, true));
    database.copy(columns, short.chain(long)).await?;
    database.analyze("conversations, messages").await?;
    Ok(others.len() * EACH + thread)
}
