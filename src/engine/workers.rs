//! The workers in memory: their records, how much each holds, and when each was last heard of.
//!
//! Must stay true: load is counted by leases, also for a worker that was removed while it held some;
//! a restart grants everyone a full `SILENCE_MS` (`CONTRACT §3`). Signs of life are memory, only a
//! change between online and offline is told and stored (P8). A worker that rests (`Cooling`) does so
//! until an age of the store, over restarts too (P4). Not here: the gate (`domain`).

use super::WorkerView;
use super::retention::ServedTime;
use crate::clock::{Mono, Now};
use crate::domain::{self, Candidate, Task, Worker, WorkerId, WorkerStatus, context_key};
use crate::store::StoredWorker;
use std::collections::{BTreeSet, HashMap, HashSet};

/// A worker that gives no sign of life for this long is offline.
const SILENCE_MS: u64 = 60_000;
/// A worker that Membridge's lists are without for this long is not listed any more.
const ABSENCE_MS: u64 = 60_000;
/// The most workers that may be registered.
pub const WORKERS_MAX: usize = 10_000;

struct Slot {
    stored: StoredWorker,
    silent_at: Mono,
    alive: bool,
    /// Until when it rests.
    rests_until: Option<Mono>,
    /// Of its tasks, one after the other; memory alone, a restart begins anew.
    provider_failures: u32,
    /// When Membridge saw it last, as its newest list had it.
    last_seen: Option<i64>,
    /// Since when Membridge's lists are without it.
    unlisted_since: Option<Mono>,
}

#[derive(Default)]
struct Load {
    active_leases: u32,
    contexts: HashMap<u64, u32>,
}

/// Every registered worker, and the load of everyone who holds a lease.
#[derive(Default)]
pub struct Workers {
    slots: HashMap<WorkerId, Slot>,
    loads: HashMap<WorkerId, Load>,
    /// When to look at a worker again; it may have been heard of since.
    checks: BTreeSet<(Mono, WorkerId)>,
    rests: BTreeSet<(Mono, WorkerId)>,
    served: ServedTime,
    /// Whether tasks are pushed at all.
    pushes: bool,
}

impl Workers {
    pub fn new(served: ServedTime) -> Self {
        Workers { served, ..Workers::default() }
    }

    /// From now on tasks are pushed to those that wait to be called.
    pub fn push(&mut self) {
        self.pushes = true;
    }

    pub fn is_pushed(&self, id: &WorkerId) -> bool {
        let waits_to_be_called = |worker: &Worker| !worker.url.is_empty() && !worker.claims;
        self.pushes && self.stored(id).is_some_and(|stored| waits_to_be_called(&stored.worker))
    }

    /// Puts a record in, as heard of now.
    pub fn put(&mut self, stored: StoredWorker, now: Mono) {
        let id = stored.worker.id.clone();
        let silent_at = now.after_ms(SILENCE_MS);
        match self.slots.get_mut(&id) {
            Some(slot) => {
                slot.stored = stored;
                slot.silent_at = silent_at;
            }
            None => {
                let slot = Slot {
                    stored,
                    silent_at,
                    alive: true,
                    rests_until: None,
                    provider_failures: 0,
                    last_seen: None,
                    unlisted_since: None,
                };
                self.slots.insert(id.clone(), slot);
                self.checks.insert((silent_at, id.clone()));
            }
        }
        self.schedule_rest(&id);
    }

    /// Replaces the record of a worker that is there; no sign of life.
    pub fn update(&mut self, worker: Worker) -> Option<StoredWorker> {
        let slot = self.slots.get_mut(&worker.id)?;
        slot.stored.worker = worker;
        let stored = slot.stored.clone();
        self.schedule_rest(&stored.worker.id);
        Some(stored)
    }

    /// Keeps the end of its rest in step with its record.
    fn schedule_rest(&mut self, id: &WorkerId) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let cooling = slot.stored.worker.cooling.as_ref();
        let until = cooling.map(|cooling| self.served.moment_of(cooling.until_age_ms));
        if let Some(before) = std::mem::replace(&mut slot.rests_until, until) {
            self.rests.remove(&(before, id.clone()));
        }
        self.rests.extend(until.map(|until| (until, id.clone())));
    }

    /// A worker whose rest is over, if there is one; its record is to be updated.
    pub fn rested(&self, now: Mono) -> Option<&Worker> {
        let (_, id) = self.rests.first().filter(|(until, _)| *until <= now)?;
        self.slots.get(id).map(|slot| &slot.stored.worker)
    }

    /// How many provider failures in a row this makes; 0 when `failed` is false.
    pub fn count_provider(&mut self, id: &WorkerId, failed: bool) -> u32 {
        let Some(slot) = self.slots.get_mut(id) else { return 0 };
        slot.provider_failures = if failed { slot.provider_failures + 1 } else { 0 };
        slot.provider_failures
    }

    /// Goes back to these records, with no load; signs of life stay. `was_online` tells who was, when
    /// it was last told.
    pub fn go_back(
        &mut self,
        stored: Vec<StoredWorker>,
        now: Mono,
        was_online: impl Fn(&WorkerId) -> bool,
    ) {
        let fresh = Workers { pushes: self.pushes, ..Workers::new(self.served) };
        let mut known = std::mem::replace(self, fresh);
        for stored in stored {
            let id = stored.worker.id.clone();
            let before = known.slots.remove(&id);
            self.put(stored, now);
            if let (Some(before), Some(slot)) = (before, self.slots.get_mut(&id)) {
                slot.silent_at = before.silent_at;
                slot.stored.last_heartbeat = before.stored.last_heartbeat;
                slot.alive = before.alive || was_online(&id);
                slot.provider_failures = before.provider_failures;
                slot.last_seen = before.last_seen;
                slot.unlisted_since = before.unlisted_since;
                let check = (slot.silent_at, id.clone());
                self.checks.retain(|(_, other)| *other != id);
                self.checks.insert(check);
            }
        }
    }

    /// Whether it was heard of lately.
    pub fn is_alive(&self, id: &WorkerId) -> bool {
        self.slots.get(id).is_some_and(|slot| slot.alive)
    }

    pub fn remove(&mut self, id: &WorkerId) -> bool {
        let Some(slot) = self.slots.remove(id) else { return false };
        if let Some(until) = slot.rests_until {
            self.rests.remove(&(until, id.clone()));
        }
        true
    }

    pub fn stored(&self, id: &WorkerId) -> Option<&StoredWorker> {
        self.slots.get(id).map(|slot| &slot.stored)
    }

    pub fn is_full(&self) -> bool {
        self.slots.len() >= WORKERS_MAX
    }

    /// A sign of life. True when it was thought to be gone.
    pub fn heard_of(&mut self, id: &WorkerId, now: Now) -> bool {
        let Some(slot) = self.slots.get_mut(id) else { return false };
        slot.stored.last_heartbeat = Some(now.wall);
        slot.silent_at = now.mono.after_ms(SILENCE_MS);
        let returned = !slot.alive;
        slot.alive = true;
        if returned {
            self.checks.insert((slot.silent_at, id.clone()));
        }
        returned && slot.stored.worker.status == WorkerStatus::Online
    }

    /// A worker that has just fallen silent, if there is one; called until there is none.
    pub fn fallen_silent(&mut self, now: Mono) -> Option<WorkerId> {
        while let Some((when, id)) = self.checks.first().cloned() {
            if when > now {
                return None;
            }
            self.checks.remove(&(when, id.clone()));
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            if slot.silent_at > now {
                self.checks.insert((slot.silent_at, id));
            } else if slot.alive {
                slot.alive = false;
                if slot.stored.worker.status == WorkerStatus::Online {
                    return Some(id);
                }
            }
        }
        None
    }

    /// Keeps when Membridge saw it last; true when that is later than what was known before.
    pub fn is_seen_anew(&mut self, id: &WorkerId, last_seen: Option<i64>) -> bool {
        let Some(slot) = self.slots.get_mut(id) else { return false };
        let before = std::mem::replace(&mut slot.last_seen, last_seen);
        before.is_some() && last_seen > before
    }

    /// The records, as they are to become, of those that the lists have been without for too long.
    pub fn unlisted(&mut self, listed: &HashSet<&WorkerId>, now: Mono) -> Vec<Worker> {
        let mut gone = Vec::new();
        for (id, slot) in &mut self.slots {
            if listed.contains(id) {
                slot.unlisted_since = None;
            } else if let Some(worker) = domain::unlist(&slot.stored.worker) {
                let since = *slot.unlisted_since.get_or_insert(now);
                gone.extend((since.after_ms(ABSENCE_MS) <= now).then_some(worker));
            }
        }
        gone.sort_by_key(|worker| worker.seq);
        gone
    }

    pub fn next_check(&self) -> Option<Mono> {
        let next = self.checks.first().into_iter().chain(self.rests.first());
        next.map(|(when, _)| *when).min()
    }

    /// Counts a lease that began (`true`) or ended, as the task's record shows it.
    pub fn count(&mut self, task: &Task, began: bool) {
        let Some(lease) = &task.lease else { return };
        let context = context_key(&task.context_id);
        if began {
            let load = self.loads.entry(lease.worker_id.clone()).or_default();
            load.active_leases += 1;
            *load.contexts.entry(context).or_default() += 1;
        } else if let Some(load) = self.loads.get_mut(&lease.worker_id) {
            load.active_leases -= 1;
            if let Some(held) = load.contexts.get_mut(&context) {
                *held -= 1;
                if *held == 0 {
                    load.contexts.remove(&context);
                }
            }
            if load.active_leases == 0 {
                self.loads.remove(&lease.worker_id);
            }
        }
    }

    pub fn contexts(&self, id: &WorkerId) -> impl Iterator<Item = u64> {
        self.loads.get(id).into_iter().flat_map(|load| load.contexts.keys().copied())
    }

    /// The worker as the gate sees it for a task of this context.
    pub fn candidate(&self, id: &WorkerId, context: u64) -> Option<Candidate<'_>> {
        self.slots.get(id).map(|slot| self.as_candidate(id, slot, context))
    }

    pub fn candidates(&self, context: u64) -> impl Iterator<Item = Candidate<'_>> {
        self.slots.iter().map(move |(id, slot)| self.as_candidate(id, slot, context))
    }

    fn as_candidate<'a>(&'a self, id: &WorkerId, slot: &'a Slot, context: u64) -> Candidate<'a> {
        let load = self.loads.get(id);
        Candidate {
            worker: &slot.stored.worker,
            online: slot.alive && slot.stored.worker.status == WorkerStatus::Online,
            cooling: slot.rests_until.is_some(),
            active_leases: load.map_or(0, |load| load.active_leases),
            sticky: load.is_some_and(|load| load.contexts.contains_key(&context)),
        }
    }

    pub fn view(&self, id: &WorkerId) -> Option<WorkerView> {
        self.slots.get(id).map(|slot| WorkerView {
            worker: slot.stored.worker.clone(),
            status: match slot.stored.worker.status {
                WorkerStatus::Online if !slot.alive => WorkerStatus::Offline,
                said => said,
            },
            last_heartbeat: slot.stored.last_heartbeat,
            active_leases: self.loads.get(id).map_or(0, |load| load.active_leases),
            pushed: self.is_pushed(id),
        })
    }

    pub fn ids(&self) -> impl Iterator<Item = &WorkerId> {
        self.slots.keys()
    }
}
