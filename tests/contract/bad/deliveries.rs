//! Deliveries that are not to be trusted.

use reqwest::{Method, RequestBuilder};

use super::Refusal::{Method as NotAllowed, Page, Text};
use super::{Case, Place, case};
use crate::bed::NOBODY;
use crate::support::{now, received, sign};

const NO_FIT: &str = "no signature in the header webhook-signature fits the body and the account's secret";
const NO_TIME: &str = "the header webhook-timestamp must be the time in whole seconds since 1970";
const NO_ID: &str = "the header webhook-id must be 1 to 255 visible ASCII characters without a full stop";
const NO_ACCOUNT: &str = "There is no such account, or it is disconnected";

#[rustfmt::skip] // a row is a line
pub fn cases(place: &Place) -> Vec<Case> {
    let nobody = &place.nobody;
    let (account, secret) = (&place.channel.account_id, &place.channel.secret);
    let body = received("forged", "forged", "must not be stored").to_string();
    let to = |account: &str| {
        let path = format!("/api/webhooks/custom/{account}");
        nobody.request(Method::POST, &path).header("content-type", "application/json").body(body.clone())
    };
    let headers = |request: RequestBuilder, id: &str, time: &str, signature: &str| {
        let request = request.header("webhook-id", id).header("webhook-timestamp", time);
        request.header("webhook-signature", signature)
    };
    let at = |time: i64| headers(to(account), "d1", &time.to_string(), &sign(secret, "d1", time, body.as_bytes()));
    let time = now();
    let (text, good) = (time.to_string(), sign(secret, "d1", time, body.as_bytes()));
    let signed = |signature: &str| headers(to(account), "d1", &text, signature);
    let other = sign("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "d1", time, body.as_bytes());
    let bare = good.trim_start_matches("v1,");
    let with_id = |id: &str| headers(to(account), id, &text, &sign(secret, id, time, body.as_bytes()));
    let mut cases = vec![
        case("delivery: no headers", to(account), 401, Text("the header webhook-id is missing or repeated")),
        case("delivery: no time", to(account).header("webhook-id", "d1").header("webhook-signature", &good), 401,
            Text("the header webhook-timestamp is missing or repeated")),
        case("delivery: no signature", to(account).header("webhook-id", "d1").header("webhook-timestamp", &text), 401,
            Text("the header webhook-signature is missing or repeated")),
        case("delivery: two ids", signed(&good).header("webhook-id", "d1"), 401, Text("the header webhook-id is missing or repeated")),
        case("delivery: two signatures' headers", signed(&good).header("webhook-signature", &good), 401,
            Text("the header webhook-signature is missing or repeated")),
        case("delivery: empty signature", signed(""), 401, Text(NO_FIT)),
        case("delivery: another secret", signed(&other), 401, Text(NO_FIT)),
        case("delivery: no version", signed(bare), 401, Text(NO_FIT)),
        case("delivery: another version", signed(&format!("v2,{bare}")), 401, Text(NO_FIT)),
        case("delivery: half a signature", signed(good.get(..20).unwrap()), 401, Text(NO_FIT)),
        case("delivery: another id", headers(to(account), "d2", &text, &good), 401, Text(NO_FIT)),
        case("delivery: another time", headers(to(account), "d1", &(time - 1).to_string(), &good), 401, Text(NO_FIT)),
        case("delivery: another body", signed(&good).body("{}"), 401, Text(NO_FIT)),
        case("delivery: old", at(time - 302), 401, Text("the webhook-timestamp is more than 5 minutes old: sign every try anew")),
        case("delivery: early", at(time + 330), 401, Text("the webhook-timestamp is more than 5 minutes ahead: the sender's clock is wrong")),
        case("delivery: id with a full stop", with_id("a.b"), 401, Text(NO_ID)),
        case("delivery: id with a space", with_id("a b"), 401, Text(NO_ID)),
        case("delivery: long id", with_id(&"x".repeat(256)), 401, Text(NO_ID)),
        case("delivery: empty id", with_id(""), 401, Text(NO_ID)),
        case("delivery: unknown account", headers(to(NOBODY), "d1", &text, &good), 404, Text(NO_ACCOUNT)),
        case("delivery: a person's id", headers(to(&place.owner.user_id), "d1", &text, &good), 404, Text(NO_ACCOUNT)),
        case("delivery: upper case", headers(to(&account.to_uppercase()), "d1", &text, &good), 404, Page),
        case("delivery: slash", headers(to(&format!("{account}/")), "d1", &text, &good), 404, Page),
        case("delivery: too big", signed(&good).body(vec![b'x'; 1_048_577]), 413, Text("The request body is larger than 1048576 bytes.")),
        case("delivery: GET", nobody.request(Method::GET, &format!("/api/webhooks/custom/{account}")), 405, NotAllowed("POST")),
        case("delivery: unknown platform", nobody.request(Method::POST, &format!("/api/webhooks/nothing/{account}")), 404, Page),
    ];
    for wrong in ["yesterday", "-5", "+5", "1.5", "0", "9999999999999", ""] {
        cases.push(case("delivery: wrong time", headers(to(account), "d1", wrong, &good), 401, Text(NO_TIME)));
    }
    cases
}
