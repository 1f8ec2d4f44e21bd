//! The loop that finds Claude, registers, and claims a task whenever a slot is free.
//!
//! One claim at a time: it waits at the server, which wakes it when a task comes. What must stay
//! true: a task is claimed only when there is room for it and Claude is there and logged in, as far
//! as it says; trouble is said once and not at every try; no answer, however quick, makes this loop
//! spin. Not here: what is done with a task.

use super::backoff::Backoff;
use super::verdict::{Code, Failure};
use super::watch::Watch;
use super::{Granted, Readiness, Stop, Worker, child, lease, presence, probe, report, task};
use crate::client::{CallError, segment};
use crate::clock::Mono;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// How long a claim waits at the server for a task.
const CLAIM_WAIT_SECONDS: u64 = 25;
const CLAIM_TIMEOUT: Duration = Duration::from_secs(CLAIM_WAIT_SECONDS + 10);
const PROBE_AGAIN: Duration = Duration::from_secs(30);
/// Between tries of what a person has to mend first: a wrong key, a wrong address.
const FOR_A_PERSON: Duration = Duration::from_secs(30);
/// A claim that brings nothing sooner than this did not wait at the server.
const TOO_QUICK: Duration = Duration::from_secs(1);

/// Claims until the worker stops. Should this thread end in any other way, the worker stops too,
/// instead of idling as if nothing were to do.
pub fn claim_until_stopped(worker: &Arc<Worker>) {
    let _ends_with_us = StopOnDrop(worker.stop.clone());
    let mut trouble = Trouble::default();
    while worker.wait_for_room() && !worker.stop.is_set() {
        let pause = match next_step(worker, &mut trouble) {
            Ok(pause) => pause,
            Err(_) if worker.stop.is_set() => break,
            Err(Held { reason, pause }) => {
                trouble.say(reason);
                pause
            }
        };
        worker.stop.wait_for(pause);
    }
    worker.claims_are_over();
}

/// Why nothing could be claimed, and how long to leave it at that.
struct Held {
    reason: String,
    pause: Duration,
}

/// Finds Claude, or registers, or claims: whatever is due. The answer is the pause before the next.
fn next_step(worker: &Arc<Worker>, trouble: &mut Trouble) -> Result<Duration, Held> {
    let held = |reason| Held { reason, pause: PROBE_AGAIN };
    match worker.readiness() {
        Readiness::Ready => {}
        Readiness::Failed(reason) => {
            worker.be(Readiness::Unknown);
            return Err(held(reason));
        }
        Readiness::Unknown => {
            let found = probe::find_claude(worker);
            if found.is_ok() {
                worker.be(Readiness::Ready);
            }
            // The server shows that this machine is there but has no Claude.
            if let Err(fault) = presence::register(worker) {
                log::debug!("not registered: {fault}");
            }
            log::info!("{}", found.map_err(held)?);
        }
    }
    let outcome = match worker.is_registered() {
        true => claim(worker).map(|waited| trouble.over(waited)),
        false => presence::register(worker).map(|()| Duration::ZERO),
    };
    outcome.map_err(|fault| {
        if matches!(fault, CallError::Refused { status: 404, .. }) {
            worker.presence().registered = false;
        }
        let wait = trouble.backoff.next(fault.retry_after());
        let pause = if needs_a_person(&fault) { wait.max(FOR_A_PERSON) } else { wait };
        Held { reason: fault.to_string(), pause }
    })
}

/// Sets the flag when its thread ends, even by a panic.
struct StopOnDrop(Arc<Stop>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// What was last complained of, and for how long to hold back.
#[derive(Default)]
struct Trouble {
    said: Option<String>,
    backoff: Backoff,
}

impl Trouble {
    fn say(&mut self, fault: String) {
        if self.said.as_ref() != Some(&fault) {
            log::warn!("{fault}; trying again");
            self.said = Some(fault);
        }
    }

    /// A call went well. The pause before the next: none, unless the server did not wait at all.
    fn over(&mut self, waited: bool) -> Duration {
        if self.said.take().is_some() {
            log::info!("all is well again");
        }
        if !waited {
            return self.backoff.next(None);
        }
        self.backoff = Backoff::default();
        Duration::ZERO
    }
}

fn needs_a_person(fault: &CallError) -> bool {
    matches!(fault, CallError::Refused { status: 300..=403, .. })
}

/// Claims one task and starts it. False when there was none and the server did not wait for one.
fn claim(worker: &Arc<Worker>) -> Result<bool, CallError> {
    let path = format!("/api/runtime/workers/{}/claim", segment(&worker.config.name));
    let asked = worker.clock.now().mono;
    let lease_seconds = worker.config.lease_seconds;
    let wish = json!({ "wait_seconds": CLAIM_WAIT_SECONDS, "lease_seconds": lease_seconds });
    let answer = worker.client.post(&path, &wish, CLAIM_TIMEOUT)?;
    if answer.status == 204 {
        let waited_ms = worker.clock.now().mono.0 - asked.0;
        return Ok(waited_ms >= TOO_QUICK.as_millis() as u64);
    }
    start(worker, answer.json()?, asked);
    Ok(true)
}

/// Does the task in a thread of its own.
fn start(worker: &Arc<Worker>, granted: Granted, asked: Mono) {
    let trusted_until = lease::trusted_until(asked, granted.lease.ttl_seconds);
    let watch = Arc::new(Watch::new(worker.clock.clone(), trusted_until));
    let granted = Arc::new(granted);
    let Some(slot) = worker.enter(&watch) else {
        watch.stop();
        let failure = Failure::new(Code::WorkerStopping, "The task came while the worker stopped");
        return report::hand_back(&worker.client, &granted, &watch, &failure, None);
    };
    let named = granted.clone();
    let spawned = child::spawn_thread("task", move || {
        let Worker { config, client, clock, .. } = &*slot.worker;
        if let Some(failure) = task::perform(config, client, clock, &granted, &watch) {
            slot.worker.be(Readiness::Failed(failure.message));
        }
    });
    if let Err(fault) = spawned {
        log::error!("{named} not done, no thread can be started: {fault}");
    }
}
