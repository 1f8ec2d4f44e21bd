//! The rows by which the archive's lists find a task: by status, by age, its leases, its outcomes.
//!
//! Must stay true: what `put` writes for a record, `take_out` removes for the same record, no row more
//! and none less. Not here: the records themselves (`archive`), when they go (`retention`).

use super::StoreError;
use super::schema::{ArchivedFacts, LEASES, OUTCOMES, TASKS_BY_AGE, TASKS_BY_STATUS};
use crate::domain::Task;
use redb::{Table, WriteTransaction};

/// The four tables, open for writing.
pub struct Listed<'t> {
    by_status: Table<'t, (u8, u64), ()>,
    by_age: Table<'t, (u8, u64, u64), ()>,
    leases: Table<'t, (u8, u64), u64>,
    outcomes: Table<'t, u64, (u64, u32)>,
}

impl<'t> Listed<'t> {
    pub fn open(txn: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Listed {
            by_status: txn.open_table(TASKS_BY_STATUS)?,
            by_age: txn.open_table(TASKS_BY_AGE)?,
            leases: txn.open_table(LEASES)?,
            outcomes: txn.open_table(OUTCOMES)?,
        })
    }

    /// Lists a task that came to the archive at this age of the store.
    pub fn put(&mut self, task: &Task, age_ms: u64) -> Result<(), StoreError> {
        let (seq, status) = (task.seq(), task.status as u8);
        self.by_status.insert((status, seq), ())?;
        self.by_age.insert((status, age_ms, seq), ())?;
        for ended in &task.ended {
            self.leases.insert((ended.status() as u8, ended.lease.id.seq()), seq)?;
            if let Some(outcome) = ended.outcome {
                self.outcomes.insert(outcome, (seq, ended.lease.fence))?;
            }
        }
        for file in &task.files {
            self.outcomes.insert(file.seq, (seq, 0))?;
        }
        Ok(())
    }

    /// Takes the task of this stored record out of every list.
    pub fn take_out(&mut self, record: &[u8]) -> Result<(), StoreError> {
        let facts: ArchivedFacts = serde_json::from_slice(record)?;
        let task: Task = serde_json::from_slice(record)?;
        let (seq, status) = (task.seq(), task.status as u8);
        self.by_status.remove((status, seq))?;
        self.by_age.remove((status, facts.archived_age_ms, seq))?;
        for ended in &task.ended {
            self.leases.remove((ended.status() as u8, ended.lease.id.seq()))?;
            if let Some(outcome) = ended.outcome {
                self.outcomes.remove(outcome)?;
            }
        }
        for file in &task.files {
            self.outcomes.remove(file.seq)?;
        }
        Ok(())
    }
}
