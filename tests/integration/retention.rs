//! Retention and compaction with the real program, on a store that has been served for months.
//!
//! The months are made with the library: the same writer on a clock that a test moves. Not here: each
//! point at which a removal can be cut off (`src/engine/tests/retention.rs`).

use crate::harness::{Server, Setup, TASKS, column, eventually, rows, run};
use crate::people::person::Person;
use bloom_runtime::clock::{Clock, ManualClock};
use bloom_runtime::domain::{Completed, CompletionStatus, LeaseClaim, Metrics};
use bloom_runtime::domain::{DesiredFormat, NewTask, Policy, Registration, TaskSpec, WorkerId};
use bloom_runtime::engine::{Command, Core, Reply, system_random};
use bloom_runtime::store::Store;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::oneshot;

const DAY_MS: u64 = 86_400_000;
const PROMPT_BYTES: usize = 20_000;

/// A writer without a thread, on a data directory and a clock of its own.
pub struct Past {
    core: Core,
    clock: ManualClock,
}

impl Past {
    pub fn of(data: &Path) -> Past {
        let clock = ManualClock::new(1_700_000_000_000);
        let store = Arc::new(Store::open(data).expect("opens").0);
        let core = Core::open(store, system_random(), clock.now()).expect("opens");
        Past { core, clock }
    }

    pub fn ask<T>(&mut self, command: impl FnOnce(Reply<T>) -> Command) -> T {
        let (reply, mut answer) = oneshot::channel();
        self.core.step(vec![command(reply)], self.clock.now()).expect("the disk works");
        answer.try_recv().expect("answered").expect("possible")
    }

    /// Tasks that were done, and moved to the archive.
    pub fn finish_tasks(&mut self, count: usize, prompt_bytes: usize) -> Vec<String> {
        let (id, registration) = (WorkerId("w".into()), Box::new(Registration::default()));
        self.ask(|reply| Command::Register { id: id.clone(), registration, reply });
        let ids = (0..count).map(|_| self.finish_task(&id, prompt_bytes)).collect();
        let copied = self.core.query().copy_finished(10_000, 100_000).expect("the disk works");
        self.ask(|reply| Command::Archived { copied, reply });
        ids
    }

    fn finish_task(&mut self, worker: &WorkerId, prompt_bytes: usize) -> String {
        let spec = TaskSpec {
            agent_slug: "writer".into(),
            prompt: "x".repeat(prompt_bytes),
            context_hints: Vec::new(),
            policy: Policy { timeout_sec: 120, budget: 0.0 },
            desired_format: DesiredFormat::Text,
        };
        let new = NewTask {
            context_id: "c".into(),
            spec,
            priority: 0,
            labels: Vec::new(),
            max_attempts: 3,
            retry: None,
            not_before: None,
        };
        self.ask(|reply| Command::Create { new: Box::new(new), key: None, reply });
        let worker = worker.clone();
        let claim = |reply| Command::Claim { worker, ttl_seconds: None, wait_ms: 0, reply };
        let claimed = self.ask(claim).expect("created just now");
        let completed = Completed {
            status: CompletionStatus::Success,
            output: Some("done".into()),
            error_message: None,
            code: None,
            metrics: Metrics { duration_ms: 1, ..Metrics::default() },
            artifact_type: "LLM_RESULT".into(),
            artifact_tags: Vec::new(),
        };
        let (task, claim) = (claimed.task.task.id, LeaseClaim::Named(claimed.lease.id));
        let completed = Some(Box::new(completed));
        self.ask(|reply| Command::Complete { task, claim, completed, reply });
        task.to_string()
    }

    pub fn pass_days(&mut self, days: u64) {
        self.clock.pass_ms(days * DAY_MS);
    }

    /// An orderly stop.
    pub fn end(mut self) {
        self.core.step(vec![Command::Stop], self.clock.now()).expect("the disk works");
    }
}

/// 200 tasks of 91 days ago and 5 of yesterday.
fn served_for_91_days(data: &Path) -> (Vec<String>, Vec<String>) {
    let mut past = Past::of(data);
    let old = past.finish_tasks(200, PROMPT_BYTES);
    past.pass_days(90);
    let young = past.finish_tasks(5, PROMPT_BYTES);
    past.pass_days(1);
    past.end();
    (old, young)
}

fn finished(server: &Server) -> Vec<String> {
    let mut ids = column(&rows(&server.client().get(TASKS)), "id");
    ids.sort();
    ids
}

#[test]
fn tasks_of_more_than_retention_days_are_gone_soon_after_the_start_and_compaction_gives_space_back()
{
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let data = dir.path().join("data");
    let (old, young) = served_for_91_days(&data);

    let mut keeps = Setup::default().start_in(dir.clone());
    let stats = keeps.client().get("/api/runtime/stats").ok(200);
    assert_eq!(stats["tasks"]["total"], 205, "without RETENTION_DAYS everything is kept");
    assert_eq!(stats["leases"]["total"], 205);
    assert_eq!(keeps.terminate(), Some(0));

    let mut server = Setup::default().env("RETENTION_DAYS", "90").start_in(dir.clone());
    server.wait_until_said("finished tasks are removed after 90 days");
    let stats = eventually("the old ones are gone", || {
        let stats = server.client().get("/api/runtime/stats").ok(200);
        (stats["tasks"]["total"] == 5).then_some(stats)
    });
    assert_eq!(stats["tasks"]["by_status"], json!({"completed": 5}));
    assert_eq!(stats["leases"]["total"], 5);
    assert_eq!(finished(&server), young);
    let mut client = server.client();
    client.get(&format!("{TASKS}/{}", old[0])).refused(404, "Task not found");
    client.post_nothing(&format!("{TASKS}/{}/requeue", old[199])).refused(404, "Task not found");
    assert_eq!(client.get("/api/runtime/artifacts").ok(200).as_array().unwrap().len(), 5);
    let trail = client.get("/api/runtime/audit?limit=10").ok(200);
    assert_eq!(trail[0]["action"], "tasks_removed");
    assert_eq!(trail[0]["entity_type"], "retention");

    let data_dir = data.to_str().unwrap();
    let env_file = dir.path().join("runtime.env");
    let args = ["compact", "--data-dir", data_dir, "--env-file", env_file.to_str().unwrap()];
    let refused = run(&args, &[]);
    assert_eq!(refused.code, Some(74), "a running server holds it: {}", refused.stderr);
    assert!(refused.stderr.contains("in use"), "{}", refused.stderr);
    server.wait_until_said("retention removed tasks=200");
    server.kill9();

    let size = || data.join("archive.redb").metadata().unwrap().len();
    let before = size();
    let compacted = run(&args, &[]);
    assert_eq!(compacted.code, Some(0), "{}{}", compacted.stdout, compacted.stderr);
    assert!(size() < before / 2, "{before} bytes before:\n{}", compacted.stdout);
    assert!(compacted.stdout.contains("given back"), "{}", compacted.stdout);
    server.restart();
    assert_eq!(finished(&server), young);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn what_would_go_is_shown_before_it_goes_by_status_and_for_the_trail() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let data = dir.path().join("data");
    let (_, young) = served_for_91_days(&data);
    let outlook = |server: &Server| server.client().get("/api/runtime/retention").ok(200);

    let mut keeps = Setup::default().start_in(dir.clone());
    let seen = outlook(&keeps);
    assert_eq!((&seen["days"], &seen["audit"]["days"]), (&json!(null), &json!(null)));
    assert!(Person::at(&keeps).says(&["retention"]).contains("nothing is removed"));
    assert_eq!(seen["audit"]["oldest_at"], 1_700_000_000_000_i64);
    assert_eq!(keeps.terminate(), Some(0));

    // What is kept longer than it is old is not due, and what is not named is kept.
    let failed_only = Setup::default().env("RETENTION_DAYS", "failed=1,completed=100");
    let mut kept = failed_only.start_in(dir.clone());
    kept.wait_until_said("completed after 100 days");
    let seen = outlook(&kept);
    assert_eq!(seen["due"], json!({"completed": 0, "failed": 0, "dead": 0, "cancelled": 0}));
    let days = json!({"completed": 100, "failed": 1, "dead": null, "cancelled": null});
    assert_eq!(seen["days"], days);
    assert!(seen["oldest_at"]["completed"].is_i64() && seen["next_due_ms"].is_u64(), "{seen}");
    let table = Person::at(&kept).says(&["retention"]);
    assert!(table.contains("100 days") && table.contains("the next is due when"), "{table}");
    assert_eq!(kept.terminate(), Some(0));

    let setup = Setup::default().env("RETENTION_DAYS", "completed=90");
    let mut server = setup.env("AUDIT_RETENTION_DAYS", "60").start_in(dir.clone());
    server.wait_until_said("retention removed audit_entries=");
    assert_eq!(finished(&server), young);
    let seen = outlook(&server);
    assert_eq!((&seen["due"]["completed"], &seen["audit"]["due"]), (&json!(0), &json!(0)));
    assert!(seen["audit"]["removed"].as_u64() >= Some(600), "{seen}");
    let trail = server.client().get("/api/runtime/audit?limit=1000").ok(200);
    assert!((1..50).contains(&trail.as_array().unwrap().len()), "{trail}");
    server.kill9();
    let examined =
        run(&["doctor", "--data-dir", data.to_str().unwrap(), "--env-file", "/dev/null"], &[]);
    assert_eq!(examined.code, Some(0), "{}", examined.stdout);
    assert!(examined.stdout.contains("older ones were removed"), "{}", examined.stdout);
}

#[test]
fn compact_says_what_it_cannot_do_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none");
    let env_file = dir.path().join("empty.env");
    std::fs::write(&env_file, "").unwrap();
    let args = ["compact", "--data-dir", missing.to_str().unwrap(), "--env-file"];
    let args = [&args[..], &[env_file.to_str().unwrap()]].concat();
    let ended = run(&args, &[]);
    assert_eq!(ended.code, Some(74), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(!missing.exists());
}
