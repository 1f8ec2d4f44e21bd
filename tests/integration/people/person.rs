//! A person at a prompt: runs commands with an environment of their own, on pipes or on a terminal.
//!
//! Must stay true: a command never outlives its test, and finds no settings but those that a test gives.

use crate::harness::{Ended, PATIENCE, PROGRAM, Server, eventually};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Who asks which server.
#[derive(Clone)]
pub struct Person {
    env: Vec<(String, String)>,
}

impl Person {
    pub fn at(server: &Server) -> Person {
        Person::knowing(&[("BLOOM_SERVER", &server.url())])
    }

    pub fn knowing(env: &[(&str, &str)]) -> Person {
        Person { env: env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Person {
        self.env.push((name.into(), value.into()));
        self
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.env_clear().envs(self.env.iter().cloned()).args(args);
        command
    }

    /// Runs to the end, with an empty stdin.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ended {
        self.run_with_input(args, b"")
    }

    #[track_caller]
    pub fn run_with_input(&self, args: &[&str], input: &[u8]) -> Ended {
        let mut command = self.start(args);
        let mut stdin = command.child.stdin.take().expect("stdin is piped");
        // Who refuses the flags reads no input.
        let _ = stdin.write_all(input);
        drop(stdin);
        command.end()
    }

    /// What a command prints, which must succeed.
    #[track_caller]
    pub fn says(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {}{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    /// A command that must end with this code; what it says on stderr.
    #[track_caller]
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(code), "{args:?}: {}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.stdout, "", "{args:?}: a failure says nothing on stdout");
        ended.stderr
    }

    /// Starts a command and lets it run.
    pub fn start(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stdout = gathered(child.stdout.take().expect("stdout is piped"));
        let stderr = gathered(child.stderr.take().expect("stderr is piped"));
        Running { child, stdout, stderr }
    }

    /// Runs a command whose reader has gone before it says anything.
    #[track_caller]
    pub fn run_without_reader(&self, args: &[&str]) -> Ended {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = self.command(args);
        let output = command.stdout(writer).stderr(Stdio::piped()).output();
        let output = output.expect("the program starts");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ended { code: output.status.code(), stdout: String::new(), stderr }
    }

    /// Starts a command whose stdin, stdout and stderr are a terminal of this size.
    pub fn start_on_terminal(&self, args: &[&str], columns: u16) -> Running {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("its other side");
        let name = ptsname(&ours, Vec::new()).expect("its name");
        let name = name.to_str().expect("ASCII");
        let theirs = File::options().read(true).write(true).open(name).expect("it opens");
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&theirs, size).expect("it has a size");
        let side = || Stdio::from(theirs.try_clone().expect("a file can be shared"));
        let mut command = self.command(args);
        command.stdin(side()).stdout(side()).stderr(side());
        let mut child = command.spawn().expect("the program starts");
        drop((command, theirs));
        let ours = File::from(ours);
        let writer = ours.try_clone().expect("a file can be shared");
        child.stdin = None;
        let nothing = gathered(std::io::empty());
        Running { child, stdout: gathered(ours).typing(writer), stderr: nothing }
    }

    /// The same to its end; everything that the terminal was shown.
    #[track_caller]
    pub fn sees(&self, args: &[&str], columns: u16) -> String {
        let ended = self.start_on_terminal(args, columns).end();
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stdout);
        ended.stdout.replace("\r\n", "\n")
    }
}

/// A command that runs.
pub struct Running {
    pub child: Child,
    stdout: Gathered,
    stderr: Gathered,
}

impl Running {
    pub fn has_said(&self) -> String {
        self.stderr.text()
    }

    /// Waits until stderr holds this.
    #[track_caller]
    pub fn wait_until_said(&self, text: &str) -> String {
        eventually(text, || Some(self.has_said()).filter(|said| said.contains(text)))
    }

    /// Waits until stdout, or the terminal, holds this.
    #[track_caller]
    pub fn wait_until_shown(&self, text: &str) -> String {
        eventually(text, || Some(self.stdout.text()).filter(|shown| shown.contains(text)))
    }

    /// Types at the terminal.
    pub fn types(&mut self, text: &str) {
        let terminal = self.stdout.terminal.as_mut().expect("it runs on a terminal");
        terminal.write_all(text.as_bytes()).expect("a terminal takes what is typed");
    }

    /// Ctrl-C, as a shell passes it on.
    pub fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it runs");
    }

    #[track_caller]
    pub fn end(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                break status;
            }
            assert!(Instant::now() < deadline, "no end: {}{}", self.stdout.text(), self.has_said());
            std::thread::sleep(Duration::from_millis(5));
        };
        Ended { code: status.code(), stdout: self.stdout.whole(), stderr: self.stderr.whole() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What a pipe has brought so far.
struct Gathered {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    terminal: Option<File>,
}

fn gathered(mut pipe: impl Read + Send + 'static) -> Gathered {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let kept = bytes.clone();
    let reader = std::thread::spawn(move || {
        let mut some = [0; 64 * 1024];
        // A terminal ends with an error once nobody holds its other side.
        while let Ok(read @ 1..) = pipe.read(&mut some) {
            kept.lock().expect("no panic under this lock").extend_from_slice(&some[..read]);
        }
    });
    Gathered { bytes, reader: Some(reader), terminal: None }
}

impl Gathered {
    fn typing(self, terminal: File) -> Gathered {
        Gathered { terminal: Some(terminal), ..self }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no panic under this lock")).into_owned()
    }

    /// Everything, once the other side is closed.
    fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        self.text()
    }
}
