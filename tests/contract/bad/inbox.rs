//! Bad requests about accounts, conversations, messages and events; those of a stranger, too.

use reqwest::Method;
use serde_json::{Value, json};

use super::Refusal::{Fields, Method as NotAllowed, Object, Page, Text};
use super::{Case, Place, case, with_body, with_json};
use crate::bed::NOBODY;

const INVALID: &str = "VALIDATION_ERROR";
const LINK: &str = "/api/accounts/custom";

#[rustfmt::skip] // a row is a line
pub fn cases(place: &Place) -> Vec<Case> {
    let owner = &place.owner;
    let get = |path: &str| owner.request(Method::GET, path);
    let conversation = &place.conversation;
    let mut cases = vec![
        case("conversations: nobody", place.nobody.request(Method::GET, "/api/conversations"), 401, Text("Unauthorized")),
        case("messages: nobody", place.nobody.request(Method::GET, "/api/messages"), 401, Text("Unauthorized")),
        case("accounts: nobody", place.nobody.request(Method::GET, "/api/oauth/accounts"), 401, Text("Unauthorized")),
        case("conversations: bad token", place.nobody.request(Method::GET, "/api/conversations").bearer_auth("x"), 403, Text("Invalid access token")),
        case("conversations: POST", with_json(owner, Method::POST, "/api/conversations", &json!({})), 405, NotAllowed("GET")),
        case("read: GET", get(&format!("/api/messages/{}/read", place.message)), 405, NotAllowed("PATCH")),
        case("disconnect: GET", get(&format!("/api/oauth/disconnect/{}", place.channel.account_id)), 405, NotAllowed("DELETE")),
        case("platform: upper case", get("/api/conversations?platform=Custom"), 400,
            Text("platform must be the short name of a platform, such as telegram")),
        case("one conversation: slash", get(&format!("/api/conversations/{conversation}/")), 404, Page),
        case("one conversation: upper case", get(&format!("/api/conversations/{}", conversation.to_uppercase())), 404, Page),
        case("one conversation: no hyphens", get(&format!("/api/conversations/{}", conversation.replace('-', ""))), 404, Page),
        case("one conversation: no id", get("/api/conversations/1"), 404, Page),
        case("one conversation: NUL", get("/api/conversations/%00"), 404, Page),
        case("one conversation: not UTF-8", get("/api/conversations/%ff"), 404, Page),
        case("one conversation: unknown", get(&format!("/api/conversations/{NOBODY}")), 404, Text("Conversation not found or access denied")),
        case("messages: upper case", get(&format!("/api/messages/{}", conversation.to_uppercase())), 404, Page),
        case("messages: unknown", get(&format!("/api/messages/{NOBODY}")), 403, Text("Access denied to this conversation")),
        case("before: no id", get(&format!("/api/messages/{conversation}?before=x")), 400, Text("before must be the id of a message")),
        case("since: no time", get("/api/messages?since=yesterday"), 400, Text("since must be an RFC 3339 time such as 2026-01-02T03:04:05Z")),
        case("since: impossible", get("/api/messages?since=2026-02-30T00:00:00Z"), 400, Text("since must be an RFC 3339 time such as 2026-01-02T03:04:05Z")),
        case("events: before the first", get("/api/events?after=-1"), 400, Object(INVALID, "after must be the number of an event")),
        case("events: too many", get("/api/events?limit=1001"), 400, Object(INVALID, "limit must be a whole number from 1 to 1000")),
        case("events: ahead", get("/api/events?after=999999"), 410, Object("STREAM_POSITION_GONE", "The stream does not hold")),
        case("events: other epoch", get("/api/events?after=zzzz:1"), 410, Object("STREAM_POSITION_GONE", "The stream does not hold")),
        case("connect: not set up", get("/api/oauth/connect/teams"), 400, Object("INVALID_PLATFORM", "The platform \"teams\" is not set up")),
        case("connect: NUL", get("/api/oauth/connect/a%00b"), 400, Object("INVALID_PLATFORM", "The platform ")),
        case("refresh: no tokens", owner.request(Method::POST, &format!("/api/oauth/refresh/{}", place.channel.account_id)), 400, Object("INVALID_PLATFORM", "An account of the platform \"custom\" has no token")),
        case("refresh: unknown", owner.request(Method::POST, &format!("/api/oauth/refresh/{NOBODY}")), 404, Object("ACCOUNT_NOT_FOUND", "Account not found")),
        case("retry: not failed", owner.request(Method::POST, &format!("/api/messages/{}/retry", place.message)), 409, Text("Only a failed message, or one of unknown fate, can be tried again.")),
        case("overlap: too long", owner.request(Method::POST, &format!("{LINK}/{}/rotate-secret?overlap_seconds=86401", place.channel.account_id)), 400,
            Object(INVALID, "overlap_seconds must be a whole number from 0 to 86400")),
    ];
    for query in ["limit=abc", "limit=0", "limit=-1", "limit=1e2", "limit="] {
        let text = "limit must be a whole number from 1 to 500";
        cases.push(case("conversations: limit", get(&format!("/api/conversations?{query}")), 400, Text(text)));
    }
    for query in ["offset=x", "offset=-1", "offset=1000000001"] {
        let text = "offset must be a whole number from 0 to 1000000000";
        cases.push(case("messages: offset", get(&format!("/api/messages/{conversation}?{query}")), 400, Text(text)));
    }
    let text = "limit must be a whole number from 1 to 200";
    cases.push(case("messages: limit", get(&format!("/api/messages/{conversation}?limit=0")), 400, Text(text)));
    cases.extend(link_cases(place));
    cases.extend(send_cases(place));
    cases
}

#[rustfmt::skip] // a row is a line
fn link_cases(place: &Place) -> Vec<Case> {
    let link = |body: Value| with_json(&place.owner, Method::POST, LINK, &body);
    let good = "https://shop.example/hub";
    let named = |url: &str| link(json!({ "name": "x", "outboundUrl": url }));
    let account = format!("{LINK}/{}", place.channel.account_id);
    let change = |body: Value| with_json(&place.owner, Method::PATCH, &account, &body);
    vec![
        case("link: nobody", with_json(&place.nobody, Method::POST, LINK, &json!({})), 401, Object("UNAUTHORIZED", "User not authenticated")),
        case("link: nothing", link(json!({})), 400, Object(INVALID, "name: This field is required. outboundUrl: This field is required.")),
        case("link: a list", link(json!([])), 400, Object(INVALID, "Invalid data. Expected a dictionary, but got list.")),
        case("link: number as name", link(json!({"name": 5, "outboundUrl": good})), 400, Object(INVALID, "name: Not a valid string.")),
        case("link: long name", link(json!({"name": "x".repeat(256), "outboundUrl": good})), 400, Object(INVALID, "name: Ensure this field has no more than 255 characters.")),
        case("link: NUL", link(json!({"name": "a\u{0}b", "outboundUrl": good})), 400, Object(INVALID, "name: Null characters are not allowed.")),
        case("link: ftp", named("ftp://shop.example/"), 400, Object(INVALID, "outboundUrl: ")),
        case("link: relative", named("/hub"), 400, Object(INVALID, "outboundUrl: ")),
        case("link: password", named("https://a:b@shop.example/"), 400, Object(INVALID, "outboundUrl: ")),
        case("link: fragment", named("https://shop.example/#x"), 400, Object(INVALID, "outboundUrl: ")),
        case("link: long address", named(&format!("https://shop.example/{}", "x".repeat(2_000))), 400, Object(INVALID, "outboundUrl: ")),
        case("change: null", change(json!({"outboundUrl": null})), 400, Object(INVALID, "outboundUrl: This field may not be null.")),
        case("change: blank", change(json!({"name": " "})), 400, Object(INVALID, "name: This field may not be blank.")),
        case("change: cut off", with_body(&place.owner, Method::PATCH, &account, "application/json", "{"), 400, Object(INVALID, "JSON parse error - ")),
    ]
}

#[rustfmt::skip] // a row is a line
fn send_cases(place: &Place) -> Vec<Case> {
    let path = format!("/api/messages/{}/send", place.conversation);
    let send = |body: Value| with_json(&place.owner, Method::POST, &path, &body);
    let bytes = |media_type: &str, body: &'static str| with_body(&place.owner, Method::POST, &path, media_type, body);
    let content = |text: &str| Fields(json!({ "content": [text] }));
    let key = "Give one key of 1 to 255 visible ASCII characters.";
    let bad_key = || Fields(json!({ "Idempotency-Key": [key] }));
    let hi = json!({ "content": "hi" });
    vec![
        case("send: nobody", with_json(&place.nobody, Method::POST, &path, &hi), 401, Text("Unauthorized")),
        case("send: nothing", send(json!({})), 400, content("This field is required.")),
        case("send: no body", bytes("application/json", ""), 400, content("This field is required.")),
        case("send: null", send(json!({"content": null})), 400, content("This field may not be null.")),
        case("send: blank", send(json!({"content": " \n"})), 400, content("This field may not be blank.")),
        case("send: number", send(json!({"content": 5})), 400, content("Not a valid string.")),
        case("send: too long", send(json!({"content": "x".repeat(10_001)})), 400, content("Ensure this field has no more than 10000 characters.")),
        case("send: kind and medium", send(json!({"content": "x", "message_type": "audio", "media_url": "no"})), 400,
            Fields(json!({"message_type": ["\"audio\" is not a valid choice."], "media_url": ["Enter a valid URL."]}))),
        case("send: system", send(json!({"content": "x", "messageType": "system"})), 400, Fields(json!({"messageType": ["\"system\" is not a valid choice."]}))),
        case("send: script as medium", send(json!({"content": "x", "mediaUrl": "javascript:alert(1)"})), 400, Fields(json!({"mediaUrl": ["Enter a valid URL."]}))),
        case("send: NUL in an id", send(json!({"content": "x", "clientId": "a\u{0}b"})), 400, Fields(json!({"clientId": ["Null characters are not allowed."]}))),
        case("send: a list", send(json!([])), 400, Fields(json!({"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]}))),
        case("send: cut off", bytes("application/json", "{"), 400, Text("JSON parse error - EOF while parsing an object at line 1 column 1")),
        case("send: plain text", bytes("text/plain", "hi"), 415, Text("Unsupported media type \"text/plain\" in request.")),
        case("send: key with a space", send(hi.clone()).header("idempotency-key", "a b"), 400, bad_key()),
        case("send: long key", send(hi.clone()).header("idempotency-key", "x".repeat(256)), 400, bad_key()),
        case("send: two keys", send(hi.clone()).header("idempotency-key", "a").header("idempotency-key", "b"), 400, bad_key()),
        case("send: used key", send(hi.clone()).header("idempotency-key", "used"), 409, Text("This Idempotency-Key was used for another request.")),
        case("send: GET", place.owner.request(Method::GET, &path), 405, NotAllowed("POST")),
        case("send: slash", with_json(&place.owner, Method::POST, &format!("{path}/"), &hi), 404, Page),
        case("send: unknown", with_json(&place.owner, Method::POST, &format!("/api/messages/{NOBODY}/send"), &hi), 404, Text("Conversation not found or access denied")),
        case("send: too big", with_body(&place.owner, Method::POST, &path, "application/json", vec![b' '; 1_048_577]), 413, Text("The request body is larger than 1048576 bytes.")),
    ]
}

/// Somebody else's things do not exist, on every route that takes an id.
#[rustfmt::skip] // a row is a line
pub fn foreign_cases(place: &Place) -> Vec<Case> {
    let ask = |method: Method, path: String| with_json(&place.stranger, method, &path, &json!({ "content": "x", "name": "x" }));
    let (chat, message) = (&place.conversation, &place.message);
    let (account, failed) = (&place.channel.account_id, &place.failed);
    let no_account = || Object("ACCOUNT_NOT_FOUND", "Account not found");
    let no_message = || Text("Message not found or access denied");
    let no_chat = || Text("Conversation not found or access denied");
    vec![
        case("foreign conversation", ask(Method::GET, format!("/api/conversations/{chat}")), 404, no_chat()),
        case("foreign messages", ask(Method::GET, format!("/api/messages/{chat}")), 403, Text("Access denied to this conversation")),
        case("foreign send", ask(Method::POST, format!("/api/messages/{chat}/send")), 404, no_chat()),
        case("foreign read", ask(Method::PATCH, format!("/api/messages/{message}/read")), 404, no_message()),
        case("foreign read of all", ask(Method::PATCH, format!("/api/messages/conversation/{chat}/read")), 404, no_chat()),
        case("foreign retry", ask(Method::POST, format!("/api/messages/{failed}/retry")), 404, no_message()),
        case("foreign change", ask(Method::PATCH, format!("{LINK}/{account}")), 404, no_account()),
        case("foreign secret", ask(Method::POST, format!("{LINK}/{account}/rotate-secret")), 404, no_account()),
        case("foreign refresh", ask(Method::POST, format!("/api/oauth/refresh/{account}")), 404, no_account()),
        case("foreign disconnect", ask(Method::DELETE, format!("/api/oauth/disconnect/{account}")), 404, no_account()),
        case("unknown message", ask(Method::PATCH, format!("/api/messages/{NOBODY}/read")), 404, no_message()),
        case("a conversation for a message", ask(Method::PATCH, format!("/api/messages/{chat}/read")), 404, no_message()),
        case("disconnect: upper case", ask(Method::DELETE, format!("/api/oauth/disconnect/{}", account.to_uppercase())), 404, Page),
        case("rotate: no id", ask(Method::POST, format!("{LINK}/1/rotate-secret")), 404, Page),
        case("operator's tree", ask(Method::GET, "/api/admin/tree".to_owned()), 403, Object("INVALID_TOKEN", "Invalid administration token")),
        case("operator's keys", ask(Method::POST, "/api/admin/rotate-key".to_owned()), 403, Object("INVALID_TOKEN", "Invalid administration token")),
    ]
}
