//! Clients that mean no good, against the real program over real sockets: each gets a named answer or
//! a closed connection, and nobody else notices.
//!
//! Must stay true: through each attack an honest worker holds a short lease and still has it at the
//! end (`Honest`), and the server's memory stays under what the test says (`Memory`). Nothing is
//! measured here but bounds that any machine keeps; `benches/load --hostile` measures.

mod crowds;
mod random;
mod smuggling;
mod weights;

use crate::harness::{PATIENCE, Server, Setup, id, success, under};
use crate::http::Client;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

const KEY: &str = "the-key-0001";
const HEALTH: &str = "/api/runtime/health";
const STATS: &str = "/api/runtime/stats";

/// A server with a key and the limits that it comes with.
fn with_key() -> Server {
    Setup::default().stock_limits().env("RUNTIME_API_KEY", KEY).start()
}

fn keyed(server: &Server) -> Client {
    server.client().with_key(KEY)
}

/// Lease time of the honest worker, and the pause between its heartbeats.
const LEASE_SECONDS: u32 = 8;
const HEARTBEAT_EVERY: Duration = Duration::from_millis(200);

/// A worker that keeps its lease alive with heartbeats, each on a connection of its own, as workers
/// do, so that it is a newcomer every time.
struct Honest {
    stop: mpsc::Sender<()>,
    beating: JoinHandle<()>,
    address: SocketAddr,
    task: String,
    lease: String,
}

impl Honest {
    #[track_caller]
    fn start(server: &Server) -> Honest {
        let mut client = keyed(server);
        client.register("honest", 1);
        let task = id(&client.create(json!({"context_id": "honest"})));
        let lease = client.lease(&task, "honest", LEASE_SECONDS);
        let (stop, stopped) = mpsc::channel();
        let (address, path) =
            (server.address(), format!("/api/runtime/llm-tasks/{task}/heartbeat"));
        let body = json!({"lease_id": lease});
        let beating = std::thread::spawn(move || {
            while stopped.recv_timeout(HEARTBEAT_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                Client::new(address).with_key(KEY).post(&path, body.clone()).ok(200);
            }
        });
        Honest { stop, beating, address, task, lease }
    }

    /// Demands that every heartbeat was taken and that the lease is still good for the result.
    #[track_caller]
    fn still_holds(self) {
        drop(self.stop);
        self.beating.join().expect("every heartbeat was answered with 200");
        let mut client = Client::new(self.address).with_key(KEY);
        client.act(&self.task, "complete", under(&self.lease, success("done"))).ok(200);
    }
}

/// The server's resident memory since the beginning of an attack.
struct Memory {
    pid: u32,
    before_kib: u64,
}

impl Memory {
    fn before(server: &Server) -> Memory {
        let pid = server.pid();
        Memory { pid, before_kib: status_kib(pid, "VmRSS") }
    }

    /// Demands that it never grew by more than this.
    #[track_caller]
    fn grew_at_most_mib(&self, mib: u64) {
        let grown = status_kib(self.pid, "VmHWM").saturating_sub(self.before_kib);
        assert!(grown <= mib << 10, "memory grew by {grown} KiB, more than {mib} MiB");
    }
}

/// A line of /proc/<pid>/status.
fn status_kib(pid: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).expect("a number of KiB")
}

/// Lets this process open as many sockets as an attack takes; how many it may.
fn many_files() -> usize {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).expect("up to the limit");
    most.map_or(usize::MAX, |most| most as usize)
}

fn open(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

/// Sends bytes on a connection of their own; the statuses of all answers until the server closes it.
/// An answer may be lost when the server closes while we are still sending.
#[track_caller]
fn statuses(server: &Server, bytes: &[u8]) -> Vec<u16> {
    let mut stream = open(server);
    let mut reading = stream.try_clone().expect("a socket");
    let reader = std::thread::spawn(move || {
        let mut answers = Vec::new();
        match reading.read_to_end(&mut answers) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            // Closed with our bytes unread, which is an end too.
            Ok(_) | Err(_) => Some(answers),
        }
    });
    // It may be closed before all is sent.
    stream.write_all(bytes).ok();
    let answers = reader.join().expect("no panic").expect("the server ends the connection");
    let answers = String::from_utf8_lossy(&answers);
    let status = |part: &str| part.get(..3).and_then(|digits| digits.parse().ok());
    answers.split("HTTP/1.1 ").skip(1).filter_map(status).collect()
}
