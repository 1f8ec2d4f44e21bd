//! Agents that are dead, hang, break off, refuse or talk nonsense: the task goes back or fails with the
//! reason, and nobody else notices.

use super::{KEY, pushing, register, worker};
use crate::agent::{Agent, Conduct};
use crate::harness::{Server, TASKS, eventually};
use crate::http::Client;
use serde_json::{Value, json};
use std::net::TcpListener;

/// An address at which nobody listens.
fn dead_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Waits until the worker rests, and why.
fn rests(server: &Server, name: &str) -> Value {
    eventually("a rest", || {
        let cooling = worker(server, name)["cooling"].clone();
        (!cooling.is_null()).then_some(cooling)
    })
}

fn attempts(client: &mut Client, task: &str) -> Vec<Value> {
    client.get(&format!("{TASKS}/{task}/attempts")).ok(200).as_array().unwrap().clone()
}

#[test]
fn a_task_that_an_agent_could_not_begin_goes_back_unharmed_and_the_agent_rests() {
    let server = pushing().start();
    let mut client = server.client();
    let refusing = Agent::start(Conduct::Works);
    refusing.ask_for_key("another key");
    let unavailable = Agent::start(Conduct::Answers(
        503,
        "application/json",
        r#"{"detail":"Claude CLI not found"}"#.into(),
    ));
    for (name, url, code, words) in [
        ("dead", dead_address(), "agent_unreachable", "cannot be reached"),
        ("tls", refusing.url().replace("http:", "https:"), "agent_unreachable", "is it http?"),
        ("refusing", refusing.url(), "agent_refused_key", "MEMBRIDGE_AGENT_KEY"),
        ("unavailable", unavailable.url(), "agent_unavailable", "Claude CLI not found"),
    ] {
        let task = client.new_task();
        register(&server, name, &url, 1);
        let cooling = rests(&server, name);
        assert_eq!(cooling["code"], code);
        assert!(cooling["message"].as_str().unwrap().contains(words), "{cooling}");
        let back = client.task(&task);
        assert_eq!((&back["status"], &back["attempts"]), (&json!("queued"), &json!(0)), "{name}");
        assert_eq!(back["last_code"], code);
        // Another one takes it.
        let good = Agent::start(Conduct::Works);
        register(&server, "good", &good.url(), 1);
        assert_eq!(client.until(&task, "completed")["worker_id"], "good");
        client.delete("/api/runtime/workers/good").ok(200);
    }
}

#[test]
fn a_task_whose_agent_broke_off_loses_an_attempt_and_is_dead_when_none_is_left() {
    let server = pushing().start();
    let mut client = server.client();
    let agent = Agent::start(Conduct::BreaksOff);
    register(&server, "rpi4b", &agent.url(), 1);
    let task = client.create(json!({"max_attempts": 2}))["id"].as_str().unwrap().to_owned();
    assert_eq!(client.until(&task, "dead")["last_code"], "agent_died");
    assert_eq!(agent.orders_so_far(), 2);
    let codes: Vec<Value> =
        attempts(&mut client, &task).iter().map(|a| a["code"].clone()).collect();
    assert_eq!(codes, ["agent_died", "agent_died"]);
    // Half an answer is none.
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"ok\":tr";
    agent.behave(Conduct::Bytes(half.into()));
    let task = client.create(json!({"max_attempts": 1}))["id"].as_str().unwrap().to_owned();
    assert_eq!(client.until(&task, "dead")["last_code"], "agent_died");
}

#[test]
fn an_answer_that_cannot_be_used_fails_the_task_and_shows_what_came() {
    let server = pushing().start();
    let mut client = server.client();
    let agent = Agent::start(Conduct::Hangs);
    register(&server, "rpi4b", &agent.url(), 1);
    let answers = |status, body: &str| Conduct::Answers(status, "text/plain", body.into());
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let redirect = format!("http://{}/execute-task", elsewhere.local_addr().unwrap());
    for (conduct, code, words) in [
        (answers(200, "<html>router login</html>"), "agent_garbage", "router login"),
        (answers(200, "[]"), "agent_garbage", "[]"),
        (answers(200, r#"{"ok":"yes"}"#), "agent_garbage", "yes"),
        (Conduct::Bytes(b"SSH-2.0-OpenSSH_9\r\n".to_vec()), "agent_garbage", "not HTTP"),
        (answers(200, &"x".repeat((16 << 20) + 1)), "agent_garbage", "larger than 16 MiB"),
        (
            answers(422, r#"{"detail":[{"msg":"field required"}]}"#),
            "agent_rejected",
            "field required",
        ),
        (answers(400, "bad"), "agent_rejected", "bad"),
        (answers(500, "Internal Server Error"), "agent_error", "500: Internal"),
        (answers(404, r#"{"detail":"Not Found"}"#), "agent_error", "404: Not Found"),
        (answers(307, &redirect), "agent_error", "never followed"),
    ] {
        agent.behave(conduct);
        let task = client.new_task();
        client.until(&task, "failed");
        let result = client.get(&format!("{TASKS}/{task}/result")).ok(200);
        assert_eq!(result["code"], code);
        let said = result["error_message"].as_str().unwrap();
        assert!(said.contains(words) && said.len() < 5_000, "{said}");
    }
    assert!(elsewhere.accept().is_err(), "our key went elsewhere");
}

#[test]
fn no_text_of_an_agent_shows_our_key() {
    let server = pushing().start();
    let mut client = server.client();
    let agent = Agent::start(Conduct::Hangs);
    register(&server, "rpi4b", &agent.url(), 1);
    let told = format!("got X-MEMBRIDGE-AGENT: {KEY}!");
    let ok = json!({"ok": true, "output": told}).to_string();
    let failed = json!({"ok": false, "error": told, "stdout": told}).to_string();
    for (status, body) in [(200, ok), (200, failed), (200, told.clone()), (500, told.clone())] {
        agent.behave(Conduct::Answers(status, "application/json", body));
        let task = client.new_task();
        let result = eventually("a result", || {
            let answer = client.get(&format!("{TASKS}/{task}/result"));
            (answer.status == 200).then(|| answer.json())
        });
        assert!(result.to_string().contains("[agent key]"), "{result}");
        for path in ["result", "attempts", "log"] {
            let shown = client.get(&format!("{TASKS}/{task}/{path}")).json().to_string();
            assert!(!shown.contains(KEY), "{shown}");
        }
    }
    // So that it is a rest that shows its words.
    agent.behave(Conduct::Answers(503, "text/plain", told));
    client.new_task();
    let cooling = rests(&server, "rpi4b");
    assert!(cooling["message"].as_str().unwrap().contains("[agent key]"), "{cooling}");
    let audit = client.get("/api/runtime/audit?limit=1000").json().to_string();
    assert!(!audit.contains(KEY) && !server.said().contains(KEY));
}

#[test]
fn a_task_that_is_called_off_lets_the_call_go_at_once() {
    let server = pushing().start();
    let mut client = server.client();
    let agent = Agent::start(Conduct::Hangs);
    register(&server, "rpi4b", &agent.url(), 1);
    let task = client.new_task();
    client.until(&task, "running");
    agent.orders(1);
    client.act(&task, "cancel", json!({})).ok(200);
    agent.let_go(1);
    assert_eq!(client.task(&task)["status"], "cancelled");
}

#[test]
fn agents_that_hang_keep_nobody_waiting() {
    let server = pushing().start();
    let mut client = server.client();
    let hanging = Agent::start(Conduct::Hangs);
    hanging.be_well(true);
    for n in 0..40 {
        register(&server, &format!("hanging-{n}"), &hanging.url(), 1);
    }
    let stuck: Vec<String> = (0..40).map(|_| client.new_task()).collect();
    hanging.orders(40);
    let good = Agent::start(Conduct::Works);
    register(&server, "good", &good.url(), 2);
    for _ in 0..10 {
        let task = client.new_task();
        assert_eq!(client.until(&task, "completed")["worker_id"], "good");
    }
    // And those who ask for their tasks are served as ever.
    client.delete("/api/runtime/workers/good").ok(200);
    client.register("puller", 1);
    let task = client.new_task();
    assert_eq!(client.claim("puller", json!({})).ok(200)["task"]["id"], task.as_str());
    for task in stuck {
        assert_eq!(client.task(&task)["status"], "running");
    }
}
