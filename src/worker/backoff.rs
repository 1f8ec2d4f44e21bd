//! How long to wait before the next try: 0.5 s, doubling to 15 s, half of it by chance, so that a
//! fleet does not come back in step. Not here: the waiting.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST_MS: u64 = 500;
const LONGEST_MS: u64 = 15_000;
/// The longest wait that a server can ask us for.
const LONGEST_ASKED: Duration = Duration::from_secs(120);

/// Counts the tries that failed one after the other.
#[derive(Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Whether nothing has failed yet; who logs trouble logs its first time only.
    pub fn is_fresh(&self) -> bool {
        self.failures == 0
    }

    /// The next wait; what the server `asked` for in `Retry-After` is never undercut.
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        let chance = RandomState::new().hash_one(self.failures);
        let wait = Duration::from_millis(wait_ms(self.failures, chance));
        self.failures = self.failures.saturating_add(1);
        wait.max(asked.unwrap_or_default().min(LONGEST_ASKED))
    }
}

fn wait_ms(failures: u32, chance: u64) -> u64 {
    let full = (FIRST_MS << failures.min(8)).min(LONGEST_MS);
    full / 2 + chance % (full / 2 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_keep_half_to_chance() {
        let bounds = |failures| (wait_ms(failures, 0), wait_ms(failures, wait_ms(failures, 0)));
        assert_eq!(bounds(0), (250, 500));
        assert_eq!(bounds(1), (500, 1000));
        assert_eq!(bounds(4), (4000, 8000));
        assert_eq!(bounds(5), (7500, 15_000));
        assert_eq!(bounds(u32::MAX), (7500, 15_000));
        assert!((0..1000).all(|chance| (250..=500).contains(&wait_ms(0, chance * 7919))));
    }

    #[test]
    fn a_server_that_asks_for_patience_gets_it_within_reason() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(Backoff::default().next(seconds(30)), Duration::from_secs(30));
        assert_eq!(Backoff::default().next(seconds(u64::MAX)), LONGEST_ASKED);
    }
}
