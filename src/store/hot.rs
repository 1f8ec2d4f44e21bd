//! The hot file: one durable commit for a batch of changes, and snapshots of what lives.
//!
//! Must stay true: `commit` returns only after the fsync (P1) and writes all of its changes or none
//! (P6); a transition writes no spec. Not here: which changes belong together, the engine says.

use super::schema::{
    Counters, JOURNAL, JournalRecord, META, META_SETTINGS, PART_SPEC, PARTS, Settings,
    StoredWorker, TASKS, WORKERS,
};
use super::{AuditEntry, Store, StoreError};
use crate::domain::{Outcome, Task, TaskSpec, WorkerId};
use redb::{
    ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// All that one commit changes in the hot file.
#[derive(Default)]
pub struct HotChanges {
    /// Records by task sequence, as they are after the last change.
    pub tasks: BTreeMap<u64, Task>,
    /// Parts that are new: specs and outcomes.
    pub specs: BTreeMap<u64, TaskSpec>,
    pub outcomes: BTreeMap<(u64, u32), Outcome>,
    pub workers: BTreeMap<WorkerId, Option<StoredWorker>>,
    pub settings: Option<Settings>,
    /// Tasks that stand in the archive and leave the hot file.
    pub archived: Vec<u64>,
    /// Journal records up to this key stand in the archive.
    pub archived_journal: Option<u64>,
    /// The first change's sequence and the record, when there are changes to tell of.
    pub journal: Option<(u64, JournalRecord)>,
}

impl HotChanges {
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
            && self.workers.is_empty()
            && self.settings.is_none()
            && self.archived.is_empty()
            && self.archived_journal.is_none()
            && self.journal.is_none()
    }
}

fn json(record: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    Ok(serde_json::to_vec(record)?)
}

impl Store {
    /// Writes all changes in one durable commit: when this returns Ok they survive power loss (P1).
    /// After an error it is unknown whether they do, and the file must be opened anew.
    pub fn commit(&self, changes: &HotChanges) -> Result<(), StoreError> {
        let mut txn = self.hot.begin_write()?;
        txn.set_two_phase_commit(true);
        if !changes.tasks.is_empty() || !changes.archived.is_empty() {
            let mut tasks = txn.open_table(TASKS)?;
            for (seq, task) in &changes.tasks {
                tasks.insert(seq, json(task)?.as_slice())?;
            }
            for seq in &changes.archived {
                tasks.remove(seq)?;
            }
        }
        if !changes.specs.is_empty() || !changes.outcomes.is_empty() || !changes.archived.is_empty()
        {
            let mut parts = txn.open_table(PARTS)?;
            for (seq, spec) in &changes.specs {
                parts.insert((*seq, PART_SPEC), json(spec)?.as_slice())?;
            }
            for (key, outcome) in &changes.outcomes {
                parts.insert(key, json(outcome)?.as_slice())?;
            }
            for seq in &changes.archived {
                parts.retain_in((*seq, 0)..=(*seq, u32::MAX), |_, _| false)?;
            }
        }
        if !changes.workers.is_empty() {
            let mut workers = txn.open_table(WORKERS)?;
            for (id, worker) in &changes.workers {
                match worker {
                    Some(worker) => workers.insert(id.0.as_str(), json(worker)?.as_slice())?,
                    None => workers.remove(id.0.as_str())?,
                };
            }
        }
        if let Some(settings) = &changes.settings {
            txn.open_table(META)?.insert(META_SETTINGS, json(settings)?.as_slice())?;
        }
        if changes.journal.is_some() || changes.archived_journal.is_some() {
            let mut journal = txn.open_table(JOURNAL)?;
            if let Some(last) = changes.archived_journal {
                journal.retain_in(..=last, |_, _| false)?;
            }
            if let Some((first, record)) = &changes.journal {
                journal.insert(first, json(record)?.as_slice())?;
            }
        }
        txn.commit()?;
        Ok(())
    }

    /// A consistent view of the hot file; hold it for one page, never while waiting for a client.
    pub fn hot(&self) -> Result<Hot, StoreError> {
        let txn = self.hot.begin_read()?;
        Ok(Hot { tasks: txn.open_table(TASKS)?, parts: txn.open_table(PARTS)?, txn })
    }
}

/// A snapshot of the hot file.
pub struct Hot {
    txn: ReadTransaction,
    tasks: ReadOnlyTable<u64, &'static [u8]>,
    parts: ReadOnlyTable<(u64, u32), &'static [u8]>,
}

pub(super) fn read<T: serde::de::DeserializeOwned, K: redb::Key + 'static>(
    table: &ReadOnlyTable<K, &'static [u8]>,
    key: K::SelfType<'_>,
) -> Result<Option<T>, StoreError> {
    match table.get(key)? {
        Some(bytes) => Ok(Some(serde_json::from_slice(bytes.value())?)),
        None => Ok(None),
    }
}

impl Hot {
    pub fn task(&self, seq: u64) -> Result<Option<Task>, StoreError> {
        read(&self.tasks, seq)
    }

    pub fn spec(&self, seq: u64) -> Result<Option<TaskSpec>, StoreError> {
        read(&self.parts, (seq, PART_SPEC))
    }

    /// What was completed under the lease with this fence.
    pub fn outcome(&self, seq: u64, fence: u32) -> Result<Option<Outcome>, StoreError> {
        read(&self.parts, (seq, fence))
    }

    /// Every part of a task as it is stored, for the way to the archive.
    pub(super) fn parts(&self, seq: u64) -> Result<Vec<(u32, Vec<u8>)>, StoreError> {
        let mut parts = Vec::new();
        for part in self.parts.range((seq, 0)..=(seq, u32::MAX))? {
            let (key, bytes) = part?;
            parts.push((key.value().1, bytes.value().to_vec()));
        }
        Ok(parts)
    }

    /// Every task of the hot file in order of creation, one at a time, for rebuilding memory.
    pub fn for_each_task(&self, mut visit: impl FnMut(Task)) -> Result<(), StoreError> {
        for entry in self.tasks.iter()? {
            visit(serde_json::from_slice(entry?.1.value())?);
        }
        Ok(())
    }

    pub fn task_count(&self) -> Result<u64, StoreError> {
        Ok(self.tasks.len()?)
    }

    pub fn workers(&self) -> Result<Vec<StoredWorker>, StoreError> {
        let table = self.txn.open_table(WORKERS)?;
        table.iter()?.map(|entry| Ok(serde_json::from_slice(entry?.1.value())?)).collect()
    }

    pub fn settings(&self) -> Result<Settings, StoreError> {
        Ok(read(&self.txn.open_table(META)?, META_SETTINGS)?.unwrap_or_default())
    }

    /// Sequences and counts after the newest commit.
    pub fn counters(&self) -> Result<Counters, StoreError> {
        match self.txn.open_table(JOURNAL)?.last()? {
            Some((_, bytes)) => {
                Ok(serde_json::from_slice::<JournalRecord>(bytes.value())?.counters)
            }
            None => Ok(Counters::default()),
        }
    }

    /// At most `limit` audit entries below the change sequence `before`, newest first, and whether
    /// the journal was read to its end, after which the archive goes on.
    pub fn audit(&self, before: u64, limit: usize) -> Result<(Vec<AuditEntry>, bool), StoreError> {
        let mut entries = Vec::new();
        for record in self.txn.open_table(JOURNAL)?.range(..before)?.rev() {
            let record: JournalRecord = serde_json::from_slice(record?.1.value())?;
            let older = record.changes.into_iter().rev().flatten();
            entries.extend(older.filter(|entry| entry.id.seq() < before));
            if entries.len() >= limit {
                entries.truncate(limit);
                return Ok((entries, false));
            }
        }
        Ok((entries, true))
    }

    /// Journal records but the newest, oldest first, with their keys, until they hold `changes`.
    pub(super) fn old_journal(
        &self,
        changes: usize,
    ) -> Result<Vec<(u64, JournalRecord)>, StoreError> {
        let journal = self.txn.open_table(JOURNAL)?;
        let Some(newest) = journal.last()?.map(|(key, _)| key.value()) else {
            return Ok(Vec::new());
        };
        let mut records = Vec::new();
        let mut held = 0;
        for entry in journal.range(..newest)? {
            let (key, bytes) = entry?;
            let record: JournalRecord = serde_json::from_slice(bytes.value())?;
            held += record.changes.len();
            records.push((key.value(), record));
            if held >= changes {
                break;
            }
        }
        Ok(records)
    }

    pub fn journal_len(&self) -> Result<u64, StoreError> {
        Ok(self.txn.open_table(JOURNAL)?.len()?)
    }
}
