//! A task in two records: what its author wrote (`TaskSpec`, never rewritten) and what happens to
//! it (`Task`, small, rewritten by every transition), and the outcome of a completion.
//!
//! Must stay true: a transition touches no prompt; `Task` alone suffices to rebuild the engine's
//! memory. Not here: which transition is allowed (`transition`), how it looks on the wire (`wire`).

use super::{
    ArtifactId, Delay, EndedLease, FileOfTask, Lease, LeaseId, ResultId, Retry, StoredObject,
    TaskId, WorkerId,
};
use serde::{Deserialize, Serialize};

/// How many past leases a task keeps; the oldest make room, the audit trail keeps them all.
pub const LEASES_KEPT_PER_TASK: usize = 100;

/// Where a task is in its life (`DESIGN §3`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    Queued,
    Leased,
    Running,
    Completed,
    Failed,
    Dead,
    Cancelled,
}

impl TaskStatus {
    pub const ALL: [TaskStatus; 7] = [
        TaskStatus::Queued,
        TaskStatus::Leased,
        TaskStatus::Running,
        TaskStatus::Completed,
        TaskStatus::Failed,
        TaskStatus::Dead,
        TaskStatus::Cancelled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            TaskStatus::Queued => "queued",
            TaskStatus::Leased => "leased",
            TaskStatus::Running => "running",
            TaskStatus::Completed => "completed",
            TaskStatus::Failed => "failed",
            TaskStatus::Dead => "dead",
            TaskStatus::Cancelled => "cancelled",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Nothing happens to it any more unless a person requeues it.
    pub fn is_finished(self) -> bool {
        !matches!(self, TaskStatus::Queued | TaskStatus::Leased | TaskStatus::Running)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DesiredFormat {
    Text,
    Json,
}

/// Limits that the author set for one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// 1–3600.
    pub timeout_sec: u32,
    /// US dollars; 0 means no limit.
    pub budget: f64,
}

/// What the author wrote; stored once, at creation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    pub agent_slug: String,
    pub prompt: String,
    pub context_hints: Vec<String>,
    pub policy: Policy,
    pub desired_format: DesiredFormat,
}

/// What happens to a task: the only record that transitions rewrite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    pub context_id: String,
    pub status: TaskStatus,
    /// 0–9, higher is earlier.
    pub priority: u8,
    /// A worker must offer every one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Seconds of a lease that is asked for without a time.
    pub default_ttl_seconds: u32,
    pub attempts: u32,
    pub max_attempts: u32,
    /// What the author wants done about errors; without it an error is the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// The author's earliest moment, Unix milliseconds, by the wall clock as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<i64>,
    /// Until when it waits to be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
    /// Grants so far, over requeues too: the next lease's fencing number is one more (P3).
    pub grants: u32,
    /// A lease has expired, or ended with the task back in the queue, since create or a person's
    /// requeue: a caller that names no lease may be its late holder and is not believed (`CONTRACT`,
    /// Where we are better).
    pub expired_since_queued: bool,
    pub created_at: i64,
    pub updated_at: i64,
    pub lease: Option<Lease>,
    /// Oldest first, at most `LEASES_KEPT_PER_TASK`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<EndedLease>,
    /// Files that its workers returned, oldest first, at most `FILES_PER_TASK`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileOfTask>,
}

impl Task {
    /// The place in the order of creation, which is the key of the record.
    pub fn seq(&self) -> u64 {
        self.id.seq()
    }

    /// What the wire shows as lease and worker: the active ones, or the last ones of a finished
    /// task; none while it waits.
    pub fn shown_lease(&self) -> Option<&Lease> {
        match self.status {
            TaskStatus::Queued => None,
            TaskStatus::Leased | TaskStatus::Running => self.lease.as_ref(),
            _ => self.ended.last().map(|ended| &ended.lease),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompletionStatus {
    Success,
    Error,
}

/// What an attempt took, as far as its worker knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    pub duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_used: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<u64>,
}

/// What one completion left: the wire's artifact and result in one record, stored once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub artifact_id: ArtifactId,
    pub result_id: ResultId,
    pub task_id: TaskId,
    pub lease_id: LeaseId,
    pub worker_id: WorkerId,
    pub status: CompletionStatus,
    pub output: Option<String>,
    pub error_message: Option<String>,
    /// What kind of error it was, if the worker said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    pub metrics: Metrics,
    pub artifact_type: String,
    pub artifact_tags: Vec<String>,
    pub completed_at: i64,
    /// The task's attempts at that moment, so that a repeated complete answers the same (P7).
    pub attempts: u32,
    /// The error was not the end: the task went back into the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Delay>,
    /// Where its content lies in S3, and then perhaps only there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<StoredObject>,
}

impl Outcome {
    pub fn task_status(&self) -> TaskStatus {
        if self.retry.is_some() {
            return TaskStatus::Queued;
        }
        match self.status {
            CompletionStatus::Success => TaskStatus::Completed,
            CompletionStatus::Error => TaskStatus::Failed,
        }
    }

    /// An error's artifact is made, but empty (`CONTRACT §2`).
    pub fn artifact_content(&self) -> Option<&str> {
        match self.status {
            CompletionStatus::Success => self.output.as_deref(),
            CompletionStatus::Error => None,
        }
    }
}
