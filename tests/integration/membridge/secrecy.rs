//! The admin key goes to the configured address, in one header, and is nowhere else (P10).

use super::{BRIDGE, pointed_at};
use crate::harness::Server;
use crate::http::{Client, connect, read_chunk, read_head};
use crate::membridge_standin::{Membridge, Upstream, answer};
use serde_json::json;
use std::io::Write;

/// Long enough to be shown by its ends, and nothing else has these letters.
const CANARY: &str = r#"canary-Q7x"T2mZ9-key"#;

/// Every route that has to do with Membridge, and what tells of what happened; all that was answered.
fn everything(client: &mut Client, url: &str) -> String {
    let mut told = String::new();
    let gets = [
        "/api/membridge/health",
        "/api/membridge/projects",
        "/api/membridge/projects/p/leadership",
        "/api/membridge/projects/p/nodes",
        "/api/membridge/projects/a%2Fb/nodes",
        "/api/runtime/config",
        "/api/runtime/health",
        "/api/runtime/workers",
        "/api/runtime/audit?limit=1000",
        "/api/runtime/stats",
        "/api/runtime/nope",
    ];
    for _ in 0..2 {
        let select = format!("{BRIDGE}/projects/p/leadership/select");
        let mut answers = vec![
            client.post_nothing("/api/runtime/test-connection"),
            client.post(&select, json!({"primary_node_id": "n"})),
            client.post("/api/runtime/config", json!({"membridge_server_url": "http://other:1"})),
            client.post("/api/runtime/config", json!({"membridge_server_url": url})),
        ];
        answers.extend(gets.map(|path| client.get(path)));
        for answer in answers {
            told += &format!("{answer:?}\n{}\n", answer.text());
        }
    }
    told
}

/// What the stream of events tells from the beginning.
fn events(server: &Server) -> String {
    let mut stream = connect(server.address()).unwrap();
    let ask = "GET /api/runtime/events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 0\r\n\r\n";
    stream.get_mut().write_all(ask.as_bytes()).unwrap();
    read_head(&mut stream).unwrap();
    let mut text = String::new();
    while !text.contains("config_updated") {
        let chunk = read_chunk(&mut stream).unwrap().expect("the stream goes on");
        text += &String::from_utf8_lossy(&chunk);
    }
    text
}

#[track_caller]
fn no_canary(told: &str, whose: &str) {
    assert!(told.len() > 100, "{whose}: nothing to look at");
    for piece in ["Q7x", "T2mZ9"] {
        assert!(!told.contains(piece), "{whose} tells the key: {told}");
    }
}

#[test]
fn the_key_is_in_no_answer_event_audit_entry_error_or_log() {
    let honest = Membridge::start();
    let echo = Upstream::start(|asked, stream| {
        // It says everything that it was told, in its refusals, plain and as JSON.
        let head = asked.head.replace("\r\n", " ");
        answer(stream, 400, "", &format!("you said {head} {}", json!(head)));
    });
    for url in [honest.url(), echo.url()] {
        let setup = pointed_at(&url).env("MEMBRIDGE_ADMIN_KEY", CANARY).env("LOG_LEVEL", "trace");
        let mut server = setup.env("MEMBRIDGE_SYNC_SECONDS", "1").start();
        let told = everything(&mut server.client(), &url);
        no_canary(&told, "an answer");
        no_canary(&events(&server), "an event");
        server.terminate();
        no_canary(&server.said(), "the log");
    }
    assert!(echo.seen().iter().any(|asked| asked.head.contains(CANARY)), "the echo had it to tell");
}

#[test]
fn the_key_stands_in_exactly_one_header_of_each_call_and_nowhere_else() {
    let upstream = Upstream::start(|_, stream| answer(stream, 200, "", "[]"));
    let setup = pointed_at(&upstream.url()).env("MEMBRIDGE_ADMIN_KEY", CANARY);
    let server = setup.env("MEMBRIDGE_SYNC_SECONDS", "1").start();
    everything(&mut server.client(), &upstream.url());
    upstream.wait_for("the sync", |asked| asked.path == "/agents");
    let seen = upstream.seen();
    assert!(seen.len() >= 12, "{}", seen.len());
    for asked in seen {
        // The test's first half proves reachability alone, and shows its answer to anybody.
        let expected = if asked.path == "/health" { 0..=1 } else { 1..=1 };
        assert!(expected.contains(&asked.head.matches(CANARY).count()), "{}", asked.head);
        let headers = asked.headers("x-membridge-admin");
        assert!(headers.is_empty() || headers == [CANARY], "{}", asked.head);
        assert!(!asked.body.contains(CANARY) && !asked.path.contains(CANARY));
        assert_eq!(asked.headers("content-type"), ["application/json"]);
        assert_eq!(asked.headers("x-runtime-api-key"), [""; 0]);
    }
}
