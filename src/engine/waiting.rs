//! The claims that wait for a task: who, until when, and the way back to each.
//!
//! Must stay true: waiting costs no wake-up; a caller that is gone gets no task; the number of
//! waiting claims is bounded. Not here: who gets which task (`core`).

use super::{ClaimAnswer, Reply};
use crate::clock::Mono;
use crate::domain::WorkerId;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The most claims that may wait at a time.
pub const WAITING_MAX: usize = 8_192;

/// One waiting claim.
pub struct Waiter {
    pub worker: WorkerId,
    pub ttl_seconds: Option<u32>,
    pub reply: Reply<Option<ClaimAnswer>>,
}

type Place = (Mono, u64);

/// All waiting claims, by the time until which they wait and by worker.
#[derive(Default)]
pub struct Waiting {
    by_time: BTreeMap<Place, Waiter>,
    by_worker: HashMap<WorkerId, BTreeSet<Place>>,
    arrivals: u64,
}

impl Waiting {
    pub fn push(&mut self, waiter: Waiter, until: Mono) {
        let place = (until, self.arrivals);
        self.arrivals += 1;
        self.by_worker.entry(waiter.worker.clone()).or_default().insert(place);
        self.by_time.insert(place, waiter);
    }

    /// Whether no more may wait, after those whose caller is gone have made room.
    pub fn is_full(&mut self) -> bool {
        if self.by_time.len() >= WAITING_MAX {
            let gone =
                |(place, waiter): (&Place, &Waiter)| waiter.reply.is_closed().then_some(*place);
            let places: Vec<Place> = self.by_time.iter().filter_map(gone).collect();
            places.into_iter().for_each(|place| drop(self.take(place)));
        }
        self.by_time.len() >= WAITING_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.by_time.is_empty()
    }

    pub fn workers(&self) -> impl Iterator<Item = &WorkerId> {
        self.by_worker.keys()
    }

    /// This worker's claim whose wait ends first and whose caller is still there.
    pub fn take_for(&mut self, worker: &WorkerId) -> Option<Waiter> {
        while let Some(place) =
            self.by_worker.get(worker).and_then(|places| places.first()).copied()
        {
            let waiter = self.take(place)?;
            if !waiter.reply.is_closed() {
                return Some(waiter);
            }
        }
        None
    }

    /// A claim whose time is over, if there is one.
    pub fn take_due(&mut self, now: Mono) -> Option<Waiter> {
        let (place, _) = self.by_time.first_key_value()?;
        if place.0 <= now { self.take(*place) } else { None }
    }

    pub fn next(&self) -> Option<Mono> {
        self.by_time.first_key_value().map(|((until, _), _)| *until)
    }

    fn take(&mut self, place: Place) -> Option<Waiter> {
        let waiter = self.by_time.remove(&place)?;
        if let Some(places) = self.by_worker.get_mut(&waiter.worker) {
            places.remove(&place);
            if places.is_empty() {
                self.by_worker.remove(&waiter.worker);
            }
        }
        Some(waiter)
    }
}
