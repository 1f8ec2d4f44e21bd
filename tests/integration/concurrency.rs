//! Many at once on the same tasks: one winner each, no lost update, counts that add up (P2, P6, P7).

use crate::harness::{Server, TASKS, column, failure, id, rows, success, under};
use crate::http::{Answer, Client};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::sync::Barrier;

const THREADS: usize = 12;

/// Runs `act` in every thread at the same moment, each with its own connection.
pub fn together<T: Send>(server: &Server, act: impl Fn(usize, &mut Client) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|n| {
                let (start, act) = (&start, &act);
                scope.spawn(move || {
                    let mut client = server.client();
                    client.get("/api/runtime/health");
                    start.wait();
                    act(n, &mut client)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread's own failure")).collect()
    })
}

fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

/// Statistics are kept counts: they must equal a recount of the lists.
#[track_caller]
pub fn stats_add_up(client: &mut Client) {
    let stats = client.get("/api/runtime/stats").ok(200);
    let mut by_status = BTreeMap::new();
    let tasks = every_row(client, TASKS);
    for status in column(&tasks, "status") {
        *by_status.entry(status).or_insert(0) += 1;
    }
    assert_eq!(stats["tasks"]["by_status"], json!(by_status));
    assert_eq!(stats["tasks"]["total"], tasks.len());
    let leases = every_row(client, "/api/runtime/leases");
    let active = leases.iter().filter(|lease| lease["status"] == "active").count();
    assert_eq!(
        (&stats["leases"]["total"], &stats["leases"]["active"]),
        (&json!(leases.len()), &json!(active))
    );
    let held =
        tasks.iter().filter(|task| task["status"] == "leased" || task["status"] == "running");
    assert_eq!(held.count(), active, "P2: one active lease for each held task");
}

/// A whole list, through its pages.
#[track_caller]
pub fn every_row(client: &mut Client, path: &str) -> Vec<Value> {
    let (mut all, mut at) = (Vec::new(), Some(format!("{path}?limit=500")));
    while let Some(path) = at {
        let answer = client.get(&path);
        all.extend(rows(&answer));
        let target = answer.header("link").and_then(|link| link.split(['<', '>']).nth(1));
        at = target.and_then(|url| url.find("/api/").map(|start| url[start..].to_owned()));
    }
    all
}

#[test]
fn of_many_lease_calls_for_one_task_exactly_one_wins() {
    let server = Server::start();
    server.client().register("w", 32);
    for _ in 0..10 {
        let task = server.client().new_task();
        let answers = together(&server, |_, client| client.act(&task, "lease", json!({})));
        assert_eq!((count(&answers, 201), count(&answers, 409)), (1, THREADS - 1));
        for refused in answers.iter().filter(|answer| answer.status == 409) {
            refused.refused(409, "Task status is 'leased', expected 'queued'");
        }
        assert_eq!(server.client().task(&task)["attempts"], 1);
        server.client().act(&task, "complete", success("x")).ok(200);
    }
    stats_add_up(&mut server.client());
}

#[test]
fn a_worker_never_gets_more_than_its_capacity() {
    for named in [true, false] {
        let server = Server::start();
        server.client().register("w", 3);
        let tasks: Vec<_> = (0..THREADS).map(|_| server.client().new_task()).collect();
        let worker = if named { json!("w") } else { Value::Null };
        let answers = together(&server, |n, client| {
            client.act(&tasks[n], "lease", json!({"worker_id": worker}))
        });
        assert_eq!((count(&answers, 201), count(&answers, 503)), (3, THREADS - 3));
        let worker = server.client().get("/api/runtime/workers/w").ok(200);
        assert_eq!(worker["active_leases"], 3);
    }
    let server = Server::start();
    server.client().register("w", 3);
    (0..THREADS).for_each(|_| drop(server.client().new_task()));
    let answers = together(&server, |_, client| client.claim("w", json!({})));
    assert_eq!((count(&answers, 200), count(&answers, 204)), (3, THREADS - 3));
    stats_add_up(&mut server.client());
}

#[test]
fn each_task_is_claimed_by_one_worker_only() {
    let server = Server::start();
    (0..THREADS).for_each(|n| drop(server.client().register(&format!("w{n}"), 8)));
    let tasks: HashSet<_> = (0..60).map(|_| server.client().new_task()).collect();
    let claimed = together(&server, |n, client| {
        let mut got = Vec::new();
        loop {
            let answer = client.claim(&format!("w{n}"), json!({}));
            if answer.status == 204 {
                return got;
            }
            got.push(id(&answer.ok(200)["task"]));
        }
    });
    let got: Vec<_> = claimed.into_iter().flatten().collect();
    assert_eq!(got.len(), 60, "nothing twice");
    assert_eq!(got.into_iter().collect::<HashSet<_>>(), tasks);
    stats_add_up(&mut server.client());
}

#[test]
fn many_completions_of_one_task_make_one_artifact() {
    let server = Server::start();
    server.client().register("w", 32);
    for under_its_lease in [true, false] {
        let task = server.client().new_task();
        let lease = server.client().lease(&task, "w", 60);
        let answers = together(&server, |n, client| {
            let body = if n % 2 == 0 { success("out") } else { failure("no") };
            let body = if under_its_lease { under(&lease, body) } else { body };
            client.act(&task, "complete", body)
        });
        let won: HashSet<_> =
            answers.iter().filter(|answer| answer.status == 200).map(Answer::text).collect();
        assert_eq!(won.len(), 1, "all winners got the same answer");
        let winners = if under_its_lease { THREADS } else { 1 };
        assert_eq!((count(&answers, 200), count(&answers, 409)), (winners, THREADS - winners));
        let artifacts =
            rows(&server.client().get(&format!("/api/runtime/artifacts?task_id={task}")));
        assert_eq!(artifacts.len(), 1);
        let audit = column(&server.client().audit_of(&task), "action");
        assert_eq!(audit.iter().filter(|action| *action == "task_completed").count(), 1);
    }
    stats_add_up(&mut server.client());
}

#[test]
fn a_heartbeat_that_races_a_completion_leaves_nothing_running() {
    let server = Server::start();
    server.client().register("w", 32);
    for _ in 0..30 {
        let task = server.client().new_task();
        let lease = server.client().lease(&task, "w", 60);
        let answers = together(&server, |n, client| match n {
            0 => client.act(&task, "complete", under(&lease, success("out"))),
            _ => client.act(&task, "heartbeat", json!({"lease_id": lease})),
        });
        answers[0].ok(200);
        assert!(answers[1..].iter().all(|answer| [200, 404, 409].contains(&answer.status)));
        assert_eq!(server.client().task(&task)["status"], "completed");
    }
    stats_add_up(&mut server.client());
}

#[test]
fn cancel_and_complete_at_once_have_one_winner() {
    let server = Server::start();
    server.client().register("w", 32);
    for _ in 0..30 {
        let task = server.client().new_task();
        let lease = server.client().lease(&task, "w", 60);
        let answers = together(&server, |n, client| match n % 2 {
            0 => client.act(&task, "complete", under(&lease, success("out"))),
            _ => client.act(&task, "cancel", json!({})),
        });
        let completed = answers.iter().step_by(2).any(|answer| answer.status == 200);
        let cancelled = answers.iter().skip(1).step_by(2).any(|answer| answer.status == 200);
        assert!(completed != cancelled, "completed {completed}, cancelled {cancelled}");
        let status = if completed { "completed" } else { "cancelled" };
        assert_eq!(server.client().task(&task)["status"], status);
        let artifacts =
            rows(&server.client().get(&format!("/api/runtime/artifacts?task_id={task}")));
        assert_eq!(artifacts.len(), usize::from(completed));
    }
    stats_add_up(&mut server.client());
}

#[test]
fn of_many_requeues_one_wins() {
    let server = Server::start();
    server.client().register("w", 32);
    for _ in 0..10 {
        let task = server.client().new_task();
        server.client().lease(&task, "w", 60);
        server.client().act(&task, "complete", failure("no")).ok(200);
        let answers = together(&server, |_, client| client.act(&task, "requeue", json!({})));
        assert_eq!((count(&answers, 200), count(&answers, 409)), (1, THREADS - 1));
        let audit = column(&server.client().audit_of(&task), "action");
        assert_eq!(audit.iter().filter(|action| *action == "task_requeued").count(), 1);
    }
    stats_add_up(&mut server.client());
}

#[test]
fn many_registrations_of_one_name_make_one_worker() {
    let server = Server::start();
    let answers =
        together(&server, |_, client| client.post("/api/runtime/workers", json!({"name": "w"})));
    assert_eq!((count(&answers, 201), count(&answers, 200)), (1, THREADS - 1));
    assert_eq!(rows(&server.client().get("/api/runtime/workers")).len(), 1);
}

#[test]
fn everything_at_once_keeps_every_promise() {
    let server = Server::start();
    (0..4).for_each(|n| drop(server.client().register(&format!("w{n}"), 2)));
    let tasks: Vec<_> = (0..8).map(|_| server.client().new_task()).collect();
    let won = together(&server, |n, client| {
        let (mut completed, mut seed) = (0_u32, n as u64 * 7919 + 1);
        for _ in 0..60 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let pick = (seed >> 33) as usize;
            let task = &tasks[pick % tasks.len()];
            let answer = match (pick / 16) % 6 {
                0 => client.act(task, "lease", json!({"ttl_seconds": 60})),
                1 => client.claim(&format!("w{}", pick % 4), json!({})),
                2 => client.act(task, "heartbeat", json!({})),
                3 => client.act(task, "cancel", json!({})),
                4 => client.act(task, "requeue", json!({})),
                _ => client.act(task, "complete", failure("again")),
            };
            assert!(answer.status < 500 || answer.status == 503, "{answer}");
            completed += u32::from(answer.status == 200 && answer.asked.ends_with("/complete"));
            for worker in rows(&client.get("/api/runtime/workers")) {
                assert!(worker["active_leases"].as_u64() <= Some(2), "P2: {worker}");
            }
        }
        completed
    });
    let mut client = server.client();
    stats_add_up(&mut client);
    let artifacts = every_row(&mut client, "/api/runtime/artifacts");
    assert_eq!(
        artifacts.len(),
        won.iter().sum::<u32>() as usize,
        "one artifact for each completion"
    );
    let leases = every_row(&mut client, "/api/runtime/leases");
    let mut active: BTreeMap<String, u32> = BTreeMap::new();
    for lease in leases.iter().filter(|lease| lease["status"] == "active") {
        *active.entry(lease["worker_id"].to_string()).or_default() += 1;
    }
    assert!(active.values().all(|count| *count <= 2), "P2: {active:?}");
}
