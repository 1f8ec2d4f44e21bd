//! What has happened, for those who listen: a bounded memory of the newest events.
//!
//! Must stay true: an event is here only after its commit (P6); sequences grow, over restarts too; a
//! slow listener costs nothing but its own place, and is told when it missed something. Not here: how
//! events are sent.

use std::collections::VecDeque;
use std::sync::Mutex;
use tokio::sync::watch;

/// How many events a listener may lag behind.
const EVENTS_KEPT: usize = 4_096;

/// One committed change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub seq: u64,
    pub kind: &'static str,
    pub id: String,
}

/// The newest events and the way to wait for more.
pub struct Events {
    ring: Mutex<VecDeque<Event>>,
    latest: watch::Sender<u64>,
}

/// Something between the listener's place and now is no longer remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed;

impl Events {
    /// `latest` is the sequence of the newest change on disk, 0 when there is none.
    pub fn new(latest: u64) -> Self {
        Events { ring: Mutex::default(), latest: watch::Sender::new(latest) }
    }

    pub(super) fn publish(&self, events: Vec<Event>) {
        let Some(latest) = events.last().map(|event| event.seq) else { return };
        let mut ring = self.ring.lock().expect("no holder panics");
        ring.extend(events);
        let surplus = ring.len().saturating_sub(EVENTS_KEPT);
        ring.drain(..surplus);
        // Within the lock, so that no listener is ahead of what is said to be the newest.
        self.latest.send_replace(latest);
    }

    /// Wakes a listener whenever there is something newer.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    pub fn latest(&self) -> u64 {
        *self.latest.borrow()
    }

    /// At most `limit` events after this sequence, oldest first.
    pub fn after(&self, seq: u64, limit: usize) -> Result<Vec<Event>, Missed> {
        let ring = self.ring.lock().expect("no holder panics");
        if seq > self.latest() {
            return Err(Missed);
        }
        let first_known = ring.front().map_or(*self.latest.borrow() + 1, |event| event.seq);
        if seq + 1 < first_known {
            return Err(Missed);
        }
        let start = ring.partition_point(|event| event.seq <= seq);
        Ok(ring.range(start..).take(limit).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64) -> Event {
        Event { seq, kind: "task_created", id: String::new() }
    }

    #[test]
    fn a_listener_gets_what_came_after_its_place_or_learns_that_it_missed_some() {
        let events = Events::new(10);
        assert_eq!(events.after(10, 9), Ok(vec![]));
        assert_eq!(events.after(9, 9), Err(Missed), "from before the start");
        assert_eq!(events.after(11, 9), Err(Missed), "from another life of the store");
        events.publish(vec![event(11), event(12)]);
        assert_eq!(events.after(11, 9), Ok(vec![event(12)]));
        events.publish((13..13 + EVENTS_KEPT as u64).map(event).collect());
        assert_eq!(events.after(11, 1), Err(Missed));
        assert_eq!(events.after(12, 1), Ok(vec![event(13)]));
    }

    #[test]
    fn a_listener_that_keeps_up_is_never_told_that_it_missed_something() {
        const LAST: u64 = 200_000;
        let events = Events::new(0);
        std::thread::scope(|threads| {
            threads.spawn(|| (1..=LAST).for_each(|seq| events.publish(vec![event(seq)])));
            let mut place = 0;
            while place < LAST {
                // The ring may run ahead of a slow reader; what it must never do is fall behind.
                match events.after(place, 9) {
                    Ok(found) => place = found.last().map_or(place, |event| event.seq),
                    Err(Missed) => {
                        assert!(place + EVENTS_KEPT as u64 <= events.latest(), "at {place}");
                        place = events.latest();
                    }
                }
            }
        });
    }
}
