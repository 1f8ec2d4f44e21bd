//! Claims: a worker asks for a task and may wait for one.
//!
//! Must stay true: one gate for everyone (P2); a caller that is gone gets nothing; who waits is served
//! in the step that makes a match possible. Not here: which task comes first (`ready`), who waits
//! (`waiting`).

use super::Core;
use crate::clock::Mono;
use crate::domain::{self, NoWorker, Refusal, WorkerId, context_key};
use crate::engine::batch::Batch;
use crate::engine::waiting::Waiter;
use crate::engine::{ClaimAnswer, EngineError, TaskView};
use crate::store::StoreError;
use std::collections::HashSet;

impl Core {
    pub(super) fn claim(&mut self, batch: &mut Batch<'_>, waiter: Waiter, wait_ms: u64) {
        if waiter.reply.is_closed() {
            return;
        }
        if self.workers.stored(&waiter.worker).is_none() {
            return batch.answer(waiter.reply, Err(Refusal::WorkerNotFound.into()));
        }
        self.heard_of(batch, &waiter.worker);
        self.note_claiming(batch, &waiter.worker);
        self.serve_or_wait(batch, waiter, wait_ms);
    }

    /// The server's own claim for a worker that it pushes to.
    pub(super) fn claim_for(&mut self, batch: &mut Batch<'_>, waiter: Waiter, wait_ms: u64) {
        if waiter.reply.is_closed() {
            return;
        }
        if !self.workers.is_pushed(&waiter.worker) {
            let refusal = Refusal::NoWorker(NoWorker::NotPushable);
            return batch.answer(waiter.reply, Err(refusal.into()));
        }
        self.serve_or_wait(batch, waiter, wait_ms);
    }

    fn serve_or_wait(&mut self, batch: &mut Batch<'_>, waiter: Waiter, wait_ms: u64) {
        match self.next_task_for(&waiter.worker) {
            Some(seq) => self.hand_out(batch, seq, waiter),
            None if wait_ms == 0 || self.released => batch.answer(waiter.reply, Ok(None)),
            None if self.waiting.is_full() => {
                batch.answer(waiter.reply, Err(Refusal::TooManyWaiting.into()));
            }
            None => self.waiting.push(waiter, batch.now.mono.after_ms(wait_ms)),
        }
    }

    pub(super) fn next_task_for(&self, worker: &WorkerId) -> Option<u64> {
        let candidate = self.workers.candidate(worker, 0)?;
        domain::gate(&candidate, &[]).ok()?;
        let labels = &candidate.worker.capabilities.labels;
        self.ready.pick(labels, self.workers.contexts(worker), &self.agents)
    }

    fn hand_out(&mut self, batch: &mut Batch<'_>, seq: u64, waiter: Waiter) {
        let result = self.try_hand_out(batch, seq, &waiter);
        batch.answer(waiter.reply, result.map(Some));
    }

    fn try_hand_out(
        &mut self,
        batch: &mut Batch<'_>,
        seq: u64,
        waiter: &Waiter,
    ) -> Result<ClaimAnswer, EngineError> {
        let task = batch.task_at(seq)?.ok_or(Refusal::TaskNotFound)?;
        let spec = batch.spec(&task)?;
        let (task, lease) = self.grant(batch, &task, &waiter.worker, waiter.ttl_seconds)?;
        Ok(ClaimAnswer { task: TaskView { task, spec }, lease })
    }

    /// Gives ready tasks to waiting claims until nobody who waits may take what is there. Serving
    /// only takes room away, so a task that nobody may take now is not looked at again.
    pub(super) fn serve_waiting(&mut self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        if !std::mem::take(&mut self.may_match) {
            return Ok(());
        }
        let mut left_over = HashSet::new();
        'again: while !self.waiting.is_empty() {
            for seq in self.ready.heads(&self.agents) {
                if left_over.contains(&seq) {
                    continue;
                }
                let Some(task) = batch.task_at(seq)? else {
                    return Err(StoreError::Io(format!("queued task {seq} is not there")));
                };
                let context = context_key(&task.context_id);
                let candidates =
                    self.waiting.workers().filter_map(|id| self.workers.candidate(id, context));
                let Ok(worker) = domain::pick_worker(&task, candidates) else {
                    left_over.insert(seq);
                    continue;
                };
                let worker = worker.clone();
                if let Some(waiter) = self.waiting.take_for(&worker) {
                    self.hand_out(batch, seq, waiter);
                }
                continue 'again;
            }
            break;
        }
        self.may_match = false;
        Ok(())
    }

    pub(super) fn release(&mut self, batch: &mut Batch<'_>) {
        self.released = true;
        while let Some(waiter) = self.waiting.take_due(Mono(u64::MAX)) {
            batch.answer(waiter.reply, Ok(None));
        }
    }
}
