//! What is said when the configuration cannot be used: one line with the variable, the fault and a
//! valid example (CONTRACT §5). The process ends with [`crate::exit::CONFIG`].
//!
//! What must stay true: one line, whatever the value held; never a secret's value (P10), so callers
//! quote values with [`shown`] only where the variable holds none.

use std::fmt;

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    subject: String,
    fault: String,
    example: String,
}

impl ConfigError {
    /// `subject` is what to look at (a variable with its place, or a flag), `fault` what is wrong
    /// with it, `example` a line or an argument that would be right.
    pub fn new(
        subject: impl Into<String>,
        fault: impl Into<String>,
        example: impl Into<String>,
    ) -> Self {
        ConfigError { subject: subject.into(), fault: fault.into(), example: example.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; write for example {}", self.subject, self.fault, self.example)
    }
}

impl std::error::Error for ConfigError {}

/// A value as it may stand in a message: quoted, without control characters, at most 60 characters,
/// and nothing behind a `=`: where a line end was lost, the next variable and its secret stand there.
pub fn shown(value: &str) -> String {
    const MAX_CHARS: usize = 60;
    let end = value.find('=').map_or(value.len(), |at| at + 1);
    let start: String = value[..end].chars().take(MAX_CHARS).collect();
    let more = if start.len() < value.len() { "…" } else { "" };
    format!("{start:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_was_glued_to_a_value_is_not_shown() {
        assert_eq!(shown("5000RUNTIME_API_KEY=hunter2"), "\"5000RUNTIME_API_KEY=\"…");
        assert_eq!((shown("a=").as_str(), shown("a").as_str()), ("\"a=\"", "\"a\""));
    }

    #[test]
    fn a_hostile_value_stays_on_one_short_line() {
        let error = ConfigError::new(
            "PORT",
            format!("{} is no port", shown(&"\n\x1b[2J".repeat(99))),
            "PORT=5000",
        );
        let line = error.to_string();
        assert!(line.chars().all(|c| !c.is_control()), "{line}");
        assert!(line.len() < 400, "{line}");
    }
}
