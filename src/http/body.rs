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
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Bytes of a body that brings a prompt or an output, and of any other.
pub const BODY_BYTES_MAX: usize = 16 << 20;
pub const SMALL_BODY_BYTES_MAX: usize = 1 << 20;
/// Values of a body: each costs some fifty bytes of memory, however little it is in the body.
const VALUES_MAX: usize = 200_000;
/// Bodies above this are parsed where it keeps nobody waiting.
const PARSED_AT_ONCE_BYTES: usize = 256 << 10;
/// Kibibytes of all bodies in flight.
const BUDGET_KIB: usize = 64 << 10;
/// Time without a byte of the body.
const SILENCE: Duration = Duration::from_secs(20);
/// Time for the whole body.
const WHOLE: Duration = Duration::from_secs(120);

/// What all bodies in flight may hold together.
#[derive(Clone)]
pub struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Budget(Arc::new(Semaphore::new(BUDGET_KIB)))
    }
}

/// A body and its share of the budget, given back when this is dropped.
pub struct Received {
    pub bytes: Vec<u8>,
    _share: Option<OwnedSemaphorePermit>,
}

/// Reads a body of at most `bytes_max` to its end.
pub async fn receive<B>(body: B, bytes_max: usize, budget: &Budget) -> Result<Received, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let too_large = || {
        let text = format!("The body is larger than {} MiB", bytes_max >> 20);
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
        let mut received = Received { bytes: Vec::new(), _share: None };
        while let Some(frame) = timeout(SILENCE, body.frame()).await.map_err(|_| too_slow())? {
            let frame = frame.map_err(|_| {
                let text = "The body broke off";
                ApiError::unreadable(StatusCode::BAD_REQUEST, "body_cut_off", text).closing()
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if received.bytes.len() + data.len() > bytes_max {
                return Err(too_large());
            }
            received.grow(data.len(), budget)?;
            received.bytes.extend_from_slice(&data);
        }
        Ok(received)
    };
    timeout(WHOLE, read).await.unwrap_or_else(|_| Err(too_slow()))
}

impl Received {
    fn grow(&mut self, by: usize, budget: &Budget) -> Result<(), ApiError> {
        let held = self._share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let needed = (self.bytes.len() + by).div_ceil(1024);
        let Some(more) = u32::try_from(needed.saturating_sub(held)).ok().filter(|more| *more > 0)
        else {
            return Ok(());
        };
        let share = budget.0.clone().try_acquire_many_owned(more).map_err(|_| {
            let text = "Too much is being sent at once; try again in a second";
            ApiError::unavailable("bodies_in_flight", text).closing()
        })?;
        match &mut self._share {
            Some(held) => held.merge(share),
            None => self._share = Some(share),
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
