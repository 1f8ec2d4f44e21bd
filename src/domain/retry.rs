//! Trying again after an error: whether, and after how long (`DESIGN §3`).
//!
//! Must stay true: the wait doubles, is bounded, and keeps a fifth to chance on both sides, so that
//! what failed together does not come back together. Not here: expiry, which goes back at once.

use super::failure::is_terminal;
use serde::{Deserialize, Serialize};

/// Seconds before the first try again, unless the author says otherwise.
pub const BACKOFF_SECONDS: u32 = 15;
/// Seconds that no wait exceeds, unless the author says otherwise.
pub const BACKOFF_SECONDS_MAX: u32 = 300;

/// What the author of a task wants done about errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// An error completion goes back to the queue while attempts are left.
    pub on_error: bool,
    pub backoff_seconds: u32,
    pub max_backoff_seconds: u32,
}

/// A queued task that is not handed out yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delay {
    /// The store's age at which it is over: what decides (P4).
    pub until_age_ms: u64,
    /// Unix milliseconds: what a person reads.
    pub until: i64,
}

impl Retry {
    /// Milliseconds until the next try, None when there is none. `attempts` were made, the last of
    /// which failed with `code`; `chance` is any number.
    pub fn wait_ms(
        &self,
        attempts: u32,
        max_attempts: u32,
        code: Option<&str>,
        chance: u64,
    ) -> Option<u64> {
        let is_of_use = self.on_error && attempts < max_attempts && !code.is_some_and(is_terminal);
        is_of_use.then(|| self.backoff_ms(attempts.saturating_sub(1), chance))
    }

    fn backoff_ms(&self, failures: u32, chance: u64) -> u64 {
        let doubled = u64::from(self.backoff_seconds) << failures.min(20);
        let full_ms = doubled.min(u64::from(self.max_backoff_seconds)) * 1000;
        let fifth = full_ms / 5;
        full_ms - fifth + chance % (2 * fifth + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Retry = Retry {
        on_error: true,
        backoff_seconds: BACKOFF_SECONDS,
        max_backoff_seconds: BACKOFF_SECONDS_MAX,
    };

    #[test]
    fn the_wait_doubles_up_to_its_limit_and_keeps_a_fifth_to_chance() {
        let bounds = |attempts| {
            let waits = (0..=400_000).step_by(37).map(|c| USUAL.wait_ms(attempts, 10, None, c));
            let waits: Vec<u64> = waits.map(|wait| wait.expect("attempts are left")).collect();
            (*waits.iter().min().expect("many"), *waits.iter().max().expect("many"))
        };
        for (attempts, seconds) in [(1, 15), (2, 30), (3, 60), (5, 240), (6, 300), (9, 300)] {
            let (least, most) = bounds(attempts);
            let full = seconds * 1000;
            assert!((full * 4 / 5..=full * 81 / 100).contains(&least), "{attempts}: {least}");
            assert!((full * 119 / 100..=full * 6 / 5).contains(&most), "{attempts}: {most}");
        }
    }

    #[test]
    fn nothing_is_tried_again_that_the_author_the_count_or_the_error_forbids() {
        assert_eq!(USUAL.wait_ms(3, 3, None, 0), None);
        assert_eq!(USUAL.wait_ms(1, 3, Some("bad_prompt"), 0), None);
        assert_eq!(Retry { on_error: false, ..USUAL }.wait_ms(1, 3, None, 0), None);
        let at_once = Retry { backoff_seconds: 0, ..USUAL };
        assert_eq!(at_once.wait_ms(1, 3, Some("timeout"), 7), Some(0));
        let huge = Retry { backoff_seconds: 3_600, max_backoff_seconds: 86_400, on_error: true };
        assert!(huge.wait_ms(u32::MAX - 1, u32::MAX, None, 0).is_some_and(|ms| ms <= 86_400_000));
    }
}
