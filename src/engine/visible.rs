//! What readers know without asking the disk: which tasks, leases and outcomes the hot file holds,
//! renewals, workers, counts.
//!
//! Must stay true: it changes only after a commit, all of it at once (P6); it holds numbers, not
//! texts, so that 100,000 live tasks fit a small machine; the lock is held for moments, never over
//! I/O. Not here: the records themselves (`query` reads them from a snapshot).

use super::NotWritten;
use super::WorkerView;
use super::agents::AgentLimits;
use super::deadlines::Renewal;
use super::last_hour::LastHour;
use super::retention::ServedTime;
use crate::domain::{LeaseStatus, Task, TaskStatus, WorkerId};
use crate::store::{Counters, JournalKey};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

/// How much waits for the way to the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backlog {
    Nothing,
    Some,
    /// So much that it should move at once.
    Much,
}

/// Finished tasks or journal records in the hot file from which on the mover does not wait.
const MUCH: usize = 10_000;

/// Shared with every reader.
pub struct Visible {
    index: Mutex<Index>,
    trouble: Mutex<Option<NotWritten>>,
    pub(super) backlog: watch::Sender<Backlog>,
    /// There may be more to do in S3.
    pub(super) objects: watch::Sender<()>,
    /// Who is called with tasks, or where, has changed.
    pub(super) pushed: watch::Sender<()>,
}

/// The memory of the hot file.
#[derive(Default)]
pub struct Index {
    tasks: BTreeMap<u64, TaskStatus>,
    by_status: [BTreeSet<u64>; 7],
    /// By status in the order of `LeaseStatus::ALL`: lease sequence → task sequence.
    leases: [BTreeMap<u64, u64>; 3],
    /// The active ones of `leases` by their holder.
    held: HashMap<WorkerId, BTreeMap<u64, u64>>,
    /// Of outcomes and of files, which share their sequence.
    outcomes: BTreeMap<u64, u64>,
    renewals: HashMap<u64, Renewal>,
    workers: HashMap<WorkerId, WorkerView>,
    pub counters: Counters,
    /// What ended lately.
    pub last_hour: LastHour,
    /// No journal record of the hot file stands before this.
    pub oldest_journal: JournalKey,
    /// Since when this store is open, and how old it was then.
    pub served: ServedTime,
    pub agent_limits: AgentLimits,
    /// Leases against each of these limits.
    pub agents_active: Vec<u32>,
    /// Tasks whose removal has begun; readers of the archive pass over them.
    pub removing: Arc<HashSet<u64>>,
}

impl Visible {
    pub(super) fn new() -> Self {
        Visible {
            index: Mutex::default(),
            trouble: Mutex::default(),
            backlog: watch::Sender::new(Backlog::Nothing),
            objects: watch::Sender::new(()),
            pushed: watch::Sender::new(()),
        }
    }

    pub(super) fn set_trouble(&self, trouble: Option<NotWritten>) {
        *self.trouble.lock().expect("no holder panics") = trouble;
    }

    /// What keeps the disk from taking writes at the moment.
    pub fn trouble(&self) -> Option<NotWritten> {
        *self.trouble.lock().expect("no holder panics")
    }

    pub fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().expect("no holder panics")
    }
}

impl Index {
    /// Takes in a task's record as it is in the hot file now.
    pub(super) fn put(&mut self, task: &Task) {
        let seq = task.seq();
        let before = self.tasks.insert(seq, task.status);
        if before != Some(task.status) {
            if let Some(before) = before {
                self.by_status[before as usize].remove(&seq);
            }
            self.by_status[task.status as usize].insert(seq);
        }
        for ended in &task.ended {
            let lease = ended.lease.id.seq();
            if self.leases[LeaseStatus::Active as usize].remove(&lease).is_some() {
                self.let_go(&ended.lease.worker_id, lease);
            }
            self.leases[ended.status() as usize].insert(lease, seq);
            if let Some(outcome) = ended.outcome {
                self.outcomes.insert(outcome, seq);
            }
        }
        for file in &task.files {
            self.outcomes.insert(file.seq, seq);
        }
        match &task.lease {
            Some(lease) => {
                let id = lease.id.seq();
                if self.leases[LeaseStatus::Active as usize].insert(id, seq).is_none() {
                    self.held.entry(lease.worker_id.clone()).or_default().insert(id, seq);
                }
            }
            None => {
                self.renewals.remove(&seq);
            }
        }
    }

    fn let_go(&mut self, holder: &WorkerId, lease: u64) {
        if let Some(held) = self.held.get_mut(holder) {
            held.remove(&lease);
            if held.is_empty() {
                self.held.remove(holder);
            }
        }
    }

    /// Forgets a task that has left the hot file.
    pub(super) fn take_out(&mut self, task: &Task) {
        let seq = task.seq();
        if let Some(status) = self.tasks.remove(&seq) {
            self.by_status[status as usize].remove(&seq);
        }
        for ended in &task.ended {
            self.leases[ended.status() as usize].remove(&ended.lease.id.seq());
            if let Some(outcome) = ended.outcome {
                self.outcomes.remove(&outcome);
            }
        }
        for file in &task.files {
            self.outcomes.remove(&file.seq);
        }
    }

    pub(super) fn renew(&mut self, task: u64, renewal: Renewal) {
        self.renewals.insert(task, renewal);
    }

    /// Whether that changes who is called with tasks, or where.
    pub(super) fn put_worker(&mut self, id: &WorkerId, view: Option<WorkerView>) -> bool {
        let known = self.workers.get(id).and_then(WorkerView::push_address);
        let changes = known != view.as_ref().and_then(WorkerView::push_address);
        match view {
            Some(view) => self.workers.insert(id.clone(), view),
            None => self.workers.remove(id),
        };
        changes
    }

    /// Lays what heartbeats moved over a stored task.
    pub fn overlay(&self, task: &mut Task) {
        if let Some(renewal) = self.renewals.get(&task.seq()) {
            renewal.lay_over(task);
        }
    }

    pub fn holds_task(&self, seq: u64) -> bool {
        self.tasks.contains_key(&seq)
    }

    /// The queued task that was created first.
    pub fn first_queued(&self) -> Option<u64> {
        self.by_status[TaskStatus::Queued as usize].first().copied()
    }

    /// The status of a task of the hot file.
    pub fn status_of(&self, seq: u64) -> Option<TaskStatus> {
        self.tasks.get(&seq).copied()
    }

    /// Tasks of the hot file below `before`, newest first.
    pub fn tasks_below(&self, status: Option<TaskStatus>, before: u64, limit: usize) -> Vec<u64> {
        match status {
            None => self.tasks.range(..before).rev().take(limit).map(|(seq, _)| *seq).collect(),
            Some(status) => {
                self.by_status[status as usize].range(..before).rev().take(limit).copied().collect()
            }
        }
    }

    /// (lease, task) of the hot file below `before`, newest first.
    pub fn leases_below(&self, status: LeaseStatus, before: u64, limit: usize) -> Vec<(u64, u64)> {
        let leases = self.leases[status as usize].range(..before).rev().take(limit);
        leases.map(|(lease, task)| (*lease, *task)).collect()
    }

    /// (lease, task) of the worker's active leases, newest first.
    pub fn leases_held(&self, holder: &WorkerId) -> Vec<(u64, u64)> {
        let held = self.held.get(holder).into_iter().flatten().rev();
        held.map(|(lease, task)| (*lease, *task)).collect()
    }

    pub fn active_leases(&self) -> usize {
        self.leases[LeaseStatus::Active as usize].len()
    }

    /// (outcome, task) of the hot file below `before`, newest first.
    pub fn outcomes_below(&self, before: u64, limit: usize) -> Vec<(u64, u64)> {
        let outcomes = self.outcomes.range(..before).rev().take(limit);
        outcomes.map(|(outcome, task)| (*outcome, *task)).collect()
    }

    pub fn task_of_outcome(&self, outcome: u64) -> Option<u64> {
        self.outcomes.get(&outcome).copied()
    }

    pub fn worker(&self, id: &WorkerId) -> Option<&WorkerView> {
        self.workers.get(id)
    }

    pub fn workers(&self) -> impl Iterator<Item = &WorkerView> {
        self.workers.values()
    }

    /// The oldest finished tasks of the hot file.
    pub fn finished(&self, limit: usize) -> Vec<u64> {
        let mut seqs: Vec<u64> = TaskStatus::ALL
            .into_iter()
            .filter(|status| status.is_finished())
            .flat_map(|status| self.by_status[status as usize].iter().take(limit).copied())
            .collect();
        seqs.sort_unstable();
        seqs.truncate(limit);
        seqs
    }

    pub(super) fn backlog(&self, journal_records: usize) -> Backlog {
        let finished: usize = TaskStatus::ALL
            .into_iter()
            .filter(|status| status.is_finished())
            .map(|status| self.by_status[status as usize].len())
            .sum();
        match finished.max(journal_records) {
            n if n >= MUCH => Backlog::Much,
            n if finished > 0 || n > 1 => Backlog::Some,
            _ => Backlog::Nothing,
        }
    }
}
