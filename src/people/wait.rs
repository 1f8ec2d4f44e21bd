//! Waiting for a task's end, with or without its log, and telling its outcome.
//!
//! The log's stream of events is what is waited on: it ends with the task. Whatever ends it earlier (a
//! restart, a proxy, its time), the task itself is asked and the stream opened again where it was; where
//! there is no such stream, the task is asked every two seconds. Must stay true: the end is believed
//! from the task alone; a server that is away is waited for, and said once. Not here: what else can be
//! told of a task (`task`).

use super::interrupt::say_on_interrupt;
use super::server::{field, is_missing, number, task_path};
use super::{Desk, Trouble, print, print_json, tell, text};
use crate::cli::people::{LogFlags, ResultFlags};
use crate::client::{Answer, CallError};
use crate::exit;
use serde_json::Value;
use std::io::{self, Write};
use std::time::Duration;

/// How long one stream is listened to. The first is short: who waits longer than that wants to
/// know why.
const FIRST_STREAM: Duration = Duration::from_secs(5);
const STREAM: Duration = Duration::from_secs(60);
/// Between two questions where no stream tells of the end.
const POLL: Duration = Duration::from_secs(2);
/// Such questions before the person is told why it takes longer.
const POLLS_IN_SILENCE: u32 = 3;
/// Before a stream that ended early is opened again.
const AGAIN: Duration = Duration::from_millis(500);
/// The longest pause before a server that is away is tried again.
const AWAY_MAX: Duration = Duration::from_secs(4);

/// Workers of whom the person is told why they do not take the task.
const WORKERS_TOLD: usize = 3;

/// What becomes of the lines of the log.
type ShowLine<'a> = &'a mut dyn FnMut(&str) -> Result<(), Trouble>;

/// `bloom-runtime result`.
pub fn result(desk: &Desk, flags: &ResultFlags) -> Result<u8, Trouble> {
    let task = look(desk, &flags.id)?;
    if is_finished(&task) {
        return tell_outcome(desk, &task, flags.json);
    }
    if !flags.wait && !flags.follow {
        let status = field(&task, "status");
        let line = format!("task {} is {status}; --wait waits for its end", flags.id);
        return Err(Trouble::new(exit::TRY_LATER, line));
    }
    wait_and_tell(desk, &task, flags.follow, flags.json)
}

/// Waits for the end of a task that the server has just shown, then tells its outcome.
pub fn wait_and_tell(desk: &Desk, task: &Value, follow: bool, json: bool) -> Result<u8, Trouble> {
    let id = field(task, "id");
    say_on_interrupt(format!(
        "task {id} goes on; come back with: bloom-runtime result {id} --wait"
    ));
    tell(format!("task {id} is {}", field(task, "status")));
    let mut on_stderr = |line: &str| {
        let _ = writeln!(io::stderr(), "{line}");
        Ok(())
    };
    let mut silent = |_: &str| Ok(());
    let show: ShowLine = if follow { &mut on_stderr } else { &mut silent };
    let task = Waiting::new(desk, id).until_end(show)?;
    tell_outcome(desk, &task, json)
}

/// `bloom-runtime log`.
pub fn log(desk: &Desk, flags: &LogFlags) -> Result<u8, Trouble> {
    let id = &flags.id;
    if !flags.follow {
        return log_so_far(desk, flags);
    }
    look(desk, id)?;
    say_on_interrupt(format!("task {id} goes on; come back with: bloom-runtime log {id} --follow"));
    let mut on_stdout = |line: &str| print(format!("{line}\n").as_bytes());
    let task = Waiting::new(desk, id).until_end(&mut on_stdout)?;
    tell(format!("task {id} is {}", field(&task, "status")));
    Ok(code_of(field(&task, "status")))
}

fn log_so_far(desk: &Desk, flags: &LogFlags) -> Result<u8, Trouble> {
    let answer = desk.server.get(&task_path(&flags.id, "/log"));
    let answer = answer.map_err(|error| desk.server.trouble(error))?;
    if flags.json {
        print_json(answer.body())?;
        return Ok(exit::OK);
    }
    let log = desk.server.read(&answer)?;
    if log["lost"] == true {
        tell("earlier lines are not remembered any more");
    }
    let mut lines = Lines::default();
    for line in log["lines"].as_array().into_iter().flatten() {
        lines.show(line, &mut |line| print(format!("{line}\n").as_bytes()))?;
    }
    Ok(exit::OK)
}

/// The task as it is now; who cannot be reached at the first call is not waited for.
fn look(desk: &Desk, id: &str) -> Result<Value, Trouble> {
    let answer = desk.server.get(&task_path(id, ""));
    desk.server.read(&answer.map_err(|error| desk.server.trouble(error))?)
}

fn is_finished(task: &Value) -> bool {
    ["completed", "failed", "dead", "cancelled"].contains(&field(task, "status"))
}

fn code_of(status: &str) -> u8 {
    match status {
        "failed" => exit::TASK_FAILED,
        "dead" => exit::TASK_DEAD,
        "cancelled" => exit::TASK_CANCELLED,
        _ => exit::OK,
    }
}

/// The result on stdout, why there is none on stderr. Returns the exit code.
fn tell_outcome(desk: &Desk, task: &Value, json: bool) -> Result<u8, Trouble> {
    let (id, status) = (field(task, "id"), field(task, "status"));
    if status == "completed" || status == "failed" {
        let answer = Waiting::new(desk, id).ask(&task_path(id, "/result"))?;
        let result = desk.server.read(&answer)?;
        match json {
            true => print_json(answer.body())?,
            false => print_output(desk, field(&result, "output"))?,
        }
        if status == "failed" {
            let code = Some(field(&result, "code")).filter(|code| !code.is_empty());
            let code = code.map_or(String::new(), |code| format!(" ({code})"));
            let (worker, why) = (field(&result, "worker_id"), field(&result, "error_message"));
            tell(format!("task {id} failed on {worker}{code}: {why}"));
        }
        return Ok(code_of(status));
    }
    let why = match status {
        "dead" => "is dead: its attempts are used up; put it back with",
        _ => "was cancelled; put it back with",
    };
    tell(format!("task {id} {why}: bloom-runtime requeue {id}"));
    Ok(code_of(status))
}

/// A pipe gets the output as it is, with a line end behind it.
fn print_output(desk: &Desk, output: &str) -> Result<(), Trouble> {
    let shown = match desk.screen.is_terminal {
        true => text::lines(output),
        false => output.to_owned(),
    };
    match shown.as_str() {
        "" => Ok(()),
        shown if shown.ends_with('\n') => print(shown.as_bytes()),
        shown => print(format!("{shown}\n").as_bytes()),
    }
}

/// Where the reader of a log is.
#[derive(Default)]
struct Lines {
    after: i64,
    attempt: i64,
}

impl Lines {
    fn show(&mut self, line: &Value, show: ShowLine) -> Result<(), Trouble> {
        self.after = number(line, "n");
        let attempt = number(line, "attempt");
        if attempt != self.attempt && self.attempt != 0 {
            show(&format!("-- attempt {attempt}"))?;
        }
        self.attempt = attempt;
        show(&text::one_line(field(line, "text")))
    }
}

/// One task that is waited for.
struct Waiting<'a> {
    desk: &'a Desk,
    id: &'a str,
    lines: Lines,
    /// Tries since the server was last heard of.
    away: u32,
    has_stream: bool,
}

impl<'a> Waiting<'a> {
    fn new(desk: &'a Desk, id: &'a str) -> Self {
        Waiting { desk, id, lines: Lines::default(), away: 0, has_stream: true }
    }

    fn until_end(&mut self, show: ShowLine) -> Result<Value, Trouble> {
        let mut turns = 0;
        loop {
            let time = if turns == 0 { FIRST_STREAM } else { STREAM };
            let listened = self.listen(time, show)?;
            let task = self.desk.server.read(&self.ask(&task_path(self.id, ""))?)?;
            if is_finished(&task) {
                return Ok(task);
            }
            if turns == if listened { 0 } else { POLLS_IN_SILENCE } {
                self.say_why(&task);
            }
            turns += 1;
            pause(if listened { AGAIN } else { POLL });
        }
    }

    /// Listens until the stream ends, for whatever reason. Whether there was one.
    fn listen(&mut self, time: Duration, show: ShowLine) -> Result<bool, Trouble> {
        if !self.has_stream {
            return Ok(false);
        }
        let path = task_path(self.id, &format!("/log?follow=1&after={}", self.lines.after));
        let events = match self.desk.server.stream(&path, time) {
            Ok(events) => events,
            Err(error) => {
                // Every other trouble is the task's as well.
                self.has_stream = !is_missing(&error, "not_found");
                return Ok(false);
            }
        };
        for event in events {
            match event.name.as_str() {
                "end" => break,
                "lost" => show("-- earlier lines are not remembered any more")?,
                "" => {
                    let line: Value = serde_json::from_str(&event.data).unwrap_or_default();
                    self.lines.show(&line, show)?;
                }
                _ => {}
            }
        }
        Ok(true)
    }

    /// Asks for `path` until the server answers.
    fn ask(&mut self, path: &str) -> Result<Answer, Trouble> {
        let server = &self.desk.server;
        loop {
            match server.get(path) {
                Ok(answer) => {
                    if std::mem::take(&mut self.away) > 0 {
                        tell(format!("{} is back", server.address()));
                    }
                    return Ok(answer);
                }
                Err(error) if passes(&error) => {
                    if self.away == 0 {
                        tell(format!("{}; waiting until it is back", server.trouble(error).line));
                    }
                    pause((AGAIN * 2u32.pow(self.away.min(8))).min(AWAY_MAX));
                    self.away += 1;
                }
                Err(error) => return Err(server.trouble(error)),
            }
        }
    }

    /// Once, for who waits longer than a moment.
    fn say_why(&self, task: &Value) {
        let id = self.id;
        match field(task, "status") {
            "queued" => {
                let waiting = self.desk.server.get(&task_path(id, "/waiting")).ok();
                let waiting: Value =
                    waiting.and_then(|answer| answer.json().ok()).unwrap_or_default();
                let told = |list: &str| waiting[list].as_array().cloned().unwrap_or_default();
                let reasons =
                    told("reasons").into_iter().map(|reason| field(&reason, "text").to_owned());
                let workers = told("workers").into_iter().take(WORKERS_TOLD).map(|worker| {
                    format!("{}: {}", field(&worker, "worker_id"), field(&worker, "text"))
                });
                let reasons: Vec<_> = reasons.chain(workers).collect();
                tell(format!("task {id} is still queued. {}", reasons.join("; ")));
            }
            status => tell(format!("task {id} is {status} on {}", field(task, "worker_id"))),
        }
    }
}

/// A trouble of the moment: the server is away, or says that it is busy.
fn passes(error: &CallError) -> bool {
    match error {
        CallError::Unreachable(_) => true,
        CallError::Refused { status, .. } => *status == 429 || *status >= 500,
        CallError::Unreadable(_) => false,
    }
}

/// Nobody wakes this thread, so it waits its time.
fn pause(time: Duration) {
    std::thread::park_timeout(time);
}
