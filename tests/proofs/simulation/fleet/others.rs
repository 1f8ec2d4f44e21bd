//! Who gives work, who looks after it by hand, and who asks for anything at all.

use super::super::dice::Dice;
use super::super::facts::{Ask, lease_id, task_id};
use super::{Desk, Moment, SECOND, Shift, hand_back, new_task, result};
use bloom_runtime::domain::{
    IdempotencyKey, LeaseClaim, LeaseId, NewTask, Registration, Retry, TaskId, WorkerId,
    WorkerStatus,
};
use bloom_runtime::engine::{ByHand, Settings, WorkerChoice};

/// What kinds of tasks there are.
#[derive(Clone, Debug)]
pub struct Orders {
    pub contexts: u64,
    pub labels: Vec<Vec<String>>,
    pub priorities: u64,
    pub large_percent: u64,
    pub agents: Vec<&'static str>,
    /// Of the tasks, so many are tried again after an error, after so many seconds at first and at most.
    pub retried_percent: u64,
    pub backoff_seconds: (u32, u32),
    /// So many wait for a moment, at most so far away.
    pub later_percent: u64,
    pub later_ms: u64,
    /// So many are sent under a key, and half of those again.
    pub keyed_percent: u64,
}

impl Orders {
    fn task(&self, dice: &mut Dice, wall: i64) -> NewTask {
        let context = format!("context-{}", dice.below(self.contexts));
        let length = if dice.percent(self.large_percent) { 1_500 } else { 40 };
        let prompt = format!("{:0>length$}", dice.next());
        let timeout_sec = if dice.percent(20) { 600 } else { 120 };
        let mut new = new_task(&context, prompt, timeout_sec);
        new.priority = dice.below(self.priorities) as u8;
        new.labels = dice.one(&self.labels);
        new.max_attempts = dice.between(1, 4) as u32;
        new.spec.agent_slug = dice.one(&self.agents).into();
        let (backoff_seconds, max_backoff_seconds) = self.backoff_seconds;
        new.retry = dice.percent(self.retried_percent).then(|| Retry {
            on_error: dice.percent(90),
            backoff_seconds,
            max_backoff_seconds,
        });
        let soon = wall.saturating_add(dice.below(self.later_ms) as i64);
        new.not_before = dice.percent(self.later_percent).then_some(soon);
        new
    }
}

/// Gives work, now and then much of it at once.
#[derive(Debug)]
pub struct Producer {
    pub desk: Desk,
    pub orders: Orders,
    pub pause_us: u64,
    pub burst: u64,
    pub burst_percent: u64,
    pub shift: Shift,
    /// What was last sent under a key.
    pub kept: Option<(IdempotencyKey, NewTask)>,
}

impl Producer {
    pub fn wake(&mut self, moment: &mut Moment<'_>) {
        let burst = self.desk.dice.percent(self.burst_percent);
        for _ in 0..if burst { self.burst } else { 1 } {
            let ask = self.order(moment.wall);
            self.desk.send(moment, ask, 2 * SECOND);
        }
        let pause = self.desk.dice.between(1, 2 * self.pause_us);
        self.desk.wake_at(moment, self.shift.next(moment.now + pause));
    }
}

impl Producer {
    fn order(&mut self, wall: i64) -> Ask {
        let dice = &mut self.desk.dice;
        let new = self.orders.task(dice, wall);
        if !dice.percent(self.orders.keyed_percent) {
            return Ask::Create { new, key: None };
        }
        match self.kept.clone() {
            Some((key, sent)) if dice.percent(50) => {
                // Nearly always the same again; a key for something else is a mistake.
                let new = if dice.percent(80) { sent } else { new };
                Ask::Create { new, key: Some(key) }
            }
            _ => {
                let key = IdempotencyKey::new(format!("order-{}", dice.next()).as_bytes());
                self.kept = key.clone().map(|key| (key, new.clone()));
                Ask::Create { new, key }
            }
        }
    }
}

/// A person at the page, and the programs that report on workers.
#[derive(Debug)]
pub struct Person {
    pub desk: Desk,
    pub pause_us: u64,
    pub workers: Vec<String>,
    pub labels: Vec<Vec<String>>,
}

impl Person {
    pub fn wake(&mut self, moment: &mut Moment<'_>) {
        if let Some(ask) = self.decide(moment) {
            self.desk.send(moment, ask, 2 * SECOND);
        }
        let pause = self.desk.dice.between(1, 2 * self.pause_us);
        self.desk.wake_at(moment, moment.now + pause);
    }

    fn decide(&mut self, moment: &mut Moment<'_>) -> Option<Ask> {
        let dice = &mut self.desk.dice;
        let worker = dice.one(&self.workers);
        Some(match dice.below(16) {
            0..4 => Ask::Requeue(moment.known.any_task(dice)?),
            4 | 5 => Ask::Cancel(moment.known.any_task(dice)?),
            6..9 => Ask::Register { worker, registration: registration(dice, &self.labels) },
            9 => Ask::HeardOf(worker),
            10 => {
                let url = format!("http://membridge-{}:8000", dice.below(9));
                let settings = dice.percent(70).then(|| Settings {
                    membridge_server_url: Some(url.clone()),
                    membridge_admin_key: None,
                });
                Ask::Configure { settings, detail: format!("Updated membridge URL to {url}") }
            }
            11 => Ask::Drain { worker, on: true },
            12 => {
                let tasks = (0..6).filter_map(|_| moment.known.any_task(dice)).collect();
                let what = dice.one(&[ByHand::Requeue, ByHand::Requeue, ByHand::Cancel]);
                Ask::Many { tasks, what }
            }
            13 | 14 => Ask::Drain { worker, on: false },
            _ => Ask::Remove(worker),
        })
    }
}

/// What somebody may say of a worker.
fn registration(dice: &mut Dice, labels: &[Vec<String>]) -> Registration {
    let statuses =
        [WorkerStatus::Online, WorkerStatus::Online, WorkerStatus::Offline, WorkerStatus::Error];
    Registration {
        status: dice.percent(50).then(|| dice.one(&statuses)),
        claude_cli: dice.percent(30).then(|| dice.percent(60)),
        max_concurrency: dice.percent(50).then(|| dice.between(1, 4) as u32),
        labels: dice.percent(30).then(|| dice.one(labels)),
        ..Registration::default()
    }
}

/// Asks for anything, with right, stale, wrong and missing ids.
#[derive(Debug)]
pub struct Stranger {
    pub desk: Desk,
    pub pause_us: u64,
    pub at_once: u64,
    pub workers: Vec<String>,
}

impl Stranger {
    pub fn wake(&mut self, moment: &mut Moment<'_>) {
        for _ in 0..self.desk.dice.between(1, self.at_once) {
            let ask = self.anything(moment);
            let patience = self.desk.dice.between(1, 3 * SECOND);
            self.desk.send(moment, ask, patience);
        }
        let pause = self.desk.dice.between(1, 2 * self.pause_us);
        self.desk.wake_at(moment, moment.now + pause);
    }

    fn lease(dice: &mut Dice, moment: &Moment<'_>) -> (TaskId, LeaseClaim) {
        let never = (task_id(1), lease_id(1));
        let (task, lease) = moment.known.any_lease(dice).unwrap_or(never);
        let claim = match dice.below(12) {
            0 => LeaseClaim::Unknown,
            1 => LeaseClaim::Named(LeaseId::new(lease.seq(), 7)),
            2 | 3 => LeaseClaim::Unnamed,
            _ => LeaseClaim::Named(lease),
        };
        (task, claim)
    }

    fn anything(&mut self, moment: &Moment<'_>) -> Ask {
        let dice = &mut self.desk.dice;
        let worker = match dice.percent(5) {
            true => "nobody".to_string(),
            false => dice.one(&self.workers),
        };
        let task = match moment.known.any_task(dice) {
            Some(task) if dice.percent(95) => task,
            Some(task) => TaskId::new(task.seq(), 7),
            None => task_id(9_999),
        };
        let ttl = match dice.below(4) {
            0 => None,
            _ => Some(dice.between(1, 20) as u32),
        };
        match dice.below(12) {
            0 | 1 => {
                let choice = match dice.below(6) {
                    0 => WorkerChoice::Nobody,
                    2 => WorkerChoice::Pushed(None),
                    3 => WorkerChoice::Pushed(Some(WorkerId(worker))),
                    1 => WorkerChoice::Automatic,
                    _ => WorkerChoice::Named(WorkerId(worker)),
                };
                let ttl_seconds = dice.percent(95).then_some(ttl);
                Ask::Lease { task, worker: choice, ttl_seconds }
            }
            2 | 3 => {
                let wait_ms = dice.one(&[0, 1, 500, 20_000, 90_000]);
                Ask::Claim { worker, ttl_seconds: ttl, wait_ms }
            }
            4 | 5 => {
                let (task, claim) = Self::lease(dice, moment);
                Ask::Heartbeat { task, claim }
            }
            6 | 7 => {
                let (task, claim) = Self::lease(dice, moment);
                let output = format!("said by a stranger {}", dice.below(1_000));
                let fields = dice.percent(90).then(|| result(dice.percent(50), 7, output));
                Ask::Complete { task, claim, fields }
            }
            8 => Ask::Requeue(task),
            9 => {
                let (task, claim) = Self::lease(dice, moment);
                let given =
                    dice.percent(90).then(|| hand_back(dice, &["usage_limit", "agent_died"]));
                Ask::HandBack { task, claim, given }
            }
            10 => Ask::Drain { worker, on: dice.percent(30) },
            _ => Ask::Cancel(task),
        }
    }
}
