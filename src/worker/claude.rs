//! What Claude CLI said, made into a verdict: success with an answer, or a sentence of what failed.
//!
//! Pure. Success only when the process exited with 0 *and* its JSON says `is_error: false` *and*
//! brings a result: `subtype` may say success while the call failed (ECOSYSTEM §3). Not here:
//! running it.

use serde_json::Value;

/// The longest `error_message`, in characters; what is cut is cut from its middle part, never the
/// beginning that names the fault.
const MESSAGE_LIMIT: usize = 4000;

/// What becomes of a task after Claude has ended by itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Claude's answer, or why there is none.
    pub answer: Result<String, String>,
    /// What was written instead of an answer, when that may help a person.
    pub raw_output: Option<String>,
    /// Input and output tokens together, when Claude counted them.
    pub tokens_used: Option<u64>,
}

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

/// Judges one run of `claude -p --output-format json` by its exit, its stdout and the end of its
/// stderr.
pub fn judge(exit: Exit, stdout: &[u8], stderr: &[u8]) -> Verdict {
    let Some(said) = find_result(stdout) else {
        let raw = String::from_utf8_lossy(stdout).trim().to_owned();
        let message = match exit {
            Exit::Code(0) => "Claude exited with code 0, but its output is not the JSON it should \
                              write; the output is kept"
                .to_owned(),
            _ => with_stderr(format!("Claude {exit}"), stderr),
        };
        let raw_output = Some(raw).filter(|raw| !raw.is_empty());
        return Verdict { answer: Err(bounded(message)), raw_output, tokens_used: None };
    };
    let answer = match (exit, said["is_error"].as_bool(), said["result"].as_str()) {
        (Exit::Code(0), Some(false), Some(result)) => Ok(result.to_owned()),
        (_, Some(false), Some(_)) => {
            Err(bounded(with_stderr(format!("Claude reported success, but {exit}"), stderr)))
        }
        _ => Err(bounded(failure(exit, &said, stderr))),
    };
    Verdict { answer, raw_output: None, tokens_used: tokens_used(&said) }
}

/// The object with `"type":"result"`: the whole output; with `verbose` in the user's settings the
/// last of an array; or the last line, when something else was printed before it.
fn find_result(stdout: &[u8]) -> Option<Value> {
    let is_result = |value: &Value| value["type"] == "result";
    let last_line = || {
        let mut lines = stdout.rsplit(|byte| *byte == b'\n');
        lines.find(|line| line.starts_with(b"{")).and_then(|line| serde_json::from_slice(line).ok())
    };
    match serde_json::from_slice(stdout).ok().or_else(last_line)? {
        Value::Array(events) => events.into_iter().rfind(is_result),
        value => Some(value).filter(is_result),
    }
}

/// The best sentence there is: the result's text, the listed errors, stderr, the subtype.
fn failure(exit: Exit, said: &Value, stderr: &[u8]) -> String {
    let listed: Vec<&str> =
        said["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let result = said["result"].as_str().unwrap_or_default().trim();
    let subtype = said["subtype"].as_str().unwrap_or("no result");
    let mut message = match (result.is_empty(), listed.is_empty()) {
        (false, _) => result.to_owned(),
        (true, false) => format!("{subtype}: {}", listed.join("; ")),
        (true, true) => with_stderr(format!("Claude {exit} ({subtype})"), stderr),
    };
    if let Some(status) = said["api_error_status"].as_u64()
        && !message.contains(&status.to_string())
    {
        message.push_str(&format!(" (the provider answered {status})"));
    }
    message
}

fn tokens_used(said: &Value) -> Option<u64> {
    let input = said["usage"]["input_tokens"].as_u64()?;
    let output = said["usage"]["output_tokens"].as_u64()?;
    input.checked_add(output)
}

fn with_stderr(message: String, stderr: &[u8]) -> String {
    match String::from_utf8_lossy(stderr).trim() {
        "" => message,
        words => format!("{message}: {words}"),
    }
}

/// Keeps the beginning and the end, where a long text says most.
fn bounded(text: String) -> String {
    let length = text.chars().count();
    if length <= MESSAGE_LIMIT {
        return text;
    }
    let head: String = text.chars().take(MESSAGE_LIMIT / 2).collect();
    let tail: String = text.chars().skip(length - MESSAGE_LIMIT / 2).collect();
    format!("{head} … {tail}")
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exited with code {code}"),
            Exit::Signal(9) => f.write_str("was killed by signal 9 (KILL; out of memory?)"),
            Exit::Signal(signal) => write!(f, "was ended by signal {signal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// stdout and exit code as the real CLI 2.1.197 gave them, shortened; then the answer.
    const ANSWERS: [(&str, &str, i32, Result<&str, &str>); 12] = [
        (
            "success",
            r#"{"type":"result","subtype":"success","is_error":false,"result":"Hi\n","usage":{"input_tokens":11,"output_tokens":7}}"#,
            0,
            Ok("Hi\n"),
        ),
        (
            "an empty answer is an answer",
            r#"{"type":"result","subtype":"success","is_error":false,"result":""}"#,
            0,
            Ok(""),
        ),
        (
            "verbose in the user's settings makes an array",
            r#"[{"type":"system"},{"type":"result","is_error":false,"result":"Hi"}]"#,
            0,
            Ok("Hi"),
        ),
        (
            "a notice before the JSON",
            "Update available\n{\"type\":\"result\",\"is_error\":false,\"result\":\"Hi\"}\n",
            0,
            Ok("Hi"),
        ),
        (
            "not logged in, although subtype says success",
            r#"{"type":"result","subtype":"success","is_error":true,"result":"Not logged in · Please run /login"}"#,
            1,
            Err("Not logged in · Please run /login"),
        ),
        (
            "provider overloaded",
            r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":529,"result":"API Error: Overloaded"}"#,
            1,
            Err("API Error: Overloaded (the provider answered 529)"),
        ),
        (
            "network",
            r#"{"type":"result","is_error":true,"api_error_status":null,"result":"API Error: Unable to connect to API (ConnectionRefused)"}"#,
            1,
            Err("API Error: Unable to connect to API (ConnectionRefused)"),
        ),
        (
            "budget: no result at all",
            r#"{"type":"result","subtype":"error_max_budget_usd","is_error":true,"errors":["Reached maximum budget ($0.01)"]}"#,
            1,
            Err("error_max_budget_usd: Reached maximum budget ($0.01)"),
        ),
        (
            "no result although no error",
            r#"{"type":"result","subtype":"error_max_turns","is_error":false}"#,
            0,
            Err("Claude exited with code 0 (error_max_turns): words on stderr"),
        ),
        (
            "success in words, failure by exit",
            r#"{"type":"result","is_error":false,"result":"Hi"}"#,
            3,
            Err("Claude reported success, but exited with code 3: words on stderr"),
        ),
        (
            "unknown option: nothing on stdout",
            "",
            1,
            Err("Claude exited with code 1: words on stderr"),
        ),
        ("is_error missing", r#"{"type":"result","result":"Hi"}"#, 0, Err("Hi")),
    ];

    #[test]
    fn every_shape_of_claudes_answer_has_its_verdict() {
        for (name, stdout, code, expected) in ANSWERS {
            let verdict = judge(Exit::Code(code), stdout.as_bytes(), b"words on stderr\n");
            let answer = verdict.answer.as_deref().map_err(String::as_str);
            assert_eq!(answer, expected, "{name}");
        }
    }

    #[test]
    fn output_that_is_no_json_is_kept_for_a_person() {
        for garbage in ["<html>Proxy login</html>", r#"{"type":"other"}"#, "[1]", "\"text\""] {
            let verdict = judge(Exit::Code(0), garbage.as_bytes(), b"");
            assert!(verdict.answer.unwrap_err().contains("not the JSON"), "{garbage}");
            assert_eq!(verdict.raw_output.as_deref(), Some(garbage));
        }
    }

    #[test]
    fn a_signal_is_named() {
        let verdict = judge(Exit::Signal(9), b"", b"");
        assert!(verdict.answer.unwrap_err().starts_with("Claude was killed by signal 9"));
    }

    #[test]
    fn tokens_are_input_and_output_together_or_nothing() {
        let with = |usage: &str| {
            let said =
                format!(r#"{{"type":"result","is_error":false,"result":"","usage":{usage}}}"#);
            judge(Exit::Code(0), said.as_bytes(), b"").tokens_used
        };
        assert_eq!(with(r#"{"input_tokens":11,"output_tokens":7}"#), Some(18));
        assert_eq!(with(r#"{"input_tokens":11}"#), None);
        assert_eq!(with("null"), None);
    }

    #[test]
    fn a_long_message_keeps_its_beginning_and_its_end() {
        let stderr = format!("first{}last", "ї".repeat(100_000));
        let message = judge(Exit::Code(1), b"", stderr.as_bytes()).answer.unwrap_err();
        assert!(message.starts_with("Claude exited with code 1: first"));
        assert!(message.ends_with("last") && message.chars().count() < MESSAGE_LIMIT + 10);
    }
}
