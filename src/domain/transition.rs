//! The transitions of a task (`DESIGN §3`), each one function found by its name.
//!
//! Must stay true: fencing numbers grow (P3); `leased` and `running` expire alike (P5); a complete
//! repeated under its lease does its work once (P7); a refusal changes nothing. Each function checks
//! in the contract's order: lease, then state, then fields. Not here: whether the task exists, which
//! worker is picked, when a lease is due, all of which the engine knows.

use super::{
    ArtifactId, Audit, CompletionStatus, EndedLease, Entity, EventKind, LEASES_KEPT_PER_TASK,
    Lease, LeaseEnd, LeaseId, Metrics, Outcome, Refusal, ResultId, Task, TaskId, TaskSpec,
    TaskStatus, WorkerId,
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
}

/// The valid fields of a completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Completed {
    pub status: CompletionStatus,
    pub output: Option<String>,
    pub error_message: Option<String>,
    pub metrics: Metrics,
    pub artifact_type: String,
    pub artifact_tags: Vec<String>,
}

/// What a complete does.
#[allow(clippy::large_enum_variant, reason = "made and taken apart at once")]
#[derive(Clone, Debug, PartialEq)]
pub enum Completion {
    First(Change, Box<Outcome>),
    /// The lease has completed the task before: answer with what is stored under this fence (P7).
    Repeated {
        fence: u32,
    },
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
        grants: 0,
        expired_since_queued: false,
        created_at: now,
        updated_at: now,
        lease: None,
        ended: Vec::new(),
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

/// Takes a result. `completed` is None when its fields are wrong, which matters last.
pub fn complete(
    task: &Task,
    claim: LeaseClaim,
    completed: Option<Completed>,
    artifact_id: ArtifactId,
    result_id: ResultId,
    now: i64,
) -> Result<Completion, Refusal> {
    let Some(active) = &task.lease else {
        return match claim {
            LeaseClaim::Unnamed => Err(Refusal::NotLeased(task.status)),
            LeaseClaim::Named(id) => repeated(task, id),
            LeaseClaim::Unknown => Err(Refusal::LeaseLost),
        };
    };
    if let Err(lost) = believe(task, active, claim) {
        return match claim {
            LeaseClaim::Named(id) => repeated(task, id),
            LeaseClaim::Unnamed | LeaseClaim::Unknown => Err(lost),
        };
    }
    let completed = completed.ok_or(Refusal::InvalidFields)?;
    let outcome = Outcome {
        artifact_id,
        result_id,
        task_id: task.id,
        lease_id: active.id,
        worker_id: active.worker_id.clone(),
        status: completed.status,
        output: completed.output,
        error_message: completed.error_message,
        metrics: completed.metrics,
        artifact_type: completed.artifact_type,
        artifact_tags: completed.artifact_tags,
        completed_at: now,
        attempts: task.attempts,
    };
    let mut task = touched(task, now);
    task.status = outcome.task_status();
    end_lease(&mut task, LeaseEnd::Completed, Some(artifact_id.seq()), now);
    let word = match outcome.status {
        CompletionStatus::Success => "success",
        CompletionStatus::Error => "error",
    };
    let audit = Audit {
        entity: Entity::Task,
        entity_id: task.id.to_string(),
        actor: outcome.worker_id.to_string(),
        detail: format!(
            "Status: {word}, artifact: {artifact_id}, duration: {}ms",
            outcome.metrics.duration_ms
        ),
    };
    let change = Change { task, kind: EventKind::TaskCompleted, audit: Some(audit) };
    Ok(Completion::First(change, Box::new(outcome)))
}

/// The task as it was when this outcome completed it: the answer to every complete under its lease.
pub fn as_completed(task: &Task, outcome: &Outcome) -> Task {
    let mut then = task.clone();
    then.status = outcome.task_status();
    then.attempts = outcome.attempts;
    then.updated_at = outcome.completed_at;
    then.lease = None;
    then.ended.retain(|ended| ended.lease.id <= outcome.lease_id);
    then
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
    task.expired_since_queued = false;
    Ok(Change { task, kind: EventKind::TaskRequeued, audit: Some(audit) })
}

/// Called off by a person, from any state in which something could still happen.
pub fn cancel(task: &Task, now: i64) -> Result<Change, Refusal> {
    if task.status.is_finished() {
        return Err(Refusal::CannotCancel(task.status));
    }
    let audit = Audit {
        entity: Entity::Task,
        entity_id: task.id.to_string(),
        actor: "admin".into(),
        detail: format!("Cancelled while {}", task.status.as_str()),
    };
    let mut task = touched(task, now);
    task.status = TaskStatus::Cancelled;
    end_lease(&mut task, LeaseEnd::Cancelled, None, now);
    Ok(Change { task, kind: EventKind::TaskCancelled, audit: Some(audit) })
}

/// The lease's time is over without a sign of life: back to the queue, or dead when its attempts
/// are used up (P5). None when it holds no lease, so that a superfluous call does nothing.
pub fn expire(task: &Task, now: i64) -> Option<Change> {
    let lease = task.lease.as_ref()?;
    let (status, fate) = if task.attempts < task.max_attempts {
        (TaskStatus::Queued, "back in the queue")
    } else {
        (TaskStatus::Dead, "dead, its attempts are used up")
    };
    let audit = Audit {
        entity: Entity::Lease,
        entity_id: lease.id.to_string(),
        actor: "reaper".into(),
        detail: format!(
            "Lease on worker {} ended without a sign of life for {}s; task {} is {fate} (attempt {} of {})",
            lease.worker_id, lease.ttl_seconds, task.id, task.attempts, task.max_attempts
        ),
    };
    let mut task = touched(task, now);
    task.status = status;
    task.expired_since_queued = true;
    end_lease(&mut task, LeaseEnd::Expired, None, now);
    Some(Change { task, kind: EventKind::LeaseExpired, audit: Some(audit) })
}

fn touched(task: &Task, now: i64) -> Task {
    Task { updated_at: now, ..task.clone() }
}

/// Whether the caller holds the active lease: it names it, or it names none and no lease of this
/// task has expired, so that there can be no late holder.
fn believe(task: &Task, active: &Lease, claim: LeaseClaim) -> Result<(), Refusal> {
    match claim {
        LeaseClaim::Named(id) if id == active.id => Ok(()),
        LeaseClaim::Unnamed if !task.expired_since_queued => Ok(()),
        LeaseClaim::Named(_) | LeaseClaim::Unnamed | LeaseClaim::Unknown => Err(Refusal::LeaseLost),
    }
}

fn repeated(task: &Task, id: LeaseId) -> Result<Completion, Refusal> {
    task.ended
        .iter()
        .find(|ended| ended.lease.id == id && ended.outcome.is_some())
        .map(|ended| Completion::Repeated { fence: ended.lease.fence })
        .ok_or(Refusal::LeaseLost)
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

fn end_lease(task: &mut Task, end: LeaseEnd, outcome: Option<u64>, now: i64) {
    if let Some(lease) = task.lease.take() {
        task.ended.push(EndedLease { lease, ended_at: now, end, outcome });
        if task.ended.len() > LEASES_KEPT_PER_TASK {
            task.ended.remove(0);
        }
    }
}

#[cfg(test)]
#[path = "transition_tests.rs"]
pub(super) mod tests;
