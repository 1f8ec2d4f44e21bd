//! One try of one call: what is sent, what counts as an answer, and what a failure is called.
//!
//! Must stay true (`ECOSYSTEM §5`): redirects are never followed, since the key would go along; a body
//! is read up to a limit and within the try's time, and one that is shorter than promised is none;
//! what has the key in it is not passed on. Not here: retries, turns, threads.

use super::settings::Connection;
use crate::outgoing::Dialer;
use crate::outgoing::blocking::{self, Question};
use serde::de::IgnoredAny;
use std::io::{self, Read};
use std::time::Duration;

const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// The longest part of a refusal that is passed on, in characters.
const SAID_CHARS_MAX: usize = 4_000;
/// The words of the system that we replace for an upstream that cannot be reached.
const UNREACHABLE: &str = "fetch failed";
/// minreq's word for an answer without a first line, which it takes for a 503.
const NO_STATUS_LINE: &str = "Server did not provide a status line";

const KEY_HEADER: &str = "X-MEMBRIDGE-ADMIN";
const NOT_HTTP: &str = "what answers does not speak HTTP as Membridge does";

/// What is asked: a GET, or a POST of this JSON.
#[derive(Clone)]
pub struct Request {
    pub path: String,
    pub body: Option<Vec<u8>>,
    /// Whether our key goes along.
    pub with_key: bool,
}

impl Request {
    /// Whether Membridge looks at the key for this.
    pub fn is_keyed(&self) -> bool {
        self.path != "/health"
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// No answer, or half of one.
    Unreachable,
    /// A status outside 200 to 299; what was said with it, without our key.
    Status { status: u16, said: String },
    /// An answer that is no JSON, or too long.
    Unusable,
    /// Nothing was sent: it failed too often, and is asked again after this time.
    Resting { seconds: u64 },
    /// Nothing was sent: too many wait already.
    Busy,
}

/// Why a call brought nothing usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    /// A short word for programs that show it, as the system before had it.
    pub error: String,
    /// What a person can act on.
    pub detail: String,
}

impl Fault {
    pub fn unreachable(detail: String) -> Fault {
        Fault { kind: FaultKind::Unreachable, error: UNREACHABLE.into(), detail }
    }

    pub fn resting(seconds: u64, detail: String) -> Fault {
        Fault { kind: FaultKind::Resting { seconds }, error: UNREACHABLE.into(), detail }
    }

    pub fn busy() -> Fault {
        let detail = "Too many calls already wait for Membridge; try again in a second";
        Fault { kind: FaultKind::Busy, error: "busy".into(), detail: detail.into() }
    }

    fn unusable(error: &str, detail: String) -> Fault {
        Fault { kind: FaultKind::Unusable, error: error.into(), detail }
    }

    /// Whether it counts as a failure of the network or of the server, so that it may pass by itself.
    pub fn may_pass(&self) -> bool {
        match self.kind {
            FaultKind::Unreachable => true,
            FaultKind::Status { status, .. } => status >= 500,
            FaultKind::Unusable | FaultKind::Resting { .. } | FaultKind::Busy => false,
        }
    }
}

/// Sends the request and reads the answer, in at most `seconds`, which span all of it.
pub fn once(
    dialer: &Dialer,
    connection: &Connection,
    request: &Request,
    seconds: u64,
) -> Result<Vec<u8>, Fault> {
    let (url, path) = (&connection.url, request.path.as_str());
    // minreq takes `[` for the host of an IPv6 literal, and whatever a resolver makes of that would get
    // the key; its TLS would be a second one.
    let came = match url.is_https() || url.host_and_port().0.contains(':') {
        true => over_outgoing(dialer, connection, request, seconds),
        false => over_minreq(connection, request, seconds),
    };
    let (status, body) = came.map_err(|why| {
        Fault::unreachable(format!("Membridge cannot be reached at {url}: {why}"))
    })?;
    let broke_off =
        || Fault::unreachable(format!("Membridge at {url} broke off its answer to {path}"));
    let Some(status) = status else { return Err(broke_off()) };
    if !(200..600).contains(&status) {
        let detail = format!("What answers at {url} is not Membridge: status {status}");
        return Err(Fault::unreachable(detail));
    }
    let body = body.map_err(|_| broke_off())?;
    if !(200..300).contains(&status) {
        return Err(refusal(connection, path, status, &body));
    }
    if body.len() as u64 > ANSWER_BYTES_MAX {
        let mib = ANSWER_BYTES_MAX >> 20;
        let detail = format!("Membridge's answer to {path} is larger than {mib} MiB");
        return Err(Fault::unusable("Membridge's answer is too large", detail));
    }
    let is_json =
        str::from_utf8(&body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    if !is_json {
        let detail = format!("What answers at {url} is not Membridge: {path} is no JSON");
        return Err(Fault::unusable("Membridge returned no valid JSON", detail));
    }
    Ok(body)
}

/// The status of an answer, if it has one, and its body as far as it came.
type Came = (Option<u16>, io::Result<Vec<u8>>);

fn over_outgoing(
    dialer: &Dialer,
    connection: &Connection,
    request: &Request,
    seconds: u64,
) -> Result<Came, String> {
    let mut headers = vec![("Content-Type", "application/json".to_owned())];
    if let (Some(key), true) = (&connection.key, request.with_key) {
        headers.push((KEY_HEADER, key.expose().to_owned()));
    }
    let question = Question { path: request.path.clone(), headers, body: request.body.clone() };
    let time = Duration::from_secs(seconds);
    let answer = blocking::ask(dialer, &connection.url, question, time);
    let answer = answer.map_err(|fault| match fault {
        blocking::Fault::Unreachable(why) => why,
        blocking::Fault::NotHttp => NOT_HTTP.into(),
    })?;
    let mut body = Vec::new();
    let read = answer.body.take(ANSWER_BYTES_MAX + 1).read_to_end(&mut body);
    Ok((Some(answer.status), read.map(|_| body)))
}

fn over_minreq(connection: &Connection, request: &Request, seconds: u64) -> Result<Came, String> {
    let mut response =
        prepared(connection, request, seconds).send_lazy().map_err(|cause| in_words(&cause))?;
    let has_status = response.reason_phrase != NO_STATUS_LINE;
    Ok((has_status.then_some(response.status_code), read_body(&mut response)))
}

fn prepared(connection: &Connection, request: &Request, seconds: u64) -> minreq::Request {
    let url = format!("{}{}", connection.url, request.path);
    let prepared = match &request.body {
        None => minreq::get(url),
        Some(body) => minreq::post(url).with_body(body.clone()),
    };
    let prepared = prepared
        .with_follow_redirects(false)
        .with_timeout(seconds)
        .with_header("Content-Type", "application/json")
        .with_header("Connection", "close");
    match &connection.key {
        Some(key) if request.with_key => prepared.with_header(KEY_HEADER, key.expose()),
        _ => prepared,
    }
}

/// Reads to the end, or one byte more than is allowed. minreq takes a connection that breaks off for an
/// end, so what was promised is counted here.
fn read_body(response: &mut minreq::ResponseLazy) -> io::Result<Vec<u8>> {
    let header = |name: &str| {
        let mut headers = response.headers.iter();
        headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let is_chunked = header("transfer-encoding").is_some();
    let promised = header("content-length").and_then(|length| length.parse::<u64>().ok());
    let promised = promised.filter(|_| !is_chunked && response.status_code != 304);
    let mut body = Vec::new();
    response.take(ANSWER_BYTES_MAX + 1).read_to_end(&mut body)?;
    let enough =
        promised.is_none_or(|promised| body.len() as u64 >= promised.min(ANSWER_BYTES_MAX));
    if enough { Ok(body) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn refusal(connection: &Connection, path: &str, status: u16, body: &[u8]) -> Fault {
    let detail = match status {
        401 | 403 => "Membridge answers, but refuses the admin key".into(),
        300..=399 => {
            "Membridge sends us elsewhere, which is never followed; give its own address".into()
        }
        _ => format!("Membridge answers {path} with status {status}"),
    };
    let mut said = String::from_utf8_lossy(body).into_owned();
    if let Some(key) = &connection.key {
        // As it is, and as it stands in a JSON text.
        let quoted = serde_json::Value::from(key.expose()).to_string();
        said = said.replace(key.expose(), "****").replace(quoted.trim_matches('"'), "****");
    }
    let said = said.chars().take(SAID_CHARS_MAX).collect();
    let error = format!("Membridge returned {status}");
    Fault { kind: FaultKind::Status { status, said }, error, detail }
}

/// minreq's own words for a few of its errors would puzzle a person.
fn in_words(cause: &minreq::Error) -> String {
    match cause {
        minreq::Error::IoError(cause) => cause.to_string(),
        minreq::Error::AddressNotFound => "the host name has no address".into(),
        _ => NOT_HTTP.into(),
    }
}
