//! Many accounts in one hub: what each costs while nothing happens, and whether all hear everything, in order, when much does.
//! `--long` takes 300; `HUB_TEST_BINARY` names a released hub to be measured instead of the one that was built for tests.

use std::time::Duration;

use hub_actors::clock::instant;
use telegram_dc::TelegramDc;

use crate::bed::{SEED, account, addresses, conversations, dc, friend, log_in, messages, state, text, write};
use crate::support::{self, Client, Database, Kind, Process, until_in};

/// Accounts that one person links; the hub's bound on logins is per person.
const PER_PERSON: usize = 25;
const PUSHES_A_SECOND: u32 = 20;

struct Linked {
    client: Client,
    account_id: String,
    telegram_id: i64,
    friend: i64,
}

#[test]
fn many_accounts_hear_everything_in_order() {
    support::run(async {
        let (count, busy, seconds, idle) = if support::is_long() {
            (300, 50, 5, 30)
        } else {
            (8, 4, 2, 2)
        };
        let dc = dc().await;
        let database = Database::fresh(Kind::Postgres).await;
        let addresses = addresses(&dc);
        let variables = [
            ("HUB__PLATFORMS__TELEGRAM__API_ID", "12345"),
            ("HUB__PLATFORMS__TELEGRAM__API_HASH", "0123456789abcdef"),
            ("HUB__PLATFORMS__TELEGRAM__DC", addresses.as_str()),
            ("HUB__PLATFORMS__TELEGRAM__TEST_KEY_SEED", SEED),
        ];
        let process = Process::start_with(&database, &variables).await;
        process.client().register().await;
        let before = support::resident(process.id());
        let linked = link(&dc, &process, count).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let each = (support::resident(process.id()) - before) / count;
        let (begun, used) = (instant(), processor_ticks(process.id()));
        tokio::time::sleep(Duration::from_secs(idle)).await;
        let share = (processor_ticks(process.id()) - used) as f64 / begun.elapsed().as_secs_f64();
        let share = share / count as f64;

        let pushes = PUSHES_A_SECOND * seconds;
        let begun = instant();
        for number in 0..pushes {
            for one in &linked[..busy] {
                write(&dc, one.telegram_id, one.friend, &format!("push {number}")).await;
            }
            let due = Duration::from_secs(1) * (number + 1) / PUSHES_A_SECOND;
            tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
        }
        let pushed = begun.elapsed();
        for one in &linked[..busy] {
            all_came(one, pushes as usize).await;
        }
        // A tick is a hundredth of a second, so ticks a second are percent of a core.
        println!(
            "{count} Telegram accounts: {each} KiB resident and {share:.4} % of a core each while idle; \
             {pushes} pushes to each of {busy} in {pushed:?}, all there and in order {:?} after the last",
            begun.elapsed() - pushed
        );
    });
}

async fn link(dc: &TelegramDc, process: &Process, count: usize) -> Vec<Linked> {
    let mut linked: Vec<Linked> = Vec::new();
    let mut client = process.client();
    for number in 0..count {
        if number % PER_PERSON == 0 {
            client = process.client();
            client.register().await;
        }
        let phone = format!("+1557{number:04}");
        let telegram_id = account(dc, &phone, None).await;
        let friend = friend(dc, &format!("Friend of {number}")).await;
        write(dc, telegram_id, friend, "before").await;
        linked.push(Linked {
            account_id: log_in(&client, &phone).await,
            client: client.clone(),
            telegram_id,
            friend,
        });
    }
    for one in &linked {
        state(&one.client, &one.account_id, "live").await;
    }
    linked
}

/// Every push once, in order, after what was there before.
async fn all_came(one: &Linked, pushes: usize) {
    let chats = conversations(&one.client).await;
    let chat = chats.iter().find(|chat| chat["account_id"] == one.account_id);
    let chat = text(&chat.expect("the friend's chat")["id"]);
    let wanted: Vec<String> = (0..pushes).map(|number| format!("push {number}")).collect();
    let came = until_in(Duration::from_secs(60), "all pushes came", async || {
        let mut came: Vec<String> = messages(&one.client, &chat)
            .await
            .iter()
            .map(|one| text(&one["content"]))
            .collect();
        came.reverse();
        came.retain(|content| content.starts_with("push "));
        (came.len() >= pushes).then_some(came)
    })
    .await;
    assert_eq!(came, wanted);
}

/// Processor time of a process, in hundredths of a second (`utime` and `stime` of proc_pid_stat(5)).
fn processor_ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the process lives");
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
}
