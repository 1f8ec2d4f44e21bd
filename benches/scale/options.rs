//! What is asked for on the command line.

use std::path::PathBuf;

pub struct Options {
    pub finished: u64,
    pub live: u64,
    /// Of each measurement of throughput.
    pub seconds: f64,
    /// How often starts and throughput are measured.
    pub rounds: usize,
    /// Requests for each list.
    pub requests: usize,
    pub workers: usize,
    pub listeners: usize,
    pub idle_seconds: f64,
    pub dir: PathBuf,
    pub program: PathBuf,
    pub keep: bool,
    /// Names of the parts to run; all of them unless some are named.
    only: Vec<String>,
}

impl Options {
    pub fn from_args() -> Options {
        let mut options = Options {
            finished: 1_000_000,
            live: 100_000,
            seconds: 5.0,
            rounds: 5,
            requests: 300,
            workers: 1_000,
            listeners: 1_000,
            idle_seconds: 600.0,
            dir: std::env::temp_dir(),
            program: PathBuf::from(env!("CARGO_BIN_EXE_bloom-runtime")),
            keep: false,
            only: Vec::new(),
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
            let number = |text: String| text.parse::<f64>().expect("a number");
            match arg.as_str() {
                "--short" => options.shorten(),
                "--finished" => options.finished = number(value()) as u64,
                "--live" => options.live = number(value()) as u64,
                "--seconds" => options.seconds = number(value()),
                "--rounds" => options.rounds = number(value()) as usize,
                "--workers" => options.workers = number(value()) as usize,
                "--listeners" => options.listeners = number(value()) as usize,
                "--idle-seconds" => options.idle_seconds = number(value()),
                "--dir" => options.dir = value().into(),
                "--program" => options.program = value().into(),
                "--keep" => options.keep = true,
                "--only" => options.only = value().split(',').map(str::to_owned).collect(),
                // What `cargo bench` adds by itself.
                "--bench" => {}
                other => panic!("unknown argument {other}"),
            }
        }
        options
    }

    /// Whether this part is to run.
    pub fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == part)
    }

    /// Small numbers, which check that everything goes as it should and measure nothing.
    fn shorten(&mut self) {
        self.finished = 6_000;
        self.live = 1_000;
        self.seconds = 0.2;
        self.rounds = 1;
        self.requests = 3;
        self.workers = 100;
        self.listeners = 100;
        self.idle_seconds = 1.0;
    }
}
