//! The worker: a process on a fleet machine that claims tasks and runs Claude CLI on them.
//!
//! It is a client of the API like any other and knows nothing of the engine. Threads and blocking
//! calls, no async: a worker does at most 32 things at once. What must stay true: no process is
//! left behind in any path ([`child`]); nothing is reported under a lease that is not ours
//! ([`task`]); none of our secrets reaches Claude ([`environment`]); when told to stop, it claims
//! nothing more, lets running tasks have 10 s and then kills them. Not here: progress, cooling down
//! after a provider's limit, updates.

mod backoff;
mod child;
mod claims;
mod claude;
mod environment;
mod lease;
mod leftovers;
mod stop;
mod task;
#[cfg(test)]
mod tests;
mod watch;

pub use environment::child_environment;
pub use stop::Stop;

use crate::client::{BadAddress, Client};
use crate::clock::Clock;
use serde::Deserialize;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;
use watch::Watch;

/// What running tasks get to finish once the worker is told to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// What the killing of those that did not may take; a report in flight is not waited for longer.
const KILLING: Duration = Duration::from_secs(5);

/// Everything that a worker has to be told. No `Debug`: it holds the key (P10).
pub struct WorkerConfig {
    /// `http://host[:port][/prefix]`.
    pub server: String,
    pub api_key: Option<String>,
    /// 1 to 128 characters; the worker's id at the server.
    pub name: String,
    /// 1 to 32.
    pub max_concurrency: u32,
    /// A program's name, looked up in the child's PATH, or a path.
    pub claude: PathBuf,
    pub labels: Vec<String>,
    /// The environment of every child, from [`child_environment`].
    pub environment: Vec<(OsString, OsString)>,
}

/// Runs a worker until `stop` is set and what it started has ended. Everything that can go wrong on
/// the way (no server, no Claude, a wrong key) is said in the log and tried again; errors are only
/// for a configuration that can never work.
pub fn run(
    mut config: WorkerConfig,
    clock: Arc<dyn Clock>,
    stop: Arc<Stop>,
) -> Result<(), BadWorker> {
    let faulty = |fault: &str| Err(BadWorker(fault.into()));
    if !(1..=128).contains(&config.name.chars().count()) {
        return faulty("the worker's name must have 1 to 128 characters");
    }
    if !(1..=32).contains(&config.max_concurrency) {
        return faulty("max-concurrency must be a number from 1 to 32");
    }
    // A bare name is searched for in PATH; a path must not depend on the scratch folder.
    if config.claude.components().count() > 1 {
        config.claude = std::path::absolute(&config.claude)
            .map_err(|fault| BadWorker(format!("claude path: {fault}")))?;
    }
    let client = Arc::new(Client::new(&config.server, config.api_key.take())?);
    let worker = Arc::new(Worker {
        config,
        client,
        clock,
        stop,
        claude_found: AtomicBool::new(false),
        registered: AtomicBool::new(false),
        slots: Mutex::default(),
        changed: Condvar::new(),
    });
    leftovers::end_orphans(leftovers::scratch_base(&worker.config.environment));
    let claiming = worker.clone();
    child::spawn_thread("claims", move || claims::claim_until_stopped(&claiming))
        .map_err(|fault| BadWorker(format!("no thread can be started: {fault}")))?;
    worker.stop.wait();
    claims::sign_off(&worker);
    worker.drain();
    Ok(())
}

/// A configuration that no worker can run with; the text says how to mend it.
#[derive(Debug)]
pub struct BadWorker(pub String);

impl fmt::Display for BadWorker {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadWorker {}

impl From<BadAddress> for BadWorker {
    fn from(fault: BadAddress) -> BadWorker {
        BadWorker(fault.0)
    }
}

/// A claim's answer, as far as a worker needs it (CONTRACT §2).
#[derive(Clone, Debug, Deserialize)]
struct Granted {
    task: Task,
    lease: Lease,
}

#[derive(Clone, Debug, Deserialize)]
struct Task {
    id: String,
    prompt: String,
    policy: Policy,
}

#[derive(Clone, Debug, Deserialize)]
struct Policy {
    timeout_sec: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Lease {
    id: String,
    ttl_seconds: u64,
}

/// The words that tie a log line to a task.
impl fmt::Display for Granted {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "task={} lease={}", self.task.id, self.lease.id)
    }
}

/// What the worker's threads share.
struct Worker {
    config: WorkerConfig,
    client: Arc<Client>,
    clock: Arc<dyn Clock>,
    stop: Arc<Stop>,
    /// False again when a task could not start it.
    claude_found: AtomicBool,
    /// False again when the server does not know us.
    registered: AtomicBool,
    slots: Mutex<Slots>,
    changed: Condvar,
}

#[derive(Default)]
struct Slots {
    running: Vec<Arc<Watch>>,
    stopping: bool,
}

/// A place among the running; given back when dropped, however its thread ends.
struct Slot {
    worker: Arc<Worker>,
    watch: Arc<Watch>,
}

impl Worker {
    /// Waits for a free place; false when the worker stops.
    fn wait_for_room(&self) -> bool {
        let full = |slots: &mut Slots| {
            !slots.stopping && slots.running.len() >= self.config.max_concurrency as usize
        };
        let slots = self.changed.wait_while(self.lock(), full).expect(UNPOISONED);
        !slots.stopping
    }

    /// Takes a place; none is given any more when the worker stops.
    fn enter(self: &Arc<Worker>, watch: &Arc<Watch>) -> Option<Slot> {
        let mut slots = self.lock();
        if slots.stopping {
            return None;
        }
        slots.running.push(watch.clone());
        Some(Slot { worker: self.clone(), watch: watch.clone() })
    }

    /// Lets what runs finish, then kills it, and waits until it is gone.
    fn drain(&self) {
        let mut slots = self.lock();
        slots.stopping = true;
        self.changed.notify_all();
        if !slots.running.is_empty() {
            log::info!(
                "stopping: running tasks get {} s count={}",
                DRAIN.as_secs(),
                slots.running.len()
            );
        }
        let busy = |slots: &mut Slots| !slots.running.is_empty();
        slots = self.changed.wait_timeout_while(slots, DRAIN, busy).expect(UNPOISONED).0;
        for watch in &slots.running {
            watch.stop();
        }
        drop(self.changed.wait_timeout_while(slots, KILLING, busy).expect(UNPOISONED));
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().expect(UNPOISONED)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.worker.lock().running.retain(|watch| !Arc::ptr_eq(watch, &self.watch));
        self.worker.changed.notify_all();
    }
}

const UNPOISONED: &str = "nothing panics while it holds the slots";
