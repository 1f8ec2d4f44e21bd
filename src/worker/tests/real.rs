//! The real Claude CLI under our process handling, against a stand-in of the Messages API:
//! `CLAUDE_REAL=/path/to/claude cargo test --lib -- --ignored real_claude`.

use super::messages::{Messages, Reply};
use super::*;

fn real(environment: Vec<(String, String)>) -> Machine {
    let claude = PathBuf::from(std::env::var_os("CLAUDE_REAL").expect("CLAUDE_REAL names the CLI"));
    Machine::with_claude(claude, environment)
}

#[test]
#[ignore = "needs the real Claude CLI, named by CLAUDE_REAL"]
fn the_real_claude_answers_through_us_and_leaves_nothing_behind() {
    let model = Messages::start(Reply::Text("Hello, «світе»\n".into()));
    let machine = real(model.environment());
    let report = machine.report("--say hello", 60);
    assert_eq!(report.output.as_deref(), Some("Hello, «світе»\n"), "{report:?}");
    let usage = &report.metrics.usage;
    assert_eq!((report.status, usage.tokens_used), (Status::Success, Some(18)));
    assert_eq!(
        (usage.input_tokens, usage.output_tokens, usage.turns),
        (Some(11), Some(7), Some(1))
    );
    assert!(usage.cost_usd.is_some_and(|cost| cost > 0.0), "{usage:?}");
    assert!(usage.model.as_ref().is_some_and(|model| model.starts_with("claude-")), "{usage:?}");
    assert!(model.bodies().iter().any(|body| body.contains("--say hello")));
    let lines = machine.watch.take_lines();
    assert!(lines[0].starts_with("Claude CLI 2.") && lines[1] == "Hello, «світе»", "{lines:?}");
    let projects = machine.folder.path().join("home/.claude/projects");
    assert!(!projects.exists(), "transcripts or memories stay behind");

    let machine = machine.again();
    model.hold();
    let report = machine.report("Hi", 2);
    assert_eq!(report.error_message.as_deref(), Some("Timed out after 2 s"), "{:?}", report.output);
    model.release();
}

#[test]
#[ignore = "needs the real Claude CLI, named by CLAUDE_REAL"]
fn the_real_claude_neither_reads_files_for_a_prompt_nor_takes_it_for_a_command() {
    let model = Messages::start(Reply::Text("ok".into()));
    let mut machine = real(model.environment());
    let secret = machine.folder.path().join("secret.txt");
    std::fs::write(&secret, "what only this machine knows").unwrap();
    for prompt in [format!("@{} and what is in it?", secret.display()), "/cost".into()] {
        assert_eq!(machine.report(&prompt, 60).output.as_deref(), Some("ok"), "{prompt}");
        machine = machine.again();
    }
    let bodies = model.bodies();
    assert_eq!(bodies.len(), 2, "each went to the model");
    assert!(bodies[1].contains("/cost"));
    assert!(!bodies.iter().any(|body| body.contains("what only this machine knows")));
    assert!(bodies.iter().all(|body| !body.contains("\"input_schema\"")), "no tools");
}

#[test]
#[ignore = "needs the real Claude CLI, named by CLAUDE_REAL"]
fn the_real_claude_fails_in_the_ways_that_we_know() {
    let model = Messages::start(Reply::Text("ok".into()));
    let mut machine = real(model.environment());
    for (status, code) in [
        (400, Code::BadPrompt),
        (403, Code::NotAllowed),
        (429, Code::RateLimited),
        (500, Code::ProviderError),
        (529, Code::ProviderOverloaded),
    ] {
        model.reply_with(Reply::Refusal(status));
        let report = machine.report("Hi", 60);
        assert_eq!((report.status, report.code), (Status::Error, Some(code)), "{report:?}");
        machine = machine.again();
    }
    model.reply_with(Reply::Refusal(401));
    let (failure, retry) = machine.handed_back("Hi");
    assert_eq!((failure.code, retry), (Code::NotLoggedIn, None), "{failure:?}");

    let silent = vec![("ANTHROPIC_BASE_URL".to_owned(), "http://127.0.0.1:1".to_owned())];
    let quiet = model.environment().into_iter().filter(|(name, _)| name != "ANTHROPIC_BASE_URL");
    let report = real(silent.iter().cloned().chain(quiet).collect()).report("Hi", 60);
    assert_eq!(report.code, Some(Code::ProviderUnreachable), "{report:?}");

    let (failure, _) = real(silent).handed_back("Hi");
    assert_eq!(failure.code, Code::NotLoggedIn, "{failure:?}");
}

#[test]
#[ignore = "needs the real Claude CLI, named by CLAUDE_REAL"]
fn the_real_claude_names_the_end_of_a_usage_limit_in_two_ways() {
    let model = Messages::start(Reply::Text("ok".into()));
    for hours in [1, 100] {
        let machine = real(model.environment_of_subscriber());
        let now = machine.clock.now().wall / 1000;
        let reset = now + hours * 3600;
        model.reply_with(Reply::UsageLimit { resets_at: reset });
        let (failure, retry) = machine.handed_back("Hi");
        assert_eq!(failure.code, Code::UsageLimit, "{failure:?}");
        let wanted = (hours * 3600) as u64;
        assert!(retry.is_some_and(|got| got <= wanted && got + 60 > wanted), "{retry:?}");
        let in_words = named_reset(&failure.message, now, |zone| {
            offset_seconds(zone, &machine.config.environment, machine.clock.clone())
        });
        let in_words = in_words.expect(&failure.message);
        assert!((reset..=reset + 60).contains(&in_words), "{}", failure.message);
    }
}

#[test]
#[ignore = "needs the real Claude CLI, named by CLAUDE_REAL"]
fn the_real_claude_goes_on_with_a_session_and_begins_anew_when_it_has_forgotten() {
    let model = Messages::start(Reply::Text("ok".into()));
    let machine = remembering(real(model.environment()));
    let projects = machine.folder.path().join("home/.claude/projects");
    assert_eq!(machine.report("the first words", 60).status, Status::Success);
    let machine = machine.again();
    assert_eq!(machine.report("the second words", 60).status, Status::Success);
    let bodies = model.bodies();
    assert!(bodies[1].contains("the first words") && bodies[1].contains("the second words"));
    std::fs::remove_dir_all(&projects).unwrap();
    let machine = machine.again();
    assert_eq!(machine.report("the third words", 60).status, Status::Success);
    let bodies = model.bodies();
    assert!(!bodies[2].contains("the first words") && bodies[2].contains("the third words"));
    let names: Vec<_> = projects.read_dir().unwrap().flatten().map(|e| e.file_name()).collect();
    let work = machine.folder.path().join("state/sessions");
    let work = work.read_dir().unwrap().flatten().next().unwrap().path().join("work");
    let name = work.to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    assert_eq!(names, [name.as_str()], "transcripts stand where they are looked for");
}

#[test]
#[ignore = "needs the real Claude CLI, named by CLAUDE_REAL"]
fn the_real_claude_takes_every_flag_that_an_agent_can_set() {
    let model = Messages::start(Reply::Text("ok".into()));
    let mut machine = real(model.environment());
    machine.config.agents = Agents::parse(
        r#"{"writer": {"model": "sonnet", "allowed_tools": ["Read", "Bash(git log *)"],
                       "permission_mode": "plan", "system_prompt": "--the system's words"}}"#,
    )
    .unwrap();
    let mut granted = granted("Hi", 60);
    granted.task.policy.budget = 0.5;
    assert_eq!(reported(machine.run_task(&granted)).status, Status::Success);
    let body = &model.bodies()[0];
    assert!(body.contains("--the system's words") && body.contains("sonnet"), "{body}");
    assert!(body.contains("\"name\":\"Read\"") && body.contains("\"name\":\"Bash\""));
    assert!(!body.contains("\"name\":\"Write\""), "only the tools that were given");
}
