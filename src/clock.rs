//! Time, as a value that is handed in.
//!
//! Two clocks that must never be mixed: `Mono` decides (deadlines, liveness, P4), `WallMs` is shown
//! to people and may jump by decades. Nothing outside this file reads a clock; clippy bans it.
//! Not here: timers and sleeping. The engine's thread and tokio wait, this only tells.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds on a clock that never goes back and starts somewhere: only differences mean anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mono(pub u64);

impl Mono {
    /// The first tick that is certainly `ms` milliseconds after this reading: a reading is rounded
    /// down, so one more is added and nothing that was promised ends early (P4).
    pub fn after_ms(self, ms: u64) -> Mono {
        Mono(self.0.saturating_add(ms).saturating_add(1))
    }

    /// How long from `now` until this moment; zero when it has passed.
    pub fn from_now(self, now: Mono) -> Duration {
        Duration::from_millis(self.0.saturating_sub(now.0))
    }
}

/// Unix milliseconds as a person's clock shows them. Never compared to decide anything.
pub type WallMs = i64;

/// One reading of both clocks, taken once for everything that is decided together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub mono: Mono,
    pub wall: WallMs,
}

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Now;

    /// Microseconds on the monotonic clock, for measuring how long something took.
    fn micros(&self) -> u64 {
        self.now().mono.0 * 1000
    }
}

/// The machine's clocks.
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
    pub fn new() -> Self {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
    fn now(&self) -> Now {
        let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_millis() as i64,
            Err(before) => -(before.duration().as_millis() as i64),
        };
        Now { mono: Mono(self.start.elapsed().as_millis() as u64), wall }
    }

    fn micros(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

/// Year, month and day of a day that is counted from 1970-01-01.
pub fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = (year + era * 400, if month < 10 { month + 3 } else { month - 9 });
    (if month <= 2 { year + 1 } else { year }, month, day)
}

/// Clocks that stand still until a test or the simulation moves them, each on its own.
#[derive(Default)]
pub struct ManualClock {
    mono: AtomicU64,
    wall: AtomicI64,
}

impl ManualClock {
    pub fn new(wall: WallMs) -> Self {
        ManualClock { mono: AtomicU64::new(0), wall: AtomicI64::new(wall) }
    }

    /// Lets `ms` milliseconds pass on both clocks.
    pub fn pass_ms(&self, ms: u64) {
        self.mono.fetch_add(ms, Ordering::SeqCst);
        self.wall.fetch_add(ms as i64, Ordering::SeqCst);
    }

    /// Sets the person's clock alone, as NTP does on a machine without a battery.
    pub fn set_wall(&self, wall: WallMs) {
        self.wall.store(wall, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        Now { mono: Mono(self.mono.load(Ordering::SeqCst)), wall: self.wall.load(Ordering::SeqCst) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_early_although_readings_are_rounded_down() {
        // Read at 10.9 ms (shown as 10), promised 1,000 ms: 1,010 would be 0.9 ms short.
        assert_eq!(Mono(10).after_ms(1000), Mono(1011));
    }

    #[test]
    fn a_jump_of_the_wall_clock_moves_no_deadline() {
        let clock = ManualClock::new(0);
        let before = clock.now().mono;
        clock.set_wall(40 * 365 * 86_400_000);
        assert_eq!(clock.now().mono, before);
    }
}
