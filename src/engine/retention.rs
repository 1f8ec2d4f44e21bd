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
use crate::store::DueTask;
use std::collections::HashSet;
use std::sync::Arc;

const DAY_MS: u64 = 86_400_000;

/// How long tasks of each status are kept; None keeps them. The archive's rows are apart by status,
/// so each may have its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    keep_ms: [Option<u64>; TaskStatus::ALL.len()],
}

impl Retention {
    /// Everything that is finished is kept for `days`.
    pub fn days(days: u32) -> Retention {
        let keep = |status: TaskStatus| status.is_finished().then_some(u64::from(days) * DAY_MS);
        Retention { keep_ms: TaskStatus::ALL.map(keep) }
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

    /// Milliseconds until the next task is due; None when there is none to wait for.
    pub fn due_in_ms(&self, retention: &Retention, now: Mono) -> Result<Option<u64>, EngineError> {
        let age_ms = self.age_ms(now);
        let mut next = None::<u64>;
        for (status, keep_ms) in retention.kept() {
            for oldest in self.archived_by(status, u64::MAX, 1)? {
                let due_ms = (oldest.archived_age_ms + keep_ms + 1).saturating_sub(age_ms);
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
}
