//! What becomes of a run's processes, its output and its scratch folder, tried on real processes:
//! the stand-in `tests/standin/claude`, and, where `CLAUDE_REAL` names one, the real Claude CLI.
//!
//! Not here: the worker against a server; that is tested with the real server (`tests/`).
#![allow(clippy::disallowed_methods, reason = "tests read the environment of their own run")]

use super::task::{Report, Status, perform, run_claude};
use super::watch::{Ending, NEVER, Watch};
use super::{Granted, Lease, Policy, Task, WorkerConfig, child_environment};
use crate::client::Client;
use crate::clock::SystemClock;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[path = "../../tests/standin/messages.rs"]
mod messages;

const PATIENCE: Duration = Duration::from_secs(20);

/// A machine with a home and a place for scratch folders, both gone after the test.
struct Machine {
    folder: tempfile::TempDir,
    config: WorkerConfig,
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
            api_key: None,
            name: "w1".into(),
            max_concurrency: 1,
            claude,
            labels: Vec::new(),
            environment,
        };
        let watch = Arc::new(Watch::new(Arc::new(SystemClock::new()), NEVER));
        Machine { folder, config, watch }
    }

    fn run(&self, prompt: &str, timeout_sec: u64) -> io::Result<Result<Report, Ending>> {
        let outcome = run_claude(&self.config, &granted(prompt, timeout_sec), &self.watch);
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
        Machine { watch: Arc::new(Watch::new(Arc::new(SystemClock::new()), NEVER)), ..self }
    }

    fn report(&self, prompt: &str, timeout_sec: u64) -> Report {
        self.run(prompt, timeout_sec).expect("the stand-in starts").expect("there is a report")
    }

    /// Runs a task that would take for ever, does `then` once its grandchild is there.
    fn interrupted(&self, prompt: &str, then: impl FnOnce(&Watch)) -> Result<Report, Ending> {
        std::thread::scope(|scope| {
            let running = scope.spawn(|| self.run(prompt, 3600).expect("the stand-in starts"));
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
        task: Task { id: "t1".into(), prompt: prompt.into(), policy: Policy { timeout_sec } },
        lease: Lease { id: "l1".into(), ttl_seconds: 300 },
    }
}

fn wait_until(reached: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_prompt_comes_back_as_an_answer_with_its_tokens() {
    let prompt = "--looks like an option\n\"quotes\" \\ back, tab\t and ці літери";
    let report = Machine::new().report(prompt, 60);
    assert_eq!((report.status, report.output.as_deref()), (Status::Success, Some(prompt)));
    assert_eq!((report.error_message, report.metrics.tokens_used), (None, Some(18)));
}

#[test]
fn a_prompt_larger_than_any_pipe_goes_through() {
    let prompt = "a line of a long prompt\n".repeat(60_000);
    let report = Machine::new().report(&prompt, 60);
    assert_eq!(report.output.as_deref(), Some(prompt.trim_end()));
}

#[test]
fn a_provider_error_is_reported_in_its_words() {
    let report = Machine::new().report("FAIL", 60);
    assert_eq!((report.status, report.output), (Status::Error, None));
    let message = report.error_message.unwrap();
    assert_eq!(message, "API Error: Overloaded (the provider answered 529)");
}

#[test]
fn garbage_a_bad_exit_and_a_signal_are_errors_that_say_what_happened() {
    let reports = ["GARBAGE", "EXIT 7", "DIE"].map(|prompt| Machine::new().report(prompt, 60));
    assert_eq!(reports[0].output.as_deref(), Some("<html>Proxy login</html>"));
    let said = reports.map(|report| report.error_message.unwrap());
    assert!(said[0].contains("not the JSON"), "{said:?}");
    assert_eq!(said[1], "Claude exited with code 7: error: told to exit");
    assert!(said[2].contains("killed by signal 9"), "{said:?}");
}

#[test]
fn claude_sees_none_of_our_secrets() {
    let output = Machine::new().report("ENV", 60).output.unwrap();
    assert!(output.contains("HOME=") && !output.contains("a-secret"), "{output}");
}

#[test]
fn a_timeout_ends_grandchildren_too_and_keeps_what_was_written() {
    let machine = Machine::new();
    let report = machine.report("PARTIAL SPAWN SLEEP 1000", 1);
    assert_eq!(report.error_message.as_deref(), Some("Timed out after 1 s"));
    assert_eq!((report.status, report.output.as_deref()), (Status::Error, Some("half an answer")));
    assert!((1000..5000).contains(&report.metrics.duration_ms), "TERM was enough: {report:?}");
    machine.grandchild_is_gone();
}

#[test]
fn a_child_that_ignores_term_is_killed_after_its_grace() {
    let machine = Machine::new();
    let report = machine.report("STUBBORN SPAWN SLEEP 1000", 1);
    assert_eq!(report.error_message.as_deref(), Some("Timed out after 1 s"));
    assert!(report.metrics.duration_ms >= 6000, "{report:?}");
    machine.grandchild_is_gone();
}

#[test]
fn a_grandchild_that_outlives_its_parent_is_ended_with_it() {
    for prompt in ["SPAWN", "ESCAPE SLEEP 1"] {
        let machine = Machine::new();
        assert_eq!(machine.report(prompt, 60).status, Status::Success);
        machine.grandchild_is_gone();
    }
}

#[test]
fn a_lost_lease_kills_the_group_at_once_and_reports_nothing() {
    let machine = Machine::new();
    let began = Instant::now();
    let outcome = machine.interrupted("STUBBORN SPAWN SLEEP 1000", Watch::lose_lease);
    assert_eq!(outcome.unwrap_err(), Ending::LeaseLost);
    assert!(began.elapsed() < Duration::from_secs(4), "no grace for a lost lease");
    machine.grandchild_is_gone();
}

#[test]
fn a_lease_that_cannot_be_trusted_any_more_kills_the_group() {
    let machine = Machine::new();
    let outcome = machine.interrupted("ESCAPE SLEEP 1000", |watch| {
        watch.trust_until(watch.now());
    });
    assert_eq!(outcome.unwrap_err(), Ending::Untrusted);
    machine.grandchild_is_gone();
}

#[test]
fn a_worker_that_stops_reports_nothing_and_leaves_nothing() {
    let machine = Machine::new();
    let outcome = machine.interrupted("SPAWN SLEEP 1000", Watch::stop);
    assert_eq!(outcome.unwrap_err(), Ending::Stopped);
    machine.grandchild_is_gone();
}

#[test]
fn a_flood_is_ended_long_before_its_time() {
    let report = Machine::new().report("FLOOD", 600);
    assert!(report.error_message.unwrap().contains("more than 15 MiB"));
    assert_eq!(report.output, None);
}

#[test]
fn a_claude_that_is_not_there_is_this_machines_fault() {
    let machine = Machine::with_claude("/nowhere/claude".into(), Vec::new());
    assert_eq!(machine.run("Hi", 60).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn nothing_is_started_while_the_lease_is_not_confirmed() {
    let machine = Machine::new();
    machine.watch.trust_until(machine.watch.now());
    let client = Arc::new(Client::new(&machine.config.server, None).unwrap());
    let granted = Arc::new(granted("SPAWN", 60));
    perform(&machine.config, &client, &granted, &machine.watch).unwrap();
    assert_eq!(machine.grandchild(), None);
}

/// `CLAUDE_REAL=/path/to/claude cargo test --lib -- --ignored real_claude`
#[test]
#[ignore = "needs the real Claude CLI, named by CLAUDE_REAL"]
fn the_real_claude_cli_answers_through_us() {
    let claude = PathBuf::from(std::env::var_os("CLAUDE_REAL").expect("CLAUDE_REAL names the CLI"));
    let model = messages::Messages::start(messages::Reply::Text("Hello, «світе»\n".into()));
    let machine = Machine::with_claude(claude, model.environment());
    let report = machine.report("--say hello", 60);
    assert_eq!(report.output.as_deref(), Some("Hello, «світе»\n"), "{report:?}");
    assert_eq!((report.status, report.metrics.tokens_used), (Status::Success, Some(18)));
    assert!(model.bodies().iter().any(|body| body.contains("--say hello")));

    let machine = machine.again();
    model.reply_with(messages::Reply::Refusal(529));
    let report = machine.report("Hi", 60);
    assert_eq!(report.status, Status::Error, "{report:?}");
    assert!(report.error_message.unwrap().contains("529"));

    let machine = machine.again();
    model.hold();
    let report = machine.report("Hi", 2);
    assert_eq!(report.error_message.as_deref(), Some("Timed out after 2 s"), "{:?}", report.output);
    model.release();
}
