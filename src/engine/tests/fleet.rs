//! Retry, hand-back, rest, drain, `not_before` and limits of agents, as the writer keeps them.

use super::*;
use crate::domain::{HandBack, NoWorker, Retry};
use crate::engine::AgentLimits;

fn retrying() -> NewTask {
    let retry = Retry { on_error: true, backoff_seconds: 15, max_backoff_seconds: 300 };
    NewTask { retry: Some(retry), max_attempts: 3, ..new_task() }
}

fn hand_back(
    world: &mut World,
    task: TaskId,
    lease: LeaseId,
    code: &str,
    retry_after_seconds: Option<u32>,
) -> Result<TaskView, EngineError> {
    let given = Some(HandBack { code: code.into(), note: None, retry_after_seconds });
    let claim = LeaseClaim::Named(lease);
    world.ask(|reply| Command::HandBack { task, claim, given, reply })
}

fn fail_at_provider(world: &mut World, name: &str) {
    let task = world.create();
    let claimed = world.claim(name).unwrap().expect("there is one");
    assert_eq!(claimed.task.task.id, task);
    let completed = domain::Completed {
        status: CompletionStatus::Error,
        output: None,
        error_message: Some("Overloaded".into()),
        code: Some("provider_overloaded".into()),
        metrics: Metrics::default(),
        artifact_type: "LLM_RESULT".into(),
        artifact_tags: Vec::new(),
    };
    let (claim, completed) = (LeaseClaim::Named(claimed.lease.id), Some(Box::new(completed)));
    let done = world.ask(|reply| Command::Complete { task, claim, completed, reply });
    assert_eq!(done.expect("held").task.task.status, TaskStatus::Failed);
}

fn drain(world: &mut World, name: &str, on: bool) -> Result<WorkerView, EngineError> {
    world.ask(|reply| Command::Drain { worker: worker(name), on, reply })
}

fn is_cooling(world: &World, name: &str) -> bool {
    world.query.worker(&worker(name)).expect("known").0.worker.cooling.is_some()
}

#[test]
fn an_error_is_tried_again_after_its_backoff_and_neither_clock_jump_nor_restart_shortens_it() {
    let mut world = World::new();
    world.register("w", 1);
    let task = world.create_task(retrying()).task.id;
    let lease = world.leased(task);
    let done = world.fail(task, lease).expect("held");
    assert_eq!(done.task.task.status, TaskStatus::Queued);
    assert_eq!(world.claim("w"), Ok(None), "it waits");
    world.clock.set_wall(NOW + 40 * 365 * 86_400_000);
    world.pass_ms(6_000);
    assert_eq!(world.claim("w"), Ok(None), "the wall clock decides nothing");
    let mut world = world.restart();
    // What was not written of the time served counts again: longer, never shorter.
    let waiting = world.wait("w", 50_000);
    let mut waiting = waiting;
    world.pass_ms(5_000);
    assert!(got_now(&mut waiting).is_none(), "it still waits");
    world.pass_ms(14_000);
    let claimed = got(waiting).unwrap().expect("its time has come");
    assert_eq!((claimed.task.task.id, claimed.task.task.attempts), (task, 2));
    // The error's own answer is what it was (P7).
    let again = world.fail(task, lease).expect("known");
    assert_eq!(again.task.task.delay, done.task.task.delay);
    assert_eq!((again.task.task.status, again.outcome), (TaskStatus::Queued, done.outcome));
}

#[test]
fn the_writer_wakes_for_a_backoff_by_itself() {
    let mut world = World::new();
    world.register("w", 1);
    let task = world.create_task(retrying()).task.id;
    let lease = world.leased(task);
    world.fail(task, lease).expect("held");
    let mut waiting = world.wait("w", 50_000);
    let wake = world.core.next_wake().expect("something is due");
    let ms = wake.from_now(world.clock.now().mono).as_millis() as u64;
    assert!((12_000..=18_001).contains(&ms), "{ms}");
    world.pass_ms(ms);
    assert_eq!(got_now(&mut waiting).expect("served").unwrap().expect("one").task.task.id, task);
}

#[test]
fn attempts_that_are_used_up_end_a_retry_as_failed() {
    let mut world = World::new();
    world.register("w", 1);
    let task = world.create_task(retrying()).task.id;
    for attempt in 1..=3 {
        let lease = world.leased(task);
        world.fail(task, lease).expect("held");
        let expected = if attempt < 3 { TaskStatus::Queued } else { TaskStatus::Failed };
        assert_eq!(world.status(task), expected);
        world.pass_ms(90_000);
        world.register("w", 1);
    }
    world.assert_healthy();
}

#[test]
fn a_usage_limit_gives_the_task_to_another_worker_at_once_and_rests_this_one_until_its_reset() {
    let mut world = World::new();
    world.register("limited", 1);
    let task = world.create();
    let lease = world.leased(task);
    world.register("other", 1);
    let waiting = world.wait("other", 50_000);
    let view = hand_back(&mut world, task, lease, "usage_limit", Some(7_200)).expect("held");
    assert_eq!((view.task.status, view.task.attempts), (TaskStatus::Queued, 0));
    assert_eq!(got(waiting).unwrap().expect("at once").task.task.id, task);
    assert!(is_cooling(&world, "limited"));
    world.create();
    assert_eq!(world.claim("limited"), Ok(None), "it rests");
    let mut world = world.restart();
    world.pass_ms(3_600_000);
    assert_eq!(world.claim("limited"), Ok(None), "it rests over a restart too");
    world.pass_ms(3_600_000);
    world.pass_ms(2);
    assert!(!is_cooling(&world, "limited"));
    assert!(world.claim("limited").unwrap().is_some());
    world.assert_healthy();
    let trail = world.trail();
    for action in ["task_released", "worker_cooling", "worker_ready"] {
        assert_eq!(trail.iter().filter(|told| *told == action).count(), 1, "{action}");
    }
}

#[test]
fn a_claim_that_waits_is_served_the_moment_its_worker_has_rested() {
    let mut world = World::new();
    world.register("w", 1);
    let task = world.create();
    let lease = world.leased(task);
    hand_back(&mut world, task, lease, "usage_limit", Some(30)).expect("held");
    let mut waiting = world.wait("w", 50_000);
    world.pass_ms(29_999);
    assert!(got_now(&mut waiting).is_none());
    world.pass_ms(2);
    let claimed = got(waiting).unwrap().expect("rested");
    assert_eq!((claimed.task.task.id, claimed.task.task.attempts), (task, 1));
}

#[test]
fn a_task_handed_back_twice_is_handed_back_once() {
    let mut world = World::new();
    world.register("w", 1);
    let task = world.create();
    let lease = world.leased(task);
    let once = hand_back(&mut world, task, lease, "worker_stopping", None).expect("held");
    let syncs = world.hot.syncs();
    let twice = hand_back(&mut world, task, lease, "worker_stopping", None).expect("known");
    assert_eq!((twice, world.hot.syncs()), (once, syncs), "and nothing is written");
    let next = world.leased(task);
    assert!(!is_cooling(&world, "w"));
    assert_eq!(world.complete(task, lease), refused(Refusal::LeaseLost));
    world.complete(task, next).expect("held");
}

#[test]
fn three_provider_failures_in_a_row_rest_a_worker_for_a_minute_and_a_success_between_counts_anew() {
    let mut world = World::new();
    world.register("w", 1);
    fail_at_provider(&mut world, "w");
    fail_at_provider(&mut world, "w");
    let task = world.create();
    let lease = world.leased(task);
    world.complete(task, lease).expect("held");
    fail_at_provider(&mut world, "w");
    fail_at_provider(&mut world, "w");
    assert!(!is_cooling(&world, "w"));
    fail_at_provider(&mut world, "w");
    assert!(is_cooling(&world, "w"));
    world.create();
    assert_eq!(world.claim("w"), Ok(None));
    world.pass_ms(60_002);
    assert!(world.claim("w").unwrap().is_some());
}

#[test]
fn a_draining_worker_keeps_what_it_holds_and_gets_nothing_more_until_it_is_undrained() {
    let mut world = World::new();
    world.register("w", 2);
    let held = world.create();
    let lease = world.leased(held);
    assert!(drain(&mut world, "w", true).expect("known").worker.draining);
    let task = world.create();
    assert_eq!(world.lease(task), refused(Refusal::NoWorker(NoWorker::Draining)));
    world.heartbeat(held, lease).expect("held");
    world.register("w", 2);
    let mut world = world.restart();
    let mut waiting = world.wait("w", 50_000);
    assert!(got_now(&mut waiting).is_none(), "neither registration nor restart undrains it");
    world.complete(held, lease).expect("held");
    drain(&mut world, "w", false).expect("known");
    assert_eq!(got(waiting).unwrap().expect("at once").task.task.id, task);
    assert_eq!(drain(&mut world, "nobody", true), refused(Refusal::WorkerNotFound));
    let syncs = world.hot.syncs();
    drain(&mut world, "w", false).expect("known");
    assert_eq!(world.hot.syncs(), syncs, "nothing changed, nothing is written");
}

#[test]
fn undraining_ends_a_rest() {
    let mut world = World::new();
    world.register("w", 1);
    let task = world.create();
    let lease = world.leased(task);
    hand_back(&mut world, task, lease, "not_logged_in", None).expect("held");
    assert_eq!(world.claim("w"), Ok(None));
    drain(&mut world, "w", false).expect("known");
    assert!(world.claim("w").unwrap().is_some());
}

#[test]
fn a_task_is_not_handed_out_before_its_moment_and_a_wall_clock_that_jumps_there_is_seen() {
    let mut world = World::new();
    world.register("w", 1);
    let later = NewTask { not_before: Some(NOW + 86_400_000), priority: 9, ..new_task() };
    let task = world.create_task(later).task.id;
    assert_eq!(world.claim("w"), Ok(None));
    let mut world = world.restart();
    world.clock.set_wall(NOW + 86_400_000);
    let wake = world.core.next_wake().expect("the wall clock is looked at");
    assert!(wake.from_now(world.clock.now().mono).as_secs() <= 31);
    assert_eq!(world.claim("w").unwrap().expect("its moment").task.task.id, task);
    let past = NewTask { not_before: Some(5), ..new_task() };
    let at_once = world.create_task(past).task.id;
    world.register("x", 1);
    assert_eq!(world.claim("x").unwrap().expect("at once").task.task.id, at_once);
}

#[test]
fn a_task_that_waits_for_its_time_can_be_cancelled_and_requeued() {
    let mut world = World::new();
    world.register("w", 1);
    let later = NewTask { not_before: Some(NOW + 60_000), ..new_task() };
    let task = world.create_task(later).task.id;
    world.cancel(task).expect("queued");
    world.clock.set_wall(NOW + 60_001);
    assert_eq!(world.claim("w"), Ok(None), "cancelled is cancelled");
    world.requeue(task).expect("cancelled");
    assert_eq!(world.claim("w").unwrap().expect("its moment is past").task.task.id, task);
}

fn limited(world: World, limits: &[(&str, u32)]) -> World {
    let limits: AgentLimits = limits.iter().map(|(agent, n)| (agent.to_string(), *n)).collect();
    let World { clock, hot, archive, store, core, query } = world;
    drop((core, query, store));
    let store = Arc::new(Store::open_backends(hot.clone(), archive.clone()).expect("opens"));
    let random = crate::engine::system_random();
    let core = Core::open_limited(store.clone(), random, clock.now(), limits).expect("opens");
    let query = core.query();
    World { clock, hot, archive, store, core, query }
}

fn of_agent(agent: &str) -> NewTask {
    let mut new = new_task();
    new.spec.agent_slug = agent.into();
    new
}

#[test]
fn an_agent_never_has_more_leases_than_its_limit_by_whichever_way_they_are_asked_for() {
    let mut world = limited(World::new(), &[("reviewer", 1)]);
    world.register("w", 8);
    let first = world.create_task(of_agent("reviewer")).task.id;
    let second = world.create_task(of_agent("reviewer")).task.id;
    let other = world.create_task(of_agent("writer")).task.id;
    let held = world.claim("w").unwrap().expect("the first");
    assert_eq!(held.task.task.id, first);
    assert_eq!(world.lease(second), refused(Refusal::NoWorker(NoWorker::AgentAtLimit)));
    assert_eq!(world.claim("w").unwrap().expect("of another agent").task.task.id, other);
    // Over a restart, and over a disk that failed and a memory that was built anew.
    let mut world = limited(world, &[("reviewer", 1)]);
    let mut waiting = world.wait("w", 50_000);
    assert!(got_now(&mut waiting).is_none());
    world.hot.break_down();
    let (reply, answer) = oneshot::channel();
    let new = Box::new(of_agent("reviewer"));
    let _ = world.try_step(vec![Command::Create { new, key: None, reply }]);
    assert!(got(answer).is_err());
    world.hot.work_again();
    world.pass_ms(1_001);
    assert!(got_now(&mut waiting).is_none(), "the limit outlives the failure");
    world.complete(first, held.lease.id).expect("held");
    assert_eq!(got(waiting).unwrap().expect("at once").task.task.id, second);
}

#[test]
fn a_disk_that_fails_takes_back_a_hand_back_and_the_rest_that_came_with_it() {
    let mut world = World::new();
    world.register("w", 1);
    let task = world.create();
    let lease = world.leased(task);
    world.hot.break_down();
    assert!(hand_back(&mut world, task, lease, "usage_limit", Some(60)).is_err());
    world.hot.work_again();
    world.pass_ms(1_001);
    assert!(!is_cooling(&world, "w"));
    assert_eq!(world.status(task), TaskStatus::Leased);
    hand_back(&mut world, task, lease, "usage_limit", Some(60)).expect("held");
    assert!(is_cooling(&world, "w"));
    world.pass_ms(60_002);
    assert!(!is_cooling(&world, "w"));
}
