//! What goes back to a client: JSON, a few bytes, or a stream of events.
//!
//! Must stay true: every answer says that it is not to be cached and not to be guessed at. Not here:
//! error texts (`error`).

use http_body_util::channel::Channel;
use http_body_util::{Either, Full};
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::convert::Infallible;

/// A whole body, or one that is sent bit by bit.
pub type Body = Either<Full<Bytes>, Channel<Bytes, Infallible>>;
pub type Answer = Response<Body>;

pub const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
pub const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// An answer of these bytes.
pub fn bytes(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Answer {
    with_body(status, content_type, Either::Left(Full::new(body.into())))
}

/// An answer with any body.
pub fn with_body(status: StatusCode, content_type: HeaderValue, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// An answer of one JSON value.
pub fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).expect("our records have text keys and finite numbers");
    bytes(status, JSON, body)
}

/// Success without a body.
pub fn no_content() -> Answer {
    let mut answer = Response::new(Either::Left(Full::default()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// The same answer with one more header; a value that is no header is left out.
pub fn with_header(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}
