//! JSON bodies, field by field, for every route of the OpenAPI document that takes one.

use proptest::prelude::*;
use reqwest::Method;
use serde_json::Value;

use crate::document::{Operation, operations};
use crate::support::{Answer, Client, Correspondent, answer};
use crate::target::{Outcome, Target};
use crate::{answers, tokens};

struct Place {
    person: Client,
    /// One that may be changed: the conversation is another's.
    account: String,
    conversation: String,
    /// The person's own.
    message: String,
}

impl Place {
    async fn new(target: &Target) -> Self {
        let person = target.user().await;
        let channel = person.link(&Correspondent::start()).await;
        let conversation = person.receive(&channel, "chat", "message", "hello").await;
        let sent = person.send(&conversation, "mine", None).await.expect(201);
        Self {
            message: sent["message"]["id"].as_str().expect("an id").to_owned(),
            account: person.link(&Correspondent::start()).await.account_id,
            person,
            conversation,
        }
    }

    fn path(&self, operation: &Operation) -> String {
        operation.path_with(|place| match place {
            "account_id" => self.account.clone(),
            "conversation_id" => self.conversation.clone(),
            "id" | "message_id" => self.message.clone(),
            "chat_id" => "chat".to_owned(),
            other => panic!("{}: teach this test what a {other} is", operation.name()),
        })
    }

    async fn post(&self, operation: &Operation, body: String) -> Answer {
        let request = self.person.request(operation.method.clone(), &self.path(operation));
        answer(request.header("content-type", "application/json").body(body)).await
    }

    /// Puts a piece into a field and judges the answer.
    async fn try_field(&self, operation: &Operation, field: &str, token: &str) -> Outcome {
        let body = operation.body.as_ref().expect("a body");
        let answer = self
            .post(operation, tokens::put(body, &format!("/{field}"), token))
            .await;
        answers::check(&operation.method, &operation.path, &answer)?;
        let shown: String = token.chars().take(60).collect();
        let known = [200, 201, 202, 400, 401, 404, 409, 413, 503];
        if !known.contains(&answer.status.as_u16()) {
            return Err(format!("{}: {field} = {shown}: {answer:?}", operation.name()));
        }
        // The example's password is too short, so that no hash is made: both fields are named.
        if answer.status == 400 && !answers::names(field, &answer) && !answer.text.contains("password") {
            return Err(format!(
                "{}: {field} = {shown} is not named: {}",
                operation.name(),
                answer.text
            ));
        }
        Ok(())
    }
}

fn fields(operation: &Operation) -> Vec<String> {
    let object = operation.body.as_ref().and_then(Value::as_object);
    object
        .into_iter()
        .flat_map(|object| object.keys().cloned())
        .chain(["unknown".to_owned()])
        .collect()
}

#[test]
fn every_field_of_every_body_is_taken_or_named() {
    let target = Target::start();
    let (place, with_body) = target.run(async {
        let place = Place::new(&target).await;
        let all = operations(&place.person).await;
        // A delivery is signed and has its own file.
        let with_body = all
            .into_iter()
            .filter(|one| one.body.is_some() && !one.path.starts_with("/api/webhooks"));
        (place, with_body.collect::<Vec<_>>())
    });
    assert!(with_body.len() >= 7, "{with_body:?}");
    target.run(async {
        for operation in &with_body {
            for token in tokens::all() {
                let whole = place.post(operation, token.clone()).await;
                answers::check(&operation.method, &operation.path, &whole)
                    .unwrap_or_else(|problem| panic!("{problem}"));
                for field in fields(operation) {
                    let outcome = place.try_field(operation, &field, &token).await;
                    outcome.unwrap_or_else(|problem| panic!("{problem}"));
                }
            }
        }
    });
    let one = prop::sample::select(with_body).prop_flat_map(|operation| {
        let fields = fields(&operation);
        (Just(operation), prop::sample::select(fields), tokens::any_token())
    });
    target.try_all(250, &one, async |(operation, field, token)| {
        place.try_field(&operation, &field, &token).await
    });
    target.run(async {
        let events = place.person.events().await;
        assert!(!events.is_empty());
        place
            .person
            .get(&format!("/api/messages/{}", place.conversation))
            .await
            .expect(200);
        place.person.get("/api/oauth/accounts").await.expect(200);
        let answer = place
            .person
            .request(Method::GET, "/api/conversations")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), 200);
    });
    target.assert_well();
}
