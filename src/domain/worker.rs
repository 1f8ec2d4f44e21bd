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
    /// Known from Membridge's list alone: it has never registered itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_membridge: bool,
}

/// What Membridge's list says of a worker (`ECOSYSTEM §1`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedAgent {
    pub id: WorkerId,
    /// Empty when it has none.
    pub url: String,
    pub status: WorkerStatus,
    /// Unix milliseconds.
    pub registered_at: Option<i64>,
    pub last_seen: Option<i64>,
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

/// A worker of which nothing but its name is known.
fn new_worker(id: WorkerId, seq: u64, now: i64) -> Worker {
    Worker {
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
        from_membridge: false,
    }
}

/// The record after Membridge has listed the worker. What it said itself stays; a worker that is known
/// from the list alone follows the list, save that `unknown` does not take away what it has shown.
pub fn list(known: Option<&Worker>, agent: &ListedAgent, seq: u64, now: i64) -> Worker {
    let Some(known) = known else {
        let worker = new_worker(agent.id.clone(), seq, agent.registered_at.unwrap_or(now));
        let (url, status) = (agent.url.clone(), agent.status);
        return Worker { url, status, from_membridge: true, ..worker };
    };
    let mut worker = known.clone();
    if worker.from_membridge {
        worker.claims &= worker.url == agent.url;
        worker.url.clone_from(&agent.url);
    } else if worker.url.is_empty() && !agent.url.is_empty() {
        worker.url.clone_from(&agent.url);
        // Who gave no address does not wait to be called.
        worker.claims = true;
    }
    let keeps = agent.status == WorkerStatus::Unknown && worker.status == WorkerStatus::Online;
    if worker.from_membridge && !keeps {
        worker.status = agent.status;
    }
    worker
}

/// The record after a sign of life of one that is known from the list alone and of which the list knows
/// nothing more: it can be used.
pub fn show_life(worker: &Worker) -> Option<Worker> {
    let unknown = worker.from_membridge && worker.status == WorkerStatus::Unknown;
    unknown.then(|| Worker { status: WorkerStatus::Online, ..worker.clone() })
}

/// The record after Membridge has not listed the worker for too long.
pub fn unlist(worker: &Worker) -> Option<Worker> {
    let gone = worker.from_membridge && worker.status != WorkerStatus::Offline;
    gone.then(|| Worker { status: WorkerStatus::Offline, ..worker.clone() })
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
    let mut worker = known.cloned().unwrap_or_else(|| new_worker(id, seq, now));
    worker.from_membridge = false;
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

    fn listed(status: WorkerStatus) -> ListedAgent {
        ListedAgent {
            id: WorkerId("w".into()),
            url: "http://listed:8001".into(),
            status,
            registered_at: Some(500),
            last_seen: None,
        }
    }

    #[test]
    fn a_list_fills_gaps_and_never_overwrites_what_a_worker_said_itself() {
        let id = WorkerId("w".into());
        let said = Registration { max_concurrency: Some(7), ..Registration::default() };
        let own = register(None, id.clone(), said.clone(), 5, 1000);
        let after = list(Some(&own), &listed(WorkerStatus::Offline), 9, 2000);
        assert_eq!(after, Worker { url: "http://listed:8001".into(), claims: true, ..own.clone() });
        let with_url = Worker { url: "http://own".into(), ..own };
        assert_eq!(list(Some(&with_url), &listed(WorkerStatus::Error), 9, 2000), with_url);

        let known = list(None, &listed(WorkerStatus::Unknown), 5, 1000);
        assert!(known.from_membridge && known.registered_at == 500);
        let registered = register(Some(&known), id, said, 9, 2000);
        assert!(!registered.from_membridge && registered.url == known.url);
        assert_eq!(registered.status, WorkerStatus::Online);
        assert_eq!(unlist(&registered), None, "it is there whatever the list says");
    }

    #[test]
    fn a_listed_worker_follows_the_list_save_that_unknown_demotes_nobody() {
        use WorkerStatus::{Error, Offline, Online, Unknown};
        for (before, listing, after) in [
            (Online, Unknown, Online),
            (Offline, Unknown, Unknown),
            (Error, Unknown, Unknown),
            (Online, Offline, Offline),
            (Unknown, Online, Online),
        ] {
            let known = list(None, &listed(before), 1, 0);
            assert_eq!(list(Some(&known), &listed(listing), 2, 1).status, after, "{before:?}");
        }
        let unknown = list(None, &listed(Unknown), 1, 0);
        assert_eq!(show_life(&unknown).unwrap().status, Online);
        assert_eq!(show_life(&list(None, &listed(Offline), 1, 0)), None);
    }
}
