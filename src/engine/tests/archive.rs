//! The way from the hot file to the archive: nothing is lost, shown twice or moved while it changes.

use super::*;
use crate::domain::LeaseStatus;
use crate::engine::Backlog;

/// A world whose worker has failed `n` tasks, oldest first.
fn failed_tasks(n: usize) -> (World, Vec<TaskId>) {
    let mut world = World::new();
    world.register("w", 32);
    let tasks = (0..n).map(|_| failed(&mut world)).collect();
    (world, tasks)
}

fn failed(world: &mut World) -> TaskId {
    let task = world.create();
    let held = world.leased(task);
    world.fail(task, held).expect("held");
    task
}

fn newest_first(tasks: &[TaskId]) -> Vec<TaskId> {
    tasks.iter().rev().copied().collect()
}

/// Everything that a reader can see of tasks, leases, artifacts and the trail.
fn everything(world: &World, page: usize) -> impl PartialEq + std::fmt::Debug + use<> {
    let mut lists: Vec<Vec<TaskId>> =
        TaskStatus::ALL.iter().map(|status| world.listed(Some(*status), page)).collect();
    lists.push(world.listed(None, page));
    let views: Vec<_> = lists[7].iter().map(|id| world.query.task(*id).unwrap()).collect();
    let leases = world.query.leases(&LeaseStatus::ALL, u64::MAX, 1_000).unwrap().rows;
    let outcomes = world.query.artifacts(u64::MAX, 1_000).unwrap().rows;
    (lists, views, leases, outcomes, world.trail(), world.query.stats())
}

#[test]
fn a_reader_sees_each_record_once_before_between_and_after_the_move() {
    for page in [1, 2, 3, 1_000] {
        let (mut world, _) = failed_tasks(5);
        world.create();
        let task = world.create();
        world.leased(task);
        let seen = everything(&world, page);
        let copied = world.copy_finished();
        assert_eq!(copied.tasks.len(), 5);
        assert_eq!(everything(&world, page), seen, "it stands in both files");
        // A crash in between: the copy is made again and nobody notices.
        let mut world = world.restart();
        assert_eq!(everything(&world, page), seen, "after a crash between the two commits");
        world.move_finished();
        assert_eq!(everything(&world, page), seen, "it stands in the archive alone");
        assert_eq!(world.hot_tasks(), 2);
        let world = world.restart();
        assert_eq!(everything(&world, page), seen, "after a restart");
    }
}

#[test]
fn what_changed_while_it_was_copied_stays_in_the_hot_file() {
    for requeue_first in [true, false] {
        let (mut world, tasks) = failed_tasks(2);
        let copied = world.copy_finished();
        let mut batch = Vec::new();
        let requeued = |batch: &mut Vec<Command>| {
            queue(batch, |reply| Command::Requeue { task: tasks[0], reply })
        };
        let early = requeue_first.then(|| requeued(&mut batch));
        let archived = queue(&mut batch, |reply| Command::Archived { copied, reply });
        let late = (!requeue_first).then(|| requeued(&mut batch));
        let claimed = queue(&mut batch, |reply| claim("w", 0, reply));
        world.step(batch);
        got(early.or(late).expect("one of them")).expect("failed");
        got(archived).expect("always possible");
        let claimed = got(claimed).unwrap().expect("the requeued one");
        assert_eq!(claimed.task.task.id, tasks[0]);
        let mut world = world.restart();
        assert_eq!(world.status(tasks[0]), TaskStatus::Leased, "requeue first: {requeue_first}");
        assert_eq!(world.listed(None, 1), newest_first(&tasks));
        assert_eq!(world.hot_tasks(), 1);
        world.complete(tasks[0], claimed.lease.id).expect("held");
        world.move_finished();
        assert_eq!(world.status(tasks[0]), TaskStatus::Completed);
        assert_eq!(world.query.artifacts_of(tasks[0], u64::MAX, 9).unwrap().rows.len(), 2);
    }
}

#[test]
fn complete_requeue_lease_and_archived_in_one_step_build_on_each_other() {
    let (mut world, tasks) = failed_tasks(1);
    let copied = world.copy_finished();
    let task = tasks[0];
    world.requeue(task).expect("failed");
    let held = world.leased(task);
    let mut batch = Vec::new();
    let failed = CompletionStatus::Error;
    let beat = queue(&mut batch, |reply| heartbeat(task, held, reply));
    let done = queue(&mut batch, |reply| complete(task, held, failed, reply));
    let again = queue(&mut batch, |reply| Command::Requeue { task, reply });
    let next = queue(&mut batch, |reply| lease(task, reply));
    let archived = queue(&mut batch, |reply| Command::Archived { copied, reply });
    world.step(batch);
    got(beat).expect("held");
    got(done).expect("held");
    got(again).expect("failed");
    let next = got(next).expect("queued").lease.id;
    got(archived).expect("always possible");
    assert_eq!(world.heartbeat(task, held), refused(Refusal::LeaseLost));
    let mut world = world.restart();
    assert_eq!(world.status(task), TaskStatus::Leased);
    world.complete(task, next).expect("held");
    assert_eq!(world.query.artifacts_of(task, u64::MAX, 9).unwrap().rows.len(), 3);
}

#[test]
fn an_archived_task_comes_back_with_all_that_belongs_to_it() {
    let (mut world, tasks) = failed_tasks(3);
    world.move_finished();
    assert_eq!(world.hot_tasks(), 0);
    let artifact = world.query.latest_outcome(tasks[1]).unwrap().artifact_id;
    let back = world.requeue(tasks[1]).expect("failed");
    assert_eq!((back.task.attempts, back.spec.prompt.as_str()), (0, "hello"));
    let world = world.restart();
    let spec = world.store.hot().unwrap().spec(tasks[1].seq()).unwrap();
    assert_eq!(spec.as_ref(), Some(&back.spec), "it needs the archive no more");
    assert_eq!(world.query.task(tasks[1]), Ok(back));
    assert_eq!(world.query.artifact(artifact).expect("kept").id(), artifact);
    assert_eq!(world.listed(None, 2), newest_first(&tasks));
    assert_eq!(world.listed(Some(TaskStatus::Queued), 2), [tasks[1]]);
    assert_eq!(world.listed(Some(TaskStatus::Failed), 9), [tasks[2], tasks[0]]);
}

#[test]
fn sequences_and_counts_go_on_although_the_journal_went_to_the_archive() {
    let (mut world, tasks) = failed_tasks(4);
    world.move_finished();
    let (stats, latest) = (world.query.stats(), world.core.events.latest());
    let mut world = world.restart();
    assert_eq!((world.query.stats(), world.core.events.latest()), (stats, latest));
    assert!(world.core.events.after(latest, 9).expect("nothing was missed").is_empty());
    assert!(world.core.events.after(latest - 1, 9).is_err(), "told to start over");
    world.register("w", 32);
    let next = world.create();
    assert!(tasks.iter().all(|task| task.seq() < next.seq()));
    let held = world.leased(next);
    let newest = world.query.leases(&LeaseStatus::ALL, u64::MAX, 1).unwrap();
    assert_eq!(newest.rows[0].id, held);
}

#[test]
fn one_round_of_the_mover_holds_a_bounded_number_of_audit_entries_p9() {
    let mut world = World::new();
    for _ in 0..4 {
        let mut batch = Vec::new();
        let answers: Vec<_> = (0..50).map(|_| queue(&mut batch, create)).collect();
        world.step(batch);
        drop(answers);
    }
    let seen = world.trail();
    let copied = world.query.copy_finished(1_000, 60).expect("the disk works");
    assert_eq!(copied.journal.len(), 2, "as many as begin below the limit, never none");
    world.ask(|reply| Command::Archived { copied, reply }).expect("always possible");
    assert_eq!(world.trail(), seen);
    assert_eq!(world.restart().trail(), seen);
}

#[test]
fn a_task_keeps_its_newest_leases_through_the_archive_and_the_lists_agree() {
    let mut world = World::new();
    let task = world.create();
    for round in 0..120 {
        world.register("w", 1);
        let held = world.leased(task);
        world.fail(task, held).expect("held");
        if round % 40 == 39 {
            world.move_finished();
        }
        world.requeue(task).expect("failed");
    }
    let stats = world.query.stats();
    assert_eq!(world.query.leases(&LeaseStatus::ALL, u64::MAX, 1_000).unwrap().rows.len(), 100);
    let world = world.restart();
    assert_eq!(world.query.leases(&LeaseStatus::ALL, u64::MAX, 1_000).unwrap().rows.len(), 100);
    assert_eq!(world.query.stats(), stats);
}

#[test]
fn a_list_goes_on_behind_tasks_whose_old_copy_is_in_the_archive() {
    let (mut world, tasks) = failed_tasks(10);
    world.move_finished();
    for task in &tasks[5..] {
        world.requeue(*task).expect("failed");
    }
    for page in [1, 2, 3, 4, 5, 20] {
        let failed = world.query.tasks(Some(TaskStatus::Failed), u64::MAX, page).unwrap();
        assert_eq!(failed.rows.len(), page.min(5), "a page of {page} is full while there is more");
        let listed = world.listed(Some(TaskStatus::Failed), page);
        assert_eq!(listed, newest_first(&tasks[..5]), "page of {page}");
        assert_eq!(world.listed(None, page), newest_first(&tasks), "page of {page}");
    }
}

#[test]
fn a_page_ends_after_its_bytes_whatever_they_are_made_of_p9() {
    let mut world = World::new();
    world.register("w", 32);
    let mega = || "x".repeat(1 << 20);
    for _ in 0..8 {
        let task = world.create();
        let held = world.leased(task);
        world
            .ask(|reply| {
                let mut command = complete(task, held, CompletionStatus::Success, reply);
                if let Command::Complete { completed: Some(fields), .. } = &mut command {
                    fields.artifact_tags = vec![mega()];
                }
                command
            })
            .expect("held");
    }
    let page = world.query.artifacts(u64::MAX, 1_000).unwrap();
    assert!(page.rows.len() <= 5 && page.next.is_some(), "{} rows", page.rows.len());
    for n in 0..8 {
        let context_id = format!("{n}{}", mega());
        world.create_task(NewTask { context_id, ..new_task() });
    }
    let page = world.query.tasks(None, u64::MAX, 1_000).unwrap();
    assert!(page.rows.len() <= 5 && page.next.is_some(), "{} rows", page.rows.len());
}

#[test]
fn an_idle_mover_writes_nothing_p8() {
    let (mut world, _) = failed_tasks(3);
    world.move_finished();
    assert_eq!(*world.core.visible.backlog.borrow(), Backlog::Nothing);
    let before = (world.hot.syncs(), world.archive.syncs());
    let copied = world.copy_finished();
    assert!(copied.tasks.is_empty() && copied.journal.is_empty());
    assert_eq!((world.hot.syncs(), world.archive.syncs()), before);
    let world = world.restart();
    assert_eq!(*world.core.visible.backlog.borrow(), Backlog::Nothing, "nor after a restart");
}
