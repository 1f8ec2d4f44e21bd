//! A test of the connection: which half of it failed, in words an operator can act on.
//!
//! Must stay true: the shape is the contract's with added fields (§3); it needs no key of ours, so
//! nothing in it is secret: Membridge's health was asked for without its key. Not here: the calls.

use super::call::Fault;
use serde_json::{Value, json};

/// The halves of a connection.
pub const REACHABILITY: &str = "reachability";
pub const KEY: &str = "key";
const SUMMARY_CHARS_MAX: usize = 500;

/// What a test of the connection found.
pub enum Tested {
    Connected { health: Value },
    Failed { fault: Fault, half: &'static str },
}

impl Tested {
    /// `health` is known to be JSON.
    pub(super) fn connected_with(health: &[u8]) -> Tested {
        Tested::Connected { health: serde_json::from_slice(health).unwrap_or_default() }
    }

    pub(super) fn failed(fault: Fault, half: &'static str) -> Tested {
        Tested::Failed { fault, half }
    }

    pub(super) fn busy() -> Tested {
        let detail = "Other tests of the connection are still waiting for an answer".into();
        Tested::failed(Fault { detail, ..Fault::busy() }, REACHABILITY)
    }

    /// What the audit trail tells of a good connection.
    pub fn summary(&self) -> Option<String> {
        match self {
            Tested::Connected { health } => {
                Some(health.to_string().chars().take(SUMMARY_CHARS_MAX).collect())
            }
            Tested::Failed { .. } => None,
        }
    }

    pub fn to_json(&self) -> Value {
        match self {
            Tested::Connected { health } => json!({ "connected": true, "health": health }),
            Tested::Failed { fault, half } => {
                let Fault { error, detail, .. } = fault;
                json!({ "connected": false, "error": error, "detail": detail, "failed": half })
            }
        }
    }
}
