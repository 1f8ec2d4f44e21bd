//! How many requests a minute a caller may make (CONTRACT §1): fixed windows per client address.
//!
//! What must stay true: bounded memory whatever the callers do (P9). Each class has a table of its own,
//! so a flood of strangers or wrong keys never crowds out callers with a key; a full table first forgets
//! windows that have ended, then newcomers share one window. An IPv6 client is its /64, since a host has
//! all of it to pick from. Deliberately not here: which class a request is of, headers, a clock.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::clock::Mono;

/// Length of a window.
pub const WINDOW_SECONDS: u64 = 60;
const WINDOW_MS: u64 = WINDOW_SECONDS * 1000;

/// Requests a minute to test-connection, which calls out.
const TEST_CONNECTION_PER_MINUTE: u32 = 20;

/// Wrong keys a minute with which somebody tries to sign in.
const WRONG_SIGN_INS_PER_MINUTE: u32 = 10;

/// Addresses that a table remembers.
const MAX_ADDRESSES: usize = 10_000;

/// A full table is searched for ended windows at most this often: a search reads all of it.
const SWEEP_EVERY_MS: u64 = 1000;

/// What a request is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Without a key, where one is needed or not.
    Open,
    /// With a wrong key.
    Wrong,
    /// With the right key.
    Authenticated,
    /// Counted besides one of the others.
    TestConnection,
    /// A wrong key to sign in with, counted besides one of the others.
    SignIn,
}

/// What to tell the caller, in the `RateLimit-*` headers or with 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub limit: u32,
    /// Requests left in this window.
    pub remaining: u32,
    /// Seconds until the window ends, rounded up: 1 to 60.
    pub reset_seconds: u64,
    pub allowed: bool,
}

/// The counts of all callers.
pub struct RateLimiter {
    open: Table,
    wrong: Table,
    authenticated: Table,
    test_connection: Table,
    sign_in: Table,
}

impl RateLimiter {
    /// `per_minute` for callers without a valid key; 0 switches every limit off. `authenticated` for
    /// callers with one; 0 means no limit for them.
    pub fn new(per_minute: u32, authenticated: u32) -> Self {
        let mut limiter = RateLimiter {
            open: Table::default(),
            wrong: Table::default(),
            authenticated: Table::default(),
            test_connection: Table::default(),
            sign_in: Table::default(),
        };
        limiter.set_limits(per_minute, authenticated);
        limiter
    }

    /// Other limits from now on, with what has been counted so far.
    pub fn set_limits(&mut self, per_minute: u32, authenticated: u32) {
        let unless_off = |limit| if per_minute == 0 { 0 } else { limit };
        self.open.limit = per_minute;
        self.wrong.limit = per_minute;
        self.authenticated.limit = unless_off(authenticated);
        self.test_connection.limit = unless_off(TEST_CONNECTION_PER_MINUTE);
        self.sign_in.limit = unless_off(WRONG_SIGN_INS_PER_MINUTE);
    }

    /// Counts one request. `None`: this class has no limit.
    pub fn count(&mut self, class: Class, client: IpAddr, now: Mono) -> Option<Verdict> {
        let table = match class {
            Class::Open => &mut self.open,
            Class::Wrong => &mut self.wrong,
            Class::Authenticated => &mut self.authenticated,
            Class::TestConnection => &mut self.test_connection,
            Class::SignIn => &mut self.sign_in,
        };
        (table.limit > 0).then(|| table.count(Client::of(client), now))
    }

    /// How long a client that tried too many wrong keys has to wait before it may try another.
    pub fn sign_in_wait_seconds(&self, client: IpAddr, now: Mono) -> Option<u64> {
        self.sign_in.wait_seconds(Client::of(client), now)
    }
}

/// A client as it is counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Client {
    V4(u32),
    /// The network half.
    V6(u64),
}

impl Client {
    pub(super) fn of(address: IpAddr) -> Client {
        match address.to_canonical() {
            IpAddr::V4(address) => Client::V4(address.to_bits()),
            IpAddr::V6(address) => Client::V6((address.to_bits() >> 64) as u64),
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Window {
    ends: Mono,
    used: u32,
}

#[derive(Default)]
struct Table {
    limit: u32,
    windows: HashMap<Client, Window>,
    overflow: Window,
    next_sweep: Mono,
}

impl Table {
    fn count(&mut self, client: Client, now: Mono) -> Verdict {
        let is_full = self.windows.len() >= MAX_ADDRESSES;
        if is_full && now >= self.next_sweep && !self.windows.contains_key(&client) {
            self.windows.retain(|_, window| window.ends > now);
            self.next_sweep = Mono(now.0.saturating_add(SWEEP_EVERY_MS));
        }
        let has_room = self.windows.len() < MAX_ADDRESSES;
        let window = match self.windows.get_mut(&client) {
            Some(window) => window,
            None if has_room => self.windows.entry(client).or_default(),
            None => &mut self.overflow,
        };
        if window.ends <= now {
            *window = Window { ends: Mono(now.0.saturating_add(WINDOW_MS)), used: 0 };
        }
        let allowed = window.used < self.limit;
        window.used += u32::from(allowed);
        Verdict {
            limit: self.limit,
            remaining: self.limit - window.used,
            reset_seconds: (window.ends.0 - now.0).div_ceil(1000),
            allowed,
        }
    }

    /// Seconds until the client's window ends, if it is used up.
    fn wait_seconds(&self, client: Client, now: Mono) -> Option<u64> {
        let is_full = self.windows.len() >= MAX_ADDRESSES;
        let window = self.windows.get(&client).or(is_full.then_some(&self.overflow))?;
        let is_used_up = self.limit > 0 && window.ends > now && window.used >= self.limit;
        is_used_up.then(|| (window.ends.0 - now.0).div_ceil(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn stranger(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    #[test]
    fn a_window_allows_its_limit_and_begins_anew_after_a_minute() {
        let mut limiter = RateLimiter::new(2, 6000);
        let mut ask = |ms| limiter.count(Class::Open, ip("10.0.0.1"), Mono(ms)).unwrap();
        let first = Verdict { limit: 2, remaining: 1, reset_seconds: 60, allowed: true };
        assert_eq!(ask(0), first);
        assert_eq!(ask(1), Verdict { remaining: 0, reset_seconds: 60, ..first });
        let refused = Verdict { remaining: 0, reset_seconds: 1, allowed: false, ..first };
        assert_eq!(ask(59_999), refused);
        assert_eq!(ask(60_000), first);
    }

    #[test]
    fn the_classes_are_counted_apart() {
        let mut limiter = RateLimiter::new(1, 3);
        let limits = [
            (Class::Open, 1),
            (Class::Wrong, 1),
            (Class::Authenticated, 3),
            (Class::TestConnection, 20),
        ];
        for (class, limit) in limits {
            for n in 0..=limit {
                let verdict = limiter.count(class, ip("10.0.0.1"), Mono(5)).unwrap();
                assert_eq!((verdict.limit, verdict.allowed), (limit, n < limit), "{class:?} {n}");
            }
        }
    }

    #[test]
    fn after_ten_wrong_keys_a_source_waits_for_its_minute_to_end() {
        let mut limiter = RateLimiter::new(100, 6000);
        let (here, there) = (ip("10.0.0.1"), ip("10.0.0.2"));
        for n in 0..10 {
            assert_eq!(limiter.sign_in_wait_seconds(here, Mono(n)), None);
            limiter.count(Class::SignIn, here, Mono(n));
        }
        assert_eq!(limiter.sign_in_wait_seconds(here, Mono(10)), Some(60));
        assert_eq!(limiter.sign_in_wait_seconds(here, Mono(59_999)), Some(1));
        assert_eq!(limiter.sign_in_wait_seconds(there, Mono(10)), None);
        assert_eq!(limiter.sign_in_wait_seconds(here, Mono(60_000)), None);
        let mut off = RateLimiter::new(0, 6000);
        off.count(Class::SignIn, here, Mono(0));
        assert_eq!(off.sign_in_wait_seconds(here, Mono(1)), None);
    }

    #[test]
    fn clients_are_told_apart_by_address_and_by_the_network_half_of_ipv6() {
        let mut limiter = RateLimiter::new(1, 1);
        let mut is_new =
            |text| limiter.count(Class::Open, ip(text), Mono(0)).is_some_and(|v| v.allowed);
        assert!(is_new("10.0.0.1"));
        assert!(is_new("10.0.0.2"));
        assert!(!is_new("::ffff:10.0.0.1"));
        assert!(is_new("2001:db8:0:1::1"));
        assert!(!is_new("2001:db8:0:1:ffff::2"));
        assert!(is_new("2001:db8:0:2::1"));
    }

    #[test]
    fn zero_switches_limits_off() {
        let none = |limiter: &mut RateLimiter, class| {
            limiter.count(class, ip("10.0.0.1"), Mono(0)).is_none()
        };
        let mut off = RateLimiter::new(0, 6000);
        assert!(none(&mut off, Class::Open) && none(&mut off, Class::Wrong));
        assert!(none(&mut off, Class::Authenticated) && none(&mut off, Class::TestConnection));
        let mut unlimited_keys = RateLimiter::new(100, 0);
        assert!(none(&mut unlimited_keys, Class::Authenticated));
        assert!(!none(&mut unlimited_keys, Class::Open));
    }

    #[test]
    fn a_flood_of_addresses_shares_one_window_and_memory_stays_bounded() {
        let mut limiter = RateLimiter::new(2, 6000);
        for n in 0..MAX_ADDRESSES as u32 {
            assert!(limiter.count(Class::Open, stranger(n), Mono(0)).unwrap().allowed);
        }
        let mut newcomer = |n, ms| {
            let verdict = limiter.count(Class::Open, stranger(n), Mono(ms)).unwrap();
            assert!(limiter.open.windows.len() <= MAX_ADDRESSES);
            verdict.allowed
        };
        assert!(newcomer(20_000, 1) && newcomer(20_001, 1));
        assert!(!newcomer(20_002, 1));
        // Those who came before keep their own window, and other classes know nothing of it.
        assert!(newcomer(7, 1));
        // When the old windows have ended there is room again.
        assert!(newcomer(20_002, 60_000) && newcomer(20_003, 60_000) && newcomer(20_004, 60_000));
        assert_eq!(limiter.open.windows.len(), 3);
        let with_key = limiter.count(Class::Authenticated, stranger(9), Mono(1)).unwrap();
        assert_eq!(with_key.remaining, 5999);
    }
}
