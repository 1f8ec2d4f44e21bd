//! A flag that says "stop", then perhaps "at once", and that a thread can wait on.
//!
//! What was once asked for stays asked for. Not here: signals; whoever catches one sets the flag.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Shared by whoever asks for the end and everything that has to notice it.
#[derive(Default)]
pub struct Stop {
    asked: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    #[default]
    Nothing,
    Stop,
    AtOnce,
}

impl Stop {
    pub fn new() -> Stop {
        Stop::default()
    }

    pub fn set(&self) {
        self.ask(Asked::Stop);
    }

    /// What still runs gets no more time.
    pub fn set_at_once(&self) {
        self.ask(Asked::AtOnce);
    }

    pub fn is_set(&self) -> bool {
        *self.lock() >= Asked::Stop
    }

    /// Waits for the flag, however long that takes.
    pub fn wait(&self) {
        self.wait_while(|asked| asked < Asked::Stop);
    }

    /// Waits until it is to be at once, however long that takes.
    pub fn wait_at_once(&self) {
        self.wait_while(|asked| asked < Asked::AtOnce);
    }

    /// Waits at most `limit`; true when the flag is set.
    pub fn wait_for(&self, limit: Duration) -> bool {
        let unset = |asked: &mut Asked| *asked < Asked::Stop;
        let waited = self.changed.wait_timeout_while(self.lock(), limit, unset);
        *waited.expect(UNPOISONED).0 >= Asked::Stop
    }

    fn ask(&self, more: Asked) {
        let mut asked = self.lock();
        *asked = more.max(*asked);
        self.changed.notify_all();
    }

    fn wait_while(&self, waits: impl Fn(Asked) -> bool) {
        drop(self.changed.wait_while(self.lock(), |asked| waits(*asked)).expect(UNPOISONED));
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().expect(UNPOISONED)
    }
}

const UNPOISONED: &str = "nothing panics while it holds the flag";
