//! What chance would rarely make: as many waiting claims and workers as there may be, hundreds of leases
//! that end at once, a claim that outlives its worker's silence.
//!
//! Not here: the limit of a million live tasks, which would take minutes to reach.

use super::check;
use super::facts::{Answer, Ask, Call, lease_id, task_id};
use super::fleet::{SECOND, new_task, result};
use super::model::Model;
use super::server::{Disks, Server};
use bloom_runtime::domain::{LeaseClaim, Refusal, Registration, Retry};
use bloom_runtime::engine::WorkerChoice;
use std::collections::BTreeMap;

const BATCH: usize = 512;

/// The engine and the model, given the same.
struct Pair {
    server: Server,
    model: Model,
    now: u64,
    calls: u64,
    seen: u64,
}

impl Pair {
    fn new() -> Pair {
        let server = Server::start(&Disks::default(), 0, 0, 0, (&[], false)).expect("opens");
        Pair { server, model: Model::new(false), now: 0, calls: 0, seen: 0 }
    }

    fn step(&mut self, asks: Vec<Ask>) -> BTreeMap<u64, Answer> {
        let first = self.calls;
        self.calls += asks.len() as u64;
        let call = |(id, ask)| Call { id, ask, gone: false };
        let calls: Vec<Call> = (first..).zip(asks).map(call).collect();
        let now = self.server.now(self.now, (self.now / 1000) as i64);
        let expected = self.model.step(now, &calls);
        let stepped = self.server.step(calls, now);
        let checked = check::answers(&stepped.answers, &expected)
            .and_then(|()| check::syncs(&stepped, &self.model))
            .and_then(|()| check::told(&self.server, &self.model, self.seen))
            .and_then(|()| check::counts(&self.server, &self.model));
        checked.unwrap_or_else(|why| panic!("{why}"));
        self.seen = self.model.last_change;
        stepped.answers
    }

    /// Asks in full batches; how many were refused with this.
    fn crowd(&mut self, asks: impl Iterator<Item = Ask>, refusal: Refusal) -> usize {
        let asks: Vec<Ask> = asks.collect();
        let refused = |answer: &&Answer| **answer == Answer::Refused(refusal);
        let batches = asks.chunks(BATCH);
        batches.map(|batch| self.step(batch.to_vec()).values().filter(refused).count()).sum()
    }

    fn look(&self) {
        check::all(&self.server, &self.model).unwrap_or_else(|why| panic!("{why}"));
    }
}

fn register(worker: String, max_concurrency: u32) -> Ask {
    let max_concurrency = Some(max_concurrency);
    Ask::Register { worker, registration: Registration { max_concurrency, ..Default::default() } }
}

fn create() -> Ask {
    Ask::Create { new: new_task("context", "prompt".into(), 120), key: None }
}

#[test]
fn as_many_workers_and_waiting_claims_as_may_be_and_not_one_more_p9() {
    let mut pair = Pair::new();
    let workers = (0..10_003).map(|n| register(format!("worker-{n}"), 1));
    assert_eq!(pair.crowd(workers, Refusal::TooManyWorkers), 3);
    let claim = |n: u64| Ask::Claim {
        worker: format!("worker-{}", n % 3),
        ttl_seconds: None,
        wait_ms: 20_000 + n % 7,
    };
    assert_eq!(pair.crowd((0..8_197).map(claim), Refusal::TooManyWaiting), 5);
    let served = pair.step(vec![create(), create(), create(), create()]);
    let claimed = served.values().filter(|answer| matches!(answer, Answer::Claimed(..))).count();
    assert_eq!(claimed, 3, "each of the three workers has room for one");
    pair.now += 25 * SECOND;
    let ended = pair.step(Vec::new());
    assert_eq!(ended.len(), 8_192 - 3, "the others have waited long enough");
    pair.look();
}

#[test]
fn hundreds_of_leases_that_end_at_once_all_end_p5() {
    let mut pair = Pair::new();
    pair.step((0..16).map(|n| register(format!("worker-{n}"), 32)).collect());
    pair.step((0..BATCH).map(|_| create()).collect());
    for _ in 0..2 {
        let lease = |n: usize| Ask::Lease {
            task: task_id(n as u64 + 1),
            worker: WorkerChoice::Automatic,
            ttl_seconds: Some(Some(30)),
        };
        let leased = pair.step((0..BATCH).map(lease).collect());
        assert!(leased.values().all(|answer| matches!(answer, Answer::Leased(..))));
        pair.now += 30 * SECOND;
        pair.step(Vec::new());
        assert!(pair.model.touched.is_empty(), "not a moment early");
        pair.now += SECOND / 1_000;
        pair.step(Vec::new());
        assert_eq!(pair.model.touched.len(), BATCH);
    }
    pair.look();
}

#[test]
fn a_worker_that_is_heard_of_again_is_served_the_task_for_which_it_still_waits_p5() {
    let mut pair = Pair::new();
    pair.step(vec![register("worker".into(), 1)]);
    let claim = Ask::Claim { worker: "worker".into(), ttl_seconds: None, wait_ms: 90_000 };
    assert!(pair.step(vec![claim]).is_empty(), "there is no task yet");
    pair.now += 61 * SECOND;
    assert_eq!(pair.step(vec![create()]).len(), 1, "nothing for a worker that is silent");
    let served = pair.step(vec![Ask::HeardOf("worker".into())]);
    assert!(served.values().all(|answer| matches!(answer, Answer::Claimed(..))));
    assert_eq!(served.len(), 1);
    pair.look();
}

/// A task that its first attempt fails, and that a worker waits for again. The engine's chance is the same
/// for all, so its wait is known.
#[test]
fn a_backoff_is_over_when_all_of_it_has_passed_and_not_a_moment_sooner_p4() {
    let mut pair = Pair::new();
    pair.now = 900;
    let retry = Retry { on_error: true, backoff_seconds: 2, max_backoff_seconds: 9 };
    let mut new = new_task("context", "prompt".into(), 120);
    new.retry = Some(retry);
    pair.step(vec![register("worker".into(), 1), Ask::Create { new, key: None }]);
    let claim = |wait_ms| Ask::Claim { worker: "worker".into(), ttl_seconds: None, wait_ms };
    pair.step(vec![claim(0)]);
    let (task, claimed) = (task_id(1), LeaseClaim::Named(lease_id(1)));
    let fields = Some(result(false, 1, "it did not work".into()));
    let done = pair.step(vec![Ask::Complete { task, claim: claimed, fields }]);
    let Some(Answer::Done(done)) = done.into_values().next() else { panic!("it was held") };
    let wait_us = done.delay.expect("it is tried again").age_ms * 1_000;
    assert!((1_600_000..=2_400_000).contains(&wait_us), "{wait_us}");
    pair.now = wait_us + 899;
    let early = pair.step(vec![claim(0)]);
    assert!(early.into_values().all(|answer| answer == Answer::NoTask), "a microsecond is missing");
    pair.now += SECOND / 1_000;
    let served = pair.step(vec![claim(0)]);
    assert!(served.into_values().all(|answer| matches!(answer, Answer::Claimed(..))));
    pair.look();
}
