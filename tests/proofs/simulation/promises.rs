//! The promises that need no model: what a task's history must add up to, and a ledger of times that have
//! really passed, whatever the server's clocks show.
//!
//! Must stay true: nothing here knows how the server counts; times are true microseconds. Not here: exact
//! answers and records (`model`, `check`).

use super::check::{Checked, ensure, same};
use super::facts::{Answer, Ask, Call, DelayFacts, TaskFacts, lease_id};
use super::fleet::SECOND;
use super::model::again::{FREE, TERMINAL};
use super::model::{Change, Model, Row};
use bloom_runtime::domain::{LeaseEnd, TaskStatus};
use std::collections::{BTreeMap, BTreeSet};

/// How much later than promised a thing may happen.
const LATE_US: u64 = SECOND;

/// P3: fencing numbers grow with every grant. What was tried since the task was last put into the queue
/// afresh is what its attempts say, no more than it may be, and nothing is tried again that must not be.
pub fn history(row: &Row) -> Checked {
    let facts = &row.facts;
    let number = facts.number;
    let past = facts.past.iter().map(|past| &past.lease);
    let all: Vec<u32> = past.chain(&facts.lease).map(|lease| lease.fence).collect();
    ensure!(all.is_sorted_by(|a, b| a < b), "P3: fences {all:?} of task {number}");
    same("P3: the newest fence", all.last().copied().unwrap_or(0), facts.grants)?;
    let has_lease = matches!(facts.status, TaskStatus::Leased | TaskStatus::Running);
    same("P2: it holds a lease when its status says so", facts.lease.is_some(), has_lease)?;
    let since = || facts.past.iter().filter(|past| past.lease.fence > row.fresh_at);
    let costs_nothing = |code: &Option<String>| {
        FREE.iter().any(|(free, _)| code.as_deref().is_some_and(|code| code == *free))
    };
    let free = since().filter(|past| past.end == LeaseEnd::Released && costs_nothing(&past.code));
    if facts.past.len() < 100 {
        let tried = facts.grants - row.fresh_at - free.count() as u32;
        same("attempts made and not given back", facts.attempts, tried)
            .map_err(|why| format!("task {number}: {why}"))?;
    }
    ensure!(facts.attempts <= facts.max_attempts, "task {number} was tried too often");
    let next = |fence| since().any(|later| later.lease.fence > fence) || facts.lease.is_some();
    for past in since().filter(|past| past.end == LeaseEnd::Completed) {
        let again = next(past.lease.fence) || facts.status == TaskStatus::Queued;
        let asked = facts.retry.is_some_and(|retry| retry.on_error);
        let terminal = past.code.as_deref().is_some_and(|code| TERMINAL.contains(&code));
        ensure!(!again || (asked && !terminal), "task {number} was tried again after {past:?}");
    }
    Ok(())
}

/// What was asked of a step that its answers alone do not tell.
#[derive(Default)]
pub struct Noted {
    /// Hand-backs by call: the task, and for how many seconds its holder rests.
    rests: Vec<(u64, u64, u64)>,
    /// Workers that a person sends back to work, or takes away.
    lifted: BTreeSet<String>,
    /// Tasks that somebody asks for by name, who does not wait for their time.
    by_name: BTreeSet<u64>,
    /// Workers that ask for tasks, which ends a rest for calls that they never waited for.
    claimed: BTreeSet<String>,
}

impl Noted {
    pub fn of(calls: &[Call]) -> Noted {
        let mut noted = Noted::default();
        for call in calls {
            match &call.ask {
                Ask::HandBack { task, given: Some(given), .. } => {
                    let usual = FREE.iter().find(|(code, _)| *code == given.code);
                    if let Some((_, Some(usual))) = usual {
                        let asked = given.retry_after_seconds.map_or(*usual, u64::from);
                        noted.rests.push((call.id, task.seq(), asked));
                    }
                }
                Ask::Drain { worker, on: false } | Ask::Remove(worker) => {
                    noted.lifted.insert(worker.clone());
                }
                Ask::Lease { task, .. } => {
                    noted.by_name.insert(task.seq());
                }
                Ask::Claim { worker, .. } => {
                    noted.claimed.insert(worker.clone());
                }
                _ => {}
            }
        }
        noted
    }
}

/// A rest of a worker, at least until then.
#[derive(Debug)]
struct Rest {
    until: u64,
    code: String,
}

/// From when until when a task may be tried again that has failed.
#[derive(Debug)]
struct Backoff {
    shown: DelayFacts,
    earliest: u64,
    latest: u64,
}

impl Backoff {
    fn of(facts: &TaskFacts, now: u64) -> Backoff {
        let retry = facts.retry.expect("it is tried again");
        let doubled = u64::from(retry.backoff_seconds) << (facts.attempts - 1);
        let full = doubled.min(u64::from(retry.max_backoff_seconds)) * SECOND;
        let shown = facts.delay.expect("it waits");
        Backoff { shown, earliest: now + full / 5 * 4, latest: now + full / 5 * 6 }
    }
}

/// What was promised until when, in time that has really passed.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Active leases by task: the lease, its holder's last sign of life, its length.
    signs: BTreeMap<u64, (u64, u64, u64)>,
    /// Tasks that wait to be tried again: not before, and at the latest.
    backoffs: BTreeMap<u64, Backoff>,
    /// Workers that rest, at least until then.
    rests: BTreeMap<String, Rest>,
    last_lease: u64,
    /// When the server last wrote down how old its store is.
    written: u64,
}

impl Ledger {
    /// Everyone who holds a lease gets its full time from now; what was not written down of the time that
    /// the store was open must be waited for once more.
    pub fn restart(&mut self, model: &Model, now: u64) {
        self.signs.clear();
        model.live.values().for_each(|row| self.sign(row, now));
        let waits = |number: &u64| model.live.get(number).is_some_and(|row| waits(&row.facts));
        self.backoffs.retain(|number, _| waits(number));
        let lost = now - self.written;
        self.backoffs.values_mut().for_each(|backoff| backoff.latest += lost);
        let rests = |name: &String| model.workers.get(name).is_some_and(|m| m.rest.is_some());
        self.rests.retain(|name, _| rests(name));
        self.last_lease = model.last_lease;
        self.written = now;
    }

    fn sign(&mut self, row: &Row, now: u64) {
        if let Some(lease) = &row.facts.lease {
            let ttl = u64::from(lease.ttl_seconds) * SECOND;
            self.signs.insert(row.facts.number, (lease.number, now, ttl));
        }
    }

    pub fn check(
        &mut self,
        model: &Model,
        now: u64,
        noted: &Noted,
        answers: &BTreeMap<u64, Answer>,
    ) -> Checked {
        self.leases(model, now)?;
        self.rests.retain(|name, rest| {
            let was_called = rest.code.starts_with("agent_") && noted.claimed.contains(name);
            !noted.lifted.contains(name) && !was_called
        });
        for number in &model.touched {
            let row = model.row(*number).expect("touched");
            self.grant(model, row, now, !noted.by_name.contains(number))?;
            history(row)?;
            let known = self.backoffs.get(number).map(|backoff| backoff.shown);
            if !waits(&row.facts) {
                self.backoffs.remove(number);
            } else if known != row.facts.delay {
                self.backoffs.insert(*number, Backoff::of(&row.facts, now));
            }
        }
        for (call, task, _) in &noted.rests {
            let Some(Answer::Task(facts, _)) = answers.get(call) else { continue };
            let lease = &facts.past.last().expect("it was held").lease;
            let id = lease_id(lease.number).to_string();
            let ended_now = |told: &Change| {
                told.kind == "task_released"
                    && told.audit.as_ref().is_some_and(|line| line.id == id)
            };
            if model.told.iter().any(ended_now) {
                let holder = &lease.worker;
                let resting = model.workers.get(holder).is_some_and(|m| m.rest.is_some());
                // Which of several that were answered came first is not seen here; the others did nothing.
                let same = noted.rests.iter().filter(|(_, other, _)| other == task);
                let seconds = same.map(|(_, _, seconds)| seconds).min().expect("this one");
                if resting && !noted.lifted.contains(holder) {
                    let code = facts.past.last().and_then(|past| past.code.clone());
                    let until = now + seconds * SECOND;
                    let known = self.rests.get(holder).is_some_and(|rest| rest.until >= until);
                    if !known {
                        let rest = Rest { until, code: code.unwrap_or_default() };
                        self.rests.insert(holder.clone(), rest);
                    }
                }
            }
        }
        self.last_lease = model.last_lease;
        if !model.told.is_empty() {
            self.written = now;
        }
        Ok(())
    }

    /// P4, P5: no lease ends early, and none that nobody renews ends late.
    fn leases(&mut self, model: &Model, now: u64) -> Checked {
        for number in &model.touched {
            let row = model.row(*number).expect("touched");
            if let Some((lease, heard, ttl)) = self.signs.remove(number) {
                let ended = row.facts.past.iter().find(|past| past.lease.number == lease);
                let expired = ended.is_some_and(|past| past.end == LeaseEnd::Expired);
                ensure!(
                    !expired || now >= heard + ttl,
                    "P4: lease {lease} of task {number} ended {} µs early",
                    heard + ttl - now
                );
            }
            self.sign(row, now);
        }
        for (number, (lease, heard, ttl)) in &self.signs {
            ensure!(
                now <= heard + ttl + LATE_US,
                "P5: lease {lease} of task {number} is {} µs overdue",
                now - heard - ttl
            );
        }
        Ok(())
    }

    /// A task that was lent in this step was not lent too early, not to somebody who rests, and not
    /// beyond its agent's limit.
    fn grant(&self, model: &Model, row: &Row, now: u64, waited: bool) -> Checked {
        let number = row.facts.number;
        let Some(lease) = row.facts.lease.as_ref().filter(|lease| lease.number > self.last_lease)
        else {
            return Ok(());
        };
        if let (true, Some(backoff)) = (waited, self.backoffs.get(&number)) {
            let early = backoff.earliest.saturating_sub(now);
            ensure!(early == 0, "P4: task {number} was tried again {early} µs early");
        }
        if let Some(rest) = self.rests.get(&lease.worker) {
            let early = rest.until.saturating_sub(now);
            ensure!(early == 0, "P4: {} got task {number} {early} µs early", lease.worker);
        }
        if let Some((agent, limit)) = model.limits.iter().find(|one| one.0 == row.spec.agent) {
            let of_agent = model.live.values().filter(|row| row.spec.agent == *agent);
            let held = of_agent.filter(|row| row.facts.lease.is_some()).count();
            ensure!(held <= *limit as usize, "{agent} holds {held} leases of {limit}");
        }
        Ok(())
    }

    /// P5: no task waits whose time has come while somebody waits who may take it.
    pub fn nobody_is_stuck(&self, model: &Model, now: u64, wall: i64) -> Checked {
        let full = model.agents_at_limit();
        let has_come = |facts: &TaskFacts| {
            let tried = self.backoffs.get(&facts.number);
            facts.not_before.is_none_or(|moment| moment <= wall)
                && tried.map_or(facts.delay.is_none(), |tried| now > tried.latest + LATE_US)
        };
        let free: Vec<_> = model
            .waiting
            .iter()
            .filter(|wait| model.workers.contains_key(&wait.worker))
            .map(|wait| model.worker_facts(&wait.worker))
            .filter(|worker| {
                worker.shown.as_str() == "online"
                    && worker.claude_cli
                    && worker.active < worker.max_concurrency
                    && !worker.draining
                    && worker.rest.is_none()
            })
            .collect();
        for row in model.live.values().filter(|_| !free.is_empty()) {
            let facts = &row.facts;
            let ready = facts.status == TaskStatus::Queued
                && has_come(facts)
                && !full.contains(&row.spec.agent.as_str());
            let fits = free.iter().find(|w| facts.labels.iter().all(|l| w.labels.contains(l)));
            if let (true, Some(worker)) = (ready, fits) {
                return Err(format!(
                    "P5: {} waits, and does not get task {}",
                    worker.name, facts.number
                ));
            }
        }
        Ok(())
    }
}

/// Whether it waits to be tried again.
fn waits(facts: &TaskFacts) -> bool {
    facts.status == TaskStatus::Queued && facts.delay.is_some()
}
