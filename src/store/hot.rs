//! The hot file: one durable commit for a batch of changes, and snapshots of what lives.
//!
//! Must stay true: `commit` returns only after the fsync (P1) and writes all of its changes or none
//! (P6); a transition writes no spec. Not here: which changes belong together, the engine says.

use super::schema::{
    Counters, HOT, JOURNAL, JournalRecord, LARGE, META, META_AGE, META_REMOVING, META_SESSIONS,
    META_SETTINGS, OutcomeFacts, PART_SPEC, PART_TASK, Removing, SMALL_PART_BYTES, Settings,
    StoredWorker, WORKERS, part_of_file, part_of_outcome,
};
use super::slot::Reader;
use super::{AuditEntry, KeyedTask, Store, StoreError};
use crate::domain::{IdempotencyKey, Outcome, ReturnedFile, Sessions, Task, TaskSpec, WorkerId};
use redb::{
    AccessGuard, ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, Table,
    WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// All that one commit changes in the hot file.
#[derive(Default)]
pub struct HotChanges {
    /// Records by task sequence, as they are after the last change.
    pub tasks: BTreeMap<u64, Task>,
    /// Parts that are new: specs, outcomes by task and fence, files by task and artifact.
    pub specs: BTreeMap<u64, TaskSpec>,
    pub outcomes: BTreeMap<(u64, u32), Outcome>,
    pub files: BTreeMap<(u64, u64), ReturnedFile>,
    /// Idempotency keys of tasks that are new, and the tasks whose keys go for them.
    pub keys: BTreeMap<IdempotencyKey, KeyedTask>,
    pub old_keys: Vec<u64>,
    pub workers: BTreeMap<WorkerId, Option<StoredWorker>>,
    pub settings: Option<Settings>,
    pub sessions: Option<Sessions>,
    /// The tasks whose removal begins with this commit.
    pub removing: Option<Removing>,
    /// The store's age, when no journal record tells it.
    pub age_ms: Option<u64>,
    /// Tasks that stand in the archive and leave the hot file.
    pub archived: Vec<u64>,
    /// Journal records that stand in the archive.
    pub archived_journal: Vec<JournalKey>,
    /// The first change's sequence and the record, when there are changes to tell of.
    pub journal: Option<(u64, JournalRecord)>,
}

impl HotChanges {
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
            && self.workers.is_empty()
            && self.settings.is_none()
            && self.sessions.is_none()
            && self.removing.is_none()
            && self.age_ms.is_none()
            && self.archived.is_empty()
            && self.archived_journal.is_empty()
            && self.journal.is_none()
    }
}

/// Where a journal record stands: the newest task at its commit, and its first change sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalKey(u64, u64);

impl JournalKey {
    /// The first change that the record tells of.
    pub fn first_change(self) -> u64 {
        self.1
    }

    fn place(self) -> (u64, u64) {
        (self.0, JOURNAL + self.1)
    }
}

type Parts<'t> = Table<'t, (u64, u64), &'static [u8]>;
/// Above every key: the newest journal record is the last of all.
const NEWEST: (u64, u64) = (u64::MAX, u64::MAX);

type LargeParts = Vec<((u64, u64), Vec<u8>)>;

/// Most records are not larger, and need not grow bit by bit.
const USUAL_RECORD_BYTES: usize = 768;

fn json(record: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(USUAL_RECORD_BYTES);
    serde_json::to_writer(&mut bytes, record)?;
    Ok(bytes)
}

impl HotChanges {
    fn touches_parts(&self) -> bool {
        !self.tasks.is_empty()
            || !self.archived.is_empty()
            || !self.archived_journal.is_empty()
            || self.journal.is_some()
    }

    fn write_parts(&self, hot: &mut Parts<'_>) -> Result<LargeParts, StoreError> {
        let mut large = Vec::new();
        let mut put = |hot: &mut Parts<'_>, key, bytes: Vec<u8>| {
            if bytes.len() <= SMALL_PART_BYTES {
                hot.insert(key, bytes.as_slice())?;
            } else {
                large.push((key, bytes));
            }
            Ok::<_, StoreError>(())
        };
        for (seq, task) in &self.tasks {
            hot.insert((*seq, PART_TASK), json(task)?.as_slice())?;
        }
        for (seq, spec) in &self.specs {
            put(hot, (*seq, PART_SPEC), json(spec)?)?;
        }
        for ((seq, fence), outcome) in &self.outcomes {
            put(hot, (*seq, part_of_outcome(*fence)), json(outcome)?)?;
        }
        for ((seq, artifact), file) in &self.files {
            put(hot, (*seq, part_of_file(*artifact)), json(file)?)?;
        }
        for seq in &self.archived {
            hot.retain_in((*seq, 0)..(*seq, JOURNAL), |_, _| false)?;
        }
        for JournalKey(task, change) in &self.archived_journal {
            hot.remove((*task, JOURNAL + change))?;
        }
        if let Some((first, record)) = &self.journal {
            let key = (record.counters.last_task, JOURNAL + first);
            hot.insert(key, json(record)?.as_slice())?;
        }
        Ok(large)
    }

    fn write_meta(&self, txn: &WriteTransaction) -> Result<(), StoreError> {
        let rows = [
            (META_SETTINGS, self.settings.as_ref().map(json)),
            (META_SESSIONS, self.sessions.as_ref().map(json)),
            (META_REMOVING, self.removing.as_ref().map(json)),
            (META_AGE, self.age_ms.as_ref().map(json)),
        ];
        for (name, bytes) in rows {
            if let Some(bytes) = bytes {
                txn.open_table(META)?.insert(name, bytes?.as_slice())?;
            }
        }
        Ok(())
    }
}

impl Store {
    /// Writes all changes in one durable commit: when this returns Ok they survive power loss (P1).
    /// After an error it is unknown whether they do, and the file must be opened anew.
    pub fn commit(&self, changes: &HotChanges) -> Result<(), StoreError> {
        let hot = self.hot.write()?;
        let mut txn = hot.begin_write()?;
        txn.set_two_phase_commit(true);
        let mut large = Vec::new();
        if changes.touches_parts() {
            large = changes.write_parts(&mut txn.open_table(HOT)?)?;
        }
        if !large.is_empty() || !changes.archived.is_empty() {
            let mut table = txn.open_table(LARGE)?;
            for (key, bytes) in large {
                table.insert(key, bytes.as_slice())?;
            }
            // Usually there is nothing large, and then nothing need be looked for.
            let archived = if table.is_empty()? { &[] } else { changes.archived.as_slice() };
            for seq in archived {
                table.retain_in((*seq, 0)..=(*seq, u64::MAX), |_, _| false)?;
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
        changes.write_keys(&txn)?;
        changes.write_meta(&txn)?;
        txn.commit()?;
        Ok(())
    }

    /// A consistent view of the hot file; hold it for one page, never while waiting for a client.
    pub fn hot(&self) -> Result<Hot, StoreError> {
        let (txn, reader) = self.hot.snapshot()?;
        Ok(Hot { parts: txn.open_table(HOT)?, large: txn.open_table(LARGE)?, txn, _reader: reader })
    }
}

/// A snapshot of the hot file.
pub struct Hot {
    pub(super) txn: ReadTransaction,
    parts: ReadOnlyTable<(u64, u64), &'static [u8]>,
    large: ReadOnlyTable<(u64, u64), &'static [u8]>,
    _reader: Reader,
}

pub(super) fn read<T: DeserializeOwned, K: redb::Key + 'static>(
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
        read(&self.parts, (seq, PART_TASK))
    }

    pub fn spec(&self, seq: u64) -> Result<Option<TaskSpec>, StoreError> {
        self.part((seq, PART_SPEC))
    }

    /// What was completed under the lease with this fence.
    pub fn outcome(&self, seq: u64, fence: u32) -> Result<Option<Outcome>, StoreError> {
        self.part((seq, part_of_outcome(fence)))
    }

    /// The same without the output.
    pub fn outcome_facts(&self, seq: u64, fence: u32) -> Result<Option<OutcomeFacts>, StoreError> {
        self.part((seq, part_of_outcome(fence)))
    }

    /// What a worker returned as this artifact; none when it has gone to the archive.
    pub fn file(&self, seq: u64, artifact: u64) -> Result<Option<ReturnedFile>, StoreError> {
        self.part((seq, part_of_file(artifact)))
    }

    fn part<T: DeserializeOwned>(&self, key: (u64, u64)) -> Result<Option<T>, StoreError> {
        match read(&self.parts, key)? {
            Some(part) => Ok(Some(part)),
            None => read(&self.large, key),
        }
    }

    /// Spec and outcomes of a task as they are stored, for the way to the archive.
    pub(super) fn parts(&self, seq: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let mut parts = Vec::new();
        let within = (seq, PART_SPEC)..(seq, JOURNAL);
        for part in self.parts.range(within.clone())?.chain(self.large.range(within)?) {
            let (key, bytes) = part?;
            parts.push((key.value().1, bytes.value().to_vec()));
        }
        Ok(parts)
    }

    /// Every task of the hot file in order of creation, one at a time, for rebuilding memory. What
    /// stands between two tasks is leapt over.
    pub fn for_each_task(&self, mut visit: impl FnMut(Task)) -> Result<(), StoreError> {
        let mut from = 0;
        while let Some(entry) = self.parts.range((from, PART_TASK)..)?.next() {
            let (key, bytes) = entry?;
            let (seq, part) = key.value();
            if part == PART_TASK {
                visit(serde_json::from_slice(bytes.value())?);
            }
            from = seq + 1;
        }
        Ok(())
    }

    pub fn workers(&self) -> Result<Vec<StoredWorker>, StoreError> {
        let table = self.txn.open_table(WORKERS)?;
        table.iter()?.map(|entry| Ok(serde_json::from_slice(entry?.1.value())?)).collect()
    }

    pub fn settings(&self) -> Result<Settings, StoreError> {
        Ok(read(&self.txn.open_table(META)?, META_SETTINGS)?.unwrap_or_default())
    }

    pub fn sessions(&self) -> Result<Sessions, StoreError> {
        Ok(read(&self.txn.open_table(META)?, META_SESSIONS)?.unwrap_or_default())
    }

    /// The tasks whose removal was begun last.
    pub fn removing(&self) -> Result<Removing, StoreError> {
        Ok(read(&self.txn.open_table(META)?, META_REMOVING)?.unwrap_or_default())
    }

    /// Sequences, counts and age after the newest commit.
    pub fn counters(&self) -> Result<Counters, StoreError> {
        let newest = self.older_record(JournalKey::default(), NEWEST, u64::MAX)?;
        let mut counters = newest.map_or_else(Counters::default, |(_, record)| record.counters);
        let at_stop: Option<u64> = read(&self.txn.open_table(META)?, META_AGE)?;
        counters.age_ms = counters.age_ms.max(at_stop.unwrap_or_default());
        Ok(counters)
    }

    /// Whether the commit of these changes is in this file. They must not be empty.
    pub fn holds(&self, changes: &HotChanges) -> Result<bool, StoreError> {
        if let Some((first, record)) = &changes.journal {
            let key = (record.counters.last_task, JOURNAL + first);
            return Ok(self.parts.get(key)?.is_some());
        }
        // Without a change to tell of, a commit only removes.
        let tasks = changes.archived.iter().map(|seq| (*seq, PART_TASK));
        let journal = changes.archived_journal.iter().map(|key| key.place());
        match tasks.chain(journal).next() {
            Some(removed) => Ok(self.parts.get(removed)?.is_none()),
            None => Ok(false),
        }
    }

    /// The newest journal record below a key that holds changes below `before`. Parts of tasks
    /// between two records are leapt over; there are no records before `oldest`.
    fn older_record(
        &self,
        oldest: JournalKey,
        mut below: (u64, u64),
        before: u64,
    ) -> Result<Option<(JournalKey, JournalRecord)>, StoreError> {
        while below > oldest.place() {
            let Some(entry) = self.parts.range(oldest.place()..below)?.next_back() else { break };
            let (key, bytes) = entry?;
            let (task, part) = key.value();
            below = if part < JOURNAL { (task, PART_TASK) } else { (task, part) };
            if part >= JOURNAL && part - JOURNAL < before {
                let record = serde_json::from_slice(bytes.value())?;
                return Ok(Some((JournalKey(task, part - JOURNAL), record)));
            }
        }
        Ok(None)
    }

    /// At most `limit` audit entries below the change sequence `before`, newest first, and whether
    /// the journal was read to its end, after which the archive goes on. `oldest` is at or before
    /// the oldest record, so that the tasks below it are not looked at.
    pub fn audit(
        &self,
        oldest: JournalKey,
        before: u64,
        limit: usize,
    ) -> Result<(Vec<AuditEntry>, bool), StoreError> {
        let mut entries = Vec::new();
        if before <= oldest.1 {
            // Older than all of them: thousands of records would be passed over for nothing.
            return Ok((entries, true));
        }
        let mut below = NEWEST;
        while let Some((key, record)) = self.older_record(oldest, below, before)? {
            below = key.place();
            let older = record.changes.into_iter().rev().flatten();
            entries.extend(older.filter(|entry| entry.id.seq() < before));
            if entries.len() >= limit {
                entries.truncate(limit);
                return Ok((entries, false));
            }
        }
        Ok((entries, true))
    }

    /// Shows journal records from `oldest` on, oldest first, until `visit` has seen enough.
    fn for_each_record(
        &self,
        oldest: JournalKey,
        mut visit: impl FnMut(JournalKey, AccessGuard<'_, &'static [u8]>) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut from = oldest.place();
        while let Some(entry) = self.parts.range(from..)?.next() {
            let (key, bytes) = entry?;
            let (task, part) = key.value();
            from = (task, JOURNAL.max(part + 1));
            if part >= JOURNAL && !visit(JournalKey(task, part - JOURNAL), bytes)? {
                break;
            }
        }
        Ok(())
    }

    /// Journal records but the newest, oldest first, with their keys, until they hold `changes`.
    pub(super) fn old_journal(
        &self,
        oldest: JournalKey,
        changes: usize,
    ) -> Result<Vec<(JournalKey, JournalRecord)>, StoreError> {
        let newest = self.older_record(oldest, NEWEST, u64::MAX)?.map(|(key, _)| key);
        let mut records: Vec<(JournalKey, JournalRecord)> = Vec::new();
        let mut held = 0;
        self.for_each_record(oldest, |key, bytes| {
            if Some(key) == newest || held >= changes {
                return Ok(false);
            }
            let record: JournalRecord = serde_json::from_slice(bytes.value())?;
            held += record.changes.len();
            records.push((key, record));
            Ok(true)
        })?;
        Ok(records)
    }

    /// How many journal records there are, and where the oldest stands.
    pub fn journal(&self) -> Result<(usize, JournalKey), StoreError> {
        let (mut records, mut oldest) = (0, JournalKey::default());
        self.for_each_record(oldest, |key, _| {
            if records == 0 {
                oldest = key;
            }
            records += 1;
            Ok(true)
        })?;
        Ok((records, oldest))
    }
}
