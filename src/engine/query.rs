//! Reading beside the writer: single records, and lists as bounded pages, newest first.
//!
//! The memory says which records a page holds, snapshots of both files give them. Must stay true: the
//! hot file is asked before the archive, whose snapshot is the younger one, so that a task on its way
//! is found in one of them; it is shown once, and the hot copy wins. Not here: when a page ends
//! (`page`), cursors as text, JSON (`wire`).

use super::page::{Filling, Page};
use super::visible::Visible;
use super::{EngineError, LastHour, LeaseView, NotWritten, TaskView, WorkerView};
use crate::domain::{
    LeaseStatus, Outcome, Refusal, ReturnedFile, Sessions, Task, TaskId, TaskSpec, TaskStatus,
    WorkerId,
};
use crate::store::{Archive, AuditEntry, Copied, Hot, OutcomeFacts, Settings, Store};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The counts of `GET /stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub tasks_by_status: [u64; 7],
    pub leases_total: u64,
    pub leases_active: u64,
    pub workers_total: u64,
    pub workers_online: u64,
    pub workers_cooling: u64,
    pub workers_draining: u64,
}

/// Reads of both files with the memory laid over them.
#[derive(Clone)]
pub struct Query {
    pub(super) store: Arc<Store>,
    pub(super) visible: Arc<Visible>,
}

/// Both snapshots, the hot one taken first.
pub(super) struct Both {
    hot: Hot,
    pub(super) archive: Archive,
}

impl Both {
    /// What a worker returned as this artifact; it does not come back with a task that is requeued.
    pub(super) fn file(&self, task: u64, seq: u64) -> Result<Option<ReturnedFile>, EngineError> {
        match self.hot.file(task, seq)? {
            Some(file) => Ok(Some(file)),
            None => Ok(self.archive.file(task, seq)?),
        }
    }

    pub(super) fn task(&self, seq: u64) -> Result<Option<Found>, EngineError> {
        if let Some(task) = self.hot.task(seq)? {
            return Ok(Some(Found { task, is_hot: true }));
        }
        Ok(self.archive.task(seq)?.map(|task| Found { task, is_hot: false }))
    }

    pub(super) fn spec(&self, found: &Found) -> Result<TaskSpec, EngineError> {
        let seq = found.task.seq();
        let spec = if found.is_hot { self.hot.spec(seq)? } else { self.archive.spec(seq)? };
        spec.ok_or_else(|| EngineError::Store(format!("task {} has no spec", found.task.id)))
    }

    pub(super) fn outcome_facts(
        &self,
        found: &Found,
        fence: u32,
    ) -> Result<Option<OutcomeFacts>, EngineError> {
        let seq = found.task.seq();
        Ok(match found.is_hot {
            true => self.hot.outcome_facts(seq, fence)?,
            false => self.archive.outcome_facts(seq, fence)?,
        })
    }

    pub(super) fn outcome(
        &self,
        found: &Found,
        fence: u32,
    ) -> Result<Option<Outcome>, EngineError> {
        let seq = found.task.seq();
        Ok(match found.is_hot {
            true => self.hot.outcome(seq, fence)?,
            false => self.archive.outcome(seq, fence)?,
        })
    }
}

/// A task and where it lies. All of it lies there: it comes and goes as a whole.
pub(super) struct Found {
    pub(super) task: Task,
    is_hot: bool,
}

/// Candidates of both files, newest first, each sequence once, one row more than `limit` to know
/// whether a page follows.
pub(super) fn newest_of_both(
    hot: Vec<(u64, u64)>,
    archived: Vec<(u64, u64)>,
    limit: usize,
) -> Vec<(u64, u64)> {
    let merged: BTreeMap<u64, u64> = archived.into_iter().chain(hot).collect();
    merged.into_iter().rev().take(limit + 1).collect()
}

impl Query {
    pub(super) fn new(store: Arc<Store>, visible: Arc<Visible>) -> Self {
        Query { store, visible }
    }

    pub(super) fn both(&self) -> Result<Both, EngineError> {
        let hot = self.store.hot()?;
        let removing = self.removing();
        Ok(Both { hot, archive: self.store.archive(removing)? })
    }

    pub fn task(&self, id: TaskId) -> Result<TaskView, EngineError> {
        let both = self.both()?;
        let mut found = self.task_record(&both, id)?;
        self.visible.index().overlay(&mut found.task);
        let spec = both.spec(&found)?;
        Ok(TaskView { task: found.task, spec })
    }

    /// Whether there is such a task, and where it is in its life; its prompt is not read.
    pub fn status(&self, id: TaskId) -> Result<TaskStatus, EngineError> {
        Ok(self.task_record(&self.both()?, id)?.task.status)
    }

    pub(super) fn task_record(&self, both: &Both, id: TaskId) -> Result<Found, EngineError> {
        let found = both.task(id.seq())?.filter(|found| found.task.id == id);
        found.ok_or(EngineError::Refused(Refusal::TaskNotFound))
    }

    /// Tasks below the sequence `before`, of this status if one is given.
    pub fn tasks(
        &self,
        status: Option<TaskStatus>,
        before: u64,
        limit: usize,
    ) -> Result<Page<TaskView>, EngineError> {
        let hot = self.visible.index().tasks_below(status, before, limit + 1);
        let both = self.both()?;
        let twice = |seqs: Vec<u64>| seqs.into_iter().map(|seq| (seq, seq)).collect();
        let lives_on = |seq| {
            let now = self.visible.index().status_of(seq);
            now.is_some() && now != status
        };
        let archived = both.archive.tasks_below(status, before, limit + 1, lives_on)?;
        let rows = newest_of_both(twice(hot), twice(archived), limit);
        let more = rows.len() > limit;
        let mut page = Filling::new(limit);
        for (seq, _) in rows {
            if page.is_full() {
                return Ok(page.page(true));
            }
            let fits = |found: &Found| status.is_none_or(|status| found.task.status == status);
            let Some(mut found) = both.task(seq)?.filter(fits) else {
                page.skip(seq);
                continue;
            };
            self.visible.index().overlay(&mut found.task);
            let spec = both.spec(&found)?;
            page.add(seq, TaskView { task: found.task, spec });
        }
        Ok(page.page(more))
    }

    /// Leases below the lease sequence `before`, of these statuses.
    pub fn leases(
        &self,
        statuses: &[LeaseStatus],
        before: u64,
        limit: usize,
    ) -> Result<Page<LeaseView>, EngineError> {
        let hot = {
            let index = self.visible.index();
            statuses.iter().flat_map(|s| index.leases_below(*s, before, limit + 1)).collect()
        };
        let both = self.both()?;
        let mut archived = Vec::new();
        for status in statuses {
            archived.extend(both.archive.leases_below(*status, before, limit + 1)?);
        }
        let rows = newest_of_both(hot, archived, limit);
        let more = rows.len() > limit;
        let mut page = Filling::new(limit);
        for (seq, task) in rows {
            if page.is_full() {
                return Ok(page.page(true));
            }
            let lease = both.task(task)?.and_then(|Found { mut task, .. }| {
                self.visible.index().overlay(&mut task);
                lease_of(&task, seq).filter(|lease| statuses.contains(&lease.status))
            });
            match lease {
                Some(lease) => page.add(seq, lease),
                None => page.skip(seq),
            }
        }
        Ok(page.page(more))
    }

    /// What the task's latest completion left.
    pub fn latest_outcome(&self, id: TaskId) -> Result<Outcome, EngineError> {
        let both = self.both()?;
        let found = self.task_record(&both, id)?;
        let latest = found.task.ended.iter().rev().find(|ended| ended.outcome.is_some());
        let outcome = match latest {
            Some(ended) => both.outcome(&found, ended.lease.fence)?,
            None => None,
        };
        outcome.ok_or(EngineError::Refused(Refusal::ResultNotFound))
    }

    /// Audit entries below the change sequence `before`.
    pub fn audit(&self, before: u64, limit: usize) -> Result<Page<AuditEntry>, EngineError> {
        let oldest = self.visible.index().oldest_journal;
        let both = self.both()?;
        let (mut rows, goes_on) = both.hot.audit(oldest, before, limit + 1)?;
        if goes_on {
            let below = rows.last().map_or(before, |entry| entry.id.seq());
            rows.extend(both.archive.audit_below(below, limit + 1 - rows.len())?);
        }
        Ok(Filling::all(limit, rows, |entry| entry.id.seq()))
    }

    /// The worker and its active leases.
    pub fn worker(&self, id: &WorkerId) -> Result<(WorkerView, Vec<LeaseView>), EngineError> {
        let (view, held) = {
            let index = self.visible.index();
            let view = index.worker(id).ok_or(Refusal::WorkerNotFound)?.clone();
            (view, index.leases_held(id))
        };
        let hot = self.store.hot()?;
        let mut leases = Vec::new();
        for (_, task) in held {
            let Some(mut task) = hot.task(task)? else { continue };
            self.visible.index().overlay(&mut task);
            let lease = task.lease.as_ref().filter(|lease| lease.worker_id == *id);
            leases.extend(lease.map(|lease| LeaseView::of(&task, lease, LeaseStatus::Active)));
        }
        Ok((view, leases))
    }

    /// Workers by registration, oldest first, above the sequence `after`.
    pub fn workers(&self, after: u64, limit: usize) -> Page<WorkerView> {
        let index = self.visible.index();
        let mut rows: Vec<WorkerView> =
            index.workers().filter(|view| view.worker.seq > after).cloned().collect();
        drop(index);
        rows.sort_unstable_by_key(|view| view.worker.seq);
        Filling::all(limit, rows, |view| view.worker.seq)
    }

    /// Workers that gave an address.
    pub fn addresses(&self) -> Vec<(WorkerId, String)> {
        let index = self.visible.index();
        let workers = index.workers().map(|view| &view.worker);
        let with_address = workers.filter(|worker| !worker.url.is_empty());
        with_address.map(|worker| (worker.id.clone(), worker.url.clone())).collect()
    }

    /// Workers that are called with tasks, and where.
    pub fn push_addresses(&self) -> HashMap<WorkerId, String> {
        let index = self.visible.index();
        let address =
            |view: &WorkerView| Some((view.worker.id.clone(), view.push_address()?.into()));
        index.workers().filter_map(address).collect()
    }

    /// Where a worker is called with tasks.
    pub fn push_address(&self, id: &WorkerId) -> Option<String> {
        self.visible.index().worker(id)?.push_address().map(str::to_owned)
    }

    /// What keeps the disk from taking writes at the moment.
    pub fn trouble(&self) -> Option<NotWritten> {
        self.visible.trouble()
    }

    pub fn stats(&self) -> Stats {
        let index = self.visible.index();
        let workers =
            |is: fn(&WorkerView) -> bool| index.workers().filter(|view| is(view)).count() as u64;
        Stats {
            tasks_by_status: index.counters.tasks_by_status,
            leases_total: index.counters.last_lease - index.counters.removed_leases,
            leases_active: index.active_leases() as u64,
            workers_total: workers(|_| true),
            workers_online: workers(WorkerView::is_online),
            workers_cooling: workers(|view| view.worker.cooling.is_some()),
            workers_draining: workers(|view| view.worker.draining),
        }
    }

    /// When the oldest queued task was created.
    pub fn oldest_queued_at(&self) -> Result<Option<i64>, EngineError> {
        let Some(seq) = self.visible.index().first_queued() else { return Ok(None) };
        Ok(self.both()?.task(seq)?.map(|found| found.task.created_at))
    }

    /// What ended in the hour before this wall time.
    pub fn last_hour(&self, wall: i64) -> LastHour {
        self.visible.index().last_hour.at(wall)
    }

    /// What the operator saved over the environment.
    pub fn settings(&self) -> Result<Settings, EngineError> {
        Ok(self.store.hot()?.settings()?)
    }

    /// What is kept of sessions.
    pub fn sessions(&self) -> Result<Sessions, EngineError> {
        Ok(self.store.hot()?.sessions()?)
    }

    /// Copies the oldest finished tasks and journal records to the archive; what was copied may then
    /// leave the hot file (`Engine::archived`).
    pub fn copy_finished(&self, tasks: usize, journal: usize) -> Result<Copied, EngineError> {
        let (seqs, oldest, age_ms) = {
            let index = self.visible.index();
            (index.finished(tasks), index.oldest_journal, index.counters.age_ms)
        };
        let copied = self.store.archive_finished(&seqs, oldest, journal, age_ms)?;
        if copied.uploads > 0 {
            self.visible.objects.send_replace(());
        }
        Ok(copied)
    }
}

fn lease_of(task: &Task, seq: u64) -> Option<LeaseView> {
    let active = task.lease.as_ref().filter(|lease| lease.id.seq() == seq);
    match active {
        Some(lease) => Some(LeaseView::of(task, lease, LeaseStatus::Active)),
        None => {
            let ended = task.ended.iter().find(|ended| ended.lease.id.seq() == seq)?;
            Some(LeaseView::of(task, &ended.lease, ended.status()))
        }
    }
}
