//! A machine of the fleet that is killed: a home, the stand-in for Claude CLI, and the worker on it.
//!
//! Not here: what befalls it.

use super::{ANOTHER_SECRET, KEY};
use crate::harness::{PROGRAM, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Short, so that what a dead worker held is back soon.
const LEASE_SECONDS: &str = "5";

/// The stand-in, which writes down its environment first. A prompt with QUOTA meets a usage limit the
/// first time that it comes to a machine.
const CLAUDE: &str = "\
case $1 in --version | auth) exec \"$standin\" \"$@\" ;; esac
env >>\"$HOME/environments\"
prompt=$(cat)
case $prompt in *QUOTA*) mkdir \"$HOME/quota\" 2>/dev/null && prompt='LIMIT 2' ;; esac
exec \"$standin\" \"$@\" <<END
$prompt
END
";

/// A fleet machine: its home, and the worker on it, if it is up.
pub struct Machine {
    pub home: tempfile::TempDir,
    pub name: String,
    worker: Option<Child>,
    /// Of every worker that ran here.
    pub pids: Vec<u32>,
    /// Blows until somebody starts it again.
    pub down_for: u64,
    /// Registrations in the log when it was started.
    registered: usize,
}

impl Machine {
    pub fn new(n: u64) -> Machine {
        let home = tempfile::tempdir().expect("a home");
        std::fs::write(home.path().join("worker.env"), "").expect("an environment file");
        let standin = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/standin/claude");
        let claude = home.path().join("claude");
        std::fs::write(&claude, format!("#!/bin/sh\nstandin='{standin}'\n{CLAUDE}"))
            .expect("a script");
        std::fs::set_permissions(&claude, PermissionsExt::from_mode(0o755)).expect("our file");
        Machine {
            home,
            name: format!("fleet-{n}"),
            worker: None,
            pids: Vec::new(),
            down_for: 0,
            registered: 0,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn start(&mut self, server: &str) {
        self.registered = self.registrations();
        let log = File::options().append(true).create(true).open(self.path("worker.log"));
        let mut command = Command::new(PROGRAM);
        command.env_clear().args(["worker", "--server", server, "--name", &self.name]);
        command.args(["--max-concurrency", "2", "--grace", "1"]);
        command.args(["--lease-seconds", LEASE_SECONDS]);
        command.arg("--claude").arg(self.path("claude"));
        command.arg("--env-file").arg(self.path("worker.env"));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.home.path()).env("TMPDIR", self.home.path());
        command.env("RUNTIME_API_KEY", KEY).env("MEMBRIDGE_ADMIN_KEY", ANOTHER_SECRET);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("a log"));
        let worker = command.spawn().expect("the worker starts");
        self.pids.push(worker.id());
        self.worker = Some(worker);
    }

    pub fn start_if_down(&mut self, server: &str) {
        let is_up = |worker: &mut Child| worker.try_wait().expect("it is ours").is_none();
        if !self.worker.as_mut().is_some_and(is_up) {
            self.start(server);
        }
    }

    fn registrations(&self) -> usize {
        let log = std::fs::read_to_string(self.path("worker.log")).unwrap_or_default();
        log.matches("registered worker=").count()
    }

    pub fn signal(&mut self, signal: Signal) {
        if let Some(worker) = &self.worker {
            kill_process(Pid::from_child(worker), signal).expect("it is ours");
        }
    }

    /// Waits for the end of a worker that was told to.
    pub fn wait(&mut self) {
        let Some(mut worker) = self.worker.take() else { return };
        eventually("the worker's end", || worker.try_wait().expect("it is ours"));
    }

    /// Starts a worker if there is none, which ends what a killed one has left, and lets it end in order.
    pub fn wait_for_a_clean_end(&mut self, server: &str) {
        self.signal(Signal::CONT);
        // By then it has cleaned up, and hears what it is told; one that was told before may still go.
        eventually("it has registered", || {
            self.start_if_down(server);
            (self.registrations() > self.registered).then_some(())
        });
        self.signal(Signal::TERM);
        self.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.path("worker.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(15)..].join("\n");
            eprintln!("--- the end of the log of {} ---\n{tail}\n---", self.name);
        }
    }
}
