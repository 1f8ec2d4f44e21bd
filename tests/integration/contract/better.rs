//! CONTRACT, "Where we are better": the rows that no other file tells.

use crate::harness::{Server, Setup, TASKS, WORKERS, eventually, id, rows, success};
use serde_json::json;

#[test]
fn context_hints_may_be_an_object_and_become_strings() {
    let server = Server::start();
    let hints = json!({"repo": "garden", "branch": "main"});
    let task = server.client().create(json!({"context_hints": hints}));
    let mut stored: Vec<_> = task["context_hints"].as_array().unwrap().iter().collect();
    stored.sort_by_key(|hint| hint.to_string());
    assert_eq!(stored, [&json!("branch: main"), &json!("repo: garden")]);
}

#[test]
fn a_priority_out_of_range_is_clamped_and_the_default_is_zero() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(client.create(json!({}))["priority"], 0);
    for (given, stored) in [(5, 5), (9, 9), (10, 9), (-3, 0), (1_000_000, 9)] {
        let task = client.create(json!({"priority": given}));
        assert_eq!(client.task(&id(&task))["priority"], stored);
    }
}

#[test]
fn wrong_types_everywhere_stop_nothing() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let task = client.new_task();
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e300),
        json!("x"),
        json!([[]]),
        json!({"a": {}}),
    ];
    let fields = [
        "context_id",
        "agent_slug",
        "prompt",
        "context_hints",
        "policy",
        "desired_format",
        "max_attempts",
        "priority",
        "name",
        "url",
        "status",
        "capabilities",
        "ip_addrs",
        "worker_id",
        "ttl_seconds",
        "lease_id",
        "output",
        "error_message",
        "metrics",
        "artifact_type",
        "artifact_tags",
        "wait_seconds",
        "lease_seconds",
        "membridge_server_url",
        "admin_key",
    ];
    let paths = [
        TASKS.to_owned(),
        WORKERS.into(),
        format!("{TASKS}/{task}/lease"),
        "/api/runtime/config".into(),
        format!("{TASKS}/{task}/complete"),
        format!("{TASKS}/{task}/heartbeat"),
        format!("{WORKERS}/w/claim"),
    ];
    for value in &values {
        let all = fields.iter().map(|field| (field.to_string(), value.clone()));
        let every = serde_json::Value::Object(all.collect());
        for path in &paths {
            let answer = client.post(path, every.clone());
            assert_ne!(answer.status, 500, "{answer}");
            for field in fields {
                let answer = client.post(path, json!({field: value}));
                assert_ne!(answer.status, 500, "{path} with {field}={value}: {answer}");
            }
        }
    }
    server.client().get("/api/runtime/health").ok(200);
}

#[test]
fn an_unauthenticated_caller_learns_nothing_but_401() {
    let server = Setup::default().env("RUNTIME_API_KEY", "k").start();
    let mut client = server.client();
    for body in ["{bad", "", "{}", "[]"] {
        let answer = client.post_text(WORKERS, "application/json", body.as_bytes());
        answer.refused(401, "Unauthorized");
    }
}

#[test]
fn existing_environment_files_start_the_server() {
    let lines = "# as deployed\nNODE_ENV=production\nPORT=5000\n\
        DATABASE_URL=postgres://bloom:password@127.0.0.1:5432/bloom\n\
        SESSION_SECRET=\"0123456789abcdef\"\nexport MEMBRIDGE_ADMIN_KEY='quoted key 12'\n\
        MINIO_ENDPOINT=minio.example\nMINIO_PORT=9000\nMINIO_USE_SSL=false\nUNKNOWN_THING=1\n\n\
        MEMBRIDGE_SERVER_URL=http://127.0.0.1:18999\n";
    let server = Setup::default().env_file(lines).start();
    let config = server.client().get("/api/runtime/config").ok(200);
    assert_eq!(config["membridge_server_url"], "http://127.0.0.1:18999");
    assert_eq!(config["admin_key_masked"], "qu****12");
    assert!(server.said().to_lowercase().contains("replication"), "{}", server.said());
}

#[test]
fn a_worker_without_a_sign_of_life_is_still_there_after_a_restart() {
    let mut server = Server::start();
    server.client().register("w", 1);
    server.kill9();
    server.restart();
    let workers = rows(&server.client().get(WORKERS));
    assert_eq!(workers[0]["status"], "online", "a restart grants everyone 60 s");
    let task = server.client().new_task();
    server.client().lease(&task, "w", 60);
}

#[test]
fn a_worker_that_completes_a_task_of_a_removed_registration_can_register_again() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let task = client.new_task();
    client.lease(&task, "w", 60);
    client.delete(&format!("{WORKERS}/w")).ok(200);
    client.register("w", 1);
    // The old lease is still active and counts against the capacity of the same name (P2).
    let second = client.new_task();
    client.act(&second, "lease", json!({"worker_id": "w"})).refused_somehow(503);
    client.act(&task, "complete", success("x")).ok(200);
    eventually("free again", || {
        (client.act(&second, "lease", json!({"worker_id": "w"})).status == 201).then_some(())
    });
}
