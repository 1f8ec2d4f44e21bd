//! A small blocking HTTP client for our own API: the worker's way to its server, and a person's.
//!
//! What must stay true: redirects are never followed (a custom header with the key would go along
//! to wherever they point), every call has a deadline, every answer a size limit, no text of a
//! caller reaches the request line unescaped, and the environment's proxies are not looked at.
//! Not here: retries (each caller knows its own patience), the way of the bytes (`exchange`), async.

mod exchange;
mod stream;
#[cfg(test)]
mod tests;

pub use stream::{Event, EventStream};

use crate::config::{BaseUrl, parse_base_url};
use crate::outgoing::Dialer;
use crate::outgoing::blocking::Question;
use exchange::{Head, exchange};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io::Read;
use std::time::Duration;

/// The largest answer that is read, in bytes: a claim carries a prompt of at most one body.
const ANSWER_LIMIT_BYTES: u64 = 32 * 1024 * 1024;
/// The longest part of a refusal that is worth a log line, in characters.
const REFUSAL_TEXT_LIMIT: usize = 300;

/// A server's address and the key to it.
pub struct Client {
    base: BaseUrl,
    api_key: Option<String>,
    dialer: Dialer,
}

/// What a server said with a status of 200 to 299.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Where the next page of a list begins, when there is one.
    pub next_cursor: Option<String>,
    body: Vec<u8>,
}

/// Why a call brought nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// No answer came: no connection, or silence past the deadline. The call may or may not have
    /// taken effect; only what is idempotent may be sent again.
    Unreachable(String),
    /// The server answered with a status outside 200 to 299. `code` is its stable word (CONTRACT,
    /// end), `text` its sentence.
    Refused { status: u16, code: String, text: String, retry_after: Option<Duration> },
    /// What came is not what our API sends: another program, or half an answer.
    Unreadable(String),
}

/// An address or a key that no call can be made with; the text says how to mend it.
#[derive(Debug, PartialEq, Eq)]
pub struct BadAddress(pub String);

impl Client {
    /// `server` is `http[s]://host[:port][/prefix]`; `dialer` knows whom to believe. Refused here rather
    /// than at each call: an address that no call can be made to, and a key that cannot stand in a header.
    pub fn new(
        server: &str,
        api_key: Option<String>,
        dialer: Dialer,
    ) -> Result<Client, BadAddress> {
        let base = parse_base_url(server).map_err(|fault| {
            BadAddress(format!(
                "the server's address {fault}; write for example http://127.0.0.1:5000"
            ))
        })?;
        let sendable = |key: &String| key.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
        if !api_key.as_ref().is_none_or(sendable) {
            let fault = "RUNTIME_API_KEY holds a character that a header cannot carry \
                         (a blank, a line end or a non-ASCII letter)";
            return Err(BadAddress(fault.into()));
        }
        Ok(Client { base, api_key: api_key.filter(|key| !key.is_empty()), dialer })
    }

    /// The server's address as every call uses it, without a slash at its end.
    pub fn base(&self) -> &str {
        self.base.as_str()
    }

    /// Asks for `path`, which begins with `/`; put ids into it with [`segment`].
    pub fn get(&self, path: &str, timeout: Duration) -> Result<Answer, CallError> {
        self.send(question(path), timeout)
    }

    /// Posts `body` as JSON. `timeout` spans the whole call and is rounded up to whole seconds.
    pub fn post<B: Serialize>(
        &self,
        path: &str,
        body: &B,
        timeout: Duration,
    ) -> Result<Answer, CallError> {
        self.send(posting(path, body)?, timeout)
    }

    /// The same under an `Idempotency-Key`: sent again with the same key and body it works once.
    pub fn post_once<B: Serialize>(
        &self,
        path: &str,
        body: &B,
        key: &str,
        timeout: Duration,
    ) -> Result<Answer, CallError> {
        let mut question = posting(path, body)?;
        question.headers.push(("Idempotency-Key", key.to_owned()));
        self.send(question, timeout)
    }

    /// Listens to the server-sent events of `path`, for `timeout` at the most.
    pub fn stream(&self, path: &str, timeout: Duration) -> Result<EventStream, CallError> {
        self.open(question(path), "text/event-stream", timeout).map(EventStream::new)
    }

    fn send(&self, question: Question, timeout: Duration) -> Result<Answer, CallError> {
        let mut head = self.open(question, "application/json", timeout)?;
        let next_cursor = head.header("link").and_then(cursor_of);
        let body = read_body(&mut head)?;
        Ok(Answer { status: head.status, next_cursor, body })
    }

    /// Sends and reads the head of an answer that is a success.
    fn open(
        &self,
        mut question: Question,
        accept: &str,
        timeout: Duration,
    ) -> Result<Head, CallError> {
        question.headers.push(("Accept", accept.to_owned()));
        question.headers.extend(self.api_key.clone().map(|key| ("X-Runtime-API-Key", key)));
        let mut head = exchange(&self.dialer, &self.base, question, timeout)?;
        if (200..=299).contains(&head.status) {
            return Ok(head);
        }
        let retry_after = head
            .header("retry-after")
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs);
        let status = head.status;
        Err(refusal(status, &read_body(&mut head)?, retry_after))
    }
}

fn question(path: &str) -> Question {
    debug_assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()));
    Question { path: path.to_owned(), headers: Vec::new(), body: None }
}

fn posting<B: Serialize>(path: &str, body: &B) -> Result<Question, CallError> {
    let json = serde_json::to_vec(body).map_err(|fault| {
        CallError::Unreadable(format!("the request cannot be written as JSON: {fault}"))
    })?;
    let mut question = question(path);
    question.headers.push(("Content-Type", "application/json".to_owned()));
    Ok(Question { body: Some(json), ..question })
}

impl Answer {
    /// The body as it came.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        serde_json::from_slice(&self.body).map_err(|fault| {
            CallError::Unreadable(format!("the answer is not what this API sends: {fault}"))
        })
    }
}

impl CallError {
    /// How long the server asked us to wait, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            CallError::Refused { retry_after, .. } => *retry_after,
            CallError::Unreachable(_) | CallError::Unreadable(_) => None,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            CallError::Unreachable(why) => write!(f, "the server cannot be reached: {why}"),
            CallError::Unreadable(why) => write!(f, "the answer cannot be read: {why}"),
            CallError::Refused { status: 401, .. } => write!(
                f,
                "the server refuses our key (401): set RUNTIME_API_KEY to the server's own"
            ),
            CallError::Refused { status: 300..=399, .. } => write!(
                f,
                "the server sends us elsewhere, which is never followed: give the address that it serves"
            ),
            CallError::Refused { status, code, text, .. } => {
                write!(f, "the server answered {status} {code}: {text}")
            }
        }
    }
}

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CallError {}
impl std::error::Error for BadAddress {}

/// One path segment: what is not unreserved (RFC 3986) is percent-encoded, and so are the dots of
/// `.` and `..`, which would otherwise change the path.
pub fn segment(text: &str) -> String {
    let dots_only = text == "." || text == "..";
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-_~".contains(&byte);
        if plain || (byte == b'.' && !dots_only) {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The cursor of a `Link: <…?cursor=…>; rel="next"`; its path is left alone, since the server does not
/// know what stands before its paths here.
fn cursor_of(link: &str) -> Option<String> {
    let (target, _) = link.strip_prefix('<')?.split_once(">; rel=\"next\"")?;
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix("cursor=")).map(segment)
}

/// Reads to the end. minreq takes a connection that breaks off for an end, so what was promised is
/// counted here.
fn read_body(head: &mut Head) -> Result<Vec<u8>, CallError> {
    if matches!(head.status, 204 | 304) {
        return Ok(Vec::new());
    }
    let promised: Option<u64> =
        head.header("content-length").and_then(|length| length.parse().ok());
    let mut body = Vec::new();
    head.take(ANSWER_LIMIT_BYTES + 1)
        .read_to_end(&mut body)
        .map_err(|fault| CallError::Unreachable(format!("the answer broke off: {fault}")))?;
    if body.len() as u64 > ANSWER_LIMIT_BYTES {
        let limit_mib = ANSWER_LIMIT_BYTES / (1024 * 1024);
        return Err(CallError::Unreadable(format!("the answer is larger than {limit_mib} MiB")));
    }
    if promised.is_some_and(|promised| promised != body.len() as u64) {
        return Err(CallError::Unreachable("the answer broke off".into()));
    }
    Ok(body)
}

/// Our API's `{"error", "code"}`, or, from a stranger, the beginning of what it said.
fn refusal(status: u16, body: &[u8], retry_after: Option<Duration>) -> CallError {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let code = json["code"].as_str().unwrap_or_default().to_owned();
    let text = match &json["error"] {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => String::from_utf8_lossy(body).into_owned(),
        fields => in_words(fields),
    };
    let one_line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let text = one_line.take(REFUSAL_TEXT_LIMIT).collect();
    CallError::Refused { status, code, text, retry_after }
}

/// What a validation found, field by field: `prompt: Required; priority: Expected number, …`.
fn in_words(error: &serde_json::Value) -> String {
    let texts = |list: &serde_json::Value| -> Vec<String> {
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(|text| text.as_str()).map(str::to_owned).collect()
    };
    let mut parts = texts(&error["formErrors"]);
    let fields = error["fieldErrors"].as_object().into_iter().flatten();
    parts.extend(fields.map(|(name, list)| format!("{name}: {}", texts(list).join(", "))));
    if parts.is_empty() { error.to_string() } else { parts.join("; ") }
}
