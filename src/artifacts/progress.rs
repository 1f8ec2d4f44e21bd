//! How far artifacts are on their way to S3, for who asks: health, statistics, the page.
//!
//! Must stay true: it is words and numbers, never keys (P10). Not here: who moves them
//! (`background::uploads`).

use crate::clock::WallMs;
use std::sync::{Mutex, MutexGuard};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Artifacts that wait to be uploaded, and objects that wait to be deleted.
    pub waiting: u64,
    pub to_delete: u64,
    /// When the oldest that waits was made.
    pub oldest_at: Option<WallMs>,
    /// Why the last try failed, until one succeeds.
    pub last_error: Option<String>,
    pub last_success: Option<WallMs>,
    /// Unknown before the first try.
    pub connected: Option<bool>,
}

#[derive(Default)]
pub struct Progress(Mutex<Known>);

impl Progress {
    pub fn known(&self) -> Known {
        self.lock().clone()
    }

    pub fn waits(&self, (waiting, to_delete): (u64, u64)) {
        let mut known = self.lock();
        (known.waiting, known.to_delete) = (waiting, to_delete);
        if waiting == 0 {
            known.oldest_at = None;
        }
    }

    pub fn oldest(&self, at: WallMs) {
        self.lock().oldest_at = Some(at);
    }

    pub fn succeeded(&self, now: WallMs) {
        let mut known = self.lock();
        (known.last_success, known.connected) = (Some(now), Some(true));
    }

    /// `connected` is left out by a fault that tells nothing of S3.
    pub fn failed(&self, words: String, connected: Option<bool>) {
        let mut known = self.lock();
        known.last_error = Some(words);
        known.connected = connected.or(known.connected);
    }

    pub fn healed(&self) {
        self.lock().last_error = None;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("no holder panics")
    }
}
