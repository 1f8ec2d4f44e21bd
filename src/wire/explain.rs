//! A task's attempts, and why it waits, in words and codes.
//!
//! Must stay true: every reason has a stable code and a sentence that says what would help. Not here:
//! how the reasons are found (`engine::explain`).

use crate::domain::{
    ArtifactId, CompletionStatus, LeaseEnd, LeaseId, Metrics, NoWorker, TaskId, WorkerId,
};
use crate::engine::{Attempt, WaitReason, Waiting, WorkerWait};
use serde::Serialize;

/// Characters of an error that a list of attempts shows; the result has all of it.
const ERROR_CHARS: usize = 4_000;

#[derive(Serialize)]
struct AttemptJson<'a> {
    attempt: u32,
    lease_id: LeaseId,
    worker_id: &'a WorkerId,
    started_at: i64,
    ended_at: Option<i64>,
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<&'a Metrics>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_id: Option<ArtifactId>,
}

fn how(attempt: &Attempt) -> Option<&'static str> {
    let (_, end) = attempt.ended?;
    Some(match end {
        LeaseEnd::Expired => "expired",
        LeaseEnd::Cancelled => "cancelled",
        LeaseEnd::Released => "released",
        LeaseEnd::Completed => match attempt.outcome.as_ref().map(|outcome| outcome.status) {
            Some(CompletionStatus::Success) => "success",
            Some(CompletionStatus::Error) | None => "error",
        },
    })
}

fn attempt(attempt: &Attempt) -> AttemptJson<'_> {
    let lease = &attempt.lease;
    let outcome = attempt.outcome.as_ref();
    let expired = attempt.ended.is_some_and(|(_, end)| end == LeaseEnd::Expired);
    let told = outcome.and_then(|outcome| outcome.error_message.as_ref()).or(attempt.note.as_ref());
    let silence = || format!("No sign of life for {}s", lease.ttl_seconds);
    AttemptJson {
        attempt: lease.fence,
        lease_id: lease.id,
        worker_id: &lease.worker_id,
        started_at: lease.started_at,
        ended_at: attempt.ended.map(|(at, _)| at),
        outcome: how(attempt),
        code: if expired { Some("lease_expired") } else { attempt.code.as_deref() },
        error_message: told
            .map(|text| text.chars().take(ERROR_CHARS).collect())
            .or_else(|| expired.then(silence)),
        metrics: outcome.map(|outcome| &outcome.metrics),
        artifact_id: outcome.map(|outcome| outcome.artifact_id),
    }
}

/// `GET /llm-tasks/:id/attempts`, oldest first.
pub fn attempts(attempts: &[Attempt]) -> impl Serialize + '_ {
    attempts.iter().map(attempt).collect::<Vec<_>>()
}

#[derive(Serialize)]
struct Reason {
    code: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
}

#[derive(Serialize)]
struct WorkerJson<'a> {
    worker_id: &'a WorkerId,
    may_take: bool,
    #[serde(flatten)]
    reason: Reason,
}

fn reason(reason: &WaitReason) -> Reason {
    let (code, text, until) = match reason {
        WaitReason::NotQueued(status) => {
            let text = format!("The task does not wait: it is {}", status.as_str());
            ("not_queued", text, None)
        }
        WaitReason::NotBefore(until) => {
            ("not_before", "Its author asked for a later moment".to_owned(), Some(*until))
        }
        WaitReason::Backoff(until) => {
            ("backoff", "An error is to be tried again, but not at once".to_owned(), Some(*until))
        }
        WaitReason::AgentAtLimit { agent, most } => {
            let text = format!(
                "{most} tasks of agent {agent} are in work, as many as AGENT_LIMITS allows"
            );
            ("agent_limit", text, None)
        }
        WaitReason::NoWorker(NoWorker::NoneRegistered) => {
            ("no_worker", "No worker is registered; start one".to_owned(), None)
        }
        WaitReason::NoWorker(_) => {
            ("no_worker", "No worker may take it now; see each".to_owned(), None)
        }
    };
    Reason { code, text, until }
}

fn of_worker(wait: &WorkerWait) -> Reason {
    let WorkerWait { active_leases, max_concurrency, .. } = wait;
    let (code, text) = match wait.may_take {
        Ok(()) => ("free", "It may take the task as soon as it asks for one".to_owned()),
        Err(NoWorker::NotOnline) => ("worker_not_online", "It is not online".to_owned()),
        Err(NoWorker::NoClaudeCli) => {
            ("worker_without_claude_cli", "It has registered without Claude CLI".to_owned())
        }
        Err(NoWorker::LabelMissing) => {
            let text = format!("It does not offer: {}", wait.missing_labels.join(", "));
            ("worker_label_missing", text)
        }
        Err(NoWorker::Draining) => {
            ("worker_draining", "It is draining; undrain it to give it tasks again".to_owned())
        }
        Err(NoWorker::Cooling) => ("worker_cooling", "It rests; undrain it to end that".to_owned()),
        Err(NoWorker::AtCapacity) => {
            let text = format!("It works on {active_leases} of {max_concurrency} tasks");
            ("worker_at_capacity", text)
        }
        Err(
            NoWorker::NoneRegistered
            | NoWorker::Unknown
            | NoWorker::NotPushable
            | NoWorker::AgentAtLimit,
        ) => ("worker_unknown", "It is not known".to_owned()),
    };
    let until = wait.until.filter(|_| wait.may_take == Err(NoWorker::Cooling));
    Reason { code, text, until }
}

fn worker(wait: &WorkerWait) -> WorkerJson<'_> {
    let may_take = wait.may_take.is_ok();
    WorkerJson { worker_id: &wait.worker, may_take, reason: of_worker(wait) }
}

/// `GET /llm-tasks/:id/waiting`
pub fn waiting(id: TaskId, waiting: &Waiting) -> impl Serialize + '_ {
    #[derive(Serialize)]
    struct Json<'a> {
        task_id: TaskId,
        status: &'static str,
        waiting: bool,
        reasons: Vec<Reason>,
        workers: Vec<WorkerJson<'a>>,
    }
    Json {
        task_id: id,
        status: waiting.status.as_str(),
        waiting: waiting.status == crate::domain::TaskStatus::Queued,
        reasons: waiting.reasons.iter().map(reason).collect(),
        workers: waiting.workers.iter().map(worker).collect(),
    }
}
