//! A stand-in of the Anthropic Messages API on loopback, so that the real Claude CLI runs end to
//! end without internet and without an account. Used by including this file as a module.
//!
//! It must stay plain std and speak what the CLI really asks for: `POST /v1/messages?beta=true`
//! with `"stream":true`, answered as server-sent events. Not here: any judgement of the request,
//! tools, authentication.
#![allow(dead_code, reason = "each test that includes this file uses its own part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// What the next requests are answered with.
#[derive(Clone)]
pub enum Reply {
    /// The model says this; 11 input and 7 output tokens are counted.
    Text(String),
    /// The provider refuses with this status (429, 500, 529…).
    Refusal(u16),
    /// A subscription's limit is reached until this moment, in Unix seconds.
    UsageLimit { resets_at: i64 },
}

struct State {
    reply: Reply,
    held: bool,
    bodies: Vec<String>,
}

/// A running stand-in. Its threads end with the test process.
pub struct Messages {
    address: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Messages {
    pub fn start(reply: Reply) -> Messages {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = State { reply, held: false, bodies: Vec::new() };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let for_thread = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = for_thread.clone();
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Messages { address, shared }
    }

    /// For `ANTHROPIC_BASE_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the real CLI needs in its environment to talk to us, quietly and to nobody else. HOME
    /// must be a folder of the test's own besides: the CLI writes its settings there.
    pub fn environment(&self) -> Vec<(String, String)> {
        [("ANTHROPIC_BASE_URL", self.url().as_str()), ("ANTHROPIC_API_KEY", "anything")]
            .into_iter()
            .chain(QUIET)
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// The same for a subscription's login, to which limits are told.
    pub fn environment_of_subscriber(&self) -> Vec<(String, String)> {
        let others = self.environment().into_iter().filter(|(name, _)| name != "ANTHROPIC_API_KEY");
        others.chain([("CLAUDE_CODE_OAUTH_TOKEN".into(), "sk-ant-oat01-anything".into())]).collect()
    }

    pub fn reply_with(&self, reply: Reply) {
        self.shared.0.lock().unwrap().reply = reply;
    }

    /// From now on requests are read and recorded, but answered only after `release`.
    pub fn hold(&self) {
        self.shared.0.lock().unwrap().held = true;
    }

    pub fn release(&self) {
        self.shared.0.lock().unwrap().held = false;
        self.shared.1.notify_all();
    }

    /// Waits until at least `count` requests for a message have come; false after `limit`.
    pub fn wait_for_requests(&self, count: usize, limit: Duration) -> bool {
        let state = self.shared.0.lock().unwrap();
        let waited =
            self.shared.1.wait_timeout_while(state, limit, |state| state.bodies.len() < count);
        !waited.unwrap().1.timed_out()
    }

    /// The JSON bodies of the requests for a message, in order.
    pub fn bodies(&self) -> Vec<String> {
        self.shared.0.lock().unwrap().bodies.clone()
    }
}

/// Switches that keep the real CLI quiet and offline; both pass a worker's allow-list. Seen with
/// 2.1.197:
/// - without the first it tries again for more than a minute when the provider refuses (a limit of a
///   subscription is not tried again);
/// - without the second it sends a second request (a title for the session) and telemetry, and a
///   run that fails takes 6 s instead of 1.
///
/// Before its first request it sends `HEAD /`. It leaves `.claude.json` and `.claude/` in HOME
/// (a transcript under `.claude/projects/<working folder>/` unless `--no-session-persistence`) and
/// an empty `/tmp/claude-<uid>`. HOME may be empty at the start; the key is not asked about.
pub const QUIET: [(&str, &str); 2] =
    [("CLAUDE_CODE_MAX_RETRIES", "0"), ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")];

/// One connection: requests one after the other until the client closes it.
fn serve(stream: TcpStream, shared: &(Mutex<State>, Condvar)) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (line, body) = read_request(&mut reader)?;
        let mut words = line.split_whitespace();
        let (method, target) = (words.next()?, words.next()?);
        let path = target.split('?').next()?;
        if method != "POST" || path != "/v1/messages" {
            let ok = path == "/" || path == "/v1/messages/count_tokens";
            let status = if ok { "200 OK" } else { "404 Not Found" };
            let body = if method == "HEAD" { "" } else { r#"{"input_tokens":1}"# };
            write_json(&mut writer, status, body)?;
            continue;
        }
        let streaming = body.contains("\"stream\":true");
        let reply = {
            let mut state = shared.0.lock().ok()?;
            state.bodies.push(body);
            shared.1.notify_all();
            shared.1.wait_while(state, |state| state.held).ok()?.reply.clone()
        };
        match reply {
            Reply::Refusal(status) => {
                let body =
                    r#"{"type":"error","error":{"type":"api_error","message":"stand-in refuses"}}"#;
                write_json(&mut writer, &format!("{status} Refused"), body)?;
            }
            Reply::UsageLimit { resets_at } => {
                let status = format!(
                    "429 Refused\r\nretry-after: 3600\r\n\
                     anthropic-ratelimit-unified-status: rejected\r\n\
                     anthropic-ratelimit-unified-reset: {resets_at}\r\n\
                     anthropic-ratelimit-unified-representative-claim: five_hour\r\n\
                     anthropic-ratelimit-unified-overage-status: rejected\r\n\
                     anthropic-ratelimit-unified-overage-disabled-reason: org_level_disabled"
                );
                let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"would exceed your limit"}}"#;
                write_json(&mut writer, &status, body)?;
            }
            Reply::Text(text) if streaming => {
                let events = events(&text);
                write!(
                    writer,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {}\r\n\r\n{events}",
                    events.len()
                )
                .ok()?;
            }
            Reply::Text(text) => {
                let body = message(&format!(r#"[{{"type":"text","text":{}}}]"#, quoted(&text)));
                write_json(&mut writer, "200 OK", &body)?;
            }
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((line.trim_end().to_owned(), String::from_utf8(body).ok()?))
}

fn write_json(writer: &mut TcpStream, status: &str, body: &str) -> Option<()> {
    let length = body.len();
    write!(
        writer,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .ok()
}

fn message(content: &str) -> String {
    format!(
        r#"{{"id":"msg_standin","type":"message","role":"assistant","model":"claude-standin","content":{content},"stop_reason":null,"stop_sequence":null,"usage":{{"input_tokens":11,"output_tokens":7}}}}"#
    )
}

/// The six kinds of event, in the order in which the CLI wants them.
fn events(text: &str) -> String {
    let data = [
        ("message_start", format!(r#","message":{}"#, message("[]"))),
        ("content_block_start", r#","index":0,"content_block":{"type":"text","text":""}"#.into()),
        (
            "content_block_delta",
            format!(r#","index":0,"delta":{{"type":"text_delta","text":{}}}"#, quoted(text)),
        ),
        ("content_block_stop", r#","index":0"#.into()),
        (
            "message_delta",
            r#","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":7}"#
                .into(),
        ),
        ("message_stop", String::new()),
    ];
    data.iter()
        .map(|(kind, rest)| format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest}}}\n\n"))
        .collect()
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            control if control < ' ' => quoted.push_str(&format!("\\u{:04x}", control as u32)),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
