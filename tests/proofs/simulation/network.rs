//! What lies between the fleet and the server: a queue of what happens when, and a line that delays,
//! loses, doubles and reorders.
//!
//! Must stay true: what happens at the same time happens in the order in which it was sent. Times are
//! microseconds that have really passed. Not here: what is sent.

use super::dice::Dice;
use std::collections::BTreeMap;

/// What will happen, by time and then by order.
#[derive(Debug)]
pub struct Queue<E> {
    events: BTreeMap<(u64, u64), E>,
    pushed: u64,
}

impl<E> Queue<E> {
    pub fn new() -> Self {
        Queue { events: BTreeMap::new(), pushed: 0 }
    }

    pub fn push(&mut self, at: u64, event: E) {
        self.events.insert((at, self.pushed), event);
        self.pushed += 1;
    }

    pub fn next_time(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next event if it happens by then.
    pub fn pop_by(&mut self, by: u64) -> Option<(u64, E)> {
        if self.next_time()? > by {
            return None;
        }
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}

/// How bad the line is.
#[derive(Clone, Debug)]
pub struct Line {
    /// Microseconds that most messages take at most, and that a late one takes at most.
    pub usual_us: u64,
    pub late_us: u64,
    pub late_percent: u64,
    pub lost_percent: u64,
    pub doubled_percent: u64,
}

impl Line {
    fn delay(&self, dice: &mut Dice) -> u64 {
        let most = if dice.percent(self.late_percent) { self.late_us } else { self.usual_us };
        dice.between(1, most.max(1))
    }

    /// After how long each copy of a message arrives; none when it is lost.
    pub fn carry(&self, dice: &mut Dice) -> Vec<u64> {
        if dice.percent(self.lost_percent) {
            return Vec::new();
        }
        let copies = 1 + u64::from(dice.percent(self.doubled_percent));
        (0..copies).map(|_| self.delay(dice)).collect()
    }
}
