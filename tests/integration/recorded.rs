//! Today's system, exchange by exchange: what it answered, ours answers too.
//!
//! `tests/data/runtime.jsonl` is read in its order. `{{x}}` stands for an id: where it is not yet
//! known, the answer teaches it. Steps that were not recorded are in `before`, by the name of the
//! exchange they precede. Volatile pointers, fields that we add, the order of keys and `storage`
//! are no difference; 2 equals 2.0; the wording about an unreadable body, Membridge's too, is free.

use crate::harness::{Server, Setup, WORKERS, eventually, failure, id, success, use_up};
use crate::http::{Answer, Client};
use crate::membridge_standin::{Asked, Upstream, answer};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const RECORDED: &str = include_str!("../data/runtime.jsonl");
/// Node's words for what is no JSON.
const WORDS_OF_NODE: [&str; 2] =
    ["membridge: membridge nodes not json", "membridge: test-connection html"];
/// The audit's newest rows were recorded, not all hundred.
const FIRST_ROWS_ONLY: [&str; 3] =
    ["open: audit ?limit=abc", "open: audit ?limit=9007199254740993", "open: audit ?limit="];

struct Exchange {
    name: String,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
    status: u16,
    answer: Value,
    volatile: Vec<String>,
}

/// The exchanges of one setting, in their order.
fn exchanges(setting: &str) -> Vec<Exchange> {
    let all = RECORDED.lines().map(|line| {
        let line: Value = serde_json::from_str(line).expect("a line is JSON");
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let request = &line["request"];
        let headers = request["headers"].as_object().into_iter().flatten();
        let volatile = line["volatile"].as_array().into_iter().flatten();
        Exchange {
            name: text(&line["name"]).expect("a name"),
            method: text(&request["method"]).expect("a method"),
            path: text(&request["path"]).expect("a path"),
            headers: headers.map(|(k, v)| (k.clone(), text(v).expect("a header"))).collect(),
            body: text(&request["body"]),
            status: line["status"].as_u64().expect("a status") as u16,
            answer: line["body"].clone(),
            volatile: volatile.filter_map(text).collect(),
        }
    });
    let prefix = format!("{setting}: ");
    all.filter(|one| one.name.starts_with(&prefix)).collect()
}

/// What the placeholders stand for.
#[derive(Default)]
struct Known(HashMap<String, String>);

impl Known {
    fn teach(&mut self, name: &str, id: String) {
        self.0.insert(format!("{{{{{name}}}}}"), id);
    }

    #[track_caller]
    fn id(&self, name: &str) -> String {
        self.fill(&format!("{{{{{name}}}}}"))
    }

    fn fill(&self, text: &str) -> String {
        let known = self.0.iter();
        known.fold(text.to_owned(), |text, (name, id)| text.replace(name.as_str(), id))
    }

    /// What differs between the recorded value and ours, by JSON pointer.
    fn compare(
        &mut self,
        at: &str,
        theirs: &Value,
        ours: &Value,
        free: &dyn Fn(&str) -> bool,
    ) -> Vec<String> {
        if free(at) {
            return Vec::new();
        }
        match (theirs, ours) {
            (Value::Object(theirs), Value::Object(ours)) => {
                let mut differences = Vec::new();
                for (key, value) in theirs {
                    let at = format!("{at}/{key}");
                    let missing = Value::String("(missing)".into());
                    let our = ours.get(key).unwrap_or(&missing);
                    differences.extend(self.compare(&at, value, our, free));
                }
                differences
            }
            (Value::Array(theirs), Value::Array(ours)) if theirs.len() == ours.len() => {
                let pairs = theirs.iter().zip(ours).enumerate();
                pairs
                    .flat_map(|(n, (a, b))| self.compare(&format!("{at}/{n}"), a, b, free))
                    .collect()
            }
            (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => Vec::new(),
            (Value::String(a), Value::String(b)) => {
                if a.starts_with("{{") && !self.0.contains_key(a) {
                    self.0.insert(a.clone(), b.clone());
                }
                let filled = self.fill(a);
                if filled == *b {
                    Vec::new()
                } else {
                    vec![format!("{at}: {filled:?}, ours {b:?}")]
                }
            }
            (a, b) if a == b => Vec::new(),
            (a, b) => vec![format!("{at}: {a}, ours {b}")],
        }
    }

    fn ask(&self, client: &mut Client, exchange: &Exchange) -> Answer {
        let path = self.fill(&exchange.path);
        let headers = exchange.headers.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let headers: Vec<_> = headers.collect();
        let body = exchange.body.as_ref().map(|body| body.as_bytes());
        client.send(&exchange.method, &path, &headers, body)
    }

    /// One exchange; the differences, each under its name.
    fn check(&mut self, client: &mut Client, exchange: &Exchange) -> Vec<String> {
        let answer = self.ask(client, exchange);
        let name = &exchange.name;
        if answer.status != exchange.status {
            return vec![format!("{name}: status {}, but {answer}", exchange.status)];
        }
        let unreadable = exchange.status == 400 && exchange.answer.get("message").is_some();
        let free = |at: &str| {
            exchange.volatile.iter().any(|pointer| pointer == at)
                || at == "/storage"
                || (unreadable && at == "/message" && answer.json()["message"].is_string())
                || (WORDS_OF_NODE.contains(&name.as_str()) && at == "/error")
        };
        let ours = match &exchange.answer {
            Value::String(_) => Value::String(answer.text()),
            _ => match (answer.json(), FIRST_ROWS_ONLY.contains(&name.as_str())) {
                (Value::Array(rows), true) => rows.into_iter().take(3).collect(),
                (ours, _) => ours,
            },
        };
        let differences = self.compare("", &exchange.answer, &ours, &free);
        differences.into_iter().map(|difference| format!("{name}: {difference}")).collect()
    }
}

/// Goes through one setting, with the steps between; fails once, with all differences.
fn replay(setting: &str, client: &mut Client, before: impl Fn(&str, &mut Client, &mut Known)) {
    let mut known = Known::default();
    let mut differences = Vec::new();
    for exchange in exchanges(setting) {
        let step = exchange.name.split_once(": ").map(|(_, step)| step).expect("setting: step");
        before(step, client, &mut known);
        differences.extend(known.check(client, &exchange));
    }
    let count = differences.len();
    assert!(differences.is_empty(), "{count} differences:\n{}", differences.join("\n"));
}

fn production() -> Setup {
    let setup = Setup::default().env("NODE_ENV", "production");
    setup.env("MEMBRIDGE_SERVER_URL", "http://127.0.0.1:18999")
}

/// The recording began after the first round of the worker sync, which had found nobody.
fn after_a_sync(setup: Setup) -> Server {
    let server = setup.env("MEMBRIDGE_SYNC_SECONDS", "3600").start();
    eventually("the first round of the sync", || {
        let health = server.client().get("/api/runtime/health").ok(200);
        health["membridge"]["lastError"].is_string().then_some(())
    });
    server
}

/// Completes all that the worker holds, so that its count of leases is what was recorded.
fn free(client: &mut Client, worker: &str) {
    for lease in client.get(&format!("{WORKERS}/{worker}")).ok(200)["leases"].as_array().unwrap() {
        let task = lease["task_id"].as_str().unwrap();
        // A lease of one second may have ended by itself meanwhile: 409, and as free.
        let answer = client.act(task, "complete", success("done"));
        assert!(answer.status == 200 || answer.status == 409, "{answer}");
    }
}

fn create(client: &mut Client, known: &mut Known, name: &str, context: &str) {
    let task = client.create(json!({"context_id": context}));
    known.teach(name, id(&task));
}

/// The steps of the *open* setting that were not recorded.
fn before_open(step: &str, client: &mut Client, known: &mut Known) {
    match step {
        "worker delete w-caps" => drop(client.register("w-caps", 2)),
        "task get" => {
            let task = client.create(json!({
                "context_id": "ctx-all", "agent_slug": "coder", "prompt": "привіт 👋\nline two",
                "context_hints": ["a", "b"], "policy": {"budget": 0.25, "timeout_sec": 3600},
                "desired_format": "json", "max_attempts": 10,
            }));
            known.teach("t_all", id(&task));
        }
        "lease no workers" => drop(client.delete(&format!("{WORKERS}/a%2Fb%20%D1%86")).ok(200)),
        "lease only workers without claude_cli" => {
            let worker = json!({"name": "nocli", "capabilities": {"claude_cli": false}});
            client.post(WORKERS, worker).ok(201);
            create(client, known, "t_nocli", "ctx-nocli");
        }
        "create t_b" => {
            let worker = json!({"name": "w1", "capabilities": {"labels": ["l"]}});
            client.post(WORKERS, worker).ok(201);
            create(client, known, "t_a", "ctx-a");
        }
        "task after lease ttl 0" => {
            client.register("w2", 32);
            create(client, known, "t_ttl0", "ctx-ttl-0");
            client.lease(&known.id("t_ttl0"), "w2", 0);
        }
        "lease ttl \"60\"" | "lease for heartbeat" => {
            free(client, "w2");
            if step.ends_with("heartbeat") {
                create(client, known, "t_hb", "ctx-hb");
            }
        }
        "task after lease ttl 1e10" => {
            let body = json!({"worker_id": "w2", "ttl_seconds": 1e10});
            client.act(&known.id("t_ttl5"), "lease", body).refused_somehow(400);
        }
        "lease ttl 1" | "lease ttl \" 7 \"" | "lease ttl -0" => {
            free(client, "w2");
            let number = match step {
                "lease ttl 1" => 11,
                "lease ttl -0" => 14,
                _ => 13,
            };
            create(client, known, &format!("t_ttl{number}"), &format!("ctx-ttl-{number}"));
        }
        "lease worker_id array" => create(client, known, "t_wid3", "ctx-wid-3"),
        "create sticky 2" => {
            free(client, "w2");
            for n in 0..11 {
                create(client, known, "filler", &format!("ctx-filler-{n}"));
                client.lease(&known.id("filler"), "w2", 300);
            }
            client.register("w3", 2);
            create(client, known, "t_s1", "ctx-sticky");
            client.lease(&known.id("t_s1"), "w3", 300);
        }
        "task after heartbeat" => {
            drop(client.act(&known.id("t_hb"), "heartbeat", json!({})).ok(200))
        }
        "complete no body" => {
            create(client, known, "t_co", "ctx-co");
            client.lease(&known.id("t_co"), "w2", 300);
        }
        "audit ?limit=2" => {
            let (failed, nul) = (known.id("t_a"), known.id("t_nul"));
            client.act(&failed, "complete", failure("boom")).ok(200);
            client.lease(&nul, "w2", 300);
            let nul_body = json!({"status": "success", "output": "a\u{0}b",
                "metrics": {"duration_ms": 9_007_199_254_740_991_u64}});
            client.act(&nul, "complete", nul_body).ok(200);
            client.act(&failed, "requeue", json!({})).ok(200);
        }
        _ => {}
    }
}

#[test]
fn without_a_key_every_recorded_answer_is_ours() {
    let server = after_a_sync(production());
    replay("open", &mut server.client(), before_open);
}

#[test]
fn with_a_key_every_recorded_answer_is_ours() {
    let server = after_a_sync(production().env("RUNTIME_API_KEY", "test-runtime-key-0001"));
    replay("auth", &mut server.client(), |_, _, _| {});
}

#[test]
fn expired_leases_give_every_recorded_answer() {
    let server = production().start();
    replay("expiry", &mut server.client(), |step, client, known| match step {
        "lease x_leased" => {
            let task = client.create(json!({"max_attempts": 2}));
            known.teach("x_leased", id(&task));
        }
        // The count in a lease's answer is the one before it: the first lease has to be over.
        "create x_last" => drop(client.until(&known.id("x_leased"), "queued")),
        "x_leased after sweep" => {
            client.lease(&known.id("x_running"), "w", 1);
            client.act(&known.id("x_running"), "heartbeat", json!({})).ok(200);
        }
        "x_last after sweep" => drop(client.until(&known.id("x_last"), "dead")),
        _ => {}
    });
}

#[test]
fn the_stock_limits_give_every_recorded_answer() {
    let server = production().stock_limits().start();
    replay("limited", &mut server.client(), |step, client, _| match step {
        "request 101" => use_up(client, "/api/runtime/stats", &[]),
        "test-connection 20" => (0..19).for_each(|_| {
            let from = [("X-Forwarded-For", "203.0.113.8")];
            client.send("POST", "/api/runtime/test-connection", &from, None).ok(200);
        }),
        _ => {}
    });
}

/// The control plane of that recording: it says what it was asked.
fn echo(asked: &Asked, stream: &mut TcpStream, html: bool) {
    let (method, url) = (&asked.method, &asked.path);
    let seen = json!({"method": method, "url": url, "admin": asked.headers("x-membridge-admin").first(),
        "ctype": asked.headers("content-type")[0]});
    let (status, body) = match url.as_str() {
        _ if html => (200, "<html>not json...".to_owned()),
        "/health" => (200, json!({"status": "ok", "service": "mock-membridge"}).to_string()),
        "/projects" => (200, json!([{"canonical_id": "p1", "seen": seen}]).to_string()),
        "/projects/missing/nodes" => (404, "{}".to_owned()),
        "/projects/nojson/nodes" => (200, "hello".to_owned()),
        _ => {
            let what = url.strip_prefix("/projects/p1/").expect("the project of the recording");
            let answer = json!({"project": "p1", "what": what, "seen": seen, "body": asked.body});
            (200, answer.to_string())
        }
    };
    answer(stream, status, "", &body);
}

#[test]
fn with_a_control_plane_every_recorded_answer_is_ours() {
    let html = Arc::new(AtomicBool::new(false));
    let says_html = html.clone();
    let upstream = Upstream::start(move |asked, stream| {
        echo(asked, stream, says_html.load(Ordering::SeqCst));
    });
    let setup = production().env("MEMBRIDGE_SERVER_URL", &upstream.url());
    let server = setup.env("MEMBRIDGE_ADMIN_KEY", "mock-admin-key").start();
    replay("membridge", &mut server.client(), |step, _, _| {
        html.store(step == "test-connection html", Ordering::SeqCst);
    });
}

#[test]
fn nothing_that_was_recorded_is_left_out() {
    let settings = ["open", "auth", "membridge", "expiry", "limited"];
    let checked: usize = settings.map(|setting| exchanges(setting).len()).iter().sum();
    assert_eq!(checked, RECORDED.lines().count());
}

#[test]
fn a_comparison_sees_a_wrong_value_a_missing_field_and_a_shorter_list() {
    let mut known = Known::default();
    let theirs = json!({"a": 1, "b": [1, 2], "id": "{{x}}", "again": "{{x}}"});
    let same = json!({"a": 1.0, "b": [1, 2], "id": "i", "again": "i", "new": true});
    assert_eq!(known.compare("", &theirs, &same, &|_| false), Vec::<String>::new());
    let wrong = json!({"a": 2, "b": [1], "id": "i"});
    assert_eq!(known.compare("", &theirs, &wrong, &|_| false).len(), 3);
}
