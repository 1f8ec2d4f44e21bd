//! What a worker finds at its start, what it says, and how the server sees it.

use super::*;
use crate::harness::{column, run};

#[test]
fn a_worker_says_in_one_line_what_it_found_and_the_server_shows_where_it_is() {
    let (server, home) = (Server::start(), Home::new());
    let more = ["--label", "arm64", "--max-concurrency", "3"];
    let worker = Worker::start(&home, &server, Path::new(STANDIN), &more);
    let said = worker.wait_until_said("registered");
    assert!(
        said.contains("Claude CLI found version=\"2.1.0 (Claude Code)\" login=api_key"),
        "{said}"
    );
    let seen = until_known(&mut server.client(), "fleet-1");
    assert_eq!(
        seen["capabilities"],
        json!({"claude_cli": true, "max_concurrency": 3, "labels": ["arm64"]})
    );
    assert_eq!((&seen["ip_addrs"], &seen["status"]), (&json!(["127.0.0.1"]), &json!("online")));
}

#[test]
fn a_machine_whose_claude_is_missing_broken_or_logged_out_claims_nothing_and_says_so_once() {
    let server = Server::start();
    let mut client = server.client();
    let task = ask(&mut client, "hello");
    let faults = [
        ("/nowhere/claude", "", "Claude CLI is missing"),
        (STANDIN, "broken", "exited with code 3: error: broken"),
        (STANDIN, "logged-out", "Claude CLI is not logged in"),
    ];
    for (claude, file, fault) in faults {
        let home = Home::new();
        if !file.is_empty() {
            std::fs::write(home.path(file), "").expect("our home");
        }
        let mut worker = Worker::start(&home, &server, Path::new(claude), &[]);
        worker.wait_until_said(fault);
        eventually("the server knows", || {
            let seen = until_known(&mut client, "fleet-1");
            (seen["capabilities"]["claude_cli"] == false && seen["status"] == "online")
                .then_some(())
        });
        worker.terminate();
        assert_eq!(worker.ended(), Some(0));
        assert_eq!(worker.said().matches(fault).count(), 1, "{}", worker.said());
        assert_eq!(home.read("arguments"), "", "Claude was not run");
    }
    assert_eq!(client.task(&task)["attempts"], 0);
}

#[test]
fn an_idle_worker_shows_life_every_20_seconds_and_nothing_is_written_for_it() {
    let (server, home) = (Server::start(), Home::new());
    let worker = Worker::start(&home, &server, Path::new(STANDIN), &[]);
    server.wait_until_said("/claim");
    let registered = || server.said().matches("POST /api/runtime/workers 20").count();
    let before = registered();
    let written = server.written_bytes();
    eventually("another registration", || (registered() > before).then_some(()));
    assert_eq!(server.written_bytes(), written, "P8: nothing has changed");
    let trail = column(&server.client().audit_of("fleet-1"), "action");
    assert_eq!(trail, ["worker_registered"]);
    drop(worker);
}

#[test]
fn a_wrong_agents_file_stops_the_start_with_one_line_that_names_the_fault() {
    let home = Home::new();
    let file = home.path("agents.json");
    std::fs::write(&file, r#"{"writer": {"tools": ["Bash"]}}"#).expect("our home");
    let file = file.to_str().expect("a plain path");
    let worker = ["worker", "--server", "http://127.0.0.1:1", "--name", "w", "--agents", file];
    let serve = ["serve", "--worker", "--agents", file];
    let check = ["check", "--worker", "--agents", file];
    for arguments in [&worker[..], &serve, &check] {
        let ended = run(arguments, &[]);
        assert_eq!(ended.code, Some(64), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains("unknown field `tools`"), "{}", ended.stderr);
    }
}

#[test]
fn what_a_killed_worker_left_running_is_ended_by_the_next_one() {
    let (server, home) = (Server::start(), Home::new());
    let mut client = server.client();
    let mut worker = Worker::start(&home, &server, Path::new(STANDIN), &[]);
    ask(&mut client, "SPAWN SLEEP 1000");
    let grandchild = home.grandchild();
    worker.child.kill().expect("it is ours");
    worker.child.wait().expect("it is ours");
    assert!(!is_gone(grandchild), "nobody was there to end it");
    let worker = Worker::start(&home, &server, Path::new(STANDIN), &[]);
    worker.wait_until_said("cleaned up after an earlier worker");
    eventually("the grandchild is gone", || is_gone(grandchild).then_some(()));
}
