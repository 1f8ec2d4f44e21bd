//! CONTRACT §3: a task's calls, their records, texts and audit entries.

use crate::harness::{Server, TASKS, column, failure, id, rows, success};
use serde_json::{Value, json};

const NOWHERE: &str = "00000000-0000-0000-0000-000000000000";

/// The record has these fields at least (new ones are no difference).
#[track_caller]
pub fn has_fields(record: &Value, fields: &str) {
    for field in fields.split_whitespace() {
        assert!(record.get(field).is_some(), "{record}: no field `{field}`");
    }
}

const TASK: &str = "id context_id agent_slug prompt context_hints policy desired_format status \
    created_at updated_at lease_id worker_id attempts max_attempts";
const LEASE: &str =
    "id task_id worker_id started_at expires_at ttl_seconds status last_heartbeat context_id";
const ARTIFACT: &str = "id task_id job_id type created_at finalized url entity_refs tags content";
const RESULT: &str =
    "id task_id worker_id artifact_id status output error_message metrics completed_at";

#[test]
fn a_new_task_is_queued_with_the_defaults() {
    let server = Server::start();
    let mut client = server.client();
    let task = client.create(json!({}));
    has_fields(&task, TASK);
    let defaults = json!({"status": "queued", "context_hints": [], "desired_format": "text",
        "policy": {"timeout_sec": 120, "budget": 0}, "lease_id": null, "worker_id": null,
        "attempts": 0, "max_attempts": 3});
    for (field, value) in defaults.as_object().unwrap() {
        let same = match field.as_str() {
            "policy" => {
                task["policy"]["timeout_sec"] == 120
                    && task["policy"]["budget"].as_f64() == Some(0.0)
            }
            _ => task[field] == *value,
        };
        assert!(same, "{field} of {task}");
    }
    assert_eq!(task["created_at"], task["updated_at"]);
    assert_eq!(id(&task).len(), 36, "ids are UUIDs");
    assert_eq!(client.task(&id(&task)), task);
    let audit = client.audit_of(&id(&task));
    assert_eq!(audit[0]["action"], "task_created");
    assert_eq!(audit[0]["entity_type"], "llm_task");
    assert_eq!(audit[0]["actor"], "api");
    assert_eq!(audit[0]["detail"], "Task for agent writer, context ctx-1");
    has_fields(&audit[0], "id timestamp action entity_type entity_id actor detail");
}

#[test]
fn a_task_that_does_not_exist_is_404_everywhere() {
    let server = Server::start();
    let mut client = server.client();
    for missing in [NOWHERE, "abc", "a%2Fb", "%D1%86"] {
        client.get(&format!("{TASKS}/{missing}")).refused(404, "Task not found");
        for verb in ["lease", "complete", "requeue", "cancel"] {
            client.act(missing, verb, json!({})).refused(404, "Task not found");
        }
        client.act(missing, "heartbeat", json!({})).refused(404, "Task or lease not found");
        client.get(&format!("{TASKS}/{missing}/result")).refused_somehow(404);
        client.get(&format!("/api/runtime/artifacts/{missing}")).refused_somehow(404);
        client.get(&format!("/api/runtime/artifacts/{missing}/content")).refused_somehow(404);
    }
}

#[test]
fn a_lease_names_its_worker_and_the_count_before_it() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 2);
    for before in 0..2 {
        let task = client.new_task();
        let answer = client.act(&task, "lease", json!({})).ok(201);
        has_fields(&answer["lease"], LEASE);
        assert_eq!(answer["lease"]["task_id"], task.as_str());
        assert_eq!(answer["lease"]["status"], "active");
        assert_eq!(answer["lease"]["ttl_seconds"], 300);
        assert_eq!(answer["lease"]["context_id"], "ctx-1");
        let lasts = answer["lease"]["expires_at"].as_i64().unwrap()
            - answer["lease"]["started_at"].as_i64().unwrap();
        assert!((300_000..300_100).contains(&lasts), "{answer}");
        assert_eq!(answer["worker"]["id"], "w");
        assert_eq!(answer["worker"]["active_leases"], before);
        let after = client.task(&task);
        assert_eq!((&after["status"], &after["attempts"]), (&json!("leased"), &json!(1)));
        assert_eq!(
            (&after["lease_id"], &after["worker_id"]),
            (&answer["lease"]["id"], &json!("w"))
        );
        let lease = id(&answer["lease"]);
        let audit = client.audit_of(&lease);
        assert_eq!(audit[0]["action"], "task_leased");
        assert_eq!(
            (&audit[0]["entity_type"], &audit[0]["actor"]),
            (&json!("lease"), &json!("router"))
        );
        assert_eq!(audit[0]["detail"], format!("Task {task} leased to worker w, TTL 300s"));
    }
    let task = client.new_task();
    client.act(&task, "lease", json!({})).refused(503, "No available worker with free capacity");
    assert_eq!(client.get("/api/runtime/workers/w").ok(200)["active_leases"], 2);
    assert_eq!(rows(&client.get("/api/runtime/workers"))[0]["active_leases"], 2);
}

#[test]
fn the_default_lease_outlasts_the_tasks_own_timeout() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 32);
    for (timeout, ttl) in [(1, 300), (270, 300), (271, 301), (3600, 3630)] {
        let task = id(&client.create(json!({"policy": {"timeout_sec": timeout}})));
        let lease = client.act(&task, "lease", json!({})).ok(201)["lease"].clone();
        assert_eq!(lease["ttl_seconds"], ttl);
    }
}

#[test]
fn a_worker_id_that_is_falsy_means_any_and_one_that_is_no_name_means_none() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 32);
    for any in [json!(null), json!(""), json!(false), json!(0)] {
        let task = client.new_task();
        let answer = client.act(&task, "lease", json!({"worker_id": any})).ok(201);
        assert_eq!(answer["worker"]["id"], "w");
    }
    for none in [json!("ghost"), json!(["w"]), json!(true), json!(7), json!({})] {
        let task = client.new_task();
        let answer = client.act(&task, "lease", json!({"worker_id": none}));
        answer.refused(503, "No available worker with free capacity");
    }
}

#[test]
fn a_named_worker_passes_the_same_gate_and_the_code_says_why_it_did_not() {
    let server = Server::start();
    let mut client = server.client();
    let workers = "/api/runtime/workers";
    client.register("full", 1);
    let first = client.new_task();
    client.lease(&first, "full", 60);
    client.post(workers, json!({"name": "off", "status": "offline"})).ok(201);
    client.post(workers, json!({"name": "nocli", "capabilities": {"claude_cli": false}})).ok(201);
    let task = client.new_task();
    let reasons = ["full", "off", "nocli", "ghost"].map(|worker| {
        let answer = client.act(&task, "lease", json!({"worker_id": worker}));
        answer.refused(503, "No available worker with free capacity")
    });
    let different: std::collections::BTreeSet<_> = reasons.iter().collect();
    assert_eq!(different.len(), 4, "each reason has its code: {reasons:?}");
    assert_eq!(client.task(&task)["attempts"], 0);
}

#[test]
fn a_heartbeat_makes_the_task_running_and_prolongs_the_lease() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let task = client.new_task();
    client.act(&task, "heartbeat", json!({})).refused(404, "Task or lease not found");
    let granted = client.act(&task, "lease", json!({"ttl_seconds": 60})).ok(201)["lease"].clone();
    let answer = client.act(&task, "heartbeat", json!({})).ok(200);
    has_fields(&answer["lease"], LEASE);
    assert_eq!(answer["lease"]["id"], granted["id"]);
    assert_eq!(answer["expires_at"], answer["lease"]["expires_at"]);
    assert!(answer["expires_at"].as_i64() >= granted["expires_at"].as_i64());
    assert_eq!(client.task(&task)["status"], "running");
    let again = client.act(&task, "heartbeat", json!({})).ok(200);
    assert!(again["expires_at"].as_i64() >= answer["expires_at"].as_i64());
    let listed = rows(&client.get("/api/runtime/leases?status=active"));
    assert_eq!(listed[0]["last_heartbeat"], again["lease"]["last_heartbeat"]);
    client.act(&task, "complete", success("x")).ok(200);
    client.act(&task, "heartbeat", json!({})).refused(404, "Lease not found or already expired");
}

#[test]
fn a_success_leaves_task_artifact_result_and_audit_together() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let task = client.new_task();
    let lease = client.lease(&task, "w", 60);
    client.act(&task, "heartbeat", json!({})).ok(200);
    let done = client.act(&task, "complete", json!({
        "status": "success", "output": "42", "metrics": {"duration_ms": 12, "tokens_used": 7},
        "artifact_type": "REPORT", "artifact_tags": ["a", "b"],
    })).ok(200);
    has_fields(&done["task"], TASK);
    has_fields(&done["artifact"], ARTIFACT);
    has_fields(&done["result"], RESULT);
    assert_eq!(done["task"]["status"], "completed");
    assert_eq!(
        (&done["task"]["lease_id"], &done["task"]["worker_id"]),
        (&json!(lease), &json!("w"))
    );
    let (artifact, result) = (&done["artifact"], &done["result"]);
    assert_eq!((&artifact["type"], &artifact["tags"]), (&json!("REPORT"), &json!(["a", "b"])));
    assert_eq!((&artifact["content"], &artifact["finalized"]), (&json!("42"), &json!(true)));
    assert_eq!((&result["status"], &result["output"]), (&json!("success"), &json!("42")));
    assert_eq!(result["metrics"], json!({"duration_ms": 12, "tokens_used": 7}));
    assert_eq!((&result["artifact_id"], &result["worker_id"]), (&artifact["id"], &json!("w")));
    // Each can be read by itself.
    assert_eq!(client.get(&format!("{TASKS}/{task}/result")).ok(200), *result);
    let path = format!("/api/runtime/artifacts/{}", id(artifact));
    assert_eq!(client.get(&path).ok(200), *artifact);
    assert_eq!(client.get(&format!("{path}/content")).text(), "42");
    let listed = rows(&client.get(&format!("/api/runtime/artifacts?task_id={task}")));
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["id"], artifact["id"]);
    assert_eq!(client.get("/api/runtime/artifacts?task_id=none").ok(200), json!([]));
    let ended = rows(&client.get("/api/runtime/leases?status=released"));
    assert_eq!(column(&ended, "id"), [lease]);
    let audit = &client.audit_of(&task)[0];
    assert_eq!((&audit["action"], &audit["actor"]), (&json!("task_completed"), &json!("w")));
    let detail = format!("Status: success, artifact: {}, duration: 12ms", id(artifact));
    assert_eq!(audit["detail"], detail);
    // Again without the lease: as recorded.
    client
        .act(&task, "complete", success("x"))
        .refused(409, "Task status is 'completed', expected 'leased' or 'running'");
    client
        .act(&task, "requeue", json!({}))
        .refused(409, "Cannot requeue task with status 'completed'");
    client.act(&task, "cancel", json!({})).refused_somehow(409);
}

#[test]
fn an_error_makes_the_task_failed_with_an_artifact_without_content() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let task = client.new_task();
    let lease = client.lease(&task, "w", 60);
    let done = client.act(&task, "complete", failure("the provider said no")).ok(200);
    assert_eq!(done["task"]["status"], "failed");
    assert_eq!(done["task"]["lease_id"], lease);
    assert_eq!(done["artifact"]["content"], json!(null));
    let result = client.get(&format!("{TASKS}/{task}/result")).ok(200);
    assert_eq!(result["error_message"], "the provider said no");
    assert_eq!(result["status"], "error");
    assert_eq!(column(&rows(&client.get("/api/runtime/leases?status=released")), "id"), [lease]);
    let again = client.act(&task, "requeue", json!({})).ok(200);
    assert_eq!((&again["status"], &again["attempts"]), (&json!("queued"), &json!(0)));
    assert_eq!((&again["lease_id"], &again["worker_id"]), (&json!(null), &json!(null)));
    let audit = &client.audit_of(&task)[0];
    assert_eq!((&audit["action"], &audit["actor"]), (&json!("task_requeued"), &json!("admin")));
    assert_eq!(audit["detail"], "Requeued from failed");
}

#[test]
fn a_completion_works_without_a_heartbeat_and_takes_null_tokens() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let task = client.new_task();
    client.lease(&task, "w", 60);
    // Letter by letter what the Membridge agent 0.4.0 sends.
    let body = r#"{"status":"success","output":"x","error_message":null,"metrics":{"duration_ms":340,"tokens_used":null}}"#;
    let path = format!("{TASKS}/{task}/complete");
    let done = client.post_text(&path, "application/json", body.as_bytes()).ok(200);
    assert_eq!(done["result"]["metrics"]["duration_ms"], 340);
    assert!(done["result"]["metrics"].get("tokens_used").is_none_or(Value::is_null));
}

#[test]
fn a_task_in_the_wrong_state_is_refused_with_its_state() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 8);
    let task = client.new_task();
    client
        .act(&task, "complete", success("x"))
        .refused(409, "Task status is 'queued', expected 'leased' or 'running'");
    client
        .act(&task, "requeue", json!({}))
        .refused(409, "Cannot requeue task with status 'queued'");
    client.lease(&task, "w", 60);
    client
        .act(&task, "lease", json!({}))
        .refused(409, "Task status is 'leased', expected 'queued'");
    client
        .act(&task, "requeue", json!({}))
        .refused(409, "Cannot requeue task with status 'leased'");
    client.act(&task, "heartbeat", json!({})).ok(200);
    client
        .act(&task, "lease", json!({}))
        .refused(409, "Task status is 'running', expected 'queued'");
    client
        .act(&task, "requeue", json!({}))
        .refused(409, "Cannot requeue task with status 'running'");
    client.get(&format!("{TASKS}/{task}/result")).refused_somehow(404);
}

#[test]
fn a_cancelled_task_is_terminal_until_a_human_requeues_it() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let task = client.new_task();
    let cancelled = client.act(&task, "cancel", json!({})).ok(200);
    has_fields(&cancelled, TASK);
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(client.audit_of(&task)[0]["action"], "task_cancelled");
    client
        .act(&task, "lease", json!({}))
        .refused(409, "Task status is 'cancelled', expected 'queued'");
    assert_eq!(client.claim("w", json!({})).status, 204, "nobody is given a cancelled task");
    assert_eq!(
        client.get("/api/runtime/stats").ok(200)["tasks"]["by_status"],
        json!({"cancelled": 1})
    );
    assert_eq!(client.act(&task, "requeue", json!({})).ok(200)["status"], "queued");
    assert_eq!(client.audit_of(&task)[0]["detail"], "Requeued from cancelled");
    assert_eq!(client.claim("w", json!({})).ok(200)["task"]["id"], task.as_str());
}
