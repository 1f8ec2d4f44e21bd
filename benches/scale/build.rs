//! Builds a store of many tasks fast: the product's own writer and mover, stepped in this process in
//! batches of hundreds, on a clock that is moved by hand.
//!
//! Must stay true: nothing is written but through `Core::step` and the mover's two halves, so that
//! the files are as a server makes them; half of the finished tasks are 100 days older than the others.
//! Not here: HTTP, so the time that this takes says nothing about a server.

use crate::figures::{cpu, given_bytes};
use bloom_runtime::background::mover::{CHANGES_AT_ONCE, TASKS_AT_ONCE};
use bloom_runtime::clock::{Clock, ManualClock};
use bloom_runtime::domain::{
    Completed, CompletionStatus, DesiredFormat, LeaseClaim, Metrics, NewTask, Policy, Registration,
    TaskSpec, WorkerId,
};
use bloom_runtime::engine::{ClaimAnswer, Command, Core, EngineError, Reply, system_random};
use bloom_runtime::store::Store;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot::{self, Receiver};

/// Tasks of one batch: as many commands as the writer's thread takes at once.
const BATCH: u64 = 500;
/// Of each batch these many are cancelled, fail, and die.
const CANCELLED: usize = 10;
const FAILED: usize = 25;
const DEAD: usize = 5;
/// Finished tasks between two visits of the mover, as a busy server has them.
const MOVE_EVERY: u64 = 10_000;
/// Live tasks that somebody holds, half of them running.
const HELD: u64 = 2_000;
const HOLD_SECONDS: u32 = 86_400;
const DAYS_BETWEEN: u64 = 100;
const DAY_MS: u64 = 86_400_000;
/// What live tasks ask for and no worker of the later load offers, so that they stay.
const LABEL: &str = "gpu";

/// About as long as a short prompt and its answer.
const TEXT: &str = "Write two sentences about a garden in November, one of them about frost. \
    Keep to plain words and end with the colour of the sky.";

/// What moving tasks to the archive cost.
#[derive(Clone, Copy, Default)]
pub struct Moving {
    pub tasks: u64,
    pub elapsed: Duration,
    pub cpu: Duration,
    pub given_bytes: u64,
}

pub struct Built {
    /// Finished tasks that are older than the others.
    pub old: u64,
    pub elapsed: Duration,
    /// The mover's cost while the archive was small, and at the end.
    pub first: Moving,
    pub last: Moving,
}

struct Builder {
    core: Core,
    clock: ManualClock,
    made: u64,
}

/// Builds `finished` tasks, then `live` ones, in a new data directory.
pub fn build(data: &Path, finished: u64, live: u64) -> Built {
    let began = Instant::now();
    let clock = ManualClock::new(1_700_000_000_000);
    let store = Arc::new(Store::open(data).expect("a new store").0);
    let core = Core::open(store, system_random(), clock.now()).expect("a new store");
    let mut builder = Builder { core, clock, made: 0 };
    let (mut first, mut last) = (None, Moving::default());
    let (mut done, mut old, mut to_move) = (0, None, 0);
    while done < finished {
        if old.is_none() && done >= finished / 2 {
            builder.move_finished();
            to_move = 0;
            old = Some(done);
            builder.clock.pass_ms(DAYS_BETWEEN * DAY_MS);
        }
        let count = BATCH.min(finished - done);
        builder.finish(count as usize);
        done += count;
        to_move += count;
        if to_move >= MOVE_EVERY || done == finished {
            to_move = 0;
            last = builder.move_finished();
            first = first.or(Some(last));
        }
    }
    builder.live(live);
    let now = builder.clock.now();
    builder.core.step(vec![Command::Stop], now).expect("the disk works");
    Built { old: old.unwrap_or(0), elapsed: began.elapsed(), first: first.unwrap_or(last), last }
}

type Answer<T> = Receiver<Result<T, EngineError>>;

fn queue<T>(batch: &mut Vec<Command>, command: impl FnOnce(Reply<T>) -> Command) -> Answer<T> {
    let (reply, answer) = oneshot::channel();
    batch.push(command(reply));
    answer
}

fn got<T>(mut answer: Answer<T>) -> T {
    answer.try_recv().expect("answered by the end of the step").expect("possible")
}

impl Builder {
    fn step<T>(&mut self, fill: impl FnOnce(&mut Vec<Command>) -> Vec<Answer<T>>) -> Vec<T> {
        let mut batch = Vec::new();
        let answers = fill(&mut batch);
        self.core.step(batch, self.clock.now()).expect("the disk works");
        answers.into_iter().map(got).collect()
    }

    /// Registers a worker of any size, which also makes it heard of.
    fn register(&mut self, name: &str, labels: &[&str]) -> WorkerId {
        let id = WorkerId(name.into());
        let registration = Box::new(Registration {
            max_concurrency: Some(u32::MAX),
            labels: Some(labels.iter().map(|label| (*label).to_owned()).collect()),
            ..Registration::default()
        });
        let known = id.clone();
        self.step(|batch| {
            vec![queue(batch, |reply| Command::Register { id: known, registration, reply })]
        });
        id
    }

    fn create(&mut self, count: usize, labels: &[&str], max_attempts: u32) {
        let first = self.made;
        self.made += count as u64;
        self.step(|batch| {
            let new = (0..count).map(|n| Box::new(task(first + n as u64, labels, max_attempts)));
            new.map(|new| queue(batch, |reply| Command::Create { new, key: None, reply })).collect()
        });
    }

    fn claim(&mut self, worker: &WorkerId, count: usize, ttl_seconds: u32) -> Vec<ClaimAnswer> {
        let claims = self.step(|batch| {
            let claim = |reply| Command::Claim {
                worker: worker.clone(),
                ttl_seconds: Some(ttl_seconds),
                wait_ms: 0,
                reply,
            };
            (0..count).map(|_| queue(batch, claim)).collect()
        });
        claims.into_iter().map(|claim| claim.expect("created just now")).collect()
    }

    /// Creates that many tasks and finishes them, most with success.
    fn finish(&mut self, count: usize) {
        let worker = self.register("builder", &[]);
        let die = DEAD.min(count);
        self.create(die, &[], 1);
        self.claim(&worker, die, 1);
        self.clock.pass_ms(1_500);
        self.create(count - die, &[], 3);
        let cancelled = CANCELLED.min(count - die);
        let claimed = self.claim(&worker, count - die, 600);
        let (cancel, complete) = claimed.split_at(cancelled);
        self.step(|batch| {
            let ids = cancel.iter().map(|claimed| claimed.task.task.id);
            ids.map(|task| queue(batch, |reply| Command::Cancel { task, reply })).collect()
        });
        self.step(|batch| {
            let each = complete.iter().enumerate();
            each.map(|(n, claimed)| {
                let completed = Some(Box::new(outcome(n < FAILED)));
                let (task, lease) = (claimed.task.task.id, claimed.lease.id);
                let claim = LeaseClaim::Named(lease);
                queue(batch, |reply| Command::Complete { task, claim, completed, reply })
            })
            .collect()
        });
    }

    /// The mover's rounds, in its own sizes, until nothing is left.
    fn move_finished(&mut self) -> Moving {
        let (began, spent, written) = (Instant::now(), cpu("self"), given_bytes("self"));
        let mut tasks = 0;
        loop {
            let copied = self.core.query().copy_finished(TASKS_AT_ONCE, CHANGES_AT_ONCE);
            let copied = copied.expect("the disk works");
            if copied.tasks.is_empty() && copied.journal.is_empty() {
                break;
            }
            tasks += copied.tasks.len() as u64;
            self.step(|batch| vec![queue(batch, |reply| Command::Archived { copied, reply })]);
        }
        Moving {
            tasks,
            elapsed: began.elapsed(),
            cpu: cpu("self") - spent,
            given_bytes: given_bytes("self") - written,
        }
    }

    fn live(&mut self, count: u64) {
        let mut left = count;
        while left > 0 {
            let now = BATCH.min(left);
            self.create(now as usize, &[LABEL], 3);
            left -= now;
        }
        let holder = self.register("holder", &[LABEL]);
        let mut held = Vec::new();
        while (held.len() as u64) < HELD.min(count / 2) {
            let more = BATCH.min(HELD.min(count / 2) - held.len() as u64);
            held.extend(self.claim(&holder, more as usize, HOLD_SECONDS));
        }
        for running in held[..held.len() / 2].chunks(BATCH as usize) {
            self.step(|batch| {
                let beat = |claimed: &ClaimAnswer| {
                    let (task, lease) = (claimed.task.task.id, claimed.lease.id);
                    let claim = LeaseClaim::Named(lease);
                    queue(batch, |reply| Command::Heartbeat { task, claim, reply })
                };
                running.iter().map(beat).collect()
            });
        }
    }
}

fn task(n: u64, labels: &[&str], max_attempts: u32) -> NewTask {
    NewTask {
        context_id: format!("ctx-{n}"),
        spec: TaskSpec {
            agent_slug: "writer".into(),
            prompt: TEXT.into(),
            context_hints: Vec::new(),
            policy: Policy { timeout_sec: 120, budget: 0.0 },
            desired_format: DesiredFormat::Text,
        },
        priority: 0,
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        max_attempts,
        retry: None,
        not_before: None,
    }
}

fn outcome(fails: bool) -> Completed {
    Completed {
        status: if fails { CompletionStatus::Error } else { CompletionStatus::Success },
        output: Some(TEXT.into()),
        error_message: fails.then(|| "it did not work".into()),
        code: None,
        metrics: Metrics { duration_ms: 12, tokens_used: Some(300), ..Metrics::default() },
        artifact_type: "LLM_RESULT".into(),
        artifact_tags: Vec::new(),
    }
}
