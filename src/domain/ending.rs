//! How an attempt ends: completed, handed back, expired, cancelled (`DESIGN §3`).
//!
//! Must stay true: `leased` and `running` end alike (P5); a complete or a hand-back repeated under its
//! lease does its work once (P7); a refusal changes nothing. Each function checks in the contract's
//! order: lease, then state, then fields. Not here: how an attempt begins (`transition`), when a lease
//! is due, which the engine knows.

use super::transition::{Change, LeaseClaim, When, believe, touched};
use super::{
    ArtifactId, Audit, CompletionStatus, Delay, EndedLease, Entity, EventKind, HandBack,
    LEASES_KEPT_PER_TASK, LeaseEnd, LeaseId, Metrics, Outcome, Refusal, ResultId, Task, TaskStatus,
};

/// The valid fields of a completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Completed {
    pub status: CompletionStatus,
    pub output: Option<String>,
    pub error_message: Option<String>,
    pub code: Option<String>,
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

/// What handing a task back does.
#[allow(clippy::large_enum_variant, reason = "made and taken apart at once")]
#[derive(Clone, Debug, PartialEq)]
pub enum HandedBack {
    First(Change),
    /// The lease has handed the task back before.
    Repeated,
}

/// Takes a result. `completed` is None when its fields are wrong, which matters last.
pub fn complete(
    task: &Task,
    claim: LeaseClaim,
    completed: Option<Completed>,
    artifact_id: ArtifactId,
    result_id: ResultId,
    when: When,
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
    let retry = retry_of(task, &completed, when);
    let outcome = Outcome {
        artifact_id,
        result_id,
        task_id: task.id,
        lease_id: active.id,
        worker_id: active.worker_id.clone(),
        status: completed.status,
        output: completed.output,
        error_message: completed.error_message,
        code: completed.code,
        metrics: completed.metrics,
        artifact_type: completed.artifact_type,
        artifact_tags: completed.artifact_tags,
        completed_at: when.wall,
        attempts: task.attempts,
        retry,
        stored: None,
    };
    let mut task = touched(task, when.wall);
    task.status = outcome.task_status();
    task.delay = retry;
    // Its holder may not have heard of this and complete again.
    task.expired_since_queued |= retry.is_some();
    let ended = Ended { outcome: Some(artifact_id.seq()), ..Ended::by(LeaseEnd::Completed) };
    end_lease(&mut task, Ended { code: outcome.code.clone(), ..ended }, when.wall);
    let word = match outcome.status {
        CompletionStatus::Success => "success",
        CompletionStatus::Error => "error",
    };
    let audit = Audit {
        entity: Entity::Task,
        entity_id: task.id.to_string(),
        actor: outcome.worker_id.to_string(),
        detail: format!(
            "Status: {word}, artifact: {artifact_id}, duration: {}ms{}",
            outcome.metrics.duration_ms,
            retry.map_or(String::new(), |delay| {
                format!(", retry in {}s", (delay.until_age_ms - when.age_ms).div_ceil(1000))
            })
        ),
    };
    let change = Change { task, kind: EventKind::TaskCompleted, audit: Some(audit) };
    Ok(Completion::First(change, Box::new(outcome)))
}

/// Whether an error is tried again, and when.
fn retry_of(task: &Task, completed: &Completed, when: When) -> Option<Delay> {
    let retry = task.retry.filter(|_| completed.status == CompletionStatus::Error)?;
    let code = completed.code.as_deref();
    let wait_ms = retry.wait_ms(task.attempts, task.max_attempts, code, when.chance)?;
    Some(Delay {
        until_age_ms: when.age_ms.saturating_add(wait_ms),
        until: when.wall.saturating_add(wait_ms as i64),
    })
}

/// Its holder gives the task back without a result: into the queue, at once. Which attempts that
/// costs is the code's to say (`HandBack`); when they are used up, the task is dead.
pub fn hand_back(
    task: &Task,
    claim: LeaseClaim,
    given: Option<HandBack>,
    now: i64,
) -> Result<HandedBack, Refusal> {
    let active = match &task.lease {
        Some(active) if believe(task, active, claim).is_ok() => active,
        active => {
            let id = match (claim, active) {
                (LeaseClaim::Named(id), _) => id,
                (LeaseClaim::Unnamed, None) => return Err(Refusal::NotLeased(task.status)),
                (LeaseClaim::Unnamed, Some(_)) | (LeaseClaim::Unknown, _) => {
                    return Err(Refusal::LeaseLost);
                }
            };
            let released =
                |ended: &&EndedLease| ended.lease.id == id && ended.end == LeaseEnd::Released;
            let known = task.ended.iter().find(released);
            return known.map(|_| HandedBack::Repeated).ok_or(Refusal::LeaseLost);
        }
    };
    let given = given.ok_or(Refusal::InvalidFields)?;
    let attempts = task.attempts - u32::from(given.gives_attempt_back());
    let (status, fate) = after_attempts(attempts, task.max_attempts);
    let audit = Audit {
        entity: Entity::Lease,
        entity_id: active.id.to_string(),
        actor: active.worker_id.to_string(),
        detail: format!(
            "Worker {} handed task {} back ({}), it is {fate} (attempt {} of {})",
            active.worker_id, task.id, given.code, task.attempts, task.max_attempts
        ),
    };
    let mut task = touched(task, now);
    (task.status, task.attempts) = (status, attempts);
    task.expired_since_queued = true;
    let ended = Ended { code: Some(given.code), note: given.note, ..Ended::by(LeaseEnd::Released) };
    end_lease(&mut task, ended, now);
    let kind = EventKind::TaskReleased;
    Ok(HandedBack::First(Change { task, kind, audit: Some(audit) }))
}

/// Where a task goes whose attempt ended without a result.
fn after_attempts(attempts: u32, max_attempts: u32) -> (TaskStatus, &'static str) {
    if attempts < max_attempts {
        (TaskStatus::Queued, "back in the queue")
    } else {
        (TaskStatus::Dead, "dead, its attempts are used up")
    }
}

/// The task as it was when this outcome completed it: the answer to every complete under its lease.
pub fn as_completed(task: &Task, outcome: &Outcome) -> Task {
    let mut then = task.clone();
    then.status = outcome.task_status();
    then.attempts = outcome.attempts;
    then.updated_at = outcome.completed_at;
    then.lease = None;
    then.delay = outcome.retry;
    then.ended.retain(|ended| ended.lease.id <= outcome.lease_id);
    then
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
    task.delay = None;
    end_lease(&mut task, Ended::by(LeaseEnd::Cancelled), now);
    Ok(Change { task, kind: EventKind::TaskCancelled, audit: Some(audit) })
}

/// The lease's time is over without a sign of life: back to the queue, or dead when its attempts
/// are used up (P5). None when it holds no lease, so that a superfluous call does nothing.
pub fn expire(task: &Task, now: i64) -> Option<Change> {
    let lease = task.lease.as_ref()?;
    let (status, fate) = after_attempts(task.attempts, task.max_attempts);
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
    end_lease(&mut task, Ended::by(LeaseEnd::Expired), now);
    Some(Change { task, kind: EventKind::LeaseExpired, audit: Some(audit) })
}

fn repeated(task: &Task, id: LeaseId) -> Result<Completion, Refusal> {
    task.ended
        .iter()
        .find(|ended| ended.lease.id == id && ended.outcome.is_some())
        .map(|ended| Completion::Repeated { fence: ended.lease.fence })
        .ok_or(Refusal::LeaseLost)
}

/// How a lease ends.
struct Ended {
    end: LeaseEnd,
    outcome: Option<u64>,
    code: Option<String>,
    note: Option<String>,
}

impl Ended {
    fn by(end: LeaseEnd) -> Ended {
        Ended { end, outcome: None, code: None, note: None }
    }
}

fn end_lease(task: &mut Task, how: Ended, now: i64) {
    if let Some(lease) = task.lease.take() {
        let Ended { end, outcome, code, note } = how;
        task.ended.push(EndedLease { lease, ended_at: now, end, outcome, code, note });
        if task.ended.len() > LEASES_KEPT_PER_TASK {
            task.ended.remove(0);
        }
    }
}
