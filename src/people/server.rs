//! The server as a person's command sees it: calls, and what went wrong with them in the person's words.
//!
//! Must stay true: each failure names the address or the key's place and the way out. Not here: waiting
//! for a server that is away (`wait`).

use super::{Trouble, text};
use crate::client::{Answer, CallError, Client, EventStream, segment};
use crate::config::{BELIEVED_BY, PeopleConfig};
use crate::exit;
use crate::outgoing::{Dialer, Trust};
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

pub const TASKS: &str = "/api/runtime/llm-tasks";
pub const WORKERS: &str = "/api/runtime/workers";

/// For one call, a 16 MiB prompt over a slow line included.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server that was chosen, and the key to it.
pub struct Server {
    client: Client,
    key_source: String,
    has_key: bool,
}

impl Server {
    pub fn new(config: PeopleConfig) -> Result<Server, Trouble> {
        let key = config.key.as_ref().map(|key| key.expose().to_owned());
        let has_key = key.is_some();
        let unusable = |fault| Trouble::new(exit::CONFIG, fault);
        let trust = Trust::new(config.believed.ca.as_deref(), config.believed.pin, BELIEVED_BY);
        let dialer = Dialer::new(trust.map_err(unusable)?);
        let client =
            Client::new(config.server.as_str(), key, dialer).map_err(|fault| unusable(fault.0))?;
        Ok(Server { client, key_source: config.key_source, has_key })
    }

    pub fn address(&self) -> &str {
        self.client.base()
    }

    pub fn get(&self, path: &str) -> Result<Answer, CallError> {
        self.client.get(path, PATIENCE)
    }

    pub fn post(&self, path: &str, body: &impl Serialize) -> Result<Answer, CallError> {
        self.client.post(path, body, PATIENCE)
    }

    pub fn post_once(
        &self,
        path: &str,
        body: &impl Serialize,
        key: &str,
    ) -> Result<Answer, CallError> {
        self.client.post_once(path, body, key, PATIENCE)
    }

    pub fn stream(&self, path: &str, time: Duration) -> Result<EventStream, CallError> {
        self.client.stream(path, time)
    }

    /// What an answer holds.
    pub fn read(&self, answer: &Answer) -> Result<Value, Trouble> {
        answer.json().map_err(|error| self.trouble(error))
    }

    pub fn trouble(&self, error: CallError) -> Trouble {
        let address = self.address();
        match error {
            CallError::Unreachable(why) if address.starts_with("https:") => Trouble::new(
                exit::UNREACHABLE,
                format!("no server answers at {address} that can be believed: {}", plain(&why)),
            ),
            CallError::Unreachable(why) => Trouble::new(
                exit::UNREACHABLE,
                format!(
                    "no server answers at {address} ({}); is it running? Give another address with \
                     --server or BLOOM_SERVER",
                    plain(&why)
                ),
            ),
            CallError::Unreadable(why) => Trouble::new(
                exit::PROTOCOL,
                format!("what answers at {address} is no bloom-runtime server: {why}"),
            ),
            CallError::Refused { status, code, text, retry_after } => {
                self.refusal(status, &code, &text, retry_after)
            }
        }
    }

    fn refusal(&self, status: u16, code: &str, text: &str, wait: Option<Duration>) -> Trouble {
        let address = self.address();
        let ours = !code.is_empty();
        let text = text::one_line(text);
        match status {
            401 if self.has_key => Trouble::new(
                exit::KEY_REFUSED,
                format!(
                    "{address} refuses the key {}; RUNTIME_API_KEY must be the one that the server has",
                    self.key_source
                ),
            ),
            401 => Trouble::new(
                exit::KEY_REFUSED,
                format!(
                    "{address} asks for a key, which {}; set RUNTIME_API_KEY, or write it into \
                     ~/.config/bloom-runtime.env",
                    self.key_source
                ),
            ),
            300..=399 => Trouble::new(
                exit::PROTOCOL,
                format!(
                    "{address} sends us elsewhere, which is never followed; give its plain http address"
                ),
            ),
            404 if code == "not_found" => Trouble::new(
                exit::PROTOCOL,
                format!(
                    "the server at {address} does not know this call; it is older than this program"
                ),
            ),
            429 | 503 | 507 => {
                let seconds = wait.map_or(1, |wait| wait.as_secs().max(1));
                let when = format!("try again in {seconds}s");
                Trouble::new(
                    exit::TRY_LATER,
                    format!("{address} cannot do it now: {text} ({when})"),
                )
            }
            400..=499 if ours => {
                let lists = match code {
                    "task_not_found" => "; bloom-runtime tasks lists those that are there",
                    "worker_not_found" => "; bloom-runtime workers lists those that are there",
                    _ => "",
                };
                Trouble::new(exit::REFUSED, format!("{text} ({address}, {status} {code}){lists}"))
            }
            500..=599 if ours => {
                Trouble::new(exit::TRY_LATER, format!("{address} failed ({status} {code}): {text}"))
            }
            _ => Trouble::new(
                exit::PROTOCOL,
                format!("what answers at {address} is no bloom-runtime server: {status} {text}"),
            ),
        }
    }
}

/// The system's words without its number.
fn plain(why: &str) -> &str {
    why.split(" (os error").next().unwrap_or(why)
}

/// The path of a task, or of what belongs to it (`""` or `/result` and so on).
pub fn task_path(id: &str, rest: &str) -> String {
    format!("{TASKS}/{}{rest}", segment(id))
}

pub fn worker_path(name: &str, rest: &str) -> String {
    format!("{WORKERS}/{}{rest}", segment(name))
}

/// Whether the refusal is that there is no such thing, in the word for it.
pub fn is_missing(error: &CallError, word: &str) -> bool {
    matches!(error, CallError::Refused { status: 404, code, .. } if code == word)
}

/// A text field; empty where there is none.
pub fn field<'a>(record: &'a Value, name: &str) -> &'a str {
    record[name].as_str().unwrap_or_default()
}

/// A whole number; 0 where there is none.
pub fn number(record: &Value, name: &str) -> i64 {
    record[name].as_i64().unwrap_or_default()
}
