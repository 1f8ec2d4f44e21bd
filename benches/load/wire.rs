//! The lightest client that will do: one blocking keep-alive connection, requests made by hand,
//! of an answer only its length, its status and an id are looked at.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

pub struct Connection {
    stream: TcpStream,
    /// The worker that this connection leases for.
    pub worker: String,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    pub fn new(address: SocketAddr, worker: &str) -> Connection {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Connection {
            stream,
            worker: worker.into(),
            request: Vec::new(),
            answer: vec![0; 64 * 1024],
        }
    }

    pub fn get(&mut self, path: &str) -> &str {
        self.request.clear();
        write!(self.request, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("memory");
        self.exchange()
    }

    pub fn post(&mut self, path: &str, body: &str) -> &str {
        self.request.clear();
        let length = body.len();
        write!(
            self.request,
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .expect("memory");
        self.exchange()
    }

    /// Sends the request and returns the body; anything but a 2xx ends the program with its text.
    fn exchange(&mut self) -> &str {
        self.stream.write_all(&self.request).expect("the server reads");
        let (mut filled, mut end) = (0, None);
        let body = loop {
            if filled == self.answer.len() {
                self.answer.resize(filled * 2, 0);
            }
            let count = self.stream.read(&mut self.answer[filled..]).expect("the server answers");
            assert!(count > 0, "the server closed the connection");
            filled += count;
            end = end.or_else(|| head_and_length(&self.answer[..filled]));
            match end {
                Some((head, length)) if filled >= head + length => break head..head + length,
                _ => {}
            }
        };
        assert!(self.answer[9] == b'2', "{}", String::from_utf8_lossy(&self.answer[..filled]));
        std::str::from_utf8(&self.answer[body]).expect("answers are UTF-8")
    }
}

/// Where the body begins and how long it is, once the head is there.
fn head_and_length(answer: &[u8]) -> Option<(usize, usize)> {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&answer[..head]).expect("headers are ASCII");
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Some((head, length.unwrap_or(0)))
}

/// The text between `start` and the next quotation mark.
pub fn field_after(body: &str, start: &str) -> String {
    let at = body.find(start).unwrap_or_else(|| panic!("no {start} in {body}")) + start.len();
    body[at..].split('"').next().unwrap_or_default().to_owned()
}

/// The id of a record that contains no other record.
pub fn record_id(body: &str) -> String {
    field_after(body, "\"id\":\"")
}

/// The lease's id in the answer of a lease or a claim.
pub fn lease_id(body: &str) -> String {
    let at = body.find("\"lease\":{").unwrap_or_else(|| panic!("no lease in {body}"));
    record_id(&body[at..])
}
