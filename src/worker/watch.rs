//! One running task as several threads see it: what ended it, and how long its lease may be
//! trusted.
//!
//! The lease's keeper, the readers of the child's pipes, the claim loop that is told to stop and
//! the thread that waits for the child all report here; one thread waits here for the first of
//! them or for a deadline. Must stay true: the trust only ever comes from a time read *before* the
//! request that the server granted, so it ends before the server's lease does (P4 seen from the
//! worker; River's rule `started + ttl − margin`). Not here: what is done about it.

use super::progress::Lines;
use crate::clock::{Clock, Mono};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Why a child is no longer waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It ended by itself.
    Exited,
    /// Its own time limit has passed.
    TimedOut,
    /// It wrote more than is kept.
    Flooded,
    /// The server says the lease is another's or ended.
    LeaseLost,
    /// The server says the task is cancelled.
    Cancelled,
    /// The server was not reached for so long that the lease may be another's by now.
    Untrusted,
    /// The worker is told to stop.
    Stopped,
}

/// See the head of the file.
pub struct Watch {
    state: Mutex<State>,
    changed: Condvar,
    clock: Arc<dyn Clock>,
}

struct State {
    trusted_until: Mono,
    exited: bool,
    flooded: bool,
    lease_gone: Option<Ending>,
    stopped: bool,
    reported: bool,
    lines: Lines,
}

/// A moment that never comes.
pub const NEVER: Mono = Mono(u64::MAX);

impl Watch {
    /// `trusted_until` is [`NEVER`] for a child that runs under no lease.
    pub fn new(clock: Arc<dyn Clock>, trusted_until: Mono) -> Watch {
        let state = State {
            trusted_until,
            exited: false,
            flooded: false,
            lease_gone: None,
            stopped: false,
            reported: false,
            lines: Lines::default(),
        };
        Watch { state: Mutex::new(state), changed: Condvar::new(), clock }
    }

    pub fn now(&self) -> Mono {
        self.clock.now().mono
    }

    pub fn child_exited(&self) {
        self.change(|state| state.exited = true);
    }

    /// Another child takes the place of the one that has ended.
    pub fn child_begins_again(&self) {
        self.change(|state| state.exited = false);
    }

    pub fn child_floods(&self) {
        self.change(|state| state.flooded = true);
    }

    /// `how` is [`Ending::LeaseLost`] or [`Ending::Cancelled`].
    pub fn lose_lease(&self, how: Ending) {
        self.change(|state| state.lease_gone = Some(how));
    }

    pub fn stop(&self) {
        self.change(|state| state.stopped = true);
    }

    pub fn trust_until(&self, moment: Mono) {
        self.change(|state| state.trusted_until = moment);
    }

    /// The task is over and done with: the lease needs no heartbeat any more.
    pub fn report_done(&self) {
        self.change(|state| state.reported = true);
    }

    pub fn is_trusted(&self) -> bool {
        self.now() < self.lock().trusted_until
    }

    /// Waits for whatever ends the child first; `timeout_at` is the task's own limit. What has
    /// already happened to the lease outranks the child's own end: nobody wants that result.
    pub fn wait_for_ending(&self, timeout_at: Mono) -> Ending {
        let mut state = self.lock();
        loop {
            let now = self.now();
            if let Some(ending) = state.ending(now, timeout_at) {
                return ending;
            }
            let next = timeout_at.min(state.trusted_until).from_now(now);
            state = self.changed.wait_timeout(state, next).expect(UNPOISONED).0;
        }
    }

    /// Waits until the child has exited, at most until `limit`; true when it has.
    pub fn wait_for_exit(&self, limit: Mono) -> bool {
        self.wait_until(limit, |state| state.exited)
    }

    /// Waits until the child has exited or its lease is lost, at most until `limit`.
    pub fn wait_in_grace(&self, limit: Mono) {
        self.wait_until(limit, |state| state.exited || state.lease_gone.is_some());
    }

    /// Waits `pause` between two tries of something; true when the worker is told to stop.
    pub fn pause_or_stop(&self, pause: Duration) -> bool {
        let until = self.now().after_ms(pause.as_millis() as u64);
        self.wait_until(until, |state| state.stopped)
    }

    /// Progress for the next heartbeat.
    pub fn tell(&self, lines: &[String]) {
        self.change(|state| lines.iter().for_each(|line| state.lines.push(line)));
    }

    pub fn has_lines(&self) -> bool {
        !self.lock().lines.is_empty()
    }

    pub fn take_lines(&self) -> Vec<String> {
        self.lock().lines.take()
    }

    pub fn give_lines_back(&self, lines: Vec<String>) {
        self.lock().lines.give_back(lines);
    }

    /// Waits between two heartbeats: until `due`, or until there is progress to send, but then at least
    /// until `soonest`. True when no heartbeat is needed any more.
    pub fn pause_or_done(&self, soonest: Mono, due: Mono) -> bool {
        let over = |state: &State| state.reported || state.lease_gone.is_some();
        self.wait_until(soonest.min(due), over)
            || (self.wait_until(due, |state| over(state) || !state.lines.is_empty())
                && over(&self.lock()))
    }

    fn wait_until(&self, limit: Mono, reached: impl Fn(&State) -> bool) -> bool {
        let mut state = self.lock();
        loop {
            let now = self.now();
            if reached(&state) || now >= limit {
                return reached(&state);
            }
            let waited = self.changed.wait_timeout(state, limit.from_now(now));
            state = waited.expect(UNPOISONED).0;
        }
    }

    fn change(&self, how: impl FnOnce(&mut State)) {
        how(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }
}

impl State {
    fn ending(&self, now: Mono, timeout_at: Mono) -> Option<Ending> {
        let reasons = [
            (self.exited, Ending::Exited),
            (self.stopped, Ending::Stopped),
            (now >= self.trusted_until, Ending::Untrusted),
            (self.flooded, Ending::Flooded),
            (now >= timeout_at, Ending::TimedOut),
        ];
        let first = || reasons.into_iter().find_map(|(happened, how)| happened.then_some(how));
        self.lease_gone.or_else(first)
    }
}

const UNPOISONED: &str = "nothing panics while it holds a task's state";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn what_happened_to_the_lease_outranks_the_childs_own_end() {
        let watch = Watch::new(Arc::new(ManualClock::new(0)), NEVER);
        watch.child_exited();
        watch.stop();
        assert_eq!(watch.wait_for_ending(NEVER), Ending::Exited);
        watch.lose_lease(Ending::Cancelled);
        assert_eq!(watch.wait_for_ending(NEVER), Ending::Cancelled);
    }

    #[test]
    fn progress_hastens_a_heartbeat_but_not_beyond_measure() {
        let clock = Arc::new(ManualClock::new(0));
        let watch = Watch::new(clock.clone(), NEVER);
        watch.tell(&["a line".to_owned()]);
        clock.pass_ms(2000);
        assert!(!watch.pause_or_done(Mono(2000), NEVER), "it is time, and there is something");
        assert_eq!(watch.take_lines(), ["a line"]);
        watch.report_done();
        assert!(watch.pause_or_done(NEVER, NEVER));
    }

    #[test]
    fn trust_and_time_run_out_by_the_monotonic_clock_alone() {
        let clock = Arc::new(ManualClock::new(0));
        let watch = Watch::new(clock.clone(), Mono(900));
        clock.set_wall(i64::MAX);
        assert!(watch.is_trusted());
        clock.pass_ms(500);
        assert_eq!(watch.wait_for_ending(Mono(500)), Ending::TimedOut);
        clock.pass_ms(400);
        assert_eq!(watch.wait_for_ending(NEVER), Ending::Untrusted);
        watch.trust_until(Mono(2000));
        assert!(watch.is_trusted());
    }
}
