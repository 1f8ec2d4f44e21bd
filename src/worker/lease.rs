//! Keeping a lease alive, and knowing when it may no longer be trusted.
//!
//! A heartbeat at a third of the lease and at least every 10 s, sooner when there is progress to send along; each one that the
//! server takes moves the trust to `sent + ttl − margin`, counted from before it was sent. 404 and 409 mean that the lease is gone
//! (lost, ended, or the task cancelled). Anything else is a missed heartbeat: it is tried again,
//! and the trust runs out by itself. Not here: killing the child ([`super::child`] waits on the
//! same [`Watch`]).

use super::Granted;
use super::backoff::Backoff;
use super::watch::{Ending, Watch};
use crate::client::{CallError, Client, segment};
use crate::clock::Mono;
use serde_json::json;
use std::time::Duration;

/// The longest that one heartbeat may take.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(10);
/// At most this lies between two heartbeats, since one of them brings word of a cancel.
const HEARTBEAT_MS_MAX: u64 = 10_000;
/// At least this lies between two heartbeats that progress has hastened.
const PROGRESS_PAUSE_MS: u64 = 2_000;

/// Until when a lease of `ttl_seconds` may be trusted whose grant was asked for at `asked`.
pub fn trusted_until(asked: Mono, ttl_seconds: u64) -> Mono {
    let ttl_ms = ttl_seconds.saturating_mul(1000);
    let margin_ms = (ttl_ms / 10).clamp(500, 10_000);
    Mono(asked.0.saturating_add(ttl_ms.saturating_sub(margin_ms)))
}

enum Heartbeat {
    Taken,
    Gone(Ending),
    Missed(CallError),
}

/// The first heartbeat: nothing is started before the server has said that the lease stands. A
/// claim waits long for its answer, so its own reading of the clock may be too old to trust. False
/// when the lease is gone, or its trust ran out, or the worker is told to stop.
pub fn confirm(client: &Client, granted: &Granted, watch: &Watch) -> bool {
    let mut backoff = Backoff::default();
    loop {
        match heartbeat(client, granted, watch) {
            Heartbeat::Taken => return true,
            Heartbeat::Gone(_) => return false,
            Heartbeat::Missed(fault) => {
                if backoff.is_fresh() {
                    log::warn!("{granted} heartbeat missed, trying again: {fault}");
                }
                let stopped = watch.pause_or_stop(backoff.next(fault.retry_after()));
                if stopped || !watch.is_trusted() {
                    return false;
                }
            }
        }
    }
}

/// Heartbeats until the task is reported or the lease is gone; runs in a thread of its own.
pub fn keep(client: &Client, granted: &Granted, watch: &Watch) {
    let pause_ms = (granted.lease.ttl_seconds.saturating_mul(1000) / 3).min(HEARTBEAT_MS_MAX);
    let mut backoff = Backoff::default();
    let mut due = watch.now().after_ms(pause_ms);
    // The first line tells with which model Claude runs; a person waits for it.
    let mut soonest = watch.now();
    while !watch.pause_or_done(soonest, due) {
        match heartbeat(client, granted, watch) {
            Heartbeat::Taken => {
                backoff = Backoff::default();
                soonest = watch.now().after_ms(PROGRESS_PAUSE_MS);
                due = watch.now().after_ms(pause_ms);
            }
            Heartbeat::Gone(how) => return watch.lose_lease(how),
            Heartbeat::Missed(fault) => {
                if backoff.is_fresh() {
                    log::warn!("{granted} heartbeat missed, trying again: {fault}");
                }
                let wait_ms = backoff.next(fault.retry_after()).as_millis() as u64;
                due = watch.now().after_ms(wait_ms.min(pause_ms));
                soonest = due;
            }
        }
    }
}

/// Sends the progress that is left once a run has ended: after its report nobody takes it any more.
pub fn tell_the_rest(client: &Client, granted: &Granted, watch: &Watch) {
    if watch.has_lines()
        && let Heartbeat::Missed(fault) = heartbeat(client, granted, watch)
    {
        log::debug!("{granted} its last progress is not told: {fault}");
    }
}

fn heartbeat(client: &Client, granted: &Granted, watch: &Watch) -> Heartbeat {
    let path = format!("/api/runtime/llm-tasks/{}/heartbeat", segment(&granted.task.id));
    let ttl_seconds = granted.lease.ttl_seconds;
    let timeout = HEARTBEAT_TIMEOUT.min(Duration::from_secs(ttl_seconds) / 3);
    let asked = watch.now();
    let lines = watch.take_lines();
    let mut body = json!({ "lease_id": granted.lease.id });
    if !lines.is_empty() {
        body["log"] = json!(lines);
    }
    match client.post(&path, &body, timeout) {
        Ok(_) => {
            watch.trust_until(trusted_until(asked, ttl_seconds));
            Heartbeat::Taken
        }
        Err(CallError::Refused { status: 404 | 409, code, text, .. }) => {
            log::debug!("{granted} heartbeat refused: {code} {text}");
            let cancelled = code == "task_cancelled";
            Heartbeat::Gone(if cancelled { Ending::Cancelled } else { Ending::LeaseLost })
        }
        Err(fault) => {
            watch.give_lines_back(lines);
            Heartbeat::Missed(fault)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_ends_before_the_lease_does() {
        assert_eq!(trusted_until(Mono(7), 300), Mono(7 + 290_000));
        assert_eq!(trusted_until(Mono(0), 30), Mono(27_000));
        assert_eq!(trusted_until(Mono(0), 1), Mono(500));
        assert_eq!(trusted_until(Mono(5), 0), Mono(5));
    }
}
