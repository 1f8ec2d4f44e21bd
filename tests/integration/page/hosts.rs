//! By which names browsers may call: another site that points its own name here gets nothing.

use super::{KEY, with_key};
use crate::harness::{Server, Setup};
use serde_json::json;

const STATS: &str = "/api/runtime/stats";

fn status(server: &Server, path: &str, host: &str, more: &[(&str, &str)]) -> u16 {
    let headers: Vec<_> = [("Host", host)].into_iter().chain(more.iter().copied()).collect();
    let answer = server.client().send("GET", path, &headers, None);
    if answer.status == 421 {
        assert_eq!(answer.refused_somehow(421), "host_not_allowed");
    }
    answer.status
}

#[test]
fn a_foreign_name_gets_neither_page_nor_api() {
    let server = Server::start();
    let paths = ["/", "/tasks", STATS, "/api/runtime/llm-tasks", "/api/session", "/api/nope"];
    for host in ["evil.example", "evil.example:5000", "127.0.0.1.evil.example", "localhost.evil"] {
        for path in paths.into_iter().chain(["/api/runtime/events", "/l/x/api/runtime/config"]) {
            assert_eq!(status(&server, path, host, &[]), 421, "{host} {path}");
        }
        let headers = [("Host", host), ("Content-Type", "application/json")];
        let body = json!({"key": KEY}).to_string();
        let posted = server.client().send("POST", "/api/session", &headers, Some(body.as_bytes()));
        assert_eq!(posted.refused_somehow(421), "host_not_allowed");
    }
}

#[test]
fn addresses_and_the_names_of_the_machine_are_its_own() {
    let setup = Setup::default().env("PUBLIC_URL", "https://Bloom.Example/pre");
    let server = setup.env("ALLOWED_HOSTS", "other.example").start();
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let machine = machine.trim();
    let short = machine.split('.').next().unwrap();
    for host in [
        "127.0.0.1",
        "192.168.1.10:5000",
        "[::1]:5000",
        "[fd00::1]",
        "localhost",
        "LOCALHOST:1",
        "bloom.example",
        "other.example:80",
        machine,
        &format!("{short}:5000"),
        &format!("{short}.local"),
        &format!("{}.lan:80", short.to_uppercase()),
    ] {
        assert_eq!(status(&server, STATS, host, &[]), 200, "{host}");
    }
    assert_eq!(status(&server, STATS, "bloom.example.evil", &[]), 421);
    assert_eq!(status(&server, "/api/runtime/health", "any.name", &[]), 200, "open to monitors");
}

#[test]
fn a_client_with_the_key_in_its_header_may_call_by_any_name_and_a_cookie_may_not() {
    let server = with_key().start();
    let key = [("X-Runtime-API-Key", KEY)];
    assert_eq!(status(&server, STATS, "runtime.in-a-container", &key), 200);
    assert_eq!(status(&server, STATS, "evil.example", &[("X-Runtime-API-Key", "wrong")]), 421);
    let answer = server.client().post("/api/session", json!({"key": KEY}));
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(status(&server, STATS, "localhost", &[("Cookie", &cookie)]), 200);
    assert_eq!(status(&server, STATS, "evil.example", &[("Cookie", &cookie)]), 421);
}
