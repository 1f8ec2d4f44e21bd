//! The archive file: finished tasks with all that belongs to them, and the older audit trail.
//!
//! Must stay true: writing the same task again is harmless, the newer copy replaces the older (the
//! mover may repeat itself after a crash, a requeued task comes back when it finishes again); every
//! commit keeps quick-repair, so that the file opens at once however large it is. A task that lives
//! again keeps its old copy here until then: who reads asks the hot file first.

use super::hot::{JournalKey, read};
use super::listed::Listed;
use super::schema::{
    AUDIT, ArchivedFacts, ArchivedTask, LEASES, OUTCOMES, OutcomeFacts, PART_SPEC, PARTS, TASKS,
    TASKS_BY_STATUS, UPLOADS, part_of_file, part_of_outcome,
};
use super::slot::Reader;
use super::trail::note_age_of_trail;
use super::{AuditEntry, Store, StoreError};
use crate::domain::{LeaseStatus, Outcome, ReturnedFile, Task, TaskSpec, TaskStatus};
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::sync::Arc;

/// What one round copied into the archive, for the removal that must follow.
#[derive(Clone, Debug, Default)]
pub struct Copied {
    /// The records as they were copied.
    pub tasks: Vec<Task>,
    pub journal: Vec<JournalKey>,
    /// Changes that those journal records tell of.
    pub changes: usize,
    /// Artifacts among them that are to go to S3.
    pub uploads: usize,
}

impl Copied {
    /// Takes out at most this many tasks and journal records, oldest first, until there are none.
    pub fn take_some(&mut self, most: usize) -> Option<Copied> {
        let mut oldest = Copied {
            tasks: self.tasks.drain(..most.min(self.tasks.len())).collect(),
            journal: self.journal.drain(..most.min(self.journal.len())).collect(),
            ..Copied::default()
        };
        oldest.changes = std::mem::take(&mut self.changes);
        (!oldest.tasks.is_empty() || !oldest.journal.is_empty()).then_some(oldest)
    }
}

impl Store {
    /// Copies these tasks, where they are finished, and old journal records of `journal_changes`
    /// into the archive in one durable commit. `oldest` is at or before the oldest record, `age_ms`
    /// the store's age, at or after the moment when the last of them finished.
    pub fn archive_finished(
        &self,
        seqs: &[u64],
        oldest: JournalKey,
        journal_changes: usize,
        age_ms: u64,
    ) -> Result<Copied, StoreError> {
        let hot = self.hot()?;
        let journal = hot.old_journal(oldest, journal_changes)?;
        if seqs.is_empty() && journal.is_empty() {
            return Ok(Copied::default());
        }
        let mut copied = Copied { tasks: Vec::with_capacity(seqs.len()), ..Copied::default() };
        let archive = self.archive.write()?;
        let mut txn = archive.begin_write()?;
        txn.set_quick_repair(true);
        {
            let mut tasks = txn.open_table(TASKS)?;
            let mut parts = txn.open_table(PARTS)?;
            let mut listed = Listed::open(&txn)?;
            let mut audit = txn.open_table(AUDIT)?;
            let mut uploads = txn.open_table(UPLOADS)?;
            for &seq in seqs {
                let Some(task) = hot.task(seq)?.filter(|task| task.status.is_finished()) else {
                    continue;
                };
                let record = ArchivedTask { task: &task, archived_age_ms: age_ms };
                let older = tasks.insert(seq, serde_json::to_vec(&record)?.as_slice())?;
                if let Some(older) = older {
                    listed.take_out(older.value())?;
                }
                listed.put(&task, age_ms)?;
                for (part, bytes) in hot.parts(seq)? {
                    // Content is written once, and here it may have been noted to lie in S3 since.
                    if part > PART_SPEC && parts.get((seq, part))?.is_some() {
                        continue;
                    }
                    parts.insert((seq, part), bytes.as_slice())?;
                    let new = self.goes_to_s3(&bytes, part)?;
                    if let Some(artifact) = new {
                        uploads.insert(artifact, (seq, part))?;
                        copied.uploads += 1;
                    }
                }
                copied.tasks.push(task);
            }
            for (_, record) in &journal {
                for entry in record.changes.iter().flatten() {
                    audit.insert(entry.id.seq(), serde_json::to_vec(entry)?.as_slice())?;
                }
            }
            note_age_of_trail(&txn, &journal)?;
        }
        txn.commit()?;
        copied.changes = journal.iter().map(|(_, record)| record.changes.len()).sum();
        copied.journal = journal.into_iter().map(|(key, _)| key).collect();
        Ok(copied)
    }

    /// A consistent view of the archive without the tasks of `removing`; taken after the hot one, or
    /// a task that moves meanwhile could be missed, and after `removing` was looked up, or one that
    /// is removed meanwhile could be seen.
    pub fn archive(&self, removing: Arc<HashSet<u64>>) -> Result<Archive, StoreError> {
        let (txn, reader) = self.archive.snapshot()?;
        let (tasks, parts) = (txn.open_table(TASKS)?, txn.open_table(PARTS)?);
        Ok(Archive { tasks, parts, txn, removing, _reader: reader })
    }
}

/// A snapshot of the archive.
pub struct Archive {
    pub(super) txn: ReadTransaction,
    tasks: ReadOnlyTable<u64, &'static [u8]>,
    parts: ReadOnlyTable<(u64, u64), &'static [u8]>,
    /// Tasks whose removal has begun: for every reader they are gone.
    removing: Arc<HashSet<u64>>,
    _reader: Reader,
}

impl Archive {
    pub fn task(&self, seq: u64) -> Result<Option<Task>, StoreError> {
        if self.is_gone(seq) { Ok(None) } else { read(&self.tasks, seq) }
    }

    pub(super) fn facts(&self, seq: u64) -> Result<Option<ArchivedFacts>, StoreError> {
        if self.is_gone(seq) { Ok(None) } else { read(&self.tasks, seq) }
    }

    pub(super) fn is_gone(&self, seq: u64) -> bool {
        self.removing.contains(&seq)
    }

    pub fn spec(&self, seq: u64) -> Result<Option<TaskSpec>, StoreError> {
        read(&self.parts, (seq, PART_SPEC))
    }

    pub fn outcome(&self, seq: u64, fence: u32) -> Result<Option<Outcome>, StoreError> {
        read(&self.parts, (seq, part_of_outcome(fence)))
    }

    /// The same without the output.
    pub fn outcome_facts(&self, seq: u64, fence: u32) -> Result<Option<OutcomeFacts>, StoreError> {
        read(&self.parts, (seq, part_of_outcome(fence)))
    }

    /// What a worker returned as this artifact.
    pub fn file(&self, seq: u64, artifact: u64) -> Result<Option<ReturnedFile>, StoreError> {
        if self.is_gone(seq) { Ok(None) } else { read(&self.parts, (seq, part_of_file(artifact))) }
    }

    pub(super) fn part<T: DeserializeOwned>(
        &self,
        seq: u64,
        part: u64,
    ) -> Result<Option<T>, StoreError> {
        read(&self.parts, (seq, part))
    }

    /// Task sequences below `before`, newest first. `lives_on` tells of a copy with this status
    /// whose task has another one by now: it takes no place in the list.
    pub fn tasks_below(
        &self,
        status: Option<TaskStatus>,
        before: u64,
        limit: usize,
        lives_on: impl Fn(u64) -> bool,
    ) -> Result<Vec<u64>, StoreError> {
        match status {
            None => newest(self.tasks.range(..before)?, limit, |seq, _| {
                (!self.is_gone(seq)).then_some(seq)
            }),
            Some(status) => {
                let status = status as u8;
                let rows =
                    self.txn.open_table(TASKS_BY_STATUS)?.range((status, 0)..(status, before))?;
                newest(rows, limit, |(_, seq), ()| {
                    (!self.is_gone(seq) && !lives_on(seq)).then_some(seq)
                })
            }
        }
    }

    /// (lease sequence, task sequence) below `before`, newest first.
    pub fn leases_below(
        &self,
        status: LeaseStatus,
        before: u64,
        limit: usize,
    ) -> Result<Vec<(u64, u64)>, StoreError> {
        let status = status as u8;
        let rows = self.txn.open_table(LEASES)?.range((status, 0)..(status, before))?;
        newest(rows, limit, |(_, lease), task| (!self.is_gone(task)).then_some((lease, task)))
    }

    /// (outcome sequence, task sequence) below `before`, newest first.
    pub fn outcomes_below(&self, before: u64, limit: usize) -> Result<Vec<(u64, u64)>, StoreError> {
        let rows = self.txn.open_table(OUTCOMES)?.range(..before)?;
        newest(rows, limit, |outcome, (task, _)| (!self.is_gone(task)).then_some((outcome, task)))
    }

    /// The task whose completion has this outcome sequence.
    pub fn task_of_outcome(&self, outcome: u64) -> Result<Option<u64>, StoreError> {
        Ok(self.txn.open_table(OUTCOMES)?.get(outcome)?.map(|found| found.value().0))
    }

    /// Audit entries below the change sequence `before`, newest first.
    pub fn audit_below(&self, before: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        let rows = self.txn.open_table(AUDIT)?.range(..before)?;
        rows.rev().take(limit).map(|row| Ok(serde_json::from_slice(row?.1.value())?)).collect()
    }
}

fn newest<K: redb::Key, V: redb::Value, T>(
    rows: redb::Range<'_, K, V>,
    limit: usize,
    pick: impl for<'a> Fn(K::SelfType<'a>, V::SelfType<'a>) -> Option<T>,
) -> Result<Vec<T>, StoreError> {
    let picked = rows.rev().filter_map(|row| match row {
        Ok((key, value)) => pick(key.value(), value.value()).map(Ok),
        Err(error) => Some(Err(error.into())),
    });
    picked.take(limit).collect()
}
