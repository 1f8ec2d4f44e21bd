//! Where one request ends and the next begins, as every reader on the way must see it (RFC 9112 §6.3).
//!
//! hyper reads some requests generously: `Content-Length` beside `Transfer-Encoding`, a bare line feed
//! as a line's end, `gzip, chunked`. A proxy in front may read the same bytes differently, and what is
//! then a body to one is a second request to the other. Here the bytes are watched before hyper gets
//! them, so that such a request is refused and its connection ends. Must stay true: whatever hyper
//! takes for one request gets exactly one verdict, in order. Not here: sockets, what hyper refuses by
//! itself (broken syntax), which answer a verdict becomes.

use std::collections::VecDeque;

/// The longest line; hyper refuses heads, chunk extensions and trailers well below.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Bytes of a line's beginning that are kept until its end has come. A header that matters here and is
/// longer is refused: nobody pads a length or a host with blanks for good.
const START_BYTES: usize = 300;
/// Bytes of a line's end that are looked at: the version of HTTP and the line end.
const END_BYTES: usize = 10;

/// Why a request has no end, or no host, that everybody agrees on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambiguous {
    /// A line of the head ends with LF alone.
    BareLineFeed,
    LengthAndEncoding,
    /// A header that says where the request ends, or whom it is for, is longer than any that is meant.
    Padded,
    /// Anything but one `Transfer-Encoding: chunked`.
    Encoding,
    /// HTTP/1.1 without `Host`, or any request with two of them.
    Host,
    /// hyper found a request where none was seen to begin.
    Unseen,
}

impl Ambiguous {
    pub fn text(self) -> &'static str {
        match self {
            Ambiguous::BareLineFeed => "A line of the request's head does not end with CR LF",
            Ambiguous::LengthAndEncoding => {
                "The request has both Content-Length and Transfer-Encoding"
            }
            Ambiguous::Padded => "Content-Length, Transfer-Encoding or Host is far too long",
            Ambiguous::Encoding => "Transfer-Encoding is something else than chunked, once",
            Ambiguous::Host => "The request needs exactly one Host header",
            Ambiguous::Unseen => "The request does not begin where the one before it ended",
        }
    }
}

/// The bytes of a body cannot be told apart from what follows; the connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// What is being read.
enum State {
    Head(Head),
    /// Bytes of a body that are left.
    Length(u64),
    ChunkSize,
    /// Bytes of a chunk that are left, with the line end behind them.
    Chunk(u64),
    Trailer,
    /// A request was refused: nothing behind it is looked at.
    Ended,
}

/// What was seen of a head so far.
#[derive(Default)]
struct Head {
    has_request_line: bool,
    is_http_11: bool,
    hosts: u32,
    length: Option<u64>,
    encodings: u32,
    is_chunked: bool,
    has_bare_line_feed: bool,
    is_padded: bool,
}

/// The beginning of a line whose end has not come: of a long one no more than matters.
#[derive(Default)]
struct Begun {
    start: Vec<u8>,
    end: Vec<u8>,
    length: usize,
}

/// A whole line, its line feed included.
struct Line<'a> {
    /// All of it, or as much as `START_BYTES`.
    start: &'a [u8],
    end: &'a [u8],
    length: usize,
}

/// The bytes of one connection.
pub struct Framing {
    state: State,
    begun: Begun,
    verdicts: VecDeque<Result<(), Ambiguous>>,
}

impl Default for Framing {
    fn default() -> Self {
        Framing {
            state: State::Head(Head::default()),
            begun: Begun::default(),
            verdicts: VecDeque::new(),
        }
    }
}

impl Framing {
    /// Looks at the next bytes that the client sent.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Malformed> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Ended => return Ok(()),
                State::Length(left) | State::Chunk(left) => {
                    let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= taken as u64;
                    bytes = &bytes[taken..];
                    if *left == 0 {
                        self.state = match self.state {
                            State::Chunk(_) => State::ChunkSize,
                            _ => State::Head(Head::default()),
                        };
                    }
                }
                State::Head(_) | State::ChunkSize | State::Trailer => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let (part, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
                    bytes = rest;
                    if end.is_some() && self.begun.length == 0 {
                        self.state =
                            take_line(&mut self.state, Line::of(part), &mut self.verdicts)?;
                        continue;
                    }
                    self.begun.add(part);
                    if self.begun.length > LINE_BYTES_MAX {
                        return Err(Malformed);
                    }
                    if end.is_some() {
                        let begun = std::mem::take(&mut self.begun);
                        self.state = take_line(&mut self.state, begun.line(), &mut self.verdicts)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The verdict on the next request, which hyper has read.
    pub fn next_request(&mut self) -> Result<(), Ambiguous> {
        self.verdicts.pop_front().unwrap_or(Err(Ambiguous::Unseen))
    }
}

impl Begun {
    fn add(&mut self, part: &[u8]) {
        let room = START_BYTES.saturating_sub(self.start.len());
        self.start.extend_from_slice(&part[..part.len().min(room)]);
        self.end.extend_from_slice(&part[part.len().saturating_sub(END_BYTES)..]);
        let surplus = self.end.len().saturating_sub(END_BYTES);
        self.end.drain(..surplus);
        self.length += part.len();
    }

    fn line(&self) -> Line<'_> {
        Line { start: &self.start, end: &self.end, length: self.length }
    }
}

impl<'a> Line<'a> {
    fn of(line: &'a [u8]) -> Line<'a> {
        Line { start: line, end: line, length: line.len() }
    }

    fn is_bare(&self) -> bool {
        !self.end.ends_with(b"\r\n")
    }

    fn is_empty(&self) -> bool {
        self.length == 2 - usize::from(self.is_bare())
    }
}

/// What follows a whole line.
fn take_line(
    state: &mut State,
    line: Line<'_>,
    verdicts: &mut VecDeque<Result<(), Ambiguous>>,
) -> Result<State, Malformed> {
    match state {
        State::Head(head) => {
            // An empty line before a request line means nothing, as a body's stray end (§2.2).
            head.has_bare_line_feed |= line.is_bare();
            if !line.is_empty() {
                head.take_line(&line);
            } else if head.has_request_line {
                let verdict = head.verdict();
                verdicts.push_back(verdict);
                return Ok(match verdict {
                    Err(_) => State::Ended,
                    Ok(()) if head.is_chunked => State::ChunkSize,
                    Ok(()) => match head.length {
                        None | Some(0) => State::Head(Head::default()),
                        Some(length) => State::Length(length),
                    },
                });
            }
            Ok(State::Head(std::mem::take(head)))
        }
        _ if line.is_bare() => Err(Malformed),
        State::Trailer if line.is_empty() => Ok(State::Head(Head::default())),
        State::Trailer => Ok(State::Trailer),
        _ => match chunk_size(line.start).ok_or(Malformed)? {
            0 => Ok(State::Trailer),
            size => Ok(State::Chunk(size.checked_add(2).ok_or(Malformed)?)),
        },
    }
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    // All of them are ASCII.
    u64::from_str_radix(str::from_utf8(&line[..digits]).ok()?, 16).ok()
}

impl Head {
    fn take_line(&mut self, line: &Line<'_>) {
        if !std::mem::replace(&mut self.has_request_line, true) {
            self.is_http_11 = line.end.trim_ascii_end().ends_with(b"HTTP/1.1");
            return;
        }
        let colon = line.start.iter().position(|byte| *byte == b':');
        let (name, value) = line.start.split_at(colon.unwrap_or(line.start.len()));
        let matters: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"host"];
        if line.length > START_BYTES {
            self.is_padded |= matters.iter().any(|matters| name.eq_ignore_ascii_case(matters));
        }
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            // hyper refuses what is no number, and two that differ.
            let number = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            self.length = Some(number.unwrap_or(0));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.encodings += 1;
            self.is_chunked = value.eq_ignore_ascii_case(b"chunked");
        } else if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
        }
    }

    fn verdict(&self) -> Result<(), Ambiguous> {
        if self.has_bare_line_feed {
            Err(Ambiguous::BareLineFeed)
        } else if self.is_padded {
            Err(Ambiguous::Padded)
        } else if self.encodings > 0 && self.length.is_some() {
            Err(Ambiguous::LengthAndEncoding)
        } else if self.encodings > 1 || self.encodings == 1 && !self.is_chunked {
            Err(Ambiguous::Encoding)
        } else if self.hosts > 1 || self.hosts == 0 && self.is_http_11 {
            Err(Ambiguous::Host)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(bytes: &[u8]) -> Vec<Result<(), Ambiguous>> {
        let mut framing = Framing::default();
        framing.feed(bytes).expect("well formed");
        framing.verdicts.into()
    }

    #[test]
    fn a_request_that_readers_could_end_in_different_places_is_named() {
        for (head, verdict) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n", Ok(())),
            ("GET / HTTP/1.0\r\n", Ok(())),
            ("\r\n\r\nGET / HTTP/1.1\r\nhOST:x\r\n", Ok(())),
            ("GET / HTTP/1.1\r\n", Err(Ambiguous::Host)),
            ("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n", Err(Ambiguous::Host)),
            ("GET / HTTP/1.1\nHost: x\r\n", Err(Ambiguous::BareLineFeed)),
            ("\nGET / HTTP/1.1\r\nHost: x\r\n", Err(Ambiguous::BareLineFeed)),
            ("P / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n", Ok(())),
            ("P / HTTP/1.1\r\nHost: x\r\ntransfer-encoding:\t Chunked \r\n", Ok(())),
            (
                "P / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
                Err(Ambiguous::LengthAndEncoding),
            ),
            (
                "P / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: x\r\n",
                Err(Ambiguous::LengthAndEncoding),
            ),
            ("P / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n", Err(Ambiguous::Encoding)),
            (
                "P / HTTP/1.1\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
                Err(Ambiguous::Encoding),
            ),
            ("P / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n", Err(Ambiguous::Encoding)),
        ] {
            assert_eq!(verdicts(format!("{head}\r\n").as_bytes()), [verdict], "{head:?}");
        }
    }

    #[test]
    fn a_long_line_is_judged_alike_whole_and_in_pieces_and_is_not_kept() {
        let padded = format!("Content-Length:{}5\r\n", " ".repeat(START_BYTES));
        let long = format!("A: {}\r\n", "x".repeat(20_000));
        let target = "x".repeat(20_000);
        for (lines, verdict) in [
            (padded.clone(), Err(Ambiguous::Padded)),
            (long.clone(), Ok(())),
            (long + &padded, Err(Ambiguous::Padded)),
        ] {
            let bytes = format!("P /{target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
            assert_eq!(verdicts(bytes.as_bytes()), [verdict]);
            let mut framing = Framing::default();
            for byte in bytes.as_bytes() {
                framing.feed(&[*byte]).expect("well formed");
                assert!(framing.begun.start.len() <= START_BYTES);
            }
            assert_eq!(framing.verdicts, [verdict]);
        }
    }

    #[test]
    fn what_stands_in_a_body_is_no_request() {
        let inner =
            "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: y\r\n\r\n";
        let head = "POST / HTTP/1.1\r\nHost: x\r\n";
        let sized = format!("{head}Content-Length: {}\r\n\r\n{inner}", inner.len());
        let chunked = format!(
            "{head}Transfer-Encoding: chunked\r\n\r\n{:x} ;ext=\"1\"\r\n{inner}\r\n000\r\nA: b\r\n\r\n",
            inner.len()
        );
        let both = format!("{sized}{chunked}{sized}\r\n{head}\r\n");
        assert_eq!(verdicts(both.as_bytes()), [Ok(()); 4]);
    }

    #[test]
    fn behind_a_refused_request_nothing_counts() {
        let refused = "GET / HTTP/1.1\r\n\r\n";
        let good = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut framing = Framing::default();
        framing.feed(format!("{good}{refused}{good}").as_bytes()).expect("well formed");
        assert_eq!(framing.next_request(), Ok(()));
        assert_eq!(framing.next_request(), Err(Ambiguous::Host));
        assert_eq!(framing.next_request(), Err(Ambiguous::Unseen));
    }

    #[test]
    fn a_body_without_a_certain_end_is_malformed() {
        let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in [
            "5\n",
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "ffffffffffffffff\r\n",
            "10000000000000000\r\n",
            "0\r\nA: b\n",
            "0\r\n\n",
        ] {
            let bytes = format!("{head}{body}");
            assert_eq!(Framing::default().feed(bytes.as_bytes()), Err(Malformed), "{body:?}");
        }
        let endless = [b'a'; LINE_BYTES_MAX + 1];
        assert_eq!(Framing::default().feed(&endless), Err(Malformed));
    }
}
