//! Requeueing and cancelling by filter; attempts; why a task waits.

use crate::harness::{Server, Setup, TASKS, WORKERS, failure, id, success, under};
use crate::http::Client;
use serde_json::{Value, json};

fn many(client: &mut Client, what: &str, body: Value) -> Value {
    client.post(&format!("{TASKS}/{what}"), body).ok(200)
}

fn status(client: &mut Client, task: &str) -> Value {
    client.get(&format!("{TASKS}/{task}")).ok(200)["status"].clone()
}

#[test]
fn a_filter_cancels_what_fits_all_of_it_and_a_dry_run_only_counts() {
    let server = Server::start();
    let mut client = server.client();
    let of = |client: &mut Client, agent: &str, context: &str| {
        id(&client.create(json!({"agent_slug": agent, "context_id": context})))
    };
    let wanted: Vec<String> = (0..3).map(|_| of(&mut client, "writer", "garden")).collect();
    let others = [of(&mut client, "writer", "house"), of(&mut client, "reviewer", "garden")];
    let filter = json!({"agent_slug": "writer", "context_id": "garden", "dry_run": true});
    let counted = many(&mut client, "cancel", filter);
    assert_eq!(counted, json!({"dry_run": true, "matched": 3, "changed": 0, "more": false}));
    assert_eq!(status(&mut client, &wanted[0]), "queued");
    let filter = json!({"agent_slug": "writer", "context_id": "garden"});
    let done = many(&mut client, "cancel", filter.clone());
    assert_eq!((&done["matched"], &done["changed"]), (&json!(3), &json!(3)));
    for task in &wanted {
        assert_eq!(status(&mut client, task), "cancelled");
        assert_eq!(client.audit_of(task)[0]["action"], "task_cancelled");
    }
    for task in &others {
        assert_eq!(status(&mut client, task), "queued");
    }
    assert_eq!(many(&mut client, "cancel", filter)["matched"], 0, "they are cancelled already");
    let done = many(&mut client, "requeue", json!({"status": ["failed", "cancelled"]}));
    assert_eq!(done["changed"], 3);
    assert_eq!(status(&mut client, &wanted[2]), "queued");
}

#[test]
fn the_list_is_filtered_by_agent_context_worker_and_text() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let of = |client: &mut Client, agent: &str, context: &str, prompt: &str| {
        id(&client.create(json!({"agent_slug": agent, "context_id": context, "prompt": prompt})))
    };
    let first = of(&mut client, "writer", "garden", "Say Hello");
    let second = of(&mut client, "writer", "house", "Say goodbye");
    let third = of(&mut client, "reviewer", "garden", "ПОМІДОРИ");
    client.act(&first, "lease", json!({})).ok(201);
    let mut listed = |query: &str| {
        let rows = client.get(&format!("{TASKS}?{query}")).ok(200);
        rows.as_array().expect("an array").iter().map(id).collect::<Vec<_>>()
    };
    assert_eq!(listed("agent_slug=writer"), [second.clone(), first.clone()]);
    assert_eq!(listed("agent_slug=writer&context_id=garden"), [first.as_str()]);
    assert_eq!(listed("worker_id=w"), [first.as_str()]);
    assert_eq!(listed("q=hello"), [first.as_str()]);
    assert_eq!(listed("q=%D0%BF%D0%BE%D0%BC%D1%96%D0%B4%D0%BE%D1%80%D0%B8"), [third]);
    assert_eq!(listed("q=say&status=queued"), [second]);
    assert_eq!(listed("agent_slug=nobody"), [""; 0]);
    assert_eq!(listed("agent_slug=").len(), 3);
    let page = client.get(&format!("{TASKS}?agent_slug=writer&limit=1"));
    let link = page.header("link").expect("there is a second").to_owned();
    assert!(link.contains("agent_slug=writer") && link.contains("cursor="), "{link}");
    let next = link.split(['<', '>']).nth(1).expect("an address");
    let rest = client.get(next).ok(200);
    assert_eq!(rest.as_array().expect("an array").iter().map(id).collect::<Vec<_>>(), [first]);
}

#[test]
fn chosen_ids_and_a_worker_choose_and_what_cannot_be_changed_is_left_alone() {
    let server = Server::start();
    let mut client = server.client();
    client.register("a", 4);
    let (first, second) = (client.new_task(), client.new_task());
    for _ in 0..2 {
        client.claim("a", json!({})).ok(200);
    }
    let third = client.new_task();
    let ids = json!([first, first, "nonsense", "00000000-00ff-8000-8000-000000000000", third]);
    let done = many(&mut client, "cancel", json!({"ids": ids, "worker_id": "a"}));
    assert_eq!((&done["matched"], &done["changed"]), (&json!(1), &json!(1)));
    assert_eq!(status(&mut client, &third), "queued");
    assert_eq!(many(&mut client, "requeue", json!({"ids": [second]}))["matched"], 0);
    assert_eq!(many(&mut client, "requeue", json!({"ids": []}))["matched"], 0);
    assert_eq!(many(&mut client, "cancel", json!({"worker_id": "a"}))["changed"], 1);
}

#[test]
fn a_call_that_names_nothing_or_nonsense_changes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    let task = client.new_task();
    for body in [
        json!({}),
        json!({"dry_run": false}),
        json!({"status": "nope"}),
        json!({"status": ["queued", "nope"]}),
        json!({"status": 5}),
        json!({"ids": "all"}),
        json!({"agent_slug": 5}),
    ] {
        let answer = client.post(&format!("{TASKS}/cancel"), body.clone());
        assert_eq!(answer.status, 400, "{body}: {answer}");
    }
    assert_eq!(status(&mut client, &task), "queued");
    assert_eq!(client.get(&format!("{TASKS}/cancel")).status, 405);
}

#[test]
fn more_than_one_page_is_changed_by_one_call() {
    let server = Server::start();
    let mut client = server.client();
    for _ in 0..1_100 {
        client.new_task();
    }
    let done = many(&mut client, "cancel", json!({"status": "queued"}));
    assert_eq!((&done["matched"], &done["changed"]), (&json!(1_100), &json!(1_100)));
    let counts = client.get("/api/runtime/stats").ok(200)["tasks"]["by_status"].clone();
    assert_eq!(counts, json!({"cancelled": 1_100}));
}

#[test]
fn every_attempt_can_be_read_back_also_after_a_requeue_by_hand() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let task = client.new_task();
    let mut leases = Vec::new();
    let mut claim = |client: &mut Client| {
        leases.push(id(&client.claim("w", json!({})).ok(200)["lease"]));
        leases.last().expect("just pushed").clone()
    };
    let lease = claim(&mut client);
    let stopping = json!({"code": "worker_stopping", "error_message": "told to stop"});
    client.act(&task, "release", under(&lease, stopping)).ok(200);
    let lease = claim(&mut client);
    let mut error = under(&lease, failure("no such file"));
    error["code"] = json!("claude_error");
    client.act(&task, "complete", error).ok(200);
    client.act(&task, "requeue", json!({})).ok(200);
    let lease = claim(&mut client);
    let attempts = format!("{TASKS}/{task}/attempts");
    let running = client.get(&attempts).ok(200)[2].clone();
    assert_eq!((&running["outcome"], &running["ended_at"]), (&Value::Null, &Value::Null));
    client.act(&task, "complete", under(&lease, success("done"))).ok(200);
    let told = client.get(&attempts).ok(200);
    let told = told.as_array().expect("an array");
    let column = |name: &str| told.iter().map(|row| row[name].clone()).collect::<Vec<_>>();
    assert_eq!(column("attempt"), [1, 2, 3]);
    assert_eq!(column("lease_id"), leases);
    assert_eq!(column("outcome"), ["released", "error", "success"]);
    assert_eq!(column("code"), [json!("worker_stopping"), json!("claude_error"), Value::Null]);
    assert_eq!(
        column("error_message"),
        [json!("told to stop"), json!("no such file"), Value::Null]
    );
    assert!(told[2]["artifact_id"].is_string() && told[2]["metrics"]["duration_ms"].is_u64());
    assert_eq!(client.get(&format!("{TASKS}/nope/attempts")).status, 404);
}

#[test]
fn a_task_that_waits_is_explained_worker_by_worker() {
    let server = Setup::default().env("AGENT_LIMITS", "reviewer=1").start();
    let mut client = server.client();
    let waiting =
        |client: &mut Client, task: &str| client.get(&format!("{TASKS}/{task}/waiting")).ok(200);
    let codes = |told: &Value, list: &str| -> Vec<Value> {
        told[list].as_array().expect("a list").iter().map(|row| row["code"].clone()).collect()
    };
    let task = id(&client.create(json!({"labels": ["gpu"], "agent_slug": "reviewer"})));
    let told = waiting(&mut client, &task);
    assert_eq!(
        (codes(&told, "reasons"), codes(&told, "workers")),
        (vec![json!("no_worker")], vec![])
    );

    let gpu = json!({"labels": ["gpu"]});
    client.post(WORKERS, json!({"name": "away", "status": "offline", "capabilities": gpu})).ok(201);
    client.post(WORKERS, json!({"name": "mute", "capabilities": {"claude_cli": false}})).ok(201);
    client.register("plain", 1);
    for name in ["leaving", "limited", "full"] {
        client.post(WORKERS, json!({"name": name, "capabilities": gpu})).ok(201);
    }
    let blocker = id(&client.create(json!({"agent_slug": "reviewer"})));
    client.act(&blocker, "lease", json!({"worker_id": "full"})).ok(201);
    let limited = id(&client.create(json!({})));
    let granted = client.act(&limited, "lease", json!({"worker_id": "limited"})).ok(201);
    let limit = json!({"code": "usage_limit", "retry_after_seconds": 600});
    client.act(&limited, "release", under(&id(&granted["lease"]), limit)).ok(200);
    client.post_nothing(&format!("{WORKERS}/leaving/drain")).ok(200);

    let told = waiting(&mut client, &task);
    assert_eq!((&told["waiting"], &told["status"]), (&json!(true), &json!("queued")));
    assert_eq!(codes(&told, "reasons"), ["agent_limit", "no_worker"]);
    let expected = [
        "worker_not_online",
        "worker_without_claude_cli",
        "worker_label_missing",
        "worker_draining",
        "worker_cooling",
        "worker_at_capacity",
    ];
    assert_eq!(codes(&told, "workers"), expected);
    assert_eq!(told["workers"][2]["text"], "It does not offer: gpu");
    assert!(told["workers"][4]["until"].is_i64(), "{told}");

    client.post(WORKERS, json!({"name": "ready", "capabilities": gpu})).ok(201);
    client.act(&blocker, "cancel", json!({})).ok(200);
    let told = waiting(&mut client, &task);
    assert_eq!(codes(&told, "reasons"), Vec::<Value>::new());
    assert_eq!(
        (&told["workers"][6]["code"], &told["workers"][6]["may_take"]),
        (&json!("free"), &json!(true))
    );

    let later = id(&client.create(json!({"not_before": 4_000_000_000_000_i64})));
    let told = waiting(&mut client, &later);
    assert_eq!(told["reasons"][0]["code"], "not_before");
    assert_eq!(told["reasons"][0]["until"], 4_000_000_000_000_i64);
    client.act(&later, "cancel", json!({})).ok(200);
    let told = waiting(&mut client, &later);
    assert_eq!(
        (&told["waiting"], codes(&told, "reasons")),
        (&json!(false), vec![json!("not_queued")])
    );
    assert_eq!(client.get(&format!("{TASKS}/nope/waiting")).status, 404);
}

#[test]
fn a_backoff_is_explained_with_its_end() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let retry = json!({"on_error": true, "backoff_seconds": 600, "max_backoff_seconds": 600});
    let task = id(&client.create(json!({"policy": {"retry": retry}})));
    let lease = id(&client.claim("w", json!({})).ok(200)["lease"]);
    let done = client.act(&task, "complete", under(&lease, failure("x"))).ok(200);
    let told = client.get(&format!("{TASKS}/{task}/waiting")).ok(200);
    let (reason, worker) = (&told["reasons"][0], &told["workers"][0]);
    assert_eq!((&reason["code"], &worker["code"]), (&json!("backoff"), &json!("free")));
    let drift = reason["until"].as_i64().unwrap() - done["task"]["retry_at"].as_i64().unwrap();
    assert!(drift.abs() < 10_000, "{drift}");
}
