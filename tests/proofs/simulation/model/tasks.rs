//! What the commands about one task do: refusals in the contract's order (existence, lease, state,
//! fields, workers), then the change.

use super::super::facts::{
    Answer, DoneFacts, LeaseFacts, NewTaskFacts, OutcomeFacts, TaskFacts, lease_id, task_id,
};
use super::again::Waits;
use super::{Made, Model, Row, Told, after, grant_facts, shown_end};
use bloom_runtime::domain::{
    ArtifactId, Completed, CompletionStatus, IdempotencyKey, LeaseClaim, LeaseEnd, LeaseId,
    NewTask, NoWorker, Refusal, TaskId, TaskStatus,
};
use bloom_runtime::engine::{ByHand, Changed, WorkerChoice};
use std::rc::Rc;

const DAY_MS: u64 = 86_400_000;

impl Model {
    pub(super) fn find(&self, id: TaskId) -> Result<&Row, Refusal> {
        let number = id.seq();
        match self.row(number) {
            Some(row) if task_id(number) == id => Ok(row),
            _ => Err(Refusal::TaskNotFound),
        }
    }

    /// Under a key the same wish is carried out once in a day of the store's age, and another is refused.
    pub(super) fn create_once(&mut self, new: &NewTask, key: Option<&IdempotencyKey>) -> Told {
        let Some(key) = key else { return self.create(new) };
        let (key, age_ms) = (key.as_str().to_string(), self.age());
        match self.keys.get(&key) {
            Some(made) if age_ms > made.age_ms + DAY_MS => {}
            Some(made) if *made.wish == *new => return Ok(made.answer.clone()),
            Some(_) => return Err(Refusal::IdempotencyKeyReused),
            None => {}
        }
        let answer = self.create(new)?;
        let made = Made { wish: Rc::new(new.clone()), answer: answer.clone(), age_ms };
        self.keys.insert(key, made);
        Ok(answer)
    }

    fn create(&mut self, new: &NewTask) -> Told {
        self.last_task += 1;
        let number = self.last_task;
        let wall = self.now.wall;
        let facts = TaskFacts {
            number,
            context: new.context_id.clone(),
            labels: new.labels.clone(),
            priority: new.priority,
            default_ttl: std::cmp::max(300, new.spec.policy.timeout_sec + 30),
            attempts: 0,
            max_attempts: new.max_attempts,
            grants: 0,
            tainted: false,
            retry: new.retry,
            not_before: new.not_before,
            delay: None,
            status: TaskStatus::Queued,
            created: wall,
            updated: wall,
            lease: None,
            past: Vec::new(),
        };
        let row = Row {
            spec: NewTaskFacts::of(&new.spec),
            due: 0,
            heard_on_disk: 0,
            waits: Waits::of(&facts, self.age(), wall),
            fresh_at: 0,
            facts: facts.clone(),
            outcomes: Vec::new(),
            in_hot: true,
            archived: None,
        };
        let spec = row.spec.clone();
        self.counts[TaskStatus::Queued as usize] += 1;
        self.live.insert(number, row);
        self.touched.insert(number);
        let detail = format!("Task for agent {}, context {}", new.spec.agent_slug, new.context_id);
        let id = task_id(number).to_string();
        let line = self.line("llm_task", id.clone(), "api", Some(detail));
        self.tell("task_created", id, Some(line));
        Ok(Answer::Task(facts, spec))
    }

    pub(super) fn lease(
        &mut self,
        task: TaskId,
        choice: &WorkerChoice,
        ttl_seconds: Option<Option<u32>>,
    ) -> Told {
        let row = self.find(task)?;
        if row.facts.status != TaskStatus::Queued {
            return Err(Refusal::NotQueued(row.facts.status));
        }
        let Some(ttl_seconds) = ttl_seconds else { return Err(Refusal::InvalidFields) };
        if self.agents_at_limit().contains(&row.spec.agent.as_str()) {
            return Err(Refusal::NoWorker(NoWorker::AgentAtLimit));
        }
        let worker = match choice {
            WorkerChoice::Automatic => self.best_of_all(&row.facts),
            WorkerChoice::Named(name) => self.if_it_may(&name.0, &row.facts),
            WorkerChoice::Pushed(None) => self.best_of_the_called(&row.facts),
            WorkerChoice::Pushed(Some(name)) => match self.workers.get(&name.0) {
                Some(member) if !self.is_called(member) => Err(NoWorker::NotPushable),
                _ => self.if_it_may(&name.0, &row.facts),
            },
            WorkerChoice::Nobody => self.if_it_may("", &row.facts),
        };
        let worker = worker.map_err(Refusal::NoWorker)?;
        let before = self.worker_facts(&worker);
        let lease = self.grant(task.seq(), &worker, ttl_seconds);
        Ok(Answer::Leased(task.seq(), lease, before))
    }

    /// Lends a queued task to a worker.
    pub(super) fn grant(&mut self, number: u64, worker: &str, ttl: Option<u32>) -> LeaseFacts {
        self.last_lease += 1;
        let (wall, mono) = (self.now.wall, self.now.mono.0);
        self.put_into(number, TaskStatus::Leased);
        let row = self.live.get_mut(&number).expect("leased just now");
        let ttl = ttl.unwrap_or(row.facts.default_ttl);
        row.facts.attempts += 1;
        row.facts.grants += 1;
        row.facts.delay = None;
        row.due = after(mono, u64::from(ttl) * 1000);
        row.heard_on_disk = wall;
        let lease = grant_facts(self.last_lease, row.facts.grants, worker, ttl, wall);
        row.facts.lease = Some(lease.clone());
        let id = task_id(number).to_string();
        let detail = format!("Task {id} leased to worker {worker}, TTL {ttl}s");
        let line =
            self.line("lease", lease_id(self.last_lease).to_string(), "router", Some(detail));
        self.tell("task_leased", id, Some(line));
        lease
    }

    /// Whether the caller holds the task's active lease.
    pub(super) fn is_holder(facts: &TaskFacts, claim: LeaseClaim) -> bool {
        match (&facts.lease, claim) {
            (None, _) | (_, LeaseClaim::Unknown) => false,
            (Some(lease), LeaseClaim::Named(id)) => lease_id(lease.number) == id,
            (Some(_), LeaseClaim::Unnamed) => !facts.tainted,
        }
    }

    /// `of_worker`: its holder said it, and not the server by itself.
    pub(super) fn heartbeat(&mut self, task: TaskId, claim: LeaseClaim, of_worker: bool) -> Told {
        let facts = &self.find(task)?.facts;
        let Some(lease) = &facts.lease else {
            let last = facts.past.last().map(|past| lease_id(past.lease.number));
            return Err(match (facts.status, claim) {
                (TaskStatus::Cancelled, LeaseClaim::Unnamed) => Refusal::TaskCancelled,
                (TaskStatus::Cancelled, LeaseClaim::Named(id)) if last == Some(id) => {
                    Refusal::TaskCancelled
                }
                (_, LeaseClaim::Named(_) | LeaseClaim::Unknown) => Refusal::LeaseLost,
                (TaskStatus::Queued, LeaseClaim::Unnamed) => Refusal::NoLease,
                (_, LeaseClaim::Unnamed) => Refusal::LeaseEnded,
            });
        };
        if !Self::is_holder(facts, claim) {
            return Err(Refusal::LeaseLost);
        }
        let (worker, starts) = (lease.worker.clone(), facts.status == TaskStatus::Leased);
        if of_worker {
            self.heard_of(&worker);
        }
        let number = task.seq();
        if starts {
            self.put_into(number, TaskStatus::Running);
            self.tell("task_running", task_id(number).to_string(), None);
        }
        let (wall, mono) = (self.now.wall, self.now.mono.0);
        let row = self.live.get_mut(&number).expect("it has a lease");
        let lease = row.facts.lease.as_mut().expect("seen above");
        lease.heard = wall;
        lease.expires = shown_end(wall, lease.ttl_seconds);
        row.due = after(mono, u64::from(lease.ttl_seconds) * 1000);
        row.facts.updated = wall;
        if starts {
            row.heard_on_disk = wall;
        }
        let lease = lease.clone();
        self.touched.insert(number);
        Ok(Answer::Beat(lease))
    }

    pub(super) fn complete(
        &mut self,
        task: TaskId,
        claim: LeaseClaim,
        fields: Option<&Completed>,
    ) -> Told {
        let row = self.find(task)?;
        if !Self::is_holder(&row.facts, claim) {
            return match claim {
                LeaseClaim::Named(id) => Self::repeated(row, id).ok_or(Refusal::LeaseLost),
                LeaseClaim::Unnamed if row.facts.lease.is_none() => {
                    Err(Refusal::NotLeased(row.facts.status))
                }
                LeaseClaim::Unnamed | LeaseClaim::Unknown => Err(Refusal::LeaseLost),
            };
        }
        let Some(fields) = fields else { return Err(Refusal::InvalidFields) };
        let number = task.seq();
        let lease = row.facts.lease.clone().expect("its holder asks");
        let outcome = OutcomeFacts {
            number: self.last_outcome + 1,
            task: number,
            lease: lease.number,
            worker: lease.worker.clone(),
            status: fields.status,
            output: fields.output.clone(),
            code: fields.code.clone(),
            duration_ms: fields.metrics.duration_ms,
            at: self.now.wall,
            attempts: row.facts.attempts,
            retry: self.tried_again(&row.facts, fields),
        };
        let (status, word) = match fields.status {
            CompletionStatus::Success => (TaskStatus::Completed, "success"),
            CompletionStatus::Error if outcome.retry.is_some() => (TaskStatus::Queued, "error"),
            CompletionStatus::Error => (TaskStatus::Failed, "error"),
        };
        self.last_outcome = outcome.number;
        self.heard_of(&lease.worker);
        self.judge_provider(&lease.worker, fields);
        let row = self.live.get_mut(&number).expect("it is held");
        row.outcomes.push(outcome.clone());
        row.facts.delay = outcome.retry;
        row.facts.tainted |= outcome.retry.is_some();
        self.end_lease(number, LeaseEnd::Completed, Some(outcome.number), status);
        self.give_reason(number, outcome.code.clone(), None);
        let artifact = ArtifactId::new(outcome.number, super::super::facts::SALT);
        let id = task_id(number).to_string();
        let mut detail = format!(
            "Status: {word}, artifact: {artifact}, duration: {}ms",
            fields.metrics.duration_ms
        );
        if let Some(delay) = outcome.retry {
            detail += &format!(", retry in {}s", (delay.age_ms - self.age()).div_ceil(1000));
        }
        let line = self.line("llm_task", id.clone(), &lease.worker, Some(detail));
        self.tell("task_completed", id, Some(line));
        Ok(Answer::Done(done(outcome)))
    }

    /// The stored answer for whoever completed under this lease.
    fn repeated(row: &Row, id: LeaseId) -> Option<Answer> {
        let lease = id.seq();
        if lease_id(lease) != id {
            return None;
        }
        row.facts.past.iter().find(|past| past.lease.number == lease && past.outcome.is_some())?;
        let outcome = row.outcomes.iter().find(|outcome| outcome.lease == lease)?;
        Some(Answer::Done(done(outcome.clone())))
    }

    pub(super) fn requeue(&mut self, task: TaskId) -> Told {
        let status = self.find(task)?.facts.status;
        if ![TaskStatus::Failed, TaskStatus::Dead, TaskStatus::Cancelled].contains(&status) {
            return Err(Refusal::CannotRequeue(status));
        }
        let number = task.seq();
        self.put_into(number, TaskStatus::Queued);
        let row = self.live.get_mut(&number).expect("queued just now");
        let facts = &mut row.facts;
        facts.attempts = 0;
        facts.tainted = false;
        row.fresh_at = facts.grants;
        self.tell_of_hand(number, "task_requeued", format!("Requeued from {}", status.as_str()))
    }

    pub(super) fn cancel(&mut self, task: TaskId) -> Told {
        let status = self.find(task)?.facts.status;
        if !super::is_live(status) {
            return Err(Refusal::CannotCancel(status));
        }
        let number = task.seq();
        self.live.get_mut(&number).expect("it lives").facts.delay = None;
        self.end_lease(number, LeaseEnd::Cancelled, None, TaskStatus::Cancelled);
        self.tell_of_hand(number, "task_cancelled", format!("Cancelled while {}", status.as_str()))
    }

    /// Each by itself; those for which it is too late are left alone.
    pub(super) fn many(&mut self, tasks: &[TaskId], what: ByHand) -> Answer {
        let one = |task: &&TaskId| {
            let told = match what {
                ByHand::Requeue => self.requeue(**task),
                ByHand::Cancel => self.cancel(**task),
            };
            told.is_ok()
        };
        Answer::Many(Changed { tried: tasks.len(), changed: tasks.iter().filter(one).count() })
    }

    fn tell_of_hand(&mut self, number: u64, kind: &'static str, detail: String) -> Told {
        let id = task_id(number).to_string();
        let line = self.line("llm_task", id.clone(), "admin", Some(detail));
        self.tell(kind, id, Some(line));
        let row = self.row(number).expect("touched just now");
        Ok(Answer::Task(row.facts.clone(), row.spec.clone()))
    }

    /// Leases without a sign of life for their whole time end, the earliest first (P5).
    pub(super) fn end_overdue_leases(&mut self) {
        let mono = self.now.mono.0;
        let overdue = |(_, row): &(&u64, &Row)| row.facts.lease.is_some() && row.due <= mono;
        let mut ends: Vec<(u64, u64)> =
            self.live.iter().filter(overdue).map(|(number, row)| (row.due, *number)).collect();
        ends.sort_unstable();
        for (_, number) in ends {
            let facts = &mut self.live.get_mut(&number).expect("listed above").facts;
            facts.tainted = true;
            let attempts_left = facts.attempts < facts.max_attempts;
            let lease = facts.lease.as_ref().expect("listed above").number;
            let status = if attempts_left { TaskStatus::Queued } else { TaskStatus::Dead };
            self.end_lease(number, LeaseEnd::Expired, None, status);
            let line = self.line("lease", lease_id(lease).to_string(), "reaper", None);
            self.tell("lease_expired", task_id(number).to_string(), Some(line));
        }
    }
}

fn done(outcome: OutcomeFacts) -> DoneFacts {
    DoneFacts {
        task: outcome.task,
        status: match outcome.status {
            CompletionStatus::Success => TaskStatus::Completed,
            CompletionStatus::Error if outcome.retry.is_some() => TaskStatus::Queued,
            CompletionStatus::Error => TaskStatus::Failed,
        },
        attempts: outcome.attempts,
        updated: outcome.at,
        // What waits shows no lease.
        lease: outcome.retry.is_none().then_some(outcome.lease),
        delay: outcome.retry,
        outcome,
    }
}
