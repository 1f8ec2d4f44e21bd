//! When each active lease ends, on monotonic time (P4), and its renewals, which are memory only (P8).
//!
//! Must stay true: a lease is due only after its whole time has passed since the grant, the last
//! heartbeat or the start of the server. Not here: what expiry means (`domain::expire`).

use crate::clock::{Mono, Now};
use crate::domain::{Lease, LeaseId, Task};
use std::collections::{BTreeSet, HashMap};

/// What a heartbeat moved; laid over the stored lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    pub lease_id: LeaseId,
    pub last_heartbeat: i64,
    pub expires_at: i64,
}

impl Renewal {
    /// Shows in the task's record what memory knows of this lease.
    pub fn lay_over(self, task: &mut Task) {
        let Some(lease) = task.lease.as_mut().filter(|lease| lease.id == self.lease_id) else {
            return;
        };
        lease.last_heartbeat = self.last_heartbeat;
        lease.expires_at = self.expires_at;
        task.updated_at = self.last_heartbeat;
    }
}

/// The active leases by the time at which they end.
#[derive(Default)]
pub struct Deadlines {
    by_task: HashMap<u64, (Mono, Renewal)>,
    by_time: BTreeSet<(Mono, u64)>,
    /// What stood in `by_task` before each change since the last commit, in order.
    before: Vec<(u64, Option<(Mono, Renewal)>)>,
}

impl Deadlines {
    /// Gives the task's lease its full time from now, after a sign of life.
    pub fn set(&mut self, task: u64, lease: &Lease, now: Now) -> Renewal {
        self.give_full_time(task, lease, now.wall, now)
    }

    /// Gives the task's lease its full time from now, whenever its holder was heard of.
    pub fn resume(&mut self, task: u64, lease: &Lease, now: Now) -> Renewal {
        self.give_full_time(task, lease, lease.last_heartbeat, now)
    }

    fn give_full_time(
        &mut self,
        task: u64,
        lease: &Lease,
        last_heartbeat: i64,
        now: Now,
    ) -> Renewal {
        let ttl_ms = u64::from(lease.ttl_seconds) * 1000;
        let due = now.mono.after_ms(ttl_ms);
        let renewal = Renewal {
            lease_id: lease.id,
            last_heartbeat,
            expires_at: now.wall.saturating_add(ttl_ms as i64),
        };
        let known = self.put(task, Some((due, renewal)));
        self.before.push((task, known));
        renewal
    }

    /// Puts an entry in its place, or nothing; what stood there before.
    fn put(&mut self, task: u64, entry: Option<(Mono, Renewal)>) -> Option<(Mono, Renewal)> {
        let known = match entry {
            Some(entry) => self.by_task.insert(task, entry),
            None => self.by_task.remove(&task),
        };
        if let Some((due, _)) = known {
            self.by_time.remove(&(due, task));
        }
        if let Some((due, _)) = entry {
            self.by_time.insert((due, task));
        }
        known
    }

    /// What was changed has been committed.
    pub fn settle(&mut self) {
        self.before.clear();
    }

    /// Takes back what was changed since the last commit.
    pub fn undo(&mut self) {
        while let Some((task, known)) = self.before.pop() {
            self.put(task, known);
        }
    }

    /// What the task's active lease was renewed to.
    pub fn renewal(&self, task: u64) -> Option<Renewal> {
        self.by_task.get(&task).map(|(_, renewal)| *renewal)
    }

    pub fn clear(&mut self, task: u64) {
        let known = self.put(task, None);
        if known.is_some() {
            self.before.push((task, known));
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
