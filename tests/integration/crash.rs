//! Real kill -9 under load, with a ledger of every answered write (P1, P3, P6, P7, P8).
//!
//! Each round several workers drive tasks through their lives until the server is killed under
//! them; what was answered must be there afterwards, and nothing may be there twice. The moment of
//! the kill is a count of answers, not a time. `BLOOM_CRASH_ROUNDS=N` for more than five rounds.

use crate::concurrency::{every_row, stats_add_up};
use crate::harness::{Server, TASKS, failure, fence, id, rows, success, under};
use crate::http::{Answer, Client};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const THREADS: usize = 6;

/// What the server has answered about one task, in the order in which it happened.
#[derive(Clone, Default)]
struct Entry {
    /// The last status that an answer showed.
    status: String,
    /// A write that was sent and never answered: it may have happened or not.
    unanswered: Option<&'static str>,
    lease: String,
    fence: u64,
    /// The answers of completions, by lease.
    completed: Vec<(String, Value)>,
}

type Ledger = HashMap<String, Entry>;

/// One driver: it creates, claims and completes until its server is gone.
struct Driver<'a> {
    client: Client,
    worker: String,
    ledger: Ledger,
    /// Creates that were sent and never answered: as many tasks may be there unknown to us.
    unanswered_creates: usize,
    answered: &'a AtomicUsize,
    over: &'a AtomicBool,
}

impl Driver<'_> {
    fn ask(&mut self, path: &str, body: Value) -> io::Result<Answer> {
        if self.over.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let json = [("Content-Type", "application/json")];
        let answer =
            self.client.try_send("POST", path, &json, Some(body.to_string().as_bytes()))?;
        self.answered.fetch_add(1, Ordering::SeqCst);
        Ok(answer)
    }

    /// A write about a task that we know, entered before it is sent and crossed out when answered.
    fn write(&mut self, task: &str, verb: &'static str, body: Value) -> io::Result<Answer> {
        self.ledger.get_mut(task).expect("a known task").unanswered = Some(verb);
        let answer = self.ask(&format!("{TASKS}/{task}/{verb}"), body)?;
        let entry = self.ledger.get_mut(task).expect("a known task");
        entry.unanswered = None;
        Ok(answer)
    }

    fn life(&mut self, round: usize, n: usize) -> io::Result<()> {
        let body = json!({"context_id": format!("ctx-{round}"), "agent_slug": "writer",
            "prompt": format!("{round}/{n}"), "max_attempts": 10});
        self.unanswered_creates += 1;
        let created = self.ask(TASKS, body)?.ok(201);
        self.unanswered_creates -= 1;
        let task = id(&created);
        self.ledger.insert(task.clone(), Entry { status: "queued".into(), ..Entry::default() });
        let body = json!({"worker_id": self.worker, "ttl_seconds": 600});
        let granted = self.write(&task, "lease", body)?.ok(201);
        let entry = self.ledger.get_mut(&task).expect("a known task");
        entry.status = "leased".into();
        entry.lease = id(&granted["lease"]);
        entry.fence = fence(&granted["lease"]);
        let lease = entry.lease.clone();
        if n.is_multiple_of(3) {
            self.write(&task, "heartbeat", json!({"lease_id": lease}))?.ok(200);
            self.ledger.get_mut(&task).expect("a known task").status = "running".into();
        }
        let fails = n % 4 == 1;
        let body = if fails { failure("no") } else { success(&task) };
        let done = self.write(&task, "complete", under(&lease, body))?.ok(200);
        let entry = self.ledger.get_mut(&task).expect("a known task");
        entry.status = if fails { "failed" } else { "completed" }.into();
        entry.completed.push((lease, done));
        if fails && n % 8 == 1 {
            self.write(&task, "requeue", json!({}))?.ok(200);
            self.ledger.get_mut(&task).expect("a known task").status = "queued".into();
        }
        Ok(())
    }
}

/// Loads the server until it has given `kill_after` answers, kills it; what it had answered.
fn round(server: &mut Server, round: usize, kill_after: usize) -> (Ledger, usize) {
    let (answered, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut ledger = Ledger::new();
    let mut unknown = 0;
    std::thread::scope(|scope| {
        let drivers: Vec<_> = (0..THREADS)
            .map(|worker| {
                let mut driver = Driver {
                    client: server.client(),
                    worker: format!("w{worker}"),
                    ledger: Ledger::new(),
                    unanswered_creates: 0,
                    answered: &answered,
                    over: &over,
                };
                scope.spawn(move || {
                    let mut lives = 0;
                    while driver.life(round, lives).is_ok() {
                        lives += 1;
                    }
                    (driver.ledger, driver.unanswered_creates)
                })
            })
            .collect();
        while answered.load(Ordering::SeqCst) < kill_after {
            assert!(!drivers.iter().all(|driver| driver.is_finished()), "all drivers gave up");
            std::thread::yield_now();
        }
        server.kill9();
        over.store(true, Ordering::SeqCst);
        for driver in drivers {
            let (theirs, creates) = driver.join().expect("every answer before the kill was right");
            ledger.extend(theirs);
            unknown += creates;
        }
    });
    (ledger, unknown)
}

/// Which statuses a task may have after the restart, given what was answered.
fn possible(entry: &Entry) -> Vec<&str> {
    let then: &[&str] = match entry.unanswered {
        None => &[],
        Some("lease") => &["leased"],
        Some("heartbeat") => &["running"],
        Some("complete") => &["completed", "failed"],
        Some(_) => &["queued"],
    };
    // `running` is memory as much as `leased`: a heartbeat need not be a write of its own (P8),
    // but the first one, which changes the status, was answered and must be there.
    [&[entry.status.as_str()], then].concat()
}

/// Everything answered is there, nothing is there twice.
fn audit(client: &mut Client, ledger: &Ledger, unknown: usize) {
    let tasks: HashMap<_, _> =
        every_row(client, TASKS).into_iter().map(|task| (id(&task), task)).collect();
    for (task, entry) in ledger {
        let now = tasks.get(task).unwrap_or_else(|| panic!("P1: answered task {task} is lost"));
        let status = now["status"].as_str().unwrap_or_default();
        let possible = possible(entry);
        assert!(possible.contains(&status), "P1: {task} is {status}, answered {possible:?}");
    }
    assert!(tasks.len() <= ledger.len() + unknown, "{} tasks, {} known", tasks.len(), ledger.len());

    let mut artifacts: BTreeMap<String, usize> = BTreeMap::new();
    let listed = every_row(client, "/api/runtime/artifacts");
    let there: HashSet<_> = listed.iter().map(id).collect();
    assert_eq!(there.len(), listed.len(), "an artifact is listed twice");
    listed.iter().for_each(|one| *artifacts.entry(one["task_id"].to_string()).or_default() += 1);
    for (task, entry) in ledger {
        let made = artifacts.get(&json!(task).to_string()).copied().unwrap_or_default();
        let answered = entry.completed.len();
        let open = usize::from(entry.unanswered == Some("complete"));
        assert!(
            (answered..=answered + open).contains(&made),
            "{task}: {made} artifacts, {answered} answered"
        );
        for (_, answer) in &entry.completed {
            assert!(there.contains(&id(&answer["artifact"])), "P6: artifact of {task} is lost");
        }
    }
    let leases = every_row(client, "/api/runtime/leases");
    let mut active = HashSet::new();
    for lease in leases.iter().filter(|lease| lease["status"] == "active") {
        assert!(active.insert(lease["task_id"].to_string()), "P2: two active leases: {lease}");
    }
    stats_add_up(client);
}

/// A completion that was answered is answered again, the same (P7); one that was not is done once.
fn repeat_completions(client: &mut Client, ledger: &mut Ledger) {
    for (task, entry) in ledger.iter_mut() {
        if let (Some((lease, answer)), "completed" | "failed") =
            (entry.completed.last(), entry.status.as_str())
        {
            if entry.unanswered.is_none() {
                let again = client.act(task, "complete", under(lease, success("again"))).ok(200);
                assert_eq!(again, *answer, "P7");
            }
        } else if entry.unanswered == Some("complete") {
            let first = client.act(task, "complete", under(&entry.lease, success(task))).ok(200);
            let again = client.act(task, "complete", under(&entry.lease, success("x"))).ok(200);
            assert_eq!(again, first, "P7");
            entry.completed.push((entry.lease.clone(), first));
        }
        entry.unanswered = None;
        entry.status = client.task(task)["status"].as_str().unwrap_or_default().to_owned();
    }
}

/// Leases that outlived the crash are finished, so that the next round finds free workers.
fn finish_the_rest(client: &mut Client, ledger: &mut Ledger) {
    for lease in every_row(client, "/api/runtime/leases") {
        if lease["status"] != "active" {
            continue;
        }
        let task = lease["task_id"].as_str().expect("a task").to_owned();
        let done = client.act(&task, "complete", under(&id(&lease), success(&task))).ok(200);
        let entry = ledger.entry(task).or_default();
        assert!(fence(&lease) >= entry.fence, "P3: {lease}");
        entry.completed.push((id(&lease), done));
        entry.status = "completed".into();
    }
}

#[test]
fn nothing_answered_is_lost_and_nothing_is_done_twice_over_kills() {
    let rounds = std::env::var("BLOOM_CRASH_ROUNDS").ok();
    let rounds: usize = rounds.and_then(|n| n.parse().ok()).unwrap_or(5);
    let mut server = Server::start();
    (0..THREADS).for_each(|n| drop(server.client().register(&format!("w{n}"), 4)));
    let (mut all, mut unknown) = (Ledger::new(), 0);
    for n in 0..rounds {
        let (ledger, creates) = round(&mut server, n, 120 + n * 37 % 200);
        server.restart();
        all.extend(ledger);
        unknown += creates;
        let mut client = server.client();
        audit(&mut client, &all, unknown);
        repeat_completions(&mut client, &mut all);
        finish_the_rest(&mut client, &mut all);
        audit(&mut client, &all, unknown);
    }
}

#[test]
fn fencing_numbers_grow_over_kills() {
    let mut server = Server::start();
    let task = server.client().new_task();
    server.client().register("w", 1);
    let mut last = 0;
    for _ in 0..5 {
        let mut client = server.client();
        let granted = client.act(&task, "lease", json!({"worker_id": "w"})).ok(201);
        let fencing = fence(&granted["lease"]);
        assert!(fencing > last, "P3: {fencing} after {last}");
        last = fencing;
        server.kill9();
        server.restart();
        let mut client = server.client();
        let held = rows(&client.get("/api/runtime/leases?status=active"));
        assert_eq!(held[0]["id"], granted["lease"]["id"], "P1: the answered lease is there");
        client.act(&task, "complete", under(&id(&held[0]), failure("again"))).ok(200);
        client.act(&task, "requeue", json!({})).ok(200);
    }
}

#[test]
fn heartbeats_that_only_extend_a_lease_write_nothing_to_disk() {
    let server = Server::start();
    let mut client = server.client();
    client.register("w", 1);
    let task = client.new_task();
    let lease = client.lease(&task, "w", 600);
    let body = json!({"lease_id": lease});
    client.act(&task, "heartbeat", body.clone()).ok(200);
    // What the first heartbeat began (it changes the status) may still be tidied away.
    let mut before = server.written_bytes();
    crate::harness::eventually("a quiet disk", || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let now = server.written_bytes();
        let quiet = now == before;
        before = now;
        quiet.then_some(())
    });
    for _ in 0..300 {
        client.act(&task, "heartbeat", body.clone()).ok(200);
        client.get(&format!("{TASKS}/{task}")).ok(200);
    }
    assert_eq!(server.written_bytes(), before, "P8");
}

#[test]
fn refused_writes_write_nothing_to_disk() {
    let server = Server::start();
    let mut client = server.client();
    let task = client.new_task();
    client.act(&task, "cancel", json!({})).ok(200);
    let before = client.get("/api/runtime/audit").ok(200);
    for _ in 0..50 {
        client.act(&task, "lease", json!({})).refused_somehow(409);
        client.act("nope", "complete", success("x")).refused_somehow(404);
        client.post(TASKS, json!({})).refused_somehow(400);
    }
    assert_eq!(client.get("/api/runtime/audit").ok(200), before);
}
