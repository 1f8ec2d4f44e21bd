//! What one step gathers until its commit: records changed, entries told, answers owed.
//!
//! Must stay true: a command sees what its predecessors in the batch left; nothing leaves the batch
//! before the commit (P1, P6). Not here: decisions (`core`).

use super::deadlines::Renewal;
use super::{EngineError, Event, Reply};
use crate::clock::Now;
use crate::domain::{IdempotencyKey, Outcome, Refusal, Task, TaskId, TaskSpec, WorkerId};
use crate::store::{Archive, AuditEntry, Hot, HotChanges, KeyedTask, Store, StoreError};
use std::collections::HashSet;
use std::sync::Arc;

type Answer = Box<dyn FnOnce(Result<(), &EngineError>) + Send>;

/// The answers of a batch, once its commit is known.
pub struct Delivery {
    commit: Result<(), EngineError>,
    answers: Vec<Answer>,
}

impl Delivery {
    /// Gives every caller its answer.
    pub fn hand_out(self) {
        let commit = self.commit.as_ref().copied();
        self.answers.into_iter().for_each(|answer| answer(commit));
    }
}

/// One batch of commands on its way to one commit.
pub struct Batch<'a> {
    pub now: Now,
    store: &'a Store,
    hot: Option<Hot>,
    archive: Option<Archive>,
    /// Tasks whose removal has begun, also within this batch: nobody finds them any more.
    removing: Arc<HashSet<u64>>,
    pub changes: HotChanges,
    pub told: Vec<Option<AuditEntry>>,
    pub events: Vec<Event>,
    pub renewals: Vec<(u64, Renewal)>,
    /// Tasks that leave the hot file with this commit.
    pub left: Vec<Task>,
    pub touched_workers: HashSet<WorkerId>,
    /// A command could not be decided because a file could not be read.
    pub read_failed: bool,
    answers: Vec<Answer>,
}

impl<'a> Batch<'a> {
    pub fn new(store: &'a Store, now: Now, removing: Arc<HashSet<u64>>) -> Self {
        Batch {
            now,
            store,
            hot: None,
            archive: None,
            removing,
            changes: HotChanges::default(),
            told: Vec::new(),
            events: Vec::new(),
            renewals: Vec::new(),
            left: Vec::new(),
            touched_workers: HashSet::new(),
            read_failed: false,
            answers: Vec::new(),
        }
    }

    /// Owes a caller its answer; it leaves when the commit is done.
    pub fn answer<T: Send + 'static>(&mut self, reply: Reply<T>, result: Result<T, EngineError>) {
        self.read_failed |= matches!(result, Err(EngineError::Store(_)));
        self.answers.push(Box::new(move |commit| {
            // A caller that is gone is no error.
            let _ = reply.send(match commit {
                Ok(()) => result,
                Err(failed) => Err(failed.clone()),
            });
        }));
    }

    /// The answers, to leave now that the commit is known.
    pub fn close(mut self, commit: Result<(), EngineError>) -> Delivery {
        Delivery { commit, answers: std::mem::take(&mut self.answers) }
    }

    /// Closes what was opened for reading, so that the files can be opened anew.
    pub fn let_go_of_snapshots(&mut self) {
        self.hot = None;
        self.archive = None;
    }

    fn hot(&mut self) -> Result<&Hot, StoreError> {
        if self.hot.is_none() {
            self.hot = Some(self.store.hot()?);
        }
        Ok(self.hot.as_ref().expect("opened above"))
    }

    pub fn removing(&self) -> &Arc<HashSet<u64>> {
        &self.removing
    }

    /// From here on these tasks of the archive are gone.
    pub fn hide(&mut self, removing: Arc<HashSet<u64>>) {
        self.removing = removing;
        self.archive = None;
    }

    pub fn archive(&mut self) -> Result<&Archive, StoreError> {
        if self.archive.is_none() {
            self.archive = Some(self.store.archive(self.removing.clone())?);
        }
        Ok(self.archive.as_ref().expect("opened above"))
    }

    /// The task as the batch has left it so far, wherever it lies.
    pub fn task(&mut self, id: TaskId) -> Result<Task, EngineError> {
        let found = self.task_at(id.seq())?.filter(|task| task.id == id);
        found.ok_or(EngineError::Refused(Refusal::TaskNotFound))
    }

    pub fn task_at(&mut self, seq: u64) -> Result<Option<Task>, StoreError> {
        if let Some(task) = self.changes.tasks.get(&seq) {
            return Ok(Some(task.clone()));
        }
        match self.hot()?.task(seq)? {
            Some(task) => Ok(Some(task)),
            None => self.archive()?.task(seq),
        }
    }

    /// The task if it is unchanged in the hot file.
    pub fn untouched(&mut self, seq: u64) -> Result<Option<Task>, EngineError> {
        if self.changes.tasks.contains_key(&seq) {
            return Ok(None);
        }
        Ok(self.hot()?.task(seq)?)
    }

    /// What was created under this key last.
    pub fn keyed_task(&mut self, key: &IdempotencyKey) -> Result<Option<KeyedTask>, StoreError> {
        match self.changes.keys.get(key) {
            Some(found) => Ok(Some(*found)),
            None => self.hot()?.keyed_task(key),
        }
    }

    /// Lets the oldest keys go with the next new one, where they are older than `age_ms`.
    pub fn let_go_of_keys(&mut self, age_ms: u64, limit: usize) -> Result<(), StoreError> {
        let from = self.changes.old_keys.last().map_or(0, |last| last + 1);
        let old = self.hot()?.old_keys(from, age_ms, limit)?;
        self.changes.old_keys.extend(old);
        Ok(())
    }

    /// How many keys there will be.
    pub fn keys_held(&mut self) -> Result<u64, StoreError> {
        let held = self.hot()?.keys_held()? + self.changes.keys.len() as u64;
        Ok(held - self.changes.old_keys.len() as u64)
    }

    pub fn spec(&mut self, task: &Task) -> Result<TaskSpec, EngineError> {
        let seq = task.seq();
        if let Some(spec) = self.changes.specs.get(&seq) {
            return Ok(spec.clone());
        }
        let found = match self.hot()?.spec(seq)? {
            Some(spec) => Some(spec),
            None => self.archive()?.spec(seq)?,
        };
        found.ok_or_else(|| EngineError::Store(format!("task {} has no spec", task.id)))
    }

    /// How much of what was put out under this (task, fence) the commit brings along.
    pub fn output_bytes(&self, outcome: (u64, u32)) -> usize {
        let brought = self.changes.outcomes.get(&outcome);
        brought.and_then(|outcome| outcome.output.as_ref()).map_or(0, String::len)
    }

    pub fn outcome(&mut self, task: &Task, fence: u32) -> Result<Outcome, EngineError> {
        let seq = task.seq();
        if let Some(outcome) = self.changes.outcomes.get(&(seq, fence)) {
            return Ok(outcome.clone());
        }
        let found = match self.hot()?.outcome(seq, fence)? {
            Some(outcome) => Some(outcome),
            None => self.archive()?.outcome(seq, fence)?,
        };
        found.ok_or_else(|| EngineError::Store(format!("task {} has no outcome {fence}", task.id)))
    }
}

impl Drop for Batch<'_> {
    /// A batch that was not closed broke off in a panic, perhaps within its commit.
    fn drop(&mut self) {
        let commit = Err(EngineError::OutcomeUnknown("the writer broke off".into()));
        Delivery { commit, answers: std::mem::take(&mut self.answers) }.hand_out();
    }
}
