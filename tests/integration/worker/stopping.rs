//! SIGTERM: what runs may finish, the rest is back in the queue at once, and nothing is left behind.

use super::*;
use crate::harness::Setup;

/// A worker that has just begun a task which would take for ever; the task and a grandchild of it.
fn at_work(home: &Home, server: &Server, arguments: &[&str]) -> (Worker, String, u32) {
    let worker = Worker::start(home, server, Path::new(STANDIN), arguments);
    let task = ask(&mut server.client(), "SPAWN SLEEP 1000");
    (worker, task, home.grandchild())
}

/// It is queued long before its lease would have ended, and the attempt was given back.
#[track_caller]
fn is_back(server: &Server, task: &str) {
    let now = server.client().task(task);
    assert_eq!((&now["status"], &now["attempts"]), (&json!("queued"), &json!(0)), "{now}");
    assert_eq!(now["last_code"], "worker_stopping");
    assert_eq!(outcomes(&mut server.client(), task), ["released"]);
}

#[test]
fn a_worker_that_stops_lets_its_task_finish_and_takes_no_other() {
    let (server, home) = (Server::start(), Home::new());
    let mut client = server.client();
    let mut worker =
        Worker::start(&home, &server, &home.gated(), &["--max-concurrency", "2", "--grace", "600"]);
    let running = ask(&mut client, "hello");
    eventually("it has begun", || (!home.read("started").is_empty()).then_some(()));
    worker.terminate();
    worker.wait_until_said("running tasks get 600 s");
    let later = ask(&mut client, "too late");
    home.open_gate();
    client.until(&running, "completed");
    assert_eq!(worker.ended(), Some(0));
    assert_eq!(client.task(&later)["attempts"], 0);
    assert_eq!(until_known(&mut client, "fleet-1")["status"], "offline");
}

#[test]
fn a_task_that_does_not_finish_in_the_grace_is_handed_back_at_once() {
    let (server, home) = (Server::start(), Home::new());
    let (mut worker, task, grandchild) = at_work(&home, &server, &["--grace", "0"]);
    worker.terminate();
    assert_eq!(worker.ended(), Some(0));
    is_back(&server, &task);
    assert!(is_gone(grandchild));
}

#[test]
fn a_second_signal_ends_the_grace() {
    let (server, home) = (Server::start(), Home::new());
    let (mut worker, task, grandchild) = at_work(&home, &server, &["--grace", "3600"]);
    worker.terminate();
    worker.wait_until_said("running tasks get 3600 s");
    worker.terminate();
    assert_eq!(worker.ended(), Some(0));
    is_back(&server, &task);
    assert!(is_gone(grandchild));
}

#[test]
fn a_task_that_comes_while_the_worker_stops_is_not_left_lying() {
    let server = Server::start();
    let mut client = server.client();
    for round in 0..8 {
        let home = Home::new();
        let mut worker = Worker::start(&home, &server, Path::new(STANDIN), &["--grace", "600"]);
        worker.wait_until_said("registered");
        let claims = server.said().matches("/claim").count();
        eventually("it waits", || {
            (until_known(&mut client, "fleet-1")["status"] == "online").then_some(())
        });
        let task = std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask(&mut server.client(), "hello"));
            worker.terminate();
            asking.join().expect("it is created")
        });
        assert_eq!(worker.ended(), Some(0), "round {round} after {claims} claims");
        let status = client.task(&task)["status"].clone();
        assert!(status == "queued" || status == "completed", "round {round}: {status}");
        client.act(&task, "cancel", json!({}));
    }
}

#[test]
fn a_server_with_a_worker_hands_its_task_back_when_it_stops() {
    let (home, dir) = (Home::new(), tempfile::tempdir().expect("a folder"));
    let setup = Setup::default();
    let mut command = setup.command(dir.path());
    command.args(["--worker", "--claude", STANDIN]);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", home.0.path()).env("TMPDIR", home.0.path());
    let mut both = Worker::spawn(&home, command);
    let said = both.wait_until_said("listening on http://");
    let (_, rest) = said.split_once("listening on http://").expect("it was said");
    let address = rest.split_whitespace().next().expect("an address");
    let mut client = Client::new(address.parse().expect("an address"));
    let task = ask(&mut client, "SPAWN SLEEP 1000");
    let grandchild = home.grandchild();
    both.terminate();
    both.wait_until_said("running tasks get 10 s");
    both.terminate();
    assert_eq!(both.ended(), Some(0));
    assert!(is_gone(grandchild));
    let server = Setup::default().start_in(std::sync::Arc::new(dir));
    is_back(&server, &task);
}
