//! What the writer decides about a new task, and about one that is sent again under its key.
//!
//! Must stay true: a key is kept in the commit of its task and for a day of served time, whatever the wall
//! clock does (P4, P6); memory holds none of them; what is sent again writes nothing (P8). Not here: what
//! counts as the same (`domain::creation`), the tables (`store::keys`).

use super::{Core, LIVE_TASKS_MAX};
use crate::domain::{self, IdempotencyKey, NewTask, Refusal, TaskId, TaskStatus};
use crate::engine::batch::Batch;
use crate::engine::{EngineError, TaskView};
use crate::store::KeyedTask;

/// How long a key counts, at least.
pub const KEY_KEPT_MS: u64 = 86_400_000;
/// The most keys that are held: some hundred bytes each, which a start after a crash reads.
pub const KEYS_MAX: u64 = 1_000_000;
/// Old keys that go for a new one: more than one, so that they become fewer.
const OLD_KEYS_AT_ONCE: usize = 4;

impl Core {
    /// Makes a task, unless one was made under this key: then it is answered as it was made, if the
    /// wish is the same.
    pub(super) fn create(
        &mut self,
        batch: &mut Batch<'_>,
        new: NewTask,
        key: Option<IdempotencyKey>,
    ) -> Result<TaskView, EngineError> {
        if let Some(key) = &key
            && let Some(TaskView { task, spec }) = self.created_under(batch, key)?
        {
            return match domain::is_same(&task, &spec, &new) {
                true => Ok(TaskView { task: domain::as_created(&task), spec }),
                false => Err(Refusal::IdempotencyKeyReused.into()),
            };
        }
        let live = [TaskStatus::Queued, TaskStatus::Leased, TaskStatus::Running];
        let live: u64 = live.iter().map(|s| self.counters.tasks_by_status[*s as usize]).sum();
        if live >= LIVE_TASKS_MAX {
            return Err(Refusal::QueueFull.into());
        }
        if key.is_some() {
            self.make_room_for_key(batch)?;
        }
        self.counters.last_task += 1;
        let id = TaskId::new(self.counters.last_task, (self.random)());
        let (change, spec) = domain::create(new, id, batch.now.wall);
        let view = TaskView { task: change.task.clone(), spec: spec.clone() };
        self.agents.learn(id.seq(), &spec.agent_slug);
        if let Some(key) = key {
            let age_ms = self.served.age_ms(batch.now.mono);
            batch.changes.keys.insert(key, KeyedTask { seq: id.seq(), age_ms });
        }
        batch.changes.specs.insert(id.seq(), spec);
        self.apply(batch, None, change);
        Ok(view)
    }

    /// The task that this key still stands for: none when its time is over, or when retention took it.
    fn created_under(
        &self,
        batch: &mut Batch<'_>,
        key: &IdempotencyKey,
    ) -> Result<Option<TaskView>, EngineError> {
        let Some(KeyedTask { seq, age_ms }) = batch.keyed_task(key)? else { return Ok(None) };
        // Later than its time: ages are rounded down.
        if self.served.age_ms(batch.now.mono) > age_ms + KEY_KEPT_MS {
            return Ok(None);
        }
        let Some(task) = batch.task_at(seq)? else { return Ok(None) };
        let spec = batch.spec(&task)?;
        Ok(Some(TaskView { task, spec }))
    }

    fn make_room_for_key(&self, batch: &mut Batch<'_>) -> Result<(), EngineError> {
        let older_than_ms = self.served.age_ms(batch.now.mono).saturating_sub(KEY_KEPT_MS);
        batch.let_go_of_keys(older_than_ms, OLD_KEYS_AT_ONCE)?;
        match batch.keys_held()? < self.keys_max {
            true => Ok(()),
            false => Err(Refusal::TooManyIdempotencyKeys.into()),
        }
    }
}
