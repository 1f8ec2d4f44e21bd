//! Retention and compaction with the real program, on a store that has been served for months.
//!
//! The months are made with the library: the same writer on a clock that a test moves. Not here: each
//! point at which a removal can be cut off (`src/engine/tests/retention.rs`).

use crate::harness::{Server, Setup, TASKS, column, eventually, rows, run};
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

/// A writer without a thread, on a data directory and a clock of its own.
struct Past {
    core: Core,
    clock: ManualClock,
}

impl Past {
    fn of(data: &Path) -> Past {
        let clock = ManualClock::new(1_700_000_000_000);
        let store = Arc::new(Store::open(data).expect("opens").0);
        let core = Core::open(store, system_random(), clock.now()).expect("opens");
        Past { core, clock }
    }

    fn ask<T>(&mut self, command: impl FnOnce(Reply<T>) -> Command) -> T {
        let (reply, mut answer) = oneshot::channel();
        self.core.step(vec![command(reply)], self.clock.now()).expect("the disk works");
        answer.try_recv().expect("answered").expect("possible")
    }

    /// Tasks that were done, and moved to the archive.
    fn finish_tasks(&mut self, count: usize) -> Vec<String> {
        let (id, registration) = (WorkerId("w".into()), Box::new(Registration::default()));
        self.ask(|reply| Command::Register { id: id.clone(), registration, reply });
        let ids = (0..count).map(|_| self.finish_task(&id)).collect();
        let copied = self.core.query().copy_finished(10_000, 100_000).expect("the disk works");
        self.ask(|reply| Command::Archived { copied, reply });
        ids
    }

    fn finish_task(&mut self, worker: &WorkerId) -> String {
        let spec = TaskSpec {
            agent_slug: "writer".into(),
            prompt: "x".repeat(20_000),
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

    fn pass_days(&mut self, days: u64) {
        self.clock.pass_ms(days * DAY_MS);
    }
}

/// 200 tasks of 91 days ago and 5 of yesterday.
fn served_for_91_days(data: &Path) -> (Vec<String>, Vec<String>) {
    let mut past = Past::of(data);
    let old = past.finish_tasks(200);
    past.pass_days(90);
    let young = past.finish_tasks(5);
    past.pass_days(1);
    past.core.step(vec![Command::Stop], past.clock.now()).expect("the disk works");
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
