//! Queued tasks that are not handed out yet: they wait for a backoff, or for the author's moment.
//!
//! A backoff ends at an age of the store, which no clock can move (P4); the author's `not_before` is a
//! moment of the wall clock, whatever that says now. Must stay true: a task is here or in the ready
//! queue, never in both. Not here: how long a backoff is (`domain::retry`).

use crate::domain::Task;
use std::collections::BTreeSet;

/// Now, as it concerns who waits.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Unix milliseconds.
    pub wall: i64,
    pub age_ms: u64,
}

/// The tasks that wait for a time, by that time.
#[derive(Default)]
pub struct Later {
    by_age: BTreeSet<(u64, u64)>,
    by_wall: BTreeSet<(i64, u64)>,
}

impl Later {
    /// Takes a task in if there is something that it waits for.
    pub fn insert(&mut self, task: &Task, now: Moment) -> bool {
        let delay = task.delay.filter(|delay| delay.until_age_ms > now.age_ms);
        let not_before = task.not_before.filter(|moment| *moment > now.wall);
        match (delay, not_before) {
            (Some(delay), _) => self.by_age.insert((delay.until_age_ms, task.seq())),
            (None, Some(moment)) => self.by_wall.insert((moment, task.seq())),
            (None, None) => return false,
        };
        true
    }

    pub fn remove(&mut self, task: &Task) {
        if let Some(delay) = task.delay {
            self.by_age.remove(&(delay.until_age_ms, task.seq()));
        }
        if let Some(moment) = task.not_before {
            self.by_wall.remove(&(moment, task.seq()));
        }
    }

    /// Takes out a task whose time has come, if there is one; it may have another to wait for.
    pub fn take_due(&mut self, now: Moment) -> Option<u64> {
        // Ages are rounded down: only a later one is certain that all of the wait has passed.
        if let Some(first) = self.by_age.first().copied().filter(|(age, _)| *age < now.age_ms) {
            self.by_age.remove(&first);
            return Some(first.1);
        }
        let first = self.by_wall.first().copied().filter(|(wall, _)| *wall <= now.wall)?;
        self.by_wall.remove(&first);
        Some(first.1)
    }

    /// The age at which the next backoff is over.
    pub fn next_age_ms(&self) -> Option<u64> {
        self.by_age.first().map(|(age_ms, _)| *age_ms)
    }

    /// The next moment of the wall clock, Unix milliseconds.
    pub fn next_wall(&self) -> Option<i64> {
        self.by_wall.first().map(|(moment, _)| *moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Delay, tests_support::queued_task};

    const NOW: Moment = Moment { wall: 1_000, age_ms: 50 };

    #[test]
    fn a_task_waits_for_its_backoff_first_and_for_its_moment_then() {
        let delay = Some(Delay { until_age_ms: 60, until: 1_010 });
        let task = Task { delay, not_before: Some(2_000), ..queued_task() };
        let mut later = Later::default();
        assert!(later.insert(&task, NOW));
        assert_eq!(later.take_due(Moment { wall: i64::MAX, age_ms: 60 }), None);
        let then = Moment { age_ms: 61, ..NOW };
        assert_eq!(later.take_due(then), Some(task.seq()));
        assert!(later.insert(&task, then), "its moment has not come");
        assert_eq!(later.take_due(Moment { wall: 2_000, ..then }), Some(task.seq()));
        assert!(!later.insert(&task, Moment { wall: 2_000, ..then }));
    }

    #[test]
    fn a_task_that_is_taken_out_is_never_due() {
        let delayed = Task { delay: Some(Delay { until_age_ms: 60, until: 0 }), ..queued_task() };
        let dated = Task { not_before: Some(2_000), ..queued_task() };
        for task in [delayed, dated] {
            let mut later = Later::default();
            assert!(later.insert(&task, NOW));
            later.remove(&task);
            assert_eq!(later.take_due(Moment { wall: i64::MAX, age_ms: u64::MAX }), None);
        }
    }
}
