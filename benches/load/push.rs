//! Push with 100 agents: what health and the usual cycles notice while all of them hang, and how many
//! tasks a second they do when none does.
//!
//! The agents live on a thread of their own in this program: they read the order, and hang, or call back
//! twice and answer at once, as today's agents do around their work. All share the machine's cores. Not
//! here: pass or fail (`tests/integration/push`).

use crate::Options;
use crate::cycle::Cycle;
use crate::drive::{drive, print_header, print_load};
use crate::figures::{cpu, per_second};
use crate::server::{Server, unlimited};
use crate::wire::{Connection, field_after};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const AGENTS: usize = 100;
const HEALTHY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

/// What all agents have been asked so far.
#[derive(Default)]
struct Asked {
    orders: AtomicUsize,
}

/// Agents on a thread of their own; their addresses. `runtime`: whom to call back, none to hang instead.
fn agents(runtime: Option<SocketAddr>, asked: &Arc<Asked>) -> Vec<String> {
    let (tell, told) = std::sync::mpsc::channel();
    let asked = asked.clone();
    std::thread::spawn(move || {
        let threads = tokio::runtime::Builder::new_current_thread().enable_all().build();
        threads.expect("epoll").block_on(async move {
            let mut addresses = Vec::new();
            for _ in 0..AGENTS {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                addresses.push(format!("http://{}", listener.local_addr().expect("bound")));
                let asked = asked.clone();
                tokio::spawn(async move {
                    loop {
                        let (stream, _) = listener.accept().await.expect("a connection");
                        tokio::spawn(serve(stream, runtime, asked.clone()));
                    }
                });
            }
            tell.send(addresses).expect("who asked waits");
            std::future::pending::<()>().await;
        });
    });
    told.recv().expect("the agents listen")
}

async fn serve(mut stream: TcpStream, runtime: Option<SocketAddr>, asked: Arc<Asked>) {
    let mut request = Vec::new();
    let body = loop {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.split("content-length: ").nth(1).unwrap_or("0");
        let digits = length.split("\r\n").next().unwrap_or_default();
        if body.len() >= digits.parse().unwrap_or(0) {
            break body.to_owned();
        }
    };
    if request.starts_with(b"GET") {
        let _ = stream.write_all(HEALTHY.as_bytes()).await;
        return;
    }
    asked.orders.fetch_add(1, Ordering::Relaxed);
    let Some(runtime) = runtime else { return std::future::pending().await };
    let url = field_after(body.as_bytes(), b"\"runtime_url\":\"");
    let lease = url.rsplit_once('/').map_or("", |(_, lease)| lease);
    let task = field_after(body.as_bytes(), b"\"task_id\":\"");
    let base = format!("/l/{lease}/api/runtime/llm-tasks/{task}");
    let done = "{\"status\":\"success\",\"output\":\"done\",\"error_message\":null,\
                \"metrics\":{\"duration_ms\":1,\"tokens_used\":null}}";
    let mut callbacks = TcpStream::connect(runtime).await.expect("the server listens");
    for (verb, body) in [("heartbeat", ""), ("complete", done)] {
        let head = format!(
            "POST {base}/{verb} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
        );
        let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let mut answer = vec![0; 16 << 10];
        let sent = callbacks.write_all(request.as_bytes()).await;
        if sent.is_err() || callbacks.read(&mut answer).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let answer =
        format!("{{\"ok\":true,\"task_id\":\"{task}\",\"output\":\"done\",\"duration_ms\":1}}");
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
    // The server may have heard enough from the callback.
    let _ = stream.write_all(format!("{head}{answer}").as_bytes()).await;
}

async fn start(options: &Options) -> Server {
    // Where the agents call back they know from this program.
    let env =
        unlimited(&[("PUBLIC_URL", "http://127.0.0.1:1"), ("MEMBRIDGE_AGENT_KEY", "agent-key")]);
    Server::start(&options.program, &options.dir, env).await
}

async fn register(server: &Server, urls: &[String], max_concurrency: usize) {
    let mut connection = Connection::new(server.address).await;
    for (n, url) in urls.iter().enumerate() {
        connection.post(
            format_args!("/api/runtime/workers"),
            format_args!(
                "{{\"name\":\"agent-{n}\",\"url\":\"{url}\",\
                 \"capabilities\":{{\"max_concurrency\":{max_concurrency}}}}}"
            ),
        );
        connection.exchange().await;
    }
}

async fn create(connection: &mut Connection) {
    connection.post(
        format_args!("/api/runtime/llm-tasks"),
        format_args!("{{\"context_id\":\"c\",\"agent_slug\":\"a\",\"prompt\":\"p\"}}"),
    );
    connection.exchange().await;
}

/// Tasks that are completed so far.
async fn completed(connection: &mut Connection) -> usize {
    connection.get(format_args!("/api/runtime/stats"));
    let stats = String::from_utf8_lossy(connection.exchange().await).into_owned();
    let count = stats.split("\"completed\":").nth(1).unwrap_or("0");
    count.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}

async fn beside(server: &Server, seconds: f64, name: &str) {
    let none: Arc<[String]> = Arc::default();
    let (cycles, health) = tokio::join!(
        drive(server, Cycle::Three, 8, seconds, &none),
        drive(server, Cycle::Health, 1, seconds, &none)
    );
    print_load(&format!("cycles, {name}"), &cycles, 3);
    print_load(&format!("health, {name}"), &health, 1);
}

async fn hanging(options: &Options) {
    let server = start(options).await;
    print_header("beside each other", "transitions/s");
    beside(&server, options.seconds, "alone").await;
    let asked = Arc::new(Asked::default());
    let urls = agents(None, &asked);
    let before = server.memory_kib("VmRSS");
    register(&server, &urls, 1).await;
    let mut connection = Connection::new(server.address).await;
    for _ in 0..AGENTS {
        create(&mut connection).await;
    }
    while asked.orders.load(Ordering::Relaxed) < AGENTS {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let grown = server.memory_kib("VmRSS").saturating_sub(before);
    beside(&server, options.seconds, "100 hang").await;
    println!("100 calls that hang: {grown} KiB more memory");
    let (spent, began) = (server.cpu(), Instant::now());
    tokio::time::sleep(Duration::from_secs_f64(options.seconds)).await;
    let idle = (server.cpu() - spent).as_secs_f64() / began.elapsed().as_secs_f64();
    println!("100 calls that hang and nothing else: {:.2} % of a core", idle * 100.0);
}

async fn working(options: &Options, max_concurrency: usize) {
    let server = start(options).await;
    let asked = Arc::new(Asked::default());
    let urls = agents(Some(server.address), &asked);
    register(&server, &urls, max_concurrency).await;
    let tasks = (options.seconds * 1_000.0) as usize;
    let (began, spent, own) = (Instant::now(), server.cpu(), cpu("self"));
    let mut creating = Vec::new();
    for _ in 0..8 {
        let mut connection = Connection::new(server.address).await;
        creating.push(tokio::spawn(async move {
            for _ in 0..tasks / 8 {
                create(&mut connection).await;
            }
        }));
    }
    for task in creating {
        task.await.expect("every task was created");
    }
    let created = began.elapsed();
    let mut connection = Connection::new(server.address).await;
    while completed(&mut connection).await < tasks / 8 * 8 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (elapsed, spent, own) = (began.elapsed(), server.cpu() - spent, cpu("self") - own);
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / tasks as f64;
    println!(
        "100 agents of {max_concurrency}: {tasks} tasks, {:.0} a second from create to complete (created in \
         {:.1} s); CPU a task: server {:.0} µs, agents and generator {:.0} µs; orders {}",
        per_second(tasks, elapsed),
        created.as_secs_f64(),
        each(spent),
        each(own),
        asked.orders.load(Ordering::Relaxed)
    );
}

/// Prints all of it.
pub async fn measure(options: &Options) {
    hanging(options).await;
    println!();
    working(options, 1).await;
    working(options, 4).await;
}
