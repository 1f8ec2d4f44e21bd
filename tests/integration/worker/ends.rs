//! What the server and a person see of a task while it runs and when it ends.

use super::*;
use crate::harness::Setup;

#[test]
fn every_end_has_its_code_and_its_numbers_on_the_result() {
    let (server, home) = (Server::start(), Home::new());
    let worker = Worker::start(&home, &server, Path::new(STANDIN), &["--max-concurrency", "4"]);
    let mut client = server.client();
    for (prompt, code) in [
        ("FAIL", "provider_overloaded"),
        ("REFUSED 400", "bad_prompt"),
        ("BUDGET", "budget_exceeded"),
        ("GARBAGE", "unparsable_output"),
        ("DIE", "killed"),
        ("EXIT 3", "claude_error"),
    ] {
        let task = ask(&mut client, prompt);
        client.until(&task, "failed");
        let result = result(&mut client, &task);
        assert_eq!((&result["status"], &result["code"]), (&json!("error"), &json!(code)));
    }
    let task = ask(&mut client, "hello");
    client.until(&task, "completed");
    let mut metrics = result(&mut client, &task)["metrics"].take();
    assert!(metrics["duration_ms"].take().is_u64());
    let expected = json!({
        "duration_ms": null, "tokens_used": 18, "input_tokens": 11, "output_tokens": 7,
        "cost_usd": 0.000235, "model": "claude-standin", "turns": 1,
    });
    assert_eq!(metrics, expected);
    drop(worker);
}

#[test]
fn a_task_that_meets_one_machines_limit_is_done_by_another_and_has_lost_nothing() {
    let (server, home, other_home) = (Server::start(), Home::new(), Home::new());
    let mut client = server.client();
    let limited = Worker::start(&home, &server, Path::new(STANDIN), &[]);
    until_known(&mut client, "fleet-1");
    let task = ask(&mut client, "LIMIT 5000");
    let cooling = eventually("the worker rests", || {
        let cooling = until_known(&mut client, "fleet-1")["cooling"].take();
        cooling.is_object().then_some(cooling)
    });
    assert_eq!(cooling["code"], "usage_limit");
    let now = client.task(&task);
    assert_eq!((&now["status"], &now["attempts"]), (&json!("queued"), &json!(0)));
    let rest_ms = cooling["until"].as_i64().unwrap() - now["created_at"].as_i64().unwrap();
    assert!((4_000_000..=5_100_000).contains(&rest_ms), "until the reset: {rest_ms}");
    limited.wait_until_said("handed back");
    let claude = other_home.script("sed 's/LIMIT/fine:/' | exec \"$standin\" \"$@\"");
    let other = Worker::spawn(&other_home, other_home.command(&server.url(), "fleet-2", &claude));
    client.until(&task, "completed");
    assert_eq!(outcomes(&mut client, &task), ["released", "success"]);
    assert_eq!(client.task(&task)["worker_id"], "fleet-2");
    drop((limited, other));
}

#[test]
fn a_task_is_handed_back_by_a_machine_whose_login_is_refused() {
    let (server, home) = (Server::start(), Home::new());
    let mut client = server.client();
    let worker = Worker::start(&home, &server, Path::new(STANDIN), &[]);
    let task = ask(&mut client, "REFUSED 401");
    eventually("the worker rests", || {
        let seen = client.get(&format!("{WORKERS}/fleet-1"));
        (seen.status == 200 && seen.json()["cooling"]["code"] == "not_logged_in").then_some(())
    });
    worker.wait_until_said("handed back");
    assert_eq!(client.task(&task)["attempts"], 0);
    assert_eq!(outcomes(&mut client, &task), ["released"]);
}

#[test]
fn what_claude_does_can_be_read_while_it_does_it_and_afterwards() {
    let (server, home) = (Server::start(), Home::new());
    let mut client = server.client();
    let worker = Worker::start(&home, &server, Path::new(STANDIN), &[]);
    let task = ask(&mut client, "RETRY TOOLS SPAWN SLEEP 1000");
    let seen = [
        "Claude CLI 2.1.0 with claude-standin",
        "retry 1 of 4 in 0.6 s: overloaded (529)",
        "retry 2 of 4 in 0.6 s: overloaded (529)",
        "Let me look",
        "tool Read",
        "tool Bash",
    ];
    eventually("progress", || (log_of(&mut client, &task) == seen).then_some(()));
    client.act(&task, "cancel", json!({})).ok(200);
    let grandchild = home.grandchild();
    let short = ask(&mut client, "TOOLS");
    client.until(&short, "completed");
    let expected =
        ["Claude CLI 2.1.0 with claude-standin", "Let me look", "tool Read", "tool Bash", "TOOLS"];
    assert_eq!(log_of(&mut client, &short), expected, "nothing is lost at the end");
    assert!(is_gone(grandchild), "its slot was free: the cancelled one was ended");
    assert!(worker.said().contains("the task is cancelled"));
}

#[test]
fn hints_format_budget_and_agent_of_a_task_reach_claude() {
    let (server, home) = (Server::start(), Home::new());
    let mut client = server.client();
    std::fs::create_dir(home.path("root")).expect("our home");
    std::fs::write(home.path("root/plan.md"), "three beds of beans").expect("our home");
    std::fs::write(home.path("agents.json"), r#"{"reviewer": {"model": "opus"}}"#).expect("a file");
    let (root, agents) = (home.path("root"), home.path("agents.json"));
    let more = ["--root", root.to_str().unwrap(), "--agents", agents.to_str().unwrap()];
    let worker = Worker::start(&home, &server, Path::new(STANDIN), &more);
    let task = id(&client.create(json!({
        "prompt": "look", "agent_slug": "reviewer", "policy": {"budget": 0.5},
        "context_hints": {"file": "plan.md", "lang": "uk"},
    })));
    client.until(&task, "completed");
    let output = result(&mut client, &task)["output"].to_string();
    assert!(output.contains("three beds of beans") && output.contains("- lang: uk"), "{output}");
    let arguments = home.read("arguments");
    assert!(arguments.contains("--model=opus --max-budget-usd=0.5"), "{arguments}");
    let json = json!({"prompt": "SAY {\"beds\": 3}", "desired_format": "json"});
    let task = id(&client.create(json));
    client.until(&task, "completed");
    assert_eq!(result(&mut client, &task)["output"], "{\"beds\": 3}");
    let outside = json!({"context_hints": ["file: ../agents.json"]});
    let task = id(&client.create(outside));
    client.until(&task, "failed");
    assert_eq!(result(&mut client, &task)["code"], "bad_hint");
    drop(worker);
}

#[test]
fn no_secret_of_ours_is_in_claudes_environment_its_flags_or_the_workers_log() {
    let (key, home) = ("key-of-the-fleet", Home::new());
    let server = Setup::default().env("RUNTIME_API_KEY", key).start();
    let mut client = server.client().with_key(key);
    let mut command = home.command(&server.url(), "fleet-1", Path::new(STANDIN));
    command.env("RUNTIME_API_KEY", key).env("LOG_LEVEL", "trace");
    command.envs(["MEMBRIDGE_ADMIN_KEY", "DATABASE_URL"].map(|name| (name, "key-of-another")));
    let worker = Worker::spawn(&home, command);
    let task = ask(&mut client, "ENV");
    client.until(&task, "completed");
    let refused = ask(&mut client, "LOGIN");
    worker.wait_until_said("handed back");
    assert_eq!(client.task(&refused)["attempts"], 0);
    let output = result(&mut client, &task)["output"].to_string();
    assert!(output.contains("HOME="), "{output}");
    for text in [output, home.read("arguments"), worker.said()] {
        assert!(!text.contains("key-of-"), "P10: {text}");
    }
}
