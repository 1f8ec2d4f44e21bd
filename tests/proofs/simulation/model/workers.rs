//! Workers, and who gets which task: the gate, the two orders of choice, the claims that wait.

use super::super::facts::{Answer, Call, TaskFacts, WorkerFacts};
use super::again::Waits;
use super::{Member, Model, Row, Wait, after};
use bloom_runtime::domain::{NoWorker, Refusal, Registration, TaskStatus, WorkerStatus};
use std::cmp::Reverse;
use std::collections::BTreeMap;

pub(super) const SILENCE_MS: u64 = 60_000;
const WORKERS_MAX: usize = 10_000;
const WAITING_MAX: usize = 8_192;

impl Model {
    pub fn active_leases(&self, worker: &str) -> u32 {
        let held = self.live.values().filter_map(|row| row.facts.lease.as_ref());
        held.filter(|lease| lease.worker == worker).count() as u32
    }

    fn holds_context(&self, worker: &str, context: &str) -> bool {
        self.live.values().any(|row| {
            row.facts.context == context
                && row.facts.lease.as_ref().is_some_and(|lease| lease.worker == worker)
        })
    }

    pub fn worker_facts(&self, name: &str) -> WorkerFacts {
        let member = &self.workers[name];
        let silent = member.said == WorkerStatus::Online && !member.alive;
        WorkerFacts {
            name: name.to_string(),
            seq: member.seq,
            said: member.said,
            shown: if silent { WorkerStatus::Offline } else { member.said },
            claude_cli: member.claude_cli,
            max_concurrency: member.max_concurrency,
            labels: member.labels.clone(),
            heard: member.heard,
            active: self.active_leases(name),
            registered: member.registered,
            draining: member.draining,
            url: member.url.clone(),
            claims: member.claims,
            pushed: self.is_called(member),
            rest: member.rest.as_ref().map(|rest| rest.facts.clone()),
        }
    }

    /// Whether a worker may take one more task with these labels, and if not, why.
    fn gate(&self, name: &str, labels: &[String]) -> Result<(), NoWorker> {
        let member = &self.workers[name];
        if member.said != WorkerStatus::Online || !member.alive {
            Err(NoWorker::NotOnline)
        } else if !member.claude_cli {
            Err(NoWorker::NoClaudeCli)
        } else if labels.iter().any(|label| !member.labels.contains(label)) {
            Err(NoWorker::LabelMissing)
        } else if member.draining {
            Err(NoWorker::Draining)
        } else if member.rest.is_some() {
            Err(NoWorker::Cooling)
        } else if self.active_leases(name) >= member.max_concurrency {
            Err(NoWorker::AtCapacity)
        } else {
            Ok(())
        }
    }

    pub(super) fn if_it_may(&self, name: &str, task: &TaskFacts) -> Result<String, NoWorker> {
        if !self.workers.contains_key(name) {
            return Err(NoWorker::Unknown);
        }
        self.gate(name, &task.labels).map(|()| name.to_string())
    }

    pub(super) fn best_of_all(&self, task: &TaskFacts) -> Result<String, NoWorker> {
        self.best(task, self.workers.keys())
    }

    /// The context's holder first, then the most free, then by name; or the reason of the one who
    /// came nearest.
    pub(super) fn best<'a>(
        &self,
        task: &TaskFacts,
        names: impl Iterator<Item = &'a String> + Clone,
    ) -> Result<String, NoWorker> {
        let able = names.clone().filter(|name| self.gate(name, &task.labels).is_ok());
        let best = able.min_by_key(|name| {
            let free = self.workers[*name].max_concurrency - self.active_leases(name);
            let sticks = self.holds_context(name, &task.context);
            (Reverse(sticks), Reverse(free), (*name).clone())
        });
        if let Some(best) = best {
            return Ok(best.clone());
        }
        let reasons: Vec<_> =
            names.filter_map(|name| self.gate(name, &task.labels).err()).collect();
        let from_near_to_far = [
            NoWorker::AtCapacity,
            NoWorker::Cooling,
            NoWorker::Draining,
            NoWorker::LabelMissing,
            NoWorker::NoClaudeCli,
            NoWorker::NotOnline,
        ];
        let nearest = from_near_to_far.into_iter().find(|reason| reasons.contains(reason));
        Err(nearest.unwrap_or(NoWorker::NoneRegistered))
    }

    /// The agents of which as many tasks are leased as may be.
    pub fn agents_at_limit(&self) -> Vec<&str> {
        let leased = |agent: &String| {
            let held = self.live.values().filter(|row| row.facts.lease.is_some());
            held.filter(|row| row.spec.agent == *agent).count()
        };
        let full = self.limits.iter().filter(|(agent, limit)| leased(agent) >= *limit as usize);
        full.map(|(agent, _)| agent.as_str()).collect()
    }

    /// Queued tasks that may be handed out now, in the order in which they are.
    fn queued(&self) -> Vec<&TaskFacts> {
        let full = self.agents_at_limit();
        let mut queued: Vec<&TaskFacts> = self
            .live
            .values()
            .filter(|row| row.facts.status == TaskStatus::Queued && row.waits == Waits::Nothing)
            .filter(|row| !full.contains(&row.spec.agent.as_str()))
            .map(|row| &row.facts)
            .collect();
        queued.sort_by_key(|facts| (Reverse(facts.priority), facts.number));
        queued
    }

    /// What a worker that asks gets: the first that it may take, or among equals of that priority
    /// the first whose context it holds.
    fn next_task(&self, name: &str) -> Option<u64> {
        if self.live.is_empty() {
            return None;
        }
        self.gate(name, &[]).ok()?;
        let mut fitting = self.queued();
        fitting.retain(|task| self.gate(name, &task.labels).is_ok());
        let first = fitting.first()?;
        let mut equals = fitting.iter().filter(|task| task.priority == first.priority);
        let sticky = equals.find(|task| self.holds_context(name, &task.context));
        Some(sticky.unwrap_or(first).number)
    }

    pub(super) fn claim(
        &mut self,
        call: &Call,
        worker: &str,
        ttl_seconds: Option<u32>,
        wait_ms: u64,
        answers: &mut BTreeMap<u64, Answer>,
    ) -> Option<Answer> {
        if call.gone {
            return None;
        }
        if !self.workers.contains_key(worker) {
            return Some(Answer::Refused(Refusal::WorkerNotFound));
        }
        self.heard_of(worker);
        self.calls_no_more(worker, answers);
        self.serve_or_wait(call, worker, ttl_seconds, wait_ms)
    }

    pub(super) fn serve_or_wait(
        &mut self,
        call: &Call,
        worker: &str,
        ttl_seconds: Option<u32>,
        wait_ms: u64,
    ) -> Option<Answer> {
        if let Some(number) = self.next_task(worker) {
            return Some(self.hand_out(number, worker, ttl_seconds));
        }
        if wait_ms == 0 || self.released {
            return Some(Answer::NoTask);
        }
        if self.waiting.len() >= WAITING_MAX {
            return Some(Answer::Refused(Refusal::TooManyWaiting));
        }
        let until = after(self.now.mono.0, wait_ms);
        let worker = worker.to_string();
        self.waiting.push(Wait { call: call.id, worker, ttl_seconds, until });
        None
    }

    fn hand_out(&mut self, number: u64, worker: &str, ttl_seconds: Option<u32>) -> Answer {
        let lease = self.grant(number, worker, ttl_seconds);
        let row = self.row(number).expect("granted just now");
        Answer::Claimed(row.facts.clone(), row.spec.clone(), lease)
    }

    /// The first task that somebody who waits may take goes to the best of those, as long as there
    /// is one; of several claims of that worker the one whose wait ends first is served.
    pub(super) fn serve_those_who_wait(&mut self, answers: &mut BTreeMap<u64, Answer>) {
        let is_queued = |row: &Row| row.facts.status == TaskStatus::Queued;
        while !self.waiting.is_empty() && self.live.values().any(is_queued) {
            let names = || self.waiting.iter().map(|wait| &wait.worker);
            let known: Vec<&String> =
                names().filter(|name| self.workers.contains_key(*name)).collect();
            let able = known.iter().any(|name| self.gate(name, &[]).is_ok());
            if !able {
                return;
            }
            let match_of = |task: &&TaskFacts| {
                let best = self.best(task, known.iter().copied()).ok()?;
                Some((task.number, best))
            };
            let Some((number, worker)) = self.queued().iter().find_map(match_of) else { return };
            let mut claims = self.waiting.iter().enumerate().filter(|(_, w)| w.worker == worker);
            let first = claims.next().expect("it waits");
            let (place, _) = claims
                .fold(first, |first, wait| if wait.1.until < first.1.until { wait } else { first });
            let wait = self.waiting.remove(place);
            let answer = self.hand_out(number, &worker, wait.ttl_seconds);
            answers.insert(wait.call, answer);
        }
    }

    pub(super) fn register(&mut self, name: &str, said: &Registration) -> Result<Answer, Refusal> {
        let known = self.workers.get(name);
        if known.is_none() && self.workers.len() >= WORKERS_MAX {
            return Err(Refusal::TooManyWorkers);
        }
        let is_new = known.is_none();
        let wall = self.now.wall;
        let mut member = known.cloned().unwrap_or(Member {
            seq: self.last_change + 1,
            said: WorkerStatus::Online,
            claude_cli: true,
            max_concurrency: 1,
            labels: Vec::new(),
            registered: wall,
            heard: None,
            heard_on_disk: None,
            silent_at: 0,
            alive: true,
            draining: false,
            rest: None,
            url: String::new(),
            program: None,
            claims: false,
            provider_failures: 0,
        });
        let before = member.clone();
        member.said = said.status.unwrap_or(WorkerStatus::Online);
        member.claude_cli = said.claude_cli.unwrap_or(member.claude_cli);
        member.max_concurrency = said.max_concurrency.unwrap_or(member.max_concurrency);
        if let Some(labels) = &said.labels {
            member.labels = labels.clone();
        }
        member.url = said.url.clone().unwrap_or(member.url);
        member.program = said.agent_version.clone().or(member.program);
        // Another program, or one at another place, may be one that waits to be called.
        member.claims &= (&before.url, &before.program) == (&member.url, &member.program);
        let changed = is_new || said_differently(&before, &member);
        if changed {
            member.heard_on_disk = Some(wall);
            let detail = format!(
                "Worker {name} registered, status={}, max_concurrency={}",
                member.said.as_str(),
                member.max_concurrency
            );
            let kind = if is_new { "worker_registered" } else { "worker_updated" };
            self.tell_of_worker(kind, name, "api", detail);
        }
        self.workers.insert(name.to_string(), member);
        self.heard_of(name);
        Ok(Answer::Registered(self.worker_facts(name), is_new))
    }

    /// Its leases stay valid until they are completed or expire.
    pub(super) fn remove(&mut self, name: &str) -> Result<Answer, Refusal> {
        if self.workers.remove(name).is_none() {
            return Err(Refusal::WorkerNotFound);
        }
        let detail = format!("Worker {name} unregistered");
        self.tell_of_worker("worker_removed", name, "admin", detail);
        Ok(Answer::Carried)
    }

    pub(super) fn heard_of(&mut self, name: &str) {
        let (wall, mono) = (self.now.wall, self.now.mono.0);
        let Some(member) = self.workers.get_mut(name) else { return };
        member.heard = Some(wall);
        member.silent_at = after(mono, SILENCE_MS);
        let is_back = !member.alive;
        member.alive = true;
        if is_back && member.said == WorkerStatus::Online {
            let detail = format!("Worker {name} is back");
            self.tell_of_worker("worker_online", name, "runtime", detail);
        }
    }

    /// Who has given no sign of life for a minute is offline.
    pub(super) fn notice_silence(&mut self) {
        let mono = self.now.mono.0;
        let mut silent = Vec::new();
        for (name, member) in &mut self.workers {
            if member.alive && member.silent_at <= mono {
                member.alive = false;
                if member.said == WorkerStatus::Online {
                    silent.push(name.clone());
                }
            }
        }
        for name in silent {
            let detail = format!("Worker {name} gave no sign of life for 60s");
            self.tell_of_worker("worker_offline", &name, "reaper", detail);
        }
    }

    /// Its record has changed, which is told of, and written with when it was last heard of.
    pub(super) fn change_worker(
        &mut self,
        kind: &'static str,
        name: &str,
        actor: &str,
        detail: String,
    ) {
        let member = self.workers.get_mut(name).expect("it has just changed");
        member.heard_on_disk = member.heard;
        self.tell_of_worker(kind, name, actor, detail);
    }

    fn tell_of_worker(&mut self, kind: &'static str, name: &str, actor: &str, detail: String) {
        let line = self.line("worker", name.to_string(), actor, Some(detail));
        self.tell(kind, name.to_string(), Some(line));
    }
}

/// Whether a registration has changed what is kept of a worker.
fn said_differently(before: &Member, now: &Member) -> bool {
    let of = |member: &Member| {
        let offers = (member.claude_cli, member.max_concurrency, member.labels.clone());
        (member.said, offers, member.url.clone(), member.program.clone(), member.claims)
    };
    of(before) != of(now)
}
