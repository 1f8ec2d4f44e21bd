//! Starts the real program on a free port with a data directory of its own, and ends it.
//!
//! What must stay true: the environment is empty but for what a test sets, the port is learnt from
//! the start-up line (`listening on http[s]://…`), a server never outlives its test, and what it said
//! on stderr stands in the failure's output. Not here: HTTP (`http.rs`).

use crate::http::Client;
pub use crate::steps::{TASKS, WORKERS, column, failure, fence, id, rows, success, under, use_up};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// `tests/cross/run.sh` names one for another machine when it compiles the tests.
pub const PROGRAM: &str = match option_env!("BLOOM_PROGRAM") {
    Some(other) => other,
    None => env!("CARGO_BIN_EXE_bloom-runtime"),
};

/// Generous: a test fails on a wrong answer, never on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How a server is to be started.
#[derive(Clone, Default)]
pub struct Setup {
    env: Vec<(String, String)>,
    flags: Vec<String>,
    env_file: String,
    stock_limits: bool,
    port: u16,
    /// MiB of a filesystem of its own for the data directory.
    disk_mib: Option<u32>,
}

/// A program that ended by itself.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Setup {
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.extend([name.into(), value.into()]);
        self
    }

    pub fn switch(mut self, name: &str) -> Self {
        self.flags.push(name.into());
        self
    }

    /// What stands in the file that `--env-file` names; nothing unless said otherwise.
    pub fn env_file(mut self, text: &str) -> Self {
        self.env_file = text.into();
        self
    }

    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Puts the data directory on a filesystem in memory that holds no more than this, and that only
    /// this server (and `/proc/<pid>/root`) sees.
    pub fn small_disk(mut self, mib: u32) -> Self {
        self.disk_mib = Some(mib);
        self
    }

    /// Leaves the rate limits as they come; otherwise they are off.
    pub fn stock_limits(mut self) -> Self {
        self.stock_limits = true;
        self
    }

    #[track_caller]
    pub fn start(self) -> Server {
        let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        self.start_in(dir)
    }

    #[track_caller]
    pub fn start_in(self, dir: Arc<tempfile::TempDir>) -> Server {
        match Process::start(&self, dir.path()) {
            Ok(process) => Server { process, setup: self, dir },
            Err(ended) => panic!("no start, exit {:?}:\n{}", ended.code, ended.stderr),
        }
    }

    /// Runs `serve` where it is expected to refuse, and waits for its end.
    #[track_caller]
    pub fn refuse_in(self, dir: &Path) -> Ended {
        match Process::start(&self, dir) {
            Ok(process) => panic!("started although it should refuse:\n{}", process.said()),
            Err(ended) => ended,
        }
    }

    /// The command line on a folder that holds `data/` and the environment file.
    pub fn command(&self, dir: &Path) -> Command {
        let (data, file) = (dir.join("data"), dir.join("runtime.env"));
        std::fs::write(&file, &self.env_file).expect("an environment file");
        let mut command = match self.disk_mib {
            None => Command::new(PROGRAM),
            Some(mib) => {
                std::fs::create_dir_all(&data).expect("a place to mount on");
                let mut command = Command::new("unshare");
                let script = "mount -t tmpfs -o size=$0m none \"$1\" && shift && exec \"$@\"";
                command.args(["--map-root-user", "--mount", "sh", "-c", script]);
                command.arg(mib.to_string()).arg(&data).arg(PROGRAM);
                command
            }
        };
        command.env_clear().arg("serve");
        command.args(["--host", "127.0.0.1", "--port", &self.port.to_string()]);
        command.arg("--data-dir").arg(data).arg("--env-file").arg(file);
        command.args(&self.flags);
        if !self.stock_limits {
            command.env("RATE_LIMIT_PER_MINUTE", "0");
        }
        // Each server would otherwise ask whatever stands at Membridge's usual address.
        command.env("MEMBRIDGE_SYNC_SECONDS", "0");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// A running program and what it said so far.
struct Process {
    child: Child,
    port: u16,
    stderr: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Process {
    fn start(setup: &Setup, dir: &Path) -> Result<Process, Ended> {
        let mut command = setup.command(dir);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let pipe = child.stderr.take().expect("stderr is piped");
        let stderr = Arc::new(Mutex::new(String::new()));
        let (tell, port) = mpsc::channel();
        let kept = stderr.clone();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let port = listening_port(&line);
                let mut kept = kept.lock().expect("no panic under this lock");
                kept.push_str(&line);
                kept.push('\n');
                drop(kept);
                // After the line has been kept: who is told may look for it.
                if let Some(port) = port {
                    tell.send(port).ok();
                }
            }
        });
        let mut process = Process { child, port: 0, stderr, reader: Some(reader) };
        match port.recv_timeout(PATIENCE) {
            Ok(port) => {
                process.port = port;
                Ok(process)
            }
            // The channel ends with stderr, which ends with the process.
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let code = process.wait().code();
                Err(Ended { code, stdout: String::new(), stderr: process.said() })
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("no line with `listening on http://`:\n{}", process.said())
            }
        }
    }

    fn said(&self) -> String {
        self.stderr.lock().expect("no panic under this lock").clone()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the program is ours and not yet waited for");
    }

    fn wait(&mut self) -> ExitStatus {
        let status = wait(&mut self.child);
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader of stderr does not panic");
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<_> = said.lines().collect();
            // The start and the end of a long log; a panic stands out in the middle.
            let far = |n: usize| n >= 12 && n + 30 < lines.len();
            let access = |line: &str| line.contains("[access]");
            let told = lines.iter().enumerate().filter(|(n, line)| !(far(*n) && access(line)));
            let told: String = told.map(|(_, line)| format!("{line}\n")).collect();
            eprintln!("--- the server's stderr ---\n{told}---");
        }
    }
}

fn listening_port(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("listening on http")?;
    let (_, rest) = rest.split_once("://127.0.0.1:")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            return status;
        }
        assert!(Instant::now() < deadline, "the program did not end within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs the program to its end, with an empty environment but for `env`.
#[track_caller]
pub fn run(args: &[&str], env: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(PROGRAM);
    command.env_clear().args(args).envs(env.iter().copied());
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    Ended { code: output.status.code(), stdout, stderr }
}

/// Asks until `ready` gives something; the events of a test that only a list can show.
#[track_caller]
pub fn eventually<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running server with its data directory.
pub struct Server {
    process: Process,
    setup: Setup,
    dir: Arc<tempfile::TempDir>,
}

impl Server {
    #[track_caller]
    pub fn start() -> Server {
        Setup::default().start()
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.process.port))
    }

    pub fn client(&self) -> Client {
        Client::new(self.address())
    }

    pub fn url(&self) -> String {
        let is_tls = self.said().contains("listening on https://");
        format!("{}://{}", if is_tls { "https" } else { "http" }, self.address())
    }

    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    pub fn dir(&self) -> Arc<tempfile::TempDir> {
        self.dir.clone()
    }

    /// The data directory as the server sees it, on whatever disk it lies.
    pub fn data_as_it_sees_it(&self) -> PathBuf {
        let data = self.dir.path().join("data");
        let inside = data.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", self.pid())).join(inside)
    }

    /// Everything that it said on stderr so far.
    pub fn said(&self) -> String {
        self.process.said()
    }

    /// What the program has said, once this is a part of it.
    pub fn wait_until_said(&self, text: &str) -> String {
        eventually(text, || Some(self.said()).filter(|said| said.contains(text)))
    }

    /// The same, once it stands there so often.
    pub fn wait_until_said_times(&self, text: &str, times: usize) {
        eventually(text, || (self.said().matches(text).count() >= times).then_some(()));
    }

    /// Power off, as far as the program can tell.
    pub fn kill9(&mut self) {
        self.process.child.kill().expect("the program is ours");
        self.process.wait();
    }

    /// Asks it to read its certificate again.
    pub fn hang_up(&self) {
        self.process.signal(Signal::HUP);
    }

    /// SIGTERM, without waiting for the end.
    pub fn ask_to_end(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits for the end after `ask_to_end`.
    pub fn ended(&mut self) -> Option<i32> {
        self.process.wait().code()
    }

    pub fn terminate(&mut self) -> Option<i32> {
        self.ask_to_end();
        self.ended()
    }

    /// Starts again on the same data after `kill9` or `terminate`, on a new port.
    #[track_caller]
    pub fn restart(&mut self) {
        match Process::start(&self.setup, self.dir.path()) {
            Ok(process) => self.process = process,
            Err(ended) => panic!("no restart, exit {:?}:\n{}", ended.code, ended.stderr),
        }
    }

    /// Starts again where workers will look for it. Another process may hold the port for a
    /// moment (any outgoing connection may be given it), so exit 69 is tried again.
    #[track_caller]
    pub fn restart_on_same_port(&mut self) {
        let setup = self.setup.clone().port(self.process.port);
        let dir = self.dir.clone();
        self.process = eventually("the old port", || match Process::start(&setup, dir.path()) {
            Ok(process) => Some(process),
            Err(ended) if ended.code == Some(69) => None,
            Err(ended) => panic!("no restart, exit {:?}:\n{}", ended.code, ended.stderr),
        });
    }

    /// How many sockets the process holds: what it has accepted and not yet let go.
    pub fn open_sockets(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs");
        let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    }

    /// Bytes that the process caused to be written to its disk so far.
    pub fn written_bytes(&self) -> u64 {
        let path = PathBuf::from(format!("/proc/{}/io", self.pid()));
        let io = std::fs::read_to_string(path).expect("the kernel counts this process's I/O");
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        line.and_then(|number| number.parse().ok()).expect("/proc/<pid>/io has write_bytes")
    }
}
