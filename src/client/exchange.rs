//! One request and the head of its answer, over minreq where that can, over `outgoing` where it cannot.
//!
//! Must stay true: the two differ in nothing that a caller could see: no redirect is followed, no proxy is
//! asked, the time spans all of the call, a body that ends early is found out. Not here: what an answer
//! means.

use super::CallError;
use crate::config::BaseUrl;
use crate::outgoing::Dialer;
use crate::outgoing::blocking::{self, Fault, Question};
use std::io::{self, Read};
use std::time::Duration;

/// What minreq makes of a connection that ends before an answer, as the reason of a 503.
const NO_STATUS_LINE: &str = "Server did not provide a status line";

/// An answer whose body is still coming.
pub struct Head {
    pub status: u16,
    headers: Vec<(String, String)>,
    body: Box<dyn Read>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

impl Read for Head {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer)
    }
}

/// Sends the question to the server at `base`.
pub fn exchange(
    dialer: &Dialer,
    base: &BaseUrl,
    question: Question,
    time: Duration,
) -> Result<Head, CallError> {
    // minreq takes `[` for the host of an IPv6 literal, and its TLS knows no pin.
    match base.is_https() || base.host_and_port().0.contains(':') {
        true => over_outgoing(dialer, base, question, time),
        false => over_minreq(base, question, time),
    }
}

fn over_outgoing(
    dialer: &Dialer,
    base: &BaseUrl,
    question: Question,
    time: Duration,
) -> Result<Head, CallError> {
    let answer = blocking::ask(dialer, base, question, time).map_err(|fault| match fault {
        Fault::Unreachable(why) => CallError::Unreachable(why),
        Fault::NotHttp => CallError::Unreadable("it is no HTTP".into()),
    })?;
    let headers = answer.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let headers = headers.collect();
    Ok(Head { status: answer.status, headers, body: Box::new(answer.body) })
}

fn over_minreq(base: &BaseUrl, question: Question, time: Duration) -> Result<Head, CallError> {
    let url = format!("{base}{}", question.path);
    let request = match question.body {
        None => minreq::get(url),
        Some(body) => minreq::post(url).with_body(body),
    };
    let request = request
        .with_follow_redirects(false)
        .with_timeout(time.as_secs_f64().ceil().max(1.0) as u64)
        .with_header("Connection", "close");
    let request = question
        .headers
        .iter()
        .fold(request, |request, (name, value)| request.with_header(*name, value));
    let mut answer = request.send_lazy().map_err(|fault| match fault {
        minreq::Error::IoError(fault) => CallError::Unreachable(fault.to_string()),
        minreq::Error::AddressNotFound => {
            CallError::Unreachable("the host name has no address".into())
        }
        other => CallError::Unreadable(other.to_string()),
    })?;
    if answer.reason_phrase == NO_STATUS_LINE {
        return Err(CallError::Unreachable("the connection ended without an answer".into()));
    }
    let (status, headers) = (answer.status_code, std::mem::take(&mut answer.headers));
    Ok(Head { status, headers, body: Box::new(answer) })
}
