//! `bloom-runtime submit`: from a prompt to a task, and with `--wait` to its result.
//!
//! Must stay true: a create whose answer was lost is sent again under its `Idempotency-Key`, so that it
//! works once. Without `--context` a task has one of its own: it shares no worker's memory with others.

use super::server::{TASKS, field};
use super::{Desk, Trouble, print, print_json, times, wait};
use crate::cli::people::SubmitFlags;
use crate::client::CallError;
use crate::exit;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, IsTerminal, Read};

/// The server takes bodies of 16 MiB.
const BODY_LIMIT_BYTES: u64 = 16 * 1024 * 1024;
const AGENT: &str = "default";

pub fn submit(desk: &Desk, flags: &SubmitFlags) -> Result<u8, Trouble> {
    let unique = format!("{:016x}{:016x}", random()?, random()?);
    let body = body(desk, flags, &unique)?;
    // The server answers a larger one while it is still being sent, which minreq takes for a lost
    // connection.
    if body.to_string().len() as u64 > BODY_LIMIT_BYTES {
        let line = "the prompt is too large: with what goes along it is more than 16 MiB";
        return Err(Trouble::new(exit::NO_INPUT, line));
    }
    let created = match desk.server.post_once(TASKS, &body, &unique) {
        Err(CallError::Unreachable(_)) => desk.server.post_once(TASKS, &body, &unique),
        other => other,
    };
    let answer = created.map_err(|error| desk.server.trouble(error))?;
    let task = desk.server.read(&answer)?;
    let id = field(&task, "id");
    if flags.wait || flags.follow {
        return wait::wait_and_tell(desk, &task, flags.follow, flags.json);
    }
    match flags.json {
        true => print_json(answer.body())?,
        false => print(format!("{id}\n").as_bytes())?,
    }
    Ok(exit::OK)
}

fn body(desk: &Desk, flags: &SubmitFlags, unique: &str) -> Result<Value, Trouble> {
    let context = flags.context.clone().unwrap_or_else(|| format!("cli-{}", &unique[..12]));
    let mut body = json!({
        "prompt": prompt(flags)?,
        "agent_slug": flags.agent.as_deref().unwrap_or(AGENT),
        "context_id": context,
        "labels": flags.label,
        "policy": {},
    });
    if let Some(priority) = flags.priority {
        body["priority"] = priority.into();
    }
    if let Some(seconds) = flags.timeout {
        body["policy"]["timeout_sec"] = seconds.into();
    }
    if let Some(dollars) = flags.budget {
        body["policy"]["budget"] = dollars.into();
    }
    if flags.retry {
        body["policy"]["retry"] = json!({"on_error": true});
    }
    if flags.json_answer {
        body["desired_format"] = "json".into();
    }
    if let Some(when) = &flags.not_before {
        let at = times::moment(when, desk.now())
            .map_err(|fault| Trouble::new(exit::USAGE, format!("--not-before {when}: {fault}")))?;
        body["not_before"] = at.into();
    }
    Ok(body)
}

/// From the one place that was named; without any, from a stdin that is no terminal.
fn prompt(flags: &SubmitFlags) -> Result<String, Trouble> {
    let usage = |fault: &str| {
        let line = format!("{fault}. See bloom-runtime submit --help");
        Err(Trouble::new(exit::USAGE, line))
    };
    let prompt = match (&flags.prompt, flags.file.as_deref(), flags.stdin) {
        (Some(prompt), None, false) => prompt.clone(),
        (None, Some("-"), false) | (None, None, true) => read("stdin", io::stdin())?,
        (None, Some(path), false) => {
            let file = File::open(path).map_err(|error| no_input(path, &error))?;
            read(path, file)?
        }
        (None, None, false) if !io::stdin().is_terminal() => read("stdin", io::stdin())?,
        (None, None, false) => return usage("What is the task? Write it behind submit in quotes"),
        _ => return usage("Give the prompt once: as an argument, with --file or on stdin"),
    };
    if prompt.trim().is_empty() {
        return usage("The prompt is empty");
    }
    Ok(prompt)
}

fn read(name: &str, source: impl Read) -> Result<String, Trouble> {
    let mut bytes = Vec::new();
    source
        .take(BODY_LIMIT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| no_input(name, &error))?;
    if bytes.len() as u64 > BODY_LIMIT_BYTES {
        return Err(no_input(name, &"it is larger than the 16 MiB that a prompt may have"));
    }
    String::from_utf8(bytes).map_err(|_| no_input(name, &"it is not UTF-8 text"))
}

fn no_input(name: &str, fault: &dyn std::fmt::Display) -> Trouble {
    Trouble::new(exit::NO_INPUT, format!("the prompt cannot be read from {name}: {fault}"))
}

fn random() -> Result<u64, Trouble> {
    getrandom::u64().map_err(|error| {
        Trouble::new(exit::INTERNAL, format!("the system gives no random numbers: {error}"))
    })
}
