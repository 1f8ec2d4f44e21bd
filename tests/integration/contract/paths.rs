//! CONTRACT §1: paths, methods, the order of checks, request ids.

use crate::harness::{Server, Setup, TASKS, WORKERS, success, under};
use serde_json::json;
use std::collections::BTreeSet;

/// Every path of §3 with what it allows; `{task}` and the like are filled by the test.
const ALLOWED: [(&str, &str); 24] = [
    ("/api/runtime/health", "GET HEAD"),
    ("/api/runtime/config", "GET HEAD POST DELETE"),
    ("/api/runtime/test-connection", "POST"),
    ("/api/runtime/workers", "GET HEAD POST"),
    ("/api/runtime/workers/w", "GET HEAD DELETE"),
    ("/api/runtime/workers/w/claim", "POST"),
    ("/api/runtime/llm-tasks", "GET HEAD POST"),
    ("/api/runtime/llm-tasks/{task}", "GET HEAD"),
    ("/api/runtime/llm-tasks/{task}/lease", "POST"),
    ("/api/runtime/llm-tasks/{task}/heartbeat", "POST"),
    ("/api/runtime/llm-tasks/{task}/complete", "POST"),
    ("/api/runtime/llm-tasks/{task}/requeue", "POST"),
    ("/api/runtime/llm-tasks/{task}/cancel", "POST"),
    ("/api/runtime/llm-tasks/{task}/result", "GET HEAD"),
    ("/api/runtime/leases", "GET HEAD"),
    ("/api/runtime/runs", "GET HEAD"),
    ("/api/runtime/artifacts", "GET HEAD"),
    ("/api/runtime/artifacts/{artifact}", "GET HEAD"),
    ("/api/runtime/artifacts/{artifact}/content", "GET HEAD"),
    ("/api/runtime/audit", "GET HEAD"),
    ("/api/runtime/stats", "GET HEAD"),
    ("/api/runtime/events", "GET HEAD"),
    ("/api/membridge/projects/p/leadership/select", "POST"),
    ("/l/{lease}/api/runtime/llm-tasks/{task}/heartbeat", "POST"),
];

fn methods(allow: &str) -> BTreeSet<&str> {
    let words = allow.split([',', ' ']).filter(|word| !word.is_empty());
    words.filter(|word| *word != "OPTIONS").collect()
}

#[test]
fn a_known_path_refuses_other_methods_with_405_and_names_its_own() {
    let server = Server::start();
    let mut client = server.client();
    for (path, allowed) in ALLOWED {
        let path = &path.replace(['{', '}'], "");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "BREW"] {
            if methods(allowed).contains(method) {
                continue;
            }
            let answer = client.send(method, path, &[], None);
            answer.refused_somehow(405);
            let allow = answer.header("allow").unwrap_or_default();
            assert_eq!(methods(allow), methods(allowed), "{answer}");
        }
        let answer = client.send("OPTIONS", path, &[], None);
        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(methods(answer.header("allow").unwrap_or_default()), methods(allowed));
    }
}

#[test]
fn head_answers_like_get_without_a_body() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let task = client.new_task();
    client.lease(&task, "w", 60);
    let done = client.act(&task, "complete", success("out")).ok(200);
    let artifact = done["artifact"]["id"].as_str().unwrap();
    for (path, allowed) in ALLOWED {
        if !allowed.contains("HEAD") || path.ends_with("/events") {
            continue;
        }
        let path = path.replace("{task}", &task).replace("{artifact}", artifact);
        let (get, head) = (client.get(&path), client.send("HEAD", &path, &[], None));
        assert_eq!((get.status, head.status), (200, 200), "{get}");
        assert_eq!(get.header("content-type"), head.header("content-type"), "{get}");
    }
    let missing = client.send("HEAD", "/api/runtime/workers/nobody", &[], None);
    assert_eq!(missing.status, 404);
}

#[test]
fn an_unknown_path_is_a_json_404() {
    let server = Server::start();
    let mut client = server.client();
    let task = client.new_task();
    let unknown = [
        "/api".to_owned(),
        "/api/runtime".into(),
        "/api/runtime/nope".into(),
        "/api//runtime/health".into(),
        format!("{TASKS}/{task}/lease/more"),
        format!("{TASKS}/{task}/nope"),
        "/l/x/api/runtime/nope".into(),
        "/no-such-page-anywhere.php".into(),
    ];
    for path in unknown {
        for method in ["GET", "POST"] {
            let answer = client.send(method, &path, &[], None);
            answer.refused_somehow(404);
            let kind = answer.header("content-type").unwrap_or_default();
            assert!(kind.starts_with("application/json"), "{answer}: {kind}");
        }
    }
}

#[test]
fn paths_match_in_any_case_and_with_one_trailing_slash() {
    let server = Server::start();
    let mut client = server.client();
    let task = client.new_task();
    client.get("/API/Runtime/HEALTH").ok(200);
    client.get("/api/runtime/health/").ok(200);
    client.get(&format!("/api/runtime/LLM-Tasks/{task}/")).ok(200);
    client.get("/api/runtime/stats/?x=1").ok(200);
    client.post_nothing(&format!("/api/runtime/llm-tasks/{task}/Cancel/")).ok(200);
    client.get("/api/runtime/health//").refused_somehow(404);
}

#[test]
fn ids_keep_their_case_and_are_decoded_as_one_segment() {
    let server = Server::start();
    let mut client = server.client();
    for name in ["a/b", "Ünï cödé", "100%", "a+b", "..", "q?x#y", "Case", "case"] {
        client.post(WORKERS, json!({"name": name})).ok(201);
    }
    let spelled =
        ["a%2Fb", "%C3%9Cn%C3%AF%20c%C3%B6d%C3%A9", "100%25", "a+b", "%2e%2E", "q%3Fx%23y"];
    for path in spelled {
        client.get(&format!("{WORKERS}/{path}")).ok(200);
    }
    assert_eq!(client.get(&format!("{WORKERS}/Case")).ok(200)["id"], "Case");
    assert_eq!(client.get(&format!("{WORKERS}/case")).ok(200)["id"], "case");
    client.get(&format!("{WORKERS}/CASE")).refused(404, "Worker not found");
}

#[test]
fn a_broken_escape_is_400_and_a_very_long_id_is_answered() {
    let server = Server::start();
    let mut client = server.client();
    for broken in ["%", "%zz", "abc%2", "%C3%28", "%ff"] {
        client.get(&format!("{TASKS}/{broken}")).unreadable(400);
        client.get(&format!("{WORKERS}/{broken}")).unreadable(400);
    }
    let long = "x".repeat(10 * 1024);
    client.get(&format!("{TASKS}/{long}")).refused(404, "Task not found");
    // Past the limit for headers it is refused or cut off, and nobody else is harmed.
    let huge = format!("{TASKS}/{}", "x".repeat(1024 * 1024));
    if let Ok(answer) = server.client().try_send("GET", &huge, &[], None) {
        assert!([414, 431].contains(&answer.status), "{}", answer.status);
    }
    server.client().get("/api/runtime/health").ok(200);
}

#[test]
fn the_checks_come_in_the_order_of_the_contract() {
    let server = Setup::default().env("RUNTIME_API_KEY", "k").env("FORCE_HTTPS", "1").start();
    let mut client = server.client();
    let (key, http) = (("X-Runtime-API-Key", "k"), ("X-Forwarded-Proto", "http"));
    let json = ("Content-Type", "application/json");
    let mut ask = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        client.send(method, path, headers, Some(body.as_bytes()))
    };
    // 401 before the redirect, the route and the body.
    ask("GET", "/api/runtime/nope", &[http, json], "{bad").refused(401, "Unauthorized");
    // The redirect before the route.
    let moved = ask("GET", "/api/runtime/nope", &[key, http, json], "{bad");
    assert_eq!(moved.status, 301, "{moved}");
    // The route before the body.
    ask("POST", "/api/runtime/nope", &[key, json], "{bad").refused_somehow(404);
    ask("PUT", TASKS, &[key, json], "{bad").refused_somehow(405);
    // The body's syntax before existence.
    ask("POST", &format!("{TASKS}/nope/complete"), &[key, json], "{bad").unreadable(400);
    // Existence before the lease and the fields.
    let under_a_lease = "{\"lease_id\":\"x\",\"status\":5}";
    ask("POST", &format!("{TASKS}/nope/complete"), &[key, json], under_a_lease)
        .refused(404, "Task not found");

    let mut client = server.client().with_key("k");
    let task = client.new_task();
    // State before fields.
    let queued = "Task status is 'queued', expected 'leased' or 'running'";
    client.act(&task, "complete", json!({})).refused(409, queued);
    // Fields before workers: there is no worker at all.
    client.act(&task, "lease", json!({"ttl_seconds": "abc"})).refused_somehow(400);
    client.act(&task, "lease", json!({})).refused(503, "No available worker with free capacity");
    client.register("w", 1);
    let lease = client.lease(&task, "w", 60);
    let leased = "Task status is 'leased', expected 'queued'";
    client.act(&task, "lease", json!({"ttl_seconds": "abc"})).refused(409, leased);
    // The lease before the fields and the state.
    let wrong = client.act(&task, "complete", json!({"lease_id": "not-it"}));
    assert_eq!(wrong.refused_somehow(409), "lease_lost", "{wrong}");
    client.act(&task, "complete", under(&lease, json!({}))).refused_somehow(400);
    client.act(&task, "complete", under(&lease, success("x"))).ok(200);
    let wrong = client.act(&task, "complete", json!({"lease_id": "not-it"}));
    assert_eq!(wrong.refused_somehow(409), "lease_lost", "{wrong}");
}

#[test]
fn every_answer_has_a_request_id_and_keeps_a_sane_one() {
    let server = Server::start();
    let mut client = server.client();
    let paths = ["/api/runtime/health", "/api/runtime/nope", "/api/runtime/workers/nobody"];
    let own = paths.map(|path| client.get(path).header("x-request-id").unwrap().to_owned());
    assert!(own.iter().all(|id| !id.is_empty()));
    assert_eq!(BTreeSet::from(own).len(), 3, "each request has its own");
    let mut given = |id: &str| {
        let answer = client.send("GET", "/api/runtime/health", &[("X-Request-Id", id)], None);
        answer.header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(given("trace-42_A.b"), "trace-42_A.b");
    for insane in ["", "has space", "\"quoted\"", &"x".repeat(4096), "key=<b>"] {
        assert_ne!(given(insane), insane);
    }
}
