//! Driving a server: some connections, each with its cycle, for some time, and what that cost.
//!
//! Must stay true: all connections are warm before anything is counted. Not here: what a cycle asks
//! (`cycle`), how a request is made (`wire`).

use crate::cycle::{self, Cycle};
use crate::figures::{Latencies, cpu, per_second};
use crate::server::Server;
use crate::wire::Connection;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Barrier;

/// What some connections did in some time, and what it cost.
pub struct Load {
    pub connections: usize,
    pub times: Latencies,
    pub elapsed: Duration,
    pub cycles: usize,
    pub written_bytes: u64,
    pub cpu: Duration,
    pub generator_cpu: Duration,
    pub rss_kib: u64,
}

/// Drives `connections` at once for the given time.
pub async fn drive(
    server: &Server,
    cycle: Cycle,
    connections: usize,
    seconds: f64,
    known: &Arc<[String]>,
) -> Load {
    server.register((0..connections).map(cycle::worker)).await;
    let start = Arc::new(Barrier::new(connections + 1));
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for n in 0..connections {
        let (start, stop, known) = (start.clone(), stop.clone(), known.clone());
        let mut connection = Connection::new(server.address).await;
        tasks.push(tokio::spawn(async move {
            let worker = cycle::worker(n);
            for i in 0..5 {
                cycle.run(&mut connection, &worker, n + i, &known).await;
            }
            connection.times = Latencies::default();
            // All are warm; then the counters have been read.
            start.wait().await;
            start.wait().await;
            let mut cycles = 0;
            while !stop.load(Ordering::Relaxed) {
                cycle.run(&mut connection, &worker, n * 7919 + cycles, &known).await;
                cycles += 1;
            }
            (connection.times, cycles)
        }));
    }
    start.wait().await;
    let (began, written, spent, own) =
        (Instant::now(), server.written_bytes(), server.cpu(), cpu("self"));
    start.wait().await;
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let rss_kib = server.memory_kib("VmRSS");
    stop.store(true, Ordering::Relaxed);
    let (mut times, mut cycles) = (Latencies::default(), 0);
    for task in tasks {
        let (theirs, count) = task.await.expect("every request was answered");
        times.add(theirs);
        cycles += count;
    }
    Load {
        connections,
        times,
        elapsed: began.elapsed(),
        cycles,
        written_bytes: server.written_bytes() - written,
        cpu: server.cpu() - spent,
        generator_cpu: cpu("self") - own,
        rss_kib,
    }
}

/// `CPU` is the server's, `own` the generator's; both in µs of one transition or request.
pub fn print_header(kind: &str, each: &str) {
    println!(
        "\n{kind:<24} {:>5} {:>9} {each:>13} {:>9} {:>9} {:>7} {:>7} {:>8} {:>7}",
        "conns", "cycles/s", "p50 ms", "p99 ms", "CPU µs", "own µs", "KiB each", "RSS MB"
    );
}

/// Cycles of `transitions` each, as a line of the table.
pub fn print_load(name: &str, load: &Load, transitions: usize) {
    let count = load.cycles * transitions;
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / count.max(1) as f64;
    println!(
        "{name:<24} {:>5} {:>9.0} {:>13.0} {:>9} {:>9} {:>7.1} {:>7.1} {:>8.1} {:>7.1}",
        load.connections,
        per_second(load.cycles, load.elapsed),
        per_second(count, load.elapsed),
        load.times.percentile_ms(50.0),
        load.times.percentile_ms(99.0),
        each(load.cpu),
        each(load.generator_cpu),
        load.written_bytes as f64 / 1024.0 / count.max(1) as f64,
        load.rss_kib as f64 / 1024.0,
    );
}
