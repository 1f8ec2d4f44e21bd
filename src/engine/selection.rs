//! Tasks that fit a description: the filters of the list, and of what is done to many at once. Audit
//! entries as well.
//!
//! There is no index for them, so a list reads what it passes over. Must stay true: one page looks at a
//! bounded number of tasks (P9); it may be short, or empty, and still have a next one. Not here: status
//! alone, for which there are indexes (`query`).

use super::page::{Filling, Page};
use super::{EngineError, Query, TaskView};
use crate::domain::{TaskId, TaskStatus, WorkerId};
use crate::store::AuditEntry;

/// Tasks that are read at once, and how often for one page.
const ROWS_AT_ONCE: usize = 1_000;
const READS_MAX: usize = 10;

/// Which tasks: those that fit everything that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub ids: Option<Vec<TaskId>>,
    pub statuses: Option<Vec<TaskStatus>>,
    pub agent_slug: Option<String>,
    pub context_id: Option<String>,
    pub worker: Option<WorkerId>,
    /// In prompt, agent or context, without regard to case.
    pub text: Option<String>,
}

impl Selection {
    /// Whether anything is said at all.
    pub fn is_empty(&self) -> bool {
        *self == Selection::default()
    }

    pub(super) fn fits(&self, view: &TaskView) -> bool {
        let TaskView { task, spec } = view;
        let worker = task.shown_lease().map(|lease| &lease.worker_id);
        self.statuses.as_ref().is_none_or(|wanted| wanted.contains(&task.status))
            && self.agent_slug.as_ref().is_none_or(|agent| *agent == spec.agent_slug)
            && self.context_id.as_ref().is_none_or(|context| *context == task.context_id)
            && self.worker.as_ref().is_none_or(|wanted| Some(wanted) == worker)
            && self.text.as_ref().is_none_or(|text| {
                let text = text.to_lowercase();
                let places = [&spec.prompt, &spec.agent_slug, &task.context_id];
                places.into_iter().any(|place| place.to_lowercase().contains(&text))
            })
    }
}

/// Which audit entries: those that fit everything that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditSelection {
    pub entity_id: Option<String>,
    pub action: Option<String>,
    pub actor: Option<String>,
    /// In detail, entity, action or actor, without regard to case.
    pub text: Option<String>,
}

impl AuditSelection {
    fn fits(&self, entry: &AuditEntry) -> bool {
        let is = |wanted: &Option<String>, given: &String| {
            wanted.as_ref().is_none_or(|wanted| wanted == given)
        };
        is(&self.entity_id, &entry.entity_id)
            && is(&self.action, &entry.action)
            && is(&self.actor, &entry.actor)
            && self.text.as_ref().is_none_or(|text| {
                let text = text.to_lowercase();
                let places = [&entry.detail, &entry.entity_id, &entry.action, &entry.actor];
                places.into_iter().any(|place| place.to_lowercase().contains(&text))
            })
    }
}

impl Query {
    /// A page of the audit entries that fit, below the change sequence `before`.
    pub fn find_audit(
        &self,
        selection: &AuditSelection,
        before: u64,
        limit: usize,
    ) -> Result<Page<AuditEntry>, EngineError> {
        let mut page = Filling::new(limit);
        let mut from = before;
        for _ in 0..READS_MAX {
            let read = self.audit(from, ROWS_AT_ONCE)?;
            for entry in read.rows {
                if page.is_full() {
                    return Ok(page.page(true));
                }
                let seq = entry.id.seq();
                match selection.fits(&entry) {
                    true => page.add(seq, entry),
                    false => page.skip(seq),
                }
            }
            let Some(next) = read.next else { return Ok(page.page(false)) };
            page.skip(next);
            from = next;
        }
        Ok(page.page(true))
    }

    /// A page of the tasks that fit, below the sequence `before`.
    pub fn find(
        &self,
        selection: &Selection,
        status: Option<TaskStatus>,
        before: u64,
        limit: usize,
    ) -> Result<Page<TaskView>, EngineError> {
        let mut page = Filling::new(limit);
        let mut from = before;
        for _ in 0..READS_MAX {
            let read = self.tasks(status, from, ROWS_AT_ONCE)?;
            for view in read.rows {
                if page.is_full() {
                    return Ok(page.page(true));
                }
                let seq = view.task.seq();
                match selection.fits(&view) {
                    true => page.add(seq, view),
                    false => page.skip(seq),
                }
            }
            let Some(next) = read.next else { return Ok(page.page(false)) };
            page.skip(next);
            from = next;
        }
        Ok(page.page(true))
    }
}
