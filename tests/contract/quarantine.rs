//! What is genuine but cannot be understood: taken, kept sealed for the operator, shown to nobody.

use serde_json::json;

use crate::support::{self, Correspondent, Hub, Kind, sign};

#[test]
fn what_is_not_understood_is_taken_and_kept_sealed() {
    support::run(async {
        let hub = Hub::start(Kind::Postgres).await;
        let user = hub.user().await;
        let channel = user.link(&Correspondent::start()).await;
        let before = (user.events().await, user.get("/api/conversations").await.text);
        let secret = "a secret that nobody understands";
        for body in [
            json!({ "type": "something.new", "text": secret }).to_string(),
            json!([{ "type": "message.received", "conversation": { "id": secret } }]).to_string(),
            format!("not JSON: {secret}"),
        ] {
            let time = support::now();
            let url = format!("http://{}/api/webhooks/custom/{}", hub.address, channel.account_id);
            let request = user.http.post(url).header("webhook-id", "strange");
            let signature = sign(&channel.secret, "strange", time, body.as_bytes());
            let request = request
                .header("webhook-timestamp", time)
                .header("webhook-signature", signature);
            let answer = support::answer(request.body(body)).await;
            assert_eq!(answer.expect(200), json!({ "ok": true }));
        }
        let after = (user.events().await, user.get("/api/conversations").await.text);
        assert_eq!(before, after, "nobody sees it");
        let kept = hub.database.query("SELECT count(*) FROM quarantine").await;
        assert_eq!(kept, ["3"]);
        // Not even a piece of it stands there in the clear.
        let rows = hub.database.query("SELECT quarantine::text FROM quarantine").await;
        for plain in [secret.to_owned(), hex::encode(secret)] {
            assert!(rows.iter().all(|row| !row.contains(&plain)), "{rows:?}");
        }
        // One that is understood still comes in.
        user.receive(&channel, "chat", "message", "hello").await;
        hub.stop().await;
    });
}
