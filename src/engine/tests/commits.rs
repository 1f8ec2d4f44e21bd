//! One commit for a batch, nothing before it, nothing without a change (P1, P6, P7, P8).

use super::*;
use crate::engine::NotWritten;

/// The refusal while the disk takes no writes, although it can be read.
macro_rules! not_written {
    () => {
        Err(EngineError::NotWritten { why: NotWritten::ReadOnly | NotWritten::Failing, .. })
    };
}

#[test]
fn a_batch_is_one_commit_and_a_refused_command_harms_no_neighbour() {
    let mut world = World::new();
    let before = world.hot.syncs();
    world.register("w", 4);
    let alone = world.hot.syncs() - before;
    let mut batch = Vec::new();
    let first = queue(&mut batch, create);
    let missing = TaskId::new(77, 7);
    let refusals = [
        queue(&mut batch, |reply| Command::Requeue { task: missing, reply }),
        queue(&mut batch, |reply| Command::Cancel { task: missing, reply }),
    ];
    let claimed = queue(&mut batch, |reply| claim("w", 0, reply));
    let nobody = queue(&mut batch, |reply| claim("nobody", 0, reply));
    let second = queue(&mut batch, create);
    let before = world.hot.syncs();
    world.step(batch);
    assert_eq!(world.hot.syncs() - before, alone, "as many syncs as for one command");
    let first = got(first).expect("created").task.id;
    assert_eq!(got(claimed).unwrap().expect("what its batch created").task.task.id, first);
    assert_eq!(got(nobody), refused(Refusal::WorkerNotFound));
    for answer in refusals {
        assert_eq!(got(answer), refused(Refusal::TaskNotFound));
    }
    assert_eq!(world.status(got(second).expect("created").task.id), TaskStatus::Queued);
}

#[test]
fn what_was_answered_is_there_after_a_restart_p1() {
    let mut world = World::new();
    world.register("w", 4);
    let (done, held, queued) = (world.create(), world.create(), world.create());
    let lease = world.leased(done);
    world.leased(held);
    let answer = world.complete(done, lease).expect("held");
    let seen = (world.query.stats(), world.listed(None, 2), world.trail());
    let world = world.restart();
    assert_eq!((world.query.stats(), world.listed(None, 2), world.trail()), seen);
    assert_eq!(world.query.latest_outcome(done), Ok(answer.outcome));
    assert_eq!(world.status(held), TaskStatus::Leased);
    assert_eq!(world.status(queued), TaskStatus::Queued);
}

#[test]
fn after_a_failed_commit_nobody_is_told_yes_and_readers_see_nothing_of_it_p1_p6() {
    let mut world = World::new();
    world.register("w", 4);
    let task = world.create();
    let waiting = world.wait("w", 50_000);
    let held = got(waiting).unwrap().expect("served").lease.id;
    let mut events = (world.core.events.latest(), world.query.stats());
    events.1.leases_active = 1;
    world.hot.break_down();
    let mut batch = Vec::new();
    let created = queue(&mut batch, create);
    let missing = queue(&mut batch, |reply| Command::Requeue { task: TaskId::new(9, 9), reply });
    let done = queue(&mut batch, |reply| complete(task, held, CompletionStatus::Success, reply));
    world.step(batch);
    // A refusal may rest on what the batch left, so it is as void as the rest.
    assert!(matches!(got(missing), not_written!()));
    assert!(matches!(got(created), not_written!()));
    assert!(matches!(got(done), not_written!()));
    assert_eq!((world.core.events.latest(), world.query.stats()), events);
}

#[test]
fn when_the_disk_works_again_so_does_the_writer_and_no_lease_has_lost_time_p4_p5() {
    let mut world = World::new();
    world.register("w", 2);
    let (beating, silent) = (world.create(), world.create());
    let held = [world.leased(beating), world.leased(silent)];
    for (task, lease) in [(beating, held[0]), (silent, held[1])] {
        world.heartbeat(task, lease).expect("held");
    }
    let seen = (world.query.stats(), world.trail());
    world.hot.break_down();
    assert!(matches!(world.ask(create), not_written!()));
    assert!(world.query.trouble().is_some());
    // Reads and renewals go on; what would be a change is refused, what is due waits.
    world.pass_ms(TTL_MS - 1);
    world.heartbeat(beating, held[0]).expect("a renewal is memory");
    let mut waiting = world.wait("w", 50_000);
    world.pass_ms(60_000);
    assert_eq!(got_now(&mut waiting), Some(Ok(None)), "it has waited long enough");
    assert!(matches!(world.complete(silent, held[1]), not_written!()));
    assert_eq!((world.query.stats(), world.trail()), seen, "no half change is seen");
    world.hot.work_again();
    world.pass_ms(10_000);
    assert!(world.query.trouble().is_none());
    assert_eq!(world.status(silent), TaskStatus::Queued, "its time was over");
    assert_eq!(world.status(beating), TaskStatus::Running);
    world.complete(beating, held[0]).expect("renewed in between");
    let fresh = world.create();
    let mut world = world.restart();
    assert_eq!(world.status(fresh), TaskStatus::Queued);
    assert_eq!(world.status(beating), TaskStatus::Completed);
    assert_eq!(world.claim("w").unwrap().expect("expired").task.task.id, silent);
}

#[test]
fn a_completion_leaves_task_result_artifact_audit_and_event_together_p6() {
    let mut world = World::new();
    world.register("w", 1);
    let task = world.create();
    let held = world.leased(task);
    let seen = world.core.events.latest();
    let done = world.complete(task, held).expect("held");
    let events = world.core.events.after(seen, 9).expect("remembered");
    assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), ["task_completed"]);
    let world = world.restart();
    assert_eq!(world.query.task(task), Ok(done.task));
    assert_eq!(world.query.latest_outcome(task), Ok(done.outcome.clone()));
    assert_eq!(world.query.artifact(done.outcome.artifact_id), Ok(Artifact::Output(done.outcome)));
    let trail = ["worker_registered", "task_created", "task_leased", "task_completed"];
    assert_eq!(world.trail(), trail);
    assert_eq!(world.core.events.latest(), seen + 1, "sequences go on after a restart");
}

#[test]
fn complete_answers_the_same_and_works_once_however_often_and_late_it_comes_p7() {
    let mut world = World::new();
    world.register("w", 1);
    let task = world.create();
    let held = world.leased(task);
    let mut batch = Vec::new();
    let answers: Vec<_> = [CompletionStatus::Error, CompletionStatus::Success]
        .into_iter()
        .cycle()
        .take(6)
        .map(|status| queue(&mut batch, |reply| complete(task, held, status, reply)))
        .collect();
    world.step(batch);
    let answers: Vec<_> = answers.into_iter().map(|answer| got(answer).expect("held")).collect();
    let first = &answers[0];
    assert!(answers.iter().all(|answer| answer == first));
    let repeat = |world: &mut World| {
        let mut answer = world.complete(task, held).expect("it was the holder");
        // How often it was granted since is shown to nobody.
        answer.task.task.grants = first.task.task.grants;
        answer
    };
    world.move_finished();
    assert_eq!(repeat(&mut world), *first, "from the archive");
    world.requeue(task).expect("failed");
    assert_eq!(repeat(&mut world), *first, "while it waits again");
    let again = world.leased(task);
    assert_eq!(repeat(&mut world), *first, "while another holds it");
    world.complete(task, again).expect("held");
    world.move_finished();
    let mut world = world.restart();
    assert_eq!(repeat(&mut world), *first, "after all of that");
    assert_eq!(world.query.artifacts(u64::MAX, 9).unwrap().rows.len(), 2);
}

#[test]
fn a_heartbeat_and_a_complete_in_one_step_end_completed() {
    for heartbeat_first in [true, false] {
        let mut world = World::new();
        world.register("w", 1);
        let task = world.create();
        let held = world.leased(task);
        let mut batch = Vec::new();
        let (mut beat, mut done) = (None, None);
        for first in [true, false] {
            if first == heartbeat_first {
                beat = Some(queue(&mut batch, |reply| heartbeat(task, held, reply)));
            } else {
                let ok = CompletionStatus::Success;
                done = Some(queue(&mut batch, |reply| complete(task, held, ok, reply)));
            }
        }
        world.step(batch);
        assert_eq!(got(beat.expect("asked")).is_ok(), heartbeat_first);
        got(done.expect("asked")).expect("held");
        assert_eq!(world.status(task), TaskStatus::Completed);
        assert_eq!(world.query.worker(&worker("w")).unwrap().0.active_leases, 0);
        world.pass_ms(TTL_MS + 1);
        assert_eq!(world.status(task), TaskStatus::Completed, "no deadline was left behind");
    }
}

#[test]
fn renewals_waiting_refusals_and_known_registrations_commit_nothing_p8() {
    let mut world = World::new();
    world.register("w", 50);
    let held: Vec<_> = (0..40)
        .map(|_| {
            let task = world.create();
            let lease = world.leased(task);
            world.heartbeat(task, lease).expect("held");
            (task, lease)
        })
        .collect();
    world.pass_ms(1_000);
    let before = (world.hot.syncs(), world.archive.syncs(), world.core.events.latest());
    for _ in 0..3 {
        world.clock.pass_ms(10_000);
        let mut batch = Vec::new();
        let beats: Vec<_> = held
            .iter()
            .map(|(task, lease)| queue(&mut batch, |reply| heartbeat(*task, *lease, reply)))
            .collect();
        let refused = queue(&mut batch, |reply| lease(held[0].0, reply));
        let known = queue(&mut batch, |reply| register("w", Registration::default(), reply));
        let waiting = queue(&mut batch, |reply| claim("w", 1_000, reply));
        world.step(batch);
        let until = world.clock.now().wall + TTL_MS as i64;
        for beat in beats {
            assert_eq!(got(beat).expect("held").expires_at, until);
        }
        assert!(got(refused).is_err() && !got(known).expect("known").1);
        world.pass_ms(1_001);
        assert_eq!(got(waiting), Ok(None));
        let shown = world.query.task(held[0].0).unwrap().task.lease.expect("held");
        assert_eq!(shown.expires_at, until, "shown from memory");
    }
    assert_eq!((world.hot.syncs(), world.archive.syncs(), world.core.events.latest()), before);
}

#[test]
fn silence_and_return_are_told_once_each_p8() {
    let mut world = World::new();
    world.register("w", 1);
    for _ in 0..5 {
        world.pass_ms(60_001);
    }
    assert_eq!(world.core.next_wake(), None, "nothing is left to wait for");
    world.register("w", 1);
    world.register("w", 1);
    assert_eq!(world.trail(), ["worker_registered", "worker_offline", "worker_online"]);
    let world = world.restart();
    assert!(world.query.worker(&worker("w")).unwrap().0.is_online());
}

#[test]
fn when_the_writer_breaks_off_within_a_commit_nobody_is_told_that_nothing_changed_p1() {
    let mut world = World::new();
    world.hot.explode();
    let mut batch = Vec::new();
    let created = queue(&mut batch, create);
    let now = world.clock.now();
    let step = std::panic::AssertUnwindSafe(|| world.core.step(batch, now));
    std::panic::catch_unwind(step).expect_err("the disk's driver panics");
    assert!(matches!(got(created), Err(EngineError::OutcomeUnknown(_))));
}

#[test]
fn a_worker_that_answers_when_asked_stays_online_and_nothing_is_written_p8() {
    let mut world = World::new();
    world.register("agent", 1);
    let before = (world.hot.syncs(), world.core.events.latest());
    for _ in 0..10 {
        world.pass_ms(20_000);
        world.step(vec![Command::HeardOf { worker: worker("agent") }]);
    }
    let (view, _) = world.query.worker(&worker("agent")).expect("registered");
    assert!(view.is_online());
    assert_eq!(view.last_heartbeat, Some(world.clock.now().wall));
    assert_eq!((world.hot.syncs(), world.core.events.latest()), before);
}
