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
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Kibibytes of all large answers that have been read from the store and not been sent yet.
const ANSWERS_KIB: usize = 64 << 10;
/// An answer above this is large.
const LARGE_BYTES: usize = 64 << 10;

/// Most answers of one record are not larger, and need not grow bit by bit.
const USUAL_BYTES: usize = 1 << 10;

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
    let mut body = Vec::with_capacity(USUAL_BYTES);
    serde_json::to_writer(&mut body, value).expect("our records have text keys and finite numbers");
    bytes(status, JSON, body)
}

/// What `HEAD` of a stream answers.
pub fn empty_stream() -> Answer {
    with_body(StatusCode::OK, EVENT_STREAM, Either::Left(Full::default()))
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

/// What all large answers on their way may hold together: a client that asks for pages and reads none
/// of them holds each until its connection ends.
#[derive(Clone)]
pub struct AnswerBudget(Arc<Semaphore>);

impl Default for AnswerBudget {
    fn default() -> Self {
        AnswerBudget(Arc::new(Semaphore::new(ANSWERS_KIB)))
    }
}

/// Bytes that count until the last of them has been sent.
struct Counted {
    bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AnswerBudget {
    /// The same answer, counted if it is large; none if there is no room for it now.
    pub fn count(&self, answer: Answer) -> Option<Answer> {
        let (parts, body) = answer.into_parts();
        let body = match body {
            Either::Left(whole) => {
                let bytes = whole.into_inner().unwrap_or_default();
                Either::Left(Full::new(self.share(bytes)?))
            }
            stream => stream,
        };
        Some(Response::from_parts(parts, body))
    }

    fn share(&self, bytes: Bytes) -> Option<Bytes> {
        if bytes.len() <= LARGE_BYTES {
            return Some(bytes);
        }
        // One that is larger than the budget needs all of it.
        let needed = bytes.len().div_ceil(1024).min(ANSWERS_KIB);
        let needed = u32::try_from(needed).expect("at most the budget");
        let share = self.0.clone().try_acquire_many_owned(needed).ok()?;
        Some(Bytes::from_owner(Counted { bytes, _share: share }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_answers_share_a_budget_until_they_are_sent_and_small_ones_do_not() {
        let budget = AnswerBudget::default();
        let answer = |length| bytes(StatusCode::OK, TEXT, vec![b'x'; length]);
        let mut held: Vec<_> =
            (0..16).map(|_| budget.count(answer(4 << 20)).expect("room")).collect();
        assert!(budget.count(answer(LARGE_BYTES + 1)).is_none());
        assert!(budget.count(answer(LARGE_BYTES)).is_some());
        held.pop();
        assert!(budget.count(answer(LARGE_BYTES + 1)).is_some());
        drop(held);
        assert!(budget.count(answer(ANSWERS_KIB << 11)).is_some(), "larger than the budget");
    }
}
