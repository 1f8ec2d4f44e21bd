//! What an agent's answer, or its silence, means for its task.
//!
//! Must stay true: who could not begin costs the task no attempt; who broke off does; words of an agent are
//! bounded, and our key is in none of them (P9, P10). Not here: what a code leads to (`domain::failure`).

use crate::config::Secret;
use crate::domain::{Completed, CompletionStatus, HandBack, Metrics, NOTE_CHARS_MAX};
use crate::membridge_agent::{ANSWER_BYTES_MAX, CallFault, Reply};
use serde_json::{Map, Value};

/// Characters of an agent's words about a failure.
const WORDS_CHARS_MAX: usize = 4_000;
/// Characters of an answer that is not what was asked for.
const EXCERPT_CHARS: usize = 500;
/// A key that is shorter could be a word of an output.
const KEY_BYTES_HIDDEN_IN_OUTPUT: usize = 8;

/// The end of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Done(Completed),
    Back(HandBack),
}

impl Verdict {
    pub fn back(code: &str, text: String) -> Verdict {
        let note = Some(text.chars().take(NOTE_CHARS_MAX).collect());
        Verdict::Back(HandBack { code: code.into(), note, retry_after_seconds: None })
    }

    /// The code and the words of a call that was no success.
    pub fn trouble(&self) -> Option<String> {
        let (code, words) = match self {
            Verdict::Done(done) => (done.code.as_ref()?, &done.error_message),
            Verdict::Back(given) => (&given.code, &given.note),
        };
        let words: String =
            words.iter().flat_map(|words| words.chars()).take(NOTE_CHARS_MAX).collect();
        Some(format!("{code}: {}", words.replace(char::is_control, " ")))
    }
}

/// What becomes of the task. `took_ms` counts where the agent does not say it; `key` is what no text may hold.
pub fn judge(reply: Result<&Reply, CallFault>, took_ms: u64, key: Option<&Secret>) -> Verdict {
    let judge = Judge { took_ms, key };
    match reply {
        Ok(reply) => judge.answer(reply),
        Err(CallFault::Unreachable(why)) => Verdict::back("agent_unreachable", why),
        Err(CallFault::BrokeOff) => {
            Verdict::back("agent_died", "The connection ended before there was an answer".into())
        }
        Err(CallFault::Silent) => {
            judge.error("timeout", format!("The agent gave no answer within {} s", took_ms / 1000))
        }
        Err(CallFault::NotHttp) => {
            judge.error("agent_garbage", "What the agent answers is not HTTP".into())
        }
        Err(CallFault::TooLarge) => {
            let most = ANSWER_BYTES_MAX >> 20;
            judge.error("agent_garbage", format!("The agent's answer is larger than {most} MiB"))
        }
    }
}

struct Judge<'a> {
    took_ms: u64,
    key: Option<&'a Secret>,
}

impl Judge<'_> {
    fn answer(&self, reply: &Reply) -> Verdict {
        let said = || self.excerpt(&detail(&reply.body));
        let status = reply.status;
        match status {
            200 => self.executed(&reply.body),
            401 | 403 => Verdict::back(
                "agent_refused_key",
                format!(
                    "The agent refuses our key ({status}): MEMBRIDGE_AGENT_KEY is not the agent's"
                ),
            ),
            503 => Verdict::back(
                "agent_unavailable",
                format!("The agent cannot work (503): {}", said()),
            ),
            400 | 422 => self.error(
                "agent_rejected",
                format!("The agent rejects the task ({status}): {}", said()),
            ),
            300..=399 => self.error(
                "agent_error",
                format!("The agent sends us elsewhere ({status}), which is never followed"),
            ),
            _ => self.error("agent_error", format!("The agent answers with {status}: {}", said())),
        }
    }

    fn executed(&self, body: &[u8]) -> Verdict {
        let fields = match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => fields,
            _ => return self.garbage(body),
        };
        match fields.get("ok") {
            Some(Value::Bool(true)) => {
                let output = text(&fields, "output").map(|output| self.hide_in_output(output));
                self.completed(CompletionStatus::Success, output, None, None, &fields)
            }
            Some(Value::Bool(false)) => {
                let output = text(&fields, "stdout").map(|output| self.hide_in_output(output));
                let said =
                    ["error", "stderr", "detail"].into_iter().find_map(|name| text(&fields, name));
                let words = said.map_or_else(|| no_words(&fields), |said| self.words(&said));
                let code = Some("agent_error");
                self.completed(CompletionStatus::Error, output, Some(words), code, &fields)
            }
            _ => self.garbage(body),
        }
    }

    fn garbage(&self, body: &[u8]) -> Verdict {
        let excerpt = self.excerpt(&String::from_utf8_lossy(body));
        self.error("agent_garbage", format!("The agent's answer is none that we know: {excerpt}"))
    }

    fn error(&self, code: &str, words: String) -> Verdict {
        self.completed(CompletionStatus::Error, None, Some(words), Some(code), &Map::new())
    }

    fn completed(
        &self,
        status: CompletionStatus,
        output: Option<String>,
        error_message: Option<String>,
        code: Option<&str>,
        fields: &Map<String, Value>,
    ) -> Verdict {
        let said_ms = fields.get("duration_ms").and_then(Value::as_f64).filter(|ms| *ms >= 0.0);
        let duration_ms = said_ms.map_or(self.took_ms, |ms| ms as u64);
        Verdict::Done(Completed {
            status,
            output,
            error_message,
            code: code.map(Into::into),
            metrics: Metrics { duration_ms, ..Metrics::default() },
            artifact_type: "LLM_RESULT".into(),
            artifact_tags: Vec::new(),
        })
    }

    fn hide_in_output(&self, output: String) -> String {
        match self.key {
            Some(key) if key.expose().len() >= KEY_BYTES_HIDDEN_IN_OUTPUT => hide(key, &output),
            _ => output,
        }
    }

    fn excerpt(&self, said: &str) -> String {
        self.words(said).chars().take(EXCERPT_CHARS).collect()
    }

    /// An agent's words about a failure, without our key, as long as may be.
    fn words(&self, said: &str) -> String {
        let said = self.key.map_or_else(|| said.to_owned(), |key| hide(key, said));
        said.trim().chars().take(WORDS_CHARS_MAX).collect()
    }
}

/// The key goes, as it is and as JSON writes it.
fn hide(key: &Secret, text: &str) -> String {
    const INSTEAD: &str = "[agent key]";
    let quoted = Value::String(key.expose().into()).to_string();
    text.replace(key.expose(), INSTEAD).replace(quoted.trim_matches('"'), INSTEAD)
}

/// A field that says something.
fn text(fields: &Map<String, Value>, name: &str) -> Option<String> {
    match fields.get(name)? {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn no_words(fields: &Map<String, Value>) -> String {
    match fields.get("returncode").and_then(Value::as_i64) {
        Some(code) => format!("Claude ended with exit code {code} and said nothing"),
        None => "The agent does not say what went wrong".into(),
    }
}

/// What an error answer says: FastAPI's `detail`, or whatever there is.
fn detail(body: &[u8]) -> String {
    let fields = serde_json::from_slice::<Map<String, Value>>(body).ok();
    let said = fields.and_then(|fields| text(&fields, "detail"));
    said.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fault: CallFault) -> Verdict {
        judge(Err(fault), 61_500, None)
    }

    fn code(verdict: &Verdict) -> (&str, bool) {
        match verdict {
            Verdict::Done(done) => (done.code.as_deref().unwrap_or(""), false),
            Verdict::Back(given) => (&given.code, given.gives_attempt_back()),
        }
    }

    #[test]
    fn who_could_not_begin_costs_no_attempt_and_who_broke_off_does() {
        let unreachable = CallFault::Unreachable("connection refused".into());
        assert_eq!(code(&of(unreachable)), ("agent_unreachable", true));
        assert_eq!(code(&of(CallFault::BrokeOff)), ("agent_died", false));
        assert_eq!(code(&Verdict::back("push_busy", String::new())), ("push_busy", true));
    }

    #[test]
    fn silence_is_the_end_of_the_tasks_time() {
        let Verdict::Done(done) = of(CallFault::Silent) else { panic!("it is an end") };
        assert_eq!((done.status, done.code.as_deref()), (CompletionStatus::Error, Some("timeout")));
        assert_eq!(done.metrics.duration_ms, 61_500);
        assert_eq!(done.error_message.as_deref(), Some("The agent gave no answer within 61 s"));
    }

    #[test]
    fn words_are_bounded_and_a_line_of_the_log_is_one_line() {
        let long = "ж\n".repeat(9_000);
        let Verdict::Back(given) = Verdict::back("agent_unreachable", long.clone()) else {
            panic!("it goes back")
        };
        assert_eq!(given.note.as_ref().unwrap().chars().count(), NOTE_CHARS_MAX);
        let line = Verdict::Back(given).trouble().unwrap();
        assert!(line.starts_with("agent_unreachable: ж ж") && !line.contains('\n'), "{line}");
        let judge = Judge { took_ms: 0, key: None };
        assert_eq!(judge.words(&long).chars().count(), WORDS_CHARS_MAX);
    }

    #[test]
    fn the_key_is_hidden_before_words_are_cut_and_as_json_writes_it() {
        let key = Secret::new("key\"with\\marks");
        let judge = Judge { took_ms: 0, key: Some(&key) };
        let padded = format!("{}{}", "x".repeat(EXCERPT_CHARS - 4), key.expose());
        assert!(!judge.excerpt(&padded).contains("key\""));
        let quoted = Value::String(key.expose().into()).to_string();
        assert_eq!(judge.words(&quoted), "\"[agent key]\"");
        let short = Secret::new("done");
        let judge = Judge { took_ms: 0, key: Some(&short) };
        assert_eq!(judge.hide_in_output("done: x".into()), "done: x", "a word like any other");
        assert_eq!(judge.words("bad key done"), "bad key [agent key]");
    }
}
