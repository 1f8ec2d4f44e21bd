//! When each active lease ends, on monotonic time (P4), and its renewals, which are memory only (P8).
//!
//! Must stay true: a lease is due only after its whole time has passed since the grant, the last
//! heartbeat or the start of the server. Not here: what expiry means (`domain::expire`).

use crate::clock::{Mono, Now};
use crate::domain::{Lease, LeaseId};
use std::collections::{BTreeSet, HashMap};

/// What a heartbeat moved; laid over the stored lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    pub lease_id: LeaseId,
    pub last_heartbeat: i64,
    pub expires_at: i64,
}

/// The active leases by the time at which they end.
#[derive(Default)]
pub struct Deadlines {
    by_task: HashMap<u64, Mono>,
    by_time: BTreeSet<(Mono, u64)>,
}

impl Deadlines {
    /// Gives the task's lease its full time from now.
    pub fn set(&mut self, task: u64, lease: &Lease, now: Now) -> Renewal {
        self.clear(task);
        let ttl_ms = u64::from(lease.ttl_seconds) * 1000;
        let due = now.mono.after_ms(ttl_ms);
        self.by_task.insert(task, due);
        self.by_time.insert((due, task));
        Renewal {
            lease_id: lease.id,
            last_heartbeat: now.wall,
            expires_at: now.wall.saturating_add(ttl_ms as i64),
        }
    }

    pub fn clear(&mut self, task: u64) {
        if let Some(due) = self.by_task.remove(&task) {
            self.by_time.remove(&(due, task));
        }
    }

    pub fn holds(&self, task: u64) -> bool {
        self.by_task.contains_key(&task)
    }

    pub fn next(&self) -> Option<Mono> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// A task whose lease is due, if there is one.
    pub fn due(&self, now: Mono) -> Option<u64> {
        self.by_time.first().filter(|(due, _)| *due <= now).map(|(_, task)| *task)
    }
}
