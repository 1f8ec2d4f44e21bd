//! The lightest client that will do: one keep-alive connection, one write and usually one read per
//! request, requests made by hand in a buffer that stays.
//!
//! Must stay true: of an answer only its status, its length and an id are looked at, so that the
//! generator costs a fraction of the server. Not here: chunked answers, redirects, retries.

use crate::figures::Latencies;
use std::fmt::Arguments;
use std::io::Write;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    body: Vec<u8>,
    answer: Vec<u8>,
    /// How long each exchange took, from its write to the last byte of its answer.
    pub times: Latencies,
}

impl Connection {
    pub async fn new(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Connection {
            stream,
            request: Vec::new(),
            body: Vec::new(),
            answer: vec![0; 8 << 10],
            times: Latencies::default(),
        }
    }

    /// Puts a request together; `exchange` sends it.
    pub fn get(&mut self, path: Arguments<'_>) {
        self.request.clear();
        write!(self.request, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("memory");
    }

    /// Puts a request together; `exchange` sends it.
    pub fn post(&mut self, path: Arguments<'_>, body: Arguments<'_>) {
        self.body.clear();
        self.body.write_fmt(body).expect("memory");
        let length = self.body.len();
        self.request.clear();
        write!(
            self.request,
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        )
        .expect("memory");
        self.request.extend_from_slice(&self.body);
    }

    /// Sends the request and returns the body; anything but a 2xx ends the program with its text.
    pub async fn exchange(&mut self) -> &[u8] {
        let sent = Instant::now();
        self.stream.write_all(&self.request).await.expect("the server reads");
        let (mut filled, mut body) = (0, None::<Range<usize>>);
        let body = loop {
            if filled == self.answer.len() {
                self.answer.resize(filled * 2, 0);
            }
            let count = self.stream.read(&mut self.answer[filled..]).await;
            filled += match count.expect("the server answers") {
                0 => panic!("the server closed the connection"),
                count => count,
            };
            body = body.or_else(|| place_of_body(&self.answer[..filled]));
            match &body {
                Some(body) if filled >= body.end => break body.clone(),
                _ => {}
            }
        };
        self.times.push(sent.elapsed());
        assert!(self.answer[9] == b'2', "{}", self.answer[..filled].escape_ascii());
        &self.answer[body]
    }
}

/// Where the body will be, once the head is there.
fn place_of_body(answer: &[u8]) -> Option<Range<usize>> {
    const LENGTH: &[u8] = b"\r\ncontent-length: ";
    let start = find(answer, b"\r\n\r\n")? + 4;
    let length = match find(&answer[..start], LENGTH) {
        Some(at) => answer[at + LENGTH.len()..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .fold(0, |length, digit| length * 10 + usize::from(digit - b'0')),
        None if answer[9..].starts_with(b"204") => 0,
        None => panic!("an answer without a length: {}", answer[..start].escape_ascii()),
    };
    Some(start..start + length)
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += text[at..].iter().position(|byte| *byte == part[0])?;
        if text[at..].starts_with(part) {
            return Some(at);
        }
        at += 1;
    }
}

/// The text between `start` and the next quotation mark.
pub fn field_after(body: &[u8], start: &[u8]) -> String {
    let at = find(body, start);
    let at = at.unwrap_or_else(|| panic!("no {start:?} in {}", body.escape_ascii())) + start.len();
    let text = body[at..].split(|byte| *byte == b'"').next().unwrap_or_default();
    String::from_utf8(text.to_vec()).expect("answers are UTF-8")
}

/// The id of a record that contains no other record.
pub fn record_id(body: &[u8]) -> String {
    field_after(body, b"\"id\":\"")
}

/// The ids of a list of such records.
pub fn record_ids(mut list: &[u8]) -> Vec<String> {
    let mut ids = Vec::new();
    while let Some(at) = find(list, b"\"id\":\"") {
        ids.push(record_id(&list[at..]));
        list = &list[at + 1..];
    }
    ids
}

/// The lease's id in the answer of a lease or a claim.
pub fn lease_id(body: &[u8]) -> String {
    let at = find(body, b"\"lease\":{");
    record_id(&body[at.unwrap_or_else(|| panic!("no lease in {}", body.escape_ascii()))..])
}
