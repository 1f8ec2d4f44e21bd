//! The worker with the real Claude CLI, which talks to a stand-in of the Messages API on loopback.

use super::*;
use crate::messages::{Messages, QUIET, Reply};

fn claude() -> PathBuf {
    let claude = std::env::var_os("BLOOM_REAL_CLAUDE").map(PathBuf::from);
    claude.filter(|path| path.is_file()).expect(
        "this test runs the real Claude CLI: start it with .ci/run, which installs it, or \
         `npm install @anthropic-ai/claude-code` somewhere and set BLOOM_REAL_CLAUDE to the path \
         of its `claude`",
    )
}

fn start(
    home: &Home,
    server: &Server,
    environment: Vec<(String, String)>,
    more: &[&str],
) -> Worker {
    let mut command = home.command(&server.url(), "fleet-1", &claude());
    command.envs(environment).args(more);
    Worker::spawn(home, command)
}

#[test]
fn the_real_claude_succeeds_fails_and_goes_on_where_it_was() {
    let (server, home) = (Server::start(), Home::new());
    let mut client = server.client();
    let model = Messages::start(Reply::Text("the first answer".into()));
    let worker = start(&home, &server, model.environment(), &["--sessions"]);
    let said = worker.wait_until_said("Claude CLI found");
    assert!(said.contains("(Claude Code)\" login=api_key"), "a key is a login: {said}");
    let first = ask(&mut client, "--the first question");
    client.until(&first, "completed");
    assert_eq!(result(&mut client, &first)["output"], "the first answer");
    let log = log_of(&mut client, &first);
    assert!(log[0].starts_with("Claude CLI 2.") && log[1] == "the first answer", "{log:?}");

    model.reply_with(Reply::Refusal(529));
    let refused = ask(&mut client, "a question of its own");
    client.until(&refused, "failed");
    assert_eq!(result(&mut client, &refused)["code"], "provider_overloaded");

    model.reply_with(Reply::Text("the second answer".into()));
    let second = ask(&mut client, "the second question");
    client.until(&second, "completed");
    assert_eq!(result(&mut client, &second)["output"], "the second answer");
    let asked = model.bodies().pop().expect("it was asked");
    assert!(asked.contains("--the first question") && asked.contains("the first answer"));
    let state = home.path(".local/state/bloom-worker/sessions");
    assert_eq!(state.read_dir().expect("the default place").count(), 1);
}

#[test]
fn the_real_claude_meets_a_usage_limit_and_the_worker_rests_until_its_end() {
    let (server, home) = (Server::start(), Home::new());
    let mut client = server.client();
    let now = client.new_task();
    let created = client.task(&now)["created_at"].as_i64().expect("a time");
    client.act(&now, "cancel", json!({})).ok(200);
    let reset = created / 1000 + 7200;
    let model = Messages::start(Reply::UsageLimit { resets_at: reset });
    let worker = start(&home, &server, model.environment_of_subscriber(), &[]);
    let task = ask(&mut client, "hello");
    let cooling = eventually("the worker rests", || {
        let answer = client.get(&format!("{WORKERS}/fleet-1"));
        (answer.status == 200 && answer.json()["cooling"].is_object())
            .then(|| answer.json()["cooling"].take())
    });
    assert_eq!(cooling["code"], "usage_limit");
    let until = cooling["until"].as_i64().expect("a time");
    assert!((until - reset * 1000).abs() < 120_000, "{cooling}");
    assert!(cooling["message"].as_str().is_some_and(|said| said.contains("session limit")));
    assert_eq!(client.task(&task)["attempts"], 0);
    drop(worker);
}

#[test]
fn the_real_claude_that_is_not_logged_in_gets_no_task() {
    let (server, home) = (Server::start(), Home::new());
    let mut client = server.client();
    let quiet = QUIET.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let task = ask(&mut client, "hello");
    let worker = start(&home, &server, quiet.into(), &[]);
    worker.wait_until_said("Claude CLI is not logged in");
    eventually("the server knows", || {
        let answer = client.get(&format!("{WORKERS}/fleet-1"));
        (answer.status == 200 && answer.json()["capabilities"]["claude_cli"] == false).then_some(())
    });
    assert_eq!(client.task(&task)["attempts"], 0);
}
