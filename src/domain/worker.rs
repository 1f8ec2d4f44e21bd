//! A worker as it registered itself, and what a registration changes.
//!
//! Must stay true: what a registration leaves out stays as it was. Not here: liveness and load,
//! which are memory (`engine::workers`), and whether it may take a task (`routing`).

use super::WorkerId;
use serde::{Deserialize, Serialize};

/// What a worker says of itself; silence turns `Online` into `Offline` in every answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerStatus {
    Online,
    Offline,
    Syncing,
    Error,
    Unknown,
}

impl WorkerStatus {
    pub const ALL: [WorkerStatus; 5] = [
        WorkerStatus::Online,
        WorkerStatus::Offline,
        WorkerStatus::Syncing,
        WorkerStatus::Error,
        WorkerStatus::Unknown,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            WorkerStatus::Online => "online",
            WorkerStatus::Offline => "offline",
            WorkerStatus::Syncing => "syncing",
            WorkerStatus::Error => "error",
            WorkerStatus::Unknown => "unknown",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    pub claude_cli: bool,
    /// 1–32 tasks at a time.
    pub max_concurrency: u32,
    pub labels: Vec<String>,
}

impl Default for Capabilities {
    fn default() -> Self {
        Capabilities { claude_cli: true, max_concurrency: 1, labels: Vec::new() }
    }
}

/// A worker that takes no tasks for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cooling {
    /// The store's age at which it is over: what decides (P4).
    pub until_age_ms: u64,
    /// Unix milliseconds: what a person reads.
    pub until: i64,
    pub code: String,
    pub message: String,
}

/// The stored record of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    pub id: WorkerId,
    /// Orders lists: the change that registered it first.
    pub seq: u64,
    pub url: String,
    pub status: WorkerStatus,
    pub capabilities: Capabilities,
    pub ip_addrs: Vec<String>,
    pub obs_count: u64,
    pub db_sha: String,
    pub registered_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_info: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install_method: Option<String>,
    /// A person wants it to take no more tasks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooling: Option<Cooling>,
    /// It gave an address, but asks for tasks itself, so that none are pushed to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub claims: bool,
}

/// A registration; `None` means that the caller did not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    pub url: Option<String>,
    pub status: Option<WorkerStatus>,
    pub claude_cli: Option<bool>,
    pub max_concurrency: Option<u32>,
    pub labels: Option<Vec<String>>,
    pub ip_addrs: Option<Vec<String>>,
    pub agent_version: Option<String>,
    pub os_info: Option<String>,
    pub install_method: Option<String>,
}

/// The record after a registration. A status that is left out means that the worker is there:
/// online, as the original has it; everything else that is left out stays (`CONTRACT`).
pub fn register(
    known: Option<&Worker>,
    id: WorkerId,
    registration: Registration,
    seq: u64,
    now: i64,
) -> Worker {
    let mut worker = known.cloned().unwrap_or_else(|| Worker {
        id,
        seq,
        url: String::new(),
        status: WorkerStatus::Online,
        capabilities: Capabilities::default(),
        ip_addrs: Vec::new(),
        obs_count: 0,
        db_sha: String::new(),
        registered_at: now,
        agent_version: None,
        os_info: None,
        install_method: None,
        draining: false,
        cooling: None,
        claims: false,
    });
    let program = |worker: &Worker| (worker.url.clone(), worker.agent_version.clone());
    let before = program(&worker);
    fn set<T>(place: &mut T, said: Option<T>) {
        if let Some(said) = said {
            *place = said;
        }
    }
    worker.status = registration.status.unwrap_or(WorkerStatus::Online);
    set(&mut worker.url, registration.url);
    set(&mut worker.capabilities.claude_cli, registration.claude_cli);
    set(&mut worker.capabilities.max_concurrency, registration.max_concurrency);
    set(&mut worker.capabilities.labels, registration.labels);
    set(&mut worker.ip_addrs, registration.ip_addrs);
    set(&mut worker.agent_version, registration.agent_version.map(Some));
    set(&mut worker.os_info, registration.os_info.map(Some));
    set(&mut worker.install_method, registration.install_method.map(Some));
    // Another program, or another place, may be one that waits to be called.
    worker.claims &= program(&worker) == before;
    worker
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registering_again_by_name_alone_keeps_what_was_said_before() {
        let first = register(
            None,
            WorkerId("w".into()),
            Registration {
                max_concurrency: Some(7),
                labels: Some(vec!["gpu".into()]),
                ip_addrs: Some(vec!["10.0.0.1".into()]),
                ..Registration::default()
            },
            5,
            1000,
        );
        let again = register(Some(&first), WorkerId("w".into()), Registration::default(), 9, 2000);
        assert_eq!(again, first);
    }
}
