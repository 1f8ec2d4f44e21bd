//! The main job: a task goes in over HTTP, a worker in its own process runs Claude CLI on it, and
//! result, artifact and audit trail are there although the server was killed in the middle.
//!
//! Once with the real Claude CLI, which talks to a stand-in of the Messages API on loopback, and
//! with a stand-in of the CLI for many tasks. The middle is an event, not a moment: the request
//! for a message has arrived, or the task is `running`. Not here: what the worker does with a
//! timeout, a lost lease or a flood; its own tests tell that.

use crate::harness::{PROGRAM, Server, TASKS, column, eventually, id, rows};
use crate::messages::{Messages, Reply};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const STANDIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/standin/claude");
/// The real CLI takes seconds to start on a small machine.
const CLI_PATIENCE: Duration = Duration::from_secs(120);

/// A worker process with a home of its own; its log stands in the failure's output.
struct Worker {
    child: Child,
    home: tempfile::TempDir,
}

impl Worker {
    fn start(
        server: &Server,
        claude: &Path,
        max_concurrency: u32,
        env: &[(String, String)],
    ) -> Worker {
        let home = tempfile::tempdir().expect("a home");
        std::fs::write(home.path().join("worker.env"), "").expect("an empty environment file");
        let log = File::create(home.path().join("worker.log")).expect("a log");
        let mut command = Command::new(PROGRAM);
        command.env_clear().args(["worker", "--server", &server.url(), "--name", "fleet-1"]);
        command.args(["--max-concurrency", &max_concurrency.to_string()]);
        command.arg("--claude").arg(claude).arg("--env-file").arg(home.path().join("worker.env"));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", home.path()).envs(env.iter().map(|(name, value)| (name, value)));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Worker { child: child.expect("the worker starts"), home }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.home.path().join("worker.log"));
            eprintln!("--- the worker's log ---\n{}---", log.unwrap_or_default());
        }
    }
}

/// The finished task with all that has to be there, and nothing twice.
#[track_caller]
fn complete_at_the_end(server: &Server, task: &str, output: &str) -> Value {
    let mut client = server.client();
    let now = client.task(task);
    assert_eq!(
        (&now["status"], &now["worker_id"]),
        (&json!("completed"), &json!("fleet-1")),
        "{now}"
    );
    let result = client.get(&format!("{TASKS}/{task}/result")).ok(200);
    assert_eq!((&result["status"], &result["output"]), (&json!("success"), &json!(output)));
    assert!(result["metrics"]["duration_ms"].is_u64(), "{result}");
    let artifacts = rows(&client.get(&format!("/api/runtime/artifacts?task_id={task}")));
    assert_eq!(column(&artifacts, "id"), [result["artifact_id"].as_str().unwrap()]);
    let content = client.get(&format!("/api/runtime/artifacts/{}/content", id(&artifacts[0])));
    assert_eq!(content.text(), output);
    let mut trail = column(&client.audit_of(task), "action");
    trail.reverse();
    assert_eq!(trail, ["task_created", "task_completed"]);
    let lease = now["lease_id"].as_str().expect("a finished task names its lease");
    assert_eq!(column(&client.audit_of(lease), "action"), ["task_leased"]);
    result
}

#[test]
fn the_real_claude_cli_does_a_task_although_the_server_is_killed_in_the_middle() {
    let claude = std::env::var_os("BLOOM_REAL_CLAUDE").map(PathBuf::from);
    let claude = claude.filter(|path| path.is_file()).expect(
        "this test runs the real Claude CLI: start it with .ci/run, which installs it, or \
         `npm install @anthropic-ai/claude-code` somewhere and set BLOOM_REAL_CLAUDE to the path \
         of its `claude`",
    );
    let model = Messages::start(Reply::Text("Forty-two, and here is why.".into()));
    model.hold();
    let mut server = Server::start();
    let worker = Worker::start(&server, &claude, 1, &model.environment());
    let prompt = "--what is the answer? Привіт \"quoted\"\nsecond line";
    let task = id(&server.client().create(json!({"prompt": prompt})));
    // The middle: the CLI has asked for its message and waits for the answer.
    assert!(model.wait_for_requests(1, CLI_PATIENCE), "the CLI never asked for a message");
    server.kill9();
    server.restart_on_same_port();
    let status = server.client().task(&task)["status"].clone();
    assert!(status == "leased" || status == "running", "P1: the lease is there: {status}");
    model.release();
    server.client().until(&task, "completed");
    let result = complete_at_the_end(&server, &task, "Forty-two, and here is why.");
    assert_eq!(result["metrics"]["tokens_used"], 18, "11 in, 7 out: {result}");
    let asked = model.bodies();
    assert_eq!(asked.len(), 1, "the work was done once");
    let asked: Value = serde_json::from_str(&asked[0]).expect("the CLI sends JSON");
    assert!(asked["messages"].to_string().contains("second line"), "the prompt went in whole");
    drop(worker);
}

/// The stand-in behind a gate: it takes its prompt and waits until the gate is there.
const GATED: &str = "#!/bin/sh\ncase $1 in --version | auth) ;; *) until [ -e \"$HOME/gate\" ]; do sleep 0.02; done ;; esac\n\
    exec \"$(dirname \"$0\")/standin\" \"$@\"\n";

/// The gated stand-in and the stand-in itself in one folder.
fn gated(dir: &Path) -> PathBuf {
    let claude = dir.join("claude");
    std::fs::copy(STANDIN, dir.join("standin")).expect("the stand-in");
    std::fs::write(&claude, GATED).expect("a script");
    let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&claude, everyone).expect("our file");
    claude
}

#[test]
fn many_tasks_go_through_a_worker_although_the_server_is_killed_again_and_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start();
    let worker = Worker::start(&server, &gated(folder.path()), 4, &[]);
    let gate = worker.home.path().join("gate");
    let mut tasks = Vec::new();
    for round in 0..3 {
        for n in 0..8 {
            let prompt = format!("task {n} of round {round}: \"quoted\" і текст");
            tasks.push((id(&server.client().create(json!({"prompt": prompt}))), prompt));
        }
        // Full: no claim is under way whose answer the kill would swallow (such a task would wait
        // for its lease to end, as P5 says).
        eventually("four at work", || {
            let stats = server.client().get("/api/runtime/stats").ok(200);
            (stats["tasks"]["by_status"]["running"] == 4).then_some(())
        });
        server.kill9();
        server.restart_on_same_port();
        std::fs::write(&gate, "").expect("the worker's home");
        for (task, _) in &tasks {
            server.client().until(task, "completed");
        }
        std::fs::remove_file(&gate).expect("our file");
    }
    for (task, prompt) in &tasks {
        complete_at_the_end(&server, task, prompt);
    }
    crate::concurrency::stats_add_up(&mut server.client());
    drop(worker);
}

#[test]
fn what_claude_says_of_its_failure_can_be_read() {
    let server = Server::start();
    let worker = Worker::start(&server, Path::new(STANDIN), 2, &[]);
    let mut client = server.client();
    for (prompt, words) in [("please FAIL", "Overloaded"), ("please EXIT 3", "told to exit")] {
        let task = id(&client.create(json!({"prompt": prompt, "max_attempts": 1})));
        client.until(&task, "failed");
        let result = client.get(&format!("{TASKS}/{task}/result")).ok(200);
        let said = result["error_message"].as_str().unwrap_or_default();
        assert!(said.contains(words), "{result}");
    }
    drop(worker);
}

#[test]
fn our_secrets_are_not_in_claudes_environment() {
    let server =
        crate::harness::Setup::default().env("RUNTIME_API_KEY", "key-of-the-fleet").start();
    let env =
        [("RUNTIME_API_KEY", "key-of-the-fleet"), ("MEMBRIDGE_ADMIN_KEY", "key-of-the-bridge")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let worker = Worker::start(&server, Path::new(STANDIN), 1, &env);
    let mut client = server.client().with_key("key-of-the-fleet");
    let task = id(&client.create(json!({"prompt": "ENV"})));
    client.until(&task, "completed");
    let output = client.get(&format!("{TASKS}/{task}/result")).ok(200)["output"].to_string();
    assert!(output.contains("HOME="), "{output}");
    assert!(!output.contains("key-of-the-"), "P10: {output}");
    drop(worker);
}
