//! One child process, from its spawn until nothing of it is left.
//!
//! What must stay true: no path out of here leaves a process behind. The child leads a process
//! group of its own; it is killed as a whole while its leader is not yet reaped, so the group's id
//! cannot be another's by then. What left the group (Claude starts tools in sessions of their own)
//! is found by a mark ([`super::leftovers`]). Pipes are served by threads of their own and bounded.
//! Not here: what the output means ([`super::stream`]), and what becomes of the task.

use super::leftovers::{MARK, end_run, new_mark, scratch_base};
use super::verdict::Exit;
use super::watch::{Ending, NEVER, Watch};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// How much of the end of stderr is kept.
const STDERR_LIMIT_BYTES: usize = 64 * 1024;
/// Between TERM and KILL, when a task's own time is up or the worker stops.
pub const GRACE_MS: u64 = 5_000;
/// How much is kept of an output that nobody reads as it comes, in bytes.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// How long the pipes may stay open once every process we know of is dead.
const PIPES_LIMIT: Duration = Duration::from_secs(2);

/// What to run.
pub struct Order<'a> {
    pub program: &'a Path,
    pub arguments: &'a [&'a str],
    /// The whole environment, but for the mark.
    pub environment: &'a [(OsString, OsString)],
    /// Where it runs; none: in its scratch folder.
    pub folder: Option<&'a Path>,
    pub stdin: String,
    pub timeout_ms: u64,
}

/// What a child's stdout becomes while it is written.
pub trait Output: Default + Send + 'static {
    /// Takes a piece, cut anywhere; the answer is progress to tell.
    fn take(&mut self, piece: &[u8]) -> Result<Vec<String>, TooMuch>;
}

/// More was written than is sensible to take.
pub struct TooMuch;

/// An output as it was written.
#[derive(Default)]
pub struct Kept(Vec<u8>);

impl Output for Kept {
    fn take(&mut self, piece: &[u8]) -> Result<Vec<String>, TooMuch> {
        self.0.extend_from_slice(piece);
        if self.0.len() > KEPT_BYTES_MAX { Err(TooMuch) } else { Ok(Vec::new()) }
    }
}

impl Kept {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).trim().to_owned()
    }
}

/// What is left of a run.
pub struct Finished<O> {
    pub ending: Ending,
    pub exit: Exit,
    pub output: O,
    /// The end of stderr.
    pub stderr: Vec<u8>,
    pub duration_ms: u64,
}

/// Runs a child to its end in a fresh scratch folder, which is gone afterwards, like every process
/// that came of it. Errors: it could not be started at all.
pub fn run<O: Output>(order: Order, output: O, watch: &Arc<Watch>) -> io::Result<Finished<O>> {
    let scratch = Scratch::create(order.environment)?;
    let started = watch.now();
    let child = Command::new(order.program)
        .args(order.arguments)
        .env_clear()
        .envs(order.environment.iter().map(|(name, value)| (name, value)))
        .env(MARK, &scratch.name)
        .current_dir(order.folder.unwrap_or(&scratch.path))
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut group = Group { child, mark: scratch.name.clone(), reaped: None };
    let pipes = Pipes::serve(&mut group.child, order.stdin, output, watch)?;
    group.announce_exit(watch)?;

    let ending = watch.wait_for_ending(started.after_ms(order.timeout_ms));
    if matches!(ending, Ending::TimedOut | Ending::Stopped) {
        group.signal(Signal::TERM);
        watch.wait_in_grace(watch.now().after_ms(GRACE_MS));
    }
    let status = group.kill(watch)?;
    let duration_ms = watch.now().0 - started.0;
    let (output, stderr) = pipes.collect();
    let exit = match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or_default()),
    };
    Ok(Finished { ending, exit, output, stderr, duration_ms })
}

/// The child and everything that it started. Dropped early, it is killed all the same.
struct Group {
    child: Child,
    mark: String,
    reaped: Option<ExitStatus>,
}

impl Group {
    /// Tells `watch` when the leader ends, without reaping it.
    fn announce_exit(&self, watch: &Arc<Watch>) -> io::Result<()> {
        let (pid, watch) = (Pid::from_child(&self.child), watch.clone());
        spawn_thread("child-exit", move || {
            let seen = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), seen) {}
            watch.child_exited();
        })
    }

    /// Signals the group. Only while the leader is not reaped: until then its id is taken.
    fn signal(&self, signal: Signal) {
        if self.reaped.is_none() {
            // The only failure left is that nobody is in the group any more.
            let _ = kill_process_group(Pid::from_child(&self.child), signal);
        }
    }

    fn kill(&mut self, watch: &Watch) -> io::Result<ExitStatus> {
        self.signal(Signal::KILL);
        watch.wait_for_exit(NEVER);
        end_run(&self.mark);
        let status = self.child.wait()?;
        self.reaped = Some(status);
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.reaped.is_none() {
            self.signal(Signal::KILL);
            end_run(&self.mark);
            let _ = self.child.wait();
        }
    }
}

/// The three pipes, each with its thread.
struct Pipes<O> {
    stdout: Arc<Mutex<O>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    ended: mpsc::Receiver<()>,
}

impl<O: Output> Pipes<O> {
    fn serve(
        child: &mut Child,
        stdin: String,
        output: O,
        watch: &Arc<Watch>,
    ) -> io::Result<Pipes<O>> {
        const PIPED: &str = "all three were asked for as pipes";
        let mut input = child.stdin.take().expect(PIPED);
        let mut pipe = child.stdout.take().expect(PIPED);
        let mut errors = child.stderr.take().expect(PIPED);
        // A child that ends without reading its prompt breaks the pipe; its exit tells the rest.
        spawn_thread("child-stdin", move || drop(input.write_all(stdin.as_bytes())))?;

        let (sender, ended) = mpsc::channel();
        let stdout = Arc::new(Mutex::new(output));
        let (taker, watch, done) = (stdout.clone(), watch.clone(), sender.clone());
        spawn_thread("child-stdout", move || {
            let mut floods = false;
            read_all(&mut pipe, |piece| {
                // What comes after too much is read, so that the child can end, and let go.
                if floods {
                    return;
                }
                let taken = taker.lock().expect(UNPOISONED).take(piece);
                match taken {
                    Ok(lines) if lines.is_empty() => {}
                    Ok(lines) => watch.tell(&lines),
                    Err(TooMuch) => {
                        floods = true;
                        watch.child_floods();
                    }
                }
            });
            let _ = done.send(());
        })?;
        let stderr: Arc<Mutex<Vec<u8>>> = Arc::default();
        let kept = stderr.clone();
        spawn_thread("child-stderr", move || {
            read_all(&mut errors, |piece| {
                let mut kept = kept.lock().expect(UNPOISONED);
                kept.extend_from_slice(piece);
                let surplus = kept.len().saturating_sub(STDERR_LIMIT_BYTES);
                kept.drain(..surplus);
            });
            let _ = sender.send(());
        })?;
        Ok(Pipes { stdout, stderr, ended })
    }

    /// What was written. A reader whose pipe is still held open by a process out of our reach is
    /// left to itself.
    fn collect(self) -> (O, Vec<u8>) {
        for _ in 0..2 {
            let _ = self.ended.recv_timeout(PIPES_LIMIT);
        }
        let output = std::mem::take(&mut *self.stdout.lock().expect(UNPOISONED));
        (output, std::mem::take(&mut *self.stderr.lock().expect(UNPOISONED)))
    }
}

fn read_all(pipe: &mut impl Read, mut keep: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 * 1024];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => keep(&buffer[..read]),
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// A folder of the run's own, readable by us alone, removed when dropped.
struct Scratch {
    name: String,
    path: PathBuf,
}

impl Scratch {
    /// Its random name is the run's mark as well.
    fn create(environment: &[(OsString, OsString)]) -> io::Result<Scratch> {
        let (base, name) = (scratch_base(environment), new_mark());
        let path = base.join(&name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|fault| {
            io::Error::other(format!("no scratch folder in {}: {fault}", base.display()))
        })?;
        Ok(Scratch { name, path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(fault) = std::fs::remove_dir_all(&self.path) {
            log::warn!("scratch folder left behind path={} error={fault}", self.path.display());
        }
    }
}

/// A named thread; unlike `thread::spawn` it says so when the system has none left.
pub fn spawn_thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(work).map(drop)
}

const UNPOISONED: &str = "nothing panics while it holds a pipe's buffer";
