//! What is kept of people's sessions: the secret that signs them, and which were ended early.
//!
//! Must stay true: what was ended stays ended, also when the list is full or the clock jumps; the record
//! is small (P9). The secret has no place in any text (P10). Not here: signing (`http::session`).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How long a session lasts.
pub const SESSION_SECONDS: i64 = 12 * 3600;

/// Ended sessions that are known one by one.
const ENDED_MAX: usize = 256;

/// The stored record.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sessions {
    /// Made at the first start that needs one.
    pub secret: Option<String>,
    /// Ended before their time: the id, and when that would have been in Unix milliseconds.
    ended: BTreeMap<String, i64>,
    /// Every session that lasts no longer than this counts as ended.
    ended_until: i64,
}

impl Sessions {
    pub fn has_ended(&self, id: &str, ends_at: i64) -> bool {
        ends_at <= self.ended_until || self.ended.contains_key(id)
    }

    /// Ends a session. When there are too many to know one by one, those that would have ended first
    /// stand for all that end no later.
    pub fn end(&mut self, id: String, ends_at: i64) {
        self.ended.insert(id, ends_at);
        while self.ended.len() > ENDED_MAX {
            let Some(first) = self.ended.values().min().copied() else { return };
            self.ended_until = self.ended_until.max(first);
            self.ended.retain(|_, ends_at| *ends_at > first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ended_stays_ended_however_many_follow_and_later_ones_go_on() {
        let mut sessions = Sessions::default();
        let id = |n: i64| format!("s{n}");
        for n in 1..=1000 {
            assert!(!sessions.has_ended(&id(n), n));
            sessions.end(id(n), n);
            sessions.end(id(n), n);
        }
        assert!((1..=1000).all(|n| sessions.has_ended(&id(n), n)));
        assert!(sessions.ended.len() <= ENDED_MAX);
        assert!(!sessions.has_ended("other", 1001));
        assert!(!sessions.has_ended("other", 900), "it goes on beside those that are known");
        assert!(sessions.has_ended("other", 5), "it is not known to go on");
    }
}
