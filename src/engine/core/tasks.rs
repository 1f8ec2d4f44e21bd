//! What the writer decides about one task: lease, heartbeat, complete, requeue, cancel.
//!
//! Must stay true: a task is looked up, the rule is asked, the change is taken into the batch; a
//! refusal leaves nothing behind. Not here: creation, claims, the rules (`domain::transition`).

use super::Core;
use crate::domain::{
    self, ArtifactId, Candidate, Change, Completion, HandBack, HandedBack, Heartbeat, LeaseClaim,
    LeaseId, NewFile, NoWorker, Refusal, ResultId, ReturnedFile, Task, TaskId, When, WorkerId,
    context_key,
};
use crate::engine::batch::Batch;
use crate::engine::{
    Completed, EngineError, LeaseAnswer, LeaseView, NewLease, TaskView, WorkerChoice,
};

/// Whose heartbeat it is: the server's own is no sign of life of the worker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    OfWorker,
    OfServer,
}

impl Core {
    /// The record with its lease's last renewal, which the next write of it takes to the disk.
    pub(super) fn renewed(&self, mut task: Task) -> Task {
        if let Some(renewal) = self.deadlines.renewal(task.seq()) {
            renewal.lay_over(&mut task);
        }
        task
    }

    pub(super) fn lease(
        &mut self,
        batch: &mut Batch<'_>,
        id: TaskId,
        lease: NewLease,
    ) -> Result<LeaseAnswer, EngineError> {
        let task = self.renewed(batch.task(id)?);
        domain::require_queued(&task)?;
        let ttl_seconds = lease.ttl_seconds.ok_or(Refusal::InvalidFields)?;
        if self.agents.of(task.seq()).is_some_and(|agent| self.agents.is_full(agent)) {
            return Err(Refusal::NoWorker(NoWorker::AgentAtLimit).into());
        }
        let context = context_key(&task.context_id);
        let worker = match &lease.worker {
            WorkerChoice::Automatic => domain::pick_worker(&task, self.workers.candidates(context)),
            WorkerChoice::Named(id) => match self.workers.candidate(id, context) {
                Some(candidate) => domain::gate(&candidate, &task.labels).map(|()| id),
                None => Err(NoWorker::Unknown),
            },
            WorkerChoice::Pushed(None) => {
                let pushed = |other: &Candidate<'_>| self.workers.is_pushed(&other.worker.id);
                domain::pick_worker(&task, self.workers.candidates(context).filter(pushed))
            }
            WorkerChoice::Pushed(Some(id)) => match self.workers.candidate(id, context) {
                Some(_) if !self.workers.is_pushed(id) => Err(NoWorker::NotPushable),
                Some(candidate) => domain::gate(&candidate, &task.labels).map(|()| id),
                None => Err(NoWorker::Unknown),
            },
            WorkerChoice::Nobody => Err(NoWorker::Unknown),
        };
        let worker_id = worker.map_err(Refusal::NoWorker)?.clone();
        let worker = self.workers.view(&worker_id).expect("the gate saw it");
        let lease = self.grant(batch, &task, &worker_id, ttl_seconds)?.1;
        Ok(LeaseAnswer { lease, worker })
    }

    pub(super) fn grant(
        &mut self,
        batch: &mut Batch<'_>,
        task: &Task,
        worker: &WorkerId,
        ttl_seconds: Option<u32>,
    ) -> Result<(Task, LeaseView), EngineError> {
        let lease_id = LeaseId::new(self.counters.last_lease + 1, (self.random)());
        let change = domain::grant(task, worker, lease_id, ttl_seconds, batch.now.wall)?;
        self.counters.last_lease += 1;
        let granted = change.task.clone();
        self.apply(batch, Some(task), change);
        let view = LeaseView::active(&granted).expect("granted just now");
        Ok((granted, view))
    }

    pub(super) fn heartbeat(
        &mut self,
        batch: &mut Batch<'_>,
        id: TaskId,
        claim: LeaseClaim,
        beat: Beat,
    ) -> Result<LeaseView, EngineError> {
        let task = self.renewed(batch.task(id)?);
        let decided = domain::heartbeat(&task, claim, batch.now.wall)?;
        let lease = task.lease.as_ref().expect("a heartbeat that counts has a lease");
        let renewal = self.deadlines.set(task.seq(), lease, batch.now);
        batch.renewals.push((task.seq(), renewal));
        if beat == Beat::OfWorker {
            self.heard_of(batch, &lease.worker_id);
        }
        let mut view = LeaseView::active(&task).expect("a heartbeat that counts has a lease");
        view.last_heartbeat = renewal.last_heartbeat;
        view.expires_at = renewal.expires_at;
        if let Heartbeat::Started(change) = decided {
            self.apply(batch, Some(&task), change);
        }
        Ok(view)
    }

    pub(super) fn complete(
        &mut self,
        batch: &mut Batch<'_>,
        id: TaskId,
        claim: LeaseClaim,
        completed: Option<domain::Completed>,
    ) -> Result<Completed, EngineError> {
        let task = self.renewed(batch.task(id)?);
        let seq = self.counters.last_outcome + 1;
        let artifact_id = ArtifactId::new(seq, (self.random)());
        let result_id = ResultId::new(seq, (self.random)());
        let when = When {
            wall: batch.now.wall,
            age_ms: self.served.age_ms(batch.now.mono),
            chance: (self.random)() as u64,
        };
        let spec = batch.spec(&task)?;
        match domain::complete(&task, claim, completed, artifact_id, result_id, when)? {
            Completion::Repeated { fence } => {
                let outcome = batch.outcome(&task, fence)?;
                let task = domain::as_completed(&task, &outcome);
                Ok(Completed { task: TaskView { task, spec }, outcome })
            }
            Completion::First(change, outcome) => {
                self.counters.last_outcome = seq;
                self.heard_of(batch, &outcome.worker_id);
                self.judge_provider(batch, &outcome);
                let fence = change.task.ended.last().map_or(0, |ended| ended.lease.fence);
                batch.changes.outcomes.insert((task.seq(), fence), (*outcome).clone());
                let view = TaskView { task: change.task.clone(), spec };
                self.apply(batch, Some(&task), change);
                Ok(Completed { task: view, outcome: *outcome })
            }
        }
    }

    /// A file of the holder, whose lease it prolongs like a heartbeat.
    pub(super) fn add_file(
        &mut self,
        batch: &mut Batch<'_>,
        id: TaskId,
        claim: LeaseClaim,
        new: NewFile,
    ) -> Result<ReturnedFile, EngineError> {
        let task = self.renewed(batch.task(id)?);
        let seq = self.counters.last_outcome + 1;
        let artifact_id = ArtifactId::new(seq, (self.random)());
        let (change, file) = domain::add_file(&task, claim, new, artifact_id, batch.now.wall)?;
        self.counters.last_outcome = seq;
        self.heard_of(batch, &file.worker_id);
        batch.changes.files.insert((task.seq(), seq), file.clone());
        let lease = change.task.lease.clone().expect("who adds a file holds a lease");
        self.apply(batch, Some(&task), change);
        batch.renewals.push((task.seq(), self.deadlines.set(task.seq(), &lease, batch.now)));
        Ok(file)
    }

    /// A task comes back from its worker, which may have to rest.
    pub(super) fn hand_back(
        &mut self,
        batch: &mut Batch<'_>,
        id: TaskId,
        claim: LeaseClaim,
        given: Option<HandBack>,
    ) -> Result<TaskView, EngineError> {
        let task = self.renewed(batch.task(id)?);
        let spec = batch.spec(&task)?;
        let rest = given.as_ref().and_then(|given| Some((given.rest_ms()?, given.clone())));
        let is_of_worker = given.as_ref().is_some_and(HandBack::is_of_worker);
        match domain::hand_back(&task, claim, given, batch.now.wall)? {
            HandedBack::Repeated => Ok(TaskView { task, spec }),
            HandedBack::First(change) => {
                let holder = task.lease.as_ref().map(|lease| lease.worker_id.clone());
                let holder = holder.expect("what is handed back was held");
                let view = TaskView { task: change.task.clone(), spec };
                if is_of_worker {
                    self.heard_of(batch, &holder);
                }
                self.apply(batch, Some(&task), change);
                if let Some((rest_ms, HandBack { code, note, .. })) = rest {
                    self.rest(batch, &holder, rest_ms, code, note.unwrap_or_default());
                }
                Ok(view)
            }
        }
    }

    /// Requeue and cancel: what a person does to a task.
    pub(super) fn by_hand(
        &mut self,
        batch: &mut Batch<'_>,
        id: TaskId,
        decide: impl Fn(&Task, i64) -> Result<Change, Refusal>,
    ) -> Result<TaskView, EngineError> {
        let task = self.renewed(batch.task(id)?);
        let change = decide(&task, batch.now.wall)?;
        let spec = batch.spec(&task)?;
        self.agents.learn(id.seq(), &spec.agent_slug);
        if !self.visible.index().holds_task(id.seq())
            && !batch.changes.tasks.contains_key(&id.seq())
        {
            // It comes back from the archive, so what belongs to it comes along.
            let mut outcomes = Vec::new();
            for ended in task.ended.iter().filter(|ended| ended.outcome.is_some()) {
                let fence = ended.lease.fence;
                outcomes.push(((id.seq(), fence), batch.outcome(&task, fence)?));
            }
            batch.changes.outcomes.extend(outcomes);
            batch.changes.specs.insert(id.seq(), spec.clone());
        }
        let view = TaskView { task: change.task.clone(), spec };
        self.apply(batch, Some(&task), change);
        Ok(view)
    }
}
