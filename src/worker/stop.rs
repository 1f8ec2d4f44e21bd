//! A flag that says "stop", and that a thread can wait on.
//!
//! Once set it stays set. Not here: signals; whoever catches one sets the flag.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Shared by whoever asks for the end and everything that has to notice it.
#[derive(Default)]
pub struct Stop {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    pub fn new() -> Stop {
        Stop::default()
    }

    pub fn set(&self) {
        *self.lock() = true;
        self.changed.notify_all();
    }

    pub fn is_set(&self) -> bool {
        *self.lock()
    }

    /// Waits for the flag, however long that takes.
    pub fn wait(&self) {
        let waited = self.changed.wait_while(self.lock(), |set| !*set);
        drop(waited.expect(UNPOISONED));
    }

    /// Waits at most `limit`; true when the flag is set.
    pub fn wait_for(&self, limit: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), limit, |set| !*set);
        *waited.expect(UNPOISONED).0
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.set.lock().expect(UNPOISONED)
    }
}

const UNPOISONED: &str = "nothing panics while it holds the flag";
