//! The load program: what one server does on this machine's disk, beside a calibration of that disk.
//!
//! `cargo bench --bench load -- [--short] [--seconds N] [--dir DIR] [--program PATH]
//! [--log-level WORD]` starts the release binary on a folder of its own in DIR and drives it over keep-alive connections. Figures
//! are for people: nothing here fails on an absolute time. Not here: another machine as generator,
//! so the generator is kept light (blocking sockets, requests made by hand, nothing parsed but ids).
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

mod figures;
mod server;
mod wire;

use figures::{Disk, Latencies, line, per_second};
use server::Server;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, mpsc};
use std::time::{Duration, Instant};
use wire::{Connection, field_after, lease_id, record_id};

struct Options {
    seconds: f64,
    dir: PathBuf,
    program: PathBuf,
    /// The server's own default unless said otherwise: its log lines are part of its work.
    log_level: Option<String>,
}

fn options() -> Options {
    let mut options = Options {
        seconds: 5.0,
        dir: std::env::temp_dir(),
        program: PathBuf::from(env!("CARGO_BIN_EXE_bloom-runtime")),
        log_level: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            "--short" => options.seconds = 0.5,
            "--seconds" => options.seconds = value().parse().expect("a number of seconds"),
            "--dir" => options.dir = value().into(),
            "--log-level" => options.log_level = Some(value()),
            "--program" => options.program = value().into(),
            // What `cargo bench` adds by itself.
            "--bench" => {}
            other => panic!("unknown argument {other}"),
        }
    }
    options
}

/// What is asked for one task, one after the other.
#[derive(Clone, Copy, PartialEq)]
enum Cycle {
    /// create, lease, heartbeat, complete
    Four,
    /// create, lease, complete: the cycle of the prototype's figures
    Three,
    Create,
    Get,
    List,
    Stats,
}

/// Runs one cycle; each request's time goes into `times`.
fn run(
    cycle: Cycle,
    connection: &mut Connection,
    n: usize,
    known: &[String],
    times: &mut Latencies,
) {
    match cycle {
        Cycle::Get => {
            let path = format!("/api/runtime/llm-tasks/{}", known[n % known.len()]);
            times.measure(|| connection.get(&path).len());
        }
        Cycle::List => {
            times.measure(|| connection.get("/api/runtime/llm-tasks?limit=50").len());
        }
        Cycle::Stats => {
            times.measure(|| connection.get("/api/runtime/stats").len());
        }
        Cycle::Create | Cycle::Three | Cycle::Four => {
            let body = format!(
                "{{\"context_id\":\"ctx-{n}\",\"agent_slug\":\"writer\",\"prompt\":\"{PROMPT}\"}}"
            );
            let task =
                record_id(times.measure(|| connection.post("/api/runtime/llm-tasks", &body)));
            if cycle == Cycle::Create {
                return;
            }
            let path = format!("/api/runtime/llm-tasks/{task}");
            let body = format!("{{\"worker_id\":\"{}\",\"ttl_seconds\":600}}", connection.worker);
            let lease =
                lease_id(times.measure(|| connection.post(&format!("{path}/lease"), &body)));
            if cycle == Cycle::Four {
                let body = format!("{{\"lease_id\":\"{lease}\"}}");
                times.measure(|| connection.post(&format!("{path}/heartbeat"), &body).len());
            }
            let body = format!(
                "{{\"lease_id\":\"{lease}\",\"status\":\"success\",\"output\":\"{PROMPT}\",\
                 \"metrics\":{{\"duration_ms\":12}}}}"
            );
            times.measure(|| connection.post(&format!("{path}/complete"), &body).len());
        }
    }
}

/// About as long as a short prompt and its answer.
const PROMPT: &str = "Write two sentences about a garden in November, one of them about frost. \
    Keep to plain words and end with the colour of the sky.";

struct Load {
    times: Latencies,
    elapsed: Duration,
    cycles: usize,
    written_bytes: u64,
    cpu: Duration,
    rss_kib: u64,
}

/// Drives `connections` at once for the given time; what the server spent on it.
fn drive(
    server: &Server,
    cycle: Cycle,
    connections: usize,
    seconds: f64,
    known: &[String],
) -> Load {
    let stop = AtomicBool::new(false);
    let start = Barrier::new(connections + 1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|n| {
                let (stop, start) = (&stop, &start);
                scope.spawn(move || {
                    let mut connection = Connection::new(server.address, &format!("load-{n}"));
                    let mut warm = Latencies::default();
                    (0..5).for_each(|i| run(cycle, &mut connection, n + i, known, &mut warm));
                    start.wait();
                    let (mut times, mut cycles) = (Latencies::default(), 0);
                    while !stop.load(Ordering::Relaxed) {
                        run(cycle, &mut connection, n * 7919 + cycles, known, &mut times);
                        cycles += 1;
                    }
                    (times, cycles)
                })
            })
            .collect();
        start.wait();
        let (began, written, cpu) = (Instant::now(), server.written_bytes(), server.cpu());
        std::thread::sleep(Duration::from_secs_f64(seconds));
        let rss_kib = server.memory_kib("VmRSS");
        stop.store(true, Ordering::Relaxed);
        let (mut times, mut cycles) = (Latencies::default(), 0);
        for thread in threads {
            let (theirs, count) = thread.join().expect("every request was answered");
            times.add(theirs);
            cycles += count;
        }
        Load {
            times,
            elapsed: began.elapsed(),
            cycles,
            written_bytes: server.written_bytes() - written,
            cpu: server.cpu() - cpu,
            rss_kib,
        }
    })
}

/// Cycles of `transitions` each at one number of connections, as a line of the table.
fn print_cycles(name: &str, load: &Load, connections: usize, transitions: usize) {
    let count = (load.cycles * transitions).max(1) as u64;
    println!(
        "{:<24} {connections:>5} {:>9.0} {:>13.0} {:>8.2} {:>8.2} {:>11} {:>14.1} {:>8.1}",
        name,
        per_second(load.cycles, load.elapsed),
        per_second(load.cycles * transitions, load.elapsed),
        load.times.percentile_ms(50.0),
        load.times.percentile_ms(99.0),
        load.cpu.as_micros() as u64 / count,
        load.written_bytes as f64 / 1024.0 / count as f64,
        load.rss_kib as f64 / 1024.0,
    );
}

/// From sending a create to the answer of a claim that was already waiting.
fn enqueue_to_claim(server: &Server, rounds: usize) -> Latencies {
    let mut times = Latencies::default();
    std::thread::scope(|scope| {
        let (ready, waiting) = mpsc::channel();
        let (claimed, done) = mpsc::channel();
        scope.spawn(move || {
            let mut claimer = Connection::new(server.address, "claimer");
            for _ in 0..rounds {
                ready.send(()).expect("the other side waits");
                let answer = claimer.post("/api/runtime/workers/claimer/claim", "{\"wait_seconds\":55}");
                let at = Instant::now();
                let lease = lease_id(answer);
                let task = field_after(answer, "\"task_id\":\"");
                let path = format!("/api/runtime/llm-tasks/{task}/complete");
                let body = format!(
                    "{{\"lease_id\":\"{lease}\",\"status\":\"success\",\"metrics\":{{\"duration_ms\":1}}}}"
                );
                claimer.post(&path, &body);
                claimed.send(at).expect("the other side waits");
            }
        });
        let mut creator = Connection::new(server.address, "claimer");
        for _ in 0..rounds {
            waiting.recv().expect("the claimer lives");
            // Long enough for the claim to be waiting; not part of what is measured.
            std::thread::sleep(Duration::from_millis(3));
            let sent = Instant::now();
            creator.post(
                "/api/runtime/llm-tasks",
                "{\"context_id\":\"c\",\"agent_slug\":\"a\",\"prompt\":\"p\"}",
            );
            times.push(done.recv().expect("the claimer lives") - sent);
        }
    });
    times
}

fn main() {
    let options = options();
    let disk = Disk::calibrate(&options.dir, Duration::from_secs_f64(options.seconds.min(2.0)));
    println!(
        "disk: {:.0} writes of 4 KiB with fdatasync a second in {}",
        disk.per_second,
        options.dir.display()
    );
    let mut server = Server::start(&options.program, &options.dir, options.log_level);
    println!("start to first answer, empty: {:.0} ms", server.started_in.as_secs_f64() * 1e3);
    println!("resident memory, idle: {:.1} MB", server.memory_kib("VmRSS") as f64 / 1024.0);
    server.register(64);

    println!();
    println!(
        "{:<24} {:>5} {:>9} {:>13} {:>8} {:>8} {:>11} {:>14} {:>8}",
        "durable",
        "conns",
        "cycles/s",
        "transitions/s",
        "p50 ms",
        "p99 ms",
        "CPU µs each",
        "KiB each",
        "RSS MB"
    );
    for connections in [1, 8, 64] {
        let load = drive(&server, Cycle::Three, connections, options.seconds, &[]);
        print_cycles("create lease complete", &load, connections, 3);
        let load = drive(&server, Cycle::Four, connections, options.seconds, &[]);
        print_cycles("… with heartbeat", &load, connections, 4);
    }
    let load = drive(&server, Cycle::Create, 8, options.seconds, &[]);
    print_cycles("create", &load, 8, 1);

    println!();
    let claims = enqueue_to_claim(&server, (options.seconds * 60.0) as usize + 20);
    line("enqueue to waiting claim", &claims, None);
    let known = server.some_tasks();
    for (name, cycle, connections) in [
        ("get a task, 8 conns", Cycle::Get, 8),
        ("get a task, 1 conn", Cycle::Get, 1),
        ("list page of 50, 1 conn", Cycle::List, 1),
        ("statistics, 1 conn", Cycle::Stats, 1),
    ] {
        let load = drive(&server, cycle, connections, options.seconds.min(2.0), &known);
        line(name, &load.times, Some(per_second(load.cycles, load.elapsed)));
    }
    println!();
    println!("resident memory, most: {:.1} MB", server.memory_kib("VmHWM") as f64 / 1024.0);
    println!("data directory: {:.1} MB", server.data_bytes() as f64 / 1024.0 / 1024.0);
    server.kill9_and_restart();
    println!("start after kill -9 with all that: {:.0} ms", server.started_in.as_secs_f64() * 1e3);
}
