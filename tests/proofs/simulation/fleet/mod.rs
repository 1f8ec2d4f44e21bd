//! Everyone who talks to the server: producers, workers, people, strangers.
//!
//! Each is a small machine of its own with its own dice, woken by its alarm or by an answer, which may
//! be lost, late or doubled. Must stay true: an actor knows only what it was told. Not here: the line
//! (`network`), pauses and crashes, which befall actors from outside (`world`).

mod others;
mod worker;

pub use others::{Orders, Person, Producer, Stranger};
pub use worker::{Conduct, Habits, Worker};

use super::dice::Dice;
use super::facts::{Answer, Ask};
use bloom_runtime::domain::{
    Completed, CompletionStatus, DesiredFormat, HandBack, LeaseId, Metrics, NewTask, Policy,
    TaskId, TaskSpec,
};
use std::collections::VecDeque;

pub const SECOND: u64 = 1_000_000;
pub const HOUR: u64 = 3_600 * SECOND;
pub const DAY: u64 = 24 * HOUR;
const TASKS_KNOWN: usize = 300;
const LEASES_KNOWN: usize = 100;

/// When somebody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shift {
    Always,
    /// Eight hours of the first five days of a week.
    Office,
}

impl Shift {
    /// The first moment from now on that is within it.
    pub fn next(self, now: u64) -> u64 {
        let (day, hour) = (now / DAY, now % DAY / HOUR);
        let today = day % 7 < 5;
        match self {
            Shift::Office if !today || hour >= 17 => {
                let days = if today && day % 7 < 4 { 1 } else { 7 - day % 7 };
                (day + days) * DAY + 9 * HOUR
            }
            Shift::Office if hour < 9 => day * DAY + 9 * HOUR,
            Shift::Office | Shift::Always => now,
        }
    }
}

/// What has got around: ids that somebody was told once.
#[derive(Debug, Default)]
pub struct Known {
    pub tasks: VecDeque<TaskId>,
    pub leases: VecDeque<(TaskId, LeaseId)>,
}

impl Known {
    pub fn task(&mut self, id: TaskId) {
        self.tasks.push_back(id);
        if self.tasks.len() > TASKS_KNOWN {
            self.tasks.pop_front();
        }
    }

    pub fn lease(&mut self, task: TaskId, lease: LeaseId) {
        self.leases.push_back((task, lease));
        if self.leases.len() > LEASES_KNOWN {
            self.leases.pop_front();
        }
    }

    /// Any task, half of the time one of the newest.
    pub fn any_task(&self, dice: &mut Dice) -> Option<TaskId> {
        let tasks = self.tasks.len() as u64;
        let newest = tasks.min(8);
        let from = if dice.percent(50) { tasks - newest } else { 0 };
        (tasks > 0).then(|| self.tasks[(from + dice.below(tasks - from)) as usize])
    }

    pub fn any_lease(&self, dice: &mut Dice) -> Option<(TaskId, LeaseId)> {
        let leases = self.leases.len() as u64;
        (leases > 0).then(|| self.leases[dice.below(leases) as usize])
    }
}

/// What an actor wants done.
#[allow(clippy::large_enum_variant, reason = "made and taken apart at once")]
#[derive(Debug)]
pub enum Wish {
    /// A request; after `patience_us` nobody waits for its answer any more.
    Send { ticket: u64, ask: Ask, patience_us: u64 },
    /// To be woken; only the latest alarm counts.
    Wake { at: u64, stamp: u64 },
}

/// The moment in which an actor acts.
pub struct Moment<'a> {
    pub now: u64,
    /// What clocks on walls show, Unix milliseconds.
    pub wall: i64,
    pub known: &'a mut Known,
    pub wishes: Vec<Wish>,
}

/// Numbers an actor's requests and alarms.
#[derive(Debug)]
pub struct Desk {
    pub dice: Dice,
    pub ticket: u64,
    pub stamp: u64,
}

impl Desk {
    pub fn new(dice: Dice) -> Self {
        Desk { dice, ticket: 0, stamp: 0 }
    }

    fn send(&mut self, moment: &mut Moment<'_>, ask: Ask, patience_us: u64) -> u64 {
        self.ticket += 1;
        moment.wishes.push(Wish::Send { ticket: self.ticket, ask, patience_us });
        self.ticket
    }

    fn wake_at(&mut self, moment: &mut Moment<'_>, at: u64) {
        self.stamp += 1;
        moment.wishes.push(Wish::Wake { at: at.max(moment.now + 1), stamp: self.stamp });
    }
}

/// One of the fleet.
#[derive(Debug)]
pub enum Actor {
    Producer(Box<Producer>),
    Worker(Box<Worker>),
    Person(Person),
    Stranger(Stranger),
}

impl Actor {
    pub fn desk(&self) -> &Desk {
        match self {
            Actor::Producer(actor) => &actor.desk,
            Actor::Worker(actor) => &actor.desk,
            Actor::Person(actor) => &actor.desk,
            Actor::Stranger(actor) => &actor.desk,
        }
    }

    pub fn wake(&mut self, moment: &mut Moment<'_>) {
        match self {
            Actor::Producer(actor) => actor.wake(moment),
            Actor::Worker(actor) => actor.wake(moment),
            Actor::Person(actor) => actor.wake(moment),
            Actor::Stranger(actor) => actor.wake(moment),
        }
    }

    /// `answer` is None when the line broke.
    pub fn answered(&mut self, moment: &mut Moment<'_>, ticket: u64, answer: Option<&Answer>) {
        match answer {
            Some(Answer::Task(task, _)) => moment.known.task(super::facts::task_id(task.number)),
            Some(Answer::Claimed(task, _, lease)) => {
                let lease = super::facts::lease_id(lease.number);
                moment.known.lease(super::facts::task_id(task.number), lease);
            }
            Some(Answer::Leased(task, lease, _)) => {
                let lease = super::facts::lease_id(lease.number);
                moment.known.lease(super::facts::task_id(*task), lease);
            }
            _ => {}
        }
        if let Actor::Worker(worker) = self {
            worker.answered(moment, ticket, answer);
        }
    }
}

pub fn new_task(context: &str, prompt: String, timeout_sec: u32) -> NewTask {
    NewTask {
        context_id: context.into(),
        spec: TaskSpec {
            agent_slug: "writer".into(),
            prompt,
            context_hints: Vec::new(),
            policy: Policy { timeout_sec, budget: 0.0 },
            desired_format: DesiredFormat::Text,
        },
        priority: 0,
        labels: Vec::new(),
        max_attempts: 3,
        retry: None,
        not_before: None,
    }
}

/// Why a task comes back, by chance.
pub fn hand_back(dice: &mut Dice, codes: &[&str]) -> HandBack {
    HandBack {
        code: dice.one(codes).into(),
        note: dice.percent(50).then(|| format!("for reason {}", dice.below(9))),
        retry_after_seconds: dice.percent(80).then(|| dice.between(0, 20) as u32),
    }
}

pub fn result(succeeded: bool, duration_ms: u64, output: String) -> Completed {
    Completed {
        status: if succeeded { CompletionStatus::Success } else { CompletionStatus::Error },
        output: Some(output),
        error_message: (!succeeded).then(|| "it did not work".into()),
        code: None,
        metrics: Metrics { duration_ms, ..Metrics::default() },
        artifact_type: "LLM_RESULT".into(),
        artifact_tags: Vec::new(),
    }
}
