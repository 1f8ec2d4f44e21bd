//! Claim: a worker asks for work, waits for it, and is given what fits (P2).

use crate::harness::{Server, WORKERS, column, eventually, failure, id, rows, success, under};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A claim that waits in a thread of its own; the tests hold whether it arrives early or late.
fn waiting<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    server: &'scope Server,
    worker: &'scope str,
    wait_seconds: u32,
) -> std::thread::ScopedJoinHandle<'scope, (u16, Vec<u8>, Duration)> {
    scope.spawn(move || {
        let began = Instant::now();
        let answer = server.client().claim(worker, json!({"wait_seconds": wait_seconds}));
        (answer.status, answer.body, began.elapsed())
    })
}

fn claimed(body: &[u8]) -> Value {
    serde_json::from_slice(body).expect("a claim's answer is JSON")
}

#[test]
fn a_claim_is_a_lease_with_its_task() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let task = client.create(json!({"prompt": "write", "policy": {"timeout_sec": 600}}));
    let answer = client.claim("w", json!({})).ok(200);
    assert_eq!(answer["task"]["id"], task["id"]);
    assert_eq!(
        (&answer["task"]["prompt"], &answer["task"]["status"]),
        (&json!("write"), &json!("leased"))
    );
    assert_eq!(answer["task"]["attempts"], 1);
    assert_eq!(answer["lease"]["id"], answer["task"]["lease_id"]);
    assert_eq!(
        (&answer["lease"]["worker_id"], &answer["lease"]["ttl_seconds"]),
        (&json!("w"), &json!(630))
    );
    let lease = id(&answer["lease"]);
    assert_eq!(client.audit_of(&lease)[0]["action"], "task_leased");
    client.act(&id(&task), "complete", success("x")).ok(200);
    client.new_task();
    let answer = client.claim("w", json!({"lease_seconds": 42})).ok(200);
    assert_eq!(answer["lease"]["ttl_seconds"], 42);
}

#[test]
fn a_claim_without_work_is_204_at_once_or_after_its_wait() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    for body in [json!({}), json!({"wait_seconds": 0}), json!({"wait_seconds": null})] {
        let answer = client.claim("w", body);
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{answer}");
    }
    assert_eq!(client.post_nothing(&format!("{WORKERS}/w/claim")).status, 204);
    let began = Instant::now();
    assert_eq!(client.claim("w", json!({"wait_seconds": 1})).status, 204);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn a_waiting_claim_is_woken_by_the_tasks_arrival() {
    let server = Server::start();
    server.client().register("w", 1);
    std::thread::scope(|scope| {
        let waiter = waiting(scope, &server, "w", 55);
        let task = server.client().new_task();
        let (status, body, took) = waiter.join().unwrap();
        assert_eq!(status, 200);
        assert_eq!(claimed(&body)["task"]["id"], task.as_str());
        assert!(took < Duration::from_secs(25), "woken, not timed out: {took:?}");
    });
}

#[test]
fn a_waiting_claim_is_woken_by_a_requeue_an_expiry_and_a_free_place() {
    let server = Server::start();
    let mut client = server.client();
    client.register("a", 1);
    client.register("b", 1);
    let task = client.new_task();
    client.lease(&task, "a", 1);
    // By the expiry of a's lease.
    let answer = client.claim("b", json!({"wait_seconds": 30})).ok(200);
    assert_eq!(answer["task"]["id"], task.as_str());
    // By a free place: b is full until it completes.
    let second = client.new_task();
    std::thread::scope(|scope| {
        let waiter = waiting(scope, &server, "b", 30);
        let lease = id(&answer["lease"]);
        let body = under(&lease, failure("no"));
        server.client().act(&task, "complete", body).ok(200);
        let (status, body, _) = waiter.join().unwrap();
        assert_eq!((status, &claimed(&body)["task"]["id"]), (200, &json!(second)));
    });
    // By a human's requeue.
    std::thread::scope(|scope| {
        let waiter = waiting(scope, &server, "a", 30);
        server.client().act(&task, "requeue", json!({})).ok(200);
        let (status, body, _) = waiter.join().unwrap();
        assert_eq!((status, &claimed(&body)["task"]["id"]), (200, &json!(task)));
    });
}

#[test]
fn one_task_wakes_one_of_many_waiting_workers() {
    let server = Server::start();
    let names: Vec<_> = (0..20).map(|n| format!("w{n}")).collect();
    names.iter().for_each(|name| drop(server.client().register(name, 1)));
    std::thread::scope(|scope| {
        let waiters: Vec<_> = names.iter().map(|name| waiting(scope, &server, name, 3)).collect();
        let tasks = [server.client().new_task(), server.client().new_task()];
        let answers: Vec<_> = waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect();
        let winners = answers.iter().filter(|(status, ..)| *status == 200);
        let mut got: Vec<_> = winners.map(|(_, body, _)| id(&claimed(body)["task"])).collect();
        got.sort();
        let mut made = tasks.to_vec();
        made.sort();
        assert_eq!(got, made);
        assert!(answers.iter().all(|(status, ..)| *status == 200 || *status == 204));
    });
}

#[test]
fn a_waiting_claim_is_answered_at_once_when_the_server_ends() {
    let mut server = Server::start();
    server.client().register("w", 1);
    let before = server.client().get(&format!("{WORKERS}/w")).ok(200)["last_heartbeat"].clone();
    let mut client = server.client();
    // Its sign of life is shown in milliseconds: the claim's has to be another one.
    std::thread::sleep(Duration::from_millis(5));
    let began = Instant::now();
    let waiter = std::thread::spawn(move || client.claim("w", json!({"wait_seconds": 55})));
    // A claim is a sign of life: when it shows, the claim has arrived.
    eventually("the claim's sign of life", || {
        let now = server.client().get(&format!("{WORKERS}/w")).ok(200)["last_heartbeat"].clone();
        (now != before).then_some(())
    });
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(waiter.join().unwrap().status, 204);
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
}

#[test]
fn a_claim_takes_no_more_than_the_workers_capacity() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 2);
    let tasks: Vec<_> = (0..3).map(|_| client.new_task()).collect();
    let first = client.claim("w", json!({})).ok(200);
    client.claim("w", json!({})).ok(200);
    assert_eq!(client.claim("w", json!({})).status, 204);
    client.act(&id(&first["task"]), "complete", success("x")).ok(200);
    assert_eq!(client.claim("w", json!({})).ok(200)["task"]["id"], tasks[2].as_str());
}

#[test]
fn a_claim_takes_the_highest_priority_first_and_the_oldest_within_it() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 32);
    let priorities = [0, 5, 9, 5, 0, 9];
    let made = priorities.map(|priority| {
        let context = format!("ctx-{priority}-{}", std::process::id());
        id(&client.create(json!({"priority": priority, "context_id": context})))
    });
    let order = [2, 5, 1, 3, 0, 4].map(|n| made[n].clone());
    let got = [(); 6].map(|()| id(&client.claim("w", json!({})).ok(200)["task"]));
    assert_eq!(got, order);
}

#[test]
fn a_claim_prefers_the_context_that_the_worker_already_holds_among_equals() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 32);
    let mut create = |context: &str, priority: u32| {
        id(&client.create(json!({"context_id": context, "priority": priority})))
    };
    let (held, other, sticky) = (create("warm", 0), create("cold", 0), create("warm", 0));
    let urgent = create("hot", 1);
    client.lease(&held, "w", 60);
    let got = [(); 3].map(|()| id(&client.claim("w", json!({})).ok(200)["task"]));
    assert_eq!(got, [urgent, sticky, other], "priority first, then the warm context, then age");
}

#[test]
fn a_task_that_asks_for_labels_goes_only_to_a_worker_that_has_them_all() {
    let server = Server::start();
    let mut client = server.client();
    let with =
        |name: &str, labels: Value| json!({"name": name, "capabilities": {"labels": labels}});
    client.post(WORKERS, with("plain", json!([]))).ok(201);
    client.post(WORKERS, with("half", json!(["gpu"]))).ok(201);
    let task = id(&client.create(json!({"labels": ["gpu", "large"]})));
    for worker in ["plain", "half"] {
        assert_eq!(client.claim(worker, json!({})).status, 204, "{worker}");
    }
    client.act(&task, "lease", json!({})).refused(503, "No available worker with free capacity");
    client.post(WORKERS, with("whole", json!(["large", "x", "gpu"]))).ok(201);
    assert_eq!(client.act(&task, "lease", json!({})).ok(201)["worker"]["id"], "whole");
}

#[test]
fn a_claim_by_a_worker_that_could_not_lease_gets_nothing() {
    let server = Server::start();
    let mut client = server.client();
    client.new_task();
    client.claim("ghost", json!({})).refused(404, "Worker not found");
    client.post(WORKERS, json!({"name": "nocli", "capabilities": {"claude_cli": false}})).ok(201);
    let answer = client.claim("nocli", json!({}));
    assert!(answer.status == 204 || answer.status == 503, "{answer}");
    assert_eq!(column(&rows(&client.get("/api/runtime/llm-tasks")), "status"), ["queued"]);
}

#[test]
fn a_client_that_hangs_up_takes_no_task_with_it() {
    use std::io::Write;
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 32);
    let before = server.open_sockets();
    let claim = format!(
        "POST {WORKERS}/w/claim HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 19\r\n\r\n{{\"wait_seconds\":55}}"
    );
    let gone = [(); 20].map(|()| {
        let mut stream = crate::http::connect(server.address()).unwrap();
        stream.get_mut().write_all(claim.as_bytes()).unwrap();
        stream
    });
    eventually("twenty claims arrive", || (server.open_sockets() >= before + 20).then_some(()));
    drop(gone);
    eventually("the server sees them go", || (server.open_sockets() <= before).then_some(()));
    client.register("alive", 1);
    let task = client.new_task();
    let answer = client.claim("alive", json!({})).ok(200);
    assert_eq!(answer["task"]["id"], task.as_str());
}
