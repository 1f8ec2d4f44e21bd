//! The load program: what one server does on this machine's disk, beside a calibration of that disk.
//!
//! `cargo bench --bench load -- [--short] [--seconds N] [--only 64,8,1] [--dir DIR]
//! [--program PATH] [--log-level WORD]` starts the release binary on a folder of its own in DIR and
//! drives it over keep-alive connections. With `--hostile [--attack WORD]` it is attacked instead, and
//! what honest callers notice of that is measured (`hostile`); with `--push` it pushes to 100 agents
//! (`push`), with `--tls` it speaks https (`tls`). Figures are for people: nothing here fails on an absolute
//! time. Not here: another machine as generator, so the generator is kept light (one thread, one
//! task a connection, `wire`) and its own CPU time stands beside the server's.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

mod attacks;
mod cycle;
mod drive;
#[allow(dead_code, reason = "shared with the scale program, which uses all of it")]
mod figures;
mod hostile;
mod push;
#[allow(dead_code, reason = "shared with the scale program, which uses all of it")]
mod server;
mod tls;
mod wire;

use cycle::Cycle;
use drive::{drive, print_header, print_load};
use figures::{Latencies, print_disk};
use server::{Server, unlimited};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::{Connection, field_after, lease_id, record_id};

/// Fewer would make the 99th percentile a matter of two requests.
const CLAIMS_MIN: usize = 200;

struct Options {
    seconds: f64,
    /// Numbers of connections for the durable rows.
    only: Vec<usize>,
    dir: PathBuf,
    program: PathBuf,
    /// The server's own default unless said otherwise: its log lines are part of its work.
    log_level: Option<String>,
    is_hostile: bool,
    is_push: bool,
    is_tls: bool,
    /// Attacks whose name has this word in it.
    attack: String,
}

fn options() -> Options {
    let mut options = Options {
        seconds: 5.0,
        only: vec![1, 8, 64],
        dir: std::env::temp_dir(),
        program: PathBuf::from(env!("CARGO_BIN_EXE_bloom-runtime")),
        log_level: None,
        is_hostile: false,
        is_push: false,
        is_tls: false,
        attack: String::new(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            "--short" => options.seconds = 0.5,
            "--seconds" => options.seconds = value().parse().expect("a number of seconds"),
            "--only" => {
                let numbers = value();
                let numbers = numbers.split(',').map(str::parse).collect::<Result<_, _>>();
                options.only = numbers.expect("numbers of connections, such as 64,8,1");
            }
            "--hostile" => options.is_hostile = true,
            "--push" => options.is_push = true,
            "--tls" => options.is_tls = true,
            "--attack" => options.attack = value(),
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

/// From sending a create to the answer of a claim that was already waiting. Nothing else may be
/// queued: a claim would take it at once and not wait.
async fn enqueue_to_claim(server: &Server, rounds: usize) -> Latencies {
    server.register(std::iter::once("claimer".into())).await;
    let mut claimer = Connection::new(server.address).await;
    let mut creator = Connection::new(server.address).await;
    let mut times = Latencies::default();
    for _ in 0..rounds {
        claimer.post(
            format_args!("/api/runtime/workers/claimer/claim"),
            format_args!("{{\"wait_seconds\":55}}"),
        );
        creator.post(
            format_args!("/api/runtime/llm-tasks"),
            format_args!("{{\"context_id\":\"c\",\"agent_slug\":\"a\",\"prompt\":\"p\"}}"),
        );
        let claim = async {
            let answer = claimer.exchange().await;
            (Instant::now(), lease_id(answer), field_after(answer, b"\"task_id\":\""))
        };
        let create = async {
            // Long enough for the claim to be waiting; not part of what is measured.
            tokio::time::sleep(Duration::from_millis(3)).await;
            let sent = Instant::now();
            (sent, record_id(creator.exchange().await))
        };
        let ((answered, lease, claimed), (sent, created)) = tokio::join!(claim, create);
        assert_eq!(claimed, created, "another task was queued");
        times.push(answered - sent);
        claimer.post(
            format_args!("/api/runtime/llm-tasks/{claimed}/complete"),
            format_args!(
                "{{\"lease_id\":\"{lease}\",\"status\":\"success\",\"metrics\":{{\"duration_ms\":1}}}}"
            ),
        );
        claimer.exchange().await;
    }
    times
}

async fn measure(options: &Options, server: &mut Server) {
    println!("start to first answer, empty: {:.0} ms", server.started_in.as_secs_f64() * 1e3);
    println!("resident memory, idle: {:.1} MB", server.memory_kib("VmRSS") as f64 / 1024.0);

    print_header("durable", "transitions/s");
    let none: Arc<[String]> = Arc::default();
    for connections in options.only.iter().copied() {
        let load = drive(server, Cycle::Three, connections, options.seconds, &none).await;
        print_load("create lease complete", &load, 3);
        let load = drive(server, Cycle::Four, connections, options.seconds, &none).await;
        print_load("… with heartbeat", &load, 4);
    }
    // Before the creates, which stay queued.
    let claims = enqueue_to_claim(server, CLAIMS_MIN.max((options.seconds * 60.0) as usize)).await;
    let load = drive(server, Cycle::Create, 8, options.seconds, &none).await;
    print_load("create", &load, 1);
    println!(
        "enqueue to waiting claim: p50 {} ms, p99 {} ms, of {}",
        claims.percentile_ms(50.0),
        claims.percentile_ms(99.0),
        claims.len()
    );

    print_header("reading", "requests/s");
    let known: Arc<[String]> = server.some_tasks().await.into();
    for (name, cycle, connections) in [
        ("health: no store", Cycle::Health, 8),
        ("get a task", Cycle::Get, 8),
        ("get a task", Cycle::Get, 1),
        ("list page of 50", Cycle::List, 1),
        ("statistics", Cycle::Stats, 1),
    ] {
        let seconds = options.seconds.min(2.0);
        print_load(name, &drive(server, cycle, connections, seconds, &known).await, 1);
    }
    println!();
    println!("resident memory, most: {:.1} MB", server.memory_kib("VmHWM") as f64 / 1024.0);
    let megabytes = |bytes| bytes as f64 / f64::from(1 << 20);
    println!("data directory: {:.1} MB", megabytes(server.data_bytes()));
    println!("log: {:.1} MB", megabytes(server.log_bytes()));
    server.kill9_and_restart().await;
    println!("start after kill -9 with all that: {:.0} ms", server.started_in.as_secs_f64() * 1e3);
}

fn main() {
    let options = options();
    if options.is_hostile {
        return hostile::measure(&options);
    }
    let calibration = Duration::from_secs_f64(options.seconds.min(2.0));
    print_disk("before", &options.dir, calibration);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("epoll").block_on(async {
        if options.is_push {
            return push::measure(&options).await;
        }
        if options.is_tls {
            return tls::measure(&options).await;
        }
        let level = options.log_level.as_deref().map(|level| ("LOG_LEVEL", level));
        let env = unlimited(level.as_slice());
        let mut server = Server::start(&options.program, &options.dir, env).await;
        measure(&options, &mut server).await;
    });
    print_disk("after", &options.dir, calibration);
}
