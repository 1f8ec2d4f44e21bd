//! What the writer decides about workers: registration, removal, signs of life.
//!
//! Must stay true: what is already known is not told and not stored again (P8). Not here: the records
//! and their liveness (`engine::workers`).

use super::Core;
use crate::domain::{
    self, Audit, CompletionStatus, Cooling, Entity, EventKind, Outcome, PROVIDER_FAILURES_MAX,
    PROVIDER_REST_MS, Refusal, Registration, Worker, WorkerId, is_provider_failure,
};
use crate::engine::batch::Batch;
use crate::engine::{EngineError, WorkerView};
use crate::store::StoredWorker;

impl Core {
    pub(super) fn register(
        &mut self,
        batch: &mut Batch<'_>,
        id: WorkerId,
        registration: Registration,
    ) -> Result<(WorkerView, bool), EngineError> {
        let known = self.workers.stored(&id).map(|stored| stored.worker.clone());
        if known.is_none() && self.workers.is_full() {
            return Err(Refusal::TooManyWorkers.into());
        }
        let seq = self.counters.last_change + 1;
        let worker =
            domain::register(known.as_ref(), id.clone(), registration, seq, batch.now.wall);
        if known.as_ref() != Some(&worker) {
            let kind = match known {
                None => EventKind::WorkerRegistered,
                Some(_) => EventKind::WorkerUpdated,
            };
            let detail = format!(
                "Worker {id} registered, status={}, max_concurrency={}",
                worker.status.as_str(),
                worker.capabilities.max_concurrency
            );
            self.tell_of_worker(batch, kind, &id, "api", detail);
            let stored = StoredWorker { worker, last_heartbeat: Some(batch.now.wall) };
            batch.changes.workers.insert(id.clone(), Some(stored.clone()));
            self.workers.put(stored, batch.now.mono);
            self.may_match = true;
        }
        self.heard_of(batch, &id);
        let view = self.workers.view(&id).expect("registered just now");
        Ok((view, known.is_none()))
    }

    /// A person takes a worker out of the round, or back into it, which ends its rest too.
    pub(super) fn drain(
        &mut self,
        batch: &mut Batch<'_>,
        id: &WorkerId,
        on: bool,
    ) -> Result<WorkerView, EngineError> {
        let stored = self.workers.stored(id).ok_or(Refusal::WorkerNotFound)?;
        let mut worker = stored.worker.clone();
        worker.draining = on;
        worker.cooling = worker.cooling.filter(|_| on);
        if worker != stored.worker {
            let (kind, detail) = match on {
                true => (EventKind::WorkerDrained, format!("Worker {id} takes no more tasks")),
                false => (EventKind::WorkerUndrained, format!("Worker {id} takes tasks again")),
            };
            self.change_worker(batch, worker, kind, "admin", detail);
        }
        Ok(self.workers.view(id).expect("it is there"))
    }

    /// A worker that takes no tasks for a while, unless it rests longer already.
    pub(super) fn rest(
        &mut self,
        batch: &mut Batch<'_>,
        id: &WorkerId,
        rest_ms: u64,
        code: String,
        message: String,
    ) {
        let Some(stored) = self.workers.stored(id) else { return };
        let until_age_ms = self.served.age_ms(batch.now.mono).saturating_add(rest_ms);
        let mut worker = stored.worker.clone();
        if worker.cooling.as_ref().is_some_and(|rest| rest.until_age_ms >= until_age_ms) {
            return;
        }
        let until = batch.now.wall.saturating_add(rest_ms as i64);
        let detail = format!("Worker {id} takes no tasks for {}s: {code}", rest_ms.div_ceil(1000));
        worker.cooling = Some(Cooling { until_age_ms, until, code, message });
        self.change_worker(batch, worker, EventKind::WorkerCooling, "runtime", detail);
    }

    /// Workers whose rest is over take tasks again.
    pub(super) fn end_rests(&mut self, batch: &mut Batch<'_>) {
        while let Some(worker) = self.workers.rested(batch.now.mono) {
            let worker = Worker { cooling: None, ..worker.clone() };
            let detail = format!("Worker {} has rested and takes tasks again", worker.id);
            self.change_worker(batch, worker, EventKind::WorkerReady, "runtime", detail);
        }
    }

    /// A provider that fails several times in a row is left alone for a while.
    pub(super) fn judge_provider(&mut self, batch: &mut Batch<'_>, outcome: &Outcome) {
        let failed = outcome.status == CompletionStatus::Error;
        let code = outcome.code.as_deref().filter(|code| failed && is_provider_failure(code));
        let id = &outcome.worker_id;
        if self.workers.count_provider(id, code.is_some()) >= PROVIDER_FAILURES_MAX {
            self.workers.count_provider(id, false);
            let code = code.unwrap_or_default().to_owned();
            let message = format!("{PROVIDER_FAILURES_MAX} tasks in a row failed at the provider");
            self.rest(batch, id, PROVIDER_REST_MS, code, message);
        }
    }

    /// A worker that asks for tasks itself is not called with any from now on.
    pub(super) fn note_claiming(&mut self, batch: &mut Batch<'_>, id: &WorkerId) {
        let known = self.workers.stored(id).map(|stored| &stored.worker);
        let Some(worker) = known.filter(|worker| !worker.url.is_empty() && !worker.claims) else {
            return;
        };
        if self.is_paused(batch.now.mono) {
            return;
        }
        let mut worker = Worker { claims: true, ..worker.clone() };
        // What failed was a call that it never waited for.
        worker.cooling = worker.cooling.filter(|rest| !rest.code.starts_with("agent_"));
        let detail = format!("Worker {id} asks for its tasks, so none are pushed to it");
        self.change_worker(batch, worker, EventKind::WorkerUpdated, "runtime", detail);
        while let Some(waiter) = self.waiting.take_for(id) {
            batch.answer(waiter.reply, Ok(None));
        }
    }

    pub(super) fn change_worker(
        &mut self,
        batch: &mut Batch<'_>,
        worker: Worker,
        kind: EventKind,
        actor: &str,
        detail: String,
    ) {
        let id = worker.id.clone();
        let stored = self.workers.update(worker);
        batch.changes.workers.extend(stored.map(|stored| (id.clone(), Some(stored))));
        self.may_match = true;
        self.tell_of_worker(batch, kind, &id, actor, detail);
    }

    pub(super) fn remove(
        &mut self,
        batch: &mut Batch<'_>,
        id: &WorkerId,
    ) -> Result<(), EngineError> {
        if !self.workers.remove(id) {
            return Err(Refusal::WorkerNotFound.into());
        }
        batch.changes.workers.insert(id.clone(), None);
        let detail = format!("Worker {id} unregistered");
        self.tell_of_worker(batch, EventKind::WorkerRemoved, id, "admin", detail);
        Ok(())
    }

    pub(super) fn heard_of(&mut self, batch: &mut Batch<'_>, id: &WorkerId) {
        let shown = self.workers.stored(id).and_then(|stored| domain::show_life(&stored.worker));
        let is_change = shown.is_some() || !self.workers.is_alive(id);
        if self.is_paused(batch.now.mono) && is_change {
            // The next sign of life tells of it.
            return;
        }
        batch.touched_workers.insert(id.clone());
        if self.workers.heard_of(id, batch.now) {
            self.may_match = true;
            let detail = format!("Worker {id} is back");
            self.tell_of_worker(batch, EventKind::WorkerOnline, id, "runtime", detail);
        }
        if let Some(worker) = shown {
            let detail = format!("Worker {id} shows that it is there");
            self.change_worker(batch, worker, EventKind::WorkerOnline, "runtime", detail);
        }
    }

    pub(super) fn tell_of_worker(
        &mut self,
        batch: &mut Batch<'_>,
        kind: EventKind,
        id: &WorkerId,
        actor: &str,
        detail: String,
    ) {
        batch.touched_workers.insert(id.clone());
        let audit = Audit {
            entity: Entity::Worker,
            entity_id: id.to_string(),
            actor: actor.into(),
            detail,
        };
        self.tell(batch, kind, id.to_string(), Some(audit));
    }
}
