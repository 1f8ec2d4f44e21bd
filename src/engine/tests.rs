//! The promises, tried on the writer alone: commands go into `Core::step`, time is a value, the disk
//! is memory that counts its syncs, can fail, and outlives a restart.
//!
//! Not here: HTTP, threads, the rules' own table (`domain::transition_tests`).

mod archive;
mod artifacts;
mod commits;
mod fleet;
mod keys;
mod leases;
mod push;
mod retention;
mod sync;
mod trail;
mod waiting;

use super::core::Core;
use super::query::Query;
use super::{
    Artifact, ClaimAnswer, Command, Completed, EngineError, LeaseAnswer, LeaseView, NewLease,
    Reply, TaskView, WorkerChoice, WorkerView,
};
use crate::clock::{Clock, ManualClock};
pub use crate::domain::tests_support::new_task;
use crate::domain::{
    self, CompletionStatus, LeaseClaim, LeaseId, Metrics, NewTask, Refusal, Registration, TaskId,
    TaskStatus, WorkerId,
};
use crate::store::{Copied, Store, StoreError};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::oneshot::{self, Receiver};

pub const NOW: i64 = 1_790_000_000_000;
pub const TTL_MS: u64 = 300_000;

/// A disk in memory; its clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Platter>);

#[derive(Debug, Default)]
struct Platter {
    bytes: InMemoryBackend,
    syncs: AtomicU64,
    fails: AtomicBool,
    explodes: AtomicBool,
}

impl Disk {
    pub fn syncs(&self) -> u64 {
        self.0.syncs.load(Ordering::SeqCst)
    }

    /// From now on a sync panics, as redb does over a file that contradicts itself.
    pub fn explode(&self) {
        self.0.explodes.store(true, Ordering::SeqCst);
    }

    /// From now on nothing can be synced.
    pub fn break_down(&self) {
        self.0.fails.store(true, Ordering::SeqCst);
    }

    pub fn work_again(&self) {
        self.0.fails.store(false, Ordering::SeqCst);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.0.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.bytes.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.bytes.set_len(len)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.bytes.write(offset, data)
    }

    fn sync_data(&self) -> io::Result<()> {
        assert!(!self.0.explodes.load(Ordering::SeqCst), "asked to explode");
        if self.0.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is gone"));
        }
        self.0.syncs.fetch_add(1, Ordering::SeqCst);
        self.0.bytes.sync_data()
    }
}

/// The writer, its readers, its clock and its disks.
pub struct World {
    pub clock: ManualClock,
    pub hot: Disk,
    pub archive: Disk,
    pub store: Arc<Store>,
    pub core: Core,
    pub query: Query,
}

impl World {
    pub fn new() -> World {
        World::open(ManualClock::new(NOW), Disk::default(), Disk::default())
    }

    fn open(clock: ManualClock, hot: Disk, archive: Disk) -> World {
        let store = Arc::new(Store::open_backends(hot.clone(), archive.clone()).expect("opens"));
        // Any sequence does, as long as it is the same in every run and different after a restart.
        let mut last = u128::from(hot.syncs()) << 32;
        let random = Box::new(move || {
            last += 1;
            last.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        });
        let core = Core::open(store.clone(), random, clock.now()).expect("opens");
        let query = core.query();
        let world = World { clock, hot, archive, store, core, query };
        world.assert_healthy();
        world
    }

    /// Kills the process, as memory goes, and starts it again on the same disks.
    pub fn restart(self) -> World {
        let World { clock, hot, archive, store, core, query } = self;
        drop((core, query, store));
        World::open(clock, hot, archive)
    }

    pub fn try_step(&mut self, commands: Vec<Command>) -> Result<(), StoreError> {
        self.core.step(commands, self.clock.now())
    }

    pub fn step(&mut self, commands: Vec<Command>) {
        self.try_step(commands).expect("the disk works");
    }

    /// Lets time pass on both clocks; the reaper does what is due then.
    pub fn pass_ms(&mut self, ms: u64) {
        self.clock.pass_ms(ms);
        self.step(Vec::new());
    }

    /// One command alone in its batch.
    pub fn ask<T>(&mut self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, EngineError> {
        let (reply, mut answer) = oneshot::channel();
        self.step(vec![command(reply)]);
        answer.try_recv().expect("answered by the end of the step")
    }

    pub fn create(&mut self) -> TaskId {
        self.create_task(new_task()).task.id
    }

    pub fn create_task(&mut self, new: NewTask) -> TaskView {
        self.ask(|reply| Command::Create { new: Box::new(new), key: None, reply })
            .expect("there is room")
    }

    pub fn register(&mut self, name: &str, max_concurrency: u32) -> WorkerView {
        let registration =
            Registration { max_concurrency: Some(max_concurrency), ..Registration::default() };
        self.register_as(name, registration)
    }

    pub fn register_as(&mut self, name: &str, registration: Registration) -> WorkerView {
        self.ask(|reply| register(name, registration, reply)).expect("there is room").0
    }

    pub fn lease(&mut self, task: TaskId) -> Result<LeaseAnswer, EngineError> {
        self.ask(|reply| lease(task, reply))
    }

    /// The task's lease, which must be given.
    pub fn leased(&mut self, task: TaskId) -> LeaseId {
        self.lease(task).expect("a worker is free").lease.id
    }

    pub fn claim(&mut self, worker: &str) -> Result<Option<ClaimAnswer>, EngineError> {
        self.ask(|reply| claim(worker, 0, reply))
    }

    /// A claim that is left waiting.
    pub fn wait(&mut self, worker: &str, wait_ms: u64) -> Receiver<ClaimResult> {
        let (reply, answer) = oneshot::channel();
        self.step(vec![claim(worker, wait_ms, reply)]);
        answer
    }

    pub fn heartbeat(&mut self, task: TaskId, lease: LeaseId) -> Result<LeaseView, EngineError> {
        self.ask(|reply| heartbeat(task, lease, reply))
    }

    pub fn complete(&mut self, task: TaskId, lease: LeaseId) -> Result<Completed, EngineError> {
        self.ask(|reply| complete(task, lease, CompletionStatus::Success, reply))
    }

    pub fn fail(&mut self, task: TaskId, lease: LeaseId) -> Result<Completed, EngineError> {
        self.ask(|reply| complete(task, lease, CompletionStatus::Error, reply))
    }

    pub fn requeue(&mut self, task: TaskId) -> Result<TaskView, EngineError> {
        self.ask(|reply| Command::Requeue { task, reply })
    }

    pub fn cancel(&mut self, task: TaskId) -> Result<TaskView, EngineError> {
        self.ask(|reply| Command::Cancel { task, reply })
    }

    /// The first half of the mover's round: the archive's commit.
    pub fn copy_finished(&self) -> Copied {
        self.query.copy_finished(1_000, 2_000).expect("the disk works")
    }

    /// A whole round of the mover.
    pub fn move_finished(&mut self) {
        let copied = self.copy_finished();
        self.ask(|reply| Command::Archived { copied, reply }).expect("always possible");
        self.assert_healthy();
    }

    pub fn status(&self, task: TaskId) -> TaskStatus {
        self.query.task(task).expect("known").task.status
    }

    /// Everything holds that must hold of both files.
    #[track_caller]
    pub fn assert_healthy(&self) {
        let findings = self.store.examine(&mut |_, _| {}).expect("the disk works");
        assert!(findings.is_healthy(), "{findings}");
    }

    /// How many tasks stand in the hot file.
    pub fn hot_tasks(&self) -> usize {
        let mut count = 0;
        self.store.hot().unwrap().for_each_task(|_| count += 1).expect("the disk works");
        count
    }

    /// Every row of a list of tasks, page by page.
    pub fn listed(&self, status: Option<TaskStatus>, page: usize) -> Vec<TaskId> {
        let mut rows = Vec::new();
        let mut before = u64::MAX;
        loop {
            let found = self.query.tasks(status, before, page).expect("the disk works");
            rows.extend(found.rows.iter().map(|view| view.task.id));
            match found.next {
                Some(next) => before = next,
                None => return rows,
            }
        }
    }

    /// The actions of the audit trail, oldest first.
    pub fn trail(&self) -> Vec<String> {
        let page = self.query.audit(u64::MAX, 1_000).expect("the disk works");
        page.rows.into_iter().rev().map(|entry| entry.action).collect()
    }
}

pub type ClaimResult = Result<Option<ClaimAnswer>, EngineError>;

pub fn worker(name: &str) -> WorkerId {
    WorkerId(name.into())
}

pub fn refused<T>(refusal: Refusal) -> Result<T, EngineError> {
    Err(EngineError::Refused(refusal))
}

pub fn register(
    name: &str,
    registration: Registration,
    reply: Reply<(WorkerView, bool)>,
) -> Command {
    Command::Register { id: worker(name), registration: Box::new(registration), reply }
}

pub fn create(reply: Reply<TaskView>) -> Command {
    Command::Create { new: Box::new(new_task()), key: None, reply }
}

pub fn lease(task: TaskId, reply: Reply<LeaseAnswer>) -> Command {
    let lease = NewLease { worker: WorkerChoice::Automatic, ttl_seconds: Some(None) };
    Command::Lease { task, lease, reply }
}

pub fn claim(name: &str, wait_ms: u64, reply: Reply<Option<ClaimAnswer>>) -> Command {
    Command::Claim { worker: worker(name), ttl_seconds: None, wait_ms, reply }
}

pub fn heartbeat(task: TaskId, lease: LeaseId, reply: Reply<LeaseView>) -> Command {
    Command::Heartbeat { task, claim: LeaseClaim::Named(lease), reply }
}

pub fn complete(
    task: TaskId,
    lease: LeaseId,
    status: CompletionStatus,
    reply: Reply<Completed>,
) -> Command {
    let completed = domain::Completed {
        status,
        output: Some("out".into()),
        error_message: None,
        code: None,
        metrics: Metrics { duration_ms: 12, ..Metrics::default() },
        artifact_type: "LLM_RESULT".into(),
        artifact_tags: Vec::new(),
    };
    let claim = LeaseClaim::Named(lease);
    Command::Complete { task, claim, completed: Some(Box::new(completed)), reply }
}

/// Puts a command into a batch; the answer is there after the step.
pub fn queue<T>(
    batch: &mut Vec<Command>,
    command: impl FnOnce(Reply<T>) -> Command,
) -> Receiver<Result<T, EngineError>> {
    let (reply, answer) = oneshot::channel();
    batch.push(command(reply));
    answer
}

/// The answer, if it is there already.
pub fn got_now<T>(answer: &mut Receiver<Result<T, EngineError>>) -> Option<Result<T, EngineError>> {
    answer.try_recv().ok()
}

/// The answer that the step has left.
pub fn got<T>(mut answer: Receiver<Result<T, EngineError>>) -> Result<T, EngineError> {
    answer.try_recv().expect("answered by the end of the step")
}
