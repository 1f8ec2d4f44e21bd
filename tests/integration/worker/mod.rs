//! The worker as a process against the real server, with the stand-in of Claude CLI and, where
//! `BLOOM_REAL_CLAUDE` names one, the real Claude CLI.
//!
//! Not here: the main job and a server that is killed again and again (`main_job.rs`), every shape of
//! an end (`src/worker/tests`).

mod ends;
mod real;
mod starting;
mod stopping;

use crate::harness::{PATIENCE, PROGRAM, Server, TASKS, WORKERS, eventually, id};
use crate::http::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const STANDIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/standin/claude");

/// A home with the stand-in behind a gate: it takes its prompt and waits until the gate is there.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        let home = tempfile::tempdir().expect("a home");
        std::fs::write(home.path().join("worker.env"), "").expect("an empty environment file");
        Home(home)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A script in place of Claude CLI; `$standin` is the stand-in, and only runs of a task come here.
    fn script(&self, script: &str) -> PathBuf {
        let path = self.path("claude");
        let text = format!(
            "#!/bin/sh\nstandin='{STANDIN}'\n\
             case $1 in --version | auth) exec \"$standin\" \"$@\" ;; esac\n{script}\n"
        );
        std::fs::write(&path, text).expect("a script");
        let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, everyone).expect("our file");
        path
    }

    /// The stand-in that waits for [`Home::open_gate`] after it has started.
    fn gated(&self) -> PathBuf {
        self.script(
            "echo $$ >>\"$HOME/started\"\n\
             until [ -e \"$HOME/gate\" ]; do sleep 0.02; done\nexec \"$standin\" \"$@\"",
        )
    }

    fn open_gate(&self) {
        std::fs::write(self.path("gate"), "").expect("our home");
    }

    fn command(&self, server: &str, name: &str, claude: &Path) -> Command {
        let mut command = Command::new(PROGRAM);
        command.env_clear().args(["worker", "--server", server, "--name", name]);
        command.arg("--claude").arg(claude).arg("--env-file").arg(self.path("worker.env"));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.0.path()).env("TMPDIR", self.0.path());
        command
    }

    /// The process that the stand-in left behind, once it is there.
    fn grandchild(&self) -> u32 {
        eventually("a grandchild", || self.read("grandchild").trim().parse().ok())
    }
}

fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

/// A worker process; its log stands in the failure's output.
struct Worker {
    child: Child,
    log: PathBuf,
}

impl Worker {
    fn start(home: &Home, server: &Server, claude: &Path, arguments: &[&str]) -> Worker {
        let mut command = home.command(&server.url(), "fleet-1", claude);
        command.args(arguments);
        Worker::spawn(home, command)
    }

    fn spawn(home: &Home, mut command: Command) -> Worker {
        let log = home.path("worker.log");
        let file = File::options().append(true).create(true).open(&log).expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        Worker { child: command.spawn().expect("the worker starts"), log }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    #[track_caller]
    fn wait_until_said(&self, text: &str) -> String {
        eventually(text, || Some(self.said()).filter(|said| said.contains(text)))
    }

    fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it is not yet waited for");
    }

    /// Waits for the end.
    #[track_caller]
    fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        eventually("the worker's end", || {
            assert!(Instant::now() < deadline);
            self.child.try_wait().expect("the child is ours")
        })
        .code()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- the worker's log ---\n{}---", self.said());
        }
    }
}

/// Waits until the worker is known and may be given tasks.
#[track_caller]
fn until_known(client: &mut Client, name: &str) -> Value {
    eventually("the worker is registered", || {
        let answer = client.get(&format!("{WORKERS}/{name}"));
        (answer.status == 200).then(|| answer.json())
    })
}

/// A new task with this prompt; its id.
fn ask(client: &mut Client, prompt: &str) -> String {
    id(&client.create(json!({ "prompt": prompt })))
}

#[track_caller]
fn result(client: &mut Client, task: &str) -> Value {
    client.get(&format!("{TASKS}/{task}/result")).ok(200)
}

/// The outcomes of a task's attempts, oldest first.
#[track_caller]
fn outcomes(client: &mut Client, task: &str) -> Vec<String> {
    let attempts = client.get(&format!("{TASKS}/{task}/attempts")).ok(200);
    let attempts = attempts.as_array().expect("an array");
    attempts.iter().map(|attempt| attempt["outcome"].as_str().unwrap_or("open").into()).collect()
}

#[track_caller]
fn log_of(client: &mut Client, task: &str) -> Vec<String> {
    let log = client.get(&format!("{TASKS}/{task}/log")).ok(200);
    let lines = log["lines"].as_array().expect("an array");
    lines.iter().map(|line| line["text"].as_str().expect("a text").into()).collect()
}
