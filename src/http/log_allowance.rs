//! How many lines of the log callers without the key may fill.
//!
//! Health has no rate limit and every refusal is a line, so a stranger could fill the disk with the log
//! of his own refusals. Must stay true: what is left out is counted and said (P9). Not here: callers
//! with the key, whose requests are always logged; a clock.

use crate::clock::Mono;

/// Lines a minute about requests without the key; more are counted only.
const LINES_PER_MINUTE: u32 = 600;
const WINDOW_MS: u64 = 60_000;

/// The lines of this minute.
#[derive(Default)]
pub struct LogAllowance {
    ends: Mono,
    used: u32,
    left_out: u64,
}

/// What to do with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Write it. If not 0, say first how many were left out before.
    Written { left_out_before: u64 },
    /// Leave it out; if it is the first, say that lines are left out from now on.
    LeftOut { is_first: bool },
}

impl LogAllowance {
    /// Asks for one line.
    pub fn ask(&mut self, now: Mono) -> Line {
        if now >= self.ends {
            let left_out_before = std::mem::take(&mut self.left_out);
            self.ends = Mono(now.0.saturating_add(WINDOW_MS));
            self.used = 1;
            return Line::Written { left_out_before };
        }
        if self.used < LINES_PER_MINUTE {
            self.used += 1;
            return Line::Written { left_out_before: 0 };
        }
        self.left_out += 1;
        Line::LeftOut { is_first: self.left_out == 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_fills_its_minute_and_is_counted_after_that() {
        let mut allowance = LogAllowance::default();
        for _ in 0..LINES_PER_MINUTE {
            assert_eq!(allowance.ask(Mono(5)), Line::Written { left_out_before: 0 });
        }
        assert_eq!(allowance.ask(Mono(6)), Line::LeftOut { is_first: true });
        assert_eq!(allowance.ask(Mono(60_004)), Line::LeftOut { is_first: false });
        assert_eq!(allowance.ask(Mono(60_005)), Line::Written { left_out_before: 2 });
        assert_eq!(allowance.ask(Mono(60_005)), Line::Written { left_out_before: 0 });
    }
}
