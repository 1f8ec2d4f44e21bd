//! Retention in the archive: which tasks are old enough, and their removal.
//!
//! Must stay true: a task is removed here only after the hot file's commit that lowered the counts and
//! noted its removal (`engine::core`), so that whatever a crash leaves is finished from the note;
//! removing it again is harmless; all of a task goes in one commit, with quick-repair. Not here: what
//! is due and when (`engine::retention`); the audit trail (`trail`).

use super::archive::Archive;
use super::listed::Listed;
use super::objects::Contents;
use super::schema::{ArchivedFacts, PARTS, TASKS, TASKS_BY_AGE};
use super::{Store, StoreError};
use crate::domain::TaskStatus;
use redb::ReadableDatabase;

/// A row of `TASKS_BY_AGE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueTask {
    pub seq: u64,
    pub status: TaskStatus,
    /// The store's age when the task came to the archive.
    pub archived_age_ms: u64,
}

impl Archive {
    /// The oldest tasks of this status that came here at `age_ms` or before. `lives_on` tells of a
    /// copy whose task lives in the hot file: it takes no place among them.
    pub fn archived_by(
        &self,
        status: TaskStatus,
        age_ms: u64,
        limit: usize,
        lives_on: impl Fn(u64) -> bool,
    ) -> Result<Vec<DueTask>, StoreError> {
        let key = status as u8;
        let rows =
            self.txn.open_table(TASKS_BY_AGE)?.range((key, 0, 0)..=(key, age_ms, u64::MAX))?;
        let due = rows.filter_map(|row| match row {
            Ok((row, _)) => {
                let (_, archived_age_ms, seq) = row.value();
                let stays = self.is_gone(seq) || lives_on(seq);
                (!stays).then_some(Ok(DueTask { seq, status, archived_age_ms }))
            }
            Err(error) => Some(Err(error.into())),
        });
        due.take(limit).collect()
    }

    /// How many rows there are until this age, counted to `most`; those of tasks that live again count too.
    pub fn count_until(
        &self,
        status: TaskStatus,
        age_ms: u64,
        most: usize,
    ) -> Result<usize, StoreError> {
        let key = status as u8;
        let mut rows =
            self.txn.open_table(TASKS_BY_AGE)?.range((key, 0, 0)..=(key, age_ms, u64::MAX))?;
        let mut count = 0;
        while count < most {
            let Some(row) = rows.next() else { break };
            count += usize::from(!self.is_gone(row?.0.value().2));
        }
        Ok(count)
    }

    /// Whether the task is still here as this row tells, and how many leases it had.
    pub fn still_due(&self, due: &DueTask) -> Result<Option<u32>, StoreError> {
        let unchanged = |facts: &ArchivedFacts| {
            (facts.status, facts.archived_age_ms) == (due.status, due.archived_age_ms)
        };
        Ok(self.facts(due.seq)?.filter(unchanged).map(|facts| facts.grants))
    }
}

impl Store {
    /// Removes these tasks with their texts, outcomes and rows in one durable commit, and says how
    /// many were there; none were after a crash behind that commit, and nothing is written then.
    pub fn remove_archived(&self, seqs: &[u64]) -> Result<usize, StoreError> {
        let archive = self.archive.write()?;
        let found = archive.begin_read()?.open_table(TASKS)?;
        let mut there = 0;
        for seq in seqs {
            there += usize::from(found.get(seq)?.is_some());
        }
        if there == 0 {
            return Ok(0);
        }
        drop(found);
        let files;
        let mut txn = archive.begin_write()?;
        txn.set_quick_repair(true);
        {
            let mut tasks = txn.open_table(TASKS)?;
            let mut parts = txn.open_table(PARTS)?;
            let mut listed = Listed::open(&txn)?;
            let mut contents = Contents::open(&txn, self.object_rules())?;
            for &seq in seqs {
                let Some(record) = tasks.remove(seq)? else { continue };
                listed.take_out(record.value())?;
                for removed in parts.extract_from_if((seq, 0)..=(seq, u64::MAX), |_, _| true)? {
                    let (key, bytes) = removed?;
                    contents.take_out(key.value().1, bytes.value())?;
                }
            }
            files = contents.files;
        }
        txn.commit()?;
        self.remove_files(&files);
        Ok(there)
    }
}

#[cfg(test)]
impl Store {
    /// Rows of `TASKS`, `PARTS`, `TASKS_BY_STATUS`, `TASKS_BY_AGE`, `LEASES` and `OUTCOMES`.
    pub fn archived_rows(&self) -> Result<[u64; 6], StoreError> {
        use super::schema::{LEASES, OUTCOMES, TASKS_BY_STATUS};
        use redb::ReadableTableMetadata;
        let txn = self.archive.read()?.begin_read()?;
        Ok([
            txn.open_table(TASKS)?.len()?,
            txn.open_table(PARTS)?.len()?,
            txn.open_table(TASKS_BY_STATUS)?.len()?,
            txn.open_table(TASKS_BY_AGE)?.len()?,
            txn.open_table(LEASES)?.len()?,
            txn.open_table(OUTCOMES)?.len()?,
        ])
    }
}
