//! The ready queue: which queued task a worker gets next.
//!
//! Highest priority first, oldest first within it, a task of a context that the worker already
//! holds preferred among those of equal priority (`DESIGN §3`). Tasks that ask for the same labels
//! share a group, so that finding one costs a look at each group's head, not at each task; those of an
//! agent with a limit have groups of their own. Must stay true: exactly the queued tasks that wait for
//! no time are in it. Not here: whether the worker may (`gate`), who waits for a time (`later`).

use super::agents::{Agents, Limited};
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
    groups: BTreeMap<Option<Limited>, BTreeMap<Vec<String>, Group>>,
}

fn rank(task: &Task) -> Rank {
    (Reverse(task.priority), task.seq())
}

impl Ready {
    pub fn insert(&mut self, task: &Task, agent: Option<Limited>) {
        let of_agent = self.groups.entry(agent).or_default();
        let group = match of_agent.get_mut(&task.labels) {
            Some(group) => group,
            None => of_agent.entry(task.labels.clone()).or_default(),
        };
        group.by_rank.insert(rank(task));
        group.by_context.insert((context_key(&task.context_id), rank(task)));
    }

    pub fn remove(&mut self, task: &Task, agent: Option<Limited>) {
        let Some(of_agent) = self.groups.get_mut(&agent) else { return };
        let Some(group) = of_agent.get_mut(&task.labels) else { return };
        group.by_rank.remove(&rank(task));
        group.by_context.remove(&(context_key(&task.context_id), rank(task)));
        if group.by_rank.is_empty() {
            of_agent.remove(&task.labels);
        }
    }

    /// The groups that a limit does not hold back.
    fn open<'a>(
        &'a self,
        agents: &'a Agents,
    ) -> impl Iterator<Item = (&'a Vec<String>, &'a Group)> {
        let is_open = |agent: &Option<Limited>| agent.is_none_or(|agent| !agents.is_full(agent));
        self.groups.iter().filter(move |(agent, _)| is_open(agent)).flat_map(|(_, groups)| groups)
    }

    /// The next task for a worker that offers these labels and holds these contexts.
    pub fn pick(
        &self,
        offered: &[String],
        contexts: impl Iterator<Item = u64>,
        agents: &Agents,
    ) -> Option<u64> {
        let fitting = || {
            let fits = |labels: &[String]| labels.iter().all(|label| offered.contains(label));
            self.open(agents).filter(move |(labels, _)| fits(labels)).map(|(_, group)| group)
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
    pub fn heads(&self, agents: &Agents) -> Vec<u64> {
        let mut heads: Vec<Rank> =
            self.open(agents).filter_map(|(_, group)| group.by_rank.first().copied()).collect();
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
        tasks.iter().for_each(|task| ready.insert(task, None));
        ready
    }

    #[test]
    fn the_highest_priority_comes_first_and_the_oldest_within_it() {
        let tasks = [task(1, 0, "a", &[]), task(2, 5, "b", &[]), task(3, 5, "c", &[])];
        let mut ready = ready(&tasks);
        for (expected, task) in [(2, &tasks[1]), (3, &tasks[2]), (1, &tasks[0])] {
            assert_eq!(ready.pick(&[], std::iter::empty(), &Agents::default()), Some(expected));
            ready.remove(task, None);
        }
        assert_eq!(ready.pick(&[], std::iter::empty(), &Agents::default()), None);
        assert!(ready.groups.values().all(BTreeMap::is_empty));
    }

    #[test]
    fn a_context_that_the_worker_holds_is_preferred_among_equals_only() {
        let ready = ready(&[task(1, 1, "a", &[]), task(2, 1, "b", &[]), task(3, 0, "c", &[])]);
        let holding = |context| std::iter::once(context_key(context));
        assert_eq!(ready.pick(&[], holding("b"), &Agents::default()), Some(2));
        assert_eq!(ready.pick(&[], holding("c"), &Agents::default()), Some(1));
    }

    #[test]
    fn a_task_waits_for_a_worker_that_offers_every_label() {
        let ready = ready(&[task(1, 9, "a", &["gpu", "big"]), task(2, 0, "b", &["gpu"])]);
        let pick = |labels: &[&str]| {
            let offered: Vec<String> = labels.iter().map(|label| label.to_string()).collect();
            ready.pick(&offered, std::iter::empty(), &Agents::default())
        };
        assert_eq!(pick(&[]), None);
        assert_eq!(pick(&["gpu"]), Some(2));
        assert_eq!(pick(&["big", "gpu"]), Some(1));
        assert_eq!(ready.heads(&Agents::default()), [1, 2]);
    }

    #[test]
    fn an_agent_at_its_limit_is_passed_over_until_one_of_its_leases_ends() {
        let (mut limited, mut other) = (task(1, 9, "a", &[]), task(2, 0, "b", &[]));
        let mut agents = Agents::new([("reviewer".to_owned(), 1)].into());
        agents.learn(limited.seq(), "reviewer");
        agents.learn(other.seq(), "writer");
        let mut ready = Ready::default();
        ready.insert(&limited, agents.of(limited.seq()));
        ready.insert(&other, agents.of(other.seq()));
        let pick = |agents: &Agents| ready.pick(&[], std::iter::empty(), agents);
        assert_eq!(pick(&agents), Some(1));
        let lease = crate::domain::grant(
            &other,
            &crate::domain::WorkerId("w".into()),
            crate::domain::LeaseId::new(1, 0),
            None,
            0,
        );
        other.lease = lease.expect("queued").task.lease;
        agents.count(&other, true);
        assert_eq!(pick(&agents), Some(1), "the other agent's lease is not this one's");
        limited.lease = other.lease.clone();
        agents.count(&limited, true);
        assert_eq!((pick(&agents), ready.heads(&agents)), (Some(2), vec![2]));
        agents.count(&limited, false);
        assert_eq!(pick(&agents), Some(1));
    }
}
