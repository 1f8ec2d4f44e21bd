//! What the writer decides when Membridge lists its agents.
//!
//! Must stay true: a list that says nothing new writes nothing (P8); only workers that are known from the
//! list alone go offline by missing in it, and only after `ABSENCE_MS` of lists without them: a control
//! plane that has just restarted lists nobody. Not here: the rules of a record (`domain::worker`).

use super::Core;
use crate::domain::{self, EventKind, ListedAgent, WorkerId, WorkerStatus};
use crate::engine::batch::Batch;
use crate::store::StoredWorker;
use std::collections::HashSet;

impl Core {
    /// Takes in one list, in which each agent stands once; says for how many there was no room.
    pub(super) fn sync(&mut self, batch: &mut Batch<'_>, agents: &[ListedAgent]) -> usize {
        let mut left_out = 0;
        for agent in agents {
            if self.workers.stored(&agent.id).is_some() {
                self.list_known(batch, agent);
            } else if self.workers.is_full() {
                left_out += 1;
            } else {
                self.list_new(batch, agent);
            }
            if self.workers.is_seen_anew(&agent.id, agent.last_seen)
                && agent.status == WorkerStatus::Online
            {
                self.heard_of(batch, &agent.id);
            }
        }
        let listed: HashSet<&WorkerId> = agents.iter().map(|agent| &agent.id).collect();
        for worker in self.workers.unlisted(&listed, batch.now.mono) {
            let detail = format!("Worker {} is not in Membridge's list any more", worker.id);
            self.change_worker(batch, worker, EventKind::WorkerOffline, "membridge", detail);
        }
        left_out
    }

    fn list_new(&mut self, batch: &mut Batch<'_>, agent: &ListedAgent) {
        let seq = self.counters.last_change + 1;
        let worker = domain::list(None, agent, seq, batch.now.wall);
        let (id, status) = (&agent.id, worker.status.as_str());
        let detail = format!("Worker {id} listed by Membridge, status={status}");
        self.tell_of_worker(batch, EventKind::WorkerRegistered, id, "membridge", detail);
        let stored = StoredWorker { worker, last_heartbeat: agent.last_seen };
        batch.changes.workers.insert(id.clone(), Some(stored.clone()));
        self.workers.put(stored, batch.now.mono);
        self.may_match = true;
    }

    fn list_known(&mut self, batch: &mut Batch<'_>, agent: &ListedAgent) {
        let Some(known) = self.workers.stored(&agent.id) else { return };
        let worker = domain::list(Some(&known.worker), agent, known.worker.seq, batch.now.wall);
        if worker == known.worker {
            return;
        }
        let comes_online =
            worker.status == WorkerStatus::Online && worker.status != known.worker.status;
        let (id, status) = (&agent.id, worker.status.as_str());
        let detail = format!("Worker {id} updated from Membridge, status={status}");
        self.change_worker(batch, worker, EventKind::WorkerUpdated, "membridge", detail);
        if comes_online {
            self.heard_of(batch, id);
        }
    }
}
