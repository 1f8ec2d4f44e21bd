//! What honest callers notice of each attack: the latency of health, the server's memory, and whether
//! a worker kept its lease.
//!
//! Each attack has a fresh server with a key and stock limits for strangers, and runs on a thread of
//! its own; the prober and the worker have theirs. All share the machine's cores, so the latencies hold
//! the generator's own appetite too. Must stay true: traffic goes to 127.0.0.1 only and ends with its
//! time. Not here: the attacks (`attacks`); pass or fail (`tests/integration/hostile`).

use crate::attacks::{ATTACKS, Attack, Target};
use crate::figures::Latencies;
use crate::server::Server;
use crate::{Options, wire};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub const KEY: &str = "the-key-0001";
const PROBE_EVERY: Duration = Duration::from_millis(5);
/// Every so many probes come on a new connection, as a newcomer's would.
const NEWCOMER_EVERY: usize = 5;
const LEASE_SECONDS: u32 = 5;
const HEARTBEAT_EVERY: Duration = Duration::from_millis(250);
/// How long the server is left alone before its memory is read again.
const CALM: Duration = Duration::from_secs(2);
/// The longest that a probe or a heartbeat waits for its answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// One request on a connection of its own or on one that is kept; the whole answer as text.
fn ask(kept: &mut Option<TcpStream>, address: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => TcpStream::connect_timeout(&address, PATIENCE)?,
    };
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        let count = stream.read(&mut part)?;
        answer.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&answer);
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head.split("content-length: ").nth(1).unwrap_or("0");
            let digits = length.split("\r\n").next().unwrap_or_default();
            body.len() >= digits.parse().unwrap_or(0)
        });
        if whole {
            *kept = Some(stream);
            return Ok(text.into_owned());
        }
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST /api/runtime/{path} HTTP/1.1\r\nHost: localhost\r\nX-Runtime-API-Key: {KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Latencies of health, and probes that brought no 200.
fn probe(address: SocketAddr, stop: &AtomicBool) -> (Latencies, usize) {
    let (mut times, mut lost, mut kept) = (Latencies::default(), 0, None);
    let request = "GET /api/runtime/health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if n % NEWCOMER_EVERY == 0 {
            kept = None;
        }
        let sent = Instant::now();
        match ask(&mut kept, address, request) {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => times.push(sent.elapsed()),
            // A kept connection without a key may have had to make room.
            Err(_) if n % NEWCOMER_EVERY != 0 => {}
            _ => lost += 1,
        }
        std::thread::sleep(PROBE_EVERY);
    }
    (times, lost)
}

/// A worker with a short lease; the latencies of its heartbeats, and whether it kept the lease.
fn work(address: SocketAddr, stop: &AtomicBool) -> (Latencies, bool) {
    let once = |request: String| ask(&mut None, address, &request).expect("before the attack");
    once(post("workers", r#"{"name":"honest"}"#));
    let created =
        once(post("llm-tasks", r#"{"context_id":"honest","agent_slug":"a","prompt":"p"}"#));
    let task = wire::record_id(created.as_bytes());
    let body = format!(r#"{{"worker_id":"honest","ttl_seconds":{LEASE_SECONDS}}}"#);
    let leased = once(post(&format!("llm-tasks/{task}/lease"), &body));
    let lease = wire::lease_id(leased.as_bytes());
    let mut times = Latencies::default();
    let beat =
        post(&format!("llm-tasks/{task}/heartbeat"), &format!(r#"{{"lease_id":"{lease}"}}"#));
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        // A lost one is tried again with the next, as a worker does.
        if let Ok(answer) = ask(&mut None, address, &beat)
            && answer.starts_with("HTTP/1.1 200")
        {
            times.push(sent.elapsed());
        }
        std::thread::sleep(HEARTBEAT_EVERY);
    }
    let body =
        format!(r#"{{"lease_id":"{lease}","status":"success","metrics":{{"duration_ms":1}}}}"#);
    let done = ask(&mut None, address, &post(&format!("llm-tasks/{task}/complete"), &body));
    (times, done.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")))
}

pub fn measure(options: &Options) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let raised = rustix::process::Rlimit { current: limit, maximum: limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).expect("up to the limit");
    println!(
        "budgets: health p99 50 ms; memory 8 MB idle, 16 MB under load, 64 MB with 1,000 waiting\n\n\
         {:<34} {:>8} {:>8} {:>8} {:>5} {:>9} {:>7} {:>7} {:>7} {:>8} {:>6}",
        "attack",
        "p50 ms",
        "p99 ms",
        "max ms",
        "lost",
        "beat p99",
        "RSS MB",
        "most",
        "after",
        "log KB",
        "lease"
    );
    for attack in ATTACKS.iter().filter(|attack| attack.name.contains(&options.attack)) {
        run(options, attack);
    }
}

fn run(options: &Options, attack: &Attack) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("epoll");
    let env = [("RUNTIME_API_KEY", KEY), ("RATE_LIMIT_AUTHENTICATED", "0")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let mut server = runtime.block_on(Server::start(&options.program, &options.dir, env));
    let address = server.address;
    (attack.prepare)(address);
    let stop = Arc::new(AtomicBool::new(false));
    let prober = std::thread::spawn({
        let stop = stop.clone();
        move || probe(address, &stop)
    });
    let worker = std::thread::spawn({
        let stop = stop.clone();
        move || work(address, &stop)
    });
    std::thread::sleep(Duration::from_millis(500));
    let before = server.memory_kib("VmRSS");
    server.forget_peak();
    let ends = Instant::now() + Duration::from_secs_f64(options.seconds);
    let target = Target { address, ends };
    let attacker = std::thread::spawn({
        let start = attack.start;
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("epoll").block_on(start(target));
        }
    });
    // The attackers' connections end with their thread.
    let attacked = attacker.join().is_ok();
    stop.store(true, Ordering::Relaxed);
    let (times, lost) = prober.join().expect("the prober ends");
    let (beats, kept) = worker.join().expect("the worker ends");
    let most = server.memory_kib("VmHWM");
    std::thread::sleep(CALM);
    let alive = server.is_alive();
    let after = if alive { server.memory_kib("VmRSS") } else { 0 };
    let mb = |kib: u64| kib as f64 / 1024.0;
    println!(
        "{:<34} {:>8} {:>8} {:>8} {:>5} {:>9} {:>7.1} {:>7.1} {:>7.1} {:>8} {:>6}{}",
        attack.name,
        times.percentile_ms(50.0),
        times.percentile_ms(99.0),
        times.percentile_ms(100.0),
        lost,
        beats.percentile_ms(99.0),
        mb(before),
        mb(most),
        mb(after),
        server.log_bytes() / 1024,
        if kept { "kept" } else { "LOST" },
        match (attacked, alive) {
            (true, true) => "",
            (false, _) => "  (the attack itself failed)",
            (_, false) => "  (THE SERVER ENDED)",
        },
    );
}
