//! How a task runs and what its end is told as: codes, hints, agents, JSON, sessions.

use super::*;

#[test]
fn every_failure_of_a_task_has_its_code_and_says_what_happened() {
    use Code::*;
    for (prompt, code, message) in [
        ("FAIL", ProviderOverloaded, "API Error: Overloaded (the provider answered 529)"),
        ("REFUSED 500", ProviderError, "API Error: 500 words of the provider"),
        ("REFUSED 429", RateLimited, "API Error: 429 words of the provider"),
        ("REFUSED 400", BadPrompt, "API Error: 400 words of the provider"),
        ("REFUSED 403", NotAllowed, "API Error: 403 words of the provider"),
        ("REFUSED 404", ClaudeError, "API Error: 404 words of the provider"),
        ("UNREACHABLE", ProviderUnreachable, "API Error: Unable to connect"),
        ("BUDGET", BudgetExceeded, "error_max_budget_usd: Reached maximum budget ($0.01)"),
        ("DENIED", NotAllowed, "error_during_execution: Permission denied"),
        ("EXIT 7", ClaudeError, "Claude exited with code 7: error: told to exit"),
        ("GARBAGE", UnparsableOutput, "Claude exited with code 0, but its output is not the JSON"),
        ("DIE", Killed, "Claude was killed by signal 9"),
    ] {
        let report = Machine::new().report(prompt, 60);
        assert_eq!((report.status, report.code), (Status::Error, Some(code)), "{prompt}");
        let said = report.error_message.unwrap();
        assert!(said.starts_with(message), "{prompt}: {said}");
        let output = (prompt == "GARBAGE").then_some("<html>Proxy login</html>");
        assert_eq!(report.output.as_deref(), output, "{prompt}");
    }
}

#[test]
fn what_is_this_machines_fault_is_handed_back_with_its_reset_where_it_has_one() {
    let (failure, retry) = Machine::new().handed_back("LOGIN");
    assert_eq!((failure.code, retry), (Code::NotLoggedIn, None));
    let (failure, retry) = Machine::new().handed_back("REFUSED 401");
    assert_eq!((failure.code, retry), (Code::NotLoggedIn, None));
    let (failure, retry) = Machine::new().handed_back("LIMITED You've hit your weekly limit");
    assert_eq!((failure.code, retry), (Code::UsageLimit, None));
    let (failure, retry) = Machine::new().handed_back("LIMIT 5000");
    assert_eq!(failure.code, Code::UsageLimit);
    assert!(retry.is_some_and(|seconds| (4000..=5000).contains(&seconds)), "{retry:?}");
    let machine = Machine::new();
    let reset = machine.clock.now().wall / 1000 + 7000;
    let (_, retry) = machine.handed_back(&format!("LIMITED Claude AI usage limit reached|{reset}"));
    assert!(retry.is_some_and(|seconds| (6000..=7000).contains(&seconds)), "{retry:?}");
}

#[test]
fn a_reset_in_words_is_read_in_the_zone_that_it_names() {
    let machine = Machine::new();
    // Two hours from now, on a clock that is five hours ahead.
    let local = machine.clock.now().wall / 1000 + 5 * 3600 + 7200;
    let (hours, minutes) = (local / 3600 % 24, local / 60 % 60);
    let prompt = format!("LIMITED You've hit your limit · resets {hours}:{minutes:02} (XXX-5)");
    let (failure, retry) = machine.handed_back(&prompt);
    assert_eq!(failure.code, Code::UsageLimit);
    assert!(retry.is_some_and(|seconds| (7000..=7300).contains(&seconds)), "{retry:?}");
}

#[test]
fn a_task_runs_with_the_settings_of_its_agent_and_its_budget() {
    let mut machine = Machine::new();
    machine.config.agents = Agents::parse(
        r#"{"writer": {"model": "opus", "allowed_tools": ["Read"], "timeout_sec": 1}}"#,
    )
    .unwrap();
    let mut granted = granted("SLEEP 1000", 3600);
    granted.task.policy.budget = 0.25;
    let report = reported(machine.run_task(&granted));
    assert_eq!(report.error_message.as_deref(), Some("Timed out after 1 s"));
    let expected = "-p --output-format=stream-json --verbose --include-partial-messages --tools=Read \
                    --allowedTools=Read --model=opus --max-budget-usd=0.25 --no-session-persistence";
    assert_eq!(machine.arguments(), [expected]);
    let machine = Machine::new();
    machine.report("Hi", 60);
    let expected = "-p --output-format=stream-json --verbose --include-partial-messages --tools= \
                    --strict-mcp-config --no-session-persistence";
    assert_eq!(machine.arguments(), [expected]);
}

#[test]
fn hints_are_context_and_a_bad_one_ends_the_task_before_claude_runs() {
    let mut machine = Machine::new();
    let root = machine.folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("a.md"), "the text of a").unwrap();
    machine.config.root = Some(root);
    let mut granted = granted("summarise", 60);
    granted.task.context_hints = vec!["lang: uk".into(), "a.md".into()];
    let output = reported(machine.run_task(&granted)).output.unwrap();
    assert!(output.contains("- lang: uk") && output.contains("the text of a"), "{output}");
    assert!(output.ends_with("The task:\n\nsummarise"), "{output}");
    granted.task.context_hints = vec!["file: ../home/arguments".into()];
    let report = reported(machine.run_task(&granted));
    assert_eq!((report.status, report.code), (Status::Error, Some(Code::BadHint)));
    assert_eq!(machine.arguments().len(), 1, "Claude ran only once");
}

#[test]
fn json_is_asked_for_taken_out_of_its_fence_and_checked() {
    let with = |answer: &str| {
        let mut granted = granted(&format!("SAY {answer}"), 60);
        granted.task.desired_format = "json".into();
        reported(Machine::new().run_task(&granted))
    };
    let report = with("{\"a\": 1}");
    assert_eq!((report.status, report.output.as_deref()), (Status::Success, Some("{\"a\": 1}")));
    let report = with("no JSON");
    assert_eq!((report.status, report.code), (Status::Error, Some(Code::InvalidJson)));
    assert_eq!(report.output.as_deref(), Some("no JSON"), "what was said instead is kept");
}

#[test]
fn a_context_goes_on_where_it_was_and_begins_anew_when_claude_has_forgotten() {
    let machine = remembering(Machine::new());
    assert_eq!(machine.report("first HISTORY", 60).output.as_deref(), Some("first HISTORY"));
    let machine = machine.again();
    let output = machine.report("second HISTORY", 60).output.unwrap();
    assert_eq!(output, "first HISTORY\nsecond HISTORY");
    let of_another = Granted {
        task: Task { context_id: "c2".into(), ..granted("third HISTORY", 60).task },
        ..granted("", 60)
    };
    let machine = machine.again();
    let output = reported(machine.run_task(&of_another)).output.unwrap();
    assert_eq!(output, "third HISTORY");
    // Claude forgets everything.
    for session in machine.folder.path().join("state/sessions").read_dir().unwrap().flatten() {
        for kept in session.path().join("work").read_dir().unwrap().flatten() {
            std::fs::remove_file(kept.path()).unwrap();
        }
    }
    let machine = machine.again();
    assert_eq!(machine.report("fourth HISTORY", 60).output.as_deref(), Some("fourth HISTORY"));
    let machine = machine.again();
    let output = machine.report("fifth HISTORY", 60).output.unwrap();
    assert_eq!(output, "fourth HISTORY\nfifth HISTORY");
    let begun = machine.arguments().iter().filter(|line| line.contains("--session-id=")).count();
    let resumed = machine.arguments().iter().filter(|line| line.contains("--resume=")).count();
    assert_eq!((begun, resumed), (3, 3));
}

#[test]
fn a_task_whose_context_is_at_work_already_runs_without_its_session() {
    let machine = remembering(Machine::new());
    let held = machine.config.sessions.as_ref().unwrap().take("writer", "c1").unwrap();
    assert_eq!(machine.report("Hi", 60).status, Status::Success);
    assert!(machine.arguments()[0].ends_with("--no-session-persistence"));
    drop(held);
}
