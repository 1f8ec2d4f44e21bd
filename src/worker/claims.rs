//! The loop that finds Claude, registers, and claims a task whenever a slot is free.
//!
//! One claim at a time: it waits at the server, which wakes it when a task comes. What must stay
//! true: a task is claimed only when there is room for it and Claude was seen to start; trouble is
//! said once and not at every try; no answer, however quick, makes this loop spin. Not here: what
//! is done with a task.

use super::backoff::Backoff;
use super::child::{self, Order};
use super::claude::Exit;
use super::watch::{Ending, NEVER, Watch};
use super::{Granted, Stop, Worker, lease, task};
use crate::client::{CallError, segment};
use crate::clock::Mono;
use serde_json::json;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a claim waits at the server for a task.
const CLAIM_WAIT_SECONDS: u64 = 25;
/// The lease that is asked for. Short, because heartbeats renew it for as long as the task takes: a
/// third of it is how long a cancel takes to arrive, all of it how long a task waits whose claim was
/// granted but never heard of (the server died between its commit and its answer).
const LEASE_SECONDS: u64 = 90;
const CLAIM_TIMEOUT: Duration = Duration::from_secs(CLAIM_WAIT_SECONDS + 10);
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);
const SIGN_OFF_TIMEOUT: Duration = Duration::from_secs(2);
const PROBE_TIMEOUT_MS: u64 = 30_000;
const PROBE_AGAIN: Duration = Duration::from_secs(30);
/// Between tries of what a person has to mend first: a wrong key, a wrong address.
const FOR_A_PERSON: Duration = Duration::from_secs(30);
/// A claim that brings nothing sooner than this did not wait at the server.
const TOO_QUICK: Duration = Duration::from_secs(1);

/// Claims until the worker stops. Should this thread end in any other way, the worker stops too,
/// instead of idling as if nothing were to do.
pub fn claim_until_stopped(worker: &Arc<Worker>) {
    let _ends_with_us = StopOnDrop(worker.stop.clone());
    let mut trouble = Trouble::default();
    while worker.wait_for_room() && !worker.stop.is_set() {
        let pause = match next_step(worker, &mut trouble) {
            Ok(pause) => pause,
            Err(_) if worker.stop.is_set() => return,
            Err(Held { reason, pause }) => {
                trouble.say(reason);
                pause
            }
        };
        worker.stop.wait_for(pause);
    }
}

/// Why nothing could be claimed, and how long to leave it at that.
struct Held {
    reason: String,
    pause: Duration,
}

/// Finds Claude, or registers, or claims: whatever is due. The answer is the pause before the next.
fn next_step(worker: &Arc<Worker>, trouble: &mut Trouble) -> Result<Duration, Held> {
    if !worker.claude_found.load(Ordering::Relaxed) {
        let version = probe(worker).map_err(|reason| Held { reason, pause: PROBE_AGAIN })?;
        log::info!("Claude CLI found version={version:?}");
        worker.claude_found.store(true, Ordering::Relaxed);
        return Ok(Duration::ZERO);
    }
    let outcome = match worker.registered.load(Ordering::Relaxed) {
        true => claim(worker).map(|waited| trouble.over(waited)),
        false => register(worker).map(|()| Duration::ZERO),
    };
    outcome.map_err(|fault| {
        if matches!(fault, CallError::Refused { status: 404, .. }) {
            worker.registered.store(false, Ordering::Relaxed);
        }
        let wait = trouble.backoff.next(fault.retry_after());
        let pause = if needs_a_person(&fault) { wait.max(FOR_A_PERSON) } else { wait };
        Held { reason: fault.to_string(), pause }
    })
}

/// Sets the flag when its thread ends, even by a panic.
struct StopOnDrop(Arc<Stop>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// What was last complained of, and for how long to hold back.
#[derive(Default)]
struct Trouble {
    said: Option<String>,
    backoff: Backoff,
}

impl Trouble {
    fn say(&mut self, fault: String) {
        if self.said.as_ref() != Some(&fault) {
            log::warn!("{fault}; trying again");
            self.said = Some(fault);
        }
    }

    /// A call went well. The pause before the next: none, unless the server did not wait at all.
    fn over(&mut self, waited: bool) -> Duration {
        if self.said.take().is_some() {
            log::info!("all is well again");
        }
        if !waited {
            return self.backoff.next(None);
        }
        self.backoff = Backoff::default();
        Duration::ZERO
    }
}

fn needs_a_person(fault: &CallError) -> bool {
    matches!(fault, CallError::Refused { status: 300..=403, .. })
}

/// The version of the Claude CLI that is there, or what to do about it.
fn probe(worker: &Arc<Worker>) -> Result<String, String> {
    let claude = &worker.config.claude;
    let watch = Arc::new(Watch::new(worker.clock.clone(), NEVER));
    let Some(_slot) = worker.enter(&watch) else { return Err("the worker stops".into()) };
    let order = Order {
        program: claude,
        arguments: &["--version"],
        environment: &worker.config.environment,
        stdin: String::new(),
        timeout_ms: PROBE_TIMEOUT_MS,
    };
    let finished = child::run(order, &watch).map_err(|fault| match fault.kind() {
        io::ErrorKind::NotFound => format!(
            "Claude CLI is missing (no \"{}\"): install it with npm install -g \
             @anthropic-ai/claude-code, or give its path with --claude",
            claude.display()
        ),
        _ => format!("Claude CLI \"{}\" cannot be started: {fault}", claude.display()),
    })?;
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match (finished.ending, finished.exit) {
        (Ending::Exited, Exit::Code(0)) => Ok(words(&finished.stdout)),
        (Ending::Exited, exit) => Err(format!(
            "Claude CLI \"{} --version\" {exit}: {}",
            claude.display(),
            words(&finished.stderr)
        )),
        (ending, _) => Err(format!("Claude CLI \"{}\" did not end: {ending:?}", claude.display())),
    }
}

fn register(worker: &Worker) -> Result<(), CallError> {
    let config = &worker.config;
    let body = json!({
        "name": config.name,
        "status": "online",
        "capabilities": {
            "claude_cli": true,
            "max_concurrency": config.max_concurrency,
            "labels": config.labels,
        },
        "agent_version": env!("CARGO_PKG_VERSION"),
        "os_info": os_info(),
        "install_method": "binary",
    });
    worker.client.post("/api/runtime/workers", &body, REGISTER_TIMEOUT)?;
    worker.registered.store(true, Ordering::Relaxed);
    let (name, server) = (&config.name, worker.client.base());
    log::info!(
        "registered worker={name:?} server={server} max_concurrency={}",
        config.max_concurrency
    );
    Ok(())
}

/// Tells the server that we are going, so that it gives us nothing more in the minute that it would
/// take to notice. One try: a server that is away notices by itself.
pub fn sign_off(worker: &Worker) {
    if worker.registered.load(Ordering::Relaxed) {
        let body = json!({ "name": worker.config.name, "status": "offline" });
        if let Err(fault) = worker.client.post("/api/runtime/workers", &body, SIGN_OFF_TIMEOUT) {
            log::debug!("not signed off: {fault}");
        }
    }
}

/// `linux x86_64 (Alpine Linux v3.22)`.
fn os_info() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let name = name.unwrap_or("unknown").trim_matches('"');
    format!("{} {} ({name})", std::env::consts::OS, std::env::consts::ARCH)
}

/// Claims one task and starts it. False when there was none and the server did not wait for one.
fn claim(worker: &Arc<Worker>) -> Result<bool, CallError> {
    let path = format!("/api/runtime/workers/{}/claim", segment(&worker.config.name));
    let asked = worker.clock.now().mono;
    let wish = json!({ "wait_seconds": CLAIM_WAIT_SECONDS, "lease_seconds": LEASE_SECONDS });
    let answer = worker.client.post(&path, &wish, CLAIM_TIMEOUT)?;
    if answer.status == 204 {
        let waited_ms = worker.clock.now().mono.0 - asked.0;
        return Ok(waited_ms >= TOO_QUICK.as_millis() as u64);
    }
    start(worker, answer.json()?, asked);
    Ok(true)
}

/// Does the task in a thread of its own.
fn start(worker: &Arc<Worker>, granted: Granted, asked: Mono) {
    let trusted_until = lease::trusted_until(asked, granted.lease.ttl_seconds);
    let watch = Arc::new(Watch::new(worker.clock.clone(), trusted_until));
    let Some(slot) = worker.enter(&watch) else {
        log::warn!("{granted} came while stopping; it returns to the queue when its lease ends");
        return;
    };
    let granted = Arc::new(granted);
    let named = granted.clone();
    let spawned = child::spawn_thread("task", move || {
        let worker = &slot.worker;
        if let Err(fault) = task::perform(&worker.config, &worker.client, &granted, &watch) {
            log::error!(
                "{granted} not done, Claude could not be started ({fault}); it returns to the \
                 queue when its lease ends"
            );
            worker.claude_found.store(false, Ordering::Relaxed);
        }
    });
    if let Err(fault) = spawned {
        log::error!("{named} not done, no thread can be started: {fault}");
    }
}
