//! Fencing, idempotence, cancelling and expiry over HTTP (P2, P3, P5, P7).

use crate::harness::{Server, TASKS, eventually, failure, fence, id, rows, success, under};
use crate::http::{Answer, Client};
use serde_json::{Value, json};

#[track_caller]
fn lost(answer: &Answer) {
    assert_eq!(answer.refused_somehow(409), "lease_lost", "{answer}");
}

/// A task whose first lease has expired and whose second is held by `new`.
fn granted_again(client: &mut Client) -> (String, String, String) {
    client.register("old", 1);
    client.register("new", 1);
    let task = client.new_task();
    let first = client.lease(&task, "old", 1);
    client.until(&task, "queued");
    let second = client.lease(&task, "new", 60);
    assert_ne!(first, second);
    (task, first, second)
}

#[test]
fn a_worker_whose_lease_expired_cannot_heartbeat_or_complete() {
    let server = Server::start();
    let mut client = server.client();
    let (task, first, second) = granted_again(&mut client);
    let before = client.task(&task);
    lost(&client.act(&task, "heartbeat", json!({"lease_id": first})));
    lost(&client.act(&task, "complete", under(&first, success("stale"))));
    lost(&client.act(&task, "complete", under(&first, json!({"status": 5}))));
    assert_eq!(client.task(&task), before, "a write that carries an old lease changes nothing");
    assert_eq!(client.get("/api/runtime/artifacts").ok(200), json!([]));
    client.act(&task, "heartbeat", json!({"lease_id": second})).ok(200);
    let done = client.act(&task, "complete", under(&second, success("fresh"))).ok(200);
    assert_eq!(
        (&done["result"]["output"], &done["result"]["worker_id"]),
        (&json!("fresh"), &json!("new"))
    );
    lost(&client.act(&task, "complete", under(&first, success("stale"))));
}

#[test]
fn without_a_lease_id_nobody_is_believed_once_a_lease_expired() {
    let server = Server::start();
    let mut client = server.client();
    let (task, _, second) = granted_again(&mut client);
    // It could be either worker: only the one that proves its lease counts.
    lost(&client.act(&task, "heartbeat", json!({})));
    lost(&client.act(&task, "complete", success("whose?")));
    assert_eq!(client.task(&task)["status"], "leased");
    client.act(&task, "complete", under(&second, failure("boom"))).ok(200);
    // A human's requeue begins a new count.
    client.act(&task, "requeue", json!({})).ok(200);
    client.lease(&task, "new", 60);
    client.act(&task, "heartbeat", json!({})).ok(200);
    client.act(&task, "complete", success("plain")).ok(200);
}

#[test]
fn between_two_leases_the_old_worker_is_told_that_it_lost() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let task = client.new_task();
    let first = client.lease(&task, "w", 1);
    client.until(&task, "queued");
    for body in [json!({"lease_id": first}), json!({})] {
        let answer = client.act(&task, "heartbeat", body);
        assert!(
            answer.status == 409 || answer.status == 404,
            "an ended lease stays ended: {answer}"
        );
    }
    lost(&client.act(&task, "heartbeat", json!({"lease_id": first})));
    lost(&client.act(&task, "complete", under(&first, success("late"))));
    assert_eq!(client.task(&task)["status"], "queued");
}

#[test]
fn after_a_requeue_the_old_lease_changes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let task = client.new_task();
    let first = client.lease(&task, "w", 60);
    let answer = client.act(&task, "complete", under(&first, failure("boom"))).ok(200);
    client.act(&task, "requeue", json!({})).ok(200);
    // The lease that completed hears its stored answer again (P7), and the task does not move.
    let again = client.act(&task, "complete", under(&first, success("again"))).ok(200);
    assert_eq!(again["artifact"], answer["artifact"]);
    assert_eq!(again["result"], answer["result"]);
    lost(&client.act(&task, "heartbeat", json!({"lease_id": first})));
    assert_eq!(client.task(&task)["status"], "queued");
    let second = client.lease(&task, "w", 60);
    client.act(&task, "complete", under(&first, success("again"))).ok(200);
    assert_eq!(client.task(&task)["status"], "leased");
    let done = client.act(&task, "complete", under(&second, success("right"))).ok(200);
    assert_eq!(done["result"]["output"], "right");
    let artifacts = rows(&client.get(&format!("/api/runtime/artifacts?task_id={task}")));
    assert_eq!(artifacts.len(), 2, "one for each completion");
    // A lease that was cancelled never completed anything.
    let task = client.new_task();
    let cancelled = client.lease(&task, "w", 60);
    client.act(&task, "cancel", json!({})).ok(200);
    client.act(&task, "requeue", json!({})).ok(200);
    lost(&client.act(&task, "complete", under(&cancelled, success("late"))));
    lost(&client.act(&task, "heartbeat", json!({"lease_id": cancelled})));
    assert_eq!(client.task(&task)["status"], "queued");
}

#[test]
fn complete_sent_twice_under_its_lease_answers_the_same_and_works_once() {
    let mut server = Server::start();
    let mut client = server.client();
    client.register("w", 2);
    for (body, other) in [(success("out"), failure("no")), (failure("no"), success("out"))] {
        let task = client.new_task();
        let lease = client.lease(&task, "w", 60);
        let first = client.act(&task, "complete", under(&lease, body.clone())).ok(200);
        // Whatever the body: what counts is what was stored.
        for again in [body, other, json!({}), json!({"status": 5})] {
            assert_eq!(client.act(&task, "complete", under(&lease, again)).ok(200), first);
        }
        assert_eq!(rows(&client.get(&format!("/api/runtime/artifacts?task_id={task}"))).len(), 1);
        let done = client.audit_of(&task);
        assert_eq!(done.iter().filter(|entry| entry["action"] == "task_completed").count(), 1);
    }
    let task = client.new_task();
    let lease = client.lease(&task, "w", 60);
    let first = client.act(&task, "complete", under(&lease, success("out"))).ok(200);
    server.kill9();
    server.restart();
    let again = server.client().act(&task, "complete", under(&lease, success("out"))).ok(200);
    assert_eq!(again, first, "also after a crash");
}

#[test]
fn the_base_path_of_a_lease_carries_it_for_clients_that_only_take_a_url() {
    let server = Server::start();
    let mut client = server.client();
    let (task, first, second) = granted_again(&mut client);
    let agent = |lease: &str, verb: &str| format!("/l/{lease}{TASKS}/{task}/{verb}");
    lost(&client.post_nothing(&agent(&first, "heartbeat")));
    lost(&client.post(&agent(&first, "complete"), success("stale")));
    client.post_nothing(&agent(&second, "heartbeat")).ok(200);
    let done = client.post(&agent(&second, "complete"), success("fresh")).ok(200);
    assert_eq!(client.post(&agent(&second, "complete"), success("fresh")).ok(200), done);
    // The rest of the API is there too.
    assert_eq!(client.get(&format!("/l/{second}{TASKS}/{task}")).ok(200)["status"], "completed");
    client.get(&format!("/l/{second}/api/runtime/health")).ok(200);
}

#[test]
fn every_grant_has_a_larger_fencing_number_even_after_a_crash() {
    let mut server = Server::start();
    let task = server.client().new_task();
    server.client().register("w", 1);
    let mut last = 0;
    for round in 0..4 {
        let mut client = server.client();
        let granted = client.act(&task, "lease", json!({"worker_id": "w"})).ok(201);
        let fencing = fence(&granted["lease"]);
        assert!(fencing > last, "{fencing} after {last} in round {round}");
        last = fencing;
        client.act(&task, "complete", failure("again")).ok(200);
        server.kill9();
        server.restart();
        server.client().act(&task, "requeue", json!({})).ok(200);
    }
}

#[test]
fn a_running_worker_learns_of_a_cancel_from_its_next_heartbeat() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    for under_its_lease in [true, false] {
        let task = client.new_task();
        let lease = client.lease(&task, "w", 60);
        let body = if under_its_lease { json!({"lease_id": lease}) } else { json!({}) };
        client.act(&task, "heartbeat", body.clone()).ok(200);
        assert_eq!(client.act(&task, "cancel", json!({})).ok(200)["status"], "cancelled");
        let told = client.act(&task, "heartbeat", body);
        assert_eq!(told.refused_somehow(409), "task_cancelled", "{told}");
        let late = client.act(&task, "complete", under(&lease, success("too late")));
        late.refused_somehow(409);
        assert_eq!(client.task(&task)["status"], "cancelled");
        // Its place is free again at once.
        assert_eq!(client.get("/api/runtime/workers/w").ok(200)["active_leases"], 0);
    }
}

/// Everything that the end of a lease of one second must leave behind.
fn expiry(client: &mut Client, heartbeat: bool, max_attempts: u32, ends_as: &str) {
    let task = id(&client.create(json!({"max_attempts": max_attempts})));
    let lease = client.lease(&task, "w", 1);
    if heartbeat {
        assert_eq!(client.act(&task, "heartbeat", json!({})).ok(200)["lease"]["status"], "active");
    }
    let ended = client.until(&task, ends_as);
    assert_eq!(ended["attempts"], 1);
    let kept = if ends_as == "dead" { json!(lease) } else { Value::Null };
    assert_eq!(ended["lease_id"], kept, "{ended}");
    let audit = &client.audit_of(&lease)[0];
    assert_eq!((&audit["action"], &audit["actor"]), (&json!("lease_expired"), &json!("reaper")));
    let expired = rows(&client.get("/api/runtime/leases?status=expired"));
    assert_eq!(expired[0]["id"], lease);
    assert_eq!(client.get("/api/runtime/workers/w").ok(200)["active_leases"], 0);
}

#[test]
fn an_expired_lease_returns_its_task_or_ends_it_leased_and_running_alike() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    for heartbeat in [false, true] {
        expiry(&mut client, heartbeat, 2, "queued");
        expiry(&mut client, heartbeat, 1, "dead");
    }
}

#[test]
fn a_lease_ends_within_a_second_of_its_time_and_never_before() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let task = client.new_task();
    let asked = std::time::Instant::now();
    let granted = client.act(&task, "lease", json!({"ttl_seconds": 1})).ok(201);
    let answered = std::time::Instant::now();
    assert_eq!(granted["lease"]["ttl_seconds"], 1);
    let ended = eventually("queued again", || {
        let before = std::time::Instant::now();
        (client.task(&task)["status"] == "queued").then_some((before, std::time::Instant::now()))
    });
    // Sure limits only: it was seen ended after `answered`, and was granted after `asked`.
    assert!(ended.1 - asked >= std::time::Duration::from_secs(1), "P4: ended early");
    assert!(ended.0 - answered < std::time::Duration::from_secs(5), "P5: far too late");
}

#[test]
fn heartbeats_keep_a_short_lease_alive() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let task = client.new_task();
    let lease = client.lease(&task, "w", 2);
    let began = std::time::Instant::now();
    while began.elapsed() < std::time::Duration::from_secs(4) {
        client.act(&task, "heartbeat", json!({"lease_id": lease})).ok(200);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(client.task(&task)["lease_id"], lease);
    client.act(&task, "complete", under(&lease, success("x"))).ok(200);
}

#[test]
fn a_restart_gives_every_lease_its_full_time_again() {
    let mut server = Server::start();
    let mut client = server.client();
    client.register("w", 2);
    let (short, long) = (client.new_task(), client.new_task());
    client.lease(&short, "w", 1);
    let lease = client.lease(&long, "w", 60);
    client.act(&long, "heartbeat", json!({})).ok(200);
    server.kill9();
    server.restart();
    let mut client = server.client();
    client.until(&short, "queued");
    client.act(&long, "heartbeat", json!({"lease_id": lease})).ok(200);
    client.act(&long, "complete", under(&lease, success("over the crash"))).ok(200);
}
