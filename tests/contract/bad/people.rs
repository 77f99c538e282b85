//! Bad requests about people and their tokens.

use reqwest::Method;
use serde_json::{Value, json};

use super::Refusal::{Method as NotAllowed, Object, Page};
use super::{Case, Place, case, with_body, with_json};
use crate::bed::{claims, forge};
use crate::support::{Client, JWT_SECRET, now};

const INVALID: &str = "VALIDATION_ERROR";
const REGISTER: &str = "/api/auth/register";
const ME: &str = "/api/auth/me";
const JSON: &str = "application/json";

#[rustfmt::skip] // a row is a line
pub fn cases(place: &Place) -> Vec<Case> {
    let nobody = &place.nobody;
    let register = |body: Value| with_json(nobody, Method::POST, REGISTER, &body);
    let bytes = |media_type: &str, body: Vec<u8>| with_body(nobody, Method::POST, REGISTER, media_type, body);
    let password = "password: Ensure this field";
    let both = "email: This field is required. password: This field is required.";
    let too_long = format!("{}@example.org", "x".repeat(250));
    let mut cases = vec![
        case("register: nothing", register(json!({})), 400, Object(INVALID, both)),
        case("register: no body", nobody.request(Method::POST, REGISTER), 400, Object(INVALID, both)),
        case("register: a list", register(json!([1])), 400, Object(INVALID, "Invalid data. Expected a dictionary, but got list.")),
        case("register: null", register(json!(null)), 400, Object(INVALID, "Invalid data. Expected a dictionary, but got null.")),
        case("register: a text", register(json!("a")), 400, Object(INVALID, "Invalid data. Expected a dictionary, but got str.")),
        case("register: cut off", bytes(JSON, b"{\"email\":".to_vec()), 400, Object(INVALID, "JSON parse error - ")),
        case("register: not UTF-8", bytes(JSON, b"{\"email\":\"\xff\"}".to_vec()), 400, Object(INVALID, "JSON parse error - ")),
        case("register: UTF-16", bytes(JSON, vec![0xff, 0xfe, 0x7b, 0, 0x7d, 0]), 400, Object(INVALID, "JSON parse error - ")),
        case("register: nested", bytes(JSON, vec![b'['; 100_000]), 400, Object(INVALID, "JSON parse error - recursion limit")),
        case("register: form", bytes("application/x-www-form-urlencoded", b"email=a".to_vec()), 415,
            Object(INVALID, "Unsupported media type \"application/x-www-form-urlencoded\" in request.")),
        case("register: plain text", bytes("text/plain", b"{}".to_vec()), 415, Object(INVALID, "Unsupported media type \"text/plain\"")),
        case("register: too big", bytes(JSON, vec![b' '; 1_048_577]), 413, Object(INVALID, "The request body is larger than 1048576 bytes.")),
        case("register: GET", nobody.request(Method::GET, REGISTER), 405, NotAllowed("POST")),
        case("register: PUT", nobody.request(Method::PUT, REGISTER), 405, NotAllowed("POST")),
        case("me: POST", place.owner.request(Method::POST, ME), 405, NotAllowed("GET")),
        case("register: slash", nobody.request(Method::POST, "/api/auth/register/"), 404, Page),
        case("me: slash", place.owner.request(Method::GET, "/api/auth/me/"), 404, Page),
        case("unknown route", nobody.request(Method::GET, "/api/auth/nothing"), 404, Page),
        case("register: short", register(json!({"email": "short@example.org", "password": "1234567"})), 400,
            Object(INVALID, "password: Ensure this field has at least 8 characters.")),
        case("register: 73 bytes", register(json!({"email": "long@example.org", "password": "x".repeat(73)})), 400,
            Object(INVALID, "password: Ensure this field has no more than 72 bytes.")),
        case("register: 74 bytes in 37 characters", register(json!({"email": "long@example.org", "password": "é".repeat(37)})), 400, Object(INVALID, password)),
        case("register: long address", register(json!({"email": too_long, "password": "12345678"})), 400, Object(INVALID, "email: Ensure this field has no more than 254 characters.")),
        case("register: list as password", register(json!({"email": "a@example.org", "password": ["x"]})), 400, Object(INVALID, "password: Not a valid string.")),
        case("register: null address", register(json!({"email": null, "password": "12345678"})), 400, Object(INVALID, "email: This field may not be null.")),
        case("register: blank", register(json!({"email": " ", "password": "12345678"})), 400, Object(INVALID, "email: This field may not be blank.")),
        case("register: NUL", register(json!({"email": "a@example.org", "password": "1234\u{0}5678"})), 400, Object(INVALID, "password: Null characters are not allowed.")),
        case("register: taken", register(json!({"email": place.owner.email.to_uppercase(), "password": "12345678"})), 409, Object("USER_EXISTS", "User with this email already exists")),
        case("login: unknown", with_json(nobody, Method::POST, "/api/auth/login", &json!({"email": "no@example.org", "password": "x"})), 401,
            Object("AUTHENTICATION_FAILED", "Invalid email or password")),
        case("login: too long", with_json(nobody, Method::POST, "/api/auth/login", &json!({"email": place.owner.email, "password": "x".repeat(100)})), 400,
            Object(INVALID, "password: Ensure this field has no more than 72 bytes.")),
        case("login: an operator in SQL", with_json(nobody, Method::POST, "/api/auth/login", &json!({"email": "' OR 1=1 --", "password": "x"})), 400,
            Object(INVALID, "email: Enter a valid email address.")),
    ];
    for (name, email) in [
        ("register: no at", "example.org"),
        ("register: two dots", "a..b@example.org"),
        ("register: no domain", "a@"),
        ("register: bare domain", "a@b"),
        ("register: line break", "a@example.org\nx"),
        ("register: quoted", "\"a b\"@example.org"),
    ] {
        let request = register(json!({ "email": email, "password": "12345678" }));
        cases.push(case(name, request, 400, Object(INVALID, "email: Enter a valid email address.")));
    }
    cases
}

#[rustfmt::skip] // a row is a line
pub fn token_cases(place: &Place) -> Vec<Case> {
    let owner = &place.owner;
    let (access, refresh) = (owner.token.clone().unwrap(), owner.refresh_token.clone().unwrap());
    let with_header = |header: &str| {
        let request = owner.http.get(format!("http://{}{ME}", owner.address));
        request.header("authorization", header)
    };
    let me = |token: &str| with_header(&format!("Bearer {token}"));
    let body = |token: &str| json!({ "refreshToken": token });
    let post = |path: &str, body: &Value| with_json(&place.nobody, Method::POST, path, body);
    let renew = |token: &str| post("/api/auth/refresh", &body(token));
    let changed = |field: &str, value: Value| {
        let mut claims = claims(&access);
        claims[field] = value;
        claims
    };
    let old = now() - 1;
    let expired = forge(JWT_SECRET, "HS256", &changed("exp", json!(old)));
    let unsigned = forge(JWT_SECRET, "none", &claims(&access));
    let no_signature = format!("{}.", unsigned.rsplit_once('.').unwrap().0);
    let mut expired_refresh = claims(&refresh);
    expired_refresh["exp"] = json!(old);
    let (head, tail) = access.split_at(access.len() - 2);
    let cut = format!("{head}{}", if tail == "AA" { "BB" } else { "AA" });
    let bad = || Object("INVALID_TOKEN", "Invalid access token");
    let form = || Object("INVALID_TOKEN_FORMAT", "Authorization header must be in format: Bearer <token>");
    let failed = |words| Object("TOKEN_REFRESH_FAILED", words);
    let required = || Object(INVALID, "refreshToken: This field is required.");
    vec![
        case("me: nobody", place.nobody.request(Method::GET, ME), 401, Object("UNAUTHORIZED", "User not authenticated")),
        case("me: basic", with_header("Basic eDp5"), 401, form()),
        case("me: only the scheme", with_header("Bearer"), 401, form()),
        case("me: three parts", with_header("Bearer a b"), 401, form()),
        case("me: two headers", me(&access).header("authorization", "Bearer x"), 401, form()),
        case("me: garbage", me("garbage"), 403, bad()),
        case("me: expired", me(&expired), 403, Object("TOKEN_EXPIRED", "Access token has expired")),
        case("me: refresh token", me(&refresh), 403, bad()),
        case("me: wrong secret", me(&forge("another secret, long enough to be one", "HS256", &claims(&access))), 403, bad()),
        case("me: empty secret", me(&forge("", "HS256", &claims(&access))), 403, bad()),
        case("me: algorithm none", me(&unsigned), 403, bad()),
        case("me: no signature", me(&no_signature), 403, bad()),
        case("me: named HS512", me(&forge(JWT_SECRET, "HS512", &claims(&access))), 403, bad()),
        case("me: changed signature", me(&cut), 403, bad()),
        case("me: no user", me(&forge(JWT_SECRET, "HS256", &changed("sub", json!("x")))), 403, bad()),
        case("me: unknown kind", me(&forge(JWT_SECRET, "HS256", &changed("type", json!("admin")))), 403, bad()),
        case("me: unknown session", me(&forge(JWT_SECRET, "HS256", &changed("sid", json!(crate::bed::NOBODY)))), 401, Object("SESSION_ENDED", "The session has ended.")),
        case("me: huge token", me(&"x".repeat(5_000)), 403, bad()),
        case("unknown route with a bad token", bearing(&place.nobody, "/api/nothing"), 403, bad()),
        case("refresh: nothing", post("/api/auth/refresh", &json!({})), 400, required()),
        case("refresh: wrong name", post("/api/auth/refresh", &json!({"refresh_token": refresh})), 400, required()),
        case("refresh: number in a list", post("/api/auth/refresh", &json!({"refreshToken": [1]})), 400, Object(INVALID, "refreshToken: Not a valid string.")),
        case("refresh: garbage", renew("garbage"), 401, failed("Invalid refresh token")),
        case("refresh: access token", renew(&access), 401, failed("Invalid refresh token")),
        case("refresh: expired", renew(&forge(JWT_SECRET, "HS256", &expired_refresh)), 401, failed("Refresh token has expired")),
        case("refresh: forged", renew(&forge("another secret, long enough to be one", "HS256", &claims(&refresh))), 401, failed("Invalid refresh token")),
        case("logout: nothing", post("/api/auth/logout", &json!({})), 400, required()),
        case("logout: null", post("/api/auth/logout", &json!({"refreshToken": null})), 400, Object(INVALID, "refreshToken: This field may not be null.")),
    ]
}

fn bearing(client: &Client, path: &str) -> reqwest::RequestBuilder {
    client.request(Method::GET, path).bearer_auth("garbage")
}
