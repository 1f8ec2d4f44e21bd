//! CONTRACT §1: who may ask, how often, and over what.

use crate::harness::{Server, Setup, TASKS, use_up};
use crate::http::{Answer, Client};

const STATS: &str = "/api/runtime/stats";
const TEST: &str = "/api/runtime/test-connection";

fn with_key() -> Setup {
    Setup::default().env("RUNTIME_API_KEY", "the-key-0001")
}

#[test]
fn a_key_opens_and_nothing_else_does() {
    let server = with_key().start();
    let mut client = server.client();
    let mut ask = |headers: &[(&str, &str)]| client.send("GET", STATS, headers, None);
    ask(&[("X-Runtime-API-Key", "the-key-0001")]).ok(200);
    ask(&[("x-runtime-api-key", "the-key-0001")]).ok(200);
    let wrong =
        ["", "x", "the-key-0002", "the-key-00011", "THE-KEY-0001", "ключ", "the-key-0001,x"];
    for key in wrong {
        ask(&[("X-Runtime-API-Key", key)]).refused(401, "Unauthorized");
    }
    ask(&[("Authorization", "Bearer the-key-0001")]).refused(401, "Unauthorized");
    ask(&[("Cookie", "session=the-key-0001")]).refused(401, "Unauthorized");
    client.get(&format!("{STATS}?x-runtime-api-key=the-key-0001")).refused(401, "Unauthorized");
    let raw = b"GET /api/runtime/stats HTTP/1.1\r\nHost: localhost\r\nX-Runtime-API-Key: \xff\xfe\r\n\r\n";
    server.client().try_raw("GET", STATS, raw).unwrap().refused(401, "Unauthorized");
    let twice = [("X-Runtime-API-Key", "wrong"), ("X-Runtime-API-Key", "wrong too")];
    server.client().send("GET", STATS, &twice, None).refused(401, "Unauthorized");
}

#[test]
fn two_paths_are_open_without_a_key_and_no_other_spelling_opens_a_third() {
    let server = with_key().start();
    let mut client = server.client();
    client.get("/api/runtime/health").ok(200);
    client.get("/API/runtime/Health/").ok(200);
    client.post_nothing(TEST).ok(200);
    let closed = [
        "/API/RUNTIME/config",
        "/api/runtime/config/",
        "/api/runtime/%63onfig",
        "/api/membridge/health",
        "/api/membridge/nope",
        "/api/runtime/nope",
        "/api",
        "/api/",
        "/l/x/api/runtime/config",
        "/L/x/API/runtime/llm-tasks",
        "/api/runtime/health/../config",
        "/api/runtime/events",
        "/api/runtime/workers/health",
        "/api/runtime/health/x",
        "/api/runtime/%68ealth/x",
    ];
    for path in closed {
        for method in ["GET", "POST", "DELETE", "PATCH"] {
            client.send(method, path, &[], None).refused(401, "Unauthorized");
        }
    }
    // 401 comes before a body is looked at.
    client.post_text(TASKS, "application/json", b"{bad").refused(401, "Unauthorized");
    client.post_text(TASKS, "text/plain", b"x").refused(401, "Unauthorized");
}

#[test]
fn without_a_key_the_door_is_open() {
    let server = Server::start();
    let mut client = server.client();
    client.get(STATS).ok(200);
    client.send("GET", STATS, &[("X-Runtime-API-Key", "anything")], None).ok(200);
}

#[test]
fn a_key_may_come_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "key-in-a-file\n").unwrap();
    let server = Setup::default().env("RUNTIME_API_KEY_FILE", file.to_str().unwrap()).start();
    server.client().get(STATS).refused(401, "Unauthorized");
    server.client().with_key("key-in-a-file").get(STATS).ok(200);
}

#[track_caller]
fn limited(answer: &Answer) {
    answer.refused(429, "Too many requests, please try again later");
    let after: u32 = answer.header("retry-after").expect("Retry-After").parse().unwrap();
    assert!((1..=60).contains(&after), "{after} s");
}

#[test]
fn a_hundred_requests_a_minute_then_429_and_the_headers_count_down() {
    let server = Setup::default().stock_limits().start();
    let mut client = server.client();
    let first = client.get(STATS);
    assert_eq!(first.header("ratelimit-policy"), Some("100;w=60"));
    assert_eq!(first.header("ratelimit-limit"), Some("100"));
    assert_eq!(first.header("ratelimit-remaining"), Some("99"));
    let reset: u32 = first.header("ratelimit-reset").unwrap().parse().unwrap();
    assert!(reset <= 60);
    use_up(&mut client, STATS, &[]);
    limited(&client.get(STATS));
    limited(&client.get("/api/runtime/nope"));
    limited(&client.get("/api/membridge/health"));
    limited(&client.post_text(TASKS, "application/json", b"{bad"));
    for _ in 0..120 {
        client.get("/api/runtime/health").ok(200);
    }
}

#[test]
fn a_forwarded_address_has_its_own_bucket_and_only_a_trusted_proxy_is_believed() {
    let server = Setup::default().stock_limits().start();
    let mut client = server.client();
    let from = |address| [("X-Forwarded-For", address)];
    use_up(&mut client, STATS, &from("203.0.113.8"));
    limited(&client.send("GET", STATS, &from("203.0.113.8"), None));
    client.send("GET", STATS, &from("203.0.113.9"), None).ok(200);
    client.get(STATS).ok(200);
    // The rightmost untrusted address counts: what stands left of it is the client's invention.
    limited(&client.send("GET", STATS, &from("198.51.100.77, 203.0.113.8"), None));
    limited(&client.send("GET", STATS, &from("198.51.100.78, 203.0.113.8, 127.0.0.1"), None));

    let server = Setup::default().stock_limits().env("TRUSTED_PROXIES", "10.0.0.1").start();
    let mut client = server.client();
    use_up(&mut client, STATS, &from("203.0.113.8"));
    limited(&client.send("GET", STATS, &from("203.0.113.99"), None));
}

#[test]
fn a_valid_key_has_its_own_generous_limit_and_wrong_keys_are_counted_apart() {
    let server = with_key().stock_limits().start();
    let mut good = server.client().with_key("the-key-0001");
    let mut guess = server.client().with_key("guess");
    for _ in 0..250 {
        // The hundred may start anew when its minute ends: 429 has to come, not when exactly.
        if guess.get(STATS).status == 429 {
            break;
        }
    }
    limited(&guess.get(STATS));
    for _ in 0..150 {
        good.get(STATS).ok(200);
    }
    assert_eq!(good.get(STATS).header("ratelimit-limit"), Some("6000"));
    server.client().post_nothing(TEST).ok(200);

    let server = with_key().stock_limits().env("RATE_LIMIT_AUTHENTICATED", "5").start();
    let mut good = server.client().with_key("the-key-0001");
    use_up(&mut good, STATS, &[]);
    limited(&good.get(STATS));
}

#[test]
fn connection_tests_are_limited_to_twenty_a_minute() {
    let server = Setup::default().stock_limits().start();
    let mut client = server.client();
    let (mut allowed, mut last) = (0, client.post_nothing(TEST));
    while last.status == 200 && allowed < 60 {
        allowed += 1;
        last = client.post_nothing(TEST);
    }
    limited(&last);
    assert!(allowed == 20 || allowed > 20 && allowed <= 40, "{allowed} in a minute, or in two");
    client.get(STATS).ok(200);
}

#[test]
fn zero_switches_the_limits_off() {
    let server = Server::start();
    let mut client = server.client();
    for _ in 0..150 {
        client.get(STATS).ok(200);
    }
    (0..30).for_each(|_| drop(client.post_nothing(TEST).ok(200)));
}

fn plain_http(client: &mut Client, path: &str) -> Answer {
    let headers = [("X-Forwarded-Proto", "http"), ("Host", "bloom.example")];
    client.send("GET", path, &headers, None)
}

#[test]
fn a_proxy_that_says_http_is_sent_to_https_when_it_is_asked_for() {
    let ways = [("NODE_ENV", "production"), ("FORCE_HTTPS", "1")];
    for (name, value) in ways {
        let server = Setup::default().env(name, value).start();
        let mut client = server.client();
        for path in ["/api/runtime/stats?x=1&y=%20", "/", "/tasks", "/api/nope"] {
            let answer = plain_http(&mut client, path);
            assert_eq!(answer.status, 301, "{answer}");
            let there = format!("https://bloom.example{path}");
            assert_eq!(answer.header("location"), Some(there.as_str()));
        }
        for proto in ["https", "HTTP", "http,https", ""] {
            client.send("GET", STATS, &[("X-Forwarded-Proto", proto)], None).ok(200);
        }
        client.get(STATS).ok(200);
    }
    let named = Setup::default().env("ALLOWED_HOSTS", "bloom.example");
    plain_http(&mut named.clone().start().client(), STATS).ok(200);
    let setup = named.env("FORCE_HTTPS", "1").env("TRUSTED_PROXIES", "10.0.0.1");
    plain_http(&mut setup.start().client(), STATS).ok(200);
}
