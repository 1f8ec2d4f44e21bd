//! Idempotency keys: one task a key for a day of served time, whatever happens to the task, the disk or the
//! clocks meanwhile.

use super::*;
use crate::domain::IdempotencyKey;
use crate::engine::{NotWritten, Retention};

const DAY_MS: u64 = 86_400_000;
const FORTY_YEARS_MS: i64 = 40 * 365 * DAY_MS as i64;

fn keyed(key: &str, new: NewTask, reply: Reply<TaskView>) -> Command {
    Command::Create { new: Box::new(new), key: IdempotencyKey::new(key.as_bytes()), reply }
}

fn other_task() -> NewTask {
    NewTask { priority: 7, ..new_task() }
}

impl World {
    fn create_under(&mut self, key: &str, new: NewTask) -> Result<TaskView, EngineError> {
        self.ask(|reply| keyed(key, new, reply))
    }

    /// The key stands for this task, and nothing is written by asking.
    #[track_caller]
    fn stands_for(&mut self, key: &str, first: &TaskView) {
        let before = (self.hot.syncs(), self.core.events.latest(), self.query.stats());
        assert_eq!(self.create_under(key, new_task()).as_ref(), Ok(first));
        let reused = refused(Refusal::IdempotencyKeyReused);
        assert_eq!(self.create_under(key, other_task()), reused);
        assert_eq!((self.hot.syncs(), self.core.events.latest(), self.query.stats()), before);
        self.assert_healthy();
    }

    /// A key under which nothing has been created makes a new task.
    #[track_caller]
    fn is_free(&mut self, key: &str, before: &TaskView) -> TaskView {
        let fresh = self.create_under(key, new_task()).expect("it is free");
        assert_ne!(fresh.task.id, before.task.id, "{key}");
        self.stands_for(key, &fresh);
        fresh
    }

    fn keys_held(&self) -> u64 {
        self.store.hot().unwrap().keys_held().unwrap()
    }

    /// Takes away every task that is finished and in the archive.
    fn remove_finished(&mut self) {
        self.clock.pass_ms(2);
        let now = self.clock.now().mono;
        let due = self.query.due(&Retention::days(0), now, 99).expect("the disk works");
        let tasks = self.ask(|reply| Command::BeginRemoval { due, reply }).expect("possible");
        self.query.remove_archived(&tasks).expect("the disk works");
        self.ask(|reply| Command::Removed { tasks, reply }).expect("always possible");
    }
}

#[test]
fn a_key_gives_the_same_answer_whatever_has_become_of_the_task_p8() {
    let mut world = World::new();
    world.register("w", 1);
    let first = world.create_under("k", new_task()).expect("it is free");
    world.stands_for("k", &first);
    world.clock.pass_ms(5);
    let lease = world.leased(first.task.id);
    world.stands_for("k", &first);
    world.fail(first.task.id, lease).expect("held");
    world.stands_for("k", &first);
    world.move_finished();
    assert_eq!(world.hot_tasks(), 0);
    world.stands_for("k", &first);
    let mut world = world.restart();
    world.stands_for("k", &first);
    world.requeue(first.task.id).expect("failed");
    world.stands_for("k", &first);
    world.is_free("another", &first);
    let plain = world.create();
    assert_ne!(plain, first.task.id, "without a key every task is a new one");
    assert_eq!(world.keys_held(), 2);
}

#[test]
fn two_creations_with_one_key_in_one_batch_make_one_task() {
    let mut world = World::new();
    let mut batch = Vec::new();
    let answers =
        ["k", "k", "k", "j"].map(|key| queue(&mut batch, |reply| keyed(key, new_task(), reply)));
    let reused = queue(&mut batch, |reply| keyed("k", other_task(), reply));
    world.step(batch);
    let made = answers.map(|answer| got(answer).expect("there is room"));
    assert_eq!((&made[0], &made[0]), (&made[1], &made[2]));
    assert_ne!(made[0].task.id, made[3].task.id);
    assert_eq!(got(reused), refused(Refusal::IdempotencyKeyReused));
    assert_eq!(world.listed(None, 9).len(), 2);
    world.restart().stands_for("k", &made[0]);
}

#[test]
fn a_key_counts_for_a_day_of_served_time_whatever_the_wall_clock_does_p4() {
    for jump in [0, FORTY_YEARS_MS, -FORTY_YEARS_MS] {
        let mut world = World::new();
        let first = world.create_under("k", new_task()).expect("it is free");
        world.clock.set_wall(NOW + jump);
        world.pass_ms(DAY_MS / 2);
        world.step(vec![Command::Stop]);
        let mut world = world.restart();
        world.clock.set_wall(NOW);
        world.pass_ms(DAY_MS / 2);
        world.stands_for("k", &first);
        world.clock.set_wall(NOW - jump);
        world.clock.pass_ms(1);
        let second = world.is_free("k", &first);
        assert_eq!(world.keys_held(), 1, "the old one is gone");
        world.restart().stands_for("k", &second);
    }
}

#[test]
fn old_keys_go_a_few_at_a_time_with_new_ones_and_the_others_stay() {
    let mut world = World::new();
    let old: Vec<_> = (0..10)
        .map(|n| world.create_under(&format!("old-{n}"), new_task()).expect("it is free"))
        .collect();
    world.clock.pass_ms(DAY_MS / 2);
    let young = world.create_under("young", new_task()).expect("it is free");
    world.clock.pass_ms(DAY_MS / 2 + 1);
    world.create();
    assert_eq!(world.keys_held(), 11, "a task without a key is no occasion");
    // The last of the old ones is used anew in the batch that lets go of the first.
    let mut batch = Vec::new();
    let again = queue(&mut batch, |reply| keyed("old-9", new_task(), reply));
    let fresh = queue(&mut batch, |reply| keyed("fresh", new_task(), reply));
    world.step(batch);
    let again = got(again).expect("it is free");
    assert_ne!(again.task.id, old[9].task.id);
    got(fresh).expect("it is free");
    assert_eq!(world.keys_held(), 4, "eight went and the ninth, the tenth stands for another");
    world.create_under("one more", new_task()).expect("it is free");
    assert_eq!(world.keys_held(), 4);
    world.stands_for("old-9", &again);
    world.stands_for("young", &young);
    let mut world = world.restart();
    world.stands_for("old-9", &again);
    world.stands_for("young", &young);
    world.is_free("old-0", &old[0]);
}

#[test]
fn a_key_of_a_task_that_retention_took_is_free() {
    let mut world = World::new();
    let first = world.create_under("k", new_task()).expect("it is free");
    world.cancel(first.task.id).expect("queued");
    world.move_finished();
    world.remove_finished();
    assert_eq!(world.query.task(first.task.id), refused(Refusal::TaskNotFound));
    world.assert_healthy();
    let second = world.is_free("k", &first);
    assert_eq!(world.keys_held(), 1);
    world.restart().stands_for("k", &second);
}

#[test]
fn a_commit_that_fails_leaves_no_key_behind_p6() {
    let mut world = World::new();
    let first = world.create_under("there", new_task()).expect("it is free");
    world.hot.break_down();
    let failed = world.create_under("k", new_task());
    assert!(matches!(
        failed,
        Err(EngineError::NotWritten { why: NotWritten::Failing | NotWritten::ReadOnly, .. })
    ));
    let paused = world.create_under("there", new_task());
    assert!(matches!(paused, Err(EngineError::NotWritten { .. })));
    world.hot.work_again();
    world.pass_ms(10_000);
    assert_eq!(world.listed(None, 9), [first.task.id]);
    let second = world.create_under("k", other_task()).expect("nothing was created under it");
    assert_eq!(world.listed(None, 9), [second.task.id, first.task.id]);
    world.stands_for("there", &first);
    world.restart().stands_for("there", &first);
}

#[test]
fn keys_have_a_limit_at_which_only_new_ones_are_refused_p9() {
    let mut world = World::new();
    world.core.keys_max = 3;
    let mut batch = Vec::new();
    let answers: Vec<_> = (0..4)
        .map(|n| queue(&mut batch, |reply| keyed(&format!("k-{n}"), new_task(), reply)))
        .collect();
    world.step(batch);
    let mut answers: Vec<_> = answers.into_iter().map(got).collect();
    let too_many = refused(Refusal::TooManyIdempotencyKeys);
    assert_eq!(answers.pop(), Some(too_many.clone()));
    let before = (world.hot.syncs(), world.core.events.latest());
    assert_eq!(world.create_under("k-3", new_task()), too_many);
    assert_eq!((world.hot.syncs(), world.core.events.latest()), before, "it writes nothing");
    world.stands_for("k-0", answers[0].as_ref().expect("there was room"));
    world.create();
    world.clock.pass_ms(DAY_MS + 1);
    world.create_under("k-3", new_task()).expect("old keys make room");
    assert_eq!(world.keys_held(), 1);
}
