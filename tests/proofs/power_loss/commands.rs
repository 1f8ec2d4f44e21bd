//! The commands of a life that power loss cuts, and their answers.
//!
//! Must stay true: which command comes next follows from the dice alone. Not here: what the answers mean
//! (`workload`).

use crate::power_loss::dice::Dice;
use bloom_runtime::domain::{
    self, Audit, CompletionStatus, DesiredFormat, EventKind, HandBack, IdempotencyKey, LeaseClaim,
    LeaseId, Metrics, NewFile, NewTask, Policy, Registration, Retry, ReturnedFile, TaskId,
    TaskSpec, WorkerId,
};
use bloom_runtime::engine::{
    ClaimAnswer, Command, Completed, ConfigChange, EngineError, LeaseAnswer, NewLease, Settings,
    TaskView, WorkerChoice,
};
use tokio::sync::oneshot;

/// Few, so that many are used again.
pub const KEYS: usize = 12;
const WORKERS: [&str; 3] = ["a", "b", "c"];

pub type Answer<T> = oneshot::Receiver<Result<T, EngineError>>;

#[derive(Default)]
pub struct Answers {
    /// What was asked for, and under which key.
    pub created: Vec<(NewTask, Option<IdempotencyKey>, Answer<TaskView>)>,
    pub leased: Vec<Answer<LeaseAnswer>>,
    pub claimed: Vec<Answer<Option<ClaimAnswer>>>,
    pub completed: Vec<(LeaseId, Answer<Completed>)>,
    pub released: Vec<(LeaseId, Answer<TaskView>)>,
    pub added: Vec<Answer<ReturnedFile>>,
}

/// Adds any command about any of these tasks and leases.
pub fn add_any(
    dice: &mut Dice,
    tasks: &[TaskId],
    held: &[(TaskId, LeaseId)],
    batch: &mut Vec<Command>,
    answers: &mut Answers,
) {
    let task = dice.pick(tasks).copied();
    let held = dice.pick(held).copied();
    let name = WorkerId(WORKERS[dice.roll(WORKERS.len())].into());
    match (dice.roll(25), task, held) {
        (0..=3, ..) => {
            // Now and then one for which the file must grow.
            let bytes = if dice.one_in(30) { 400_000 } else { [10, 300, 5_000][dice.roll(3)] };
            let new = new_task(dice, bytes);
            let key = dice.one_in(2).then(|| key(dice.roll(KEYS)));
            create(batch, answers, new, key);
        }
        (4..=6, Some(task), _) => {
            let worker = match dice.roll(2) {
                0 => WorkerChoice::Automatic,
                _ => WorkerChoice::Named(name),
            };
            let (reply, answer) = oneshot::channel();
            answers.leased.push(answer);
            let lease = NewLease { worker, ttl_seconds: Some(None) };
            batch.push(Command::Lease { task, lease, reply });
        }
        (7..=9, ..) => {
            let (reply, answer) = oneshot::channel();
            answers.claimed.push(answer);
            let wait_ms = [0, 1_000][dice.roll(2)];
            batch.push(Command::Claim { worker: name, ttl_seconds: None, wait_ms, reply });
        }
        (10 | 11, _, Some((task, lease))) => {
            let claim = LeaseClaim::Named(lease);
            batch.push(Command::Heartbeat { task, claim, reply: oneshot::channel().0 });
        }
        (12..=15, _, Some((task, lease))) => {
            let bytes = [10, 300, 5_000][dice.roll(3)];
            let status = [CompletionStatus::Success, CompletionStatus::Error][dice.roll(2)];
            complete(batch, answers, task, lease, status, bytes);
        }
        (16, Some(task), _) => {
            batch.push(Command::Requeue { task, reply: oneshot::channel().0 });
        }
        (17, Some(task), _) if dice.one_in(2) => {
            batch.push(Command::Cancel { task, reply: oneshot::channel().0 });
        }
        (18, ..) => {
            let most = Some(1 + dice.roll(4) as u32);
            let registration = Registration { max_concurrency: most, ..Registration::default() };
            let registration = Box::new(registration);
            batch.push(Command::Register { id: name, registration, reply: oneshot::channel().0 });
        }
        (19, ..) if dice.one_in(3) => {
            batch.push(Command::Remove { worker: name, reply: oneshot::channel().0 });
        }
        (19, ..) => {
            let settings = Settings {
                membridge_server_url: Some(format!("http://10.0.0.{}", dice.roll(200))),
                membridge_admin_key: None,
            };
            let change = ConfigChange {
                settings: Some(settings),
                kind: EventKind::ConfigUpdated,
                audit: Audit::of_config("admin", "url".into()),
            };
            batch.push(Command::Configure { change, reply: oneshot::channel().0 });
        }
        (20 | 21, _, Some((task, lease))) => {
            let code = ["worker_stopping", "usage_limit", "tired"][dice.roll(3)];
            hand_back(batch, answers, task, lease, code);
        }
        (23 | 24, _, Some((task, lease))) => {
            let file = Box::new(NewFile {
                name: "plan.md".into(),
                content_type: "text/markdown".into(),
                bytes: dice.roll(1_000) as u64,
                sha256: "ab".repeat(32),
                on_disk: format!("{}-ab-{}", task.seq(), dice.next()),
            });
            let (reply, answer) = oneshot::channel();
            answers.added.push(answer);
            batch.push(Command::AddFile { task, claim: LeaseClaim::Named(lease), file, reply });
        }
        (22, ..) => {
            let on = dice.one_in(3);
            batch.push(Command::Drain { worker: name, on, reply: oneshot::channel().0 });
        }
        _ => {}
    }
}

pub fn key(n: usize) -> IdempotencyKey {
    IdempotencyKey::new(format!("key-{n}").as_bytes()).expect("visible ASCII")
}

pub fn create(
    batch: &mut Vec<Command>,
    answers: &mut Answers,
    new: NewTask,
    key: Option<IdempotencyKey>,
) {
    let (reply, answer) = oneshot::channel();
    answers.created.push((new.clone(), key.clone(), answer));
    batch.push(Command::Create { new: Box::new(new), key, reply });
}

fn new_task(dice: &mut Dice, bytes: usize) -> NewTask {
    let labels = if dice.one_in(5) { vec!["gpu".to_owned()] } else { Vec::new() };
    NewTask {
        context_id: format!("context-{}", dice.roll(4)),
        spec: TaskSpec {
            agent_slug: "writer".into(),
            prompt: "p".repeat(bytes),
            context_hints: Vec::new(),
            policy: Policy { timeout_sec: 60, budget: 0.0 },
            desired_format: DesiredFormat::Text,
        },
        priority: dice.roll(3) as u8,
        labels,
        max_attempts: 1 + dice.roll(3) as u32,
        retry: dice.one_in(2).then_some(Retry {
            on_error: true,
            backoff_seconds: 1,
            max_backoff_seconds: 300,
        }),
        not_before: None,
    }
}

pub fn hand_back(
    batch: &mut Vec<Command>,
    answers: &mut Answers,
    task: TaskId,
    lease: LeaseId,
    code: &str,
) {
    let given = HandBack { code: code.into(), note: None, retry_after_seconds: Some(2) };
    let (reply, answer) = oneshot::channel();
    answers.released.push((lease, answer));
    let claim = LeaseClaim::Named(lease);
    batch.push(Command::HandBack { task, claim, given: Some(given), reply });
}

pub fn complete(
    batch: &mut Vec<Command>,
    answers: &mut Answers,
    task: TaskId,
    lease: LeaseId,
    status: CompletionStatus,
    bytes: usize,
) {
    let completed = domain::Completed {
        status,
        output: Some("o".repeat(bytes)),
        error_message: (status == CompletionStatus::Error).then(|| "no".into()),
        code: None,
        metrics: Metrics { duration_ms: 12, ..Metrics::default() },
        artifact_type: "LLM_RESULT".into(),
        artifact_tags: Vec::new(),
    };
    let (reply, answer) = oneshot::channel();
    answers.completed.push((lease, answer));
    let claim = LeaseClaim::Named(lease);
    batch.push(Command::Complete { task, claim, completed: Some(Box::new(completed)), reply });
}
