//! The rules: what a task, a lease and a worker are, and which change follows which command.
//!
//! Everything here is a pure function of its arguments: time, ids and the records come in, new
//! records or a `Refusal` go out. Not here: clocks, randomness, storage, HTTP, log lines.

mod artifact;
mod audit;
mod creation;
mod ending;
mod failure;
mod id;
mod lease;
mod refusal;
mod retry;
mod routing;
mod session;
mod task;
mod transition;
mod worker;

pub use artifact::{
    FILE_BYTES_PER_TASK, FILES_PER_TASK, FileOfTask, NewFile, ReturnedFile, StoredObject, add_file,
};
pub use audit::{Audit, Entity, EventKind};
pub use creation::{IdempotencyKey, KEY_CHARS_MAX, as_created, is_same};
pub use ending::{
    Completed, Completion, HandedBack, as_completed, cancel, complete, expire, hand_back,
};
pub use failure::{
    HandBack, NOTE_CHARS_MAX, PROVIDER_FAILURES_MAX, PROVIDER_REST_MS, REST_SECONDS_MAX, is_code,
    is_provider_failure,
};
pub use id::{ArtifactId, AuditId, LeaseId, ResultId, SEQ_MAX, TaskId, WorkerId};
pub use lease::{EndedLease, Lease, LeaseEnd, LeaseStatus};
pub use refusal::{NoWorker, Refusal};
pub use retry::{BACKOFF_SECONDS, BACKOFF_SECONDS_MAX, Delay, Retry};
pub use routing::{Candidate, context_key, gate, pick_worker};
pub use session::{SESSION_SECONDS, Sessions};
pub use task::{
    CompletionStatus, DesiredFormat, LEASES_KEPT_PER_TASK, Metrics, Outcome, Policy, Task,
    TaskSpec, TaskStatus,
};
pub use transition::{
    Change, Heartbeat, LeaseClaim, NewTask, When, create, grant, heartbeat, requeue, require_queued,
};
pub use worker::{
    Capabilities, Cooling, ListedAgent, Registration, Worker, WorkerStatus, list, register,
    show_life, unlist,
};

#[cfg(test)]
pub mod tests_support {
    //! A task to start from, for the tests of whoever keeps tasks.
    pub use super::transition::tests::{new_task, queued_task};
}
