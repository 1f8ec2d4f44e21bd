//! The ready queue: which queued task a worker gets next.
//!
//! Highest priority first, oldest first within it, a task of a context that the worker already
//! holds preferred among those of equal priority (`DESIGN §3`). Tasks that ask for the same labels
//! share a group, so that finding one costs a look at each group's head, not at each task. Must stay
//! true: exactly the tasks with status `queued` are in it. Not here: whether the worker may (`gate`).

use crate::domain::{Task, context_key};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

type Rank = (Reverse<u8>, u64);

#[derive(Default)]
struct Group {
    by_rank: BTreeSet<Rank>,
    by_context: BTreeSet<(u64, Rank)>,
}

/// The queued tasks in the order in which they are handed out.
#[derive(Default)]
pub struct Ready {
    groups: BTreeMap<Vec<String>, Group>,
}

fn rank(task: &Task) -> Rank {
    (Reverse(task.priority), task.seq())
}

impl Ready {
    pub fn insert(&mut self, task: &Task) {
        let group = match self.groups.get_mut(&task.labels) {
            Some(group) => group,
            None => self.groups.entry(task.labels.clone()).or_default(),
        };
        group.by_rank.insert(rank(task));
        group.by_context.insert((context_key(&task.context_id), rank(task)));
    }

    pub fn remove(&mut self, task: &Task) {
        let Some(group) = self.groups.get_mut(&task.labels) else { return };
        group.by_rank.remove(&rank(task));
        group.by_context.remove(&(context_key(&task.context_id), rank(task)));
        if group.by_rank.is_empty() {
            self.groups.remove(&task.labels);
        }
    }

    /// The next task for a worker that offers these labels and holds these contexts.
    pub fn pick(&self, offered: &[String], contexts: impl Iterator<Item = u64>) -> Option<u64> {
        let fitting = || {
            let fits = |labels: &[String]| labels.iter().all(|label| offered.contains(label));
            self.groups.iter().filter(move |(labels, _)| fits(labels)).map(|(_, group)| group)
        };
        let first = *fitting().filter_map(|group| group.by_rank.first()).min()?;
        let sticky = contexts
            .flat_map(|context| fitting().map(move |group| (context, group)))
            .filter_map(|(context, group)| {
                let equals = (context, (first.0, 0))..=(context, (first.0, u64::MAX));
                group.by_context.range(equals).next().map(|(_, rank)| *rank)
            })
            .min();
        Some(sticky.unwrap_or(first).1)
    }

    /// The first task of each group of equal labels, in the order in which they are handed out.
    pub fn heads(&self) -> Vec<u64> {
        let mut heads: Vec<Rank> =
            self.groups.values().filter_map(|group| group.by_rank.first().copied()).collect();
        heads.sort_unstable();
        heads.into_iter().map(|(_, seq)| seq).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{TaskId, tests_support::queued_task};

    fn task(seq: u64, priority: u8, context: &str, labels: &[&str]) -> Task {
        Task {
            id: TaskId::new(seq, 0),
            priority,
            context_id: context.into(),
            labels: labels.iter().map(|label| label.to_string()).collect(),
            ..queued_task()
        }
    }

    fn ready(tasks: &[Task]) -> Ready {
        let mut ready = Ready::default();
        tasks.iter().for_each(|task| ready.insert(task));
        ready
    }

    #[test]
    fn the_highest_priority_comes_first_and_the_oldest_within_it() {
        let tasks = [task(1, 0, "a", &[]), task(2, 5, "b", &[]), task(3, 5, "c", &[])];
        let mut ready = ready(&tasks);
        for (expected, task) in [(2, &tasks[1]), (3, &tasks[2]), (1, &tasks[0])] {
            assert_eq!(ready.pick(&[], std::iter::empty()), Some(expected));
            ready.remove(task);
        }
        assert_eq!(ready.pick(&[], std::iter::empty()), None);
        assert!(ready.groups.is_empty());
    }

    #[test]
    fn a_context_that_the_worker_holds_is_preferred_among_equals_only() {
        let ready = ready(&[task(1, 1, "a", &[]), task(2, 1, "b", &[]), task(3, 0, "c", &[])]);
        let holding = |context| std::iter::once(context_key(context));
        assert_eq!(ready.pick(&[], holding("b")), Some(2));
        assert_eq!(ready.pick(&[], holding("c")), Some(1));
    }

    #[test]
    fn a_task_waits_for_a_worker_that_offers_every_label() {
        let ready = ready(&[task(1, 9, "a", &["gpu", "big"]), task(2, 0, "b", &["gpu"])]);
        let offered = |labels: &[&str]| labels.iter().map(|l| l.to_string()).collect::<Vec<_>>();
        assert_eq!(ready.pick(&offered(&[]), std::iter::empty()), None);
        assert_eq!(ready.pick(&offered(&["gpu"]), std::iter::empty()), Some(2));
        assert_eq!(ready.pick(&offered(&["big", "gpu"]), std::iter::empty()), Some(1));
        assert_eq!(ready.heads(), [1, 2]);
    }
}
