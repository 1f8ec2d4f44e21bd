//! `Idempotency-Key` over the wire: one task a key, however often, from however many and after whatever.

use crate::concurrency::{stats_add_up, together};
use crate::harness::{Server, TASKS, failure, id, rows};
use crate::http::{Answer, Client};
use serde_json::{Value, json};

const PROMPT: &str = "the words that nobody else may read";

fn body() -> Value {
    json!({"context_id": "c", "agent_slug": "writer", "prompt": PROMPT, "policy": {"budget": 0.1}})
}

fn post_under(client: &mut Client, keys: &[&str], body: &Value) -> Answer {
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(keys.iter().map(|key| ("Idempotency-Key", *key)));
    client.send("POST", TASKS, &headers, Some(body.to_string().as_bytes()))
}

#[test]
fn the_same_key_and_fields_give_the_same_answer_after_all_that_may_happen() {
    let mut server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let first = post_under(&mut client, &["order-77"], &body());
    let task = id(&first.ok(201));
    let again = |client: &mut Client| {
        let answer = post_under(client, &["order-77"], &body());
        assert_eq!((answer.status, answer.body), (201, first.body.clone()));
    };
    again(&mut client);
    client.lease(&task, "w", 600);
    again(&mut client);
    client.act(&task, "complete", failure("no")).ok(200);
    again(&mut client);
    server.kill9();
    server.restart();
    let mut client = server.client();
    again(&mut client);
    // What is left out is the same as its default, wherever it stands.
    let spelt = format!(
        r#"{{"desired_format":"text","priority":0,"max_attempts":3.0,"context_hints":[],"labels":[],
            "policy":{{"budget":1e-1,"timeout_sec":120}},"prompt":"{PROMPT}","agent_slug":"writer",
            "context_id":"c","unknown":1}}"#
    );
    again(&mut client);
    let headers = [("Content-Type", "application/json"), ("idempotency-key", "order-77")];
    let answer = client.send("POST", TASKS, &headers, Some(spelt.as_bytes()));
    assert_eq!((answer.status, answer.body), (201, first.body.clone()));
    assert_eq!(rows(&client.get(TASKS)).len(), 1);
    assert_eq!(client.task(&task)["status"], "failed", "what is shown of it is as it is");
    stats_add_up(&mut client);
}

#[test]
fn other_fields_under_a_used_key_are_refused_and_nothing_of_the_task_is_told() {
    let server = Server::start();
    let mut client = server.client();
    let task = id(&post_under(&mut client, &["order-77"], &body()).ok(201));
    let changes = [
        ("prompt", json!("other")),
        ("policy", json!({"budget": 0.2})),
        ("priority", json!(1)),
        ("labels", json!(["gpu"])),
        ("not_before", json!(0)),
    ];
    for (field, value) in changes {
        let mut other = body();
        other[field] = value;
        let refused = post_under(&mut client, &["order-77"], &other);
        assert_eq!(refused.status, 422, "{refused}");
        assert_eq!(refused.json()["code"], "idempotency_key_reused");
        let said = String::from_utf8_lossy(&refused.body);
        assert!(!said.contains(PROMPT) && !said.contains(&task), "{said}");
        post_under(&mut client, &[&format!("for-{field}")], &other).ok(201);
    }
    // Fields that are wrong are wrong under any key.
    let refused = post_under(&mut client, &["order-77"], &json!({"prompt": 7}));
    assert_eq!((refused.status, &refused.json()["code"]), (400, &json!("invalid_fields")));
    assert_eq!(rows(&client.get(TASKS)).len(), 6);
}

#[test]
fn a_key_that_is_none_is_refused_and_one_sent_twice_must_say_the_same() {
    let server = Server::start();
    let mut client = server.client();
    let long = "k".repeat(256);
    let bad: [&[&str]; 7] = [&[""], &["  "], &["a b"], &["a\tb"], &["ключ"], &[&long], &["a", "b"]];
    for keys in bad {
        let refused = post_under(&mut client, keys, &body());
        assert_eq!(refused.status, 400, "{keys:?}: {refused}");
        assert_eq!(refused.json()["code"], "bad_idempotency_key", "{keys:?}");
    }
    assert!(rows(&client.get(TASKS)).is_empty());
    // Quotes are a part of it, blanks around it are not.
    let quoted = post_under(&mut client, &["\"a\"", " \"a\" "], &body()).ok(201);
    assert_eq!(post_under(&mut client, &["\"a\""], &body()).ok(201), quoted);
    assert_ne!(post_under(&mut client, &["a"], &body()).ok(201), quoted);
    post_under(&mut client, &[&long[1..]], &body()).ok(201);
}

#[test]
fn of_many_creations_with_one_key_at_once_one_makes_the_task_and_all_hear_of_it() {
    let server = Server::start();
    for round in 0..10 {
        let key = format!("round-{round}");
        let answers = together(&server, |n, client| {
            let mut body = body();
            // One in four wants something else.
            body["priority"] = json!(u8::from(n % 4 == 0));
            post_under(client, &[&key], &body)
        });
        let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.status == 201);
        assert!(made.iter().all(|answer| answer.body == made[0].body), "round {round}");
        assert!(refused.iter().all(|answer| answer.status == 422), "round {round}");
        assert!([3, 9].contains(&made.len()), "all who want the same: {}", made.len());
        assert_eq!(rows(&server.client().get(TASKS)).len(), round + 1);
    }
    stats_add_up(&mut server.client());
}
