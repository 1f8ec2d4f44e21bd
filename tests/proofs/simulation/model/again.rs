//! What happens again, and when: errors that are tried again, tasks that are handed back, workers that
//! rest, tasks whose time has not come.
//!
//! All waiting but the author's `not_before` is counted in the store's age: time during which a server had
//! it open, as far as it was written down. Must stay true: no wall clock shortens a wait. Not here: who
//! gets a task once its time has come (`workers`).

use super::super::facts::{Answer, DelayFacts, RestFacts, SALT, TaskFacts, lease_id, task_id};
use super::{Model, Rest, Told, after};
use bloom_runtime::clock::Now;
use bloom_runtime::domain::{
    Completed, CompletionStatus, HandBack, LeaseClaim, LeaseEnd, Refusal, TaskId, TaskStatus,
};

/// Trying again is of no use.
pub const TERMINAL: [&str; 5] =
    ["bad_prompt", "budget_exceeded", "not_allowed", "bad_hint", "agent_rejected"];
/// Three of these in a row, and the worker rests for a minute.
const OF_THE_PROVIDER: [&str; 4] =
    ["provider_overloaded", "provider_error", "provider_unreachable", "rate_limited"];
/// Codes of a hand-back that cost no attempt, and for how many seconds the worker rests if it does not
/// say itself.
pub const FREE: [(&str, Option<u64>); 8] = [
    ("worker_stopping", None),
    ("push_busy", None),
    ("usage_limit", Some(300)),
    ("not_logged_in", Some(60)),
    ("claude_unavailable", Some(60)),
    ("agent_unreachable", Some(60)),
    ("agent_refused_key", Some(60)),
    ("agent_unavailable", Some(60)),
];
/// With these the worker itself has said nothing.
const SILENT: [&str; 3] = ["agent_unreachable", "agent_died", "push_busy"];
/// The wall clock is looked at this often while a task waits for it.
const LOOK_MS: i64 = 30_000;

/// The store's age: at the start of this process, when that was, and what is written of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Age {
    at_open: u64,
    opened: u64,
    on_disk: u64,
}

impl Age {
    fn at(self, mono: u64) -> u64 {
        self.at_open + (mono - self.opened)
    }

    /// The first tick at which it is certainly more than this.
    fn passes(self, age_ms: u64) -> u64 {
        after(self.opened, age_ms.saturating_sub(self.at_open))
    }
}

/// What a queued task waits for besides a worker: first for its backoff, then for its author's moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Waits {
    Nothing,
    Age(u64),
    Wall(i64),
}

impl Waits {
    /// Of a task that is put into the queue at this moment.
    pub fn of(facts: &TaskFacts, age_ms: u64, wall: i64) -> Waits {
        match facts.delay {
            Some(delay) if delay.age_ms > age_ms => Waits::Age(delay.age_ms),
            _ => Waits::for_moment(facts, wall),
        }
    }

    fn for_moment(facts: &TaskFacts, wall: i64) -> Waits {
        facts.not_before.filter(|moment| *moment > wall).map_or(Waits::Nothing, Waits::Wall)
    }
}

impl Model {
    pub(super) fn age(&self) -> u64 {
        self.age.at(self.now.mono.0)
    }

    fn in_ms(&self, ms: u64) -> DelayFacts {
        DelayFacts { age_ms: self.age() + ms, wall: self.now.wall.saturating_add(ms as i64) }
    }

    /// What a step that tells of something writes down with it.
    pub(super) fn write_age(&mut self) {
        self.age.on_disk = self.age();
    }

    /// An orderly stop writes down what an idle store has aged, if that is more than a minute.
    pub(super) fn stop(&mut self) {
        if self.age() > self.age.on_disk + 60_000 {
            self.write_age();
            self.writes = true;
        }
    }

    /// A restart knows the age that was written down, and begins all waits with what is left of them.
    pub(super) fn resume_waits(&mut self, now: Now) {
        let age_ms = self.age.on_disk;
        self.age = Age { at_open: age_ms, opened: now.mono.0, on_disk: age_ms };
        for row in self.live.values_mut() {
            row.waits = Waits::of(&row.facts, age_ms, now.wall);
        }
        for member in self.workers.values_mut() {
            member.provider_failures = 0;
            if let Some(rest) = &mut member.rest {
                rest.due = self.age.passes(rest.facts.until.age_ms);
            }
        }
    }

    /// Notices whose time has come. It stays so: a wall clock that goes back takes nothing away.
    pub(super) fn notice_times(&mut self) {
        let (age_ms, wall) = (self.age(), self.now.wall);
        for row in self.live.values_mut() {
            match row.waits {
                Waits::Age(until) if until >= age_ms => {}
                Waits::Age(_) | Waits::Wall(_) => row.waits = Waits::for_moment(&row.facts, wall),
                Waits::Nothing => {}
            }
        }
    }

    /// When the server must look again because of a task that waits for its time.
    pub fn times(&self) -> impl Iterator<Item = u64> {
        let queued = self.live.values().filter(|row| row.facts.status == TaskStatus::Queued);
        queued.filter_map(|row| match row.waits {
            Waits::Nothing => None,
            Waits::Age(until) => Some(self.age.passes(until)),
            Waits::Wall(moment) => {
                let look = moment.saturating_sub(self.now.wall).clamp(0, LOOK_MS);
                Some(after(self.now.mono.0, look as u64))
            }
        })
    }

    /// Whether an error is tried again, and when: the wait doubles with each attempt, has a limit, and
    /// is up to a fifth shorter or longer. Which it is, is chance; here that is the same for all.
    pub(super) fn tried_again(&self, facts: &TaskFacts, said: &Completed) -> Option<DelayFacts> {
        let retry = facts.retry.filter(|retry| retry.on_error)?;
        let of_no_use = said.code.as_deref().is_some_and(|code| TERMINAL.contains(&code));
        if said.status == CompletionStatus::Success
            || of_no_use
            || facts.attempts >= facts.max_attempts
        {
            return None;
        }
        let mut seconds = u64::from(retry.backoff_seconds);
        (1..facts.attempts).for_each(|_| seconds *= 2);
        let ms = seconds.min(u64::from(retry.max_backoff_seconds)) * 1000;
        let fifth = ms / 5;
        Some(self.in_ms(ms - fifth + SALT as u64 % (2 * fifth + 1)))
    }

    pub(super) fn hand_back(
        &mut self,
        task: TaskId,
        claim: LeaseClaim,
        given: Option<&HandBack>,
    ) -> Told {
        let row = self.find(task)?;
        if !Self::is_holder(&row.facts, claim) {
            let by = |id| {
                let same = |past: &super::super::facts::PastFacts| {
                    lease_id(past.lease.number) == id && past.end == LeaseEnd::Released
                };
                row.facts.past.iter().any(same)
            };
            return match claim {
                LeaseClaim::Named(id) if by(id) => {
                    Ok(Answer::Task(row.facts.clone(), row.spec.clone()))
                }
                LeaseClaim::Unnamed if row.facts.lease.is_none() => {
                    Err(Refusal::NotLeased(row.facts.status))
                }
                _ => Err(Refusal::LeaseLost),
            };
        }
        let Some(given) = given else { return Err(Refusal::InvalidFields) };
        let number = task.seq();
        let lease = row.facts.lease.clone().expect("its holder asks");
        if !SILENT.contains(&given.code.as_str()) {
            self.heard_of(&lease.worker);
        }
        let free = FREE.into_iter().find(|(code, _)| *code == given.code);
        let facts = &mut self.live.get_mut(&number).expect("it is held").facts;
        facts.attempts -= u32::from(free.is_some());
        facts.tainted = true;
        let attempts_left = facts.attempts < facts.max_attempts;
        let status = if attempts_left { TaskStatus::Queued } else { TaskStatus::Dead };
        self.end_lease(number, LeaseEnd::Released, None, status);
        self.give_reason(number, Some(given.code.clone()), given.note.clone());
        let id = lease_id(lease.number).to_string();
        let line = self.line("lease", id, &lease.worker, None);
        self.tell("task_released", task_id(number).to_string(), Some(line));
        if let Some((code, Some(usual))) = free {
            let longest = u64::from(bloom_runtime::domain::REST_SECONDS_MAX);
            let asked = given.retry_after_seconds.map(|asked| u64::from(asked).min(longest));
            let ms = 1000 * asked.unwrap_or(usual).max(1);
            self.rest(&lease.worker, ms, code, given.note.clone().unwrap_or_default());
        }
        let row = self.row(number).expect("handed back just now");
        Ok(Answer::Task(row.facts.clone(), row.spec.clone()))
    }

    /// It takes no tasks for so long, unless it rests longer already.
    fn rest(&mut self, name: &str, ms: u64, code: &str, message: String) {
        let until = self.in_ms(ms);
        let due = after(self.now.mono.0, ms);
        let Some(member) = self.workers.get_mut(name) else { return };
        if member.rest.as_ref().is_some_and(|rest| rest.facts.until.age_ms >= until.age_ms) {
            return;
        }
        member.rest = Some(Rest { due, facts: RestFacts { until, code: code.into(), message } });
        let detail = format!("Worker {name} takes no tasks for {}s: {code}", ms.div_ceil(1000));
        self.change_worker("worker_cooling", name, "runtime", detail);
    }

    /// Who has rested takes tasks again, the first to be done first.
    pub(super) fn end_rests(&mut self) {
        let mono = self.now.mono.0;
        let rest = |(name, member): (&String, &super::Member)| {
            member
                .rest
                .as_ref()
                .filter(|rest| rest.due <= mono)
                .map(|rest| (rest.due, name.clone()))
        };
        let mut rested: Vec<(u64, String)> = self.workers.iter().filter_map(rest).collect();
        rested.sort_unstable();
        for (_, name) in rested {
            self.workers.get_mut(&name).expect("listed above").rest = None;
            let detail = format!("Worker {name} has rested and takes tasks again");
            self.change_worker("worker_ready", &name, "runtime", detail);
        }
    }

    /// Three errors of the provider in a row, whatever the tasks, and the worker rests.
    pub(super) fn judge_provider(&mut self, name: &str, said: &Completed) {
        let Some(member) = self.workers.get_mut(name) else { return };
        let of_the_provider = |code: &&str| OF_THE_PROVIDER.contains(code);
        match said.code.as_deref().filter(of_the_provider) {
            Some(code) if said.status == CompletionStatus::Error => {
                member.provider_failures += 1;
                if member.provider_failures == 3 {
                    member.provider_failures = 0;
                    let message = "3 tasks in a row failed at the provider".to_string();
                    self.rest(name, 60_000, code, message);
                }
            }
            _ => member.provider_failures = 0,
        }
    }

    pub(super) fn drain(&mut self, name: &str, on: bool) -> Told {
        let Some(member) = self.workers.get_mut(name) else { return Err(Refusal::WorkerNotFound) };
        let changes = member.draining != on || (!on && member.rest.is_some());
        member.draining = on;
        if !on {
            member.rest = None;
        }
        if changes {
            let (kind, words) = match on {
                true => ("worker_drained", "takes no more tasks"),
                false => ("worker_undrained", "takes tasks again"),
            };
            self.change_worker(kind, name, "admin", format!("Worker {name} {words}"));
        }
        Ok(Answer::Worker(self.worker_facts(name)))
    }
}
