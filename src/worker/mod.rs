//! The worker: a process on a fleet machine that claims tasks and runs Claude CLI on them.
//!
//! It is a client of the API like any other and knows nothing of the engine. Threads and blocking
//! calls, no async: a worker does at most 32 things at once. What must stay true: no process is
//! left behind in any path ([`child`]); nothing is reported under a lease that is not ours
//! ([`task`]); none of our secrets reaches Claude ([`environment`]); when told to stop, it claims
//! nothing more, lets running tasks have their grace and then hands them back. Not here: updates.

mod agents;
mod backoff;
mod child;
mod claims;
mod environment;
mod hints;
mod lease;
mod leftovers;
mod limits;
mod presence;
mod probe;
mod progress;
mod prompt;
mod report;
mod sessions;
mod stop;
mod stream;
mod task;
#[cfg(test)]
mod tests;
mod verdict;
mod watch;
mod zone;

pub use agents::Agents;
pub use environment::child_environment;
pub use sessions::Sessions;
pub use stop::Stop;

use crate::client::{BadAddress, Client};
use crate::clock::Clock;
use crate::outgoing::Dialer;
use serde::Deserialize;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;
use watch::Watch;

/// How long one call may take that somebody waits for who wants the worker to end.
const STOPPING_CALL: Duration = Duration::from_secs(5);
/// What the end of those that got no more time may take: TERM, KILL, and one call to hand it back.
const KILLING: Duration =
    Duration::from_millis(child::GRACE_MS + 1_000).saturating_add(STOPPING_CALL);
/// How long the answer to a claim is waited for that was granted just before we signed off.
const LAST_CLAIM: Duration = Duration::from_millis(500);
/// What a task gets when the worker is told to stop and nothing else was said.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// A lease when nothing else was said. Short, because heartbeats renew it for as long as the task takes:
/// it is how long a task waits whose machine died, or whose claim was granted but never heard of (the
/// server died between its commit and its answer).
pub const DEFAULT_LEASE_SECONDS: u32 = 90;

/// Everything that a worker has to be told. No `Debug`: it holds the key (P10).
pub struct WorkerConfig {
    /// `http[s]://host[:port][/prefix]`.
    pub server: String,
    /// Whom it believes to be that server.
    pub dialer: Dialer,
    pub api_key: Option<String>,
    /// 1 to 128 characters; the worker's id at the server.
    pub name: String,
    /// 1 to 32.
    pub max_concurrency: u32,
    /// A program's name, looked up in the child's PATH, or a path.
    pub claude: PathBuf,
    pub labels: Vec<String>,
    pub agents: Agents,
    /// Where the files are that tasks may name as context; none: nowhere.
    pub root: Option<PathBuf>,
    /// None: each task is a conversation of its own, of which nothing is kept.
    pub sessions: Option<Sessions>,
    /// What running tasks get to finish once the worker is told to stop.
    pub grace: Duration,
    /// The lease that is asked for.
    pub lease_seconds: u32,
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
    let client =
        Arc::new(Client::new(&config.server, config.api_key.take(), config.dialer.clone())?);
    let worker = Arc::new(Worker {
        config,
        client,
        clock,
        stop,
        readiness: Mutex::new(Readiness::Unknown),
        presence: Mutex::default(),
        slots: Mutex::default(),
        changed: Condvar::new(),
    });
    for agent in worker.config.agents.unguarded() {
        log::warn!("agent {agent:?} may do anything on this machine: bypassPermissions");
    }
    leftovers::end_orphans(leftovers::scratch_base(&worker.config.environment));
    let spawn = |name: &str, work: fn(&Arc<Worker>)| {
        let worker = worker.clone();
        child::spawn_thread(name, move || work(&worker))
            .map_err(|fault| BadWorker(format!("no thread can be started: {fault}")))
    };
    spawn("claims", claims::claim_until_stopped)?;
    spawn("presence", |worker| presence::keep(worker))?;
    spawn("hurry", |worker| {
        worker.stop.wait_at_once();
        worker.change(|slots| slots.hurried = true);
    })?;
    worker.stop.wait();
    presence::sign_off(&worker);
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
    context_id: String,
    agent_slug: String,
    prompt: String,
    context_hints: Vec<String>,
    policy: Policy,
    desired_format: String,
}

impl Task {
    fn wants_json(&self) -> bool {
        self.desired_format == "json"
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Policy {
    timeout_sec: u64,
    /// US dollars; 0 for no limit.
    budget: f64,
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
    readiness: Mutex<Readiness>,
    presence: Mutex<Presence>,
    slots: Mutex<Slots>,
    changed: Condvar,
}

/// Whether tasks can be done here.
#[derive(Clone, Debug)]
enum Readiness {
    /// To be found out.
    Unknown,
    Ready,
    /// A task has found that they cannot, and why.
    Failed(String),
}

/// What the server knows of us. Held while it is told, so that the last word is the last.
#[derive(Default)]
struct Presence {
    /// False again when the server does not know us.
    registered: bool,
    signed_off: bool,
}

#[derive(Default)]
struct Slots {
    running: Vec<Arc<Watch>>,
    stopping: bool,
    /// No more time for what runs.
    hurried: bool,
    claims_over: bool,
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

    /// Lets what runs finish, then ends it and hands it back, and waits until it is gone.
    fn drain(&self) {
        let mut slots = self.lock();
        slots.stopping = true;
        self.changed.notify_all();
        let claiming = |slots: &mut Slots| !slots.claims_over && !slots.hurried;
        slots = self.changed.wait_timeout_while(slots, LAST_CLAIM, claiming).expect(UNPOISONED).0;
        if !slots.running.is_empty() {
            let (grace, count) = (self.config.grace.as_secs(), slots.running.len());
            log::info!("stopping: running tasks get {grace} s count={count}");
        }
        let busy = |slots: &mut Slots| !slots.running.is_empty() && !slots.hurried;
        let waited = self.changed.wait_timeout_while(slots, self.config.grace, busy);
        slots = waited.expect(UNPOISONED).0;
        for watch in &slots.running {
            watch.stop();
        }
        let left = |slots: &mut Slots| !slots.running.is_empty();
        drop(self.changed.wait_timeout_while(slots, KILLING, left).expect(UNPOISONED));
    }

    fn claims_are_over(&self) {
        self.change(|slots| slots.claims_over = true);
    }

    fn readiness(&self) -> Readiness {
        self.readiness.lock().expect(UNPOISONED).clone()
    }

    fn is_ready(&self) -> bool {
        matches!(self.readiness(), Readiness::Ready)
    }

    fn be(&self, readiness: Readiness) {
        *self.readiness.lock().expect(UNPOISONED) = readiness;
    }

    fn presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().expect(UNPOISONED)
    }

    fn is_registered(&self) -> bool {
        self.presence().registered
    }

    fn change(&self, how: impl FnOnce(&mut Slots)) {
        how(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().expect(UNPOISONED)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Also where a thread ended badly: nobody may keep the lease of what nobody does.
        self.watch.report_done();
        self.worker.change(|slots| slots.running.retain(|watch| !Arc::ptr_eq(watch, &self.watch)));
    }
}

const UNPOISONED: &str = "nothing panics while it holds the slots";
