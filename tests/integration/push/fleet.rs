//! Who is pushed to and who is not, by hand and by itself, over a restart too.

use super::{KEY, pushing, register, worker};
use crate::agent::{Agent, Conduct, post};
use crate::harness::{Server, Setup, WORKERS, eventually, id};
use serde_json::{Value, json};

#[test]
fn a_worker_that_asks_for_its_tasks_is_not_called() {
    let server = pushing().start();
    let mut client = server.client();
    let agent = Agent::start(Conduct::Hangs);
    let registered = register(&server, "both", &agent.url(), 2);
    assert_eq!(registered["pushed"], true);
    assert_eq!(client.claim("both", json!({})).status, 204);
    assert_eq!(worker(&server, "both")["pushed"], false);
    let task = client.new_task();
    assert_eq!(
        client.claim("both", json!({"wait_seconds": 20})).ok(200)["task"]["id"],
        task.as_str()
    );
    let entry = &client.audit_of("both")[0];
    assert!(entry["detail"].as_str().unwrap().contains("none are pushed"), "{entry}");
    // What it says again of itself changes nothing, another address does.
    assert_eq!(register(&server, "both", &agent.url(), 2)["pushed"], false);
    client.new_task();
    let other = Agent::start(Conduct::Works);
    assert_eq!(register(&server, "both", &other.url(), 2)["pushed"], true);
    other.orders(1);
    assert_eq!(agent.orders_so_far(), 0);
}

#[test]
fn an_agent_never_gets_more_than_it_can_take_and_rests_while_it_drains() {
    let server = pushing().start();
    let mut client = server.client();
    let agent = Agent::start(Conduct::Works);
    agent.hold();
    register(&server, "rpi4b", &agent.url(), 2);
    let tasks: Vec<String> = (0..5).map(|_| client.new_task()).collect();
    agent.orders(2);
    eventually("two at work", || {
        let stats = client.get("/api/runtime/stats").ok(200);
        (stats["tasks"]["by_status"]["running"] == 2).then_some(())
    });
    assert_eq!(agent.orders_so_far(), 2);
    client.post(&format!("{WORKERS}/rpi4b/drain"), json!({})).ok(200);
    agent.release();
    eventually("both done", || {
        let stats = client.get("/api/runtime/stats").ok(200);
        (stats["tasks"]["by_status"]["completed"] == 2).then_some(())
    });
    assert_eq!(agent.orders_so_far(), 2);
    client.post(&format!("{WORKERS}/rpi4b/undrain"), json!({})).ok(200);
    for task in tasks {
        client.until(&task, "completed");
    }
    assert_eq!(agent.orders_so_far(), 5);
}

#[test]
fn a_task_is_dispatched_by_hand_to_an_agent_that_waits_to_be_called() {
    let server = pushing().start();
    let mut client = server.client();
    client.register("puller", 1);
    let task = client.new_task();
    let refusal = |answer: crate::http::Answer| {
        let status = answer.status;
        (status, answer.json()["code"].as_str().unwrap().to_owned())
    };
    let refused = client.act(&task, "dispatch", json!({"worker_id": "puller"}));
    assert_eq!(refusal(refused), (503, "worker_not_pushable".into()));
    let refused = client.act(&task, "dispatch", json!({"worker_id": "nobody"}));
    assert_eq!(refusal(refused), (503, "worker_unknown".into()));
    assert_eq!(
        refusal(client.act(&task, "dispatch", json!({}))),
        (503, "no_worker_registered".into())
    );
    let agent = Agent::start(Conduct::Works);
    agent.hold();
    register(&server, "rpi4b", &agent.url(), 1);
    client.until(&task, "running");
    let second = client.new_task();
    assert_eq!(
        refusal(client.act(&second, "dispatch", json!({}))),
        (503, "worker_at_capacity".into())
    );
    assert_eq!(refusal(client.act(&task, "dispatch", json!({}))), (409, "not_queued".into()));
    assert_eq!(refusal(client.act("nope", "dispatch", json!({}))), (404, "task_not_found".into()));
    // What its waiting claim does not take, a label for example, a person cannot give it either; what it
    // would take later, it gets now.
    let body = json!({"not_before": 4_000_000_000_000_i64});
    let later = id(&client.create(body));
    register(&server, "rpi4b", &agent.url(), 3);
    client.until(&second, "running");
    let answer = client.act(&later, "dispatch", json!({"worker_id": "rpi4b"}));
    assert_eq!(answer.status, 202, "{answer}");
    let granted = answer.json();
    assert_eq!(
        (&granted["worker"]["id"], &granted["lease"]["task_id"]),
        (&json!("rpi4b"), &json!(later))
    );
    let order = &agent.orders(3)[2];
    assert_eq!(order.body["task_id"], later.as_str());
    assert!(
        order.body["runtime_url"]
            .as_str()
            .unwrap()
            .ends_with(granted["lease"]["id"].as_str().unwrap())
    );
    agent.release();
    client.until(&later, "completed");
}

#[test]
fn without_an_address_to_call_back_nothing_is_pushed_and_the_start_says_why() {
    let server = Setup::default().env("MEMBRIDGE_AGENT_KEY", KEY).start();
    let mut client = server.client();
    server.wait_until_said("PUBLIC_URL is not set");
    let agent = Agent::start(Conduct::Works);
    assert_eq!(register(&server, "rpi4b", &agent.url(), 1)["pushed"], false);
    let task = client.new_task();
    let refused = client.act(&task, "dispatch", json!({}));
    assert_eq!((refused.status, refused.json()["code"].clone()), (503, json!("push_off")));
    assert_eq!(client.claim("rpi4b", json!({})).ok(200)["task"]["id"], task.as_str());
    assert_eq!(agent.orders_so_far(), 0);
}

/// A server that was told to stop, or killed, while an agent worked.
fn over_a_restart(end: impl Fn(&mut Server)) {
    let mut server = pushing().start();
    let agent = Agent::start(Conduct::Hangs);
    register(&server, "rpi4b", &agent.url(), 1);
    let task = server.client().new_task();
    let order = agent.orders(1).remove(0);
    server.client().until(&task, "running");
    end(&mut server);
    server.restart_on_same_port();
    let mut client = server.client();
    assert_eq!(client.task(&task)["status"], "running");
    assert_eq!(worker(&server, "rpi4b")["active_leases"], 1);
    let base = order.body["runtime_url"].as_str().unwrap();
    let done = json!({"status": "success", "output": "late", "metrics": {"duration_ms": 5, "tokens_used": null}});
    let url = format!("{base}/api/runtime/llm-tasks/{task}/complete");
    assert_eq!(post(&url, None, &done.to_string()).unwrap(), 200);
    assert_eq!(client.task(&task)["status"], "completed");
    assert_eq!(agent.orders_so_far(), 1, "nobody was called twice");
    // And the agent is called again.
    agent.behave(Conduct::Works);
    let next = client.new_task();
    client.until(&next, "completed");
}

#[test]
fn what_an_agent_finishes_after_a_stop_or_a_crash_of_the_server_counts() {
    over_a_restart(|server| assert_eq!(server.terminate(), Some(0)));
    over_a_restart(Server::kill9);
}

#[test]
fn a_worker_that_is_removed_or_has_no_address_any_more_is_not_called() {
    let server = pushing().start();
    let mut client = server.client();
    let agent = Agent::start(Conduct::Works);
    register(&server, "gone", &agent.url(), 1);
    register(&server, "moved", &agent.url(), 1);
    client.delete(&format!("{WORKERS}/gone")).ok(200);
    assert_eq!(register(&server, "moved", "", 1)["pushed"], false);
    let task = client.new_task();
    client.register("puller", 1);
    assert_eq!(client.claim("puller", json!({})).ok(200)["task"]["id"], task.as_str());
    assert_eq!(agent.orders_so_far(), 0);
}

#[test]
fn what_an_agent_says_under_an_older_lease_changes_nothing() {
    let server = pushing().start();
    let mut client = server.client();
    let agent = Agent::start(Conduct::Hangs);
    register(&server, "rpi4b", &agent.url(), 1);
    let task = client.new_task();
    let order = agent.orders(1).remove(0);
    client.until(&task, "running");
    client.act(&task, "cancel", json!({})).ok(200);
    client.act(&task, "requeue", json!({})).ok(200);
    agent.orders(2);
    // The first call's agent comes late: its lease is over, whoever holds the task now.
    let base = order.body["runtime_url"].as_str().unwrap();
    let url = format!("{base}/api/runtime/llm-tasks/{task}/complete");
    let late: Value = json!({"status": "success", "output": "old", "metrics": {"duration_ms": 1}});
    assert_eq!(post(&url, None, &late.to_string()).unwrap(), 409);
    assert_ne!(client.task(&task)["status"], "completed");
}
