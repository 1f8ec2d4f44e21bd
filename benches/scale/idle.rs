//! Many workers that wait for a task and many who listen to events, while nothing happens; then one
//! task arrives.
//!
//! Must stay true: a claim that ends without a task is asked again, as a worker does; who gets the
//! task is whoever the server picks. Not here: what the server makes of it.

use crate::figures::Latencies;
use crate::server::Server;
use crate::wire::{Connection, field_after, lease_id, record_id};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// A task that a waiting claim has got.
struct Got {
    at: Instant,
    task: String,
    lease: String,
}

pub struct Crowd {
    waiting: Vec<JoinHandle<()>>,
    got: mpsc::UnboundedReceiver<Got>,
    heard_bytes: Arc<AtomicU64>,
    /// Ends the listeners when it goes.
    _leave: oneshot::Sender<()>,
}

/// What the server did in some time in which nothing happened.
pub struct Quiet {
    pub elapsed: Duration,
    pub written_bytes: u64,
    pub cpu: Duration,
    pub rss_kib: u64,
}

impl Crowd {
    /// Opens all connections and comes back when every claim waits and every listener listens.
    pub async fn gather(server: &Server, workers: usize, listeners: usize) -> Crowd {
        server.register((0..workers).map(name)).await;
        let (tell, got) = mpsc::unbounded_channel();
        let waiting = (0..workers).map(|n| {
            let tell = tell.clone();
            tokio::spawn(wait_for_tasks(server.address, name(n), tell))
        });
        let waiting = waiting.collect();
        let heard_bytes = Arc::new(AtomicU64::new(0));
        let (leave, left) = oneshot::channel();
        let (tell, all_listen) = oneshot::channel();
        let (address, heard) = (server.address, heard_bytes.clone());
        std::thread::spawn(move || listen_apart(address, listeners, heard, tell, left));
        all_listen.await.expect("the server answers");
        // Claims give no sign of waiting; this is long enough for the slowest of them.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Crowd { waiting, got, heard_bytes, _leave: leave }
    }

    pub async fn stay_quiet(&self, server: &Server, how_long: Duration) -> Quiet {
        let (began, written, spent) = (Instant::now(), server.written_bytes(), server.cpu());
        tokio::time::sleep(how_long).await;
        assert!(self.waiting.iter().all(|task| !task.is_finished()), "a claim failed");
        Quiet {
            elapsed: began.elapsed(),
            written_bytes: server.written_bytes() - written,
            cpu: server.cpu() - spent,
            rss_kib: server.memory_kib("VmRSS"),
        }
    }

    /// From sending a create to the moment when some waiting claim has the task.
    pub async fn arrivals(&mut self, server: &Server, rounds: usize) -> Latencies {
        let mut connection = Connection::new(server.address).await;
        let mut times = Latencies::default();
        for _ in 0..rounds {
            connection.post(
                format_args!("/api/runtime/llm-tasks"),
                format_args!("{{\"context_id\":\"c\",\"agent_slug\":\"a\",\"prompt\":\"p\"}}"),
            );
            let sent = Instant::now();
            let created = record_id(connection.exchange().await);
            let got = self.got.recv().await.expect("somebody waits");
            assert_eq!(got.task, created, "another task was queued");
            times.push(got.at - sent);
            let lease = got.lease;
            connection.post(
                format_args!("/api/runtime/llm-tasks/{created}/complete"),
                format_args!(
                    "{{\"lease_id\":\"{lease}\",\"status\":\"success\",\
                     \"metrics\":{{\"duration_ms\":1}}}}"
                ),
            );
            connection.exchange().await;
            // One task at a time: the listeners have been told of the one before.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        times
    }

    /// Bytes that the listeners were sent.
    pub fn heard_bytes(&self) -> u64 {
        self.heard_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.waiting.iter().for_each(JoinHandle::abort);
    }
}

fn name(n: usize) -> String {
    format!("waiting-{n}")
}

async fn wait_for_tasks(server: SocketAddr, worker: String, tell: mpsc::UnboundedSender<Got>) {
    let mut connection = Connection::new(server).await;
    loop {
        connection.post(
            format_args!("/api/runtime/workers/{worker}/claim"),
            format_args!("{{\"wait_seconds\":55}}"),
        );
        let answer = connection.exchange().await;
        if !answer.is_empty() {
            let at = Instant::now();
            let task = field_after(answer, b"\"task_id\":\"");
            let got = Got { at, task, lease: lease_id(answer) };
            if tell.send(got).is_err() {
                return;
            }
        }
    }
}

/// Listeners on a thread of their own: what they read must not delay the one that measures.
fn listen_apart(
    server: SocketAddr,
    listeners: usize,
    heard: Arc<AtomicU64>,
    all_listen: oneshot::Sender<()>,
    left: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("epoll").block_on(async {
        for _ in 0..listeners {
            let stream = listen(server).await;
            tokio::spawn(read_on(stream, heard.clone()));
        }
        all_listen.send(()).expect("somebody waits");
        // Ends when the crowd does; nothing is ever sent.
        let _ = left.await;
    });
}

async fn listen(server: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(server).await.expect("the server listens");
    let request = b"GET /api/runtime/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).await.expect("the server reads");
    let mut head = [0; 1024];
    let count = stream.read(&mut head).await.expect("the server answers");
    assert!(head[..count].starts_with(b"HTTP/1.1 200"), "{}", head[..count].escape_ascii());
    stream
}

async fn read_on(mut stream: TcpStream, heard: Arc<AtomicU64>) {
    let mut bytes = [0; 1024];
    loop {
        let count = stream.read(&mut bytes).await.expect("the server answers");
        assert!(count > 0, "the server closed an event stream");
        heard.fetch_add(count as u64, Ordering::Relaxed);
    }
}
