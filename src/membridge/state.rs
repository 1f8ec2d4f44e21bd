//! What is known of the connection: failures in a row, the last success, and when to leave it alone.
//!
//! Must stay true: after `FAILURES_MAX` failures in a row nobody calls for `REST_MS`; then one does, and
//! the others wait for what that one finds. It is memory alone (P8). Not here: clocks and locks.

use super::call::{Fault, FaultKind};
use crate::clock::{Mono, Now, WallMs};

/// Failures of the network or the server in a row from which on it is left alone, and for how long.
const FAILURES_MAX: u64 = 5;
const REST_MS: u64 = 15_000;
/// The longest time that the one who looks whether it is back may take.
const LOOK_MS: u64 = 12_000;

/// What the last answers tell of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Nothing has failed, and nobody has asked for what needs the key.
    Unknown,
    Up,
    Down,
}

#[derive(Clone, Debug, Default)]
pub struct State {
    pub failures: u64,
    pub last_success: Option<WallMs>,
    pub last_error: Option<String>,
    answers: Option<bool>,
    /// Whether the key was taken by a call that needs it: /health takes any.
    key_taken: Option<bool>,
    rests_until: Option<Mono>,
}

impl State {
    /// Where the connection is, as far as it is proven.
    pub fn link(&self) -> Link {
        match (self.answers, self.key_taken) {
            (_, Some(false)) | (Some(false), _) => Link::Down,
            (Some(true), Some(true)) => Link::Up,
            (None, _) | (_, None) => Link::Unknown,
        }
    }

    /// Whether the last answer was good, as far as it tells.
    pub fn is_connected(&self) -> bool {
        self.answers == Some(true) && self.key_taken != Some(false)
    }

    /// Whole seconds until the next try, while there is to be none.
    pub fn rests_for(&self, now: Mono) -> Option<u64> {
        let left = self.rests_until?.from_now(now).as_millis() as u64;
        (left > 0).then(|| left.div_ceil(1000))
    }

    /// Lets a caller through, or says after how many seconds to come again.
    pub fn begin(&mut self, now: Mono) -> Result<(), u64> {
        if let Some(seconds) = self.rests_for(now) {
            return Err(seconds);
        }
        if self.failures >= FAILURES_MAX {
            self.rests_until = Some(now.after_ms(LOOK_MS));
        }
        Ok(())
    }

    /// Takes in what a try found; `keyed` when it was one that needs the key.
    pub fn note(&mut self, keyed: bool, answer: Result<(), &Fault>, now: Now) {
        let fault = match answer {
            Ok(()) => {
                self.last_success = Some(now.wall);
                self.last_error = None;
                self.answers = Some(true);
                if keyed {
                    self.key_taken = Some(true);
                }
                return self.is_reached();
            }
            Err(fault) => fault,
        };
        if fault.may_pass() {
            self.failures += 1;
            self.answers = Some(false);
            self.last_error = Some(fault.error.clone());
            if self.failures >= FAILURES_MAX {
                self.rests_until = Some(now.mono.after_ms(REST_MS));
            }
            return;
        }
        match fault.kind {
            FaultKind::Status { status: 401 | 403, .. } => {
                if keyed {
                    self.key_taken = Some(false);
                }
            }
            FaultKind::Status { status: 300..=399, .. } | FaultKind::Unusable => {
                self.answers = Some(false);
            }
            // It knows no such thing, or does not take these fields: that is an answer.
            _ => return self.is_reached(),
        }
        self.last_error = Some(fault.error.clone());
        self.is_reached();
    }

    fn is_reached(&mut self) {
        self.failures = 0;
        self.rests_until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { mono: Mono(ms), wall: ms as i64 }
    }

    fn status(status: u16) -> Fault {
        let kind = FaultKind::Status { status, said: String::new() };
        Fault { kind, error: format!("Membridge returned {status}"), detail: String::new() }
    }

    #[test]
    fn after_five_failures_it_is_left_alone_for_fifteen_seconds_and_then_one_looks() {
        let mut state = State::default();
        let down = Fault::unreachable(String::new());
        for ms in 0..5 {
            assert_eq!(state.begin(Mono(ms)), Ok(()), "{ms}");
            state.note(true, Err(&down), at(ms));
        }
        assert_eq!(state.begin(Mono(5)), Err(15));
        assert_eq!(state.begin(Mono(15_000)), Err(1));
        assert_eq!(state.begin(Mono(15_006)), Ok(()), "one looks");
        assert_eq!(state.begin(Mono(15_007)), Err(12), "the others wait for it");
        state.note(true, Ok(()), at(16_000));
        assert_eq!((state.begin(Mono(16_001)), state.failures), (Ok(()), 0));
        assert_eq!(state.link(), Link::Up);
    }

    #[test]
    fn any_status_below_500_resets_the_failures() {
        for (code, failures) in [(307, 0), (401, 0), (404, 0), (422, 0), (500, 2), (503, 2)] {
            let mut state = State::default();
            state.note(true, Err(&Fault::unreachable(String::new())), at(0));
            state.note(true, Err(&status(code)), at(1));
            assert_eq!(state.failures, failures, "{code}");
        }
    }

    #[test]
    fn an_answer_without_the_key_does_not_hide_that_the_key_is_refused() {
        let mut state = State::default();
        state.note(false, Ok(()), at(0));
        assert!(state.is_connected() && state.link() == Link::Unknown);
        state.note(true, Err(&status(401)), at(1));
        assert_eq!(state.link(), Link::Down);
        state.note(false, Ok(()), at(2));
        assert!(!state.is_connected() && state.link() == Link::Down, "/health takes any key");
        state.note(true, Ok(()), at(3));
        assert_eq!(state.link(), Link::Up);
        state.note(true, Err(&status(404)), at(4));
        assert_eq!(state.link(), Link::Up, "an unknown project says nothing of the connection");
    }
}
