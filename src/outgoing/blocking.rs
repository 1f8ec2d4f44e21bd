//! The same way out for threads that have no runtime: one request, its answer's head, then its body as it
//! comes.
//!
//! Must stay true: the time spans all of it, the body too; a body that ends early is an error, also under
//! TLS, where anybody on the way could end it. Not here: limits of a body; its reader has them.

use super::{Body, Connection, Dialer, whole};
use crate::config::BaseUrl;
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request};
use std::io::{self, Read};
use std::pin::Pin;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Sleep, sleep};

/// What is asked: a GET, or a POST of this body.
pub struct Question {
    /// Behind the address; it begins with `/`.
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Option<Vec<u8>>,
}

/// An answer whose body is still coming.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Reader,
}

#[derive(Debug)]
pub enum Fault {
    /// No connection, or it ended, or the time did; in words.
    Unreachable(String),
    /// What came is no HTTP.
    NotHttp,
}

/// Asks, and waits for the head of the answer. Never inside a runtime.
///
/// # Errors
/// There is none.
pub fn ask(
    dialer: &Dialer,
    base: &BaseUrl,
    question: Question,
    time: Duration,
) -> Result<Answer, Fault> {
    let unreachable = |error: io::Error| Fault::Unreachable(error.to_string());
    let runtime = Builder::new_current_thread().enable_all().build().map_err(unreachable)?;
    let (ends, answer) = runtime.block_on(async {
        let mut ends = Box::pin(sleep(time));
        let answer = tokio::select! {
            answer = head(dialer, base, question) => answer,
            () = &mut ends => Err(Fault::Unreachable(out_of_time().to_string())),
        };
        (ends, answer)
    });
    let (connection, answer) = answer?;
    let (parts, incoming) = answer.into_parts();

    let body = Reader { chunk: Bytes::new(), incoming, ends, _connection: connection, runtime };
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
}

async fn head(
    dialer: &Dialer,
    base: &BaseUrl,
    question: Question,
) -> Result<(Connection, hyper::Response<Incoming>), Fault> {
    let mut connection = dialer.connect_to(base).await.map_err(Fault::Unreachable)?;
    let request = request(&connection, question)?;
    let answer =
        connection.sender.send_request(request).await.map_err(|error| match error.is_parse() {
            true => Fault::NotHttp,
            false => Fault::Unreachable("the connection ended without an answer".into()),
        })?;
    Ok((connection, answer))
}

fn request(connection: &Connection, question: Question) -> Result<Request<Body>, Fault> {
    let mut request = Request::new(whole(question.body.clone().unwrap_or_default()));
    *request.method_mut() = if question.body.is_some() { Method::POST } else { Method::GET };
    let target = format!("{}{}", connection.prefix, question.path);
    *request.uri_mut() = target.parse().expect("a checked address and a path of ours");
    let headers = request.headers_mut();
    let host = HeaderValue::from_str(&connection.authority).expect("a checked address");
    headers.insert(HOST, host);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    for (name, value) in question.headers {
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
            Fault::Unreachable(format!("the value of {name} is none that a header can carry"))
        })?;
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name of ours");
        headers.insert(name, value);
    }
    Ok(request)
}

fn out_of_time() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in its time")
}

/// A body as it comes.
pub struct Reader {
    chunk: Bytes,
    incoming: Incoming,
    ends: Pin<Box<Sleep>>,
    _connection: Connection,
    /// Last, since the others live in it.
    runtime: Runtime,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            let (incoming, ends) = (&mut self.incoming, &mut self.ends);
            let frame = self.runtime.block_on(async {
                tokio::select! {
                    frame = incoming.frame() => Ok(frame),
                    () = ends => Err(out_of_time()),
                }
            })?;
            match frame {
                None => return Ok(0),
                Some(Ok(frame)) => self.chunk = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Err(io::Error::other(error)),
            }
        }
        let length = self.chunk.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.chunk.split_to(length));
        Ok(length)
    }
}
