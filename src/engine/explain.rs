//! What a person asks of one task: what was tried so far, and why it waits.
//!
//! Must stay true: the answer follows from the same rules by which tasks are handed out
//! (`domain::gate`), so that it cannot differ from what happens. Not here: the words (`wire`).

use super::query::Query;
use super::{EngineError, WorkerView};
use crate::clock::Now;
use crate::domain::{self, Candidate, Lease, LeaseEnd, NoWorker, TaskId, TaskStatus, WorkerId};
use crate::store::OutcomeFacts;

/// The most workers that are explained one by one.
const WORKERS_TOLD: usize = 1_000;

/// One lease of a task and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub lease: Lease,
    /// When it ended, and how; None for the one that is active.
    pub ended: Option<(i64, LeaseEnd)>,
    pub code: Option<String>,
    pub note: Option<String>,
    /// What was completed under it.
    pub outcome: Option<OutcomeFacts>,
}

/// Why a task is not handed out.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    pub status: TaskStatus,
    pub reasons: Vec<WaitReason>,
    /// Each worker, by registration, and what keeps it from the task.
    pub workers: Vec<WorkerWait>,
}

/// What the task itself waits for. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitReason {
    NotQueued(TaskStatus),
    NotBefore(i64),
    Backoff(i64),
    AgentAtLimit {
        agent: String,
        most: u32,
    },
    /// Nobody may take it now.
    NoWorker(NoWorker),
}

/// What keeps one worker from a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerWait {
    pub worker: WorkerId,
    pub may_take: Result<(), NoWorker>,
    /// Until when it rests.
    pub until: Option<i64>,
    pub active_leases: u32,
    pub max_concurrency: u32,
    pub missing_labels: Vec<String>,
}

impl Query {
    /// Every attempt that is still known, oldest first.
    pub fn attempts(&self, id: TaskId) -> Result<Vec<Attempt>, EngineError> {
        let both = self.both()?;
        let mut found = self.task_record(&both, id)?;
        self.visible.index().overlay(&mut found.task);
        let mut attempts = Vec::with_capacity(found.task.ended.len() + 1);
        for ended in &found.task.ended {
            let outcome = match ended.outcome {
                Some(_) => both.outcome_facts(&found, ended.lease.fence)?,
                None => None,
            };
            attempts.push(Attempt {
                lease: ended.lease.clone(),
                ended: Some((ended.ended_at, ended.end)),
                code: ended.code.clone(),
                note: ended.note.clone(),
                outcome,
            });
        }
        attempts.extend(found.task.lease.take().map(|lease| Attempt {
            lease,
            ended: None,
            code: None,
            note: None,
            outcome: None,
        }));
        Ok(attempts)
    }

    /// Why this task is where it is, as of `now`.
    pub fn waiting(&self, id: TaskId, now: Now) -> Result<Waiting, EngineError> {
        let both = self.both()?;
        let found = self.task_record(&both, id)?;
        let (task, status) = (&found.task, found.task.status);
        if status != TaskStatus::Queued {
            let reasons = vec![WaitReason::NotQueued(status)];
            return Ok(Waiting { status, reasons, workers: Vec::new() });
        }
        let agent = both.spec(&found)?.agent_slug;
        let index = self.visible.index();
        let age_ms = index.served.age_ms(now.mono);
        let backoff = task.delay.filter(|delay| delay.until_age_ms > age_ms);
        let moment = task.not_before.filter(|moment| *moment > now.wall);
        let mut reasons: Vec<WaitReason> = Vec::new();
        reasons.extend(moment.map(WaitReason::NotBefore));
        // Told anew from what is left: the wall clock may have moved since it was noted.
        reasons.extend(backoff.map(|delay| {
            WaitReason::Backoff(now.wall.saturating_add((delay.until_age_ms - age_ms) as i64))
        }));
        let limits = index.agent_limits.iter().zip(&index.agents_active);
        let full = limits.filter(|((limited, most), active)| *limited == agent && *active >= most);
        reasons.extend(
            full.map(|((_, most), _)| WaitReason::AgentAtLimit {
                agent: agent.clone(),
                most: *most,
            }),
        );
        let mut views: Vec<&WorkerView> = index.workers().collect();
        let candidates = views.iter().map(|view| candidate(view));
        let nobody = domain::pick_worker(task, candidates).err();
        reasons.extend(nobody.map(WaitReason::NoWorker));
        views.sort_unstable_by_key(|view| view.worker.seq);
        views.truncate(WORKERS_TOLD);
        let workers = views.into_iter().map(|view| explain(view, &task.labels)).collect();
        Ok(Waiting { status, reasons, workers })
    }
}

fn candidate(view: &WorkerView) -> Candidate<'_> {
    Candidate {
        worker: &view.worker,
        online: view.is_online(),
        cooling: view.worker.cooling.is_some(),
        active_leases: view.active_leases,
        sticky: false,
    }
}

fn explain(view: &WorkerView, labels: &[String]) -> WorkerWait {
    let worker = &view.worker;
    let offered = &worker.capabilities.labels;
    WorkerWait {
        worker: worker.id.clone(),
        may_take: domain::gate(&candidate(view), labels),
        until: worker.cooling.as_ref().map(|cooling| cooling.until),
        active_leases: view.active_leases,
        max_concurrency: worker.capabilities.max_concurrency,
        missing_labels: labels.iter().filter(|label| !offered.contains(label)).cloned().collect(),
    }
}
