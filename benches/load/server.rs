//! The server under load: started on a folder of its own, read through /proc, ended with the program.
//!
//! Its log goes to a file in that folder, as a service's does: writing it is part of its work.

use crate::figures;
use crate::wire::{Connection, record_ids};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How often the log is looked at for the port; the exactness of a start's time.
const LOOK: Duration = Duration::from_millis(1);

pub struct Server {
    child: Child,
    program: PathBuf,
    /// Its data directory, its log and its settings are in here.
    dir: PathBuf,
    /// A folder of its own goes with it.
    is_own: bool,
    env: Vec<(String, String)>,
    pub address: SocketAddr,
    /// From the start of the process to its first answer.
    pub started_in: Duration,
}

/// Settings of a server that limits no rates, and these.
pub fn unlimited(more: &[(&str, &str)]) -> Vec<(String, String)> {
    let all = [("RATE_LIMIT_PER_MINUTE", "0")].into_iter().chain(more.iter().copied());
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Server {
    /// With these variables besides the server's own defaults.
    pub async fn start(program: &Path, dir: &Path, env: Vec<(String, String)>) -> Server {
        let dir = dir.join(format!("bloom-load-{}", std::process::id()));
        let mut server = Server::start_on(program, dir, env).await;
        server.is_own = true;
        server
    }

    /// Starts it on a folder whose `data/` may be there already, and leaves that when it ends.
    pub async fn start_on(program: &Path, dir: PathBuf, env: Vec<(String, String)>) -> Server {
        std::fs::create_dir_all(&dir).expect("a writable folder");
        std::fs::write(dir.join("runtime.env"), "").expect("a writable folder");
        let began = Instant::now();
        let child = spawn(program, &dir, &env);
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let (program, started_in, is_own) = (program.into(), Duration::ZERO, false);
        let mut server = Server { child, program, dir, is_own, env, address, started_in };
        server.await_first_answer(began).await;
        server
    }

    pub async fn kill9_and_restart(&mut self) {
        self.kill9();
        self.start_again().await;
    }

    pub fn kill9(&mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }

    /// SIGTERM, and the end after it.
    pub fn terminate(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("our child");
        assert!(self.child.wait().expect("our child").success(), "an orderly stop");
    }

    /// After its end, on the same data.
    pub async fn start_again(&mut self) {
        let began = Instant::now();
        self.child = spawn(&self.program, &self.dir, &self.env);
        self.await_first_answer(began).await;
    }

    async fn await_first_answer(&mut self, began: Instant) {
        let (port, is_tls) = loop {
            // The process is looked at before its log, so that its last words are in it.
            let ended = self.child.try_wait().expect("our child");
            let log = std::fs::read_to_string(self.dir.join(LOG)).expect("its log");
            let said = log.split_once("listening on http");
            let said = said.and_then(|(_, rest)| rest.split_once("://127.0.0.1:"));
            if let Some((scheme, rest)) = said
                && let Some((port, _)) = rest.split_once([' ', '\n'])
            {
                break (port.parse().expect("a port"), scheme == "s");
            }
            assert!(ended.is_none(), "it ended with:\n{log}");
            tokio::time::sleep(LOOK).await;
        };
        self.address.set_port(port);
        if !is_tls {
            let mut connection = Connection::new(self.address).await;
            connection.get(format_args!("/api/runtime/health"));
            connection.exchange().await;
        }
        self.started_in = began.elapsed();
    }

    /// Registers a worker for each connection, which also makes it heard of once more.
    pub async fn register(&self, workers: impl Iterator<Item = String>) {
        let mut connection = Connection::new(self.address).await;
        for name in workers {
            connection.post(
                format_args!("/api/runtime/workers"),
                format_args!("{{\"name\":\"{name}\",\"capabilities\":{{\"max_concurrency\":32}}}}"),
            );
            connection.exchange().await;
        }
    }

    /// Ids of the newest tasks.
    pub async fn some_tasks(&self) -> Vec<String> {
        let mut connection = Connection::new(self.address).await;
        connection.get(format_args!("/api/runtime/llm-tasks?limit=500"));
        record_ids(connection.exchange().await)
    }

    pub fn written_bytes(&self) -> u64 {
        figures::written_bytes(&self.child.id().to_string())
    }

    pub fn given_bytes(&self) -> u64 {
        figures::given_bytes(&self.child.id().to_string())
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

    /// Lets `VmHWM` begin anew from what is resident now.
    pub fn forget_peak(&self) {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        std::fs::write(path, "5").expect("a process of ours");
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_none()
    }

    pub fn cpu(&self) -> Duration {
        figures::cpu(&self.child.id().to_string())
    }

    pub fn data_bytes(&self) -> u64 {
        let files = std::fs::read_dir(self.dir.join("data")).expect("the data directory");
        files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
    }

    /// One of the two files.
    pub fn file_bytes(&self, name: &str) -> u64 {
        self.dir.join("data").join(name).metadata().expect("the data directory").len()
    }

    /// What it said so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.dir.join(LOG)).expect("its log")
    }

    pub fn log_bytes(&self) -> u64 {
        self.dir.join(LOG).metadata().expect("its log").len()
    }
}

const LOG: &str = "runtime.log";

fn spawn(program: &Path, dir: &Path, env: &[(String, String)]) -> Child {
    let mut command = Command::new(program);
    command.env_clear().envs(env.iter().map(|(name, value)| (name, value)));
    command.args(["serve", "--host", "127.0.0.1", "--port", "0"]);
    command.arg("--data-dir").arg(dir.join("data")).arg("--env-file").arg(dir.join("runtime.env"));
    let log = File::create(dir.join(LOG)).expect("a writable folder");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("the program starts")
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if self.is_own {
            std::fs::remove_dir_all(&self.dir).ok();
        }
    }
}
