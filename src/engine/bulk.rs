//! Requeueing or cancelling all tasks that fit a description, in small steps beside normal work.
//!
//! Must stay true: a step reads one page and is one commit; a caller that hangs up ends it after the step
//! under way; a dry run changes nothing. Not here: what a step decides (`core/bulk`).

use super::{ByHand, Engine, EngineError, Query, Selection};
use crate::domain::{TaskId, TaskStatus};
use std::sync::Arc;

/// Tasks of one page, and of one commit.
const PAGE_TASKS: usize = 1_000;
const COMMIT_TASKS: usize = 200;
/// The most that one call changes; the next call goes on.
const CHANGED_MAX: usize = 100_000;

/// What a call about many tasks did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bulk {
    /// Tasks that fit and could be changed.
    pub matched: usize,
    pub changed: usize,
    /// As many as one call may change were changed; there may be more.
    pub more: bool,
}

impl ByHand {
    /// From which states it leads anywhere.
    fn statuses(self) -> &'static [TaskStatus] {
        match self {
            ByHand::Requeue => &[TaskStatus::Failed, TaskStatus::Dead, TaskStatus::Cancelled],
            ByHand::Cancel => &[TaskStatus::Queued, TaskStatus::Leased, TaskStatus::Running],
        }
    }
}

impl Query {
    /// Those of these tasks that fit and can be changed.
    fn select_among(
        &self,
        ids: &[TaskId],
        selection: &Selection,
        what: ByHand,
    ) -> Result<Vec<TaskId>, EngineError> {
        let mut fitting = Vec::new();
        for id in ids {
            match self.task(*id) {
                Ok(view) if what.statuses().contains(&view.task.status) => {
                    fitting.extend(selection.fits(&view).then_some(*id));
                }
                Ok(_) | Err(EngineError::Refused(_)) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(fitting)
    }

    /// A page of those that fit, and where the next one begins.
    fn select(
        &self,
        selection: &Selection,
        status: TaskStatus,
        before: u64,
    ) -> Result<(Vec<TaskId>, Option<u64>), EngineError> {
        let page = self.tasks(Some(status), before, PAGE_TASKS)?;
        let fitting = page.rows.iter().filter(|view| selection.fits(view));
        Ok((fitting.map(|view| view.task.id).collect(), page.next))
    }
}

impl Engine {
    /// Requeues or cancels every task that fits, or only counts them.
    pub async fn change_many(
        &self,
        selection: Selection,
        what: ByHand,
        dry_run: bool,
    ) -> Result<Bulk, EngineError> {
        let mut bulk = Bulk::default();
        let selection = Arc::new(selection);
        if selection.ids.is_some() {
            let wanted = selection.clone();
            let among = move |query: &Query| {
                query.select_among(wanted.ids.as_deref().unwrap_or_default(), &wanted, what)
            };
            let fitting = self.read(among).await?;
            self.change(&mut bulk, fitting, what, dry_run).await?;
            return Ok(bulk);
        }
        for status in what.statuses() {
            if selection.statuses.as_ref().is_some_and(|wanted| !wanted.contains(status)) {
                continue;
            }
            let mut before = Some(u64::MAX);
            while let Some(from) = before {
                let wanted = selection.clone();
                let (fitting, next) =
                    self.read(move |query| query.select(&wanted, *status, from)).await?;
                self.change(&mut bulk, fitting, what, dry_run).await?;
                bulk.more = bulk.changed >= CHANGED_MAX;
                if bulk.more {
                    return Ok(bulk);
                }
                before = next;
            }
        }
        Ok(bulk)
    }

    async fn change(
        &self,
        bulk: &mut Bulk,
        mut tasks: Vec<TaskId>,
        what: ByHand,
        dry_run: bool,
    ) -> Result<(), EngineError> {
        bulk.matched += tasks.len();
        while !dry_run && !tasks.is_empty() {
            let some = tasks[..tasks.len().min(COMMIT_TASKS)].to_vec();
            let done = self.many_by_hand(some, what).await?;
            bulk.changed += done.changed;
            tasks.drain(..done.tried);
        }
        Ok(())
    }
}
