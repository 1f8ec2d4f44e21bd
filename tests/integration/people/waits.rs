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
