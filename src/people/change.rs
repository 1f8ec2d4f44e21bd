//! `bloom-runtime cancel` and `requeue`: by id, or all that match.
//!
//! Must stay true: what matches is counted by the server before anything is changed, and a person or
//! `--yes` has agreed to the number. Each id is a call of its own, so that each refusal names its task.

use super::server::{TASKS, number, task_path};
use super::{Desk, Trouble, print, print_json, tell};
use crate::cli::people::Choice;
use crate::exit;
use serde_json::{Value, json};
use std::io::{self, BufRead, IsTerminal, Write};

/// The same twice, in other words.
#[derive(Clone, Copy)]
pub struct Verb {
    path: &'static str,
    question: &'static str,
    done: &'static str,
}

pub const CANCEL: Verb = Verb { path: "cancel", question: "Cancel", done: "cancelled" };
pub const REQUEUE: Verb = Verb { path: "requeue", question: "Put back", done: "back in the queue" };

pub fn change(desk: &Desk, verb: Verb, choice: &Choice) -> Result<u8, Trouble> {
    let filters = filters(choice);
    match (choice.ids.is_empty(), filters.as_object().is_none_or(|all| all.is_empty())) {
        (false, true) if choice.dry_run => {
            all_that_match(desk, verb, choice, json!({"ids": choice.ids}))
        }
        (false, true) => each(desk, verb, choice),
        (true, false) => all_that_match(desk, verb, choice, filters),
        (none, _) => {
            let fault = match none {
                true => {
                    "Which tasks? Name them by id, or by --status, --agent, --context or --worker"
                }
                false => "Name tasks by their ids or by what they have in common, not both",
            };
            let path = verb.path;
            Err(Trouble::new(exit::USAGE, format!("{fault}. See bloom-runtime {path} --help")))
        }
    }
}

/// Goes on after a refusal; the first one decides the exit code.
fn each(desk: &Desk, verb: Verb, choice: &Choice) -> Result<u8, Trouble> {
    let mut code = exit::OK;
    for id in choice.ids {
        match desk.server.post(&task_path(id, &format!("/{}", verb.path)), &json!({})) {
            Ok(answer) if choice.json => print_json(answer.body())?,
            Ok(_) => tell_done(&format!("task {id} is {}", verb.done))?,
            Err(error) => {
                let trouble = desk.server.trouble(error);
                tell(format!("task {id}: {}", trouble.line));
                code = if code == exit::OK { trouble.code } else { code };
            }
        }
    }
    Ok(code)
}

fn all_that_match(
    desk: &Desk,
    verb: Verb,
    choice: &Choice,
    mut filters: Value,
) -> Result<u8, Trouble> {
    let path = format!("{TASKS}/{}", verb.path);
    let mut send = |dry_run: bool| {
        filters["dry_run"] = dry_run.into();
        desk.server.post(&path, &filters).map_err(|error| desk.server.trouble(error))
    };
    let counted = send(true)?;
    let matched = number(&desk.server.read(&counted)?, "matched");
    if choice.dry_run {
        match choice.json {
            true => print_json(counted.body())?,
            false => tell_done(&format!("{} would be {}", tasks(matched), verb.done))?,
        }
        return Ok(exit::OK);
    }
    if matched > 0 && !choice.yes && !agreed(verb, matched)? {
        tell("nothing was changed");
        return Ok(exit::OK);
    }
    let mut changed = 0;
    loop {
        let answer = send(false)?;
        let step = desk.server.read(&answer)?;
        changed += number(&step, "changed");
        if choice.json {
            print_json(answer.body())?;
        }
        // A call ends after 100,000 changes.
        if step["more"] != true {
            break;
        }
    }
    if !choice.json {
        tell_done(&format!("{} {} {}", tasks(changed), is_or_are(changed), verb.done))?;
    }
    Ok(exit::OK)
}

fn filters(choice: &Choice) -> Value {
    let mut filters = json!({});
    if !choice.status.is_empty() {
        filters["status"] = json!(choice.status);
    }
    let names = [
        ("agent_slug", choice.agent),
        ("context_id", choice.context),
        ("worker_id", choice.worker),
    ];
    for (name, value) in names {
        if let Some(value) = value {
            filters[name] = value.into();
        }
    }
    filters
}

/// Asks the person at the terminal; where nobody sits, `--yes` must have said it.
fn agreed(verb: Verb, matched: i64) -> Result<bool, Trouble> {
    let tasks = tasks(matched);
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let line = format!("{tasks} would be {}; say --yes to do it, or --dry-run", verb.done);
        return Err(Trouble::new(exit::USAGE, line));
    }
    let _ = write!(io::stderr(), "{} {tasks}? [y/N] ", verb.question);
    let mut answer = String::new();
    // An answer that cannot be read is none.
    let _ = io::stdin().lock().read_line(&mut answer);
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

fn tasks(count: i64) -> String {
    match count {
        0 => "no task".to_owned(),
        1 => "1 task".to_owned(),
        n => format!("{n} tasks"),
    }
}

fn is_or_are(count: i64) -> &'static str {
    if count > 1 { "are" } else { "is" }
}

fn tell_done(line: &str) -> Result<(), Trouble> {
    print(format!("{}\n", super::text::one_line(line)).as_bytes())
}
