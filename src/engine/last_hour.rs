//! How many tasks ended in each minute of the last hour, for a chart.
//!
//! Must stay true: it is memory, of one size. It follows the wall clock, since people read it; when that
//! jumps, it begins anew. Not here: anything that decides.

use crate::domain::TaskStatus;

const MINUTES: usize = 60;
const MINUTE_MS: i64 = 60_000;
/// So far back a clock may be set without everything being forgotten.
const SLACK_MINUTES: i64 = 5;

/// Counts a minute, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastHour {
    /// The number of the newest minute since 1970.
    newest: i64,
    pub completed: [u32; MINUTES],
    /// Failed, or dead after the last attempt.
    pub failed: [u32; MINUTES],
}

impl Default for LastHour {
    fn default() -> Self {
        LastHour { newest: 0, completed: [0; MINUTES], failed: [0; MINUTES] }
    }
}

impl LastHour {
    /// A task has come to this status at this wall time.
    pub(super) fn count(&mut self, status: TaskStatus, wall: i64) {
        self.roll_to(wall);
        let counts = match status {
            TaskStatus::Completed => &mut self.completed,
            TaskStatus::Failed | TaskStatus::Dead => &mut self.failed,
            _ => return,
        };
        counts[MINUTES - 1] += 1;
    }

    /// The hour that ends at this wall time.
    pub(super) fn at(&self, wall: i64) -> LastHour {
        let mut hour = self.clone();
        hour.roll_to(wall);
        hour
    }

    /// Unix milliseconds at which the newest minute began.
    pub fn newest_minute(&self) -> i64 {
        self.newest * MINUTE_MS
    }

    fn roll_to(&mut self, wall: i64) {
        let minute = wall.div_euclid(MINUTE_MS);
        let passed = minute - self.newest;
        if (-SLACK_MINUTES..=0).contains(&passed) {
            return;
        }
        let kept = match usize::try_from(passed) {
            Ok(passed) if passed < MINUTES => MINUTES - passed,
            _ => 0,
        };
        for counts in [&mut self.completed, &mut self.failed] {
            counts.copy_within(MINUTES - kept.., 0);
            counts[kept..].fill(0);
        }
        self.newest = minute;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_259_464_363;

    fn newest(counts: &[u32]) -> Vec<u32> {
        counts[MINUTES - 4..].to_vec()
    }

    #[test]
    fn the_hour_moves_with_the_minutes_and_forgets_what_is_older() {
        let mut hour = LastHour::default();
        for (status, after_ms) in [
            (TaskStatus::Completed, 0),
            (TaskStatus::Completed, 1),
            (TaskStatus::Running, 1),
            (TaskStatus::Failed, MINUTE_MS),
            (TaskStatus::Dead, MINUTE_MS),
            (TaskStatus::Cancelled, MINUTE_MS),
            (TaskStatus::Completed, 3 * MINUTE_MS),
        ] {
            hour.count(status, NOW + after_ms);
        }
        assert_eq!(newest(&hour.completed), [2, 0, 0, 1]);
        assert_eq!(newest(&hour.failed), [0, 2, 0, 0]);
        let later = hour.at(NOW + 4 * MINUTE_MS);
        assert_eq!(newest(&later.completed), [0, 0, 1, 0]);
        assert_eq!(later.newest_minute(), (NOW + 4 * MINUTE_MS) / MINUTE_MS * MINUTE_MS);
        assert_eq!(hour.at(NOW + 59 * MINUTE_MS).completed[0], 2);
        let over = hour.at(NOW + 63 * MINUTE_MS);
        assert_eq!((over.completed, over.failed), ([0; MINUTES], [0; MINUTES]));
    }

    #[test]
    fn a_clock_that_is_set_a_little_loses_nothing_and_one_that_jumps_begins_anew() {
        let mut hour = LastHour::default();
        hour.count(TaskStatus::Completed, NOW);
        hour.count(TaskStatus::Completed, NOW - 2 * MINUTE_MS);
        assert_eq!(newest(&hour.completed), [0, 0, 0, 2]);
        for wall in [0, NOW - 600 * MINUTE_MS, NOW + 1000 * MINUTE_MS, i64::MAX, -1] {
            let mut hour = hour.at(wall);
            assert_eq!(hour.completed, [0; MINUTES], "{wall}");
            hour.count(TaskStatus::Completed, wall);
            assert_eq!(newest(&hour.completed), [0, 0, 0, 1]);
        }
    }
}
