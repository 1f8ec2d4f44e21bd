//! A run's processes, its pipes and its scratch folder: none of them outlives it.

use super::*;

#[test]
fn a_prompt_comes_back_as_an_answer_with_its_tokens() {
    let prompt = "--looks like an option\n\"quotes\" \\ back, tab\t and ці літери";
    let report = Machine::new().report(prompt, 60);
    assert_eq!((report.status, report.output.as_deref()), (Status::Success, Some(prompt)));
    assert_eq!((report.error_message, report.code), (None, None));
    let usage = report.metrics.usage;
    assert_eq!((usage.tokens_used, usage.input_tokens), (Some(18), Some(11)));
    assert_eq!((usage.cost_usd, usage.turns), (Some(0.000235), Some(1)));
    assert_eq!(usage.model.as_deref(), Some("claude-standin"));
}

#[test]
fn a_prompt_larger_than_any_pipe_goes_through() {
    let prompt = "a line of a long prompt\n".repeat(60_000);
    let report = Machine::new().report(&prompt, 60);
    assert_eq!(report.output.as_deref(), Some(prompt.trim_end()));
}

#[test]
fn claude_sees_none_of_our_secrets() {
    let output = Machine::new().report("ENV", 60).output.unwrap();
    assert!(output.contains("HOME=") && !output.contains("a-secret"), "{output}");
}

#[test]
fn a_timeout_ends_grandchildren_too_and_keeps_what_was_written() {
    let machine = Machine::new();
    let report = machine.report("PARTIAL SPAWN SLEEP 1000", 1);
    assert_eq!(report.error_message.as_deref(), Some("Timed out after 1 s"));
    let (status, code) = (report.status, report.code);
    assert_eq!((status, code), (Status::Error, Some(Code::Timeout)));
    assert_eq!(report.output.as_deref(), Some("half of\n\nan answer"));
    assert!((1000..5000).contains(&report.metrics.duration_ms), "TERM was enough: {report:?}");
    machine.grandchild_is_gone();
}

#[test]
fn a_child_that_ignores_term_is_killed_after_its_grace() {
    let machine = Machine::new();
    let report = machine.report("STUBBORN SPAWN SLEEP 1000", 1);
    assert_eq!(report.error_message.as_deref(), Some("Timed out after 1 s"));
    assert!(report.metrics.duration_ms >= 6000, "{report:?}");
    machine.grandchild_is_gone();
}

#[test]
fn a_grandchild_that_outlives_its_parent_is_ended_with_it() {
    for prompt in ["SPAWN", "ESCAPE SLEEP 1"] {
        let machine = Machine::new();
        assert_eq!(machine.report(prompt, 60).status, Status::Success);
        machine.grandchild_is_gone();
    }
}

#[test]
fn a_lost_lease_kills_the_group_at_once_and_reports_nothing() {
    let machine = Machine::new();
    let began = Instant::now();
    let outcome = machine.interrupted("STUBBORN SPAWN SLEEP 1000", |watch| {
        watch.lose_lease(Ending::LeaseLost);
    });
    not_reported(outcome, Ending::LeaseLost);
    assert!(began.elapsed() < Duration::from_secs(4), "no grace for a lost lease");
    machine.grandchild_is_gone();
}

#[test]
fn a_lease_that_cannot_be_trusted_any_more_kills_the_group() {
    let machine = Machine::new();
    let outcome = machine.interrupted("ESCAPE SLEEP 1000", |watch| {
        watch.trust_until(watch.now());
    });
    not_reported(outcome, Ending::Untrusted);
    machine.grandchild_is_gone();
}

#[test]
fn a_worker_that_stops_hands_its_task_back_and_leaves_nothing() {
    for prompt in ["POLITE SPAWN SLEEP 1000", "STUBBORN SPAWN SLEEP 1000"] {
        let machine = Machine::new();
        let outcome = machine.interrupted(prompt, Watch::stop);
        let stopping = matches!(
            &outcome,
            Outcome::HandBack { failure, .. } if failure.code == Code::WorkerStopping
        );
        assert!(stopping, "{prompt}: {outcome:?}");
        machine.grandchild_is_gone();
        let terminated = machine.folder.path().join("home/terminated").exists();
        assert_eq!(terminated, prompt.contains("POLITE"), "it may clean up first");
    }
}

#[test]
fn a_flood_is_ended_long_before_its_time() {
    for prompt in ["FLOOD", "ONELINE"] {
        let report = Machine::new().report(prompt, 600);
        assert_eq!(report.code, Some(Code::OutputTooLarge), "{prompt}");
        assert!(report.error_message.unwrap().contains("more than 15 MiB"));
        assert_eq!(report.output, None);
    }
}

#[test]
fn a_claude_that_is_not_there_is_this_machines_fault() {
    let machine = Machine::with_claude("/nowhere/claude".into(), Vec::new());
    let (failure, _) = machine.handed_back("Hi");
    assert_eq!(failure.code, Code::ClaudeUnavailable);
}

#[test]
fn progress_is_told_as_it_comes_and_is_bounded() {
    let machine = Machine::new();
    machine.report("NOISE RETRY TOOLS", 60);
    let expected = [
        "Claude CLI 2.1.0 with claude-standin",
        "retry 1 of 4 in 0.6 s: overloaded (529)",
        "retry 2 of 4 in 0.6 s: overloaded (529)",
        "Let me look",
        "tool Read",
        "tool Bash",
        "NOISE RETRY TOOLS",
    ];
    assert_eq!(machine.watch.take_lines(), expected);
    let machine = machine.again();
    machine.report("CHATTER 300", 60);
    let lines = machine.watch.take_lines();
    assert_eq!((lines.len(), lines[0].as_str()), (200, "… 103 lines left out"));
}

#[test]
fn nothing_is_started_while_the_lease_is_not_confirmed() {
    let machine = Machine::new();
    machine.watch.trust_until(machine.watch.now());
    let client =
        Arc::new(Client::new(&machine.config.server, None, machine.config.dialer.clone()).unwrap());
    let granted = Arc::new(granted("SPAWN", 60));
    let fault = perform(&machine.config, &client, &machine.clock, &granted, &machine.watch);
    assert_eq!((fault, machine.grandchild()), (None, None));
}
