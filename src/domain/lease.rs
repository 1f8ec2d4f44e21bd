//! A lease: a task lent to one worker for a time, and how such a lease ended.
//!
//! Must stay true: `fence` grows with every grant of a task (P3); `expires_at` is for people, the
//! engine's monotonic deadline decides (P4). Not here: renewals, which live in memory only (P8).

use super::{LeaseId, WorkerId};
use serde::{Deserialize, Serialize};

/// A grant as it was stored; renewals since then are laid over it by the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub id: LeaseId,
    /// Larger than that of every earlier grant of the same task.
    pub fence: u32,
    pub worker_id: WorkerId,
    /// Unix milliseconds.
    pub started_at: i64,
    pub expires_at: i64,
    pub last_heartbeat: i64,
    pub ttl_seconds: u32,
}

impl Lease {
    /// What people see of a sign of life at `now`, Unix milliseconds.
    pub fn renew(&mut self, now: i64) {
        self.last_heartbeat = now;
        self.expires_at = now.saturating_add(i64::from(self.ttl_seconds) * 1000);
    }
}

/// Why a lease is no longer active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseEnd {
    /// No sign of life within its time.
    Expired,
    /// The task was completed under it.
    Completed,
    /// The task was cancelled under it.
    Cancelled,
    /// Its holder handed the task back.
    Released,
}

/// What the wire says of a lease (`CONTRACT §2`); `failed` is a word of the original that nothing sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeaseStatus {
    Active,
    Expired,
    Released,
}

impl LeaseStatus {
    pub const ALL: [LeaseStatus; 3] =
        [LeaseStatus::Active, LeaseStatus::Expired, LeaseStatus::Released];

    pub fn as_str(self) -> &'static str {
        match self {
            LeaseStatus::Active => "active",
            LeaseStatus::Expired => "expired",
            LeaseStatus::Released => "released",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// A lease of the past, kept with its task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedLease {
    pub lease: Lease,
    pub ended_at: i64,
    pub end: LeaseEnd,
    /// The sequence of what was completed under it, if anything was.
    pub outcome: Option<u64>,
    /// Why it did not end well, if its holder said: a code, and words of a few lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl EndedLease {
    pub fn status(&self) -> LeaseStatus {
        match self.end {
            LeaseEnd::Expired => LeaseStatus::Expired,
            LeaseEnd::Completed | LeaseEnd::Cancelled | LeaseEnd::Released => LeaseStatus::Released,
        }
    }
}
