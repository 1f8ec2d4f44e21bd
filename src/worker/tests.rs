//! What becomes of a run's processes, its output and its scratch folder, tried on real processes:
//! the stand-in `tests/standin/claude`, and, where `CLAUDE_REAL` names one, the real Claude CLI.
//!
//! Not here: the worker against a server; that is tested with the real server (`tests/`).
#![allow(clippy::disallowed_methods, reason = "tests read the environment of their own run")]

use super::limits::named_reset;
use super::report::{Report, Status};
use super::task::{Outcome, perform, run_claude};
use super::verdict::{Code, Failure};
use super::watch::{Ending, NEVER, Watch};
use super::zone::offset_seconds;
use super::{
    Agents, DEFAULT_GRACE, DEFAULT_LEASE_SECONDS, Granted, Lease, Policy, Sessions, Task,
    WorkerConfig, child_environment,
};
use crate::client::Client;
use crate::clock::{Clock, SystemClock};
use crate::outgoing::{Dialer, Trust};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

mod ends;
#[path = "../../tests/standin/messages.rs"]
mod messages;
mod processes;
mod real;

const PATIENCE: Duration = Duration::from_secs(20);

/// A machine with a home and a place for scratch folders, both gone after the test.
struct Machine {
    folder: tempfile::TempDir,
    config: WorkerConfig,
    clock: Arc<dyn Clock>,
    watch: Arc<Watch>,
}

impl Machine {
    fn new() -> Machine {
        let standin = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/standin/claude");
        Machine::with_claude(standin, Vec::new())
    }

    fn with_claude(claude: PathBuf, extra: Vec<(String, String)>) -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).into_os_string();
        std::fs::create_dir(path("home")).unwrap();
        std::fs::create_dir(path("tmp")).unwrap();
        let own = [("HOME".into(), path("home")), ("TMPDIR".into(), path("tmp"))];
        let secrets = ["RUNTIME_API_KEY", "MEMBRIDGE_ADMIN_KEY", "MINIO_SECRET_KEY"]
            .map(|name| (name.into(), "a-secret".into()));
        let kept = std::env::vars_os().filter(|(name, _)| name == "PATH");
        let extra = extra.into_iter().map(|(name, value)| (name.into(), value.into()));
        let environment = child_environment(kept.chain(own).chain(secrets).chain(extra));
        let config = WorkerConfig {
            server: "http://127.0.0.1:1".into(),
            dialer: Dialer::new(Trust::own(None)),
            api_key: None,
            name: "w1".into(),
            max_concurrency: 1,
            claude,
            labels: Vec::new(),
            agents: Agents::default(),
            root: None,
            sessions: None,
            grace: DEFAULT_GRACE,
            lease_seconds: DEFAULT_LEASE_SECONDS,
            environment,
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let watch = Arc::new(Watch::new(clock.clone(), NEVER));
        Machine { folder, config, clock, watch }
    }

    fn run(&self, prompt: &str, timeout_sec: u64) -> Outcome {
        self.run_task(&granted(prompt, timeout_sec))
    }

    fn run_task(&self, granted: &Granted) -> Outcome {
        let outcome = run_claude(&self.config, &self.clock, granted, &self.watch);
        let left = self.folder.path().join("tmp").read_dir().unwrap().flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        assert!(
            !left.iter().any(|name| name.to_str().unwrap().starts_with("bloom-run")),
            "{left:?}"
        );
        outcome
    }

    /// For the next run: a watch sees one child only.
    fn again(self) -> Machine {
        Machine { watch: Arc::new(Watch::new(self.clock.clone(), NEVER)), ..self }
    }

    fn report(&self, prompt: &str, timeout_sec: u64) -> Report {
        reported(self.run(prompt, timeout_sec))
    }

    fn handed_back(&self, prompt: &str) -> (Failure, Option<u64>) {
        match self.run(prompt, 60) {
            Outcome::HandBack { failure, retry_after_seconds } => (failure, retry_after_seconds),
            other => panic!("not handed back: {other:?}"),
        }
    }

    /// The flags of the runs so far.
    fn arguments(&self) -> Vec<String> {
        let all = std::fs::read_to_string(self.folder.path().join("home/arguments")).unwrap();
        all.lines().map(str::to_owned).collect()
    }

    /// Runs a task that would take for ever, does `then` once its grandchild is there.
    fn interrupted(&self, prompt: &str, then: impl FnOnce(&Watch)) -> Outcome {
        std::thread::scope(|scope| {
            let running = scope.spawn(|| self.run(prompt, 3600));
            wait_until(|| self.grandchild().is_some());
            then(&self.watch);
            running.join().unwrap()
        })
    }

    /// The process that the stand-in left behind.
    fn grandchild(&self) -> Option<u32> {
        std::fs::read_to_string(self.folder.path().join("home/grandchild"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    fn grandchild_is_gone(&self) {
        let pid = self.grandchild().expect("the stand-in wrote its grandchild's id");
        wait_until(|| {
            // A zombie that waits for its adopter is gone as far as we can see to it.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        });
    }
}

fn granted(prompt: &str, timeout_sec: u64) -> Granted {
    Granted {
        task: Task {
            id: "t1".into(),
            context_id: "c1".into(),
            agent_slug: "writer".into(),
            prompt: prompt.into(),
            context_hints: Vec::new(),
            policy: Policy { timeout_sec, budget: 0.0 },
            desired_format: "text".into(),
        },
        lease: Lease { id: "l1".into(), ttl_seconds: 300 },
    }
}

#[track_caller]
fn reported(outcome: Outcome) -> Report {
    match outcome {
        Outcome::Report(report) => report,
        other => panic!("no report: {other:?}"),
    }
}

#[track_caller]
fn not_reported(outcome: Outcome, expected: Ending) {
    assert!(matches!(outcome, Outcome::Nothing(ending) if ending == expected), "{outcome:?}");
}

fn wait_until(reached: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// With a place for sessions.
fn remembering(machine: Machine) -> Machine {
    let state = machine.folder.path().join("state");
    let sessions = Sessions::new(&state, &machine.config.environment).unwrap();
    let config = WorkerConfig { sessions: Some(sessions), ..machine.config };
    Machine { config, ..machine }
}
