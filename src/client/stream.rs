//! Server-sent events, one at a time, as far as our own API uses them.
//!
//! Must stay true: a line and an event have a size limit, so that a stranger's endless line fills no
//! memory. Not here: coming back after an end; the caller knows where it was.

use super::exchange::Head;
use std::io::{BufRead, BufReader, Read};

/// The longest line and the longest event, in bytes: a line of a log has 2,000 characters.
const EVENT_LIMIT_BYTES: usize = 64 * 1024;

/// One event. `name` is empty unless the server gave one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub data: String,
}

/// An open stream.
pub struct EventStream(BufReader<Head>);

impl EventStream {
    pub(super) fn new(head: Head) -> Self {
        EventStream(BufReader::new(head))
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = self.0.by_ref().take(EVENT_LIMIT_BYTES as u64).read_until(b'\n', &mut line);
        let complete = read.is_ok() && line.pop() == Some(b'\n');
        complete.then(|| String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
    }
}

/// Ends with the stream: when the server ends it, the connection breaks, its time is over, or what
/// comes is too long to be ours. Which of them it was does not matter to who asks again anyway.
impl Iterator for EventStream {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let line = self.line()?;
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() => match event == Event::default() {
                    true => continue,
                    false => return Some(event),
                },
                "event" => event.name = value.to_owned(),
                "data" => {
                    if !event.data.is_empty() {
                        event.data.push('\n');
                    }
                    event.data.push_str(value);
                }
                _ => {}
            }
            if event.data.len() > EVENT_LIMIT_BYTES {
                return None;
            }
        }
    }
}
