//! CONTRACT §1 and §3: every validation message, letter by letter.

use crate::harness::{Server, TASKS, WORKERS, id, under};
use serde_json::{Value, json};

/// Each row lays one field over a valid body and names the messages under it.
fn each_is_refused(path: &str, valid: Value, rows: &[(&str, Value, &[&str])]) {
    let server = Server::start();
    let mut client = server.client();
    for (field, value, messages) in rows {
        let mut body = valid.clone();
        body[field] = value.clone();
        let answer = client.post(path, body.clone());
        assert_eq!(answer.status, 400, "{body}: {answer}");
        answer.invalid(json!({*field: messages}));
    }
    // Nothing of all this left a trace.
    assert_eq!(client.get("/api/runtime/audit").ok(200), json!([]));
}

const SHORT: &str = "String must contain at least 1 character(s)";

#[test]
fn a_task_is_refused_with_the_message_of_each_fault() {
    let valid = json!({"context_id": "c", "agent_slug": "a", "prompt": "p"});
    let hints = ["Expected string, received number", "Expected string, received null"];
    each_is_refused(
        TASKS,
        valid,
        &[
            ("context_id", json!(""), &[SHORT]),
            ("context_id", json!(5), &["Expected string, received number"]),
            ("context_id", json!(null), &["Expected string, received null"]),
            ("agent_slug", json!(""), &[SHORT]),
            ("agent_slug", json!(true), &["Expected string, received boolean"]),
            ("agent_slug", json!([]), &["Expected string, received array"]),
            ("prompt", json!(""), &[SHORT]),
            ("prompt", json!({}), &["Expected string, received object"]),
            ("prompt", json!(1.5), &["Expected string, received number"]),
            ("context_hints", json!("x"), &["Expected array, received string"]),
            ("context_hints", json!(null), &["Expected array, received null"]),
            ("context_hints", json!(["ok", 1, null]), &hints),
            ("policy", json!(null), &["Expected object, received null"]),
            ("policy", json!([]), &["Expected object, received array"]),
            ("policy", json!({"timeout_sec": 0}), &["Number must be greater than or equal to 1"]),
            (
                "policy",
                json!({"timeout_sec": 3601}),
                &["Number must be less than or equal to 3600"],
            ),
            ("policy", json!({"timeout_sec": 1.5}), &["Expected integer, received float"]),
            ("policy", json!({"timeout_sec": "5"}), &["Expected number, received string"]),
            ("policy", json!({"timeout_sec": null}), &["Expected number, received null"]),
            (
                "policy",
                json!({"timeout_sec": 0.5}),
                &["Expected integer, received float", "Number must be greater than or equal to 1"],
            ),
            (
                "policy",
                json!({"timeout_sec": "x", "budget": -0.1}),
                &["Expected number, received string", "Number must be greater than or equal to 0"],
            ),
            ("policy", json!({"budget": false}), &["Expected number, received boolean"]),
            (
                "desired_format",
                json!("xml"),
                &["Invalid enum value. Expected 'json' | 'text', received 'xml'"],
            ),
            ("desired_format", json!(null), &["Expected 'json' | 'text', received null"]),
            ("desired_format", json!(5), &["Expected 'json' | 'text', received number"]),
            ("max_attempts", json!(0), &["Number must be greater than or equal to 1"]),
            ("max_attempts", json!(11), &["Number must be less than or equal to 10"]),
            ("max_attempts", json!(2.5), &["Expected integer, received float"]),
            ("max_attempts", json!(null), &["Expected number, received null"]),
            ("max_attempts", json!("3"), &["Expected number, received string"]),
        ],
    );
}

#[test]
fn a_worker_is_refused_with_the_message_of_each_fault() {
    let statuses = "'online' | 'offline' | 'syncing' | 'error' | 'unknown'";
    let unknown = format!("Invalid enum value. Expected {statuses}, received 'busy'");
    let number = format!("Expected {statuses}, received number");
    each_is_refused(
        WORKERS,
        json!({"name": "w"}),
        &[
            ("name", json!(""), &[SHORT]),
            ("name", json!("n".repeat(129)), &["String must contain at most 128 character(s)"]),
            ("name", json!(5), &["Expected string, received number"]),
            ("url", json!(5), &["Expected string, received number"]),
            ("url", json!(null), &["Expected string, received null"]),
            ("status", json!("busy"), &[&unknown]),
            ("status", json!(1), &[&number]),
            ("capabilities", json!(3), &["Expected object, received number"]),
            ("capabilities", json!({"claude_cli": "yes"}), &["Expected boolean, received string"]),
            (
                "capabilities",
                json!({"max_concurrency": 0}),
                &["Number must be greater than or equal to 1"],
            ),
            (
                "capabilities",
                json!({"max_concurrency": 33}),
                &["Number must be less than or equal to 32"],
            ),
            (
                "capabilities",
                json!({"max_concurrency": 1.5}),
                &["Expected integer, received float"],
            ),
            ("capabilities", json!({"labels": "x"}), &["Expected array, received string"]),
            ("capabilities", json!({"labels": [1]}), &["Expected string, received number"]),
            (
                "capabilities",
                json!({"claude_cli": 1, "labels": [null]}),
                &["Expected boolean, received number", "Expected string, received null"],
            ),
            ("ip_addrs", json!("1.2.3.4"), &["Expected array, received string"]),
            ("ip_addrs", json!([4]), &["Expected string, received number"]),
        ],
    );
}

#[test]
fn a_configuration_is_refused_with_the_message_of_each_fault_and_changes_nothing() {
    let valid = json!({"membridge_server_url": "http://127.0.0.1:18999", "admin_key": "k"});
    let url = "membridge_server_url";
    each_is_refused(
        "/api/runtime/config",
        valid,
        &[
            (url, json!(5), &["Expected string, received number"]),
            (url, json!(null), &["Expected string, received null"]),
            (url, json!(""), &["Invalid url"]),
            (url, json!("not a url"), &["Invalid url"]),
            (url, json!("/path"), &["Invalid url"]),
            ("admin_key", json!(""), &[SHORT]),
            ("admin_key", json!(null), &["Expected string, received null"]),
        ],
    );
    let server = Server::start();
    let mut client = server.client();
    let before = client.get("/api/runtime/config").ok(200);
    let refused = [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "host:8000",
        "ftp://h/",
        "http://user:pass@h/",
        "http://h/?q=1",
        "http://",
        "//h/",
    ];
    for url in refused {
        let body = json!({"membridge_server_url": url, "admin_key": "secret-key-1"});
        client.post("/api/runtime/config", body).refused_somehow(400);
    }
    assert_eq!(client.get("/api/runtime/config").ok(200), before, "all or nothing");
}

#[test]
fn several_faults_stand_under_their_own_fields_at_once() {
    let server = Server::start();
    let mut client = server.client();
    let body =
        json!({"prompt": 1, "policy": {"timeout_sec": 0, "budget": -1}, "max_attempts": 0.5});
    client.post(TASKS, body).invalid(json!({
        "context_id": ["Required"],
        "agent_slug": ["Required"],
        "prompt": ["Expected string, received number"],
        "policy": ["Number must be greater than or equal to 1", "Number must be greater than or equal to 0"],
        "max_attempts": ["Expected integer, received float", "Number must be greater than or equal to 1"],
    }));
}

#[test]
fn a_completion_is_refused_with_the_message_of_each_fault_and_the_lease_stays() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let task = client.new_task();
    let lease = client.lease(&task, "w", 60);
    let metrics = |value: Value| json!({"duration_ms": value});
    let rows: [(&str, Value, &[&str]); 15] = [
        (
            "status",
            json!("done"),
            &["Invalid enum value. Expected 'success' | 'error', received 'done'"],
        ),
        ("status", json!(null), &["Expected 'success' | 'error', received null"]),
        ("output", json!(5), &["Expected string, received number"]),
        ("error_message", json!({}), &["Expected string, received object"]),
        ("metrics", json!(null), &["Expected object, received null"]),
        ("metrics", json!({}), &["Required"]),
        ("metrics", metrics(json!(1.5)), &["Expected integer, received float"]),
        ("metrics", metrics(json!("5")), &["Expected number, received string"]),
        ("metrics", metrics(json!(-1)), &["Number must be greater than or equal to 0"]),
        (
            "metrics",
            json!({"duration_ms": 1, "tokens_used": -1}),
            &["Number must be greater than or equal to 0"],
        ),
        (
            "metrics",
            json!({"duration_ms": 1, "tokens_used": "9"}),
            &["Expected number, received string"],
        ),
        ("artifact_type", json!(1), &["Expected string, received number"]),
        ("artifact_type", json!(null), &["Expected string, received null"]),
        ("artifact_tags", json!("x"), &["Expected array, received string"]),
        ("artifact_tags", json!([1, "ok"]), &["Expected string, received number"]),
    ];
    for (field, value, messages) in rows {
        let mut body = under(&lease, crate::harness::success("out"));
        body[field] = value;
        client.act(&task, "complete", body).invalid(json!({field: messages}));
    }
    client
        .act(&task, "complete", json!({}))
        .invalid(json!({"status": ["Required"], "metrics": ["Required"]}));
    let path = format!("{TASKS}/{task}/complete");
    client.post_nothing(&path).invalid_form("Required");
    client.act(&task, "complete", json!([])).invalid_form("Expected object, received array");
    assert_eq!(client.task(&task)["status"], "leased");
    client.act(&task, "complete", crate::harness::success("out")).ok(200);
}

#[test]
fn a_lease_time_outside_a_second_and_a_day_is_refused() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 32);
    let task = client.new_task();
    let refused = [
        json!("abc"),
        json!(1.5),
        json!(1e10),
        json!(true),
        json!([]),
        json!(-5),
        json!(86401),
        json!("-1"),
        json!("1.5"),
        json!({}),
        json!("60s"),
        json!(2_147_483_648_u64),
    ];
    for ttl in refused {
        let answer = client.act(&task, "lease", json!({"ttl_seconds": ttl}));
        answer.refused_somehow(400);
        let messages = &answer.json()["error"]["fieldErrors"]["ttl_seconds"];
        assert!(messages.as_array().is_some_and(|all| !all.is_empty()), "{answer}");
    }
    assert_eq!(client.task(&task)["attempts"], 0);
    let accepted = [
        (json!(1), 1),
        (json!(86400), 86400),
        (json!("60"), 60),
        (json!(" 7 "), 7),
        (json!(0), 300),
        (json!(null), 300),
        (json!(""), 300),
        (json!(2.0), 2),
    ];
    for (given, ttl) in accepted {
        let task = client.new_task();
        let lease =
            client.act(&task, "lease", json!({"ttl_seconds": given})).ok(201)["lease"].clone();
        assert_eq!(lease["ttl_seconds"], ttl, "ttl_seconds {given}");
    }
}

#[test]
fn claim_and_cursor_parameters_are_checked_too() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    for (field, value) in [
        ("wait_seconds", json!(56)),
        ("wait_seconds", json!(-1)),
        ("wait_seconds", json!("soon")),
        ("lease_seconds", json!(86401)),
        ("lease_seconds", json!([])),
    ] {
        let answer = client.claim("w", json!({field: value}));
        answer.refused_somehow(400);
        assert!(answer.json()["error"]["fieldErrors"][field].is_array(), "{answer}");
    }
    client.claim("nobody", json!({})).refused(404, "Worker not found");
    client.get(&format!("{TASKS}?cursor=no-such-cursor!")).refused_somehow(400);
}

#[test]
fn a_task_with_every_field_is_stored_as_sent() {
    let server = Server::start();
    let mut client = server.client();
    let fields = json!({
        "context_id": " ", "agent_slug": "\t", "prompt": "\n", "context_hints": ["a", "b"],
        "policy": {"timeout_sec": 3600, "budget": 0.25, "nope": 1}, "desired_format": "json",
        "max_attempts": 10, "id": "mine", "status": "completed", "created_at": 1, "nope": {},
    });
    let task = client.create(fields);
    assert_ne!(task["id"], "mine", "unknown fields are ignored");
    assert_eq!(task["status"], "queued");
    assert_eq!(task["policy"], json!({"timeout_sec": 3600, "budget": 0.25}));
    assert_eq!(task["context_hints"], json!(["a", "b"]));
    assert!(task["created_at"].as_i64().unwrap() > 1);
    assert_eq!(client.task(&id(&task)), task);
}
