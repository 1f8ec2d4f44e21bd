//! Records as the contract shows them (`CONTRACT §2`).
//!
//! Must stay true: what the original sends is sent under the same name in the same form; added fields
//! come behind it. Encoding borrows, so that a page of prompts is not copied twice. Not here: what is
//! shown to whom.

use super::artifacts;
use crate::artifacts::Known;
use crate::domain::{
    CompletionStatus, Cooling, DesiredFormat, Outcome, Retry, TaskId, TaskStatus, WorkerId,
};
use crate::engine::{
    ClaimAnswer, Completed, LastHour, LeaseAnswer, LeaseView, LogLine, NotWritten, Stats, Tail,
    TaskView, WorkerView,
};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// A number without a fraction is written without one, as JavaScript does.
fn plain_number<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        serializer.serialize_i64(*number as i64)
    } else {
        serializer.serialize_f64(*number)
    }
}

#[derive(Serialize)]
struct PolicyJson {
    timeout_sec: u32,
    #[serde(serialize_with = "plain_number")]
    budget: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<Retry>,
}

#[derive(Serialize)]
struct TaskJson<'a> {
    id: crate::domain::TaskId,
    context_id: &'a str,
    agent_slug: &'a str,
    prompt: &'a str,
    context_hints: &'a [String],
    policy: PolicyJson,
    desired_format: DesiredFormat,
    status: TaskStatus,
    created_at: i64,
    updated_at: i64,
    lease_id: Option<crate::domain::LeaseId>,
    worker_id: Option<&'a WorkerId>,
    attempts: u32,
    max_attempts: u32,
    priority: u8,
    labels: &'a [String],
    not_before: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_code: Option<&'a str>,
}

/// A task.
pub fn task(view: &TaskView) -> impl Serialize + '_ {
    let TaskView { task, spec } = view;
    let lease = task.shown_lease();
    TaskJson {
        id: task.id,
        context_id: &task.context_id,
        agent_slug: &spec.agent_slug,
        prompt: &spec.prompt,
        context_hints: &spec.context_hints,
        policy: PolicyJson {
            timeout_sec: spec.policy.timeout_sec,
            budget: spec.policy.budget,
            retry: task.retry,
        },
        desired_format: spec.desired_format,
        status: task.status,
        created_at: task.created_at,
        updated_at: task.updated_at,
        lease_id: lease.map(|lease| lease.id),
        worker_id: lease.map(|lease| &lease.worker_id),
        attempts: task.attempts,
        max_attempts: task.max_attempts,
        priority: task.priority,
        labels: &task.labels,
        not_before: task.not_before,
        retry_at: task.delay.map(|delay| delay.until),
        last_code: task.ended.last().and_then(|ended| ended.code.as_deref()),
    }
}

#[derive(Serialize)]
struct LeaseJson<'a> {
    id: crate::domain::LeaseId,
    task_id: crate::domain::TaskId,
    worker_id: &'a WorkerId,
    started_at: i64,
    expires_at: i64,
    ttl_seconds: u32,
    status: &'static str,
    last_heartbeat: i64,
    context_id: &'a str,
    fence: u32,
}

/// A lease.
pub fn lease_view(view: &LeaseView) -> impl Serialize + '_ {
    LeaseJson {
        id: view.id,
        task_id: view.task_id,
        worker_id: &view.worker_id,
        started_at: view.started_at,
        expires_at: view.expires_at,
        ttl_seconds: view.ttl_seconds,
        status: view.status.as_str(),
        last_heartbeat: view.last_heartbeat,
        context_id: &view.context_id,
        fence: view.fence,
    }
}

#[derive(Serialize)]
struct CoolingJson<'a> {
    until: i64,
    code: &'a str,
    message: &'a str,
}

impl<'a> From<&'a Cooling> for CoolingJson<'a> {
    fn from(cooling: &'a Cooling) -> Self {
        CoolingJson { until: cooling.until, code: &cooling.code, message: &cooling.message }
    }
}

#[derive(Serialize)]
struct WorkerJson<'a> {
    id: &'a WorkerId,
    node_id: &'a WorkerId,
    url: &'a str,
    status: &'static str,
    capabilities: &'a crate::domain::Capabilities,
    last_heartbeat: Option<i64>,
    ip_addrs: &'a [String],
    obs_count: u64,
    db_sha: &'a str,
    registered_at: i64,
    active_leases: u32,
    draining: bool,
    from_membridge: bool,
    cooling: Option<CoolingJson<'a>>,
    pushed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    os_info: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    install_method: Option<&'a str>,
}

/// A worker.
pub fn worker(view: &WorkerView) -> impl Serialize + '_ {
    let worker = &view.worker;
    WorkerJson {
        id: &worker.id,
        node_id: &worker.id,
        url: &worker.url,
        status: view.status.as_str(),
        capabilities: &worker.capabilities,
        last_heartbeat: view.last_heartbeat,
        ip_addrs: &worker.ip_addrs,
        obs_count: worker.obs_count,
        db_sha: &worker.db_sha,
        registered_at: worker.registered_at,
        active_leases: view.active_leases,
        draining: worker.draining,
        from_membridge: worker.from_membridge,
        cooling: worker.cooling.as_ref().map(CoolingJson::from),
        pushed: view.pushed,
        agent_version: worker.agent_version.as_deref(),
        os_info: worker.os_info.as_deref(),
        install_method: worker.install_method.as_deref(),
    }
}

/// A worker with its active leases.
pub fn worker_with_leases<'a>(
    view: &'a WorkerView,
    leases: &'a [LeaseView],
) -> impl Serialize + 'a {
    #[derive(Serialize)]
    struct Json<W: Serialize, L: Serialize> {
        #[serde(flatten)]
        worker: W,
        leases: Vec<L>,
    }
    Json { worker: worker(view), leases: leases.iter().map(lease_view).collect() }
}

/// The answer to a lease.
pub fn granted(answer: &LeaseAnswer) -> impl Serialize + '_ {
    #[derive(Serialize)]
    struct Json<L: Serialize, W: Serialize> {
        lease: L,
        worker: W,
    }
    Json { lease: lease_view(&answer.lease), worker: worker(&answer.worker) }
}

/// The answer to a claim that got a task.
pub fn claimed(answer: &ClaimAnswer) -> impl Serialize + '_ {
    #[derive(Serialize)]
    struct Json<T: Serialize, L: Serialize> {
        task: T,
        lease: L,
    }
    Json { task: task(&answer.task), lease: lease_view(&answer.lease) }
}

/// The answer to a heartbeat that counts.
pub fn heartbeat(view: &LeaseView) -> impl Serialize + '_ {
    #[derive(Serialize)]
    struct Json<L: Serialize> {
        lease: L,
        expires_at: i64,
    }
    Json { lease: lease_view(view), expires_at: view.expires_at }
}

#[derive(Serialize)]
struct ResultJson<'a> {
    id: crate::domain::ResultId,
    task_id: crate::domain::TaskId,
    worker_id: &'a WorkerId,
    artifact_id: crate::domain::ArtifactId,
    status: CompletionStatus,
    output: Option<&'a str>,
    error_message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    metrics: &'a crate::domain::Metrics,
    completed_at: i64,
}

/// The result of a completion.
pub fn result_record(outcome: &Outcome) -> impl Serialize + '_ {
    ResultJson {
        id: outcome.result_id,
        task_id: outcome.task_id,
        worker_id: &outcome.worker_id,
        artifact_id: outcome.artifact_id,
        status: outcome.status,
        output: outcome.output.as_deref(),
        error_message: outcome.error_message.as_deref(),
        code: outcome.code.as_deref(),
        metrics: &outcome.metrics,
        completed_at: outcome.completed_at,
    }
}

/// The answer to a completion.
pub fn completed(answer: &Completed) -> impl Serialize + '_ {
    #[derive(Serialize)]
    struct Json<T: Serialize, A: Serialize, R: Serialize> {
        task: T,
        artifact: A,
        result: R,
    }
    Json {
        task: task(&answer.task),
        artifact: artifacts::output(&answer.outcome),
        result: result_record(&answer.outcome),
    }
}

/// A line of a task's log.
pub fn log_line(line: &LogLine) -> impl Serialize + '_ {
    #[derive(Serialize)]
    struct Json<'a> {
        n: u64,
        at: i64,
        attempt: u32,
        text: &'a str,
    }
    Json { n: line.n, at: line.at, attempt: line.attempt, text: &line.text }
}

/// Lines of a task's log; `status` is the task's, read before them.
pub fn log(task_id: TaskId, tail: &Tail, status: TaskStatus) -> impl Serialize + '_ {
    #[derive(Serialize)]
    struct Json<T: Serialize> {
        task_id: TaskId,
        lines: Vec<T>,
        next: u64,
        lost: bool,
        ended: bool,
    }
    Json {
        task_id,
        lines: tail.lines.iter().map(log_line).collect(),
        next: tail.next,
        lost: tail.lost,
        ended: status.is_finished(),
    }
}

/// How health says whether the disk takes writes.
pub fn storage_state(trouble: Option<NotWritten>) -> &'static str {
    match trouble {
        None => "ok",
        Some(NotWritten::DiskFull) => "disk_full",
        Some(NotWritten::ReadOnly) => "disk_read_only",
        Some(NotWritten::Failing) => "write_failed",
    }
}

/// The counts; of statuses only those that occur.
pub fn stats(
    stats: &Stats,
    oldest_queued_at: Option<i64>,
    last_hour: &LastHour,
    objects: Option<&Known>,
) -> impl Serialize + use<> {
    #[derive(Serialize)]
    struct Tasks {
        total: u64,
        by_status: BTreeMap<&'static str, u64>,
    }
    #[derive(Serialize)]
    struct Leases {
        total: u64,
        active: u64,
    }
    #[derive(Serialize)]
    struct Workers {
        total: u64,
        online: u64,
        cooling: u64,
        draining: u64,
    }
    #[derive(Serialize)]
    struct Hour {
        minute: i64,
        completed: Vec<u32>,
        failed: Vec<u32>,
    }
    #[derive(Serialize)]
    struct Json {
        tasks: Tasks,
        leases: Leases,
        workers: Workers,
        oldest_queued_at: Option<i64>,
        last_hour: Hour,
        #[serde(skip_serializing_if = "Option::is_none")]
        artifacts: Option<serde_json::Value>,
    }
    let counts =
        TaskStatus::ALL.map(|status| (status.as_str(), stats.tasks_by_status[status as usize]));
    Json {
        tasks: Tasks {
            total: stats.tasks_by_status.iter().sum(),
            by_status: counts.into_iter().filter(|(_, count)| *count > 0).collect(),
        },
        leases: Leases { total: stats.leases_total, active: stats.leases_active },
        workers: Workers {
            total: stats.workers_total,
            online: stats.workers_online,
            cooling: stats.workers_cooling,
            draining: stats.workers_draining,
        },
        oldest_queued_at,
        last_hour: Hour {
            minute: last_hour.newest_minute(),
            completed: last_hour.completed.to_vec(),
            failed: last_hour.failed.to_vec(),
        },
        artifacts: objects.map(artifacts::objects),
    }
}
