//! Who may stay connected when more want in than there is room for.
//!
//! A connection is a stranger's until one of its requests has shown the key; then it is known.
//! Strangers share a small part of the places, and a newcomer takes the place of the oldest connection
//! of the address that holds the most of them. A fleet that comes back all at once (the server was
//! started again) is strange for a moment only, so what has just arrived may stay that moment, as far as
//! `RUSH_MAX` goes. So whoever floods the server crowds out himself, and a
//! worker gets in as long as its key arrives before its place is needed. Known connections go only when
//! all places are theirs, the longest idle first. Must stay true: places are bounded (P9), a known
//! connection in use is never ended. Not here: sockets, what a key is.

use super::rate_limit::Client;
use crate::clock::Mono;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// All places; each may cost `BUFFER_BYTES` (`server`) and a file descriptor.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Places of connections that have not shown the key.
pub const STRANGERS_MAX: usize = 384;
/// … and of those that have not had `RUSH_MS` yet to show it.
pub const RUSH_MAX: usize = 2_048;
const RUSH_MS: u64 = 1_000;

pub struct Places {
    connections_max: usize,
    strangers_max: usize,
    rush_max: usize,
    /// Grows with each arrival and each request: the order in which connections were last in use.
    uses: AtomicU64,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    last_id: u64,
    /// By order of arrival.
    seats: BTreeMap<u64, Arc<Marks>>,
    strangers: usize,
    of_client: HashMap<Client, BTreeSet<u64>>,
    /// Who holds how many strangers' places since when; the last gives one up first.
    ranks: BTreeSet<(usize, Reverse<u64>, Client)>,
    /// Connections that made room so far.
    evicted: u64,
}

/// What is known of one connection.
struct Marks {
    client: Client,
    /// When it may be expected to have shown the key.
    settled: Mono,
    is_known: AtomicBool,
    requests: AtomicU32,
    /// The value of `Places::uses` when this one was last in use.
    last_used: AtomicU64,
    evicted: Notify,
}

/// A connection's place; free again when this is dropped.
pub struct Seat {
    id: u64,
    marks: Arc<Marks>,
    places: Arc<Places>,
}

/// A request, or the stream that it opened; its connection is in use while this lives.
pub struct InUse(Arc<Marks>);

impl Places {
    /// `open_files` is how many files and sockets the process may have at all.
    pub fn new(open_files: Option<u64>) -> Places {
        /// Descriptors for the data files, the log, calls to Membridge, connections that just ended.
        const OTHER_FILES: u64 = 128;
        let files = open_files.map(|files| files.saturating_sub(OTHER_FILES));
        let most = files.map_or(CONNECTIONS_MAX, |files| {
            usize::try_from(files).unwrap_or(usize::MAX).clamp(16, CONNECTIONS_MAX)
        });
        Places::with(most, STRANGERS_MAX.min(most / 2), RUSH_MAX.min(most / 2))
    }

    fn with(connections_max: usize, strangers_max: usize, rush_max: usize) -> Places {
        Places {
            connections_max,
            strangers_max,
            rush_max,
            uses: AtomicU64::new(0),
            taken: Mutex::default(),
        }
    }

    pub fn connections_max(&self) -> usize {
        self.connections_max
    }

    pub fn strangers_max(&self) -> usize {
        self.strangers_max
    }

    /// Connections that had to make room so far.
    pub fn evicted(&self) -> u64 {
        self.lock().evicted
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().expect("no holder panics")
    }

    /// A place for a connection from this address; none when every place is known and in use.
    pub fn take(self: &Arc<Self>, address: IpAddr, now: Mono) -> Option<Seat> {
        let mut taken = self.lock();
        let is_full = taken.seats.len() >= self.connections_max;
        if is_full || taken.strangers >= self.rush_max {
            let victim = taken.a_stranger().or_else(|| taken.longest_idle())?;
            taken.evict(victim);
        }
        while taken.strangers >= self.strangers_max
            && let Some(victim) = taken.a_stranger()
            && taken.seats.get(&victim).is_some_and(|marks| marks.settled <= now)
        {
            taken.evict(victim);
        }
        taken.last_id += 1;
        let id = taken.last_id;
        let marks = Arc::new(Marks {
            client: Client::of(address),
            settled: now.after_ms(RUSH_MS),
            is_known: AtomicBool::new(false),
            requests: AtomicU32::new(0),
            last_used: AtomicU64::new(self.uses.fetch_add(1, Relaxed)),
            evicted: Notify::new(),
        });
        taken.seats.insert(id, marks.clone());
        taken.count_stranger(marks.client, id);
        Some(Seat { id, marks, places: self.clone() })
    }
}

impl Taken {
    fn a_stranger(&self) -> Option<u64> {
        self.ranks.last().map(|(_, Reverse(oldest), _)| *oldest)
    }

    fn longest_idle(&self) -> Option<u64> {
        let idle = self.seats.iter().filter(|(_, marks)| marks.requests.load(Relaxed) == 0);
        idle.min_by_key(|(_, marks)| marks.last_used.load(Relaxed)).map(|(id, _)| *id)
    }

    fn evict(&mut self, id: u64) {
        if let Some(marks) = self.remove(id) {
            self.evicted += 1;
            marks.evicted.notify_one();
        }
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Marks>> {
        let marks = self.seats.remove(&id)?;
        if !marks.is_known.load(Relaxed) {
            self.uncount_stranger(marks.client, id);
        }
        Some(marks)
    }

    fn count_stranger(&mut self, client: Client, id: u64) {
        self.change(client, |ids| ids.insert(id));
        self.strangers += 1;
    }

    fn uncount_stranger(&mut self, client: Client, id: u64) {
        self.change(client, |ids| ids.remove(&id));
        self.strangers -= 1;
    }

    /// Changes what a client holds and moves it to its new rank.
    fn change(&mut self, client: Client, change: impl FnOnce(&mut BTreeSet<u64>) -> bool) {
        let ids = self.of_client.entry(client).or_default();
        if let Some(oldest) = ids.first() {
            self.ranks.remove(&(ids.len(), Reverse(*oldest), client));
        }
        change(ids);
        if let Some(oldest) = ids.first() {
            self.ranks.insert((ids.len(), Reverse(*oldest), client));
        } else {
            self.of_client.remove(&client);
        }
    }
}

impl Seat {
    /// A request on this connection has shown the key.
    pub fn prove(&self) {
        if self.marks.is_known.load(Relaxed) {
            return;
        }
        let mut taken = self.places.lock();
        // Not one that has just been evicted.
        if taken.seats.contains_key(&self.id) && !self.marks.is_known.swap(true, Relaxed) {
            taken.uncount_stranger(self.marks.client, self.id);
        }
    }

    pub fn in_use(&self) -> InUse {
        self.marks.requests.fetch_add(1, Relaxed);
        self.marks.last_used.store(self.places.uses.fetch_add(1, Relaxed), Relaxed);
        InUse(self.marks.clone())
    }

    /// Returns when the place is needed for another connection.
    pub async fn evicted(&self) {
        self.marks.evicted.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.places.lock().remove(self.id);
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    /// A place for who comes when all before have had their time.
    fn take(places: &Arc<Places>, n: u8) -> Option<Seat> {
        let later = places.lock().last_id * 10 * RUSH_MS;
        places.take(ip(n), Mono(later))
    }

    fn is_evicted(seat: &Seat) -> bool {
        let mut evicted = pin!(seat.evicted());
        evicted.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn evicted(seats: &[Seat]) -> Vec<usize> {
        (0..seats.len()).filter(|n| is_evicted(&seats[*n])).collect()
    }

    #[test]
    fn a_flood_from_one_address_crowds_out_itself() {
        let places = Arc::new(Places::with(10, 4, 10));
        let take = |n| take(&places, n).expect("room");
        let mut seats: Vec<_> = [1, 2, 9, 9].map(take).into();
        seats.extend([9, 9, 9, 3].map(take));
        assert_eq!(evicted(&seats), [2, 3, 4, 5], "the flood's own, oldest first");
        assert_eq!(places.evicted(), 4);
    }

    #[test]
    fn among_equals_the_oldest_stranger_goes() {
        let places = Arc::new(Places::with(10, 3, 10));
        let seats: Vec<_> = (1..=5).rev().map(|n| take(&places, n).expect("room")).collect();
        assert_eq!(evicted(&seats), [0, 1]);
    }

    #[test]
    fn who_has_shown_the_key_is_no_stranger_and_makes_no_room_for_one() {
        let places = Arc::new(Places::with(4, 2, 4));
        let known: Vec<_> = (0..4)
            .map(|_| {
                let seat = take(&places, 1).expect("room");
                seat.prove();
                seat.prove();
                seat
            })
            .collect();
        let used: Vec<_> = [0, 2].map(|n: usize| known[n].in_use()).into();
        // All places are known: the longest idle goes, then only strangers for strangers.
        let stranger = take(&places, 7).expect("room");
        let next = take(&places, 7).expect("room");
        assert_eq!(evicted(&known), [1]);
        assert!(is_evicted(&stranger) && !is_evicted(&next));
        next.prove();
        let used: Vec<_> = used.into_iter().chain([known[3].in_use(), next.in_use()]).collect();
        assert!(take(&places, 8).is_none(), "every place is in use");
        drop(used);
        assert!(take(&places, 8).is_some());
        assert_eq!(evicted(&known), [0], "the longest idle");
    }

    #[test]
    fn places_are_free_again_when_connections_end() {
        let places = Arc::new(Places::with(4, 4, 4));
        for _ in 0..3 {
            let seats: Vec<_> = (0..4).map(|n| take(&places, n).expect("room")).collect();
            seats[0].prove();
            assert_eq!(evicted(&seats), [0; 0]);
            let extra = take(&places, 9).expect("room");
            assert_eq!(evicted(&seats), [1]);
            seats[1].prove();
            drop((seats, extra));
            let taken = places.lock();
            assert!(taken.seats.is_empty() && taken.ranks.is_empty());
            assert!(taken.of_client.is_empty() && taken.strangers == 0);
        }
    }

    #[test]
    fn a_fleet_that_comes_back_at_once_is_let_in_and_given_a_moment_to_show_its_key() {
        let places = Arc::new(Places::with(20, 2, 10));
        let at = |ms| places.take(ip(1), Mono(ms)).expect("room");
        let mut seats: Vec<_> = [5_000; 10].map(at).into();
        assert_eq!(evicted(&seats), [0; 0]);
        seats[..4].iter().for_each(Seat::prove);
        seats.extend([5_500; 4].map(at));
        assert_eq!(evicted(&seats), [0; 0], "ten of them are strange");
        seats.push(at(5_900));
        assert_eq!(evicted(&seats), [4], "a rush has its limit too");
        seats.push(at(6_200));
        assert_eq!(evicted(&seats), [5, 6, 7, 8, 9], "who had the time to show it and did not");
    }

    #[test]
    fn fewer_files_mean_fewer_places() {
        let places = |files| {
            let places = Places::new(files);
            (places.connections_max, places.strangers_max)
        };
        assert_eq!(places(None), (CONNECTIONS_MAX, STRANGERS_MAX));
        assert_eq!(places(Some(1 << 20)), (CONNECTIONS_MAX, STRANGERS_MAX));
        assert_eq!(places(Some(1024)), (896, 384));
        assert_eq!(places(Some(0)), (16, 8));
    }
}
