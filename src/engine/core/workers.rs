//! What the writer decides about workers: registration, removal, signs of life.
//!
//! Must stay true: what is already known is not told and not stored again (P8). Not here: the records
//! and their liveness (`engine::workers`).

use super::Core;
use crate::domain::{self, Audit, Entity, EventKind, Refusal, Registration, WorkerId};
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
        if self.is_paused(batch.now.mono) && !self.workers.is_alive(id) {
            // Its return would be a change; the next sign of life tells of it.
            return;
        }
        batch.touched_workers.insert(id.clone());
        if self.workers.heard_of(id, batch.now) {
            self.may_match = true;
            let detail = format!("Worker {id} is back");
            self.tell_of_worker(batch, EventKind::WorkerOnline, id, "runtime", detail);
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
