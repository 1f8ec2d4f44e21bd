//! What can be asked and what can be seen, in plain values: the common tongue of engine and model.
//!
//! Must stay true: a fact holds everything of a record, so that two equal facts are equal records. The
//! words for a status, a refusal, a claim are the domain's; its functions are never called. Not here:
//! what should be (`model`), how the engine is asked (`server`).

use bloom_runtime::domain::{
    self, CompletionStatus, Delay, HandBack, IdempotencyKey, LeaseClaim, LeaseEnd, LeaseId,
    NewTask, Outcome, Refusal, Registration, Retry, Task, TaskId, TaskSpec, TaskStatus,
    WorkerStatus,
};
use bloom_runtime::engine::{
    Artifact, ByHand, Changed, LeaseView, Settings, TaskView, WorkerChoice, WorkerView,
};
use bloom_runtime::store::Copied;

/// The random part of every id, and every chance: always the same, so that the model knows each id by its
/// number.
pub const SALT: u128 = 0x5eed_5eed_5eed_5eed_5eed_5eed_5eed_5eed;

pub fn task_id(number: u64) -> TaskId {
    TaskId::new(number, SALT)
}

pub fn lease_id(number: u64) -> LeaseId {
    LeaseId::new(number, SALT)
}

/// What somebody asks of the server.
#[derive(Clone, Debug)]
pub enum Ask {
    Create {
        new: NewTask,
        key: Option<IdempotencyKey>,
    },
    Lease {
        task: TaskId,
        worker: WorkerChoice,
        ttl_seconds: Option<Option<u32>>,
    },
    Claim {
        worker: String,
        ttl_seconds: Option<u32>,
        wait_ms: u64,
    },
    /// The server's own, for a worker that it pushes tasks to.
    ClaimFor {
        worker: String,
        wait_ms: u64,
    },
    Heartbeat {
        task: TaskId,
        claim: LeaseClaim,
    },
    /// The server's own, for a task that it has pushed.
    Keep {
        task: TaskId,
        lease: LeaseId,
    },
    Complete {
        task: TaskId,
        claim: LeaseClaim,
        fields: Option<domain::Completed>,
    },
    HandBack {
        task: TaskId,
        claim: LeaseClaim,
        given: Option<HandBack>,
    },
    Requeue(TaskId),
    Cancel(TaskId),
    Many {
        tasks: Vec<TaskId>,
        what: ByHand,
    },
    Register {
        worker: String,
        registration: Registration,
    },
    Drain {
        worker: String,
        on: bool,
    },
    Remove(String),
    HeardOf(String),
    Configure {
        settings: Option<Settings>,
        detail: String,
    },
    Archived(Copied),
    Release,
    Stop,
}

/// One request on its way through a step. `gone`: its caller no longer waits for the answer.
#[derive(Clone, Debug)]
pub struct Call {
    pub id: u64,
    pub ask: Ask,
    pub gone: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LeaseFacts {
    pub number: u64,
    pub fence: u32,
    pub worker: String,
    pub ttl_seconds: u32,
    pub started: i64,
    pub heard: i64,
    pub expires: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PastFacts {
    pub lease: LeaseFacts,
    pub ended: i64,
    pub end: LeaseEnd,
    pub outcome: Option<u64>,
    pub code: Option<String>,
    pub note: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TaskFacts {
    pub number: u64,
    pub context: String,
    pub labels: Vec<String>,
    pub priority: u8,
    pub default_ttl: u32,
    pub attempts: u32,
    pub max_attempts: u32,
    pub grants: u32,
    /// A lease has expired, or ended with the task back in the queue, since it was queued by create or
    /// by a person.
    pub tainted: bool,
    pub retry: Option<Retry>,
    pub not_before: Option<i64>,
    pub delay: Option<DelayFacts>,
    pub status: TaskStatus,
    pub created: i64,
    pub updated: i64,
    pub lease: Option<LeaseFacts>,
    pub past: Vec<PastFacts>,
}

/// Until when something waits: the store's age, which decides, and what a person reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DelayFacts {
    pub age_ms: u64,
    pub wall: i64,
}

/// Until when a worker rests, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct RestFacts {
    pub until: DelayFacts,
    pub code: String,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WorkerFacts {
    pub name: String,
    pub seq: u64,
    pub said: WorkerStatus,
    pub shown: WorkerStatus,
    pub claude_cli: bool,
    pub max_concurrency: u32,
    pub labels: Vec<String>,
    pub heard: Option<i64>,
    pub active: u32,
    pub registered: i64,
    pub draining: bool,
    pub rest: Option<RestFacts>,
    pub url: String,
    pub claims: bool,
    pub pushed: bool,
}

/// What a completion's answer shows.
#[derive(Clone, Debug, PartialEq)]
pub struct DoneFacts {
    pub task: u64,
    pub status: TaskStatus,
    pub attempts: u32,
    pub updated: i64,
    pub lease: Option<u64>,
    pub delay: Option<DelayFacts>,
    pub outcome: OutcomeFacts,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OutcomeFacts {
    pub number: u64,
    pub task: u64,
    pub lease: u64,
    pub worker: String,
    pub status: CompletionStatus,
    pub output: Option<String>,
    pub code: Option<String>,
    pub duration_ms: u64,
    pub at: i64,
    pub attempts: u32,
    pub retry: Option<DelayFacts>,
}

/// What somebody is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Task(TaskFacts, NewTaskFacts),
    /// The task's number with it.
    Leased(u64, LeaseFacts, WorkerFacts),
    Claimed(TaskFacts, NewTaskFacts, LeaseFacts),
    NoTask,
    Beat(LeaseFacts),
    Done(DoneFacts),
    Registered(WorkerFacts, bool),
    Worker(WorkerFacts),
    Many(Changed),
    Carried,
    Refused(Refusal),
    /// The commit failed, or the store could not be read: nobody knows.
    Unknown,
}

/// What the author wrote, short enough to compare and long enough to tell apart.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTaskFacts {
    pub agent: String,
    pub length: usize,
    pub ends_with: String,
}

impl NewTaskFacts {
    pub fn of(spec: &TaskSpec) -> Self {
        let (agent, prompt) = (spec.agent_slug.clone(), &spec.prompt);
        let end = prompt.len().saturating_sub(20);
        NewTaskFacts { agent, length: prompt.len(), ends_with: prompt[end..].to_string() }
    }
}

pub fn lease_view(view: &LeaseView) -> LeaseFacts {
    LeaseFacts {
        number: view.id.seq(),
        fence: view.fence,
        worker: view.worker_id.0.clone(),
        ttl_seconds: view.ttl_seconds,
        started: view.started_at,
        heard: view.last_heartbeat,
        expires: view.expires_at,
    }
}

fn lease(of: &domain::Lease) -> LeaseFacts {
    LeaseFacts {
        number: of.id.seq(),
        fence: of.fence,
        worker: of.worker_id.0.clone(),
        ttl_seconds: of.ttl_seconds,
        started: of.started_at,
        heard: of.last_heartbeat,
        expires: of.expires_at,
    }
}

fn delay(of: Delay) -> DelayFacts {
    DelayFacts { age_ms: of.until_age_ms, wall: of.until }
}

pub fn task(of: &Task) -> TaskFacts {
    let past = |ended: &domain::EndedLease| PastFacts {
        lease: lease(&ended.lease),
        ended: ended.ended_at,
        end: ended.end,
        outcome: ended.outcome,
        code: ended.code.clone(),
        note: ended.note.clone(),
    };
    TaskFacts {
        number: of.id.seq(),
        context: of.context_id.clone(),
        labels: of.labels.clone(),
        priority: of.priority,
        default_ttl: of.default_ttl_seconds,
        attempts: of.attempts,
        max_attempts: of.max_attempts,
        grants: of.grants,
        tainted: of.expired_since_queued,
        retry: of.retry,
        not_before: of.not_before,
        delay: of.delay.map(delay),
        status: of.status,
        created: of.created_at,
        updated: of.updated_at,
        lease: of.lease.as_ref().map(lease),
        past: of.ended.iter().map(past).collect(),
    }
}

pub fn spec(of: &TaskView) -> NewTaskFacts {
    NewTaskFacts::of(&of.spec)
}

fn rest(of: &domain::Cooling) -> RestFacts {
    RestFacts {
        until: DelayFacts { age_ms: of.until_age_ms, wall: of.until },
        code: of.code.clone(),
        message: of.message.clone(),
    }
}

pub fn worker(of: &WorkerView) -> WorkerFacts {
    WorkerFacts {
        name: of.worker.id.0.clone(),
        seq: of.worker.seq,
        said: of.worker.status,
        shown: of.status,
        claude_cli: of.worker.capabilities.claude_cli,
        max_concurrency: of.worker.capabilities.max_concurrency,
        labels: of.worker.capabilities.labels.clone(),
        heard: of.last_heartbeat,
        active: of.active_leases,
        registered: of.worker.registered_at,
        draining: of.worker.draining,
        url: of.worker.url.clone(),
        claims: of.worker.claims,
        pushed: of.pushed,
        rest: of.worker.cooling.as_ref().map(rest),
    }
}

/// Nobody returns files in the simulation.
pub fn artifact(of: &Artifact) -> OutcomeFacts {
    match of {
        Artifact::Output(of) => outcome(of),
        Artifact::File(file) => panic!("nobody returned {file:?}"),
    }
}

pub fn outcome(of: &Outcome) -> OutcomeFacts {
    OutcomeFacts {
        number: of.artifact_id.seq(),
        task: of.task_id.seq(),
        lease: of.lease_id.seq(),
        worker: of.worker_id.0.clone(),
        status: of.status,
        output: of.output.clone(),
        code: of.code.clone(),
        duration_ms: of.metrics.duration_ms,
        at: of.completed_at,
        attempts: of.attempts,
        retry: of.retry.map(delay),
    }
}

pub fn done(task: &Task, of: &Outcome) -> DoneFacts {
    DoneFacts {
        task: task.id.seq(),
        status: task.status,
        attempts: task.attempts,
        updated: task.updated_at,
        lease: task.shown_lease().map(|lease| lease.id.seq()),
        delay: task.delay.map(delay),
        outcome: outcome(of),
    }
}
