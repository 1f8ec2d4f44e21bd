//! The server under load: started on a folder of its own, read through /proc, ended with the program.

use crate::wire::{Connection, record_id};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Linux counts CPU time for /proc in hundredths of a second on every machine we know.
const TICK: Duration = Duration::from_millis(10);

pub struct Server {
    child: Child,
    program: PathBuf,
    dir: PathBuf,
    log_level: Option<String>,
    pub address: SocketAddr,
    /// From the start of the process to its first answer.
    pub started_in: Duration,
}

impl Server {
    pub fn start(program: &Path, dir: &Path, log_level: Option<String>) -> Server {
        let dir = dir.join(format!("bloom-load-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a writable folder");
        std::fs::write(dir.join("runtime.env"), "").expect("a writable folder");
        let (child, address, started_in) = spawn(program, &dir, log_level.as_deref());
        Server { child, program: program.into(), dir, log_level, address, started_in }
    }

    pub fn kill9_and_restart(&mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
        (self.child, self.address, self.started_in) =
            spawn(&self.program, &self.dir, self.log_level.as_deref());
    }

    /// One worker for each connection, and one that waits.
    pub fn register(&self, count: usize) {
        let mut connection = Connection::new(self.address, "");
        let names = (0..count).map(|n| format!("load-{n}")).chain(["claimer".into()]);
        for name in names {
            let body =
                format!("{{\"name\":\"{name}\",\"capabilities\":{{\"max_concurrency\":32}}}}");
            connection.post("/api/runtime/workers", &body);
        }
    }

    /// Ids of the newest tasks.
    pub fn some_tasks(&self) -> Vec<String> {
        let mut connection = Connection::new(self.address, "");
        let page = connection.get("/api/runtime/llm-tasks?limit=500").to_owned();
        page.match_indices("\"id\":\"").map(|(at, _)| record_id(&page[at..])).collect()
    }

    pub fn written_bytes(&self) -> u64 {
        self.proc_number("io", "write_bytes")
    }

    /// A line of /proc/<pid>/status such as `VmRSS`, in KiB.
    pub fn memory_kib(&self, name: &str) -> u64 {
        self.proc_number("status", name)
    }

    fn proc_number(&self, file: &str, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id()));
        let text = text.expect("the server runs");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in /proc/<pid>/{file}"))
    }

    /// CPU time of all threads so far.
    pub fn cpu(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let text = text.expect("the server runs");
        // After the program's name in brackets: user time is the 12th field, system time the 13th.
        let (_, rest) = text.rsplit_once(')').expect("/proc/<pid>/stat has a name");
        let ticks =
            rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok());
        TICK * ticks.sum::<u32>()
    }

    pub fn data_bytes(&self) -> u64 {
        let files = std::fs::read_dir(self.dir.join("data")).expect("the data directory");
        files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
    }
}

fn spawn(program: &Path, dir: &Path, log_level: Option<&str>) -> (Child, SocketAddr, Duration) {
    let began = Instant::now();
    let mut command = Command::new(program);
    command.env_clear().env("RATE_LIMIT_PER_MINUTE", "0");
    command.envs(log_level.map(|level| ("LOG_LEVEL", level)));
    command.args(["serve", "--host", "127.0.0.1", "--port", "0"]);
    command.arg("--data-dir").arg(dir.join("data")).arg("--env-file").arg(dir.join("runtime.env"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped"));
    let mut said = String::new();
    let port = loop {
        let mut line = String::new();
        let count = lines.read_line(&mut line).expect("stderr is text");
        assert!(count > 0, "it ended with:\n{said}");
        if let Some((_, rest)) = line.split_once("listening on http://127.0.0.1:") {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            break digits.parse().expect("a port");
        }
        said += &line;
    };
    // Whatever it says later must not fill the pipe.
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    Connection::new(address, "").get("/api/runtime/health");
    (child, address, began.elapsed())
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        std::fs::remove_dir_all(&self.dir).ok();
    }
}
