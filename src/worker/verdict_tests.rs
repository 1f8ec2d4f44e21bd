//! The verdict on every shape of an end that was seen with the real CLI 2.1.197.

use super::*;

/// What the real CLI says at the end of a failed run, shortened.
fn failed(status: &str, result: &str) -> String {
    format!(
        r#"{{"type":"result","subtype":"success","is_error":true,"api_error_status":{status},"result":"{result}"}}"#
    )
}

fn heard(result: &str, error: Option<&str>) -> Heard {
    Heard {
        result: serde_json::from_str(result).ok(),
        error: error.map(str::to_owned),
        ..Heard::default()
    }
}

fn verdict(result: &str, error: Option<&str>, code: i32) -> Result<String, Failure> {
    judge(Exit::Code(code), &heard(result, error), b"words on stderr\n")
}

#[test]
fn an_answer_is_an_answer_even_an_empty_one() {
    for answer in ["Hi\n", ""] {
        let said = serde_json::json!({"type":"result","is_error":false,"result":answer});
        assert_eq!(verdict(&said.to_string(), None, 0), Ok(answer.to_owned()));
    }
}

#[test]
fn every_failure_of_the_real_cli_has_its_code() {
    use Code::*;
    let cases = [
        ("null", "Not logged in · Please run /login", Some("authentication_failed"), NotLoggedIn),
        (
            "401",
            "Failed to authenticate. API Error: 401 x",
            Some("authentication_failed"),
            NotLoggedIn,
        ),
        (
            "403",
            "Failed to authenticate. API Error: 403 x",
            Some("authentication_failed"),
            NotAllowed,
        ),
        ("429", "API Error: Request rejected (429) · too many", Some("rate_limit"), RateLimited),
        (
            "429",
            "You've hit your session limit · resets 12:40pm (UTC)",
            Some("rate_limit"),
            UsageLimit,
        ),
        ("429", "You've hit your monthly spend limit.", Some("rate_limit"), UsageLimit),
        ("429", "… · Claude AI usage limit reached|1795229275", Some("rate_limit"), UsageLimit),
        ("400", "Credit balance is too low", Some("billing_error"), UsageLimit),
        ("400", "API Error: 400 words of 400", Some("unknown"), BadPrompt),
        ("400", "Prompt is too long · the request is", Some("invalid_request"), BadPrompt),
        ("413", "Request too large (max 32MB).", Some("invalid_request"), BadPrompt),
        ("404", "There's an issue with the selected model", Some("model_not_found"), ClaudeError),
        ("500", "API Error: 500 words of 500.", Some("server_error"), ProviderError),
        ("503", "API Error: 503 words of 503.", Some("server_error"), ProviderOverloaded),
        ("529", "API Error: 529 words of 529.", Some("server_error"), ProviderOverloaded),
        (
            "null",
            "API Error: Repeated 529 Overloaded errors.",
            Some("server_error"),
            ProviderOverloaded,
        ),
        (
            "null",
            "API Error: Unable to connect to API (ConnectionRefused)",
            Some("server_error"),
            ProviderUnreachable,
        ),
        (
            "null",
            "API Error: Connection to the API was lost (ECONNRESET).",
            None,
            ProviderUnreachable,
        ),
        ("null", "something new", None, ClaudeError),
    ];
    for (status, result, error, code) in cases {
        let failure = verdict(&failed(status, result), error, 1).unwrap_err();
        assert_eq!(failure.code, code, "{result}");
        assert!(failure.message.starts_with(result), "{}", failure.message);
    }
}

#[test]
fn a_429_with_a_limit_event_is_a_usage_limit_whatever_it_says() {
    let mut heard = heard(&failed("429", "API Error: Request rejected (429)"), Some("rate_limit"));
    heard.limit_resets_at = Some(1_795_524_043);
    assert_eq!(judge(Exit::Code(1), &heard, b"").unwrap_err().code, Code::UsageLimit);
}

#[test]
fn what_is_not_said_in_the_result_is_found_elsewhere() {
    let cases = [
        (
            r#"{"type":"result","subtype":"error_max_budget_usd","is_error":true,"errors":["Reached maximum budget ($0.01)"]}"#,
            1,
            Code::BudgetExceeded,
            "error_max_budget_usd: Reached maximum budget ($0.01)",
        ),
        (
            r#"{"type":"result","subtype":"error_during_execution","is_error":true,"permission_denials":[{"tool_name":"Bash"}],"errors":["denied"]}"#,
            1,
            Code::NotAllowed,
            "error_during_execution: denied",
        ),
        (
            r#"{"type":"result","subtype":"error_max_turns","is_error":false}"#,
            0,
            Code::ClaudeError,
            "Claude exited with code 0 (error_max_turns): words on stderr",
        ),
        (
            r#"{"type":"result","is_error":false,"result":"Hi"}"#,
            3,
            Code::ClaudeError,
            "Claude reported success, but exited with code 3: words on stderr",
        ),
        ("", 1, Code::ClaudeError, "Claude exited with code 1: words on stderr"),
        (r#"{"type":"result","result":"Hi"}"#, 0, Code::ClaudeError, "Hi"),
    ];
    for (result, code, expected, message) in cases {
        let failure = verdict(result, None, code).unwrap_err();
        assert_eq!((failure.code, failure.message.as_str()), (expected, message));
    }
    assert_eq!(verdict("", None, 0).unwrap_err().code, Code::UnparsableOutput);
}

#[test]
fn a_signal_is_named_whatever_was_said_before() {
    for result in ["", r#"{"type":"result","is_error":false,"result":"Hi"}"#] {
        let failure = judge(Exit::Signal(9), &heard(result, None), b"").unwrap_err();
        assert_eq!(failure.code, Code::Killed);
        assert!(failure.message.starts_with("Claude was killed by signal 9"));
    }
}

#[test]
fn a_session_that_claude_does_not_know_is_noticed() {
    let said = r#"{"type":"result","is_error":true,"errors":["No conversation found with session ID: 1"]}"#;
    assert!(session_is_unknown(&heard(said, None)));
    assert!(!session_is_unknown(&heard(&failed("429", "x"), None)));
    assert!(!session_is_unknown(&heard("", None)));
}

#[test]
fn usage_is_what_claude_counted_or_nothing() {
    let mut said = heard(
        r#"{"usage":{"input_tokens":11,"output_tokens":7,"cache_read_input_tokens":100,"cache_creation_input_tokens":1000},"total_cost_usd":0.25,"num_turns":3}"#,
        None,
    );
    said.model = Some("m".repeat(500));
    let used = usage(&said);
    assert_eq!((used.input_tokens, used.output_tokens), (Some(1111), Some(7)));
    assert_eq!((used.tokens_used, used.cost_usd, used.turns), (Some(1118), Some(0.25), Some(3)));
    assert_eq!(used.model.unwrap().len(), 128);
    assert_eq!(usage(&heard(r#"{"usage":{"input_tokens":11}}"#, None)).tokens_used, None);
    assert_eq!(usage(&Heard::default()), Usage::default());
}

#[test]
fn a_long_message_keeps_its_beginning_and_its_end() {
    let stderr = format!("first{}last", "ї".repeat(100_000));
    let failure = judge(Exit::Code(1), &Heard::default(), stderr.as_bytes()).unwrap_err();
    assert!(failure.message.starts_with("Claude exited with code 1: first"));
    assert!(failure.message.ends_with("last"));
    assert!(failure.message.chars().count() < MESSAGE_LIMIT + 10);
}
