//! Rate limits: what is counted, the headers, and the refusal in each shape.

use serde_json::json;

use crate::bed::{Bed, Slot, slot};
use crate::support::{self, ADMIN_TOKEN, Answer, Client, Database, Kind, PASSWORD, Process};

/// Each test has a hub of its own: they share one address, and with it the strict counter.
static STANDARD: Slot = slot();
static STRICT: Slot = slot();

fn header(answer: &Answer, name: &str) -> String {
    let value = answer.headers.get(name);
    value
        .unwrap_or_else(|| panic!("{name} is missing"))
        .to_str()
        .unwrap()
        .to_owned()
}

fn assert_refused(answer: &Answer, limit: &str) {
    answer.expect(429);
    assert_eq!(header(answer, "x-ratelimit-limit"), limit);
    assert_eq!(header(answer, "x-ratelimit-remaining"), "0");
    let seconds: u64 = header(answer, "retry-after").parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
}

#[test]
fn five_requests_of_a_user_then_429_in_the_shape_of_the_path() {
    support::run(async {
        let bed = Bed::shared(&STANDARD, |settings| settings.limits.standard_per_minute = 5);
        let (user, other) = (bed.user().await, bed.user().await);
        for left in (0..5).rev() {
            let answer = user.get("/api/auth/me").await;
            answer.expect(200);
            assert_eq!(header(&answer, "x-ratelimit-limit"), "5");
            assert_eq!(header(&answer, "x-ratelimit-remaining"), left.to_string());
            assert!(header(&answer, "x-ratelimit-reset").ends_with('Z'));
        }
        let refused = user.get("/api/auth/me").await;
        assert_refused(&refused, "5");
        let error = &refused.json()["error"];
        assert_eq!(
            (&error["code"], &error["retryable"]),
            (&json!("RATE_LIMIT_EXCEEDED"), &json!(true))
        );
        assert_eq!(error["message"], "Rate limit exceeded. Please try again later.");
        assert_eq!(
            (&error["details"]["limit"], &error["details"]["windowMs"]),
            (&json!(5), &json!(60_000))
        );
        assert_eq!(
            error["details"]["retryAfter"].to_string(),
            header(&refused, "retry-after")
        );

        for path in [
            "/api/conversations",
            "/api/messages/unread/count",
            "/api/oauth/accounts",
        ] {
            let refused = user.get(path).await;
            assert_refused(&refused, "5");
            assert_eq!(
                refused.json(),
                json!({ "error": "Rate limit exceeded. Please try again later." }),
                "{path}"
            );
        }
        let refused = user
            .post(&format!("/api/messages/{}/send", crate::bed::NOBODY), &json!({}))
            .await;
        assert_refused(&refused, "5");
        assert_eq!(refused.json()["error"], "Rate limit exceeded. Please try again later.");

        other.get("/api/auth/me").await.expect(200);
        for path in ["/health", "/", "/api/openapi.json", "/api/csrf-token"] {
            let free = user.get(path).await;
            free.expect(200);
            assert!(!free.headers.contains_key("x-ratelimit-limit"), "{path} is not counted");
        }
    });
}

#[test]
fn three_attempts_of_an_address_at_all_strict_routes_together() {
    support::run(async {
        let bed = Bed::shared(&STRICT, |settings| settings.limits.strict_per_minute = 3);
        let mut user = bed.client();
        user.register().await;
        let wrong = json!({ "email": user.email, "password": "wrong horse" });
        let login = user.post("/api/auth/login", &wrong).await;
        login.expect(401);
        assert_eq!(header(&login, "x-ratelimit-limit"), "3");
        assert_eq!(header(&login, "x-ratelimit-remaining"), "1");
        let garbage = json!({ "refreshToken": "garbage" });
        user.post("/api/auth/refresh", &garbage).await.expect(401);

        let right = json!({ "email": user.email, "password": PASSWORD });
        for (path, body) in [
            ("/api/auth/login", &right),
            ("/api/auth/register", &right),
            ("/api/auth/refresh", &garbage),
            // The router resolves escapes, so the limits must too.
            ("/api/auth/%6Cogin", &right),
            ("/%61pi/auth/login", &right),
        ] {
            // Another client is the same address.
            let refused = Client::new(user.address).post(path, body).await;
            assert_refused(&refused, "3");
            assert_eq!(refused.json()["error"]["code"], "RATE_LIMIT_EXCEEDED", "{path}");
        }
        user.get("/api/auth/me").await.expect(200);
        let body = json!({ "refreshToken": user.refresh_token });
        user.post("/api/auth/logout", &body).await.expect(200);
    });
}

#[test]
fn logins_to_a_platform_are_counted_for_the_user_and_not_for_the_address() {
    static LOGINS: Slot = slot();
    support::run(async {
        let bed = Bed::shared(&LOGINS, |settings| settings.limits.strict_per_minute = 3);
        let (user, other) = (bed.user().await, bed.user().await);
        let verify = async |user: &Client| user.post("/api/telegram/auth/verify", &json!({})).await;
        for left in (0..3).rev() {
            let answer = verify(&user).await;
            answer.expect(400);
            assert_eq!(header(&answer, "x-ratelimit-remaining"), left.to_string());
        }
        assert_refused(&verify(&user).await, "3");
        verify(&other).await.expect(400);
        let garbage = json!({ "refreshToken": "garbage" });
        user.post("/api/auth/refresh", &garbage).await.expect(401);
        assert_refused(&user.post("/api/auth/refresh", &garbage).await, "3");
        verify(&other).await.expect(400);
    });
}

#[test]
fn the_operators_token_cannot_be_guessed_at_the_numbers_either() {
    static GUESSES: Slot = slot();
    support::run(async {
        let bed = Bed::shared(&GUESSES, |settings| settings.limits.standard_per_minute = 3);
        let mut operator = bed.client();
        operator.token = Some(ADMIN_TOKEN.to_owned());
        for _ in 0..10 {
            operator.get("/metrics").await.expect(200);
            bed.client().get("/metrics").await.expect(401);
        }
        let mut guess = bed.client();
        guess.token = Some("an-administration-token-for-testz".to_owned());
        for _ in 0..3 {
            guess.get("/metrics").await.expect(403);
        }
        let refused = guess.get("/metrics").await;
        assert_eq!(refused.expect(429)["error"]["code"], "RATE_LIMIT_EXCEEDED");
        assert!(refused.headers.contains_key("retry-after"));
        // Else whoever guesses would learn it when the guess is right.
        operator.get("/metrics").await.expect(429);
        guess.get("/api/admin/tree").await.expect(429);
    });
}

#[test]
fn an_invented_sender_does_not_escape_its_limit() {
    static INVENTED: Slot = slot();
    support::run(async {
        let bed = Bed::shared(&INVENTED, |settings| settings.limits.strict_per_minute = 3);
        let client = bed.client();
        let mut statuses = Vec::new();
        for number in 0..4 {
            let request = client.request(reqwest::Method::POST, "/api/auth/refresh");
            let request = request.header("x-forwarded-for", format!("198.51.100.{number}"));
            let answer = support::answer(request.json(&json!({ "refreshToken": "garbage" }))).await;
            statuses.push(answer.status.as_u16());
        }
        assert_eq!(statuses, [401, 401, 401, 429]);
    });
}

#[test]
fn requests_at_once_do_not_slip_through() {
    static AT_ONCE: Slot = slot();
    support::run(async {
        let bed = Bed::shared(&AT_ONCE, |settings| settings.limits.standard_per_minute = 5);
        let user = bed.user().await;
        let answers = futures_util::future::join_all((0..40).map(|_| user.get("/api/auth/me"))).await;
        let passed = answers.iter().filter(|answer| answer.status == 200).count();
        let refused = answers.iter().filter(|answer| answer.status == 429).count();
        assert_eq!((passed, refused), (5, 35));
    });
}

/// Two hubs, one database and one Redis: they count together.
async fn pair(database: &Database) -> (Process, Process) {
    let redis = std::env::var("HUB_TEST_REDIS_URL").expect("HUB_TEST_REDIS_URL must name a Redis: run ./test.sh");
    let variables = [
        ("HUB__REDIS__URL", redis.as_str()),
        ("HUB__LIMITS__STANDARD_PER_MINUTE", "5"),
        ("HUB__LIMITS__STRICT_PER_MINUTE", "3"),
        ("HUB__SERVER__TRUSTED_PROXIES", "127.0.0.0/8"),
    ];
    let first = Process::start_with(database, &variables).await;
    (first, Process::start_with(database, &variables).await)
}

#[test]
fn two_hubs_count_together_over_redis() {
    support::run(async {
        let database = Database::fresh(Kind::Postgres).await;
        let (first, second) = pair(&database).await;
        // An address of its own: the strict counters of other tests are in the same Redis.
        let here = format!(
            "2001:db8:{:x}:{:x}::1",
            std::process::id() & 0xffff,
            support::now() & 0xffff
        );
        let strict = async |hub: &Process, path: &str, body: &serde_json::Value| {
            let request = hub
                .client()
                .request(reqwest::Method::POST, path)
                .header("x-forwarded-for", &here);
            support::answer(request.json(body)).await
        };
        let person = json!({ "email": "both@example.org", "password": PASSWORD });
        let registered = strict(&first, "/api/auth/register", &person).await;
        assert_eq!(header(&registered, "x-ratelimit-remaining"), "2");
        let mut user = first.client();
        user.keep(&registered.expect(201));
        let garbage = json!({ "refreshToken": "garbage" });
        let refused = strict(&second, "/api/auth/refresh", &garbage).await;
        refused.expect(401);
        assert_eq!(header(&refused, "x-ratelimit-remaining"), "1");
        strict(&first, "/api/auth/refresh", &garbage).await.expect(401);
        for hub in [&first, &second] {
            assert_refused(&strict(hub, "/api/auth/login", &person).await, "3");
        }

        for (left, hub) in [(4, &first), (3, &second), (2, &first), (1, &second), (0, &second)] {
            let answer = user.at(hub.address).get("/api/auth/me").await;
            answer.expect(200);
            assert_eq!(header(&answer, "x-ratelimit-remaining"), left.to_string());
        }
        for hub in [&first, &second] {
            let refused = user.at(hub.address).get("/api/conversations").await;
            assert_refused(&refused, "5");
            assert_eq!(refused.json()["error"], "Rate limit exceeded. Please try again later.");
        }
    });
}
