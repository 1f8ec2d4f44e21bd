//! The steps that most stories share: small calls that demand their success, small bodies, small reads.
//!
//! Not here: anything that decides whether a story is right.

use crate::harness::eventually;
use crate::http::{Answer, Client};
use serde_json::{Value, json};

pub const TASKS: &str = "/api/runtime/llm-tasks";
pub const WORKERS: &str = "/api/runtime/workers";

impl Client {
    /// Creates a task; `fields` are laid over a smallest valid one.
    #[track_caller]
    pub fn create(&mut self, fields: Value) -> Value {
        let mut body = json!({"context_id": "ctx-1", "agent_slug": "writer", "prompt": "hello"});
        let all = body.as_object_mut().expect("an object");
        all.extend(fields.as_object().expect("fields are an object").clone());
        self.post(TASKS, body).ok(201)
    }

    /// Creates a task and returns its id alone.
    #[track_caller]
    pub fn new_task(&mut self) -> String {
        id(&self.create(json!({})))
    }

    #[track_caller]
    pub fn register(&mut self, name: &str, max_concurrency: u32) -> Value {
        let capabilities = json!({"max_concurrency": max_concurrency});
        let answer = self.post(WORKERS, json!({"name": name, "capabilities": capabilities}));
        assert!(answer.status == 200 || answer.status == 201, "{answer}");
        answer.json()
    }

    /// Leases to a named worker; the lease's id.
    #[track_caller]
    pub fn lease(&mut self, task: &str, worker: &str, ttl_seconds: u32) -> String {
        let body = json!({"worker_id": worker, "ttl_seconds": ttl_seconds});
        id(&self.act(task, "lease", body).ok(201)["lease"])
    }

    /// `POST /llm-tasks/<task>/<verb>`.
    #[track_caller]
    pub fn act(&mut self, task: &str, verb: &str, body: Value) -> Answer {
        self.post(&format!("{TASKS}/{task}/{verb}"), body)
    }

    #[track_caller]
    pub fn claim(&mut self, worker: &str, body: Value) -> Answer {
        self.post(&format!("{WORKERS}/{worker}/claim"), body)
    }

    #[track_caller]
    pub fn task(&mut self, task: &str) -> Value {
        self.get(&format!("{TASKS}/{task}")).ok(200)
    }

    /// Waits until the task has this status.
    #[track_caller]
    pub fn until(&mut self, task: &str, status: &str) -> Value {
        eventually(&format!("task {task} {status}"), || {
            let task = self.task(task);
            (task["status"] == status).then_some(task)
        })
    }

    /// All audit entries about one thing, newest first.
    #[track_caller]
    pub fn audit_of(&mut self, entity: &str) -> Vec<Value> {
        let mut all = rows(&self.get("/api/runtime/audit?limit=1000"));
        all.retain(|entry| entry["entity_id"] == entity);
        all
    }
}

/// Asks until the bucket is empty, as its header tells; a window that rolls over starts again.
#[track_caller]
pub fn use_up(client: &mut Client, path: &str, headers: &[(&str, &str)]) {
    for _ in 0..20_000 {
        let answer = client.send("GET", path, headers, None);
        let remaining = answer.header("ratelimit-remaining");
        match remaining.unwrap_or_else(|| panic!("{answer}: no RateLimit-Remaining")) {
            "0" => return,
            _ => assert_ne!(answer.status, 429, "{answer}: limited with a rest in the bucket"),
        }
    }
    panic!("{path}: the bucket never became empty");
}

/// A completion that is always valid.
pub fn success(output: &str) -> Value {
    json!({"status": "success", "output": output, "metrics": {"duration_ms": 12}})
}

pub fn failure(message: &str) -> Value {
    json!({"status": "error", "error_message": message, "metrics": {"duration_ms": 12}})
}

/// The same body under a lease.
pub fn under(lease: &str, mut body: Value) -> Value {
    body["lease_id"] = lease.into();
    body
}

/// The number that grows with every grant of a task (P3).
#[track_caller]
pub fn fence(lease: &Value) -> u64 {
    lease["fence"].as_u64().unwrap_or_else(|| panic!("no fencing number in {lease}"))
}

#[track_caller]
pub fn id(record: &Value) -> String {
    record["id"].as_str().unwrap_or_else(|| panic!("no id in {record}")).to_owned()
}

#[track_caller]
pub fn rows(answer: &Answer) -> Vec<Value> {
    let body = answer.ok(200);
    body.as_array().unwrap_or_else(|| panic!("{answer}: a list is a bare array")).clone()
}

/// One field of each row, as text.
pub fn column(rows: &[Value], field: &str) -> Vec<String> {
    rows.iter().map(|row| row[field].as_str().unwrap_or_default().to_owned()).collect()
}
