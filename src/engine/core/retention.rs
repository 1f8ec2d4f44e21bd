//! What the writer decides about tasks whose time is over, which is when their removal begins.
//!
//! Must stay true: one commit uncounts them and notes which they are, before the archive lets go of
//! them, so that a crash in between is finished from the note and counts nothing twice; who lives in
//! the hot file, or was archived anew since it was found due, stays. Not here: what is due
//! (`engine::retention`).

use super::Core;
use crate::domain::{Audit, Entity, EventKind};
use crate::engine::EngineError;
use crate::engine::batch::Batch;
use crate::store::{DueTask, Removing};
use std::collections::HashSet;
use std::sync::Arc;

/// What the change is named after: it concerns no single task.
const RETENTION: &str = "retention";

/// A stop sooner than this after the newest change writes nothing.
const AGE_WORTH_A_COMMIT_MS: u64 = 60_000;

impl Core {
    /// Begins to remove those of `due` that still are, and says which; while an earlier removal is
    /// not known to be done, says that one's instead.
    pub(super) fn begin_removal(
        &mut self,
        batch: &mut Batch<'_>,
        due: &[DueTask],
    ) -> Result<Arc<HashSet<u64>>, EngineError> {
        if !batch.removing().is_empty() {
            return Ok(batch.removing().clone());
        }
        let mut gone = Vec::with_capacity(due.len());
        for due in due {
            let lives = batch.changes.tasks.contains_key(&due.seq)
                || self.visible.index().holds_task(due.seq);
            if !lives && let Some(grants) = batch.archive()?.still_due(due)? {
                gone.push((due, grants));
            }
        }
        if gone.is_empty() {
            return Ok(Arc::default());
        }
        let mut leases = 0;
        for (due, grants) in &gone {
            self.counters.tasks_by_status[due.status as usize] -= 1;
            leases += u64::from(*grants);
        }
        self.counters.removed_leases += leases;
        let audit = Audit {
            entity: Entity::Retention,
            entity_id: RETENTION.into(),
            actor: RETENTION.into(),
            detail: format!("Removed {} finished tasks with their {leases} leases", gone.len()),
        };
        self.tell(batch, EventKind::TasksRemoved, RETENTION.into(), Some(audit));
        let tasks: Vec<u64> = gone.iter().map(|(due, _)| due.seq).collect();
        batch.hide(Arc::new(tasks.iter().copied().collect()));
        batch.changes.removing = Some(Removing { tasks });
        Ok(batch.removing().clone())
    }

    /// At an orderly stop: what a store that was idle has aged since its newest journal record. Time
    /// that a crash takes away only keeps tasks longer, so it is written then and never while idle
    /// (P8).
    pub(super) fn note_age(&mut self, batch: &mut Batch<'_>) {
        let age_ms = self.served.age_ms(batch.now.mono);
        if age_ms.saturating_sub(self.counters.age_ms) > AGE_WORTH_A_COMMIT_MS {
            self.counters.age_ms = age_ms;
            batch.changes.age_ms = Some(age_ms);
        }
    }

    /// The archive holds them no more. The note stays on disk until the next one: that this is known
    /// is worth no commit.
    pub(super) fn removed(batch: &mut Batch<'_>, tasks: &HashSet<u64>) {
        if **batch.removing() == *tasks {
            batch.hide(Arc::default());
        }
    }
}
