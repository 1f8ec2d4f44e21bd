//! A small blocking HTTP client for our own API: the worker's way to its server, and a person's.
//!
//! What must stay true: redirects are never followed (a custom header with the key would go along
//! to wherever they point), every call has a deadline, every answer a size limit, no text of a
//! caller reaches the request line unescaped, and the environment's proxies are not looked at.
//! Not here: retries (each caller knows its own patience), TLS (a later version), async.

mod stream;
#[cfg(test)]
mod tests;

pub use stream::{Event, EventStream};

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io::Read;
use std::time::Duration;

/// The largest answer that is read, in bytes: a claim carries a prompt of at most one body.
const ANSWER_LIMIT_BYTES: u64 = 32 * 1024 * 1024;
/// The longest part of a refusal that is worth a log line, in characters.
const REFUSAL_TEXT_LIMIT: usize = 300;

/// What minreq makes of a connection that ends before an answer, as the reason of a 503.
const NO_STATUS_LINE: &str = "Server did not provide a status line";

/// A server's address and the key to it.
pub struct Client {
    base: String,
    api_key: Option<String>,
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
    /// `server` is `http://host[:port][/prefix]`. Refused here rather than at each call: https,
    /// IPv6 literals, userinfo, a query, and a key that cannot stand in a header.
    pub fn new(server: &str, api_key: Option<String>) -> Result<Client, BadAddress> {
        let base = checked_base(server)?;
        let sendable = |key: &String| key.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
        if !api_key.as_ref().is_none_or(sendable) {
            let fault = "RUNTIME_API_KEY holds a character that a header cannot carry \
                         (a blank, a line end or a non-ASCII letter)";
            return Err(BadAddress(fault.into()));
        }
        Ok(Client { base, api_key: api_key.filter(|key| !key.is_empty()) })
    }

    /// The server's address as every call uses it, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Asks for `path`, which begins with `/`; put ids into it with [`segment`].
    pub fn get(&self, path: &str, timeout: Duration) -> Result<Answer, CallError> {
        self.send(minreq::get(self.url(path)), timeout)
    }

    /// Posts `body` as JSON. `timeout` spans the whole call and is rounded up to whole seconds.
    pub fn post<B: Serialize>(
        &self,
        path: &str,
        body: &B,
        timeout: Duration,
    ) -> Result<Answer, CallError> {
        self.send(self.posting(path, body)?, timeout)
    }

    /// The same under an `Idempotency-Key`: sent again with the same key and body it works once.
    pub fn post_once<B: Serialize>(
        &self,
        path: &str,
        body: &B,
        key: &str,
        timeout: Duration,
    ) -> Result<Answer, CallError> {
        self.send(self.posting(path, body)?.with_header("Idempotency-Key", key), timeout)
    }

    /// Listens to the server-sent events of `path`, for `timeout` at the most.
    pub fn stream(&self, path: &str, timeout: Duration) -> Result<EventStream, CallError> {
        self.open(minreq::get(self.url(path)), "text/event-stream", timeout).map(EventStream::new)
    }

    fn posting<B: Serialize>(&self, path: &str, body: &B) -> Result<minreq::Request, CallError> {
        let json = serde_json::to_vec(body).map_err(|fault| {
            CallError::Unreadable(format!("the request cannot be written as JSON: {fault}"))
        })?;
        let request = minreq::post(self.url(path));
        Ok(request.with_header("Content-Type", "application/json").with_body(json))
    }

    fn url(&self, path: &str) -> String {
        debug_assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()));
        format!("{}{path}", self.base)
    }

    fn send(&self, request: minreq::Request, timeout: Duration) -> Result<Answer, CallError> {
        let mut response = self.open(request, "application/json", timeout)?;
        let next_cursor = header(&response, "link").and_then(cursor_of);
        let body = read_body(&mut response)?;
        Ok(Answer { status: response.status_code, next_cursor, body })
    }

    /// Sends and reads the head of an answer that is a success.
    fn open(
        &self,
        request: minreq::Request,
        accept: &str,
        timeout: Duration,
    ) -> Result<minreq::ResponseLazy, CallError> {
        let mut request = request
            .with_follow_redirects(false)
            .with_timeout(timeout.as_secs_f64().ceil().max(1.0) as u64)
            .with_header("Accept", accept)
            .with_header("Connection", "close");
        if let Some(key) = &self.api_key {
            request = request.with_header("X-Runtime-API-Key", key);
        }
        let mut response = request.send_lazy().map_err(CallError::from_minreq)?;
        let status = response.status_code;
        if response.reason_phrase == NO_STATUS_LINE {
            return Err(CallError::Unreachable("the connection ended without an answer".into()));
        }
        if (200..=299).contains(&status) {
            return Ok(response);
        }
        let retry_after = header(&response, "retry-after")
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs);
        Err(refusal(status, &read_body(&mut response)?, retry_after))
    }
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
    fn from_minreq(fault: minreq::Error) -> CallError {
        match fault {
            minreq::Error::IoError(fault) => CallError::Unreachable(fault.to_string()),
            minreq::Error::AddressNotFound => {
                CallError::Unreachable("the host name has no address".into())
            }
            other => CallError::Unreadable(other.to_string()),
        }
    }

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
                "the server sends us elsewhere, which is never followed: give its plain http address"
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

fn checked_base(server: &str) -> Result<String, BadAddress> {
    let bad = |fault: &str| Err(BadAddress(format!("server address \"{server}\": {fault}")));
    let trimmed = server.trim_end_matches('/');
    if trimmed.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")) {
        return bad("https comes with a later version; give the plain http port behind nginx, \
                    or loopback, such as http://127.0.0.1:5000");
    }
    let Some(rest) = trimmed.strip_prefix("http://") else {
        return bad("must begin with http://, such as http://127.0.0.1:5000");
    };
    let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.starts_with('[') {
        return bad("an IPv6 literal does not work here; give a host name or an IPv4 address");
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let host_ok = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if host.is_empty() || !host.bytes().all(host_ok) {
        return bad("the host must be a name or an IPv4 address, without user or blanks");
    }
    let port_ok = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0)
    };
    if !port.is_none_or(port_ok) {
        return bad("the port must be a number from 1 to 65535");
    }
    if !prefix.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte)) {
        return bad("nothing but a path may follow the host");
    }
    Ok(trimmed.to_owned())
}

fn header<'a>(response: &'a minreq::ResponseLazy, name: &str) -> Option<&'a str> {
    let found = response.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
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
fn read_body(response: &mut minreq::ResponseLazy) -> Result<Vec<u8>, CallError> {
    if matches!(response.status_code, 204 | 304) {
        return Ok(Vec::new());
    }
    let promised: Option<u64> =
        header(response, "content-length").and_then(|length| length.parse().ok());
    let mut body = Vec::new();
    response
        .take(ANSWER_LIMIT_BYTES + 1)
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
