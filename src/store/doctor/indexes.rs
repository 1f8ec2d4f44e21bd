//! The archive's tables for lists and look-ups, held against its tasks.
//!
//! Must stay true: each table is walked in its own order or asked for one row, never held in memory; a
//! missing row and a row too many are both found. Not here: the tasks themselves.

use super::findings::{Findings, InFile, ProblemKind};
use super::rows::{Group, Row};
use crate::domain::{LEASES_KEPT_PER_TASK, Task, TaskStatus};
use crate::store::StoreError;
use crate::store::schema::{ArchivedFacts, LEASES, OUTCOMES, TASKS, TASKS_BY_AGE, TASKS_BY_STATUS};
use redb::{ReadOnlyTable, ReadTransaction, ReadableTableMetadata};
use std::iter::Peekable;

type Listed = Peekable<Box<dyn Iterator<Item = Row<()>>>>;

pub struct Indexes {
    tasks: ReadOnlyTable<u64, &'static [u8]>,
    /// One for each status, in the order of `TaskStatus::ALL`.
    by_status: Vec<Listed>,
    beyond: u64,
    by_age: ReadOnlyTable<(u8, u64, u64), ()>,
    leases: ReadOnlyTable<(u8, u64), u64>,
    outcomes: ReadOnlyTable<u64, (u64, u32)>,
    /// Rows that are as they should be.
    ages_right: u64,
    leases_right: u64,
    outcomes_right: u64,
}

impl Indexes {
    pub fn new(archive: &ReadTransaction) -> Result<Self, StoreError> {
        let table = archive.open_table(TASKS_BY_STATUS)?;
        let mut by_status = Vec::new();
        for status in TaskStatus::ALL {
            let status = status as u8;
            let rows = table.range((status, 0)..=(status, u64::MAX))?;
            let rows = rows.map(|row| Ok(((row?.0.value().1, 0u64), ())));
            by_status.push((Box::new(rows) as Box<dyn Iterator<Item = _>>).peekable());
        }
        let beyond = table.range((TaskStatus::ALL.len() as u8, 0)..)?.count() as u64;
        Ok(Indexes {
            tasks: archive.open_table(TASKS)?,
            by_status,
            beyond,
            by_age: archive.open_table(TASKS_BY_AGE)?,
            leases: archive.open_table(LEASES)?,
            outcomes: archive.open_table(OUTCOMES)?,
            ages_right: 0,
            leases_right: 0,
            outcomes_right: 0,
        })
    }

    /// Takes the archive's next task, in their order.
    pub fn take(&mut self, findings: &mut Findings, group: &Group) -> Result<(), StoreError> {
        let (seq, task) = (group.seq, group.task.as_ref());
        self.pass(findings, seq)?;
        for (rows, status) in self.by_status.iter_mut().zip(TaskStatus::ALL) {
            let listed = peek(rows)? == Some(seq);
            if listed {
                rows.next();
            }
            // A record that cannot be read was told of already.
            let Some(task) = task else { continue };
            let word = status.as_str();
            let text = match (listed, task.status == status) {
                (true, true) | (false, false) => continue,
                (true, false) => format!(
                    "task {} is {} but stands in the list of {word} ones",
                    task.id,
                    task.status.as_str()
                ),
                (false, true) => format!("task {} is {word} but not in the list of them", task.id),
            };
            findings.problem(ProblemKind::Index, InFile::Archive, text);
        }
        let Some(task) = task else { return Ok(()) };
        let row = (task.status as u8, group.archived_age_ms, seq);
        if self.by_age.get(row)?.is_some() {
            self.ages_right += 1;
        } else {
            let text = format!("task {} is not in the list that retention reads", task.id);
            findings.problem(ProblemKind::Index, InFile::Archive, text);
        }
        for ended in &task.ended {
            let (lease, status) = (ended.lease.id, ended.status());
            let row = self.leases.get((status as u8, lease.seq()))?.map(|row| row.value());
            if row == Some(seq) {
                self.leases_right += 1;
            } else {
                let text = format!(
                    "lease {lease} of task {} is not in the list of {} ones",
                    task.id,
                    status.as_str()
                );
                findings.problem(ProblemKind::Index, InFile::Archive, text);
            }
            let Some(outcome) = ended.outcome else { continue };
            let row = self.outcomes.get(outcome)?.map(|row| row.value());
            if row == Some((seq, ended.lease.fence)) {
                self.outcomes_right += 1;
            } else {
                let text = format!(
                    "outcome {outcome} of task {} is not in the list of artifacts",
                    task.id
                );
                findings.problem(ProblemKind::Index, InFile::Archive, text);
            }
        }
        for file in &task.files {
            if self.outcomes.get(file.seq)?.map(|row| row.value()) == Some((seq, 0)) {
                self.outcomes_right += 1;
            } else {
                let text = format!(
                    "file {} of task {} is not in the list of artifacts",
                    file.seq, task.id
                );
                findings.problem(ProblemKind::Index, InFile::Archive, text);
            }
        }
        Ok(())
    }

    /// Rows of the lists before this task that no task has asked for.
    fn pass(&mut self, findings: &mut Findings, seq: u64) -> Result<(), StoreError> {
        for (rows, status) in self.by_status.iter_mut().zip(TaskStatus::ALL) {
            while let Some(listed) = peek(rows)?.filter(|listed| *listed < seq) {
                rows.next();
                let word = status.as_str();
                let text = format!(
                    "task number {listed} stands in the list of {word} ones but is not there"
                );
                findings.problem(ProblemKind::Index, InFile::Archive, text);
            }
        }
        Ok(())
    }

    /// After the last task: what is left over belongs to none.
    pub fn finish(mut self, findings: &mut Findings) -> Result<(), StoreError> {
        self.pass(findings, u64::MAX)?;
        if self.beyond > 0 {
            let text = format!("{} tasks stand in a list of an unknown status", self.beyond);
            findings.problem(ProblemKind::Index, InFile::Archive, text);
        }
        if self.by_age.len()? != self.ages_right {
            self.find_ages_too_many(findings)?;
        }
        if self.leases.len()? != self.leases_right {
            self.find_leases_too_many(findings)?;
        }
        if self.outcomes.len()? != self.outcomes_right {
            self.find_outcomes_too_many(findings)?;
        }
        Ok(())
    }

    fn task(&self, seq: u64) -> Result<Option<Task>, StoreError> {
        let bytes = self.tasks.get(seq)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(bytes.value()).ok()))
    }

    fn find_ages_too_many(&self, findings: &mut Findings) -> Result<(), StoreError> {
        for row in self.by_age.range::<(u8, u64, u64)>(..)? {
            let (status, age_ms, seq) = row?.0.value();
            let facts = self
                .tasks
                .get(seq)?
                .and_then(|bytes| serde_json::from_slice::<ArchivedFacts>(bytes.value()).ok());
            let is_of = |facts: ArchivedFacts| {
                facts.status as u8 == status && facts.archived_age_ms == age_ms
            };
            if !facts.is_some_and(is_of) {
                let text = format!(
                    "task number {seq} stands in the list that retention reads, with status {status} and age {age_ms}, which it has not"
                );
                findings.problem(ProblemKind::Index, InFile::Archive, text);
            }
        }
        Ok(())
    }

    fn find_leases_too_many(&self, findings: &mut Findings) -> Result<(), StoreError> {
        for row in self.leases.range::<(u8, u64)>(..)? {
            let (key, value) = row?;
            let ((status, lease), seq) = (key.value(), value.value());
            let is_of = |task: Task| {
                let mut ended = task.ended.iter();
                ended.any(|e| e.lease.id.seq() == lease && e.status() as u8 == status)
            };
            if !self.task(seq)?.is_some_and(is_of) {
                let text = format!(
                    "lease number {lease} stands in a list as one of task number {seq}, which has no such lease"
                );
                findings.problem(ProblemKind::Index, InFile::Archive, text);
            }
        }
        Ok(())
    }

    fn find_outcomes_too_many(&self, findings: &mut Findings) -> Result<(), StoreError> {
        for row in self.outcomes.range::<u64>(..)? {
            let (key, value) = row?;
            let (outcome, (seq, fence)) = (key.value(), value.value());
            let may_stand = |task: Task| {
                // A task keeps its newest leases only; the rows of the others stay.
                if fence == 0 {
                    return task.files.iter().any(|file| file.seq == outcome);
                }
                let first = task.ended.first().map_or(0, |ended| ended.lease.fence);
                let made_room = task.ended.len() == LEASES_KEPT_PER_TASK && fence < first;
                made_room
                    || task
                        .ended
                        .iter()
                        .any(|e| e.outcome == Some(outcome) && e.lease.fence == fence)
            };
            if !self.task(seq)?.is_some_and(may_stand) {
                let text = format!(
                    "outcome number {outcome} stands in the list as one of task number {seq}, which has no such outcome"
                );
                findings.problem(ProblemKind::Index, InFile::Archive, text);
            }
        }
        Ok(())
    }
}

fn peek(rows: &mut Listed) -> Result<Option<u64>, StoreError> {
    match rows.next_if(|row| row.is_err()) {
        Some(Err(error)) => Err(error),
        _ => Ok(rows.peek().and_then(|row| row.as_ref().ok()).map(|((seq, _), ())| *seq)),
    }
}
