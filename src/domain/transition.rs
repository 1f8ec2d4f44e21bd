//! The transitions of a task up to its end (`DESIGN §3`), each one function found by its name.
//!
//! Must stay true: fencing numbers grow (P3); a refusal changes nothing. Each function checks in the
//! contract's order: lease, then state, then fields. Not here: how an attempt ends (`ending`), whether
//! the task exists and which worker is picked, which the engine knows.

use super::{
    Audit, Entity, EventKind, Lease, LeaseId, Refusal, Retry, Task, TaskId, TaskSpec, TaskStatus,
    WorkerId,
};

/// A lease that is asked for without a time lasts at least this long (`CONTRACT §3`).
const DEFAULT_TTL_SECONDS: u32 = 300;
/// … and this much longer than the task may take.
const TTL_BEYOND_TIMEOUT_SECONDS: u32 = 30;

/// A task's record after a command, with what is told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub task: Task,
    pub kind: EventKind,
    /// None for a change that leaves no audit entry: the first heartbeat.
    pub audit: Option<Audit>,
}

/// How a caller says which lease it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseClaim {
    Unnamed,
    Named(LeaseId),
    /// Named by something that is no lease id, so it cannot be the active one.
    Unknown,
}

/// The valid fields of a new task.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTask {
    pub context_id: String,
    pub spec: TaskSpec,
    pub priority: u8,
    pub labels: Vec<String>,
    pub max_attempts: u32,
    pub retry: Option<Retry>,
    /// Unix milliseconds.
    pub not_before: Option<i64>,
}

/// The moment of a decision, and the chance in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    /// Unix milliseconds, for people.
    pub wall: i64,
    /// The store's age, which decides (P4).
    pub age_ms: u64,
    /// Any number.
    pub chance: u64,
}

/// What a heartbeat does.
#[allow(clippy::large_enum_variant, reason = "made and taken apart at once")]
#[derive(Clone, Debug, PartialEq)]
pub enum Heartbeat {
    /// `leased` becomes `running`: a change, stored.
    Started(Change),
    /// Only the lease's time moves, in memory (P8).
    Extended,
}

/// A new task, queued.
pub fn create(new: NewTask, id: TaskId, now: i64) -> (Change, TaskSpec) {
    let timeout = new.spec.policy.timeout_sec;
    let audit = Audit {
        entity: Entity::Task,
        entity_id: id.to_string(),
        actor: "api".into(),
        detail: format!("Task for agent {}, context {}", new.spec.agent_slug, new.context_id),
    };
    let task = Task {
        id,
        context_id: new.context_id,
        status: TaskStatus::Queued,
        priority: new.priority,
        labels: new.labels,
        default_ttl_seconds: DEFAULT_TTL_SECONDS.max(timeout + TTL_BEYOND_TIMEOUT_SECONDS),
        attempts: 0,
        max_attempts: new.max_attempts,
        retry: new.retry,
        not_before: new.not_before,
        delay: None,
        grants: 0,
        expired_since_queued: false,
        created_at: now,
        updated_at: now,
        lease: None,
        ended: Vec::new(),
        files: Vec::new(),
    };
    (Change { task, kind: EventKind::TaskCreated, audit: Some(audit) }, new.spec)
}

/// Lends a queued task to a worker that has passed the gate. `ttl_seconds`: None for the task's
/// default.
pub fn grant(
    task: &Task,
    worker_id: &WorkerId,
    lease_id: LeaseId,
    ttl_seconds: Option<u32>,
    now: i64,
) -> Result<Change, Refusal> {
    require_queued(task)?;
    let ttl_seconds = ttl_seconds.unwrap_or(task.default_ttl_seconds);
    let mut task = touched(task, now);
    task.status = TaskStatus::Leased;
    task.attempts += 1;
    task.grants += 1;
    task.delay = None;
    let mut lease = Lease {
        id: lease_id,
        fence: task.grants,
        worker_id: worker_id.clone(),
        started_at: now,
        expires_at: now,
        last_heartbeat: now,
        ttl_seconds,
    };
    lease.renew(now);
    task.lease = Some(lease);
    let audit = Audit {
        entity: Entity::Lease,
        entity_id: lease_id.to_string(),
        actor: "router".into(),
        detail: format!("Task {} leased to worker {worker_id}, TTL {ttl_seconds}s", task.id),
    };
    Ok(Change { task, kind: EventKind::TaskLeased, audit: Some(audit) })
}

/// The state a task must have to be leased; asked before fields and workers are looked at.
pub fn require_queued(task: &Task) -> Result<(), Refusal> {
    match task.status {
        TaskStatus::Queued => Ok(()),
        other => Err(Refusal::NotQueued(other)),
    }
}

/// A sign of life of the lease's holder.
pub fn heartbeat(task: &Task, claim: LeaseClaim, now: i64) -> Result<Heartbeat, Refusal> {
    let Some(active) = &task.lease else {
        return Err(no_active_lease(task, claim));
    };
    believe(task, active, claim)?;
    if task.status == TaskStatus::Running {
        return Ok(Heartbeat::Extended);
    }
    let mut task = touched(task, now);
    task.status = TaskStatus::Running;
    if let Some(lease) = &mut task.lease {
        lease.renew(now);
    }
    Ok(Heartbeat::Started(Change { task, kind: EventKind::TaskRunning, audit: None }))
}

/// Back into the queue by a person's hand: fresh attempts, the history stays.
pub fn requeue(task: &Task, now: i64) -> Result<Change, Refusal> {
    if !matches!(task.status, TaskStatus::Failed | TaskStatus::Dead | TaskStatus::Cancelled) {
        return Err(Refusal::CannotRequeue(task.status));
    }
    let audit = Audit {
        entity: Entity::Task,
        entity_id: task.id.to_string(),
        actor: "admin".into(),
        detail: format!("Requeued from {}", task.status.as_str()),
    };
    let mut task = touched(task, now);
    task.status = TaskStatus::Queued;
    task.attempts = 0;
    task.delay = None;
    task.expired_since_queued = false;
    Ok(Change { task, kind: EventKind::TaskRequeued, audit: Some(audit) })
}

pub(super) fn touched(task: &Task, now: i64) -> Task {
    Task { updated_at: now, ..task.clone() }
}

/// Whether the caller holds the active lease: it names it, or it names none and no lease of this
/// task has expired, so that there can be no late holder.
pub(super) fn believe(task: &Task, active: &Lease, claim: LeaseClaim) -> Result<(), Refusal> {
    match claim {
        LeaseClaim::Named(id) if id == active.id => Ok(()),
        LeaseClaim::Unnamed if !task.expired_since_queued => Ok(()),
        LeaseClaim::Named(_) | LeaseClaim::Unnamed | LeaseClaim::Unknown => Err(Refusal::LeaseLost),
    }
}

fn no_active_lease(task: &Task, claim: LeaseClaim) -> Refusal {
    let last = task.ended.last();
    let was_its_holder = match claim {
        LeaseClaim::Unnamed => true,
        LeaseClaim::Named(id) => last.is_some_and(|ended| ended.lease.id == id),
        LeaseClaim::Unknown => false,
    };
    match (task.status, claim) {
        (TaskStatus::Cancelled, _) if was_its_holder => Refusal::TaskCancelled,
        (_, LeaseClaim::Named(_) | LeaseClaim::Unknown) => Refusal::LeaseLost,
        (TaskStatus::Queued, LeaseClaim::Unnamed) => Refusal::NoLease,
        (_, LeaseClaim::Unnamed) => Refusal::LeaseEnded,
    }
}

#[cfg(test)]
#[path = "transition_tests.rs"]
pub(super) mod tests;
