//! What is due, and the memory that says so: the ready queue, who waits for a time, deadlines, load.
//!
//! Must stay true: it follows each task's record, so that it can be built anew from the records alone;
//! a superfluous look at what is due does nothing. Not here: what the commands decide.

use super::Core;
use crate::clock::{Mono, Now};
use crate::domain::{self, Change, EventKind, Task, TaskStatus};
use crate::engine::batch::Batch;
use crate::engine::later::Moment;
use crate::store::{Hot, StoreError};

/// How often the wall clock is looked at while a task waits for a moment of it: it may jump.
const WALL_LOOK_MS: u64 = 30_000;

impl Core {
    pub(super) fn do_what_is_due(&mut self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        let now = batch.now;
        while let Some(seq) = self.deadlines.due(now.mono) {
            let task = batch.task_at(seq)?.map(|task| self.renewed(task));
            let change =
                task.and_then(|task| domain::expire(&task, now.wall).map(|change| (task, change)));
            match change {
                Some((task, change)) => self.apply(batch, Some(&task), change),
                None => self.deadlines.clear(seq),
            }
        }
        self.bring_forward(batch)?;
        self.end_rests(batch);
        while let Some(id) = self.workers.fallen_silent(now.mono) {
            let detail = format!("Worker {id} gave no sign of life for 60s");
            self.tell_of_worker(batch, EventKind::WorkerOffline, &id, "reaper", detail);
        }
        self.end_waiting(batch);
        Ok(())
    }

    /// Answers the claims that have waited long enough.
    pub(super) fn end_waiting(&mut self, batch: &mut Batch<'_>) {
        while let Some(waiter) = self.waiting.take_due(batch.now.mono) {
            batch.answer(waiter.reply, Ok(None));
        }
    }

    /// Takes a decided change into the batch, the counts and the schedule.
    pub(super) fn apply(&mut self, batch: &mut Batch<'_>, old: Option<&Task>, change: Change) {
        let Change { task, kind, audit } = change;
        if let Some(old) = old {
            self.counters.tasks_by_status[old.status as usize] -= 1;
        }
        self.counters.tasks_by_status[task.status as usize] += 1;
        self.tell(batch, kind, task.id.to_string(), audit);
        self.may_match = true;
        self.schedule(old, &task, batch.now);
        for holder in old.into_iter().chain([&task]).filter_map(|task| task.lease.as_ref()) {
            batch.touched_workers.insert(holder.worker_id.clone());
        }
        batch.changes.archived.retain(|seq| *seq != task.seq());
        batch.left.retain(|left| left.seq() != task.seq());
        batch.changes.tasks.insert(task.seq(), task);
    }

    /// Keeps ready queue, deadlines and load in step with a task's record.
    pub(super) fn schedule(&mut self, old: Option<&Task>, new: &Task, now: Now) {
        let seq = new.seq();
        if let Some(old) = old {
            if old.status == TaskStatus::Queued {
                self.ready.remove(old, self.agents.of(seq));
                self.later.remove(old);
            }
            self.workers.count(old, false);
            self.agents.count(old, false);
        }
        self.enqueue(new, now);
        self.workers.count(new, true);
        self.agents.count(new, true);
        if new.status.is_finished() {
            self.agents.forget(seq);
        }
        match &new.lease {
            Some(lease) => {
                self.deadlines.set(new.seq(), lease, now);
            }
            None => self.deadlines.clear(new.seq()),
        }
    }

    /// Puts a queued task where it waits: for a worker, or for its time.
    pub(super) fn enqueue(&mut self, task: &Task, now: Now) {
        let waits = task.status == TaskStatus::Queued && self.later.insert(task, self.moment(now));
        if task.status == TaskStatus::Queued && !waits {
            self.ready.insert(task, self.agents.of(task.seq()));
        }
    }

    fn moment(&self, now: Now) -> Moment {
        Moment { wall: now.wall, age_ms: self.served.age_ms(now.mono) }
    }

    /// Tasks whose time has come may be handed out.
    fn bring_forward(&mut self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        let now = batch.now;
        while let Some(seq) = self.later.take_due(self.moment(now)) {
            if let Some(task) = batch.task_at(seq)? {
                self.enqueue(&task, now);
                self.may_match = true;
            }
        }
        Ok(())
    }

    /// When the next of them is due; a wall clock may jump there sooner, so it is looked at.
    pub(super) fn next_later(&self) -> Option<Mono> {
        let backoff = self.later.next_age_ms().map(|age_ms| self.served.moment_of(age_ms));
        let moment = self.later.next_wall().map(|moment| {
            let wait_ms = moment.saturating_sub(self.looked.wall).max(0) as u64;
            self.looked.mono.after_ms(wait_ms.min(WALL_LOOK_MS))
        });
        backoff.into_iter().chain(moment).min()
    }

    /// Learns whose tasks these are, where agents have limits.
    pub(super) fn learn_agents(&mut self, hot: &Hot) -> Result<(), StoreError> {
        if self.agents.are_free() {
            return Ok(());
        }
        let mut unknown = None;
        hot.for_each_task(|task| match hot.spec(task.seq()) {
            Ok(Some(spec)) if !task.status.is_finished() => {
                self.agents.learn(task.seq(), &spec.agent_slug);
            }
            Ok(_) => {}
            Err(error) => unknown = Some(error),
        })?;
        unknown.map_or(Ok(()), Err)
    }
}
