//! Reading a request's body within its limits, and telling what it is (`CONTRACT §1`).
//!
//! Must stay true: a body is bounded in bytes, in time and in what all bodies together may hold (P9);
//! what cannot be read is said, never guessed at. Not here: fields (`wire`).

use super::error::ApiError;
use super::form::parse_form;
use super::surrogates::mend;
use crate::wire::Payload;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Bytes};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use serde_json::{Map, Value};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

/// Bytes of a body that brings a prompt or an output, and of any other.
pub const BODY_BYTES_MAX: usize = 16 << 20;
pub const SMALL_BODY_BYTES_MAX: usize = 1 << 20;
/// Bytes of a body that anybody may send, with or without the key: such calls need none.
pub const OPEN_BODY_BYTES_MAX: usize = 4 << 10;
/// Values of a body: each costs some fifty bytes of memory, however little it is in the body.
const VALUES_MAX: usize = 200_000;
/// Bodies above this are parsed where it keeps nobody waiting.
const PARSED_AT_ONCE_BYTES: usize = 256 << 10;
/// Kibibytes of all bodies in flight; the reserve is a part of it.
const BUDGET_KIB: usize = 64 << 10;
/// Kept for bodies of at most `RESERVED_BODY_BYTES`, so that a few large ones that arrive slowly stop
/// no heartbeat and no claim.
const RESERVE_KIB: usize = 8 << 10;
const RESERVED_BODY_BYTES: usize = 64 << 10;
const STEP_BYTES: usize = 1 << 20;
/// Time within which the body must end or `PROGRESS_BYTES` of it arrive: who sends byte by byte does
/// not hold a connection for two minutes.
const SILENCE: Duration = Duration::from_secs(20);
const PROGRESS_BYTES: usize = 1 << 10;
/// Time for the whole body.
const WHOLE: Duration = Duration::from_secs(120);

/// What all bodies in flight may hold together.
#[derive(Clone)]
pub struct Budget {
    general: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            general: Arc::new(Semaphore::new(BUDGET_KIB - RESERVE_KIB)),
            reserve: Arc::new(Semaphore::new(RESERVE_KIB)),
        }
    }
}

/// A body and its shares of the budget, given back when this is dropped.
#[derive(Default)]
pub struct Received {
    pub bytes: Vec<u8>,
    shares: Vec<OwnedSemaphorePermit>,
}

/// What becomes of a body's bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Kept,
    /// Read to its end, because another request may follow, and forgotten.
    Ignored,
}

/// Reads a body of at most `bytes_max` to its end.
pub async fn receive<B>(
    body: B,
    bytes_max: usize,
    usage: Use,
    budget: &Budget,
) -> Result<Received, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let too_large = || {
        let most = match bytes_max >> 20 {
            0 => format!("{} KiB", bytes_max >> 10),
            mebibytes => format!("{mebibytes} MiB"),
        };
        let text = format!("The body is larger than {most}");
        ApiError::unreadable(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", text).closing()
    };
    let too_slow = || {
        let text = "The body did not arrive in time";
        ApiError::unreadable(StatusCode::REQUEST_TIMEOUT, "body_timeout", text).closing()
    };
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let read = async {
        let mut body = body;
        let mut received = Received::default();
        let (mut length, mut in_time_for) = (0, 0);
        let mut silence = pin!(sleep(SILENCE));
        loop {
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                () = silence.as_mut() => return Err(too_slow()),
            };
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|_| {
                let text = "The body broke off";
                ApiError::unreadable(StatusCode::BAD_REQUEST, "body_cut_off", text).closing()
            })?;
            let Ok(data) = frame.into_data() else { continue };
            length += data.len();
            if length > bytes_max {
                return Err(too_large());
            }
            if length - in_time_for >= PROGRESS_BYTES {
                in_time_for = length;
                silence.set(sleep(SILENCE));
            }
            if usage == Use::Kept {
                received.grow(data.len(), budget)?;
                received.add(&data);
            }
        }
        Ok(received)
    };
    timeout(WHOLE, read).await.unwrap_or_else(|_| Err(too_slow()))
}

impl Received {
    /// A large body grows by steps: twice the room each time would be far above its share.
    fn add(&mut self, data: &[u8]) {
        let bytes = &mut self.bytes;
        if bytes.len() >= STEP_BYTES && bytes.capacity() - bytes.len() < data.len() {
            bytes.reserve_exact(data.len().max(STEP_BYTES));
        }
        bytes.extend_from_slice(data);
    }

    fn grow(&mut self, by: usize, budget: &Budget) -> Result<(), ApiError> {
        let held: usize = self.shares.iter().map(OwnedSemaphorePermit::num_permits).sum();
        let length = self.bytes.len() + by;
        let needed = length.div_ceil(1024).saturating_sub(held);
        let Some(more) = u32::try_from(needed).ok().filter(|more| *more > 0) else {
            return Ok(());
        };
        let general = budget.general.clone().try_acquire_many_owned(more);
        let share = match general {
            Err(_) if length <= RESERVED_BODY_BYTES => {
                budget.reserve.clone().try_acquire_many_owned(more)
            }
            other => other,
        };
        let share = share.map_err(|_| {
            let text = "Too much is being sent at once; try again in a second";
            ApiError::unavailable("bodies_in_flight", text).closing()
        })?;
        // At most one of each kind, or a long body would gather thousands.
        match self.shares.iter_mut().find(|held| Arc::ptr_eq(held.semaphore(), share.semaphore())) {
            Some(held) => held.merge(share),
            None => self.shares.push(share),
        }
        Ok(())
    }
}

/// What kind of text a body claims to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Form,
    /// No type was named.
    Unnamed,
}

/// The payload of a body that was received.
pub async fn payload(headers: &HeaderMap, bytes: Vec<u8>) -> Result<Payload, ApiError> {
    if bytes.len() <= PARSED_AT_ONCE_BYTES {
        return parse(headers, &bytes);
    }
    let headers = headers.clone();
    let parsed = tokio::task::spawn_blocking(move || parse(&headers, &bytes)).await;
    parsed.unwrap_or_else(|_| Err(bad("The body could not be read; the server's log says why")))
}

/// Commas outside of texts, which is one less than the values between them.
fn commas(json: &[u8]) -> usize {
    let (mut count, mut in_text, mut escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' if !in_text => count += 1,
            _ => {}
        }
    }
    count
}

fn parse(headers: &HeaderMap, bytes: &[u8]) -> Result<Payload, ApiError> {
    let kind = kind(headers);
    if bytes.is_empty() {
        return Ok(match kind {
            Ok(Kind::Json) => Payload::Object(Map::new()),
            _ => Payload::Absent,
        });
    }
    let kind = kind?;
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let begins_as_object = text.trim_ascii_start().first() == Some(&b'{');
    if kind == Kind::Form && !begins_as_object {
        let fields = parse_form(text).map_err(|fault| bad(&format!("The form has {fault}")))?;
        let fields = fields.into_iter().map(|(name, value)| (name, Value::String(value)));
        return Ok(Payload::Object(fields.collect()));
    }
    if text.len() > PARSED_AT_ONCE_BYTES && commas(text) >= VALUES_MAX {
        return Err(bad(&format!("The body holds more than {VALUES_MAX} values")));
    }
    match serde_json::from_slice(&mend(text)) {
        Ok(Value::Object(map)) => Ok(Payload::Object(map)),
        Ok(Value::Array(_)) => Ok(Payload::Array),
        Ok(_) => Err(bad("The body is JSON, but no object")),
        Err(fault) => Err(bad(&format!("The body is not valid JSON: {fault}"))),
    }
}

fn bad(text: &str) -> ApiError {
    ApiError::unreadable(StatusCode::BAD_REQUEST, "bad_body", text)
}

fn kind(headers: &HeaderMap) -> Result<Kind, ApiError> {
    let unsupported = |text: &str| {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Err(ApiError::unreadable(status, "unsupported_body", text))
    };
    let word = |name| headers.get(name).map_or("", |value| value.to_str().unwrap_or("?"));
    let encoding = word(CONTENT_ENCODING).trim();
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
        return unsupported("Compressed bodies are not supported; send it as it is");
    }
    let content_type = word(CONTENT_TYPE).to_ascii_lowercase();
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or("");
    for parameter in parts {
        let charset = parameter.strip_prefix("charset=").map(|set| set.trim_matches('"'));
        if charset.is_some_and(|set| set != "utf-8" && set != "utf8") {
            return unsupported("The body's charset is not supported; send UTF-8");
        }
    }
    match media {
        "" => Ok(Kind::Unnamed),
        "application/json" => Ok(Kind::Json),
        "application/x-www-form-urlencoded" => Ok(Kind::Form),
        other if other.starts_with("application/") && other.ends_with("+json") => Ok(Kind::Json),
        _ => unsupported("The body's type is not supported; send application/json"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(content_type: &str, body: &str) -> Result<Payload, (u16, &'static str)> {
        let mut headers = HeaderMap::new();
        if !content_type.is_empty() {
            headers.insert(CONTENT_TYPE, content_type.parse().expect("a header value"));
        }
        parse(&headers, body.as_bytes()).map_err(|error| (error.status.as_u16(), error.code))
    }

    fn object(value: Value) -> Result<Payload, (u16, &'static str)> {
        match value {
            Value::Object(map) => Ok(Payload::Object(map)),
            _ => panic!("an object is expected"),
        }
    }

    const JSON: &str = "application/json";
    const FORM: &str = "application/x-www-form-urlencoded";

    #[test]
    fn no_body_is_absent_but_an_empty_one_of_type_json_is_an_empty_object() {
        assert_eq!(read("", ""), Ok(Payload::Absent));
        assert_eq!(read(FORM, ""), Ok(Payload::Absent));
        assert_eq!(read(JSON, ""), object(json!({})));
    }

    #[test]
    fn a_body_is_json_by_its_type_without_a_type_and_under_curls_default_type() {
        let body = "\u{feff} \n{\"a\":1,\"a\":2,\"s\":\"x\\ud800y\"}";
        for content_type in [JSON, "", FORM, "application/vnd.api+json; charset=\"UTF-8\""] {
            assert_eq!(read(content_type, body), object(json!({"a": 2, "s": "x\u{fffd}y"})));
        }
        assert_eq!(read(FORM, "a=1&b=x+y%21&a=2"), object(json!({"a": "2", "b": "x y!"})));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let deep = "[".repeat(100_000);
        for body in ["{bad", "5", "null", "\"x\"", "{}{}", deep.as_str()] {
            assert_eq!(read(JSON, body), Err((400, "bad_body")), "{:.20}", body);
        }
        assert_eq!(read(FORM, "a=%zz"), Err((400, "bad_body")));
        for content_type in
            ["text/plain", "multipart/form-data", "application/json; charset=utf-16"]
        {
            assert_eq!(read(content_type, "{}"), Err((415, "unsupported_body")));
        }
        assert_eq!(read(JSON, "[]"), Ok(Payload::Array));
    }

    #[test]
    fn a_body_of_many_tiny_values_is_refused_and_a_long_text_is_not() {
        let list = format!("[{}0]", "0,".repeat(VALUES_MAX));
        assert_eq!(read(JSON, &list), Err((400, "bad_body")));
        let prose = format!("{{\"prompt\":\"\\\"{}\"}}", "a, ".repeat(VALUES_MAX));
        assert!(read(JSON, &prose).is_ok());
    }
}
