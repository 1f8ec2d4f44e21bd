//! A stand-in of today's agent in the field (`ECOSYSTEM §2`), told to behave or to misbehave. Used by
//! including this file as a module.
//!
//! It must stay plain std and speak what Membridge agent 0.4.0 speaks: `GET /health` without a key,
//! `POST /execute-task` with `X-MEMBRIDGE-AGENT`, meanwhile one heartbeat and one complete to `runtime_url`,
//! exactly as given. Not here: any judgement of the order.
#![allow(dead_code, reason = "each test that includes this file uses its own part of it")]

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// Less than a third of a lease's usual time: what only a renewal brings about comes too late.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it does with an order.
#[derive(Clone, Debug)]
pub enum Conduct {
    /// As it should: heartbeat, work, complete, answer.
    Works,
    /// The same, but it does not reach the runtime.
    OnlyAnswers,
    /// Heartbeat and complete, but the call is never answered.
    OnlyCallsBack,
    /// This status, this content type, this body; a redirect has its target in the body.
    Answers(u16, &'static str, String),
    /// Reads the order and never says a word.
    Hangs,
    /// Reads the order and closes the connection.
    BreaksOff,
    /// These bytes instead of HTTP.
    Bytes(Vec<u8>),
}

/// One order as it came.
#[derive(Clone, Debug)]
pub struct Order {
    pub head: String,
    pub body: Value,
}

impl Order {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

struct State {
    conduct: Conduct,
    held: bool,
    is_well: bool,
    key: Option<String>,
    runtime_key: Option<String>,
    orders: Vec<Order>,
    healths: Vec<String>,
    /// Orders whose caller has closed the connection while they hung.
    let_go: usize,
    /// Statuses of the answers to its callbacks.
    callbacks: Vec<u16>,
}

/// A running stand-in. Its threads end with the test process.
pub struct Agent {
    address: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Agent {
    pub fn start(conduct: Conduct) -> Agent {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = State {
            conduct,
            held: false,
            is_well: true,
            key: None,
            runtime_key: None,
            orders: Vec::new(),
            healths: Vec::new(),
            let_go: 0,
            callbacks: Vec::new(),
        };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let for_thread = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = for_thread.clone();
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Agent { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap()
    }

    pub fn behave(&self, conduct: Conduct) {
        self.state().conduct = conduct;
    }

    /// From now on orders without this key are refused with 401.
    pub fn ask_for_key(&self, key: &str) {
        self.state().key = Some(key.into());
    }

    /// What it shows the runtime when it calls back.
    pub fn use_runtime_key(&self, key: &str) {
        self.state().runtime_key = Some(key.into());
    }

    pub fn be_well(&self, is_well: bool) {
        self.state().is_well = is_well;
    }

    /// From now on work that has begun ends only after `release`.
    pub fn hold(&self) {
        self.state().held = true;
    }

    pub fn release(&self) {
        self.state().held = false;
        self.shared.1.notify_all();
    }

    /// Waits until something holds of what it saw.
    fn wait<T>(&self, what: &str, mut seen: impl FnMut(&State) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state();
        loop {
            if let Some(value) = seen(&state) {
                return value;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "never came: {what}");
            state = self.shared.1.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits until that many orders have come; all of them.
    pub fn orders(&self, count: usize) -> Vec<Order> {
        let enough = |state: &State| (state.orders.len() >= count).then(|| state.orders.clone());
        self.wait(&format!("{count} orders"), enough)
    }

    pub fn orders_so_far(&self) -> usize {
        self.state().orders.len()
    }

    /// Waits until the callers of that many orders that hang have gone.
    pub fn let_go(&self, count: usize) {
        self.wait(&format!("{count} let go"), |state| (state.let_go >= count).then_some(()));
    }

    /// Waits until that many callbacks were answered; their statuses.
    pub fn callbacks(&self, count: usize) -> Vec<u16> {
        let enough =
            |state: &State| (state.callbacks.len() >= count).then(|| state.callbacks.clone());
        self.wait(&format!("{count} callbacks"), enough)
    }

    /// Waits until its health has been asked for that often; the heads of the requests.
    pub fn healths(&self, count: usize) -> Vec<String> {
        let enough = |state: &State| (state.healths.len() >= count).then(|| state.healths.clone());
        self.wait(&format!("{count} questions for its health"), enough)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// One request a connection, as its caller asks for.
fn serve(mut stream: TcpStream, shared: &(Mutex<State>, Condvar)) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (head, body) = read(&mut reader)?;
    let mut words = head.split_whitespace();
    match (words.next()?, words.next()?) {
        ("GET", "/health") => {
            let mut state = shared.0.lock().unwrap();
            state.healths.push(head.clone());
            let status = if state.is_well { 200 } else { 500 };
            drop(state);
            shared.1.notify_all();
            let health = json!({
                "status": "ok", "service": "membridge-agent", "version": "0.4.0",
                "node_id": "stand-in", "hostname": "stand-in", "uptime_seconds": 1,
                "projects_count": 0,
            });
            write_json(&mut stream, status, &health);
        }
        ("POST", "/execute-task") => execute(&mut stream, shared, head.clone(), &body),
        _ => write_json(&mut stream, 404, &json!({"detail": "Not Found"})),
    }
    Some(())
}

fn execute(stream: &mut TcpStream, shared: &(Mutex<State>, Condvar), head: String, body: &[u8]) {
    let body: Value = serde_json::from_slice(body).expect("an order is JSON");
    let order = Order { head, body };
    let mut state = shared.0.lock().unwrap();
    state.orders.push(order.clone());
    let (conduct, key) = (state.conduct.clone(), state.key.clone());
    drop(state);
    shared.1.notify_all();
    if key.is_some() && key.as_deref() != order.header("x-membridge-agent") {
        return write_json(stream, 401, &json!({"detail": "Unauthorized"}));
    }
    match conduct {
        Conduct::Works => {
            call_back(shared, &order, "heartbeat", "");
            wait_for_release(shared);
            call_back(shared, &order, "complete", &completion(&order));
            write_json(stream, 200, &answer(&order));
        }
        Conduct::OnlyAnswers => {
            wait_for_release(shared);
            write_json(stream, 200, &answer(&order));
        }
        Conduct::OnlyCallsBack => {
            call_back(shared, &order, "heartbeat", "");
            wait_for_release(shared);
            call_back(shared, &order, "complete", &completion(&order));
            hang(stream, shared);
        }
        Conduct::Answers(status, kind, text) => {
            let location = (300..400).contains(&status).then(|| format!("Location: {text}\r\n"));
            let location = location.unwrap_or_default();
            let length = text.len();
            let head = format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{location}");
            let _ = write!(stream, "{head}Content-Length: {length}\r\n\r\n{text}");
        }
        Conduct::Hangs => hang(stream, shared),
        Conduct::BreaksOff => {}
        Conduct::Bytes(bytes) => drop(stream.write_all(&bytes)),
    }
}

/// Until the caller closes the connection.
fn hang(stream: &mut TcpStream, shared: &(Mutex<State>, Condvar)) {
    let _ = stream.read(&mut [0]);
    shared.0.lock().unwrap().let_go += 1;
    shared.1.notify_all();
}

fn wait_for_release(shared: &(Mutex<State>, Condvar)) {
    let state = shared.0.lock().unwrap();
    drop(shared.1.wait_while(state, |state| state.held));
}

fn output(order: &Order) -> String {
    format!("done: {}", order.body["prompt"].as_str().unwrap_or_default())
}

fn answer(order: &Order) -> Value {
    json!({
        "ok": true, "task_id": order.body["task_id"], "output": output(order), "duration_ms": 340,
        "returncode": 0, "context_id": order.body["context_id"], "session_messages": 2,
        "detail": "Task executed",
    })
}

fn completion(order: &Order) -> String {
    json!({
        "status": "success", "output": output(order), "error_message": null,
        "metrics": {"duration_ms": 340, "tokens_used": null},
    })
    .to_string()
}

/// `runtime_url` as given, then the path of the call; once, whatever comes of it.
fn call_back(shared: &(Mutex<State>, Condvar), order: &Order, verb: &str, body: &str) {
    let base = order.body["runtime_url"].as_str().expect("an order says where to call back");
    let id = order.body["task_id"].as_str().expect("an order names its task");
    let key = shared.0.lock().unwrap().runtime_key.clone();
    let url = format!("{base}/api/runtime/llm-tasks/{id}/{verb}");
    let status = post(&url, key.as_deref(), body).unwrap_or(0);
    shared.0.lock().unwrap().callbacks.push(status);
    shared.1.notify_all();
}

/// The status of the answer to a POST with a JSON content type.
pub fn post(url: &str, key: Option<&str>, body: &str) -> io::Result<u16> {
    let rest = url.strip_prefix("http://").expect("plain http");
    let (authority, path) = rest.split_at(rest.find('/').expect("a path"));
    let mut stream = TcpStream::connect(authority)?;
    let key = key.map(|key| format!("X-Runtime-API-Key: {key}\r\n")).unwrap_or_default();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {authority}\r\n{key}Content-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    reader.read_line(&mut line)?;
    io::copy(&mut reader, &mut io::sink())?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::Error::other(line))
}

fn write_json(stream: &mut TcpStream, status: u16, body: &Value) {
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n");
    // Whoever asked may be gone.
    let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head += &line;
    }
    let length = header(&head, "content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}
