//! Why a command changes nothing: a closed list without words. What a person reads is made of it
//! in `http::error`, by a match that must name every case.

use super::TaskStatus;

/// A command that the rules turn down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    TaskNotFound,
    WorkerNotFound,
    ArtifactNotFound,
    ResultNotFound,
    /// The lease that was named is not the active one, or an unnamed caller cannot be trusted any
    /// more because a lease of this task has expired (P3).
    LeaseLost,
    /// The heartbeat of a task that holds no lease.
    NoLease,
    /// The heartbeat of a task whose last lease has ended.
    LeaseEnded,
    /// The heartbeat of a task that was cancelled.
    TaskCancelled,
    NotQueued(TaskStatus),
    NotLeased(TaskStatus),
    CannotRequeue(TaskStatus),
    CannotCancel(TaskStatus),
    /// The fields are wrong; who decoded them knows which.
    InvalidFields,
    NoWorker(NoWorker),
    QueueFull,
    /// The key was sent with another task before.
    IdempotencyKeyReused,
    TooManyIdempotencyKeys,
    TooManyWorkers,
    TooManyWaiting,
    TooManyFiles,
    FilesTooLarge,
}

/// Why no worker may take the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWorker {
    /// It is not one that tasks are pushed to.
    NotPushable,
    NoneRegistered,
    Unknown,
    NotOnline,
    NoClaudeCli,
    Draining,
    Cooling,
    LabelMissing,
    AtCapacity,
    /// As many tasks of this agent are leased as may be.
    AgentAtLimit,
}
