//! Retry, hand-back, rest, drain, `not_before` and agent limits over the wire.

use crate::harness::{Setup, WORKERS, failure, id, success, under};
use serde_json::{Value, json};

const RETRY: &str = r#"{"on_error":true,"backoff_seconds":3600,"max_backoff_seconds":3600}"#;

fn retry() -> Value {
    serde_json::from_str(RETRY).expect("JSON")
}

#[test]
fn an_error_is_tried_again_when_the_task_asks_for_it_and_the_answer_stays_the_same() {
    let server = crate::harness::Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let task = client.create(json!({"policy": {"retry": retry()}}));
    assert_eq!(task["policy"]["retry"], retry());
    let (task, lease) = (id(&task), id(&client.claim("w", json!({})).ok(200)["lease"]));
    let error = json!({
        "status": "error", "error_message": "no answer", "code": "timeout",
        "metrics": {"duration_ms": 5, "cost_usd": 0.25, "model": "opus", "turns": 3},
    });
    let done = client.act(&task, "complete", under(&lease, error.clone())).ok(200);
    assert_eq!((&done["task"]["status"], &done["task"]["attempts"]), (&json!("queued"), &json!(1)));
    assert_eq!(done["task"]["last_code"], "timeout");
    let wait =
        done["task"]["retry_at"].as_i64().unwrap() - done["task"]["updated_at"].as_i64().unwrap();
    assert!((2_880_000..=4_320_000).contains(&wait), "{wait}");
    assert_eq!(
        (&done["result"]["code"], &done["result"]["status"]),
        (&json!("timeout"), &json!("error"))
    );
    assert_eq!(
        done["result"]["metrics"],
        json!({"duration_ms": 5, "cost_usd": 0.25, "model": "opus", "turns": 3})
    );
    assert_eq!(client.act(&task, "complete", under(&lease, error)).ok(200), done);
    assert_eq!(client.claim("w", json!({})).status, 204, "it waits");
    client.act(&task, "cancel", json!({})).ok(200);
    let again = client.act(&task, "requeue", json!({})).ok(200);
    assert_eq!((again.get("retry_at"), &again["attempts"]), (None, &json!(0)));
    assert_eq!(client.claim("w", json!({})).ok(200)["task"]["id"], task.as_str());
}

#[test]
fn without_a_wish_an_error_is_the_end_and_a_terminal_one_in_any_case() {
    let server = crate::harness::Server::start();
    let mut client = server.client();
    client.register("w", 1);
    for body in [json!({}), json!({"policy": {"retry": retry()}})] {
        let task = id(&client.create(body));
        let lease = id(&client.claim("w", json!({})).ok(200)["lease"]);
        let mut error = under(&lease, failure("too dear"));
        error["code"] = json!("budget_exceeded");
        let done = client.act(&task, "complete", error).ok(200);
        assert_eq!(done["task"]["status"], "failed");
    }
}

#[test]
fn a_hand_back_returns_the_task_at_once_and_a_limit_rests_its_worker() {
    let server = crate::harness::Server::start();
    let mut client = server.client();
    client.register("limited", 1);
    let task = id(&client.create(json!({})));
    let lease = id(&client.claim("limited", json!({})).ok(200)["lease"]);
    let limit = json!({
        "code": "usage_limit", "error_message": "limit reached, resets 3pm", "retry_after_seconds": 600,
    });
    let back = client.act(&task, "release", under(&lease, limit.clone())).ok(200);
    assert_eq!((&back["status"], &back["attempts"]), (&json!("queued"), &json!(0)));
    assert_eq!((&back["last_code"], &back["lease_id"]), (&json!("usage_limit"), &Value::Null));
    client.act(&task, "release", under(&lease, limit)).ok(200);
    let worker = client.get(&format!("{WORKERS}/limited")).ok(200);
    assert_eq!(worker["cooling"]["code"], "usage_limit");
    assert_eq!(worker["cooling"]["message"], "limit reached, resets 3pm");
    assert!(worker["cooling"]["until"].is_i64());
    let refused = client.act(&task, "lease", json!({"worker_id": "limited"}));
    assert_eq!((refused.status, refused.json()["code"].clone()), (503, json!("worker_cooling")));
    let late = client.act(&task, "complete", under(&lease, success("late")));
    assert_eq!((late.status, late.json()["code"].clone()), (409, json!("lease_lost")));
    client.register("other", 1);
    assert_eq!(client.claim("other", json!({})).ok(200)["task"]["id"], task.as_str());
    let rested = client.post(&format!("{WORKERS}/limited/undrain"), json!({})).ok(200);
    assert_eq!((&rested["cooling"], &rested["draining"]), (&Value::Null, &json!(false)));
    client.create(json!({}));
    client.claim("limited", json!({})).ok(200);
}

#[test]
fn a_drained_worker_gets_nothing_until_it_is_undrained() {
    let server = crate::harness::Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let drained = client.post_nothing(&format!("{WORKERS}/w/drain")).ok(200);
    assert_eq!((&drained["draining"], &drained["status"]), (&json!(true), &json!("online")));
    client.create(json!({}));
    assert_eq!(client.claim("w", json!({})).status, 204);
    client.register("w", 1);
    assert_eq!(client.claim("w", json!({})).status, 204, "it still drains");
    client.post_nothing(&format!("{WORKERS}/w/undrain")).ok(200);
    client.claim("w", json!({})).ok(200);
    assert_eq!(client.post_nothing(&format!("{WORKERS}/nobody/drain")).status, 404);
}

#[test]
fn a_task_waits_for_its_moment_and_an_agent_for_its_limit() {
    let server = Setup::default().env("AGENT_LIMITS", "reviewer=1").start();
    let mut client = server.client();
    client.register("w", 8);
    let far = client.create(json!({"not_before": 4_000_000_000_000_i64, "priority": 9}));
    assert_eq!(far["not_before"], 4_000_000_000_000_i64);
    assert_eq!(client.claim("w", json!({})).status, 204);
    let first = id(&client.create(json!({"agent_slug": "reviewer"})));
    let second = id(&client.create(json!({"agent_slug": "reviewer"})));
    let lease = id(&client.claim("w", json!({})).ok(200)["lease"]);
    assert_eq!(client.claim("w", json!({})).status, 204);
    let refused = client.act(&second, "lease", json!({}));
    assert_eq!((refused.status, refused.json()["code"].clone()), (503, json!("agent_at_limit")));
    client.act(&first, "complete", under(&lease, success("done"))).ok(200);
    assert_eq!(client.claim("w", json!({})).ok(200)["task"]["id"], second.as_str());
}

#[test]
fn wrong_fields_of_the_new_kinds_are_named() {
    let server = crate::harness::Server::start();
    let mut client = server.client();
    let mut refused = |body: Value| {
        let answer = client.post("/api/runtime/llm-tasks", body);
        assert_eq!(answer.status, 400, "{answer}");
        answer.json()["error"]["fieldErrors"].clone()
    };
    let base = |policy: Value, not_before: Value| json!({"context_id": "c", "agent_slug": "a", "prompt": "p", "policy": policy, "not_before": not_before});
    let wrong =
        refused(base(json!({"retry": {"on_error": "yes", "backoff_seconds": -1}}), json!(0)));
    assert_eq!(
        wrong["policy"],
        json!(["Expected boolean, received string", "Number must be greater than or equal to 0"])
    );
    let wrong = refused(base(json!({"retry": 5}), json!("soon")));
    assert_eq!(wrong["policy"], json!(["Expected object, received number"]));
    assert_eq!(wrong["not_before"], json!(["Expected number, received string"]));
    client.register("w", 1);
    let task = id(&client.create(json!({})));
    let lease = id(&client.claim("w", json!({})).ok(200)["lease"]);
    let wrong = client.act(&task, "release", under(&lease, json!({"code": "Usage Limit"})));
    assert_eq!(wrong.status, 400, "{wrong}");
    assert!(wrong.json()["error"]["fieldErrors"]["code"].is_array());
}
