//! Push: tasks for agents that wait to be called, from the order to the result (ECOSYSTEM §2).

mod faults;
mod fleet;

use crate::agent::{Agent, Conduct};
use crate::harness::{Server, Setup, TASKS, WORKERS, rows};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

const KEY: &str = "agent-key-0f8b6c2e5d";

/// A port that nobody is given by chance: below those of outgoing connections.
fn quiet_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let own = (std::process::id() % 200) as u16 * 50;
        let port = 20_000 + own + NEXT.fetch_add(1, Ordering::Relaxed) % 50;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A server that pushes, with an address at which agents reach it.
fn pushing() -> Setup {
    let port = quiet_port();
    let setup = Setup::default().port(port).env("PUBLIC_URL", &format!("http://127.0.0.1:{port}"));
    setup.env("MEMBRIDGE_AGENT_KEY", KEY)
}

/// Registers an agent as it registers itself.
fn register(server: &Server, name: &str, url: &str, max_concurrency: u32) -> Value {
    let body = json!({
        "name": name, "url": url, "status": "online",
        "capabilities": {"claude_cli": true, "max_concurrency": max_concurrency, "labels": []},
        "ip_addrs": [], "agent_version": "0.4.0", "os_info": "Linux", "install_method": "manual",
    });
    server.client().post(WORKERS, body).json()
}

fn worker(server: &Server, name: &str) -> Value {
    server.client().get(&format!("{WORKERS}/{name}")).ok(200)
}

#[test]
fn an_agent_is_called_with_the_task_and_its_callbacks_and_answer_complete_it_once() {
    let server = pushing().env("RUNTIME_API_KEY", "runtime-key").start();
    let mut client = server.client().with_key("runtime-key");
    let agent = Agent::start(Conduct::Works);
    agent.ask_for_key(KEY);
    agent.use_runtime_key("runtime-key");
    let body = json!({"name": "rpi4b", "url": agent.url(), "agent_version": "0.4.0"});
    assert_eq!(client.post(WORKERS, body).ok(201)["pushed"], true);
    // A host that a request names has no say in where agents call back.
    let new = json!({
        "prompt": "Say hello.", "context_id": "garden", "agent_slug": "writer",
        "context_hints": ["a.txt"], "policy": {"timeout_sec": 77, "budget": 0.5},
        "desired_format": "json",
    });
    let new = new.to_string();
    let headers = [("Host", "evil.example"), ("Content-Type", "application/json")];
    let task = client.send("POST", TASKS, &headers, Some(new.as_bytes())).ok(201);
    let id = task["id"].as_str().unwrap();
    let done = client.until(id, "completed");
    let order = &agent.orders(1)[0];
    let lease = done["lease_id"].as_str().unwrap();
    let runtime_url = format!("{}/l/{lease}", server.url());
    assert_eq!(
        order.body,
        json!({
            "task_id": id, "prompt": "Say hello.", "context_id": "garden", "agent_slug": "writer",
            "desired_format": "json", "context_hints": ["a.txt"],
            "policy": {"timeout_sec": 77, "budget": 0.5}, "runtime_url": runtime_url,
        })
    );
    assert_eq!(order.header("x-membridge-agent"), Some(KEY));
    assert_eq!(order.header("x-runtime-api-key"), None);
    assert_eq!(agent.callbacks(2), [200, 200]);
    assert_eq!((&done["worker_id"], &done["attempts"]), (&json!("rpi4b"), &json!(1)));
    let result = client.get(&format!("{}/{id}/result", TASKS)).ok(200);
    assert_eq!(result["output"], "done: Say hello.");
    assert_eq!(result["metrics"], json!({"duration_ms": 340}));
    assert_eq!(rows(&client.get(&format!("/api/runtime/artifacts?task_id={id}"))).len(), 1);
    assert_eq!(agent.orders_so_far(), 1);
}

#[test]
fn the_answer_alone_completes_a_task_and_so_do_the_callbacks_alone() {
    let server = pushing().start();
    let mut client = server.client();
    let agent = Agent::start(Conduct::OnlyAnswers);
    agent.hold();
    register(&server, "rpi4b", &agent.url(), 1);
    let task = client.new_task();
    client.until(&task, "running");
    agent.release();
    client.until(&task, "completed");
    agent.behave(Conduct::OnlyCallsBack);
    let task = client.new_task();
    client.until(&task, "completed");
    // The call that nobody needs any more does not go on.
    agent.let_go(1);
    assert_eq!(worker(&server, "rpi4b")["active_leases"], 0);
}

#[test]
fn an_agent_that_says_that_it_failed_fails_the_task_in_its_words() {
    let server = pushing().start();
    let mut client = server.client();
    let agent = Agent::start(Conduct::Works);
    register(&server, "rpi4b", &agent.url(), 1);
    let failed = |fields: Value| {
        let mut body = json!({"ok": false, "task_id": "x", "returncode": 3, "duration_ms": 21});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Conduct::Answers(200, "application/json", body.to_string())
    };
    for (said, words, output) in [
        (json!({"error": "boom", "stderr": "trace", "stdout": "half"}), "boom", json!("half")),
        (json!({"error": null, "stderr": "trace\n", "stdout": ""}), "trace", Value::Null),
        (json!({"detail": "Claude CLI timed out"}), "Claude CLI timed out", Value::Null),
        (json!({}), "Claude ended with exit code 3 and said nothing", Value::Null),
    ] {
        agent.behave(failed(said));
        let task = client.new_task();
        assert_eq!(client.until(&task, "failed")["last_code"], "agent_error");
        let result = client.get(&format!("{}/{task}/result", TASKS)).ok(200);
        assert_eq!(result["error_message"], words);
        assert_eq!((&result["output"], &result["code"]), (&output, &json!("agent_error")));
        assert_eq!(result["metrics"]["duration_ms"], 21);
    }
}
