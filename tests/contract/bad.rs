//! Bad requests, each with its exact answer. None is a fault of the hub, and none leaves anything behind.

mod deliveries;
mod inbox;
mod people;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::support::{self, Answer, Channel, Client, Correspondent, answer};

/// What the requests of the table speak of.
pub struct Place {
    /// Whose things the others want.
    pub owner: Client,
    /// Somebody else, signed in.
    pub stranger: Client,
    /// Nobody.
    pub nobody: Client,
    pub channel: Channel,
    pub conversation: String,
    pub message: String,
    /// A message that could be tried again.
    pub failed: String,
}

/// How a refusal looks.
pub enum Refusal {
    /// `{"error":{"code","message","retryable"}}`: the code, and how the message begins.
    Object(&'static str, &'static str),
    /// `{"error":"text"}`.
    Text(&'static str),
    /// `{"error":{"field":["text"]}}`.
    Fields(Value),
    /// The page of what does not exist.
    Page,
    /// As [`Refusal::Object`], with the header `Allow`.
    Method(&'static str),
}

use Refusal::{Fields, Method as NotAllowed, Object, Page, Text};

const TOO_BIG: Refusal = Text("The request body is larger than 1048576 bytes.");

/// One row of the table.
pub struct Case {
    name: &'static str,
    request: RequestBuilder,
    status: u16,
    refusal: Refusal,
}

pub fn case(name: &'static str, request: RequestBuilder, status: u16, refusal: Refusal) -> Case {
    Case {
        name,
        request,
        status,
        refusal,
    }
}

/// A request with a JSON body.
pub fn with_json(client: &Client, method: Method, path: &str, body: &Value) -> RequestBuilder {
    client.request(method, path).json(body)
}

/// A request with a body of any bytes.
pub fn with_body(
    client: &Client,
    method: Method,
    path: &str,
    media_type: &str,
    body: impl Into<reqwest::Body>,
) -> RequestBuilder {
    client
        .request(method, path)
        .header("content-type", media_type)
        .body(body)
}

impl Place {
    async fn new(bed: &Bed) -> Self {
        let (owner, stranger, peer) = (bed.user().await, bed.user().await, Correspondent::start());
        let channel = owner.link(&peer).await;
        let conversation = owner.receive(&channel, "c1", "m1", "hello").await;
        peer.reply("c1", [support::Reply::Refuse(400, None)]);
        let failed = owner.send(&conversation, "fails", Some("used")).await.expect(502);
        let page = owner.get(&format!("/api/messages/{conversation}")).await.expect(200);
        Self {
            failed: failed["messageId"].as_str().unwrap().to_owned(),
            message: page["messages"][1]["id"].as_str().unwrap().to_owned(),
            nobody: bed.client(),
            owner,
            stranger,
            channel,
            conversation,
        }
    }

    /// Everything that a person can see.
    async fn all_of(client: &Client) -> Vec<Value> {
        let mut all = Vec::new();
        for path in [
            "/api/auth/me",
            "/api/oauth/accounts",
            "/api/conversations",
            "/api/messages",
            "/api/messages/unread/count",
            "/api/events?limit=1000",
        ] {
            all.push(client.get(path).await.expect(200));
        }
        all
    }
}

fn check(case: &Case, answer: &Answer) -> Result<(), String> {
    let problem = |what: &str| Err(format!("{}: {what}: {} {}", case.name, answer.status, answer.text));
    if answer.status.as_u16() != case.status {
        return problem(&format!("not {}", case.status));
    }
    let body = answer.json();
    let is_json = answer
        .headers
        .get("content-type")
        .is_some_and(|kind| kind == "application/json");
    let error = &body["error"];
    let is_object = |code: &str, words: &str| {
        let message = error["message"].as_str().unwrap_or_default();
        is_json && error["code"] == code && error["retryable"] == false && message.starts_with(words)
    };
    let is_right = match &case.refusal {
        Object(code, words) => is_object(code, words),
        Text(text) => is_json && body == json!({ "error": text }),
        Fields(fields) => is_json && body == json!({ "error": fields }),
        Page => {
            let kind = answer.headers.get("content-type").and_then(|kind| kind.to_str().ok());
            kind.is_some_and(|kind| kind.starts_with("text/html")) && answer.text.contains("<title>Not found</title>")
        }
        NotAllowed(allow) => {
            let is_named = answer.headers.get("allow").is_some_and(|found| found == allow);
            let words = error["message"].as_str().or(error.as_str()).unwrap_or_default();
            is_named && is_json && words.starts_with("Method ") && words.ends_with(" not allowed.")
        }
    };
    if is_right { Ok(()) } else { problem("another body") }
}

#[test]
fn each_bad_request_has_its_answer_and_nothing_is_stored() {
    support::run(async {
        let bed = Bed::usual();
        let place = Place::new(&bed).await;
        let before = (Place::all_of(&place.owner).await, Place::all_of(&place.stranger).await);
        let mut cases = people::cases(&place);
        cases.extend(people::token_cases(&place));
        cases.extend(inbox::cases(&place));
        cases.extend(inbox::foreign_cases(&place));
        cases.extend(deliveries::cases(&place));
        assert!(cases.len() >= 60, "{} bad requests", cases.len());
        println!("{} bad requests", cases.len());
        let mut problems = Vec::new();
        for case in cases {
            let request = case.request.try_clone().expect("the body is in memory");
            let answer = answer(request).await;
            assert!(answer.status.as_u16() < 500, "{}: {answer:?}", case.name);
            problems.extend(check(&case, &answer).err());
        }
        // A body whose length is not said is cut off where the limit is.
        let path = format!("/api/webhooks/custom/{}", place.channel.account_id);
        let parts = futures_util::stream::iter((0..20).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 100_000])));
        let request = place
            .nobody
            .request(Method::POST, &path)
            .body(reqwest::Body::wrap_stream(parts));
        // The hub may end the connection before the client has written all and reads the answer.
        if let Ok(answer) = support::try_answer(request).await {
            let row = case(
                "delivery: too big, in pieces",
                place.nobody.request(Method::POST, &path),
                413,
                TOO_BIG,
            );
            problems.extend(check(&row, &answer).err());
        }
        assert!(problems.is_empty(), "{}", problems.join("\n"));
        let after = (Place::all_of(&place.owner).await, Place::all_of(&place.stranger).await);
        assert_eq!(before, after, "nothing is stored");
        for email in ["short@example.org", "long@example.org"] {
            let login = json!({ "email": email, "password": "12345678" });
            place.nobody.post("/api/auth/login", &login).await.expect(401);
        }
    });
}
