//! (c) 64 clients that keep their connections post durable sends, while the platform is frozen and while it delivers.
//! Every accepted message must be in the database once, and reach the platform once and in order.

use std::time::Duration;

use uuid::Uuid;

use super::me::CLIENTS;
use super::{Bench, Crew, Meter, Spent};
use crate::hub::Server;
use crate::platform::{NUMBER, Platform, SENDER};
use crate::report::Report;
use crate::wire::{Connection, post};
use crate::{Outcome, seed};

/// Fewer than wait in the hub's outbox at most; see `TreeSettings::outbox_capacity`.
const SENDS: usize = 64_000;
const PATIENCE: Duration = Duration::from_secs(120);

pub async fn run(bench: &Bench, report: &mut Report) -> Outcome {
    let each = (bench.size.of(SENDS) / CLIENTS).max(10);
    let floor = bare(bench, each).await?;
    let count = each * CLIENTS;
    let mut add = |name: &str, spent: Spent, count: usize| {
        report.compare("sends", name, spent.rate(count), "/s", floor.rate(each * CLIENTS));
        report.compare(
            "sends",
            "  hub CPU",
            spent.server_each(count),
            "us",
            floor.server_each(each * CLIENTS),
        );
        let floor_each = floor.postgres_each(each * CLIENTS);
        report.compare(
            "sends",
            "  PostgreSQL CPU",
            spent.postgres_each(count),
            "us",
            floor_each,
        );
    };
    let (frozen, _) = hub(bench, each, true, false).await?;
    add("durable sends accepted, platform frozen", frozen, count);
    let (accepting, delivered) = hub(bench, each, false, false).await?;
    add("durable sends accepted, platform delivering", accepting, count);
    add("accepted, delivered and receipts stored", delivered, count);
    let (keyed, _) = hub(bench, each, true, true).await?;
    add("with an Idempotency-Key, platform frozen", keyed, count);
    Ok(())
}

/// The floor: one autocommit INSERT each.
async fn bare(bench: &Bench, each: usize) -> Outcome<Spent> {
    let database = bench.database().await?;
    let table = "CREATE TABLE floor_messages (id uuid PRIMARY KEY, user_id uuid NOT NULL, content text NOT NULL, \
        created_at timestamptz NOT NULL)";
    database.client.batch_execute(table).await?;
    let server = Server::floor("insert", &database.url)?;
    let request = |client: usize, number: usize| {
        let user = Uuid::from_u128(client as u128);
        let body = format!(r#"{{"user":"{user}","content":"{}"}}"#, text(client, number));
        post("/messages", "", &body)
    };
    // Connections are made with the first requests.
    everyone(&server, 8, 201, request).await?;
    let meter = Meter::start(bench, &server);
    everyone(&server, each, 201, request).await?;
    Ok(meter.read())
}

/// What accepting cost, and what it cost until all was delivered and every receipt stored.
async fn hub(bench: &Bench, each: usize, frozen: bool, keyed: bool) -> Outcome<(Spent, Spent)> {
    let database = bench.database().await?;
    let platform = Platform::start(CLIENTS).await?;
    let people = seed::people(&database, CLIENTS, &platform.url()).await?;
    platform.freeze(frozen);
    let server = Server::hub(&database.url)?;
    let request = |client: usize, number: usize| {
        let body = format!(r#"{{"content":"{}"}}"#, text(client, number));
        let person = &people[client];
        let key = if keyed {
            format!("Idempotency-Key: k{number}\r\n")
        } else {
            String::new()
        };
        let headers = format!(
            "Authorization: Bearer {}\r\nPrefer: respond-async\r\n{key}",
            person.token
        );
        post(&format!("/api/messages/{}/send", person.conversation), &headers, &body)
    };
    let meter = Meter::start(bench, &server);
    everyone(&server, each, 202, request).await?;
    let accepted = meter.read();
    let expected = i64::try_from(each * CLIENTS)?;
    let one = "SELECT count(*), count(DISTINCT id) FROM messages";
    let row = database.client.query_one(one, &[]).await?;
    if (row.get::<_, i64>(0), row.get::<_, i64>(1)) != (expected, expected) {
        return Err(format!("{expected} messages were accepted, {} are stored", row.get::<_, i64>(0)).into());
    }
    if !frozen {
        let crew = Crew::default();
        crew.until(|| platform.delivered() == each * CLIENTS, PATIENCE).await?;
        while database
            .client
            .query_one("SELECT count(*) FROM outbox", &[])
            .await?
            .get::<_, i64>(0)
            > 0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let delivered = meter.read();
    platform.check()?;
    Ok((accepted, delivered))
}

fn text(client: usize, number: usize) -> String {
    format!("A message of usual length, from {SENDER}{client} {NUMBER}{number}")
}

/// Every client posts `each` requests, one after the other.
async fn everyone<F>(server: &Server, each: usize, status: u16, request: F) -> Outcome
where
    F: Fn(usize, usize) -> Vec<u8>,
{
    let address = server.address;
    let clients = (0..CLIENTS).map(|client| {
        let request = &request;
        async move {
            let mut connection = Connection::open(address).await?;
            for number in 1..=each {
                let answer = connection.exchange(&request(client, number)).await?;
                if answer.status != status {
                    return Err(format!("{}: {}", answer.status, String::from_utf8_lossy(answer.body)).into());
                }
            }
            Ok(())
        }
    });
    futures_util::future::try_join_all(clients).await.map(drop)
}
