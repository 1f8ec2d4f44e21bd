//! Retention: what is old enough goes wholly, once, and never early; what a crash cuts off is finished.

use super::*;
use crate::domain::LeaseStatus;
use crate::engine::Retention;
use crate::store::DueTask;
use std::collections::HashSet;

const DAY_MS: u64 = 86_400_000;
const FORTY_YEARS_MS: i64 = 40 * 365 * DAY_MS as i64;

impl World {
    fn due(&self, days: u32) -> Vec<DueTask> {
        let now = self.clock.now().mono;
        self.query.due(&Retention::days(days), now, 1_000).expect("the disk works")
    }

    fn begin_removal(&mut self, due: Vec<DueTask>) -> Arc<HashSet<u64>> {
        self.ask(|reply| Command::BeginRemoval { due, reply }).expect("always possible")
    }

    /// What follows once a removal has begun.
    fn finish_removal(&mut self) -> usize {
        let tasks = self.query.removing();
        let removed = self.query.remove_archived(&tasks).expect("the disk works");
        self.ask(|reply| Command::Removed { tasks, reply }).expect("always possible");
        removed
    }

    /// A whole step of the duty, as `background::retention` does it.
    fn remove_due(&mut self, days: u32) -> usize {
        if !self.query.removing().is_empty() {
            return self.finish_removal();
        }
        let due = self.due(days);
        self.begin_removal(due);
        self.finish_removal()
    }

    fn age_days(&mut self, days: u64) {
        self.pass_ms(days * DAY_MS);
    }

    /// Time on which a store counts only when something is written.
    fn write_something(&mut self) {
        self.register("w", 32);
    }

    /// The world must show these tasks and nothing else, in every list, by every count and id.
    #[track_caller]
    fn shows(&self, present: &[TaskId], gone: &[TaskId]) {
        let mut newest_first = present.to_vec();
        newest_first.sort_unstable();
        newest_first.reverse();
        for page in [1, 2, 1_000] {
            assert_eq!(self.listed(None, page), newest_first, "a page of {page}");
            let by_status = TaskStatus::ALL.iter().map(|s| self.listed(Some(*s), page));
            let mut listed: Vec<TaskId> = by_status.flatten().collect();
            listed.sort_unstable_by(|a, b| b.cmp(a));
            assert_eq!(listed, newest_first, "pages of {page} by status");
            let first = self.query.tasks(None, u64::MAX, page).unwrap();
            assert!(first.rows.len() == page || first.next.is_none(), "a short page of {page}");
        }
        let stats = self.query.stats();
        for status in TaskStatus::ALL {
            let listed = self.listed(Some(status), 1_000).len() as u64;
            assert_eq!(stats.tasks_by_status[status as usize], listed, "{status:?}");
        }
        let leases = self.query.leases(&LeaseStatus::ALL, u64::MAX, 1_000).unwrap().rows;
        assert_eq!(stats.leases_total, leases.len() as u64);
        assert!(leases.iter().all(|lease| present.contains(&lease.task_id)));
        let outcomes = self.query.artifacts(u64::MAX, 1_000).unwrap().rows;
        assert!(outcomes.iter().all(|artifact| match artifact {
            Artifact::Output(outcome) => present.contains(&outcome.task_id),
            Artifact::File(file) => present.contains(&file.task_id),
        }));
        for task in gone {
            assert_eq!(self.query.task(*task), refused(Refusal::TaskNotFound));
            assert_eq!(self.query.latest_outcome(*task), refused(Refusal::TaskNotFound));
            assert!(self.query.artifacts_of(*task, u64::MAX, 9).unwrap().rows.is_empty());
        }
        for task in present {
            self.query.task(*task).expect("it is there");
        }
    }

    /// Nobody can do anything with a task that is gone.
    #[track_caller]
    fn refuses(&mut self, gone: TaskId) {
        assert_eq!(self.requeue(gone), refused(Refusal::TaskNotFound));
        assert_eq!(self.cancel(gone), refused(Refusal::TaskNotFound));
        assert_eq!(self.lease(gone), refused(Refusal::TaskNotFound));
    }

    /// Rows of every table of the archive but the trail: what removal must take down to nothing.
    fn archived_rows(&self) -> [u64; 6] {
        self.store.archived_rows().expect("the disk works")
    }
}

/// A world with `n` failed tasks in the archive.
fn archived(n: usize) -> (World, Vec<TaskId>) {
    let mut world = World::new();
    let tasks = (0..n).map(|_| failed(&mut world)).collect();
    world.move_finished();
    (world, tasks)
}

fn failed(world: &mut World) -> TaskId {
    world.register("w", 32);
    let task = world.create();
    let held = world.leased(task);
    world.fail(task, held).expect("held");
    task
}

#[test]
fn a_finished_task_goes_after_its_days_with_all_that_belongs_to_it() {
    let (mut world, mut tasks) = archived(3);
    let artifact = world.query.latest_outcome(tasks[0]).unwrap().artifact_id;
    world.age_days(20);
    world.write_something();
    tasks.push(failed(&mut world));
    tasks.push(world.create());
    world.move_finished();
    world.age_days(10);
    world.clock.pass_ms(2);
    assert_eq!(world.remove_due(30), 3);
    world.shows(&tasks[3..], &tasks[..3]);
    world.refuses(tasks[0]);
    assert_eq!(world.query.artifact(artifact), refused(Refusal::ArtifactNotFound));
    assert_eq!(world.archived_rows(), [1, 2, 1, 1, 1, 1]);
    let mut world = world.restart();
    world.shows(&tasks[3..], &tasks[..3]);
    world.refuses(tasks[0]);
    let told = world.trail().into_iter().filter(|action| action == "tasks_removed").count();
    assert_eq!(told, 1, "the trail keeps what happened to them, and that they went");
    assert_eq!(world.trail().iter().filter(|action| *action == "task_created").count(), 5);
}

#[test]
fn a_removal_that_is_cut_off_at_any_point_is_finished_and_counted_once() {
    // After: the choice, the hot file's commit, the archive's commit, the word that it is done.
    for cut_after in 0..4 {
        let (mut world, tasks) = archived(4);
        world.age_days(30);
        let kept = failed(&mut world);
        world.move_finished();
        world.clock.pass_ms(2);
        let due = world.due(30);
        assert_eq!(due.len(), 4, "cut after {cut_after}");
        if cut_after >= 1 {
            world.begin_removal(due);
            world.shows(&[kept], &tasks);
        }
        if cut_after >= 2 {
            let removing = world.query.removing();
            assert_eq!(world.query.remove_archived(&removing), Ok(4));
            world.shows(&[kept], &tasks);
        }
        if cut_after >= 3 {
            world.finish_removal();
        }
        let mut world = world.restart();
        if cut_after == 0 {
            world.shows(&[&tasks[..], &[kept]].concat(), &[]);
        } else {
            world.shows(&[kept], &tasks);
            world.refuses(tasks[1]);
        }
        // The first thing that the duty does is to finish.
        let left = if cut_after == 1 { 4 } else { 0 };
        assert_eq!(world.finish_removal(), left, "cut after {cut_after}");
        world.clock.pass_ms(30 * DAY_MS + 2);
        assert_eq!(world.remove_due(60), if cut_after == 0 { 4 } else { 0 });
        world.shows(&[kept], &tasks);
        assert_eq!(world.archived_rows(), [1, 2, 1, 1, 1, 1], "cut after {cut_after}");
        let world = world.restart();
        world.shows(&[kept], &tasks);
    }
}

#[test]
fn a_removal_begun_while_another_is_not_finished_changes_nothing_and_names_that_one() {
    let (mut world, _) = archived(4);
    world.age_days(31);
    let due = world.due(30);
    let first = world.begin_removal(due[..2].to_vec());
    let stats = world.query.stats();
    assert_eq!(world.begin_removal(due[2..].to_vec()), first);
    assert_eq!(world.query.stats(), stats);
    assert_eq!(world.finish_removal(), 2);
    assert_eq!(world.remove_due(30), 2);
    world.shows(&[], &[]);
}

#[test]
fn a_task_that_a_person_requeues_before_its_removal_stays() {
    for requeue_first in [true, false] {
        let (mut world, tasks) = archived(2);
        world.age_days(31);
        let due = world.due(30);
        let mut batch = Vec::new();
        let task = tasks[0];
        let requeued =
            |batch: &mut Vec<Command>| queue(batch, |reply| Command::Requeue { task, reply });
        let early = requeue_first.then(|| requeued(&mut batch));
        let begun = queue(&mut batch, |reply| Command::BeginRemoval { due, reply });
        let late = (!requeue_first).then(|| requeued(&mut batch));
        world.step(batch);
        let answer = got(early.or(late).expect("one of them"));
        let begun = got(begun).expect("always possible");
        assert_eq!(begun.contains(&task.seq()), !requeue_first);
        if !requeue_first {
            assert_eq!(answer, refused(Refusal::TaskNotFound), "it is gone within the batch");
            continue;
        }
        answer.expect("failed");
        world.finish_removal();
        world.shows(&tasks[..1], &tasks[1..]);
        assert!(world.due(30).is_empty(), "it lives, its old copy is not due");
        assert_eq!(world.query.due_in_ms(&Retention::days(30), world.clock.now().mono), Ok(None));
        let mut world = world.restart();
        world.shows(&tasks[..1], &tasks[1..]);
        world.cancel(task).expect("queued");
        world.move_finished();
        assert_eq!(world.archived_rows(), [1, 2, 1, 1, 1, 1], "the old copy's rows are replaced");
        assert!(world.due(30).is_empty(), "its time counts from when it finished again");
        world.age_days(31);
        assert_eq!(world.remove_due(30), 0, "what was begun before the restart is done already");
        assert_eq!(world.remove_due(30), 1);
        world.shows(&[], &tasks);
        assert_eq!(world.archived_rows(), [0; 6]);
    }
}

#[test]
fn a_task_that_was_archived_anew_since_it_was_found_due_stays() {
    let (mut world, tasks) = archived(1);
    world.age_days(31);
    let due = world.due(30);
    world.requeue(tasks[0]).expect("failed");
    world.cancel(tasks[0]).expect("queued");
    world.requeue(tasks[0]).expect("cancelled");
    world.register("w", 32);
    let held = world.leased(tasks[0]);
    world.fail(tasks[0], held).expect("held");
    world.move_finished();
    assert!(world.begin_removal(due).is_empty());
    world.shows(&tasks, &[]);
}

#[test]
fn a_task_that_is_in_both_files_stays_until_the_hot_one_let_go_of_it() {
    let mut world = World::new();
    let task = failed(&mut world);
    let copied = world.copy_finished();
    world.age_days(31);
    assert!(world.due(30).is_empty());
    let now = world.clock.now().mono;
    let row = world.store.archive(Arc::default()).unwrap();
    let row = row.archived_by(TaskStatus::Failed, u64::MAX, 1, |_| false).unwrap();
    assert!(world.begin_removal(row).is_empty());
    world.ask(|reply| Command::Archived { copied, reply }).expect("always possible");
    assert_eq!(world.query.due_in_ms(&Retention::days(30), now), Ok(Some(0)));
    assert_eq!(world.remove_due(30), 1);
    world.shows(&[], &[task]);
}

#[test]
fn a_clock_that_jumps_forty_years_removes_nothing_early_p4() {
    for jump in [FORTY_YEARS_MS, -FORTY_YEARS_MS] {
        let (mut world, tasks) = archived(2);
        let wall = world.clock.now().wall;
        world.clock.set_wall(wall + jump);
        world.write_something();
        assert!(world.due(1).is_empty(), "jump of {jump}");
        let mut world = world.restart();
        world.clock.set_wall(wall);
        world.write_something();
        assert!(world.due(1).is_empty(), "jump of {jump}");
        let mono = world.clock.now().mono;
        assert_eq!(world.query.due_in_ms(&Retention::days(1), mono), Ok(Some(DAY_MS + 1)));
        world.clock.pass_ms(DAY_MS);
        assert!(world.due(1).is_empty(), "not a millisecond early");
        world.clock.set_wall(wall + jump);
        world.clock.pass_ms(1);
        assert_eq!(world.remove_due(1), 2);
        world.shows(&[], &tasks);
    }
}

#[test]
fn time_that_is_not_served_does_not_count_and_time_served_idle_does_until_an_orderly_stop() {
    let (mut world, _) = archived(1);
    world.age_days(1);
    // From here on nothing happens, not even a worker that falls silent.
    world.clock.pass_ms(4 * DAY_MS);
    world.step(vec![Command::Stop]);
    let world = world.restart();
    let mono = world.clock.now().mono;
    let left = world.query.due_in_ms(&Retention::days(6), mono);
    assert_eq!(left, Ok(Some(DAY_MS + 1)), "five days were written at the stop");
    world.clock.pass_ms(DAY_MS / 2);
    let world = world.restart();
    let mono = world.clock.now().mono;
    assert_eq!(world.query.due_in_ms(&Retention::days(6), mono), left, "a crash forgets idle time");
}

#[test]
fn while_nothing_is_due_nothing_is_written_p8() {
    let (mut world, _) = archived(3);
    let before = (world.hot.syncs(), world.archive.syncs());
    assert_eq!(world.remove_due(30), 0);
    assert_eq!((world.hot.syncs(), world.archive.syncs()), before);
    // The worker falls silent, which is written; then everything is quiet for weeks.
    world.age_days(1);
    let before = (world.hot.syncs(), world.archive.syncs());
    world.age_days(28);
    assert_eq!(world.remove_due(30), 0);
    assert_eq!((world.hot.syncs(), world.archive.syncs()), before);
    world.age_days(2);
    assert_eq!(world.remove_due(30), 3);
    let before = (world.hot.syncs(), world.archive.syncs());
    assert_eq!(world.remove_due(30), 0);
    assert_eq!((world.hot.syncs(), world.archive.syncs()), before);
    let mut world = world.restart();
    let before = (world.hot.syncs(), world.archive.syncs());
    assert_eq!(world.finish_removal(), 0, "the note of what is done is found again");
    assert_eq!((world.hot.syncs(), world.archive.syncs()), before);
    world.step(vec![Command::Stop]);
    assert_eq!((world.hot.syncs(), world.archive.syncs()), before, "nor at a stop soon after");
}

#[test]
fn a_removal_that_a_broken_disk_cuts_off_leaves_no_half_state_and_goes_on_when_it_works_again() {
    let (mut world, tasks) = archived(4);
    world.age_days(31);
    let due = world.due(30);
    world.hot.break_down();
    let (reply, mut answer) = oneshot::channel();
    world.step(vec![Command::BeginRemoval { due, reply }]);
    let answer = answer.try_recv().expect("answered");
    assert!(matches!(answer, Err(EngineError::NotWritten { .. })), "{answer:?}");
    assert!(world.query.removing().is_empty());
    world.shows(&tasks, &[]);
    world.hot.work_again();
    world.pass_ms(10_000);
    let due = world.due(30);
    world.begin_removal(due[..2].to_vec());
    world.archive.break_down();
    let removing = world.query.removing();
    world.query.remove_archived(&removing).expect_err("the disk is gone");
    world.shows(&tasks[2..], &tasks[..2]);
    world.archive.work_again();
    world.ask(|reply| Command::Mend { reply }).expect("it can be opened");
    assert_eq!(world.remove_due(30), 2, "what was begun first");
    assert_eq!(world.remove_due(30), 2);
    world.shows(&[], &tasks);
    assert_eq!(world.archived_rows(), [0; 6]);
}

#[test]
fn tasks_of_a_migrated_archive_have_their_whole_time_from_then_on() {
    let (world, tasks) = archived(3);
    world.store.back_to_format_1();
    let mut world = world.restart();
    world.shows(&tasks, &[]);
    assert_eq!(world.archived_rows(), [3, 6, 3, 3, 3, 3]);
    world.age_days(20);
    world.requeue(tasks[0]).expect("failed");
    world.cancel(tasks[0]).expect("queued");
    world.move_finished();
    assert_eq!(world.archived_rows(), [3, 6, 3, 3, 3, 3], "the row without an age is replaced");
    world.age_days(10);
    world.clock.pass_ms(1);
    assert_eq!(world.remove_due(30), 2);
    world.shows(&tasks[..1], &tasks[1..]);
}
