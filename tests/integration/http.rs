//! A small HTTP/1.1 client over a plain socket: it can send what no polite client would.
//!
//! It keeps its connection alive, reads `content-length` and chunked bodies, and takes an answer
//! that arrives while it is still sending. Not here: TLS, redirects, retries.

use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than the longest wait that the server allows (claim, 55 s).
const ANSWER_LIMIT: Duration = Duration::from_secs(70);

/// One keep-alive connection to one server; it is opened again when the server closed it.
pub struct Client {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
    /// Sent with every request, e.g. the API key.
    pub headers: Vec<(String, String)>,
}

/// What came back: header names in lower case, in the order of arrival.
#[derive(Clone, Debug)]
pub struct Answer {
    pub asked: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Client { address, stream: None, headers: Vec::new() }
    }

    pub fn with_key(mut self, key: &str) -> Self {
        self.headers.push(("X-Runtime-API-Key".into(), key.into()));
        self
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], None)
    }

    #[track_caller]
    pub fn delete(&mut self, path: &str) -> Answer {
        self.send("DELETE", path, &[], None)
    }

    /// A POST without any body and without a content type.
    #[track_caller]
    pub fn post_nothing(&mut self, path: &str) -> Answer {
        self.send("POST", path, &[], None)
    }

    #[track_caller]
    pub fn post(&mut self, path: &str, body: Value) -> Answer {
        self.post_text(path, "application/json", body.to_string().as_bytes())
    }

    #[track_caller]
    pub fn post_text(&mut self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        self.send("POST", path, &[("Content-Type", content_type)], Some(body))
    }

    #[track_caller]
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        match self.try_send(method, path, headers, body) {
            Ok(answer) => answer,
            Err(error) => panic!("{method} {path}: no answer: {error}"),
        }
    }

    /// Like `send`, for tests in which the server may die in the middle.
    pub fn try_send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> io::Result<Answer> {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += &format!("Host: {}\r\n", self.address);
        }
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.chain(headers.iter().copied()) {
            head += &format!("{name}: {value}\r\n");
        }
        match body {
            Some(body) => head += &format!("Content-Length: {}\r\n\r\n", body.len()),
            None if method == "POST" => head += "Content-Length: 0\r\n\r\n",
            None => head += "\r\n",
        }
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body.unwrap_or_default());
        self.try_raw(method, path, &bytes)
    }

    /// Asks on the connection that an earlier request left open; it fails the test if that has ended.
    #[track_caller]
    pub fn get_on_kept(&mut self, path: &str) -> Answer {
        assert!(self.stream.is_some(), "no connection was left open");
        let own = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", own.collect::<String>());
        self.exchange("GET", path, head.as_bytes()).expect("the connection is still open")
    }

    /// Sends bytes as they are and reads one answer; `method` says whether it has a body.
    pub fn try_raw(&mut self, method: &str, path: &str, bytes: &[u8]) -> io::Result<Answer> {
        let reused = self.stream.is_some();
        match self.exchange(method, path, bytes) {
            // A kept connection that the server had closed meanwhile: nothing was read, ask anew.
            Err(error) if reused && error.kind() == io::ErrorKind::ConnectionAborted => {
                self.exchange(method, path, bytes)
            }
            done => done,
        }
    }

    fn exchange(&mut self, method: &str, path: &str, bytes: &[u8]) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(self.address)?,
        };
        // A server may answer (413) and close before all is sent: what counts is its answer.
        let sent = stream.get_mut().write_all(bytes);
        let mut answer = match (read_head(&mut stream), sent) {
            (Ok(answer), _) => answer,
            (Err(error), _) if error.kind() == io::ErrorKind::ConnectionAborted => {
                return Err(error);
            }
            (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(error),
        };
        answer.asked = format!("{method} {path}");
        let bodiless = method == "HEAD" || answer.status == 204 || answer.status == 304;
        if !bodiless {
            answer.body = read_body(&mut stream, &answer)?;
        }
        if answer.header("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close")) {
            self.stream = Some(stream);
        }
        Ok(answer)
    }
}

pub fn connect(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    Ok(BufReader::new(stream))
}

/// Reads status and headers; an end of the stream before the first byte is `ConnectionAborted`.
pub fn read_head(stream: &mut BufReader<TcpStream>) -> io::Result<Answer> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status: u16 = status.ok_or_else(|| io::Error::other(format!("not HTTP: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        if status >= 200 {
            return Ok(Answer { asked: String::new(), status, headers, body: Vec::new() });
        }
    }
}

pub fn read_body(stream: &mut BufReader<TcpStream>, answer: &Answer) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if answer.header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        while let Some(chunk) = read_chunk(stream)? {
            body.extend_from_slice(&chunk);
        }
    } else if let Some(length) = answer.header("content-length") {
        let length = length.parse().map_err(io::Error::other)?;
        body.resize(length, 0);
        stream.read_exact(&mut body)?;
    } else {
        stream.read_to_end(&mut body)?;
    }
    Ok(body)
}

/// The next chunk of a chunked body, `None` at its end.
pub fn read_chunk(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Vec<u8>>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let size = line.trim().split(';').next().unwrap_or_default();
    let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
    let mut chunk = vec![0; size + 2];
    stream.read_exact(&mut chunk)?;
    chunk.truncate(size);
    Ok((size > 0).then_some(chunk))
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(given, _)| given == name);
        found.next().map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{self}: the body is no JSON: {error}"))
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        self.json()
    }

    /// Demands a refusal in this project's form: `error`, a stable `code`, a request id.
    /// Returns the code.
    #[track_caller]
    pub fn refused(&self, status: u16, error: &str) -> String {
        assert_eq!(self.json()["error"], error, "{self}");
        self.refused_somehow(status)
    }

    /// Like `refused` where the wording is ours to choose.
    #[track_caller]
    pub fn refused_somehow(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self}");
        let body = self.json();
        assert!(!body["error"].is_null(), "{self}: an error carries `error`");
        assert!(self.header("x-request-id").is_some(), "{self}: every answer has a request id");
        let code = body["code"].as_str().unwrap_or_default().to_owned();
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(!code.is_empty() && code.chars().all(word), "{self}: `code` is a snake_case word");
        code
    }

    /// Demands a failed validation with exactly these messages under these fields.
    #[track_caller]
    pub fn invalid(&self, field_errors: Value) {
        self.refused_somehow(400);
        let error = &self.json()["error"];
        assert_eq!(error["fieldErrors"], field_errors, "{self}");
        assert_eq!(error["formErrors"], serde_json::json!([]), "{self}");
    }

    /// Demands a failed validation of the body as a whole.
    #[track_caller]
    pub fn invalid_form(&self, message: &str) {
        self.refused_somehow(400);
        let expected = serde_json::json!({"formErrors": [message], "fieldErrors": {}});
        assert_eq!(self.json()["error"], expected, "{self}");
    }

    /// Demands a body that could not be read: the text stands in `error` and in `message` (§1).
    #[track_caller]
    pub fn unreadable(&self, status: u16) {
        self.refused_somehow(status);
        let body = self.json();
        assert!(body["error"].is_string(), "{self}");
        assert_eq!(body["error"], body["message"], "{self}: today's clients read `message`");
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text: String = self.text().chars().take(600).collect();
        write!(f, "{} answered {} {text}", self.asked, self.status)
    }
}
