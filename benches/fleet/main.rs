//! The fleet program: how long a task takes from its author to a running Claude CLI, and what a large
//! fleet costs the server while nothing happens.
//!
//! `cargo bench --bench fleet -- [--short] [--rounds N] [--workers N] [--seconds N] [--dir DIR]
//! [--program PATH] [--only running,idle]` starts the release binary as a server, and as a worker with
//! the stand-in of Claude CLI that the tests use. Nothing fails on an absolute time. Not here: the store
//! under load (`benches/load`), a million tasks (`benches/scale`).
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

#[path = "../load/figures.rs"]
#[allow(dead_code, reason = "shared with the load program, which uses all of it")]
mod figures;
mod idle;
mod running;
#[path = "../load/server.rs"]
#[allow(dead_code, reason = "shared with the load program, which uses all of it")]
mod server;
#[path = "../scale/table.rs"]
#[allow(dead_code, reason = "shared with the scale program, which uses all of it")]
mod table;
#[path = "../load/wire.rs"]
#[allow(dead_code, reason = "shared with the load program, which uses all of it")]
mod wire;

use figures::print_disk;
use std::path::PathBuf;
use std::time::Duration;

pub struct Options {
    pub rounds: usize,
    pub workers: usize,
    pub seconds: u64,
    pub dir: PathBuf,
    pub program: PathBuf,
    only: Option<String>,
}

fn options() -> Options {
    let mut options = Options {
        rounds: 300,
        workers: 1_000,
        seconds: 60,
        dir: std::env::temp_dir(),
        program: PathBuf::from(env!("CARGO_BIN_EXE_bloom-runtime")),
        only: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            "--short" => (options.rounds, options.workers, options.seconds) = (20, 100, 2),
            "--rounds" => options.rounds = value().parse().expect("a number of tasks"),
            "--workers" => options.workers = value().parse().expect("a number of workers"),
            "--seconds" => options.seconds = value().parse().expect("a number of seconds"),
            "--dir" => options.dir = value().into(),
            "--program" => options.program = value().into(),
            "--only" => options.only = Some(value()),
            // What `cargo bench` adds by itself.
            "--bench" => {}
            other => panic!("unknown argument {other}"),
        }
    }
    options
}

fn main() {
    let options = options();
    let wants = |phase: &str| options.only.as_ref().is_none_or(|only| only.contains(phase));
    print_disk("before", &options.dir, Duration::from_secs(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("epoll").block_on(async {
        if wants("running") {
            running::measure(&options).await;
        }
        if wants("idle") {
            idle::measure(&options).await;
        }
    });
    print_disk("after", &options.dir, Duration::from_secs(1));
}
