//! What can be asked of the writer, and the shapes of its answers.
//!
//! Must stay true: every command carries the way back to its caller; a caller that is gone is no
//! error. Not here: decoding (`wire`), deciding (`core`, `domain`).

use super::EngineError;
use crate::domain::{
    self, Audit, EventKind, HandBack, IdempotencyKey, LeaseClaim, LeaseId, LeaseStatus,
    ListedAgent, NewFile, NewTask, Outcome, Registration, ReturnedFile, Sessions, Task, TaskId,
    TaskSpec, Worker, WorkerId, WorkerStatus,
};
use crate::store::{Compacted, Copied, DueTask, Settings};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The way back to a caller.
pub type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

/// Who shall get the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerChoice {
    Automatic,
    Named(WorkerId),
    /// One that tasks are pushed to: this one, or any.
    Pushed(Option<WorkerId>),
    /// Named by something that can be no worker.
    Nobody,
}

/// The wish for a lease. `ttl_seconds`: None when the value cannot be used; Some(None) for the
/// task's default.
#[derive(Clone, Debug)]
pub struct NewLease {
    pub worker: WorkerChoice,
    pub ttl_seconds: Option<Option<u32>>,
}

/// What a person does to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByHand {
    Requeue,
    Cancel,
}

/// How far a command about many tasks came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// The first so many were looked at; the others wait for another commit.
    pub tried: usize,
    pub changed: usize,
}

/// What the settings become, if they change, and how that or what happened at Membridge is told.
#[derive(Clone, Debug)]
pub struct ConfigChange {
    pub settings: Option<Settings>,
    pub kind: EventKind,
    pub audit: Audit,
}

/// Everything that goes through the writer.
pub enum Command {
    /// With a key it is carried out once, however often it is sent.
    Create {
        new: Box<NewTask>,
        key: Option<IdempotencyKey>,
        reply: Reply<TaskView>,
    },
    Lease {
        task: TaskId,
        lease: NewLease,
        reply: Reply<LeaseAnswer>,
    },
    /// Waits up to `wait_ms` for a task; None when none came.
    Claim {
        worker: WorkerId,
        ttl_seconds: Option<u32>,
        wait_ms: u64,
        reply: Reply<Option<ClaimAnswer>>,
    },
    /// The server's own claim for a worker that it pushes to: no sign of life of it.
    ClaimFor {
        worker: WorkerId,
        wait_ms: u64,
        reply: Reply<Option<ClaimAnswer>>,
    },
    Heartbeat {
        task: TaskId,
        claim: LeaseClaim,
        reply: Reply<LeaseView>,
    },
    /// The server's own heartbeat for a task that it has pushed: no sign of life of the worker.
    Keep {
        task: TaskId,
        lease: LeaseId,
        reply: Reply<LeaseView>,
    },
    /// `completed` is None when its fields are wrong.
    Complete {
        task: TaskId,
        claim: LeaseClaim,
        completed: Option<Box<domain::Completed>>,
        reply: Reply<Completed>,
    },
    /// A file of the lease's holder has arrived.
    AddFile {
        task: TaskId,
        claim: LeaseClaim,
        file: Box<NewFile>,
        reply: Reply<ReturnedFile>,
    },
    /// `given` is None when its fields are wrong.
    HandBack {
        task: TaskId,
        claim: LeaseClaim,
        given: Option<HandBack>,
        reply: Reply<TaskView>,
    },
    Requeue {
        task: TaskId,
        reply: Reply<TaskView>,
    },
    Cancel {
        task: TaskId,
        reply: Reply<TaskView>,
    },
    /// Those for which it is too late are left alone.
    Many {
        tasks: Vec<TaskId>,
        what: ByHand,
        reply: Reply<Changed>,
    },
    /// Answers whether the worker is new.
    Register {
        id: WorkerId,
        registration: Box<Registration>,
        reply: Reply<(WorkerView, bool)>,
    },
    /// On: no more tasks. Off: tasks again, at once.
    Drain {
        worker: WorkerId,
        on: bool,
        reply: Reply<WorkerView>,
    },
    Remove {
        worker: WorkerId,
        reply: Reply<()>,
    },
    Configure {
        change: ConfigChange,
        reply: Reply<()>,
    },
    /// Which sessions were ended, and what is told of it.
    KeepSessions {
        sessions: Sessions,
        ended: Option<Audit>,
        reply: Reply<()>,
    },
    /// Membridge lists these, each once; answers how many found no room.
    Sync {
        agents: Vec<ListedAgent>,
        reply: Reply<usize>,
    },
    /// This stands in the archive and may leave the hot file.
    Archived {
        copied: Copied,
        reply: Reply<()>,
    },
    /// The time of these tasks is over; answers which of them are to leave the archive.
    BeginRemoval {
        due: Vec<DueTask>,
        reply: Reply<Arc<HashSet<u64>>>,
    },
    /// These have left the archive.
    Removed {
        tasks: Arc<HashSet<u64>>,
        reply: Reply<()>,
    },
    /// The hot file gives its free space back.
    CompactHot {
        reply: Reply<Option<Compacted>>,
    },
    /// A worker answered when it was asked whether it is there.
    HeardOf {
        worker: WorkerId,
    },
    /// A file could not be read: what an error has made useless is opened anew.
    Mend {
        reply: Reply<()>,
    },
    /// Every waiting claim is answered now, and later ones do not wait.
    Release,
    /// The writer ends after what stands before this.
    Stop,
}

/// A task with everything that the wire shows of it.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskView {
    pub task: Task,
    pub spec: TaskSpec,
}

/// A lease as it is now, renewals included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    pub id: LeaseId,
    /// Larger than that of every earlier grant of the task (P3).
    pub fence: u32,
    pub task_id: TaskId,
    pub worker_id: WorkerId,
    pub context_id: String,
    pub started_at: i64,
    pub expires_at: i64,
    pub last_heartbeat: i64,
    pub ttl_seconds: u32,
    pub status: LeaseStatus,
}

/// A worker with what memory knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerView {
    pub worker: Worker,
    /// Offline when it registered as online but was not heard of lately.
    pub status: WorkerStatus,
    pub last_heartbeat: Option<i64>,
    pub active_leases: u32,
    /// The server calls it with tasks, since it gave an address and asks for none.
    pub pushed: bool,
}

/// A granted lease; the worker is shown as it was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseAnswer {
    pub lease: LeaseView,
    pub worker: WorkerView,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ClaimAnswer {
    pub task: TaskView,
    pub lease: LeaseView,
}

/// The task as it was completed, and what was stored of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Completed {
    pub task: TaskView,
    pub outcome: Outcome,
}

impl LeaseView {
    pub(super) fn active(task: &Task) -> Option<LeaseView> {
        task.lease.as_ref().map(|lease| LeaseView::of(task, lease, LeaseStatus::Active))
    }

    /// A lease of this task, as the wire shows it.
    pub fn of(task: &Task, lease: &domain::Lease, status: LeaseStatus) -> LeaseView {
        LeaseView {
            id: lease.id,
            fence: lease.fence,
            task_id: task.id,
            worker_id: lease.worker_id.clone(),
            context_id: task.context_id.clone(),
            started_at: lease.started_at,
            expires_at: lease.expires_at,
            last_heartbeat: lease.last_heartbeat,
            ttl_seconds: lease.ttl_seconds,
            status,
        }
    }
}

impl WorkerView {
    pub fn is_online(&self) -> bool {
        self.status == WorkerStatus::Online
    }

    /// Where it is called with tasks.
    pub fn push_address(&self) -> Option<&str> {
        self.pushed.then_some(self.worker.url.as_str())
    }
}
