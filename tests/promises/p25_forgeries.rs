//! P25: what is not signed as it must be is refused, and leaves no trace.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::on_both_databases;
use crate::support::{self, Channel, Client, Correspondent, Hub, Kind};

on_both_databases!(forgeries_are_refused_and_leave_no_trace);

/// A delivery as it goes over the wire.
#[derive(Clone)]
struct Wire {
    account_id: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Wire {
    fn signed(channel: &Channel, id: &str, timestamp: i64, body: &str) -> Self {
        let signature = support::sign(&channel.secret, id, timestamp, body.as_bytes());
        let headers = vec![
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", signature),
        ];
        let (account_id, body) = (channel.account_id.clone(), body.to_owned());
        Self {
            account_id,
            headers,
            body,
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(header, _)| *header != name);
        self.headers.push((name, value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(header, _)| *header != name);
        self
    }

    async fn post(&self, client: &Client) -> support::Answer {
        let url = format!("http://{}/api/webhooks/custom/{}", client.address, self.account_id);
        let mut request = client.http.post(url).header("content-type", "application/json");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        support::answer(request.body(self.body.clone())).await
    }
}

/// All that a person can see.
async fn sight(user: &Client) -> (Vec<Value>, String) {
    let list = "/api/conversations?platform=custom&max_read=500&limit=500";
    (user.events().await, user.get(list).await.text)
}

fn forgeries(good: &Wire, channel: &Channel, foreign: &Channel) -> Vec<(&'static str, Wire)> {
    let (now, body) = (
        support::now(),
        support::received("chat", "forged", "forged").to_string(),
    );
    let genuine = Wire::signed(channel, "forged", now, &body);
    let signature = support::sign(&channel.secret, "forged", now, body.as_bytes());
    let base64 = signature.trim_start_matches("v1,").to_owned();
    let aged = |seconds: i64| Wire::signed(channel, "forged", now + seconds, &body);
    let foreign_secret = Channel {
        account_id: channel.account_id.clone(),
        secret: foreign.secret.clone(),
    };
    let own_secret = Channel {
        account_id: foreign.account_id.clone(),
        secret: channel.secret.clone(),
    };
    let empty = support::sign("whsec_", "forged", now, body.as_bytes());
    let mut other_body = genuine.clone();
    other_body.body = body.replace("forged", "altered");
    let mut spaced = genuine.clone();
    spaced.body.push(' ');
    let mut replayed_elsewhere = good.clone();
    replayed_elsewhere.account_id.clone_from(&foreign.account_id);
    let mut twice = genuine.clone();
    twice.headers.push(("webhook-id", "another".to_owned()));
    vec![
        (
            "bad signature",
            genuine
                .clone()
                .with("webhook-signature", format!("v1,{}", "A".repeat(44))),
        ),
        (
            "signature of an empty secret",
            genuine.clone().with("webhook-signature", empty),
        ),
        (
            "signature cut short",
            genuine.clone().with("webhook-signature", signature.split_at(20).0),
        ),
        (
            "signature of another version",
            genuine.clone().with("webhook-signature", format!("v2,{base64}")),
        ),
        (
            "signature without version",
            genuine.clone().with("webhook-signature", base64),
        ),
        ("empty signature", genuine.clone().with("webhook-signature", "")),
        ("unsigned", genuine.clone().without("webhook-signature")),
        ("no id", genuine.clone().without("webhook-id")),
        ("no timestamp", genuine.clone().without("webhook-timestamp")),
        ("two ids", twice),
        ("old timestamp", aged(-310)),
        ("very old timestamp", aged(-1_000_000)),
        ("future timestamp", aged(310)),
        (
            "timestamp changed",
            genuine.clone().with("webhook-timestamp", (now + 1).to_string()),
        ),
        (
            "timestamp is no number",
            genuine.clone().with("webhook-timestamp", "today"),
        ),
        (
            "timestamp out of range",
            genuine.with("webhook-timestamp", i64::MAX.to_string()),
        ),
        ("body altered", other_body),
        ("a space more in the body", spaced),
        ("replayed under another id", good.clone().with("webhook-id", "another")),
        ("replayed at another account", replayed_elsewhere),
        (
            "a foreign account's secret",
            Wire::signed(&foreign_secret, "forged", now, &body),
        ),
        (
            "one's own secret at a foreign account",
            Wire::signed(&own_secret, "forged", now, &body),
        ),
    ]
}

async fn forgeries_are_refused_and_leave_no_trace(kind: Kind) {
    let hub = Hub::start(kind).await;
    let (user, stranger) = (hub.user().await, hub.user().await);
    let correspondent = Correspondent::start();
    let (channel, foreign) = (user.link(&correspondent).await, stranger.link(&correspondent).await);
    let body = support::received("chat", "m1", "genuine").to_string();
    let good = Wire::signed(&channel, "genuine", support::now(), &body);
    good.post(&user).await.expect(200);
    let before = (sight(&user).await, sight(&stranger).await);

    let mut answers = BTreeSet::new();
    for (name, forgery) in forgeries(&good, &channel, &foreign) {
        let answer = forgery.post(&user).await;
        assert_eq!(answer.status, 401, "{name}: {}", answer.text);
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(!error.is_empty(), "{name}: {}", answer.text);
        for secret in [&channel.secret, &foreign.secret] {
            assert!(!error.contains(secret.trim_start_matches("whsec_")), "{name}: {error}");
        }
        answers.insert(error);
        let after = (sight(&user).await, sight(&stranger).await);
        assert_eq!(after, before, "{name}: something was stored");
    }
    assert!(answers.len() >= 4, "the text says what is wrong: {answers:?}");
    for account in ["01999999-9999-7999-8999-999999999999", "nobody"] {
        let mut lost = good.clone();
        account.clone_into(&mut lost.account_id);
        lost.post(&user).await.expect(404);
    }
    // A genuine repetition is welcome, and changes nothing either.
    good.post(&user).await.expect(200);
    Wire::signed(&channel, "genuine", support::now(), &body)
        .post(&user)
        .await
        .expect(200);
    assert_eq!((sight(&user).await, sight(&stranger).await), before);
    if kind == Kind::Postgres {
        assert_eq!(hub.database.query("SELECT count(*) FROM quarantine").await, ["0"]);
    }
    hub.stop().await;
}
