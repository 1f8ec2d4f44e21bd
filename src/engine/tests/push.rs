//! Push, as the writer sees it: whose claims wait, and what is no sign of life.

use super::*;
use crate::domain::{HandBack, NoWorker};

const MINUTE_MS: u64 = 60_000;

/// A world that pushes, with one worker that waits to be called.
fn pushing(max_concurrency: u32) -> World {
    let mut world = World::new();
    world.core.push();
    world.register_as("agent", called(max_concurrency));
    world
}

fn called(max_concurrency: u32) -> Registration {
    Registration {
        url: Some("http://pi:8001".into()),
        max_concurrency: Some(max_concurrency),
        ..Registration::default()
    }
}

/// The server's own claim, left waiting.
fn claim_for(world: &mut World, name: &str) -> Receiver<ClaimResult> {
    let (worker, wait_ms) = (worker(name), 60 * MINUTE_MS);
    let (reply, answer) = oneshot::channel();
    world.step(vec![Command::ClaimFor { worker, wait_ms, reply }]);
    answer
}

fn view(world: &World) -> WorkerView {
    world.query.worker(&worker("agent")).expect("it is there").0
}

#[test]
fn a_claim_on_its_behalf_gets_a_task_through_the_same_gate_and_is_no_sign_of_life() {
    let mut world = pushing(1);
    let heard = view(&world).last_heartbeat;
    world.pass_ms(MINUTE_MS / 2);
    let mut waiting = claim_for(&mut world, "agent");
    assert_eq!(view(&world).last_heartbeat, heard);
    let labelled = NewTask { labels: vec!["gpu".into()], ..new_task() };
    world.create_task(labelled);
    assert!(waiting.try_recv().is_err());
    let task = world.create();
    let lease = got(waiting).unwrap().expect("served").lease;
    assert_eq!((lease.task_id, &lease.worker_id), (task, &worker("agent")));
    let mut full = claim_for(&mut world, "agent");
    world.create();
    assert!(full.try_recv().is_err(), "its capacity is one");
    let kept = world.ask(|reply| Command::Keep { task, lease: lease.id, reply }).unwrap();
    assert_eq!(kept.expires_at, world.clock.now().wall + TTL_MS as i64);
    assert_eq!((world.status(task), view(&world).last_heartbeat), (TaskStatus::Running, heard));
    world.pass_ms(MINUTE_MS / 2 + 1_000);
    assert!(!view(&world).is_online(), "it never said a word");
    world.complete(task, lease.id).unwrap();
    assert!(view(&world).is_online());
    assert!(got(full).unwrap().is_some());
}

#[test]
fn waiting_on_behalf_of_a_fleet_wakes_nobody_and_writes_nothing_p8() {
    let mut world = World::new();
    world.core.push();
    let status = Some(domain::WorkerStatus::Unknown);
    let silent = Registration { status, ..called(1) };
    (0..100).for_each(|n| drop(world.register_as(&format!("agent-{n}"), silent.clone())));
    let waiting: Vec<_> = (0..100).map(|n| claim_for(&mut world, &format!("agent-{n}"))).collect();
    // What is left to do is to notice their silence.
    world.pass_ms(2 * MINUTE_MS);
    let syncs = world.hot.syncs();
    let wake = world.core.next_wake().expect("the claims end").0 - world.clock.now().mono.0;
    assert!(wake > 50 * MINUTE_MS, "{wake}");
    world.pass_ms(60 * MINUTE_MS);
    assert!(waiting.into_iter().all(|claim| got(claim).unwrap().is_none()));
    assert_eq!(world.hot.syncs(), syncs);
}

#[test]
fn the_first_claim_of_its_own_ends_what_waits_on_its_behalf_for_good() {
    let mut world = pushing(1);
    assert!(view(&world).pushed);
    let waiting = claim_for(&mut world, "agent");
    assert_eq!(world.claim("agent"), Ok(None));
    assert_eq!(got(waiting), Ok(None));
    let not_pushable = Refusal::NoWorker(NoWorker::NotPushable);
    assert_eq!(got(claim_for(&mut world, "agent")), refused(not_pushable));
    let syncs = world.hot.syncs();
    assert_eq!(world.claim("agent"), Ok(None));
    assert_eq!(world.hot.syncs(), syncs, "told once");
    let mut world = world.restart();
    world.core.push();
    assert!(!view(&world).pushed, "also after a restart");
    let other = Registration { agent_version: Some("0.4.0".into()), ..called(1) };
    assert!(world.register_as("agent", other).pushed, "another program may wait to be called");
}

#[test]
fn only_workers_with_an_address_are_pushed_to_and_only_where_push_is_on() {
    let mut world = pushing(1);
    world.register("puller", 1);
    let not_pushable = Refusal::NoWorker(NoWorker::NotPushable);
    assert_eq!(got(claim_for(&mut world, "puller")), refused(not_pushable));
    let task = world.create();
    let mut dispatch = |to: Option<WorkerId>| {
        let lease = NewLease { worker: WorkerChoice::Pushed(to), ttl_seconds: Some(None) };
        world.ask(|reply| Command::Lease { task, lease, reply })
    };
    assert_eq!(dispatch(Some(worker("puller"))), refused(not_pushable));
    let granted = dispatch(None).unwrap();
    assert_eq!(granted.lease.worker_id, worker("agent"));
    world.cancel(task).unwrap();
    let mut world = world.restart();
    assert!(!view(&world).pushed, "push is off there");
    let task = world.create();
    let lease = NewLease { worker: WorkerChoice::Pushed(None), ttl_seconds: Some(None) };
    let none = world.ask(|reply| Command::Lease { task, lease, reply });
    assert_eq!(none, refused(Refusal::NoWorker(NoWorker::NoneRegistered)));
}

#[test]
fn what_the_server_hands_back_for_an_agent_that_it_could_not_reach_is_no_sign_of_life() {
    let mut world = pushing(1);
    for (code, is_sign) in [("agent_unreachable", false), ("agent_refused_key", true)] {
        let waiting = claim_for(&mut world, "agent");
        let task = world.create();
        let lease = got(waiting).unwrap().expect("served").lease.id;
        world.clock.pass_ms(1_000);
        let before = view(&world).last_heartbeat;
        let given = Some(HandBack { code: code.into(), note: None, retry_after_seconds: None });
        let claim = LeaseClaim::Named(lease);
        world.ask(|reply| Command::HandBack { task, claim, given, reply }).unwrap();
        assert_eq!(view(&world).last_heartbeat != before, is_sign, "{code}");
        assert_eq!(view(&world).worker.cooling.expect("it rests").code, code);
        world.cancel(task).unwrap();
        world.ask(|reply| Command::Drain { worker: worker("agent"), on: false, reply }).unwrap();
    }
}

#[test]
fn a_full_disk_hands_out_nothing_on_anybodys_behalf_and_keeps_what_runs() {
    let mut world = pushing(2);
    let waiting = claim_for(&mut world, "agent");
    let task = world.create();
    let lease = got(waiting).unwrap().expect("served").lease.id;
    world.ask(|reply| Command::Keep { task, lease, reply }).unwrap();
    world.hot.break_down();
    let created = world.ask(create);
    assert!(matches!(created, Err(EngineError::NotWritten { .. })), "{created:?}");
    world.ask(|reply| Command::Keep { task, lease, reply }).unwrap();
    let mut waiting = claim_for(&mut world, "agent");
    assert!(waiting.try_recv().is_err(), "there is nothing to hand out");
    world.hot.work_again();
    world.pass_ms(MINUTE_MS + 1_000);
    world.create();
    assert!(waiting.try_recv().is_err(), "it was silent for a minute");
    world.step(vec![Command::HeardOf { worker: worker("agent") }]);
    assert!(got(waiting).unwrap().is_some());
}
