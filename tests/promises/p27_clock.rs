//! P27: the hub's clock jumps an hour forwards, two back, and to where it was, while messages come and go: nothing is
//! reordered, expires, is held back or goes out twice, and no platform is asked earlier than it wished.

use std::collections::HashSet;
use std::time::Duration;

use hub_actors::clock;
use serde_json::{Value, json};

use super::history::{self, Entry};
use crate::on_both_databases;
use crate::support::{self, Channel, Client, Correspondent, Hub, Kind, Reply, Socket};

on_both_databases!(a_jump_changes_nothing_but_time_stamps);

const HOUR: Duration = Duration::from_secs(3_600);
/// What the receiver in trouble asks for.
const WAIT: Duration = Duration::from_secs(2);

struct Run {
    hub: Hub,
    user: Client,
    channel: Channel,
    correspondent: Correspondent,
    well: String,
    refusing: String,
    accepted: Vec<Entry>,
}

async fn a_jump_changes_nothing_but_time_stamps(kind: Kind) {
    // With one hour in which tries may be repeated, a jump that counted would end them.
    let hub = Hub::start_with(kind, |settings| settings.outbox.give_up_after_hours = 1).await;
    let user = hub.user().await;
    let (correspondent, refuser) = (Correspondent::start(), Correspondent::start());
    let (channel, other) = (user.link(&correspondent).await, user.link(&refuser).await);
    let well = user.receive(&channel, "well", "first", "first").await;
    let refusing = user.receive(&other, "refusing", "second", "second").await;
    let accepted = vec![Entry::new("well", "first"), Entry::new("refusing", "second")];
    let mut run = Run {
        hub,
        user,
        channel,
        correspondent,
        well,
        refusing,
        accepted,
    };
    let (mut socket, first) = run.user.socket(None).await;
    let mut moved = 0;
    for (phase, (by, back)) in [(HOUR, false), (2 * HOUR, true), (HOUR, false)].into_iter().enumerate() {
        let seconds = i64::try_from(by.as_secs()).unwrap();
        moved += if back { -seconds } else { seconds };
        run.jump(phase, &refuser, (by, back), moved).await;
    }
    assert_eq!(moved, 0);
    run.check(&mut socket, first["data"]["seq"].as_i64().unwrap(), &refuser)
        .await;
    run.hub.stop().await;
}

impl Run {
    /// Messages are on their way when the clock jumps, and others follow.
    async fn jump(&mut self, phase: usize, refuser: &Correspondent, (by, back): (Duration, bool), moved: i64) {
        self.correspondent.reply("well", [Reply::Refuse(503, None)]);
        refuser.reply("refusing", [Reply::Refuse(429, Some(WAIT.as_secs()))]);
        let asked = clock::instant();
        let refused = self.send("refusing", &format!("{phase} refused")).await;
        let before = self.send("well", &format!("{phase} before")).await;
        // The first tries have been made.
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.hub.clock.shift(by, back);

        // A token may end by the clock; the session does not.
        let body = json!({ "refreshToken": self.user.refresh_token });
        let tokens = self.user.post("/api/auth/refresh", &body).await.expect(200);
        self.user.keep(&tokens);
        self.receive(phase, moved).await;
        let after = self.send("well", &format!("{phase} after")).await;
        let again = self.send("well", &format!("{phase} before")).await;
        assert_eq!(again, before, "the key is still known");
        self.accepted.pop();
        for (correspondent, message) in [(&self.correspondent, &after), (refuser, &refused)] {
            support::until("nothing is held back", async || {
                let status = self.status(message).await;
                assert_ne!(status, "failed", "phase {phase}: nothing expires");
                (status == "sent" && !correspondent.messages().is_empty()).then_some(())
            })
            .await;
        }
        assert!(
            asked.elapsed() >= WAIT,
            "phase {phase}: the platform was asked too early"
        );
    }

    /// Sends under the text as key; the message's id.
    async fn send(&mut self, chat: &str, text: &str) -> String {
        let conversation = if chat == "well" { &self.well } else { &self.refusing };
        let key = text.replace(' ', "-");
        let answer = self.user.try_send(conversation, text, Some(&key), true).await.unwrap();
        assert!(answer.status.is_success(), "{}", answer.text);
        self.accepted.push(Entry::new(format!("out:{chat}"), text));
        answer.json()["message"]["id"].as_str().unwrap().to_owned()
    }

    /// A delivery that is signed by a clock that does not agree is refused, and taken when the clocks agree.
    async fn receive(&mut self, phase: usize, moved: i64) {
        let (text, id) = (format!("in {phase}"), format!("in-{phase}"));
        let event = support::received("well", &text, &text);
        let deliver = async |timestamp| {
            let answer = self.user.try_deliver_at(&self.channel, &id, &event, timestamp).await;
            answer.unwrap()
        };
        if moved != 0 {
            let refused = deliver(support::now()).await.expect(401)["error"].to_string();
            assert!(refused.contains("timestamp"), "{refused}");
        }
        for _ in 0..2 {
            deliver(support::now() + moved).await.expect(200);
        }
        self.accepted.push(Entry::new("well", text));
    }

    async fn status(&self, message: &str) -> String {
        let events = self.user.events().await;
        let mut changes = events.iter().filter(|event| event["data"]["messageId"] == message);
        let last = changes
            .next_back()
            .map(|event| event["data"]["status"].as_str().unwrap());
        last.unwrap_or("queued").to_owned()
    }

    async fn check(&self, socket: &mut Socket, begin: i64, refuser: &Correspondent) {
        let events = self.user.events().await;
        history::assert_gapless(&events);
        let differences = history::differences(&self.accepted, &history::messages(&events));
        assert!(differences.is_empty(), "stream: {differences:#?}");
        for event in &events[usize::try_from(begin).unwrap()..] {
            assert_eq!(socket.next_event().await["seq"], event["seq"], "the socket lives on");
        }
        let own = |lane: &str| -> Vec<Entry> {
            let entries = self.accepted.iter();
            entries.filter(|entry| entry.lane == lane).cloned().collect()
        };
        for (lane, correspondent) in [("out:well", &self.correspondent), ("out:refusing", refuser)] {
            let sent = correspondent.messages();
            let ids: HashSet<&String> = sent.iter().map(|(id, ..)| id).collect();
            assert_eq!(ids.len(), sent.len(), "{lane}: nothing goes out twice");
            let seen: Vec<Entry> = sent
                .iter()
                .map(|(_, chat, text)| Entry::new(format!("out:{chat}"), text))
                .collect();
            let differences = history::differences(&own(lane), &seen);
            assert!(differences.is_empty(), "{lane}: {differences:#?}");
        }
        let page = self
            .user
            .get(&format!("/api/messages/{}?limit=100", self.well))
            .await
            .expect(200);
        let mut thread: Vec<Entry> = page["messages"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|message| message["is_outgoing"] == true)
            .map(|message: &Value| Entry::new("out:well", message["content"].as_str().unwrap()))
            .collect();
        thread.reverse();
        assert_eq!(
            thread,
            own("out:well"),
            "the thread keeps the order of what was written"
        );
    }
}
