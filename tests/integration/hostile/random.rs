//! Random requests against the real server: any method, path, headers and body. It must never fail,
//! and what it says it did must be what is there afterwards.
//!
//! `PROPTEST_CASES` says how many requests, `BLOOM_FUZZ_SEED` (printed by a failure) repeats a run. What
//! was found once stands as a test of its own in `smuggling`, `crowds` and `weights`.

use super::{KEY, STATS, keyed, open};
use crate::harness::{Setup, TASKS, rows};
use crate::http::{Answer, Client, read_body, read_head};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Requests unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 1_500;

/// Why a 503 may be said; each is a limit with a name, or a fleet without a free worker.
const NAMED_503: [&str; 14] = [
    "busy",
    "bodies_in_flight",
    "answers_in_flight",
    "too_many_listeners",
    "too_many_tests",
    "queue_full",
    "too_many_workers",
    "too_many_waiting",
    "no_worker_registered",
    "worker_unknown",
    "worker_not_online",
    "worker_without_claude_cli",
    "worker_label_missing",
    "worker_at_capacity",
];

/// Methods and paths below `/api/runtime`, with the place of a fitting body; the placeholders become ids
/// that exist. What changes something stands here more than once.
const CALLS: [(&str, &str, usize); 31] = [
    ("GET", "/health", 0),
    ("GET", "/config", 0),
    ("POST", "/config", 12),
    ("POST", "/test-connection", 0),
    ("GET", "/workers", 0),
    ("POST", "/workers", 4),
    ("POST", "/workers", 5),
    ("GET", "/workers/{worker}", 0),
    ("POST", "/workers/{worker}/claim", 7),
    ("POST", "/workers/{worker}/claim", 7),
    ("GET", "/llm-tasks", 0),
    ("POST", "/llm-tasks", 1),
    ("POST", "/llm-tasks", 2),
    ("POST", "/llm-tasks", 3),
    ("POST", "/llm-tasks", 11),
    ("GET", "/llm-tasks/{task}", 0),
    ("GET", "/llm-tasks/{task}/result", 0),
    ("POST", "/llm-tasks/{task}/lease", 6),
    ("POST", "/llm-tasks/{task}/lease", 6),
    ("POST", "/llm-tasks/{task}/heartbeat", 8),
    ("POST", "/llm-tasks/{task}/complete", 9),
    ("POST", "/llm-tasks/{task}/complete", 10),
    ("POST", "/llm-tasks/{task}/requeue", 0),
    ("POST", "/llm-tasks/{task}/cancel", 0),
    ("GET", "/leases", 0),
    ("GET", "/runs", 0),
    ("GET", "/artifacts", 0),
    ("GET", "/artifacts/{task}", 0),
    ("GET", "/artifacts/{task}/content", 0),
    ("GET", "/audit", 0),
    ("GET", "/stats", 0),
];

/// Bodies that some route takes; none of them lets the server call out.
const BODIES: [&str; 13] = [
    "{}",
    r#"{"context_id":"c","agent_slug":"a","prompt":"p"}"#,
    r#"{"context_id":"c","agent_slug":"a","prompt":"p","priority":5,"labels":["x"],"max_attempts":1}"#,
    r#"{"context_id":"c","agent_slug":"a","prompt":"p","context_hints":{"f":1},"policy":{"budget":0.5}}"#,
    r#"{"name":"{worker}","capabilities":{"max_concurrency":4,"labels":["x"]}}"#,
    r#"{"name":"w-2","status":"offline","url":""}"#,
    r#"{"worker_id":"{worker}","ttl_seconds":"60"}"#,
    r#"{"wait_seconds":0,"lease_seconds":60}"#,
    r#"{"lease_id":"{lease}"}"#,
    r#"{"lease_id":"{lease}","status":"success","output":"x","metrics":{"duration_ms":1}}"#,
    r#"{"status":"error","error_message":"x","metrics":{"duration_ms":1,"tokens_used":null}}"#,
    "context_id=c&agent_slug=a&prompt=p%20q",
    r#"{"membridge_server_url":5}"#,
];

/// What is put into a body or a path at a random place.
const NASTY: [&str; 22] = [
    "\0",
    "\u{feff}",
    "\\ud800",
    "%",
    "%00",
    "%2F",
    "..",
    "'",
    "\"",
    "{",
    "}",
    "[",
    "null",
    "-1",
    "1e999",
    "9007199254740993",
    "18446744073709551616",
    "true",
    "\u{202e}",
    "ключ",
    "&",
    "=",
];

#[derive(Debug)]
struct Shape {
    method: String,
    path: String,
    query: String,
    headers: Vec<String>,
    body: Vec<u8>,
    is_chunked: bool,
    has_key: bool,
}

fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(&NASTY[..]).prop_map(str::to_owned),
        1 => any::<String>(),
        1 => (1usize..6000).prop_map(|count| "x".repeat(count)),
        1 => (1usize..300).prop_map(|depth| "[".repeat(depth)),
    ]
}

/// Something nasty for here and there in a text; nothing in most of them.
type Spoils = Vec<(prop::sample::Index, String, usize)>;

fn spoils(chance: f64) -> impl Strategy<Value = Spoils> {
    let spoils = prop::collection::vec((any::<prop::sample::Index>(), nasty(), 0usize..4), 1..3);
    prop::option::weighted(chance, spoils).prop_map(Option::unwrap_or_default)
}

fn spoil(text: &str, spoils: Spoils) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (place, nasty, gone) in spoils {
        let from = place.index(chars.len() + 1);
        let to = chars.len().min(from + gone);
        drop(chars.splice(from..to, nasty.chars()));
    }
    chars.into_iter().collect()
}

/// One in so many times, something else than what fits.
fn rarely<T: std::fmt::Debug>(
    chance: f64,
    other: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    prop::option::weighted(chance, other)
}

fn shape() -> impl Strategy<Value = Shape> {
    let other_method = prop_oneof![
        3 => prop::sample::select(
            &["GET", "POST", "HEAD", "DELETE", "OPTIONS", "PUT", "PATCH", "TRACE"][..]
        )
        .prop_map(str::to_owned),
        1 => "[A-Z!#$%&'*+.^_`|~-]{1,12}",
    ];
    let other_body = prop_oneof![
        3 => prop::sample::select(&BODIES[..]).prop_map(|body| body.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ];
    let query = prop_oneof![
        4 => Just(String::new()),
        1 => "\\?(status=[a-z]{0,8}|limit=[0-9a-z-]{0,25}|cursor=[0-9a-fx+]{0,20}|task_id=.{0,9}|[&=%+]{1,9}){0,4}",
    ];
    let header = prop_oneof![
        4 => Just("Content-Type: application/json".to_owned()),
        1 => Just("Content-Type: text/plain; charset=utf-16".to_owned()),
        1 => Just("Content-Type: application/x-www-form-urlencoded".to_owned()),
        1 => Just("Content-Encoding: gzip".to_owned()),
        2 => Just("Expect: 100-continue".to_owned()),
        2 => Just("Upgrade: h2c".to_owned()),
        4 => "(X-Forwarded-For|X-Forwarded-Proto|X-Request-Id|Last-Event-ID|Range|Cookie|Accept): [ -~]{0,40}",
    ];
    (
        prop::sample::select(&CALLS[..]),
        (rarely(0.15, other_method), rarely(0.15, other_body), rarely(0.05, any::<String>())),
        (spoils(0.08), spoils(0.3), query),
        prop::collection::vec(header, 0..3),
        (prop::bool::weighted(0.1), prop::bool::weighted(0.2), prop::bool::weighted(0.95)),
    )
        .prop_map(|(call, other, (in_path, in_body, query), headers, flags)| {
            let (is_behind_lease, is_chunked, has_key) = flags;
            let (method, path, body) = call;
            let path = match (other.2, is_behind_lease) {
                (Some(path), _) => format!("/{path}"),
                (None, false) => format!("/api/runtime{}", spoil(path, in_path)),
                (None, true) => format!("/L/{{lease}}/API/Runtime{}/", spoil(path, in_path)),
            };
            Shape {
                method: other.0.unwrap_or_else(|| method.into()),
                path,
                query,
                headers,
                body: other.1.unwrap_or_else(|| spoil(BODIES[body], in_body).into_bytes()),
                is_chunked,
                has_key,
            }
        })
}

/// Ids that the placeholders stand for; the newest of each kind is in most demand.
#[derive(Default)]
struct Known {
    task: String,
    lease: String,
    worker: String,
}

impl Shape {
    fn bytes(&self, known: &Known) -> Vec<u8> {
        let fill = |text: &str| {
            text.replace("{task}", &known.task)
                .replace("{lease}", &known.lease)
                .replace("{worker}", &known.worker)
        };
        // Anything but what would end the line.
        let line = |text: String| text.replace(['\r', '\n', ' ', '\t'], "_");
        let target = line(fill(&self.path) + &self.query);
        let mut bytes =
            format!("{} {target} HTTP/1.1\r\nHost: localhost\r\n", self.method).into_bytes();
        if self.has_key {
            bytes.extend_from_slice(format!("X-Runtime-API-Key: {KEY}\r\n").as_bytes());
        }
        for header in &self.headers {
            bytes.extend_from_slice(format!("{header}\r\n").as_bytes());
        }
        let body = match str::from_utf8(&self.body) {
            Ok(text) => fill(text).into_bytes(),
            Err(_) => self.body.clone(),
        };
        bytes.extend_from_slice(b"Connection: close\r\n");
        if self.is_chunked {
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for part in body.chunks(37) {
                bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                bytes.extend_from_slice(part);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            bytes.extend_from_slice(&body);
        }
        bytes
    }
}

/// The answer, without the body of a stream that does not end; none if the connection just ended.
fn ask(mut stream: TcpStream, shape: &Shape, bytes: &[u8]) -> Option<Answer> {
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    stream.write_all(bytes).ok();
    let mut stream = BufReader::new(stream);
    let mut answer = read_head(&mut stream).ok()?;
    let is_stream = answer.header("content-type").is_some_and(|kind| kind.contains("event-stream"));
    if shape.method != "HEAD" && answer.status != 204 && !is_stream {
        answer.body = read_body(&mut stream, &answer).expect("a whole answer");
    }
    Some(answer)
}

#[test]
fn random_requests_never_fail_and_what_they_did_is_what_is_there() {
    let seed = std::env::var("BLOOM_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()) << 20 | 0xb100);
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (strategy, mut known) = (shape(), Known::default());

    let server = Setup::default().env("RUNTIME_API_KEY", KEY).env("LOG_LEVEL", "warn").start();
    let mut client: Client = keyed(&server);
    let (mut tasks, mut leases, mut answered) = (0, 0, 0);
    for n in 0..cases.unwrap_or(CASES) {
        let shape = strategy.new_tree(&mut runner).expect("a shape").current();
        known.worker = format!("w-{}", n / 64);
        let bytes = shape.bytes(&known);
        let told = || format!("BLOOM_FUZZ_SEED={seed}, request {n}: {}", bytes.escape_ascii());
        let Some(answer) = ask(open(&server), &shape, &bytes) else { continue };
        answered += 1;
        if answer.status >= 500 && shape.method != "HEAD" {
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let code = body["code"].as_str().unwrap_or_default();
            assert!(answer.status == 503 && NAMED_503.contains(&code), "{answer}\n{}", told());
        }
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if answer.status == 201 && body["prompt"].is_string() {
            tasks += 1;
            known.task = body["id"].as_str().expect("an id").into();
        } else if body["lease"]["fence"].is_number() && !body["expires_at"].is_number() {
            leases += 1;
            known.lease = body["lease"]["id"].as_str().expect("an id").into();
        }
    }

    let stats = client.get(STATS).ok(200);
    let by_status = stats["tasks"]["by_status"].as_object().expect("counts");
    let sum: u64 = by_status.values().filter_map(Value::as_u64).sum();
    let seed = format!("BLOOM_FUZZ_SEED={seed}: {stats}");
    assert_eq!((stats["tasks"]["total"].as_u64(), sum), (Some(tasks), tasks), "{seed}");
    assert_eq!(stats["leases"]["total"].as_u64(), Some(leases), "{seed}");
    let listed = rows(&client.get(&format!("{TASKS}?limit=1000"))).len() as u64;
    assert_eq!(listed, tasks.min(1000), "{seed}");
    assert!(u64::from(cases.unwrap_or(CASES)) < 60 * (tasks + leases), "{seed}");
    assert!(answered > cases.unwrap_or(CASES) / 2, "{seed}: {answered} answers");
    assert!(!server.said().contains("panicked"), "{seed}");
}
