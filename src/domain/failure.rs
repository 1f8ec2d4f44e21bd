//! What the code of a failure means: whether to try again, and whom it was the fault of.
//!
//! Codes are open words, so that a worker may say more than is known here; the known ones have
//! consequences. Must stay true: an unknown code never gives an attempt back, so that nothing goes
//! round for ever. Not here: how a worker finds a code (`worker::claude`), when to try again (`retry`).

/// A code's longest form, in bytes of `[a-z0-9_]`.
pub const CODE_BYTES_MAX: usize = 64;
/// What is kept of the words that come with a task that is handed back, in characters: they stand in
/// the record that every transition rewrites.
pub const NOTE_CHARS_MAX: usize = 300;
/// Provider failures in a row after which a worker rests, and for how long.
pub const PROVIDER_FAILURES_MAX: u32 = 3;
pub const PROVIDER_REST_MS: u64 = 60_000;
/// The longest rest that a worker can ask for: usage limits are weekly at most.
pub const REST_SECONDS_MAX: u32 = 8 * 86_400;

/// A usage limit without a time to it.
const USAGE_LIMIT_REST_MS: u64 = 300_000;
/// A machine that cannot run Claude at the moment.
const UNFIT_REST_MS: u64 = 60_000;

/// Never better the next time: the task itself must change.
const TERMINAL: [&str; 5] =
    ["bad_prompt", "budget_exceeded", "not_allowed", "bad_hint", "agent_rejected"];
/// The provider's fault, not the task's.
const PROVIDER: [&str; 4] =
    ["provider_overloaded", "provider_error", "provider_unreachable", "rate_limited"];
/// The worker's fault, found before anything was done.
const UNFIT: [&str; 5] = [
    "not_logged_in",
    "claude_unavailable",
    "agent_unreachable",
    "agent_refused_key",
    "agent_unavailable",
];

/// Whether trying again is of no use.
pub fn is_terminal(code: &str) -> bool {
    TERMINAL.contains(&code)
}

/// Whether the provider failed, and not the task.
pub fn is_provider_failure(code: &str) -> bool {
    PROVIDER.contains(&code)
}

/// Whether a text can be a code.
pub fn is_code(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=CODE_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// A task on its way back from a worker that did not end it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandBack {
    pub code: String,
    /// At most `NOTE_CHARS_MAX`.
    pub note: Option<String>,
    /// When the worker's trouble is over, if it knows; at most `REST_SECONDS_MAX`.
    pub retry_after_seconds: Option<u32>,
}

impl HandBack {
    /// The task has lost nothing by it.
    pub fn gives_attempt_back(&self) -> bool {
        matches!(self.code.as_str(), "worker_stopping" | "usage_limit" | "push_busy")
            || UNFIT.contains(&self.code.as_str())
    }

    /// Whether the worker had a part in it; otherwise it is no sign of life.
    pub fn is_of_worker(&self) -> bool {
        !matches!(self.code.as_str(), "agent_unreachable" | "agent_died" | "push_busy")
    }

    /// How long the worker takes no tasks.
    pub fn rest_ms(&self) -> Option<u64> {
        let usual_ms = match self.code.as_str() {
            "usage_limit" => USAGE_LIMIT_REST_MS,
            code if UNFIT.contains(&code) => UNFIT_REST_MS,
            _ => return None,
        };
        let asked_ms = self.retry_after_seconds.map(|s| u64::from(s.min(REST_SECONDS_MAX)) * 1000);
        Some(asked_ms.unwrap_or(usual_ms).max(1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hand_back(code: &str, retry_after_seconds: Option<u32>) -> HandBack {
        HandBack { code: code.into(), note: None, retry_after_seconds }
    }

    #[test]
    fn a_limit_rests_the_worker_until_its_reset_and_costs_the_task_nothing() {
        let limited = hand_back("usage_limit", Some(7_200));
        assert!(limited.gives_attempt_back());
        assert_eq!(limited.rest_ms(), Some(7_200_000));
        assert_eq!(hand_back("usage_limit", None).rest_ms(), Some(300_000));
        assert_eq!(hand_back("usage_limit", Some(u32::MAX)).rest_ms(), Some(691_200_000));
        assert_eq!(hand_back("not_logged_in", None).rest_ms(), Some(60_000));
    }

    #[test]
    fn a_worker_that_stops_does_not_rest_and_an_unknown_code_costs_an_attempt() {
        let stopping = hand_back("worker_stopping", Some(9));
        assert_eq!((stopping.gives_attempt_back(), stopping.rest_ms()), (true, None));
        let unknown = hand_back("tired", Some(9));
        assert_eq!((unknown.gives_attempt_back(), unknown.rest_ms()), (false, None));
    }

    #[test]
    fn a_code_is_a_short_snake_case_word() {
        assert!(is_code("usage_limit") && is_code("http_529"));
        let long = "a".repeat(CODE_BYTES_MAX + 1);
        for text in ["", "Usage", "a b", "a-b", "é", &long] {
            assert!(!is_code(text), "{text}");
        }
    }
}
