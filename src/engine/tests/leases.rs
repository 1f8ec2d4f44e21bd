//! One lease at a time, fenced, as long as promised, never for ever (P2, P3, P4, P5).

use super::*;
use crate::domain::NoWorker;

const FORTY_YEARS_MS: i64 = 40 * 365 * 86_400_000;

#[test]
fn of_many_leases_of_one_task_in_one_batch_one_is_given_p2() {
    let mut world = World::new();
    world.register("w", 32);
    let task = world.create();
    let mut batch = Vec::new();
    let answers: Vec<_> = (0..8).map(|_| queue(&mut batch, |reply| lease(task, reply))).collect();
    let claimed = queue(&mut batch, |reply| claim("w", 0, reply));
    world.step(batch);
    let mut answers = answers.into_iter().map(got);
    assert!(answers.next().expect("eight").is_ok());
    for answer in answers {
        assert_eq!(answer, refused(Refusal::NotQueued(TaskStatus::Leased)));
    }
    assert_eq!(got(claimed), Ok(None));
    assert_eq!(world.query.stats().leases_active, 1);
}

#[test]
fn no_grant_takes_a_worker_beyond_its_capacity_p2() {
    let mut world = World::new();
    world.register("w", 2);
    let tasks: Vec<TaskId> = (0..5).map(|_| world.create()).collect();
    let mut batch = Vec::new();
    let leases: Vec<_> =
        tasks[..3].iter().map(|task| queue(&mut batch, |reply| lease(*task, reply))).collect();
    let claims: Vec<_> =
        (0..3).map(|_| queue(&mut batch, |reply| claim("w", 50_000, reply))).collect();
    world.step(batch);
    let leases: Vec<_> = leases.into_iter().map(got).collect();
    assert_eq!(leases.iter().filter(|answer| answer.is_ok()).count(), 2);
    assert_eq!(leases[2], refused(Refusal::NoWorker(NoWorker::AtCapacity)));
    assert_eq!(world.query.stats().leases_active, 2);

    // Nor after a restart, nor when it re-registers with less, until it is below that.
    let mut world = world.restart();
    drop(claims);
    assert_eq!(world.claim("w"), Ok(None));
    world.register("w", 1);
    let lease =
        |answer: &Result<LeaseAnswer, EngineError>| answer.as_ref().expect("given").lease.id;
    world.complete(tasks[0], lease(&leases[0])).expect("held");
    assert_eq!(world.claim("w"), Ok(None));
    world.complete(tasks[1], lease(&leases[1])).expect("held");
    assert!(world.claim("w").expect("registered").is_some());
}

#[test]
fn a_removed_workers_leases_stay_valid_and_count_when_it_comes_back_p2() {
    let mut world = World::new();
    world.register("w", 1);
    let (task, other) = (world.create(), world.create());
    let held = world.leased(task);
    world.ask(|reply| Command::Remove { worker: worker("w"), reply }).expect("registered");
    assert_eq!(world.claim("w"), refused(Refusal::WorkerNotFound));
    world.heartbeat(task, held).expect("the lease outlives its worker's record");
    assert_eq!(world.register("w", 1).active_leases, 1);
    assert_eq!(world.lease(other), refused(Refusal::NoWorker(NoWorker::AtCapacity)));
    world.complete(task, held).expect("held");
    world.leased(other);
}

#[test]
fn an_old_lease_changes_nothing_and_is_told_so_whatever_happened_since_p3() {
    let mut world = World::new();
    world.register("w", 1);
    let task = world.create();
    let old = world.leased(task);
    world.pass_ms(TTL_MS + 1);
    world.register("w", 1);
    let new = world.leased(task);
    let before = (world.hot.syncs(), world.query.task(task));
    for _ in 0..2 {
        assert_eq!(world.heartbeat(task, old), refused(Refusal::LeaseLost));
        assert_eq!(world.complete(task, old), refused(Refusal::LeaseLost));
    }
    assert_eq!((world.hot.syncs(), world.query.task(task)), before);
    world.fail(task, new).expect("held");
    world.move_finished();
    assert_eq!(world.heartbeat(task, old), refused(Refusal::LeaseLost));
    assert_eq!(world.complete(task, old), refused(Refusal::LeaseLost));
}

#[test]
fn fencing_numbers_grow_over_expiry_requeue_archive_and_restart_p3() {
    let mut world = World::new();
    let task = world.create();
    let mut last = 0;
    for round in 0..12 {
        world.register("w", 1);
        let held = world.leased(task);
        let fence = world.query.task(task).unwrap().task.lease.expect("held").fence;
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        match round % 3 {
            0 => world.pass_ms(TTL_MS + 1),
            1 => {
                world.fail(task, held).expect("held");
                world.move_finished();
                world.requeue(task).expect("failed");
            }
            _ => {
                world = world.restart();
                world.cancel(task).expect("held");
                world.requeue(task).expect("cancelled");
            }
        }
    }
}

#[test]
fn a_lease_lasts_its_time_whatever_the_wall_clock_does_p4() {
    for jump in [FORTY_YEARS_MS, -FORTY_YEARS_MS, i64::MAX - NOW, i64::MIN] {
        let mut world = World::new();
        world.register("w", 1);
        let task = world.create();
        let held = world.leased(task);
        world.clock.set_wall(NOW.saturating_add(jump));
        world.step(Vec::new());
        assert_eq!(world.status(task), TaskStatus::Leased, "jump {jump}");
        world.clock.set_wall(NOW);
        world.pass_ms(TTL_MS);
        assert_eq!(world.status(task), TaskStatus::Leased, "its last millisecond");
        world.clock.set_wall(NOW.saturating_add(jump));
        let shown = world.heartbeat(task, held).expect("still held").expires_at;
        assert_eq!(shown, NOW.saturating_add(jump).saturating_add(TTL_MS as i64));
        world.heartbeat(task, held).expect("still held");
        world.clock.set_wall(NOW);
        world.pass_ms(TTL_MS);
        assert_eq!(world.status(task), TaskStatus::Running, "as long as before");
        world.pass_ms(1);
        assert_eq!(world.status(task), TaskStatus::Queued, "and no longer than that");
    }
}

#[test]
fn a_silent_workers_task_returns_leased_or_running_and_dies_when_its_attempts_are_used_up_p5() {
    for beats in [false, true] {
        let mut world = World::new();
        let task = world.create();
        for attempt in 1..=3 {
            world.register("w", 1);
            let held = world.leased(task);
            if beats {
                world.heartbeat(task, held).expect("held");
            }
            let due = world.clock.now().mono.after_ms(TTL_MS);
            world.pass_ms(TTL_MS - 1);
            assert_eq!(world.core.next_wake(), Some(due), "the reaper wakes in time");
            world.pass_ms(2);
            let expected = if attempt < 3 { TaskStatus::Queued } else { TaskStatus::Dead };
            assert_eq!(world.status(task), expected, "attempt {attempt}, beats {beats}");
            assert_eq!(world.query.stats().leases_active, 0);
        }
        assert_eq!(world.trail().iter().filter(|action| *action == "lease_expired").count(), 3);
        assert_eq!(world.requeue(task).expect("dead").task.attempts, 0);
    }
}

#[test]
fn a_heartbeat_keeps_a_lease_and_an_ended_one_stays_ended_p5() {
    let mut world = World::new();
    world.register("w", 1);
    let task = world.create();
    let held = world.leased(task);
    for _ in 0..5 {
        world.pass_ms(TTL_MS - 1);
        world.heartbeat(task, held).expect("held");
    }
    world.clock.pass_ms(TTL_MS + 1);
    // The heartbeat and the reaper come to the same step.
    assert_eq!(world.heartbeat(task, held), refused(Refusal::LeaseLost));
    assert_eq!(world.status(task), TaskStatus::Queued);
}

#[test]
fn whoever_names_no_lease_is_believed_until_one_has_expired_over_restarts_too_p3() {
    let mut world = World::new();
    world.register("w", 1);
    let task = world.create();
    world.leased(task);
    let unnamed = |world: &mut World| {
        world.ask(|reply| Command::Heartbeat { task, claim: LeaseClaim::Unnamed, reply })
    };
    unnamed(&mut world).expect("the only holder there ever was");
    world.pass_ms(TTL_MS + 1);
    world.register("w", 1);
    world.leased(task);
    assert_eq!(unnamed(&mut world), refused(Refusal::LeaseLost));
    let mut world = world.restart();
    assert_eq!(unnamed(&mut world), refused(Refusal::LeaseLost));
}

#[test]
fn after_a_restart_every_active_lease_has_its_full_time_again_p4() {
    let mut world = World::new();
    world.register("w", 2);
    let (leased, running) = (world.create(), world.create());
    let first = world.leased(leased);
    let second = world.leased(running);
    world.heartbeat(running, second).expect("held");
    world.pass_ms(TTL_MS - 1);
    let mut world = world.restart();
    let until = world.clock.now().wall + TTL_MS as i64;
    let (_, shown) = world.query.worker(&worker("w")).expect("registered");
    assert_eq!(shown.iter().map(|lease| lease.expires_at).collect::<Vec<_>>(), [until, until]);
    world.pass_ms(TTL_MS);
    assert_eq!(world.status(leased), TaskStatus::Leased);
    assert_eq!(world.status(running), TaskStatus::Running);
    world.heartbeat(leased, first).expect("still held");
    world.pass_ms(1);
    assert_eq!(world.status(running), TaskStatus::Queued);
    assert_eq!(world.status(leased), TaskStatus::Running);
}

#[test]
fn an_ended_lease_tells_of_its_last_sign_of_life_over_restarts_too() {
    for expires in [false, true] {
        let mut world = World::new();
        world.register("w", 1);
        let task = world.create();
        let held = world.leased(task);
        for _ in 0..3 {
            world.pass_ms(100_000);
            world.heartbeat(task, held).expect("held");
        }
        let heard = world.clock.now().wall;
        if expires {
            world.pass_ms(TTL_MS + 1);
        } else {
            world.complete(task, held).expect("held");
        }
        let shown = |world: &World| {
            let lease = world.query.task(task).unwrap().task.ended.remove(0).lease;
            (lease.last_heartbeat, lease.expires_at)
        };
        assert_eq!(shown(&world), (heard, heard + TTL_MS as i64));
        assert_eq!(shown(&world.restart()), (heard, heard + TTL_MS as i64));
    }
}
