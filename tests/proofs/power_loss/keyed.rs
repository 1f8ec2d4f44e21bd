//! What the outside knows of idempotency keys, and what must be answered when one is sent again.
//!
//! Must stay true: it knows only what was answered. Not here: when a key is over or its task is gone
//! (`workload`).

use bloom_runtime::domain::{IdempotencyKey, NewTask, Refusal, TaskId};
use bloom_runtime::engine::{EngineError, TaskView};
use std::collections::BTreeMap;

pub type Created = Result<TaskView, EngineError>;

/// Keys with what was asked for and answered under them.
#[derive(Default)]
pub struct Keyed(BTreeMap<IdempotencyKey, (NewTask, TaskView)>);

impl Keyed {
    pub fn insert(&mut self, key: IdempotencyKey, new: NewTask, view: TaskView) {
        self.0.insert(key, (new, view));
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn forget(&mut self, stays: impl Fn(&TaskId) -> bool) {
        self.0.retain(|_, (_, view)| stays(&view.task.id));
    }

    /// A known key gives the known answer, or none to something else.
    pub fn hold_against(&self, key: &IdempotencyKey, new: &NewTask, answer: &Created) {
        if let Some((first, view)) = self.0.get(key) {
            assert_eq!(answer, &expected(first == new, view), "{key:?}");
        }
    }

    /// Some of the known creations again, each with the answer that it must get, and something else under
    /// the same keys.
    pub fn again(&self) -> Vec<(IdempotencyKey, NewTask, Created)> {
        let known = self.0.iter().rev().take(3);
        let twice = known.flat_map(|(key, (new, view))| {
            let other = NewTask { max_attempts: new.max_attempts + 1, ..new.clone() };
            [(true, new.clone()), (false, other)]
                .map(|(is_same, new)| (key.clone(), new, expected(is_same, view)))
        });
        twice.collect()
    }
}

fn expected(is_same: bool, view: &TaskView) -> Created {
    match is_same {
        true => Ok(view.clone()),
        false => Err(EngineError::Refused(Refusal::IdempotencyKeyReused)),
    }
}
