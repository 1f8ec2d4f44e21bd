//! How long finished tasks are kept, and what readers know of their removal.
//!
//! Age is counted on served time: how long this store has been open under a running server, on
//! monotonic clocks. A machine without a clock battery has no other age that can be trusted, and what
//! is not counted (the time it is off) only keeps a task longer. Must stay true: no task is due before
//! its whole time has been served (P4); one that a person requeued is not due. Not here: the loop
//! (`background::retention`), the writer's part (`core/retention`).

use super::{EngineError, Query};
use crate::clock::Mono;
use crate::domain::TaskStatus;
use crate::store::{Compacted, DueTask};
use std::collections::HashSet;
use std::sync::Arc;

const DAY_MS: u64 = 86_400_000;
/// How far an outlook counts what is due, of each kind.
pub const OUTLOOK_MOST: usize = 10_000;

/// How long tasks of each status, and the audit trail, are kept; None keeps them. The archive's rows are
/// apart by status, so each has its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    keep_ms: [Option<u64>; TaskStatus::ALL.len()],
    audit_ms: Option<u64>,
}

/// What retention would remove now, and what is the oldest that is there. Nothing is removed by asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    pub tasks: Vec<StatusOutlook>,
    pub audit: AuditOutlook,
    /// Milliseconds until the next task or entry is due; 0 when some are.
    pub next_due_ms: Option<u64>,
}

/// The part about the tasks of one finished status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusOutlook {
    pub status: TaskStatus,
    pub days: Option<u64>,
    /// Counted to `OUTLOOK_MOST`.
    pub due: usize,
    /// When the task that has been in the archive longest changed last.
    pub oldest_at: Option<i64>,
}

/// The part about the audit trail's archived entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditOutlook {
    pub days: Option<u64>,
    /// Counted to `OUTLOOK_MOST`.
    pub due: usize,
    pub oldest_at: Option<i64>,
    pub removed: u64,
}

impl Retention {
    /// Everything that is finished is kept for `days`.
    pub fn days(days: u32) -> Retention {
        let finished = TaskStatus::ALL.into_iter().filter(|status| status.is_finished());
        Retention::new(finished.map(|status| (status, days)), None)
    }

    /// Tasks of these statuses, and the audit trail, are kept for so many days, everything else for ever.
    pub fn new(
        tasks: impl IntoIterator<Item = (TaskStatus, u32)>,
        audit_days: Option<u32>,
    ) -> Retention {
        let ms = |days| u64::from(days) * DAY_MS;
        let mut retention = Retention { audit_ms: audit_days.map(ms), ..Retention::default() };
        for (status, days) in tasks {
            retention.keep_ms[status as usize] = Some(ms(days));
        }
        retention
    }

    pub fn keeps_everything(&self) -> bool {
        *self == Retention::default()
    }

    fn kept(&self) -> impl Iterator<Item = (TaskStatus, u64)> {
        TaskStatus::ALL.into_iter().zip(self.keep_ms).filter_map(|(status, ms)| Some((status, ms?)))
    }
}

/// The store's age now, from its age at the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServedTime {
    at_open_ms: u64,
    opened: Mono,
}

impl ServedTime {
    pub fn new(at_open_ms: u64, opened: Mono) -> ServedTime {
        ServedTime { at_open_ms, opened }
    }

    /// When the store will be, or was, this old.
    pub fn moment_of(self, age_ms: u64) -> Mono {
        self.opened.after_ms(age_ms.saturating_sub(self.at_open_ms))
    }

    pub fn age_ms(self, now: Mono) -> u64 {
        self.at_open_ms.saturating_add(now.0.saturating_sub(self.opened.0))
    }
}

impl Query {
    /// At most `limit` tasks whose time is over, the oldest of each status first. Nothing is removed
    /// by asking.
    pub fn due(
        &self,
        retention: &Retention,
        now: Mono,
        limit: usize,
    ) -> Result<Vec<DueTask>, EngineError> {
        let age_ms = self.age_ms(now);
        let mut due = Vec::new();
        for (status, keep_ms) in retention.kept() {
            // Later than its time: ages are rounded down.
            let Some(latest) = age_ms.checked_sub(keep_ms + 1) else { continue };
            due.extend(self.archived_by(status, latest, limit - due.len())?);
        }
        // The writer will ask this again; here a slow disk makes nobody wait, and there the pages are
        // in memory.
        let archive = self.both()?.archive;
        for due in &due {
            archive.still_due(due)?;
        }
        Ok(due)
    }

    /// The newest change of the audit trail whose time is over, when there is an entry to remove. What may
    /// still stand in the journal is not over.
    pub fn audit_due(&self, retention: &Retention, now: Mono) -> Result<Option<u64>, EngineError> {
        let Some(latest) =
            retention.audit_ms.and_then(|keep_ms| self.age_ms(now).checked_sub(keep_ms + 1))
        else {
            return Ok(None);
        };
        let journal = self.visible.index().oldest_journal.first_change();
        let archive = self.both()?.archive;
        let Some(told) = archive.told_until(latest)? else { return Ok(None) };
        let until = told.min(journal.saturating_sub(1));
        Ok((archive.audit_until(until, 1)? > 0).then_some(until))
    }

    /// Removes at most `most` audit entries until this change, which is due, and says how many.
    pub fn remove_audit(&self, until: u64, most: usize) -> Result<usize, EngineError> {
        Ok(self.store.remove_audit(until, most)?)
    }

    /// What would go now, by counting no further than `OUTLOOK_MOST`.
    pub fn outlook(&self, retention: &Retention, now: Mono) -> Result<Outlook, EngineError> {
        let age_ms = self.age_ms(now);
        let archive = self.both()?.archive;
        let mut tasks = Vec::new();
        for status in TaskStatus::ALL.into_iter().filter(|status| status.is_finished()) {
            let keep_ms = retention.keep_ms[status as usize];
            let due = match keep_ms.and_then(|keep_ms| age_ms.checked_sub(keep_ms + 1)) {
                Some(latest) => archive.count_until(status, latest, OUTLOOK_MOST)?,
                None => 0,
            };
            let oldest = self.archived_by(status, u64::MAX, 1)?.first().copied();
            let oldest = oldest.map(|oldest| archive.task(oldest.seq)).transpose()?.flatten();
            let days = keep_ms.map(|ms| ms / DAY_MS);
            let oldest_at = oldest.map(|task| task.updated_at);
            tasks.push(StatusOutlook { status, days, due, oldest_at });
        }
        let due = match self.audit_due(retention, now)? {
            Some(until) => archive.audit_until(until, OUTLOOK_MOST)?,
            None => 0,
        };
        let audit = AuditOutlook {
            days: retention.audit_ms.map(|ms| ms / DAY_MS),
            due,
            oldest_at: archive.oldest_audit_at()?,
            removed: archive.audit_removed()?.entries,
        };
        Ok(Outlook { tasks, audit, next_due_ms: self.due_in_ms(retention, now)? })
    }

    /// Milliseconds until the next task or entry is due; None when there is none to wait for.
    pub fn due_in_ms(&self, retention: &Retention, now: Mono) -> Result<Option<u64>, EngineError> {
        let age_ms = self.age_ms(now);
        let mut next = None::<u64>;
        for (status, keep_ms) in retention.kept() {
            for oldest in self.archived_by(status, u64::MAX, 1)? {
                let due_ms = (oldest.archived_age_ms + keep_ms + 1).saturating_sub(age_ms);
                next = Some(next.map_or(due_ms, |next| next.min(due_ms)));
            }
        }
        if let Some(keep_ms) = retention.audit_ms
            && let Some(told_ms) = self.both()?.archive.oldest_told_age_ms()?
        {
            let due_ms = (told_ms + keep_ms + 1).saturating_sub(age_ms);
            // What is over and still stands in the journal waits for the next move, however long.
            if due_ms > 0 || self.audit_due(retention, now)?.is_some() {
                next = Some(next.map_or(due_ms, |next| next.min(due_ms)));
            }
        }
        Ok(next)
    }

    fn archived_by(
        &self,
        status: TaskStatus,
        age_ms: u64,
        limit: usize,
    ) -> Result<Vec<DueTask>, EngineError> {
        let lives_on = |seq| self.visible.index().holds_task(seq);
        Ok(self.both()?.archive.archived_by(status, age_ms, limit, lives_on)?)
    }

    fn age_ms(&self, now: Mono) -> u64 {
        self.visible.index().served.age_ms(now)
    }

    /// The tasks whose removal has begun and is not known to be done.
    pub fn removing(&self) -> Arc<HashSet<u64>> {
        self.visible.index().removing.clone()
    }

    /// Removes these from the archive and says how many were there; their removal has begun
    /// (`Engine::begin_removal`), or they would still be counted.
    pub fn remove_archived(&self, removing: &HashSet<u64>) -> Result<usize, EngineError> {
        let mut seqs: Vec<u64> = removing.iter().copied().collect();
        seqs.sort_unstable();
        let removed = self.store.remove_archived(&seqs)?;
        self.visible.objects.send_replace(());
        Ok(removed)
    }

    /// How often the data files were written to since the start.
    pub fn writes(&self) -> u64 {
        self.store.writes()
    }

    /// Gives the archive's free space back, if there is much; `go_on` is asked between chunks.
    pub fn compact_archive(
        &self,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Compacted>, EngineError> {
        Ok(self.store.compact_archive(go_on)?)
    }

    /// Whether `Engine::compact_hot` would do something.
    pub fn hot_is_worth_compacting(&self) -> Result<bool, EngineError> {
        Ok(self.store.hot_is_worth_compacting()?)
    }
}
