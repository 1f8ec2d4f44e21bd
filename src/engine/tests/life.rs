//! Long random lives: batches of any commands, moves, crashes and silences, with the promises checked
//! after every step.

use super::*;
use crate::domain::{LeaseStatus, Outcome};
use std::collections::HashMap;

const WORKERS: [(&str, u32); 3] = [("a", 1), ("b", 2), ("c", 3)];

/// A small generator (splitmix64): the same life for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }
}

/// What a completion's answer shows, of the task in particular.
type Shown = (Outcome, TaskStatus, u32, i64, Option<LeaseId>);

fn shown(Completed { task: TaskView { task, .. }, outcome }: Completed) -> Shown {
    let lease = task.shown_lease().map(|lease| lease.id);
    (outcome, task.status, task.attempts, task.updated_at, lease)
}

/// What the outside knows.
#[derive(Default)]
struct Outside {
    tasks: Vec<TaskId>,
    leases: Vec<(TaskId, LeaseId)>,
    /// Per lease under which something was completed: the one answer.
    completed: HashMap<LeaseId, Shown>,
    copied: Option<Copied>,
}

fn random_batch(dice: &mut Dice, outside: &mut Outside, answers: &mut Answers) -> Vec<Command> {
    let mut batch = Vec::new();
    for _ in 0..dice.roll(6) {
        let any = |dice: &mut Dice, n: usize| (n > 0).then(|| dice.roll(n));
        let task = any(dice, outside.tasks.len()).map(|n| outside.tasks[n]);
        let held = any(dice, outside.leases.len()).map(|n| outside.leases[n]);
        let (name, most) = WORKERS[dice.roll(WORKERS.len())];
        match (dice.roll(10), task, held) {
            (0 | 1, ..) => answers.created.push(queue(&mut batch, create)),
            (2, Some(task), _) => answers.leased.push(queue(&mut batch, |r| lease(task, r))),
            (3, ..) => {
                let wait_ms = [0, 20_000][dice.roll(2)];
                let answer = queue(&mut batch, |r| claim(name, wait_ms, r));
                answers.claimed.push((name, answer));
            }
            (4, _, Some((task, held))) => drop(queue(&mut batch, |r| heartbeat(task, held, r))),
            (5 | 6, _, Some((task, held))) => {
                let status = [CompletionStatus::Success, CompletionStatus::Error][dice.roll(2)];
                let answer = queue(&mut batch, |r| complete(task, held, status, r));
                answers.completed.push((held, answer));
            }
            (7, Some(task), _) => {
                drop(queue(&mut batch, |reply| Command::Requeue { task, reply }));
            }
            (8, Some(task), _) if dice.roll(3) == 0 => {
                drop(queue(&mut batch, |reply| Command::Cancel { task, reply }));
            }
            (9, ..) => {
                let max_concurrency = Some(most);
                let registration = Registration { max_concurrency, ..Registration::default() };
                drop(queue(&mut batch, |reply| register(name, registration, reply)));
            }
            _ => {}
        }
        if let Some(copied) = outside.copied.take_if(|_| dice.roll(4) == 0) {
            drop(queue(&mut batch, |reply| Command::Archived { copied, reply }));
        }
    }
    batch
}

#[derive(Default)]
struct Answers {
    created: Vec<Receiver<Result<TaskView, EngineError>>>,
    leased: Vec<Receiver<Result<LeaseAnswer, EngineError>>>,
    claimed: Vec<(&'static str, Receiver<ClaimResult>)>,
    completed: Vec<(LeaseId, Receiver<Result<Completed, EngineError>>)>,
}

impl Answers {
    fn note(&mut self, outside: &mut Outside) {
        for created in self.created.drain(..) {
            outside.tasks.extend(got(created).map(|view| view.task.id));
        }
        for leased in self.leased.drain(..) {
            outside
                .leases
                .extend(got(leased).map(|answer| (answer.lease.task_id, answer.lease.id)));
        }
        self.claimed.retain_mut(|(_, waiting)| match waiting.try_recv() {
            Ok(answer) => {
                let claimed = answer.expect("registered");
                outside.leases.extend(claimed.map(|got| (got.lease.task_id, got.lease.id)));
                false
            }
            Err(oneshot::error::TryRecvError::Empty) => true,
            Err(oneshot::error::TryRecvError::Closed) => false,
        });
        for (held, answer) in self.completed.drain(..) {
            let Ok(done) = got(answer).map(shown) else { continue };
            let known = outside.completed.entry(held).or_insert_with(|| done.clone());
            assert_eq!(*known, done, "one answer under one lease (P7)");
        }
    }
}

fn check(world: &World, outside: &Outside) {
    world.assert_healthy();
    let stats = world.query.stats();
    assert_eq!(stats.tasks_by_status.iter().sum::<u64>() as usize, outside.tasks.len());
    for status in TaskStatus::ALL {
        let listed = world.listed(Some(status), 3).len();
        assert_eq!(listed as u64, stats.tasks_by_status[status as usize], "{status:?}");
    }
    let newest_first: Vec<_> = outside.tasks.iter().rev().copied().collect();
    assert_eq!(world.listed(None, 7), newest_first, "each task once");
    let active = world.query.leases(&[LeaseStatus::Active], u64::MAX, 1_000).unwrap().rows;
    assert_eq!(active.len() as u64, stats.leases_active);
    for (name, most) in WORKERS {
        let (view, leases) = world.query.worker(&worker(name)).expect("registered");
        assert!(view.active_leases <= most, "{name} holds {} (P2)", view.active_leases);
        assert_eq!(leases.len(), view.active_leases as usize);
        let held = active.iter().filter(|lease| lease.worker_id == worker(name)).count();
        assert_eq!(held, leases.len());
    }
    for view in world.query.tasks(None, u64::MAX, 1_000).unwrap().rows {
        let task = view.task;
        let has_lease = matches!(task.status, TaskStatus::Leased | TaskStatus::Running);
        assert_eq!(task.lease.is_some(), has_lease);
        let fences = task.ended.iter().map(|ended| ended.lease.fence);
        let fences: Vec<_> = fences.chain(task.lease.map(|lease| lease.fence)).collect();
        assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?} (P3)");
    }
    let outcomes = world.query.outcomes(u64::MAX, 1_000).unwrap().rows;
    let mut stored: Vec<_> = outcomes.iter().map(|outcome| outcome.lease_id).collect();
    stored.sort_unstable();
    let mut answered: Vec<_> = outside.completed.keys().copied().collect();
    answered.sort_unstable();
    assert_eq!(stored, answered, "every answered completion is stored once (P1, P7)");
}

#[test]
fn every_promise_holds_in_random_lives_p1_to_p7() {
    for seed in 0..12 {
        let mut dice = Dice(seed);
        let mut world = World::new();
        let mut outside = Outside::default();
        let mut answers = Answers::default();
        WORKERS.iter().for_each(|(name, most)| drop(world.register(name, *most)));
        for _ in 0..120 {
            world.clock.pass_ms(dice.roll(4_000) as u64);
            match dice.roll(24) {
                0 => world.clock.pass_ms(TTL_MS),
                1 => world.clock.set_wall(NOW - (dice.roll(80) as i64 - 40) * 365 * 86_400_000),
                2 => {
                    // What was in memory is gone, the callers with it.
                    outside.copied = None;
                    answers.claimed.clear();
                    world = world.restart();
                }
                3 | 4 => outside.copied = Some(world.copy_finished()),
                _ => {}
            }
            let batch = random_batch(&mut dice, &mut outside, &mut answers);
            world.step(batch);
            answers.note(&mut outside);
            check(&world, &outside);
            if world.query.stats().tasks_by_status[TaskStatus::Queued as usize] > 0 {
                for (name, _) in &answers.claimed {
                    let view = world.query.worker(&worker(name)).expect("registered").0;
                    let free = view.active_leases < view.worker.capabilities.max_concurrency;
                    assert!(!free || !view.is_online(), "{name} waits beside a queued task");
                }
            }
        }
    }
}
