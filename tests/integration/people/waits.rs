//! Waiting for a task: the result alone on stdout, the outcome as exit code, through what may come between.

use super::person::{Person, Running};
use crate::harness::{Ended, Server, Setup, TASKS, eventually, failure, id, rows, success, under};
use serde_json::{Value, json};

/// Submits with `--wait`; the task as the server has it.
#[track_caller]
fn submitted(server: &Server, args: &[&str]) -> (Running, Value) {
    let mut all = vec!["submit", "p", "--wait"];
    all.extend(args);
    let waiting = Person::at(server).start(&all);
    let task = eventually("the task", || rows(&server.client().get(TASKS)).pop());
    (waiting, task)
}

/// Lets a worker complete the task.
#[track_caller]
fn complete(server: &Server, task: &str, body: Value) {
    let mut client = server.client();
    client.register("rpi4b", 1);
    let lease = client.lease(task, "rpi4b", 60);
    client.act(task, "complete", under(&lease, body)).ok(200);
}

#[track_caller]
fn outcome(ended: &Ended, code: i32, stdout: &str, said: &str) {
    assert_eq!(ended.code, Some(code), "{}", ended.stderr);
    assert_eq!(ended.stdout, stdout);
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    assert!(
        ended.stderr.lines().all(|line| line.starts_with("bloom-runtime: ")),
        "{}",
        ended.stderr
    );
}

#[test]
fn who_waits_gets_the_result_alone_on_stdout() {
    let server = Server::start();
    let (waiting, task) = submitted(&server, &[]);
    complete(&server, &id(&task), success("Stupice, Glacier\nand Sub-Arctic"));
    outcome(&waiting.end(), 0, "Stupice, Glacier\nand Sub-Arctic\n", &id(&task));
    // Again, from what is kept.
    let person = Person::at(&server);
    assert_eq!(person.says(&["result", &id(&task)]), "Stupice, Glacier\nand Sub-Arctic\n");
    let stored = server.client().get(&format!("{TASKS}/{}/result", id(&task))).text();
    assert_eq!(person.says(&["result", &id(&task), "--json"]), format!("{stored}\n"));
}

#[test]
fn a_failed_task_is_code_1_with_what_it_had_and_why() {
    let server = Server::start();
    let (waiting, task) = submitted(&server, &[]);
    let mut body = failure("time was up\x1b[2J");
    body["output"] = "half an answer\n".into();
    complete(&server, &id(&task), body);
    outcome(&waiting.end(), 1, "half an answer\n", r"failed on rpi4b: time was up\u{1b}[2J");
}

#[test]
fn a_dead_task_is_code_2_and_a_cancelled_one_3() {
    let server = Server::start();
    let mut client = server.client();
    client.register("rpi4b", 1);
    let person = Person::at(&server);
    let dead = id(&client.create(json!({"max_attempts": 1})));
    let said = person.fails(75, &["result", &dead]);
    assert!(said.contains("is queued") && said.contains("--wait"), "{said}");
    client.lease(&dead, "rpi4b", 1);
    let ended = person.run(&["result", &dead, "--wait"]);
    outcome(&ended, 2, "", &format!("bloom-runtime requeue {dead}"));

    let server = Server::start();
    let (waiting, task) = submitted(&server, &[]);
    Person::at(&server).says(&["cancel", &id(&task)]);
    outcome(&waiting.end(), 3, "", "was cancelled");
}

#[test]
fn a_restart_of_the_server_is_waited_through_and_said_once() {
    let mut server = Server::start();
    let (waiting, task) = submitted(&server, &[]);
    waiting.wait_until_said("is queued");
    server.kill9();
    waiting.wait_until_said("waiting until it is back");
    server.restart_on_same_port();
    waiting.wait_until_said("is back");
    complete(&server, &id(&task), success("late"));
    let ended = waiting.end();
    outcome(&ended, 0, "late\n", "is back");
    assert_eq!(ended.stderr.matches("waiting until").count(), 1, "{}", ended.stderr);
}

#[test]
fn ctrl_c_leaves_the_task_and_says_how_to_come_back() {
    let server = Server::start();
    let (waiting, task) = submitted(&server, &[]);
    waiting.wait_until_said("is queued");
    waiting.interrupt();
    let ended = waiting.end();
    outcome(&ended, 130, "", &format!("bloom-runtime result {} --wait", id(&task)));
    assert_eq!(server.client().task(&id(&task))["status"], "queued");
}

#[test]
fn a_key_that_changes_meanwhile_ends_the_waiting() {
    let setup = |key: &str| Setup::default().env("RUNTIME_API_KEY", key);
    let mut server = setup("first").start();
    let person = Person::at(&server).with("RUNTIME_API_KEY", "first");
    let waiting = person.start(&["submit", "p", "--wait"]);
    waiting.wait_until_said("is queued");
    let port = server.address().port();
    server.terminate();
    let dir = server.dir();
    let _server = setup("second").port(port).start_in(dir);
    let ended = waiting.end();
    assert_eq!(ended.code, Some(77), "{}", ended.stderr);
    assert!(ended.stderr.contains("refuses the key from RUNTIME_API_KEY"), "{}", ended.stderr);
}

#[test]
fn ten_megabytes_come_through_a_pipe_byte_by_byte() {
    let server = Server::start();
    let (waiting, task) = submitted(&server, &[]);
    let output = "日本 \x1b[31m\u{202e}\0 tomato\r\n".repeat(10 * 1024 * 1024 / 32);
    complete(&server, &id(&task), success(&output));
    let ended = waiting.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout == output, "{} bytes of {}", ended.stdout.len(), output.len());
}

#[test]
fn a_terminal_gets_the_result_without_what_would_steer_it() {
    let server = Server::start();
    let task = server.client().new_task();
    complete(&server, &task, success("a\x1b]0;title\x07\tb\r\nשלום"));
    let seen = Person::at(&server).sees(&["result", &task], 80);
    assert_eq!(seen, "a\\u{1b}]0;title\\u{7}    b\nשלום\n");
}

/// A worker that runs the task and says lines.
struct Speaker {
    client: crate::http::Client,
    task: String,
    lease: String,
}

impl Speaker {
    #[track_caller]
    fn of(server: &Server, task: &str) -> Speaker {
        let mut client = server.client();
        client.register("rpi4b", 1);
        let lease = client.lease(task, "rpi4b", 60);
        Speaker { client, task: task.to_owned(), lease }
    }

    #[track_caller]
    fn says(&mut self, lines: &[&str]) {
        let body = json!({"lease_id": self.lease, "log": lines});
        self.client.act(&self.task, "heartbeat", body).ok(200);
    }

    #[track_caller]
    fn ends(&mut self, body: Value) {
        let body = under(&self.lease, body);
        self.client.act(&self.task, "complete", body).ok(200);
    }
}

#[test]
fn who_follows_sees_the_log_on_stderr_and_the_result_on_stdout() {
    let server = Server::start();
    let (following, task) = submitted(&server, &["--follow"]);
    let mut speaker = Speaker::of(&server, &id(&task));
    speaker.says(&["reading the files", "evil \x1b[2J\nline"]);
    following.wait_until_said("reading the files");
    speaker.says(&["writing"]);
    speaker.ends(success("done"));
    let ended = following.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "done\n"), "{}", ended.stderr);
    let said: Vec<_> = ended.stderr.lines().skip(1).collect();
    assert_eq!(said, ["reading the files", r"evil \u{1b}[2J line", "writing"]);
}

#[test]
fn a_log_is_read_as_it_is_or_followed_to_the_end() {
    let server = Server::start();
    let task = server.client().new_task();
    let person = Person::at(&server);
    assert_eq!(person.says(&["log", &task]), "");
    let following = person.start(&["log", &task, "--follow"]);
    let mut speaker = Speaker::of(&server, &task);
    speaker.says(&["one", "two"]);
    following.wait_until_shown("two");
    assert_eq!(person.says(&["log", &task]), "one\ntwo\n");
    let asked = server.client().get(&format!("{TASKS}/{task}/log")).text();
    assert_eq!(person.says(&["log", &task, "--json"]), format!("{asked}\n"));
    speaker.ends(failure("no"));
    let ended = following.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), "one\ntwo\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("is failed"), "{}", ended.stderr);
    // What is kept is there for who comes after the end.
    let ended = person.run(&["log", &task, "--follow"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), "one\ntwo\n"));
}

#[test]
fn a_log_goes_on_after_a_restart_of_the_server() {
    let mut server = Server::start();
    let task = server.client().new_task();
    let following = Person::at(&server).start(&["log", &task, "--follow"]);
    let mut speaker = Speaker::of(&server, &task);
    speaker.says(&["before", "and more"]);
    following.wait_until_shown("and more");
    server.kill9();
    following.wait_until_said("waiting until it is back");
    server.restart_on_same_port();
    speaker.client = server.client();
    following.wait_until_said("is back");
    speaker.says(&["after"]);
    following.wait_until_shown("after");
    speaker.ends(success("x"));
    let ended = following.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout.matches("before").count(), 1, "{}", ended.stdout);
    assert_eq!(ended.stdout.matches("after\n").count(), 1, "{}", ended.stdout);
}

#[test]
fn a_stream_that_is_opened_again_repeats_nothing() {
    let server = Server::start();
    let task = server.client().new_task();
    let following = Person::at(&server).start(&["log", &task, "--follow"]);
    let mut speaker = Speaker::of(&server, &task);
    speaker.says(&["early"]);
    following.wait_until_shown("early");
    // The first stream is a short one.
    following.wait_until_said("is running on rpi4b");
    speaker.says(&["late"]);
    speaker.ends(success("x"));
    assert_eq!(following.end().stdout, "early\nlate\n");
}

#[test]
fn the_lines_of_the_next_attempt_are_set_apart() {
    let server = Server::start();
    let task = server.client().new_task();
    let mut speaker = Speaker::of(&server, &task);
    speaker.says(&["first try"]);
    let body = json!({"lease_id": speaker.lease, "code": "worker_stopping"});
    speaker.client.act(&task, "release", body).ok(200);
    Speaker::of(&server, &task).says(&["second try"]);
    let log = Person::at(&server).says(&["log", &task]);
    assert_eq!(log, "first try\n-- attempt 2\nsecond try\n");
}

#[test]
fn who_waits_longer_is_told_why() {
    let server = Server::start();
    let (waiting, task) = submitted(&server, &["--label", "gpu"]);
    let said = waiting.wait_until_said("still queued");
    assert!(said.contains("No worker is registered"), "{said}");
    complete_labelled(&server, &id(&task));
    assert_eq!(waiting.end().code, Some(0));
}

#[track_caller]
fn complete_labelled(server: &Server, task: &str) {
    let mut client = server.client();
    let gpu = json!({"name": "gpu-1", "capabilities": {"labels": ["gpu"]}});
    client.post(crate::harness::WORKERS, gpu).ok(201);
    let lease = client.lease(task, "gpu-1", 60);
    client.act(task, "complete", under(&lease, success("x"))).ok(200);
}
