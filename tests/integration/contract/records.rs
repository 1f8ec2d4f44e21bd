//! CONTRACT §2 and §3: health, configuration, workers, runs, audit, statistics.

use super::tasks::has_fields;
use crate::harness::{Server, Setup, WORKERS, column, rows, run, success};
use serde_json::json;

const WORKER: &str = "id node_id url status capabilities last_heartbeat ip_addrs obs_count db_sha \
    registered_at active_leases";

#[test]
fn health_says_what_it_runs_on() {
    let server = Server::start();
    let mut client = server.client();
    let health = client.get("/api/runtime/health").ok(200);
    assert_eq!(health["status"], "ok");
    assert_eq!(health["service"], "bloom-runtime");
    assert_eq!(health["storage"], "redb");
    assert!(health["uptime"].as_f64().is_some_and(|seconds| (0.0..60.0).contains(&seconds)));
    has_fields(&health["membridge"], "consecutiveFailures lastSuccess lastError connected");
    assert_eq!(health["membridge"]["connected"], false);
}

#[test]
fn the_configuration_shows_a_masked_key_only() {
    let server = Setup::default().env("MEMBRIDGE_ADMIN_KEY", "env-key-0123456").start();
    let mut client = server.client();
    let config = client.get("/api/runtime/config").ok(200);
    has_fields(&config, "membridge_server_url admin_key_masked connected last_test");
    assert_eq!(config["membridge_server_url"], "http://127.0.0.1:8000");
    assert_eq!(config["admin_key_masked"], "en****56");
    for (key, masked) in [("12345678", "****"), ("x", "****"), ("123456789", "12****89")] {
        let body =
            json!({"membridge_server_url": "http://127.0.0.1:18999/prefix", "admin_key": key});
        let saved = client.post("/api/runtime/config", body).ok(200);
        assert_eq!(saved["admin_key_masked"], masked);
        assert_eq!(saved["membridge_server_url"], "http://127.0.0.1:18999/prefix");
        assert_eq!(client.get("/api/runtime/config").ok(200), saved);
    }
    let audit = client.audit_of("singleton");
    assert_eq!(audit[0]["action"], "config_updated");
    assert_eq!(
        (&audit[0]["entity_type"], &audit[0]["actor"]),
        (&json!("runtime_config"), &json!("admin"))
    );
    assert_eq!(audit[0]["detail"], "Updated membridge URL to http://127.0.0.1:18999/prefix");
}

#[test]
fn a_saved_configuration_wins_over_the_environment_and_the_start_says_so() {
    let mut server = Setup::default().env("MEMBRIDGE_SERVER_URL", "http://127.0.0.1:18999").start();
    let body =
        json!({"membridge_server_url": "https://bridge.example:8443", "admin_key": "abcdefghijkl"});
    server.client().post("/api/runtime/config", body).ok(200);
    server.kill9();
    server.restart();
    let config = server.client().get("/api/runtime/config").ok(200);
    assert_eq!(config["membridge_server_url"], "https://bridge.example:8443");
    assert_eq!(config["admin_key_masked"], "ab****kl");
    let said = server.said();
    let line = said.lines().find(|line| line.contains("saved")).unwrap_or_default();
    assert!(line.contains("MEMBRIDGE_SERVER_URL"), "what the saved settings win over: {said}");
    assert!(!said.contains("abcdefghijkl"), "P10: {said}");
}

#[test]
fn a_worker_is_registered_with_the_defaults() {
    let server = Server::start();
    let mut client = server.client();
    let worker = client.post(WORKERS, json!({"name": "w"})).ok(201);
    has_fields(&worker, WORKER);
    assert_eq!((&worker["id"], &worker["node_id"]), (&json!("w"), &json!("w")));
    assert_eq!((&worker["url"], &worker["status"]), (&json!(""), &json!("online")));
    assert_eq!(
        worker["capabilities"],
        json!({"claude_cli": true, "max_concurrency": 1, "labels": []})
    );
    assert_eq!((&worker["ip_addrs"], &worker["obs_count"]), (&json!([]), &json!(0)));
    assert_eq!((&worker["db_sha"], &worker["active_leases"]), (&json!(""), &json!(0)));
    assert!(worker["last_heartbeat"].is_i64());
    let mut alone = client.get(&format!("{WORKERS}/w")).ok(200);
    assert_eq!(alone["leases"], json!([]));
    alone.as_object_mut().unwrap().remove("leases");
    assert_eq!(alone["registered_at"], worker["registered_at"]);
    let audit = &client.audit_of("w")[0];
    assert_eq!(
        (&audit["action"], &audit["entity_type"]),
        (&json!("worker_registered"), &json!("worker"))
    );
    assert_eq!(audit["actor"], "api");
    assert_eq!(audit["detail"], "Worker w registered, status=online, max_concurrency=1");
}

#[test]
fn registering_again_changes_what_is_sent_and_keeps_what_is_not() {
    let server = Server::start();
    let mut client = server.client();
    let first = json!({
        "name": "w", "url": "http://10.0.0.2:8001", "ip_addrs": ["10.0.0.2"], "status": "online",
        "capabilities": {"claude_cli": true, "max_concurrency": 4, "labels": ["gpu"]},
        "agent_version": "0.4.0", "os_info": "Alpine", "install_method": "manual",
    });
    let before = client.post(WORKERS, first).ok(201);
    for field in ["agent_version", "os_info", "install_method"] {
        assert!(before[field].is_string(), "{field} is kept: {before}");
    }
    let mut after = client.post(WORKERS, json!({"name": "w"})).ok(200);
    after["last_heartbeat"] = before["last_heartbeat"].clone();
    assert_eq!(after, before);
    let part = json!({"name": "w", "capabilities": {"max_concurrency": 2}});
    let after = client.post(WORKERS, part).ok(200);
    let kept = json!({"claude_cli": true, "max_concurrency": 2, "labels": ["gpu"]});
    assert_eq!((&after["capabilities"], &after["ip_addrs"]), (&kept, &before["ip_addrs"]));
    assert_eq!(client.audit_of("w")[0]["action"], "worker_updated");
    assert_eq!(rows(&client.get(WORKERS)).len(), 1);
}

#[test]
fn workers_are_listed_in_the_order_of_registration() {
    let server = Server::start();
    let mut client = server.client();
    for name in ["zeta", "alpha", "mid"] {
        client.register(name, 1);
    }
    client.register("zeta", 2);
    assert_eq!(column(&rows(&client.get(WORKERS)), "id"), ["zeta", "alpha", "mid"]);
}

#[test]
fn a_removed_worker_is_gone_and_its_leases_stay_valid() {
    let server = Server::start();
    let mut client = server.client();
    client.delete(&format!("{WORKERS}/nobody")).refused(404, "Worker not found");
    client.get(&format!("{WORKERS}/nobody")).refused(404, "Worker not found");
    client.register("w", 1);
    let task = client.new_task();
    let lease = client.lease(&task, "w", 60);
    let held = client.get(&format!("{WORKERS}/w")).ok(200);
    assert_eq!(held["leases"][0]["id"], lease);
    assert_eq!(client.delete(&format!("{WORKERS}/w")).ok(200), json!({"removed": true, "id": "w"}));
    client.get(&format!("{WORKERS}/w")).refused(404, "Worker not found");
    let audit = &client.audit_of("w")[0];
    assert_eq!((&audit["action"], &audit["actor"]), (&json!("worker_removed"), &json!("admin")));
    assert_eq!(audit["detail"], "Worker w unregistered");
    client.act(&task, "heartbeat", json!({})).ok(200);
    client.act(&task, "complete", success("late but valid")).ok(200);
}

#[test]
fn an_audit_limit_is_read_as_the_contract_says() {
    let server = Server::start();
    let mut client = server.client();
    (0..150).for_each(|_| drop(client.new_task()));
    let mut count = |query: &str| rows(&client.get(&format!("/api/runtime/audit{query}"))).len();
    let defaults =
        ["", "?limit=", "?limit=0", "?limit=abc", "?limit=-1", "?limit=-5", "?limit=%20", "?x=1"];
    for query in defaults {
        assert_eq!(count(query), 100, "{query}");
    }
    assert_eq!(count("?limit=1abc"), 1);
    assert_eq!(count("?limit=2"), 2);
    assert_eq!(count("?limit=120"), 120);
    for query in ["?limit=1001", "?limit=9007199254740993", "?limit=1000000000000000000000"] {
        assert_eq!(count(query), 150, "{query}");
    }
}

#[test]
fn the_audit_trail_is_in_order_newest_first() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let task = client.new_task();
    client.lease(&task, "w", 60);
    client.act(&task, "complete", success("x")).ok(200);
    let actions = column(&rows(&client.get("/api/runtime/audit")), "action");
    assert_eq!(actions, ["task_completed", "task_leased", "task_created", "worker_registered"]);
}

#[test]
fn statistics_count_only_statuses_that_occur() {
    let server = Server::start();
    let mut client = server.client();
    let empty = json!({"tasks": {"total": 0, "by_status": {}}, "leases": {"total": 0, "active": 0},
        "workers": {"total": 0, "online": 0}});
    for (part, counts) in empty.as_object().unwrap() {
        assert_eq!(client.get("/api/runtime/stats").ok(200)[part], *counts);
    }
    client.register("w", 4);
    client.post(WORKERS, json!({"name": "off", "status": "offline"})).ok(201);
    let tasks = [(); 5].map(|()| client.new_task());
    client.lease(&tasks[0], "w", 60);
    client.act(&tasks[0], "complete", success("x")).ok(200);
    client.lease(&tasks[1], "w", 60);
    client.lease(&tasks[2], "w", 60);
    client.act(&tasks[2], "heartbeat", json!({})).ok(200);
    let stats = client.get("/api/runtime/stats").ok(200);
    let by_status = json!({"queued": 2, "leased": 1, "running": 1, "completed": 1});
    assert_eq!((&stats["tasks"]["total"], &stats["tasks"]["by_status"]), (&json!(5), &by_status));
    assert_eq!((&stats["leases"]["total"], &stats["leases"]["active"]), (&json!(3), &json!(2)));
    assert_eq!((&stats["workers"]["total"], &stats["workers"]["online"]), (&json!(2), &json!(1)));
}

#[test]
fn runs_are_the_newest_fifty_tasks() {
    let server = Server::start();
    let mut client = server.client();
    let mut made: Vec<_> = (0..55).map(|_| client.new_task()).collect();
    made.reverse();
    assert_eq!(column(&rows(&client.get("/api/runtime/runs")), "id"), made[..50]);
}

#[test]
fn no_secret_appears_in_an_answer_or_a_log_line() {
    let secrets = [
        "runtime-key-secret",
        "membridge-admin-secret",
        "membridge-agent-secret",
        "minio-access-secret",
        "minio-key-secret",
        "db-password-secret",
        "session-secret-secret",
    ];
    let database = format!("postgres://bloom:{}@127.0.0.1/bloom", secrets[5]);
    let names = [
        "RUNTIME_API_KEY",
        "MEMBRIDGE_ADMIN_KEY",
        "MEMBRIDGE_AGENT_KEY",
        "MINIO_ACCESS_KEY",
        "MINIO_SECRET_KEY",
    ];
    let setup = Setup::default().env("DATABASE_URL", &database).env("SESSION_SECRET", secrets[6]);
    let setup =
        names.iter().zip(secrets).fold(setup, |setup, (name, value)| setup.env(name, value));
    let mut server = setup.env("LOG_LEVEL", "trace").start();
    let mut client = server.client().with_key(secrets[0]);
    let paths = ["health", "config", "workers", "llm-tasks", "audit", "stats", "leases"];
    let mut seen: String =
        paths.map(|path| client.get(&format!("/api/runtime/{path}")).text()).concat();
    seen += &client.get(&format!("/api/runtime/config?key={}", secrets[0])).text();
    seen += &client.post_text("/api/runtime/llm-tasks", "application/json", b"{secret-body").text();
    server.terminate();
    seen += &server.said();
    for secret in secrets {
        assert!(!seen.contains(secret), "{secret} is shown in:\n{seen}");
    }
    assert!(!server.said().contains("secret-body"), "bodies are not logged");
    let ended = run(&["check", "--env-file", "/dev/null"], &[("RUNTIME_API_KEY", secrets[0])]);
    assert!(!(ended.stdout + &ended.stderr).contains(secrets[0]));
}
