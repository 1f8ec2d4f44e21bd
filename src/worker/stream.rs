//! What Claude CLI says while it works: the lines of `--output-format stream-json --verbose
//! --include-partial-messages`, read as they come.
//!
//! Pure. Must stay true: memory is bounded by one line, the assistant's text so far and the result,
//! whatever is written; a line that is not what we know is passed over, never a reason to fail. Seen
//! with CLI 2.1.197: `system` (`init`, `api_retry`), `stream_event` (pieces of a message), `assistant`
//! (a finished piece of a message), `user` (what tools answered), `rate_limit_event` (subscriptions
//! only) and at the end `result`. Not here: what a result means ([`super::verdict`]).

use super::child::{Output, TooMuch};
use super::progress::one_line;
use serde_json::Value;

/// The longest line, and the most that is taken of what is no such line. With the task's ids and
/// metrics around it, a result of this size stays under the 16 MiB that a server takes for a body.
pub const LINE_BYTES_MAX: usize = 15 * 1024 * 1024;
/// How much is kept of the assistant's text before there is a result, in bytes.
const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// How much is kept of what is no line of ours, in bytes.
const NOISE_BYTES_MAX: usize = 64 * 1024;
/// How much of the beginning of a text is progress worth telling, in characters.
const BEGINNING_CHARS: usize = 200;

/// What was heard of one run.
#[derive(Default)]
pub struct Heard {
    /// The line of type `result`.
    pub result: Option<Value>,
    /// The CLI's word for what failed, from its last message: `rate_limit`, `authentication_failed`…
    pub error: Option<String>,
    /// When a usage limit that was hit is over, in Unix seconds.
    pub limit_resets_at: Option<i64>,
    pub model: Option<String>,
    pub session_id: Option<String>,
    /// What the assistant has said so far.
    pub text: String,
    /// What was written that is no line of ours.
    pub noise: String,
}

/// Takes pieces of stdout, cut anywhere.
#[derive(Default)]
pub struct Stream {
    line: Vec<u8>,
    noise_bytes: usize,
    /// Where the message that is still coming begins in `heard.text`.
    unfinished_from: usize,
    heard: Heard,
}

impl Output for Stream {
    fn take(&mut self, piece: &[u8]) -> Result<Vec<String>, TooMuch> {
        let mut told = Vec::new();
        let mut parts = piece.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            if self.line.len() + part.len() > LINE_BYTES_MAX {
                return Err(TooMuch);
            }
            self.line.extend_from_slice(part);
            if parts.peek().is_some() {
                let line = std::mem::take(&mut self.line);
                self.hear(&line, &mut told)?;
            }
        }
        Ok(told)
    }
}

impl Stream {
    /// What was heard in all; a last line may come without its end.
    pub fn end(mut self) -> Heard {
        let line = std::mem::take(&mut self.line);
        // Nothing comes after this, so it does not matter whether it was too much.
        let _ = self.hear(&line, &mut Vec::new());
        self.heard
    }

    fn hear(&mut self, line: &[u8], told: &mut Vec<String>) -> Result<(), TooMuch> {
        let said: Value = match serde_json::from_slice(line) {
            Ok(said @ Value::Object(_)) => said,
            _ => return self.keep_noise(line),
        };
        match (said["type"].as_str(), said["subtype"].as_str()) {
            (Some("system"), Some("init")) => told.push(self.begin(&said)),
            (Some("system"), Some("api_retry")) => told.push(retry(&said)),
            (Some("stream_event"), _) if is_own(&said) => self.add_delta(&said["event"]),
            (Some("assistant"), _) => self.add_message(&said, told),
            (Some("rate_limit_event"), _) => self.add_limit(&said["rate_limit_info"], told),
            (Some("result"), _) => self.heard.result = Some(said),
            (Some(_), _) => {}
            (None, _) => return self.keep_noise(line),
        }
        Ok(())
    }

    fn begin(&mut self, said: &Value) -> String {
        let text = |name: &str| said[name].as_str().map(str::to_owned);
        self.heard.model = text("model");
        self.heard.session_id = text("session_id");
        let version = said["claude_code_version"].as_str().unwrap_or("of unknown version");
        let model = self.heard.model.as_deref().unwrap_or("an unknown model");
        format!("Claude CLI {version} with {model}")
    }

    /// A piece of a message that is still coming: all there is when time is up in the middle of it.
    fn add_delta(&mut self, event: &Value) {
        if let Some(text) = event["delta"]["text"].as_str() {
            if self.heard.text.len() == self.unfinished_from {
                self.begin_paragraph();
            }
            self.add_text(text);
        }
    }

    fn begin_paragraph(&mut self) {
        if !self.heard.text.is_empty() {
            self.add_text("\n\n");
        }
    }

    fn add_message(&mut self, said: &Value, told: &mut Vec<String>) {
        self.heard.error = said["error"].as_str().map(str::to_owned);
        let own = is_own(said);
        if own {
            self.heard.text.truncate(self.unfinished_from);
        }
        for block in said["message"]["content"].as_array().into_iter().flatten() {
            match (block["type"].as_str(), block["text"].as_str(), block["name"].as_str()) {
                (Some("text"), Some(text), _) => {
                    told.push(one_line(text, BEGINNING_CHARS));
                    if own {
                        self.begin_paragraph();
                        self.add_text(text);
                    }
                }
                (Some("tool_use"), _, Some(name)) => told.push(format!("tool {name}")),
                _ => {}
            }
        }
        if own {
            self.unfinished_from = self.heard.text.len();
        }
    }

    fn add_text(&mut self, text: &str) {
        let mut end = text.len().min(TEXT_BYTES_MAX - self.heard.text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.heard.text.push_str(&text[..end]);
    }

    fn add_limit(&mut self, info: &Value, told: &mut Vec<String>) {
        if info["status"] == "rejected" {
            self.heard.limit_resets_at = info["resetsAt"].as_i64();
            let kind = info["rateLimitType"].as_str().unwrap_or("unknown");
            told.push(format!("the provider's limit {kind} is reached"));
        }
    }

    fn keep_noise(&mut self, line: &[u8]) -> Result<(), TooMuch> {
        self.noise_bytes += line.len() + 1;
        if self.noise_bytes > LINE_BYTES_MAX {
            return Err(TooMuch);
        }
        if self.heard.noise.len() < NOISE_BYTES_MAX && !line.is_empty() {
            let room = NOISE_BYTES_MAX - self.heard.noise.len();
            self.heard.noise.push_str(&String::from_utf8_lossy(&line[..line.len().min(room)]));
            self.heard.noise.push('\n');
        }
        Ok(())
    }
}

/// Whether it is of the conversation itself and not of a helper that Claude has started.
fn is_own(said: &Value) -> bool {
    said["parent_tool_use_id"].is_null()
}

fn retry(said: &Value) -> String {
    let seconds = said["retry_delay_ms"].as_f64().unwrap_or_default() / 1000.0;
    let status = said["error_status"].as_u64().map(|status| format!(" ({status})"));
    format!(
        "retry {} of {} in {seconds:.1} s: {}{}",
        said["attempt"],
        said["max_retries"],
        said["error"].as_str().unwrap_or("unknown"),
        status.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of the real CLI 2.1.197, shortened; `user` carries what a tool answered.
    const SAID: &str = r#"{"type":"system","subtype":"init","cwd":"/x","session_id":"d4fe","tools":[],"model":"claude-m","claude_code_version":"2.1.197"}
{"type":"system","subtype":"status","status":"requesting"}
{"type":"system","subtype":"api_retry","attempt":1,"max_retries":4,"retry_delay_ms":597.3,"error_status":529,"error":"overloaded"}
{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Let me "}},"parent_tool_use_id":null}
{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"look"}},"parent_tool_use_id":null}
{"type":"assistant","message":{"content":[{"type":"text","text":"Let me look"},{"type":"tool_use","id":"t","name":"Read","input":{"file_path":"/secret"}}]},"parent_tool_use_id":null}
{"type":"user","message":{"content":[{"type":"tool_result","content":"1\tSECRET"}]}}
{"type":"assistant","message":{"content":[{"type":"text","text":"a helper's words"}]},"parent_tool_use_id":"t"}
{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"half a sen"}},"parent_tool_use_id":null}
"#;

    #[test]
    fn progress_is_told_in_short_lines_without_what_tools_were_given_or_answered() {
        let told = Stream::default().take(SAID.as_bytes()).unwrap_or_default();
        let expected = [
            "Claude CLI 2.1.197 with claude-m",
            "retry 1 of 4 in 0.6 s: overloaded (529)",
            "Let me look",
            "tool Read",
            "a helper's words",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn it_does_not_matter_where_the_pipe_cuts() {
        for size in [1, 7, 100, SAID.len()] {
            let mut stream = Stream::default();
            let pieces = SAID.as_bytes().chunks(size);
            let told: usize =
                pieces.map(|piece| stream.take(piece).unwrap_or_default().len()).sum();
            assert_eq!(told, 5, "pieces of {size}");
            let heard = stream.end();
            assert_eq!(heard.text, "Let me look\n\nhalf a sen");
            assert_eq!(heard.session_id.as_deref(), Some("d4fe"));
            assert_eq!(heard.noise, "");
        }
    }

    #[test]
    fn the_result_is_heard_even_without_the_end_of_its_line() {
        let mut stream = Stream::default();
        let said = "An update is there\n{\"type\":\"result\",\"result\":\"Hi\"}";
        assert!(stream.take(said.as_bytes()).is_ok());
        let heard = stream.end();
        assert_eq!(heard.result.unwrap()["result"], "Hi");
        assert_eq!(heard.noise, "An update is there\n");
    }

    #[test]
    fn a_limit_counts_only_when_it_is_reached() {
        let with = |status: &str| {
            let mut stream = Stream::default();
            let line = format!(
                "{{\"type\":\"rate_limit_event\",\"rate_limit_info\":{{\"status\":\"{status}\",\
                 \"resetsAt\":1795524043,\"rateLimitType\":\"five_hour\"}}}}\n"
            );
            let told = stream.take(line.as_bytes()).unwrap_or_default();
            (stream.end().limit_resets_at, told.len())
        };
        assert_eq!(with("rejected"), (Some(1_795_524_043), 1));
        assert_eq!(with("allowed"), (None, 0));
    }

    #[test]
    fn what_never_ends_is_too_much_whether_lines_or_one_line() {
        for piece in ["y\n".repeat(8192), "x".repeat(16_384)] {
            let mut stream = Stream::default();
            let pieces = LINE_BYTES_MAX / piece.len() + 2;
            let taken = (0..pieces).take_while(|_| stream.take(piece.as_bytes()).is_ok()).count();
            assert!(taken < pieces);
            assert!(stream.end().noise.len() <= NOISE_BYTES_MAX + 1);
        }
    }

    #[test]
    fn the_text_so_far_is_bounded_at_a_character() {
        let mut stream = Stream::default();
        let delta = format!(
            "{{\"type\":\"stream_event\",\"event\":{{\"delta\":{{\"text\":\"{}\"}}}}}}\n",
            "ї".repeat(100_000)
        );
        (0..10).for_each(|_| assert!(stream.take(delta.as_bytes()).is_ok()));
        let text = stream.end().text;
        assert!(text.len() <= TEXT_BYTES_MAX && text.len() > TEXT_BYTES_MAX - 2);
    }
}
