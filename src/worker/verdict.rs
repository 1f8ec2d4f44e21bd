//! What becomes of a run, told from how Claude CLI ended and what was heard of it: an answer, or a
//! failure with its code and a sentence.
//!
//! Pure. Success only when the process exited with 0 *and* its result says `is_error: false` *and*
//! brings a text: `subtype` may say success while the call failed (ECOSYSTEM §3). Not here: running
//! it, and what is done about a failure.

use super::limits::names_reset;
use super::stream::Heard;
use serde::Serialize;
use serde_json::Value;

/// The longest `error_message`, in characters; what is cut is cut from its middle part, never the
/// beginning that names the fault.
const MESSAGE_LIMIT: usize = 4000;
/// The longest name of a model that a server takes, in characters.
const MODEL_CHARS_MAX: usize = 128;

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

/// The kinds of failure that a server and a person can tell apart; on the wire their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    ClaudeError,
    Timeout,
    Killed,
    UnparsableOutput,
    OutputTooLarge,
    InvalidJson,
    ProviderOverloaded,
    ProviderError,
    ProviderUnreachable,
    RateLimited,
    BadPrompt,
    BudgetExceeded,
    NotAllowed,
    BadHint,
    UsageLimit,
    NotLoggedIn,
    ClaudeUnavailable,
    WorkerStopping,
}

impl Code {
    /// Whether the fault is this machine's or its account's: then the task goes back to the queue and
    /// has lost no attempt.
    pub fn is_ours(self) -> bool {
        use Code::{ClaudeUnavailable, NotLoggedIn, UsageLimit, WorkerStopping};
        matches!(self, UsageLimit | NotLoggedIn | ClaudeUnavailable | WorkerStopping)
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    pub message: String,
}

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure { code, message: bounded(message.into()) }
    }
}

/// What a run has used up, as far as Claude says it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Input and output together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_used: Option<u64>,
    /// What the model has read, whether from a cache or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns: Option<u64>,
}

/// The answer of a run by its exit, what was heard and the end of its stderr.
pub fn judge(exit: Exit, heard: &Heard, stderr: &[u8]) -> Result<String, Failure> {
    let Some(said) = &heard.result else {
        return Err(no_result(exit, stderr));
    };
    match (exit, said["is_error"].as_bool(), said["result"].as_str()) {
        (Exit::Code(0), Some(false), Some(result)) => Ok(result.to_owned()),
        (Exit::Code(_), Some(false), Some(_)) => {
            let message = with_stderr(format!("Claude reported success, but {exit}"), stderr);
            Err(Failure::new(Code::ClaudeError, message))
        }
        (Exit::Signal(_), Some(false), _) => Err(no_result(exit, stderr)),
        _ => {
            let message = sentence(exit, said, stderr);
            Err(Failure::new(code_of(said, heard, &message), message))
        }
    }
}

/// What the run has used, with or without an answer.
pub fn usage(heard: &Heard) -> Usage {
    let nothing = Value::Null;
    let said = heard.result.as_ref().unwrap_or(&nothing);
    let count = |name: &str| said["usage"][name].as_u64();
    let cached = ["cache_creation_input_tokens", "cache_read_input_tokens"];
    let cached = cached.iter().filter_map(|name| count(name)).fold(0, u64::saturating_add);
    let input_tokens = count("input_tokens").map(|input| input.saturating_add(cached));
    let output_tokens = count("output_tokens");
    Usage {
        tokens_used: input_tokens
            .zip(output_tokens)
            .map(|(input, output)| input.saturating_add(output)),
        input_tokens,
        output_tokens,
        cost_usd: said["total_cost_usd"].as_f64().filter(|cost| *cost >= 0.0),
        model: heard.model.as_ref().map(|model| model.chars().take(MODEL_CHARS_MAX).collect()),
        turns: said["num_turns"].as_u64(),
    }
}

/// Whether a session that was to be resumed is not there any more.
pub fn session_is_unknown(heard: &Heard) -> bool {
    let errors = heard.result.as_ref().and_then(|said| said["errors"].as_array());
    let mut errors = errors.into_iter().flatten().filter_map(Value::as_str);
    errors.any(|error| error.starts_with("No conversation found"))
}

fn no_result(exit: Exit, stderr: &[u8]) -> Failure {
    match exit {
        Exit::Signal(_) => Failure::new(Code::Killed, format!("Claude {exit}")),
        Exit::Code(0) => Failure::new(
            Code::UnparsableOutput,
            "Claude exited with code 0, but its output is not the JSON it should write; the output \
             is kept",
        ),
        Exit::Code(_) => {
            let message = with_stderr(format!("Claude {exit}"), stderr);
            let code = code_of_words(&message).unwrap_or(Code::ClaudeError);
            Failure::new(code, message)
        }
    }
}

/// The kind of a failure that Claude has reported; `message` is what it says in words.
fn code_of(said: &Value, heard: &Heard, message: &str) -> Code {
    if said["subtype"] == "error_max_budget_usd" {
        return Code::BudgetExceeded;
    }
    let words = code_of_words(message);
    match (said["api_error_status"].as_u64(), heard.error.as_deref()) {
        (_, Some("billing_error")) => Code::UsageLimit,
        (Some(401), _) => Code::NotLoggedIn,
        (Some(403), _) => Code::NotAllowed,
        (Some(429), _) if heard.limit_resets_at.is_some() || names_reset(message) => {
            Code::UsageLimit
        }
        (Some(429), _) => {
            words.filter(|code| *code == Code::UsageLimit).unwrap_or(Code::RateLimited)
        }
        (Some(503 | 529), _) => Code::ProviderOverloaded,
        (Some(500..), _) => Code::ProviderError,
        (Some(400 | 413), _) => words.unwrap_or(Code::BadPrompt),
        (None, Some("authentication_failed")) => Code::NotLoggedIn,
        _ => match words {
            Some(code) => code,
            None if said["permission_denials"].as_array().is_some_and(|list| !list.is_empty()) => {
                Code::NotAllowed
            }
            None => Code::ClaudeError,
        },
    }
}

/// The kind of a failure by the CLI's own words, for those that come without a status.
fn code_of_words(message: &str) -> Option<Code> {
    const WORDS: [(&str, Code); 17] = [
        ("not logged in", Code::NotLoggedIn),
        ("please run /login", Code::NotLoggedIn),
        ("invalid api key", Code::NotLoggedIn),
        ("invalid bearer token", Code::NotLoggedIn),
        ("oauth token", Code::NotLoggedIn),
        ("usage limit", Code::UsageLimit),
        ("you've hit your", Code::UsageLimit),
        ("you've reached your", Code::UsageLimit),
        ("limit reached", Code::UsageLimit),
        ("out of usage", Code::UsageLimit),
        ("out of extra usage", Code::UsageLimit),
        ("credit balance is too low", Code::UsageLimit),
        ("prompt is too long", Code::BadPrompt),
        ("overloaded", Code::ProviderOverloaded),
        ("unable to connect", Code::ProviderUnreachable),
        ("connection to the api was lost", Code::ProviderUnreachable),
        ("connection error", Code::ProviderUnreachable),
    ];
    let message = message.to_lowercase().replace('’', "'");
    WORDS.iter().find(|(words, _)| message.contains(words)).map(|(_, code)| *code)
}

/// The best sentence there is: the result's text, the listed errors, stderr, the subtype.
fn sentence(exit: Exit, said: &Value, stderr: &[u8]) -> String {
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
#[path = "verdict_tests.rs"]
mod tests;
