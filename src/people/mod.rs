//! The commands for people: submit, tasks, workers and so on, as clients of the API like any other.
//!
//! Must stay true: what was asked for goes to stdout, everything else to stderr; data that others wrote
//! reaches a terminal only through [`text`]; each failure is one line with the way out and an exit code
//! of its own ([`crate::exit`]). Not here: what the flags are (`cli::people`), where the key comes from
//! (`config::people`).

mod change;
mod completions;
mod fleet;
mod interrupt;
mod retention;
mod screen;
mod server;
mod submit;
mod table;
mod task;
mod tasks;
mod text;
mod times;
mod trail;
mod wait;

use crate::cli::people::{PeopleCommand, Place};
use crate::clock::{Clock, SystemClock};
use crate::config::PeopleConfig;
use crate::exit;
use screen::Screen;
use server::Server;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// Why a command ended without what was asked for.
pub struct Trouble {
    pub line: String,
    pub code: u8,
}

impl Trouble {
    fn new(code: u8, line: impl Into<String>) -> Trouble {
        Trouble { line: line.into(), code }
    }
}

/// What every command has at hand.
struct Desk {
    server: Server,
    screen: Screen,
    clock: SystemClock,
}

impl Desk {
    fn open(place: Place<'_>) -> Result<Desk, Trouble> {
        let config = PeopleConfig::from_process(place)
            .map_err(|error| Trouble::new(exit::CONFIG, error.to_string()))?;
        for warning in &config.warnings {
            tell(warning);
        }
        let screen = Screen::of_stdout(config.colour);
        Ok(Desk { server: Server::new(config)?, screen, clock: SystemClock::new() })
    }

    /// Unix milliseconds of this machine, to say how long ago something was.
    fn now(&self) -> i64 {
        self.clock.now().wall
    }
}

/// Does what the command asks. Returns the exit code.
pub fn run(command: &PeopleCommand) -> u8 {
    match attempt(command) {
        Ok(code) => code,
        Err(Trouble { line, code }) => {
            tell(line);
            code
        }
    }
}

fn attempt(command: &PeopleCommand) -> Result<u8, Trouble> {
    match command {
        PeopleCommand::Submit(flags) => submit::submit(&Desk::open(flags.place())?, flags),
        PeopleCommand::Result(flags) => wait::result(&Desk::open(flags.place())?, flags),
        PeopleCommand::Log(flags) => wait::log(&Desk::open(flags.place())?, flags),
        PeopleCommand::Tasks(flags) => tasks::tasks(&Desk::open(flags.place())?, flags),
        PeopleCommand::Task(flags) => task::task(&Desk::open(flags.place())?, flags),
        PeopleCommand::Cancel(flags) => {
            change::change(&Desk::open(flags.place())?, change::CANCEL, &flags.choice())
        }
        PeopleCommand::Requeue(flags) => {
            change::change(&Desk::open(flags.place())?, change::REQUEUE, &flags.choice())
        }
        PeopleCommand::Workers(flags) => fleet::workers(&Desk::open(flags.place())?, flags),
        PeopleCommand::Drain(flags) => {
            fleet::set_draining(&Desk::open(flags.place())?, &flags.worker, "drain", flags.json)
        }
        PeopleCommand::Undrain(flags) => {
            fleet::set_draining(&Desk::open(flags.place())?, &flags.worker, "undrain", flags.json)
        }
        PeopleCommand::Stats(flags) => trail::stats(&Desk::open(flags.place())?, flags),
        PeopleCommand::Audit(flags) => trail::audit(&Desk::open(flags.place())?, flags),
        PeopleCommand::Retention(flags) => retention::retention(&Desk::open(flags.place())?, flags),
        PeopleCommand::Completions(flags) => {
            print(completions::script(&flags.shell).as_bytes())?;
            Ok(exit::OK)
        }
    }
}

/// One line for the person; a stderr that cannot be written stops nothing.
fn tell(line: impl Display) {
    let line = text::one_line(&line.to_string());
    let _ = writeln!(io::stderr(), "bloom-runtime: {line}");
}

/// What was asked for. A reader that is gone has read enough.
fn print(bytes: &[u8]) -> Result<(), Trouble> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Trouble::new(exit::NO_OUTPUT, format!("stdout cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// The server's own JSON, as it came. A terminal gets it without what would steer it.
fn print_json(json: &[u8]) -> Result<(), Trouble> {
    let mut bytes = match io::stdout().is_terminal() {
        true => text::lines(&String::from_utf8_lossy(json)).into_bytes(),
        false => json.to_vec(),
    };
    if bytes.last() != Some(&b'\n') {
        bytes.push(b'\n');
    }
    print(&bytes)
}
