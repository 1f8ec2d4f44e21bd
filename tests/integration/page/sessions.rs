//! Signing in: what opens, for how long, to whom, and what ends it.

use super::{KEY, with_key};
use crate::harness::{Server, Setup, TASKS, WORKERS};
use crate::http::{Answer, Client};
use bloom_runtime::http::session::Signer;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

const SESSION: &str = "/api/session";
const STATS: &str = "/api/runtime/stats";
const AUDIT: &str = "/api/runtime/audit";
const OWN: (&str, &str) = ("Sec-Fetch-Site", "same-origin");
const HOUR_MS: i64 = 3_600_000;

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Signs in and gives the cookie as a browser sends it back.
#[track_caller]
fn sign_in(server: &Server) -> String {
    let answer = server.client().post(SESSION, json!({"key": KEY}));
    answer.ok(200);
    cookie_of(&answer)
}

#[track_caller]
fn cookie_of(answer: &Answer) -> String {
    let set = answer.header("set-cookie").expect("a cookie");
    set.split(';').next().unwrap().to_owned()
}

fn with_cookie(server: &Server, cookie: &str) -> Client {
    let mut client = server.client();
    client.headers.push(("Cookie".into(), cookie.into()));
    client
}

fn actions(server: &Server) -> Vec<Value> {
    let audit = server.client().with_key(KEY).get(AUDIT).ok(200);
    audit
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["entity_type"] == "session")
        .cloned()
        .collect()
}

#[test]
fn the_key_gives_a_session_that_counts_as_the_key() {
    let server = with_key().start();
    let open = server.client().get(SESSION).ok(200);
    assert_eq!(open, json!({"required": true, "signed_in": false, "expires_at": null}));
    let answer = server.client().post(SESSION, json!({"key": KEY}));
    let state = answer.ok(200);
    let ends = state["expires_at"].as_i64().unwrap();
    assert_eq!((&state["required"], &state["signed_in"]), (&json!(true), &json!(true)));
    assert!((ends - now_ms() - 12 * HOUR_MS).abs() < HOUR_MS / 6, "{state}");
    let set = answer.header("set-cookie").unwrap().to_owned();
    let (value, flags) = set.split_once("; ").unwrap();
    assert_eq!(flags, "HttpOnly; SameSite=Strict; Path=/; Max-Age=43200");
    assert!(value.starts_with("bloom_session=") && !set.contains(KEY));
    let mut client = with_cookie(&server, value);
    assert_eq!(client.get(SESSION).ok(200), state);
    client.get(STATS).ok(200);
    client.get("/l/x/api/runtime/stats").ok(200);
    let made = client.send(
        "POST",
        WORKERS,
        &[OWN, ("Content-Type", "application/json")],
        Some(br#"{"name":"w"}"#),
    );
    made.ok(201);
    // The session is no key, nor the other way round.
    let token = value.split_once('=').unwrap().1;
    server.client().with_key(token).get(STATS).refused(401, "Unauthorized");
    let mut key_as_cookie = with_cookie(&server, &format!("bloom_session={KEY}"));
    key_as_cookie.get(STATS).refused(401, "Unauthorized");
    let state = server.client().with_key(KEY).get(SESSION).ok(200);
    assert_eq!(state, json!({"required": true, "signed_in": true, "expires_at": null}));
}

#[test]
fn the_cookie_is_secure_where_a_trusted_proxy_speaks_https() {
    let server = with_key().start();
    let mut client = server.client();
    let mut ask = |proto: &str| {
        let headers = [("X-Forwarded-Proto", proto), ("Content-Type", "application/json")];
        let body = json!({"key": KEY}).to_string();
        let answer = client.send("POST", SESSION, &headers, Some(body.as_bytes()));
        answer.header("set-cookie").unwrap().ends_with("; Secure")
    };
    assert!(ask("https"));
    assert!(!ask("http"));
    let server = with_key().env("TRUSTED_PROXIES", "10.0.0.1").start();
    let headers = [("X-Forwarded-Proto", "https"), ("Content-Type", "application/json")];
    let body = json!({"key": KEY}).to_string();
    let answer = server.client().send("POST", SESSION, &headers, Some(body.as_bytes()));
    assert!(!answer.header("set-cookie").unwrap().contains("Secure"));
}

#[test]
fn a_wrong_key_gives_nothing_and_guessing_is_slowed_by_source() {
    let server = with_key().stock_limits().start();
    let mut client = server.client();
    let from = |address: &'static str| {
        [("X-Forwarded-For", address), ("Content-Type", "application/json")]
    };
    let mut guess = |key: &str, address| {
        let body = json!({"key": key}).to_string();
        client.send("POST", SESSION, &from(address), Some(body.as_bytes()))
    };
    let wrong = guess("the-key-Zk3q-0002", "203.0.113.8");
    assert_eq!(wrong.refused(401, "This is not the key of this server"), "wrong_key");
    assert_eq!(wrong.header("set-cookie"), None);
    let slowed = (0..30).map(|_| guess("nope", "203.0.113.8")).find(|answer| answer.status == 429);
    let slowed = slowed.expect("after ten in a minute");
    let wait: u64 = slowed.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    // Now even the right key is not looked at, or the guesses would go on; elsewhere it is.
    assert_eq!(guess(KEY, "203.0.113.8").refused_somehow(429), "too_many_requests");
    guess(KEY, "203.0.113.9").ok(200);
    assert_eq!(actions(&server).len(), 1, "what failed is no sign-in");
}

#[test]
fn what_is_no_key_is_said_and_not_repeated() {
    let server = with_key().start();
    let mut client = server.client();
    client.post(SESSION, json!({})).invalid(json!({"key": ["Required"]}));
    let number = json!({"key": ["Expected string, received number"]});
    client.post(SESSION, json!({"key": 7})).invalid(number);
    client.post_nothing(SESSION).invalid_form("Required");
    client.post_text(SESSION, "application/json", b"{\"key\":").unreadable(400);
    client.post(SESSION, json!({"key": "x".repeat(5000)})).unreadable(413);
    client.send("PUT", SESSION, &[], None).refused(401, "Unauthorized");
}

#[test]
fn another_sites_page_changes_nothing_with_the_cookie() {
    let server = with_key().start();
    let cookie = sign_in(&server);
    let mut client = with_cookie(&server, &cookie);
    let host = server.address().to_string();
    let own_origin = format!("http://{host}");
    let worker = "/api/runtime/workers/nobody";
    for headers in [
        &[][..],
        &[("Origin", "http://evil.example")],
        &[("Origin", "null")],
        &[("Origin", "http://127.0.0.1:1")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
        &[("Sec-Fetch-Site", "none")],
        &[("Sec-Fetch-Site", "cross-site"), ("Origin", own_origin.as_str())],
    ] {
        let refused = client.send("DELETE", worker, headers, None);
        assert_eq!(refused.refused_somehow(403), "cross_site", "{headers:?}");
        let refused = client.send("POST", TASKS, headers, Some(b"{}"));
        assert_eq!(refused.refused_somehow(403), "cross_site", "{headers:?}");
    }
    for headers in [&[OWN][..], &[("Origin", own_origin.as_str())]] {
        client.send("DELETE", worker, headers, None).refused(404, "Worker not found");
    }
    // Reading changes nothing, and the key in its header is sent by no foreign page.
    client.get(STATS).ok(200);
    let mut keyed = server.client().with_key(KEY);
    keyed
        .send("DELETE", worker, &[("Origin", "http://a.example")], None)
        .refused(404, "Worker not found");
}

#[test]
fn another_sites_page_changes_nothing_on_a_server_without_a_key() {
    let server = Server::start();
    let mut client = server.client();
    let body = br#"{"context_id":"c","agent_slug":"a","prompt":"p"}"#;
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    for evil in [("Origin", "http://evil.example"), ("Sec-Fetch-Site", "cross-site")] {
        let refused = client.send("POST", TASKS, &[form, evil], Some(body));
        assert_eq!(refused.refused_somehow(403), "cross_site");
    }
    assert_eq!(client.get(STATS).ok(200)["tasks"]["total"], 0);
    client.send("POST", TASKS, &[form], Some(body)).ok(201);
    client.send("POST", TASKS, &[form, OWN], Some(body)).ok(201);
    let state = json!({"required": false, "signed_in": false, "expires_at": null});
    assert_eq!(client.get(SESSION).ok(200), state);
    let answer = client.post(SESSION, json!({"key": "anything"}));
    assert_eq!((answer.ok(200), answer.header("set-cookie")), (state, None));
}

#[test]
fn a_session_goes_on_after_a_restart_and_one_that_was_ended_does_not() {
    let mut server = with_key().start();
    let (kept, ended) = (sign_in(&server), sign_in(&server));
    let answer = with_cookie(&server, &ended).send("DELETE", SESSION, &[OWN], None);
    let state = json!({"required": true, "signed_in": false, "expires_at": null});
    assert_eq!(answer.ok(200), state);
    let set = answer.header("set-cookie").unwrap();
    assert_eq!(set, "bloom_session=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0");
    let check = |server: &Server| {
        with_cookie(server, &kept).get(STATS).ok(200);
        with_cookie(server, &ended).get(STATS).refused(401, "Unauthorized");
        assert_eq!(with_cookie(server, &ended).get(SESSION).ok(200), state);
        let both = format!("{ended}; {kept}");
        with_cookie(server, &both).get(STATS).ok(200);
    };
    check(&server);
    server.kill9();
    server.restart();
    check(&server);
    server.terminate();
    server.restart();
    check(&server);
    let told: Vec<_> = actions(&server).iter().map(|row| row["action"].clone()).collect();
    assert_eq!(told, ["signed_out", "signed_in", "signed_in"]);
}

#[test]
fn a_secret_that_is_set_signs_and_nothing_outlives_it_or_the_key() {
    let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let setup = |secret: &str, key: &str| {
        Setup::default().env("SESSION_SECRET", secret).env("RUNTIME_API_KEY", key)
    };
    let mut server = setup("one-secret-of-many", KEY).start_in(dir.clone());
    let cookie = sign_in(&server);
    with_cookie(&server, &cookie).get(STATS).ok(200);
    server.terminate();
    for (secret, key) in [("another-secret", KEY), ("one-secret-of-many", "another-key")] {
        let mut server = setup(secret, key).start_in(dir.clone());
        with_cookie(&server, &cookie).get(STATS).refused(401, "Unauthorized");
        server.terminate();
    }
    let server = setup("one-secret-of-many", KEY).start_in(dir);
    with_cookie(&server, &cookie).get(STATS).ok(200);
}

#[test]
fn a_session_whose_time_is_over_or_that_was_tampered_with_is_none() {
    let server = with_key().env("SESSION_SECRET", "a secret of the test").start();
    let signer = Signer::new("a secret of the test", KEY);
    let ask = |token: &str| {
        let mut client = with_cookie(&server, &format!("bloom_session={token}"));
        client.get(STATS).status
    };
    let (good, _) = signer.issue(7, now_ms());
    assert_eq!(ask(&good), 200, "the test signs as the server does");
    for signed_in_at in [now_ms() - 12 * HOUR_MS, now_ms() - 500 * HOUR_MS, now_ms() + HOUR_MS, 0] {
        assert_eq!(ask(&signer.issue(7, signed_in_at).0), 401, "{signed_in_at}");
    }
    for at in [0, 15, 16, 47, 48, good.len() - 1] {
        let mut digits = good.clone().into_bytes();
        digits[at] = if digits[at] == b'0' { b'1' } else { b'0' };
        assert_eq!(ask(&String::from_utf8(digits).unwrap()), 401, "{at}");
    }
    assert_eq!(ask(&Signer::new("", KEY).issue(7, now_ms()).0), 401);
}

#[test]
fn ten_thousand_invented_cookies_open_nothing_and_shut_nobody_out() {
    let server = with_key().start();
    let cookie = sign_in(&server);
    let signer = Signer::new("not the secret", KEY);
    let mut client = server.client();
    for n in 0..10_000u32 {
        let (token, _) = signer.issue(u128::from(n), now_ms());
        let lines = format!("bloom_session={token}; bloom_session={n}; bloom_session=");
        let answer = client.send("GET", STATS, &[("Cookie", lines.as_str())], None);
        assert_eq!(answer.status, 401, "{answer}");
    }
    with_cookie(&server, &cookie).get(STATS).ok(200);
}

#[test]
fn no_log_line_audit_entry_event_or_answer_tells_key_cookie_or_secret() {
    const SECRET: &str = "canary-S3cr3t-of-sessions";
    let setup = with_key().env("SESSION_SECRET", SECRET).env("LOG_LEVEL", "trace");
    let mut server = setup.start();
    let cookie = sign_in(&server);
    let mut told = String::new();
    let mut hear = |answer: Answer| told += &format!("{answer:?} {}\n", answer.text());
    let mut client = with_cookie(&server, &cookie);
    hear(client.get(SESSION));
    hear(client.get(AUDIT));
    hear(client.get("/api/runtime/config"));
    hear(client.post(SESSION, json!({"key": "the-wrong-key-Zk3q"})));
    hear(client.send("DELETE", SESSION, &[OWN], None));
    hear(server.client().with_key(KEY).get(AUDIT));
    assert!(told.contains("signed_in") && told.contains("Signed in from 127.0.0.1"), "{told}");
    server.terminate();
    told += &server.said();
    let token = cookie.split_once('=').unwrap().1;
    for secret in [KEY, "Zk3q", SECRET, "S3cr3t", token, &token[16..24], &token[48..64]] {
        assert!(!told.contains(secret), "{secret} is told: {told}");
    }
}
