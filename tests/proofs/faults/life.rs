//! A short life of the engine on faulty disks, with a ledger of what it answered.
//!
//! Must stay true: it is the same life in every run, so that the nth operation means something. Not here:
//! which operation fails (`disk`), what must be left of it (`aftermath`).

mod aftermath;

use super::disk::{Fault, FaultyDisk, Trouble};
use bloom_runtime::clock::{Clock, ManualClock};
use bloom_runtime::domain::{
    Completed, CompletionStatus, DesiredFormat, HandBack, IdempotencyKey, LeaseClaim, LeaseId,
    Metrics, NewTask, Outcome, Policy, Registration, Retry, TaskId, TaskSpec, TaskStatus, WorkerId,
};
use bloom_runtime::engine::{
    Command, Core, EngineError, NewLease, Query, Reply, TaskView, WorkerChoice,
};
use bloom_runtime::store::Store;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;

const WORKER: &str = "w";
const LIMITED: &str = "reviewer";
const ROUNDS: u64 = 5;
const TTL_MS: u64 = 300_000;
const RETRY: Retry = Retry { on_error: true, backoff_seconds: 1, max_backoff_seconds: 9 };
/// Longer than the writer pauses after many failures.
const PAUSE_MS: u64 = 9_000;

#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    AsPlanned,
    /// The writer said that it cannot go on.
    GaveUp,
}

/// What is known of a task from answers alone.
#[derive(Clone, Debug)]
struct Known {
    status: TaskStatus,
    lease: Option<LeaseId>,
    outcome: Option<Outcome>,
    /// Where writes lead whose outcome was said to be unknown.
    perhaps: Vec<TaskStatus>,
}

/// The writer on its disks, and what it has answered.
pub struct Life {
    clock: ManualClock,
    trouble: Arc<Trouble>,
    hot: FaultyDisk,
    archive: FaultyDisk,
    /// None after the writer gave up.
    writer: Option<(Core, Query)>,
    tasks: BTreeMap<TaskId, Known>,
    perhaps_created: usize,
    /// Whether the worker is draining, unless that is in doubt.
    is_draining: Option<bool>,
    /// What was to be created, each under a key of its own, and what was answered.
    wishes: Vec<(String, Option<TaskId>)>,
    pub refused: usize,
    /// The power fails while the disk does, instead of a repair: every other life.
    is_cut_off: bool,
}

impl Life {
    /// The faults begin when the store is open.
    pub fn new(fault: Option<Fault>) -> Life {
        let trouble = Arc::new(Trouble::default());
        let (hot, archive) = (FaultyDisk::new(trouble.clone()), FaultyDisk::new(trouble.clone()));
        let mut life = Life {
            clock: ManualClock::new(1_790_000_000_000),
            trouble,
            hot,
            archive,
            writer: None,
            tasks: BTreeMap::new(),
            perhaps_created: 0,
            is_draining: None,
            wishes: Vec::new(),
            refused: 0,
            is_cut_off: fault.is_some_and(|fault| fault.at % 2 == 0),
        };
        life.open();
        let opened = life.operations();
        life.trouble.plan(fault.map(|fault| Fault { at: opened + fault.at, ..fault }));
        life
    }

    pub fn operations(&self) -> u64 {
        self.trouble.operations()
    }

    fn open(&mut self) {
        let store = Store::open_backends(self.hot.clone(), self.archive.clone()).expect("opens");
        let mut last = u128::from(self.hot.disk.syncs()) << 64;
        let random = Box::new(move || {
            last += 1;
            last.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        });
        let (now, limits) = (self.clock.now(), [(LIMITED.to_owned(), 1)].into());
        let core = Core::open_limited(Arc::new(store), random, now, limits).expect("opens");
        let query = core.query();
        self.writer = Some((core, query));
    }

    /// Lives through all rounds, or until the writer gives up.
    pub fn run(&mut self) -> Ended {
        match self.live() {
            Some(()) => Ended::AsPlanned,
            None => {
                assert!(self.trouble.has_struck(), "the writer gave up without a reason");
                self.writer = None;
                Ended::GaveUp
            }
        }
    }

    /// None when the writer gave up.
    fn live(&mut self) -> Option<()> {
        let mut is_repaired = false;
        for round in 0..ROUNDS {
            let had_struck = self.trouble.has_struck();
            self.round(round)?;
            self.look_around()?;
            if had_struck && self.is_cut_off {
                return Some(());
            }
            // A whole round on a disk that fails, then it works again.
            if had_struck && !std::mem::replace(&mut is_repaired, true) {
                self.trouble.plan(None);
                self.clock.pass_ms(PAUSE_MS);
                let created = self.create("after the repair")?;
                assert!(created.is_some(), "the disk works, and so must the writer");
            }
        }
        Some(())
    }

    fn round(&mut self, round: u64) -> Option<()> {
        let registration =
            Registration { max_concurrency: Some(4 + round as u32), ..Registration::default() };
        let registration = Box::new(registration);
        self.ask(|reply| Command::Register { id: worker(), registration, reply })?.ok();
        self.drain(false)?;
        let large = "x".repeat(3_000);
        let mut leases = Vec::new();
        let mut too_many = None;
        let texts = ["small", &large, "cancelled", "expires", "comes back", "again", "too many"];
        for text in texts {
            let Some(task) = self.create(text)? else { continue };
            if text == "cancelled" {
                self.change(task, TaskStatus::Cancelled, |reply| Command::Cancel { task, reply })?;
                continue;
            }
            if text == "too many" {
                too_many = Some(task);
            } else if let Some(lease) = self.lease(task)? {
                leases.push((text.to_owned(), task, lease));
            }
        }
        for (text, task, lease) in &leases {
            let (task, claim) = (*task, LeaseClaim::Named(*lease));
            let beats = |reply| Command::Heartbeat { task, claim, reply };
            self.change(task, TaskStatus::Running, beats)?;
            match text.as_str() {
                "expires" => continue,
                "comes back" => {
                    let code = "worker_stopping".into();
                    let given = Some(HandBack { code, note: None, retry_after_seconds: None });
                    let back = |reply| Command::HandBack { task, claim, given, reply };
                    self.change(task, TaskStatus::Queued, back)?;
                }
                "again" => self.complete(task, *lease, TaskStatus::Queued)?,
                _ => {
                    self.complete(task, *lease, TaskStatus::Failed)?;
                    let requeue = |reply| Command::Requeue { task, reply };
                    self.change(task, TaskStatus::Queued, requeue)?;
                }
            }
            if let Some(lease) = self.lease(task)? {
                self.complete(task, lease, TaskStatus::Completed)?;
            }
        }
        self.keep_to_the_limit(too_many, &leases)?;
        self.drain(true)?;
        self.move_finished()?;
        // The lease that nobody completes ends, unless the disk takes no writes just then.
        self.clock.pass_ms(TTL_MS + 1);
        for known in self.held() {
            known.perhaps.push(TaskStatus::Queued);
        }
        self.step(Vec::new())?;
        if self.writer.as_ref().is_some_and(|(_, query)| query.trouble().is_none()) {
            // What was in doubt before stays so: it may have been completed.
            for known in self.held().filter(|known| known.perhaps == [TaskStatus::Queued]) {
                known.status = TaskStatus::Queued;
                known.lease = None;
                known.perhaps.clear();
            }
        }
        Some(())
    }

    /// While a task of the agent that has a limit is held, another one cannot be, whatever has failed.
    fn keep_to_the_limit(
        &mut self,
        other: Option<TaskId>,
        leases: &[(String, TaskId, LeaseId)],
    ) -> Option<()> {
        let held = leases.iter().find(|(text, ..)| text == "expires");
        if let (Some(other), Some((_, task, _))) = (other, held) {
            // What failed once is tried again by now.
            self.clock.pass_ms(PAUSE_MS);
            let granted = self.lease(other)?;
            assert!(granted.is_none(), "{other} is leased beside {task} of the same agent");
        }
        Some(())
    }

    fn drain(&mut self, on: bool) -> Option<()> {
        let answer = self.ask(|reply| Command::Drain { worker: worker(), on, reply });
        match &answer {
            Some(Ok(_)) => self.is_draining = Some(on),
            None | Some(Err(EngineError::OutcomeUnknown(_))) => self.is_draining = None,
            Some(Err(_)) => {}
        }
        answer.map(drop)
    }

    /// What is leased as far as is known.
    fn held(&mut self) -> impl Iterator<Item = &mut Known> {
        let held = [TaskStatus::Leased, TaskStatus::Running];
        self.tasks.values_mut().filter(move |known| held.contains(&known.status))
    }

    fn step(&mut self, commands: Vec<Command>) -> Option<()> {
        let now = self.clock.now();
        let (core, _) = self.writer.as_mut()?;
        core.step(commands, now).ok()
    }

    fn ask<T>(
        &mut self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Option<Result<T, EngineError>> {
        let (reply, mut answer) = oneshot::channel();
        let lives = self.step(vec![command(reply)]);
        let answer = match answer.try_recv() {
            Ok(answer) => answer,
            Err(_) => {
                assert!(lives.is_none(), "only a writer that gave up leaves somebody unanswered");
                Err(EngineError::Stopping)
            }
        };
        match &answer {
            Err(EngineError::NotWritten { .. } | EngineError::Store(_)) => self.refused += 1,
            Err(EngineError::OutcomeUnknown(_)) => {
                let (_, query) = self.writer.as_ref()?;
                assert!(lives.is_none() || query.trouble().is_some(), "in doubt without trouble");
            }
            _ => {}
        }
        lives.map(|()| answer)
    }

    /// Asks for a change of a task that leads to this status.
    fn change<T>(
        &mut self,
        task: TaskId,
        to: TaskStatus,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Option<Option<T>> {
        let known = self.tasks.get_mut(&task).expect("created");
        known.perhaps.push(to);
        let answer = self.ask(command)?;
        let known = self.tasks.get_mut(&task).expect("created");
        if !matches!(answer, Err(EngineError::OutcomeUnknown(_))) {
            known.perhaps.pop();
        }
        if answer.is_ok() {
            known.status = to;
            known.perhaps.clear();
        }
        Some(answer.ok())
    }

    fn create(&mut self, prompt: &str) -> Option<Option<TaskId>> {
        self.wishes.push((prompt.into(), None));
        self.perhaps_created += 1;
        let created = self.send(self.wishes.len() - 1)?;
        if !matches!(created, Err(EngineError::OutcomeUnknown(_))) {
            self.perhaps_created -= 1;
        }
        let id = created.ok().map(|view| view.task.id);
        self.wishes.last_mut().expect("pushed").1 = id;
        let status = TaskStatus::Queued;
        let known = Known { status, lease: None, outcome: None, perhaps: Vec::new() };
        self.tasks.extend(id.map(|id| (id, known)));
        Some(id)
    }

    /// Sends the nth wish, perhaps again.
    fn send(&mut self, n: usize) -> Option<Result<TaskView, EngineError>> {
        let prompt = self.wishes[n].0.clone();
        let is_limited = ["expires", "too many"].contains(&prompt.as_str());
        let agent = if is_limited { LIMITED } else { "writer" };
        let retry = (prompt == "again").then_some(RETRY);
        let spec = TaskSpec {
            agent_slug: agent.into(),
            prompt,
            context_hints: Vec::new(),
            policy: Policy { timeout_sec: 120, budget: 0.0 },
            desired_format: DesiredFormat::Text,
        };
        let (context_id, labels) = ("c".into(), Vec::new());
        let new = Box::new(NewTask {
            context_id,
            spec,
            priority: 0,
            labels,
            max_attempts: 9,
            retry,
            not_before: None,
        });
        let key = IdempotencyKey::new(n.to_string().as_bytes());
        self.ask(|reply| Command::Create { new, key, reply })
    }

    fn lease(&mut self, task: TaskId) -> Option<Option<LeaseId>> {
        let lease =
            NewLease { worker: WorkerChoice::Named(worker()), ttl_seconds: Some(Some(300)) };
        let granted =
            self.change(task, TaskStatus::Leased, |reply| Command::Lease { task, lease, reply })?;
        let lease = granted.map(|answer| answer.lease.id);
        self.tasks.get_mut(&task).expect("created").lease = lease;
        Some(lease)
    }

    /// A completion that leads to this status.
    fn complete(&mut self, task: TaskId, lease: LeaseId, to: TaskStatus) -> Option<()> {
        let status = match to {
            TaskStatus::Completed => CompletionStatus::Success,
            _ => CompletionStatus::Error,
        };
        let completed = Completed {
            status,
            output: Some("y".repeat(2_000)),
            error_message: None,
            code: None,
            metrics: Metrics { duration_ms: 1, ..Metrics::default() },
            artifact_type: "LLM_RESULT".into(),
            artifact_tags: Vec::new(),
        };
        let (claim, completed) = (LeaseClaim::Named(lease), Some(Box::new(completed)));
        let done =
            self.change(task, to, |reply| Command::Complete { task, claim, completed, reply })?;
        if let Some(done) = done {
            self.tasks.get_mut(&task).expect("created").outcome = Some(done.outcome);
        }
        Some(())
    }

    /// What the mover does, its errors included: it tries again another time.
    fn move_finished(&mut self) -> Option<()> {
        let Some(copied) = self.read(|query| query.copy_finished(100, 100))? else {
            return Some(());
        };
        self.ask(|reply| Command::Archived { copied, reply }).map(drop)
    }

    /// A read as the engine's handle does it: once more after the files were looked at.
    fn read<T>(&mut self, read: impl Fn(&Query) -> Result<T, EngineError>) -> Option<Option<T>> {
        let (_, query) = self.writer.as_ref()?;
        let found = match read(query) {
            Err(EngineError::Store(_)) => {
                self.ask(|reply| Command::Mend { reply })?.ok();
                read(&self.writer.as_ref()?.1)
            }
            other => other,
        };
        Some(found.ok())
    }

    /// Every reader sees exactly what was answered.
    fn look_around(&mut self) -> Option<()> {
        let rows = self.read(|query| query.tasks(None, u64::MAX, 1_000))?;
        let rows = rows.expect("reads go on").rows;
        let seen: BTreeMap<TaskId, TaskStatus> =
            rows.iter().map(|view| (view.task.id, view.task.status)).collect();
        self.compare(&seen);
        let found = self.read(|query| query.worker(&worker()))?;
        if let Some(known) = self.is_draining {
            let (view, _) = found.expect("it was answered about");
            assert_eq!(view.worker.draining, known, "as was answered");
        }
        Some(())
    }

    fn compare(&self, seen: &BTreeMap<TaskId, TaskStatus>) {
        for (task, known) in &self.tasks {
            let there = seen.get(task);
            let fits =
                there.is_some_and(|there| *there == known.status || known.perhaps.contains(there));
            assert!(fits, "{task} is {there:?}, answered {known:?}");
        }
        let strangers = seen.len() - self.tasks.len();
        assert!(strangers <= self.perhaps_created, "{strangers} tasks that were refused are there");
    }
}

fn worker() -> WorkerId {
    WorkerId(WORKER.into())
}
