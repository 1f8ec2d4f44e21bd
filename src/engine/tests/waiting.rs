//! Claims: who gets which task, and waiting for one.

use super::*;

#[test]
fn a_claim_gets_the_highest_priority_then_the_oldest_with_its_own_context_among_equals() {
    let mut world = World::new();
    world.register("w", 8);
    let mut create = |priority, context: &str| {
        let new = NewTask { priority, context_id: context.into(), ..new_task() };
        world.create_task(new).task.id
    };
    let tasks = [create(0, "a"), create(5, "b"), create(5, "c"), create(5, "b"), create(9, "d")];
    let mut next = || world.claim("w").unwrap().expect("there is one").task.task.id;
    // The third "b" comes before the older "c", for "b" is what the worker holds by then.
    for expected in [tasks[4], tasks[1], tasks[3], tasks[2], tasks[0]] {
        assert_eq!(next(), expected);
    }
}

#[test]
fn a_task_goes_only_to_a_worker_that_has_its_labels_and_blocks_nobody_elses() {
    let mut world = World::new();
    let with = |labels: &[&str]| Some(labels.iter().map(|label| label.to_string()).collect());
    world.register_as("plain", Registration { labels: with(&[]), ..Registration::default() });
    world.register_as("gpu", Registration { labels: with(&["gpu"]), ..Registration::default() });
    let mut plain = world.wait("plain", 50_000);
    let asking = NewTask { priority: 9, labels: vec!["gpu".into()], ..new_task() };
    let labelled = world.create_task(asking).task.id;
    assert!(plain.try_recv().is_err(), "it may not take that one");
    let bare = world.create();
    assert_eq!(got(plain).unwrap().expect("the other one").task.task.id, bare);
    assert_eq!(world.claim("gpu").unwrap().expect("its own").task.task.id, labelled);
}

#[test]
fn a_waiting_claim_is_served_in_the_commit_that_holds_the_task() {
    let mut world = World::new();
    world.register("w", 1);
    let waiting = world.wait("w", 50_000);
    let before = world.hot.syncs();
    let task = world.create();
    let alone = world.hot.syncs() - before;
    assert_eq!(got(waiting).unwrap().expect("served").task.task.id, task);
    let before = world.hot.syncs();
    world.create();
    assert_eq!(world.hot.syncs() - before, alone, "no second commit for the lease");
}

#[test]
fn a_waiting_claim_is_served_by_whatever_makes_a_task_ready_or_room_for_it() {
    let mut world = World::new();
    world.register("busy", 1);
    world.register("late", 1);
    let task = world.create();
    let held = world.leased(task);
    let holder = world.query.task(task).unwrap().task.lease.expect("held").worker_id;
    let idle = if holder == worker("busy") { "late" } else { "busy" };
    let waiting = world.wait(idle, 50_000);
    world.pass_ms(49_000);
    world.heartbeat(task, held).expect("held");
    // An expired lease: its task is ready again.
    let waiting_again = {
        assert_eq!(got(world.wait(idle, 0)), Ok(None));
        drop(waiting);
        world.pass_ms(TTL_MS - 10_000);
        world.wait(idle, 50_000)
    };
    world.pass_ms(10_001);
    let claimed = got(waiting_again).unwrap().expect("the expired one");
    assert_eq!(claimed.task.task.id, task);
    // Capacity: a full worker waits until it has completed.
    let next = world.create_task(NewTask { labels: Vec::new(), ..new_task() }).task.id;
    let full = world.wait(idle, 50_000);
    world.complete(task, claimed.lease.id).expect("held");
    assert_eq!(got(full).unwrap().expect("there is room now").task.task.id, next);
}

#[test]
fn registering_offline_keeps_a_waiting_claim_from_tasks_until_it_is_back() {
    let mut world = World::new();
    world.register("w", 1);
    let mut waiting = world.wait("w", 50_000);
    let offline = Registration {
        status: Some(crate::domain::WorkerStatus::Offline),
        ..Registration::default()
    };
    world.register_as("w", offline);
    let task = world.create();
    assert!(waiting.try_recv().is_err(), "not while it says that it is away");
    world.register("w", 1);
    assert_eq!(got(waiting).unwrap().expect("served").task.task.id, task);
}

#[test]
fn removing_a_worker_leaves_its_waiting_claim_without_a_task() {
    let mut world = World::new();
    world.register("w", 1);
    let mut batch = Vec::new();
    let waiting = queue(&mut batch, |reply| claim("w", 50_000, reply));
    let removed = queue(&mut batch, |reply| Command::Remove { worker: worker("w"), reply });
    let created = queue(&mut batch, create);
    world.step(batch);
    got(removed).expect("registered");
    let task = got(created).expect("created").task.id;
    assert_eq!(world.status(task), TaskStatus::Queued);
    world.pass_ms(50_001);
    assert_eq!(got(waiting), Ok(None));
}

#[test]
fn a_claim_waits_no_longer_than_it_asked_and_not_at_all_after_the_release() {
    let mut world = World::new();
    world.register("w", 1);
    let mut waiting = world.wait("w", 5_000);
    assert_eq!(world.core.next_wake(), Some(world.clock.now().mono.after_ms(5_000)));
    world.pass_ms(5_000);
    assert!(waiting.try_recv().is_err());
    world.pass_ms(1);
    assert_eq!(got(waiting), Ok(None));
    let waiting = world.wait("w", 5_000);
    world.step(vec![Command::Release]);
    assert_eq!(got(waiting), Ok(None));
    assert_eq!(got(world.wait("w", 5_000)), Ok(None));
}

#[test]
fn every_waiting_claim_of_many_gets_a_task_of_its_own_in_one_step_p2() {
    let mut world = World::new();
    let waiting: Vec<_> = (0..50)
        .map(|n| {
            let name = format!("w{n}");
            world.register(&name, 1);
            world.wait(&name, 50_000)
        })
        .collect();
    let mut batch = Vec::new();
    let created: Vec<_> = (0..60).map(|_| queue(&mut batch, create)).collect();
    world.step(batch);
    let created: Vec<_> = created.into_iter().map(|answer| got(answer).unwrap().task.id).collect();
    let mut given: Vec<_> = waiting
        .into_iter()
        .map(|answer| got(answer).unwrap().expect("one each").task.task.id)
        .collect();
    given.sort_unstable();
    assert_eq!(given, created[..50], "the oldest fifty, each once");
}

#[test]
fn a_caller_that_is_gone_gets_no_task_waiting_or_not() {
    let mut world = World::new();
    world.register("w", 4);
    drop(world.wait("w", 50_000));
    let task = world.create();
    assert_eq!(world.status(task), TaskStatus::Queued, "its waiting caller is gone");
    let mut batch = Vec::new();
    drop(queue(&mut batch, |reply| claim("w", 50_000, reply)));
    world.step(batch);
    assert_eq!(world.status(task), TaskStatus::Queued, "it was gone before its turn came");
    let waiting = world.wait("w", 50_000);
    assert_eq!(got(waiting).unwrap().expect("the next one gets it").task.task.id, task);
}
