//! From an author's create to a running task on an idle worker, and to its result: a server, a worker
//! process, and the stand-in of Claude CLI.
//!
//! What happened is told by the server's stream of events, to which this listens on a connection of its
//! own. Must stay true: one task at a time, so that the worker is idle and waits at the server.

use crate::Options;
use crate::figures::Latencies;
use crate::server::{Server, unlimited};
use crate::table::{line, p50_p99, title};
use crate::wire::{Connection, record_id};
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const STANDIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/standin/claude");

struct Worker(Child);

impl Worker {
    fn start(program: &Path, home: &Path, server: SocketAddr) -> Worker {
        std::fs::create_dir_all(home).expect("a writable folder");
        std::fs::write(home.join("worker.env"), "").expect("a writable folder");
        let log = File::create(home.join("worker.log")).expect("a writable folder");
        let mut command = Command::new(program);
        command.env_clear().args(["worker", "--server", &format!("http://{server}")]);
        command.args(["--name", "runner", "--claude", STANDIN, "--env-file"]);
        command.arg(home.join("worker.env")).env("HOME", home);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Worker(command.spawn().expect("the program starts"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The stream of events, read as it comes.
struct Events {
    stream: TcpStream,
    text: String,
}

impl Events {
    async fn listen(server: SocketAddr) -> Events {
        let mut stream = TcpStream::connect(server).await.expect("the server listens");
        let request = b"GET /api/runtime/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).await.expect("the server reads");
        let mut events = Events { stream, text: String::new() };
        while !events.text.contains(": connected") {
            events.read().await;
        }
        events
    }

    async fn read(&mut self) {
        let mut bytes = [0; 4096];
        let count = self.stream.read(&mut bytes).await.expect("the server answers");
        assert!(count > 0, "the server closed the event stream");
        self.text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }

    /// Waits for an event of this kind about this record.
    async fn wait_for(&mut self, kind: &str, id: &str) -> Instant {
        loop {
            let of = |line: &&str| line.contains(kind) && line.contains(id);
            if self.text.lines().any(|line| of(&line)) {
                return Instant::now();
            }
            self.read().await;
        }
    }
}

pub async fn measure(options: &Options) {
    title("a task on an idle worker that waits for one");
    let server = Server::start(&options.program, &options.dir, unlimited(&[])).await;
    let home = options.dir.join(format!("bloom-fleet-{}", std::process::id()));
    let mut events = Events::listen(server.address).await;
    let _worker = Worker::start(&options.program, &home, server.address);
    events.wait_for("worker_registered", "runner").await;
    let mut author = Connection::new(server.address).await;
    let (mut running, mut completed) = (Latencies::default(), Latencies::default());
    for _ in 0..options.rounds {
        // Long enough for the worker's claim to be waiting; not part of what is measured.
        tokio::time::sleep(Duration::from_millis(30)).await;
        events.text.clear();
        author.post(
            format_args!("/api/runtime/llm-tasks"),
            format_args!("{{\"context_id\":\"c\",\"agent_slug\":\"a\",\"prompt\":\"hello\"}}"),
        );
        let sent = Instant::now();
        let task = record_id(author.exchange().await);
        running.push(events.wait_for("task_running", &task).await - sent);
        completed.push(events.wait_for("task_completed", &task).await - sent);
    }
    line("enqueue → running", &p50_p99(&running), "p99 10 ms");
    line("enqueue → completed, the stand-in included", &p50_p99(&completed), "");
    std::fs::remove_dir_all(&home).ok();
}
