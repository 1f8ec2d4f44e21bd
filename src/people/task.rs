//! `bloom-runtime task`: everything about one task on one page.
//!
//! Must stay true: an answer that this server does not give (an older one) or that the task does not
//! have only leaves its part out.

use super::screen::{Paint, status_paint};
use super::server::{field, number, task_path};
use super::table::{Column, cell, painted, table};
use super::{Desk, Trouble, print, print_json, tell, text, times};
use crate::cli::people::TaskFlags;
use crate::client::{Answer, CallError};
use crate::exit;
use serde_json::Value;

/// What of a long text a terminal is shown.
const SHOWN_LINES: usize = 20;
const SHOWN_CHARS: usize = 2_000;

pub fn task(desk: &Desk, flags: &TaskFlags) -> Result<u8, Trouble> {
    let id = &flags.id;
    let ask = |rest: &str| desk.server.get(&task_path(id, rest));
    let task_answer = ask("").map_err(|error| desk.server.trouble(error))?;
    let task = desk.server.read(&task_answer)?;
    let is_queued = field(&task, "status") == "queued";
    let waiting = is_queued.then(|| ask("/waiting")).map_or(Ok(None), |got| if_there(desk, got))?;
    let attempts = if_there(desk, ask("/attempts"))?;
    let result = match ask("/result") {
        // All else of the task is there.
        Err(CallError::Refused { code, text: why, .. }) if code == "artifact_unavailable" => {
            tell(why);
            None
        }
        got => if_there(desk, got)?,
    };
    if flags.json {
        let parts = [("waiting", &waiting), ("attempt_list", &attempts), ("result", &result)];
        return print_json(&joined(task_answer.body(), &parts)).map(|()| exit::OK);
    }
    let read = |answer: Option<Answer>| answer.map_or(Ok(Value::Null), |a| desk.server.read(&a));
    let mut page = head(desk, &task);
    page.push_str(&waits(desk, &read(waiting)?));
    page.push_str(&attempts_table(desk, &read(attempts)?));
    page.push_str(&long_text(desk, "Prompt", field(&task, "prompt"), "--json shows all of it"));
    page.push_str(&outcome(desk, id, &read(result)?));
    print(page.as_bytes())?;
    Ok(exit::OK)
}

/// Nothing for a 404.
fn if_there(desk: &Desk, got: Result<Answer, CallError>) -> Result<Option<Answer>, Trouble> {
    match got {
        Ok(answer) => Ok(Some(answer)),
        Err(CallError::Refused { status: 404, .. }) => Ok(None),
        Err(error) => Err(desk.server.trouble(error)),
    }
}

/// The task's own object with the parts as further fields, each in the server's bytes.
fn joined(task: &[u8], parts: &[(&str, &Option<Answer>)]) -> Vec<u8> {
    let mut json = task.trim_ascii_end().strip_suffix(b"}").unwrap_or(task).to_vec();
    for (name, answer) in parts {
        let body = answer.as_ref().map_or(&b"null"[..], |answer| answer.body().trim_ascii());
        json.extend_from_slice(format!(",\"{name}\":").as_bytes());
        json.extend_from_slice(body);
    }
    json.push(b'}');
    json
}

/// One fact a line, its name before it.
pub fn facts(desk: &Desk, facts: &[(&str, String)]) -> String {
    let known = facts.iter().filter(|(_, value)| !value.is_empty());
    let line = |(name, value): &(&str, String)| {
        let room = desk.screen.columns.map_or(usize::MAX, |columns| columns.saturating_sub(13));
        let name = desk.screen.paint(Paint::Faint, &format!("{name:<12}"));
        format!("{name} {}\n", text::cut(&text::one_line(value), room))
    };
    known.map(line).collect()
}

/// A moment and how long ago it was.
pub fn ago(now: i64, at: i64) -> String {
    match at {
        0 => String::new(),
        at if at > now => format!("{} (in {})", times::stamp(at), times::age(at, now)),
        at => format!("{} ({} ago)", times::stamp(at), times::age(now, at)),
    }
}

fn head(desk: &Desk, task: &Value) -> String {
    let now = desk.now();
    let status = field(task, "status");
    let worker = match (field(task, "worker_id"), status) {
        ("", _) => String::new(),
        (worker, "leased" | "running") => format!(" on {worker}"),
        (worker, _) => format!(", last on {worker}"),
    };
    let tries = format!("attempt {} of {}", number(task, "attempts"), number(task, "max_attempts"));
    let state = text::one_line(&format!("{status}{worker}, {tries}"));
    let labels: Vec<_> =
        task["labels"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let policy = &task["policy"];
    let mut limits = vec![format!("{} s an attempt", number(policy, "timeout_sec"))];
    limits.extend(policy["budget"].as_f64().filter(|usd| *usd > 0.0).map(|usd| format!("${usd}")));
    if policy["retry"]["on_error"] == true {
        limits.push("errors are tried again".to_owned());
    }
    let title = facts(desk, &[("Task", field(task, "id").to_owned())]);
    let paint = status_paint(status);
    let name = desk.screen.paint(Paint::Faint, &format!("{:<12}", "Status"));
    let room = desk.screen.columns.map_or(usize::MAX, |columns| columns.saturating_sub(13));
    let state = desk.screen.paint(paint, &text::cut(&state, room));
    let rest = [
        ("Agent", field(task, "agent_slug").to_owned()),
        ("Context", field(task, "context_id").to_owned()),
        ("Created", ago(now, number(task, "created_at"))),
        ("Updated", ago(now, number(task, "updated_at"))),
        ("Not before", ago(now, number(task, "not_before"))),
        ("Next try", ago(now, number(task, "retry_at"))),
        ("Last fault", field(task, "last_code").to_owned()),
        ("Priority", number(task, "priority").to_string()),
        ("Labels", labels.join(", ")),
        ("Limits", limits.join(", ")),
        ("Answer", field(task, "desired_format").to_owned()),
    ];
    format!("{title}{name} {state}\n{}", facts(desk, &rest))
}

fn waits(desk: &Desk, waiting: &Value) -> String {
    let now = desk.now();
    let until = |reason: &Value| match number(reason, "until") {
        at if at > now => format!(" (in {})", times::age(at, now)),
        _ => String::new(),
    };
    let told = |reason: &Value| format!("{}{}", field(reason, "text"), until(reason));
    let reasons = waiting["reasons"].as_array().into_iter().flatten();
    let reasons = reasons.map(|reason| ("Waits for", told(reason)));
    let workers = waiting["workers"].as_array().into_iter().flatten();
    let workers =
        workers.map(|worker| ("", format!("{}: {}", field(worker, "worker_id"), told(worker))));
    facts(desk, &reasons.chain(workers).collect::<Vec<_>>())
}

fn attempts_table(desk: &Desk, attempts: &Value) -> String {
    let Some(attempts) = attempts.as_array().filter(|attempts| !attempts.is_empty()) else {
        return String::new();
    };
    let columns = [
        Column::Whole("TRY"),
        Column::GivesWay("WORKER"),
        Column::Whole("STARTED"),
        Column::Whole("TOOK"),
        Column::Whole("OUTCOME"),
        Column::GivesWay("WHY"),
    ];
    let now = desk.now();
    let rows: Vec<_> = attempts
        .iter()
        .map(|attempt| {
            let (started, ended) = (number(attempt, "started_at"), number(attempt, "ended_at"));
            let outcome = attempt["outcome"].as_str().unwrap_or("running");
            let why = [field(attempt, "code"), field(attempt, "error_message")];
            let why: Vec<_> = why.into_iter().filter(|part| !part.is_empty()).collect();
            let took = if ended > 0 { ended } else { now } - started;
            vec![
                cell(number(attempt, "attempt").to_string()),
                cell(field(attempt, "worker_id")),
                cell(format!("{} ago", times::age(now, started))),
                cell(times::duration(took.try_into().unwrap_or_default())),
                painted(status_paint(outcome), outcome),
                cell(why.join(": ")),
            ]
        })
        .collect();
    format!("\n{}", table(&desk.screen, &columns, &rows))
}

fn outcome(desk: &Desk, id: &str, result: &Value) -> String {
    if result.is_null() {
        return String::new();
    }
    let metrics = &result["metrics"];
    let count = |name: &str, unit: &str| match number(metrics, name) {
        0 => String::new(),
        n => format!("{n} {unit}"),
    };
    let cost = metrics["cost_usd"].as_f64().map_or(String::new(), |usd| format!("${usd:.4}"));
    let took = times::duration(metrics["duration_ms"].as_u64().unwrap_or_default());
    let model = field(metrics, "model").to_owned();
    let tokens = count("tokens_used", "tokens");
    let figures = [took, model, tokens, count("turns", "turns"), cost];
    let figures: Vec<_> = figures.into_iter().filter(|figure| !figure.is_empty()).collect();
    let why = [field(result, "code"), field(result, "error_message")];
    let why: Vec<_> = why.into_iter().filter(|part| !part.is_empty()).collect();
    let known = [
        ("Result", field(result, "status").to_owned()),
        ("Error", why.join(": ")),
        ("Ended", ago(desk.now(), number(result, "completed_at"))),
        ("By", field(result, "worker_id").to_owned()),
        ("Figures", figures.join(", ")),
    ];
    let all = format!("all of it: bloom-runtime result {id}");
    format!("\n{}{}", facts(desk, &known), long_text(desk, "Output", field(result, "output"), &all))
}

/// A text under its title; a terminal is shown the beginning of a long one.
fn long_text(desk: &Desk, title: &str, whole: &str, all: &str) -> String {
    if whole.is_empty() {
        return String::new();
    }
    let mut shown = whole;
    if desk.screen.is_terminal {
        let end = whole.char_indices().nth(SHOWN_CHARS).map_or(whole.len(), |(at, _)| at);
        shown = &whole[..end];
        let end = shown.match_indices('\n').nth(SHOWN_LINES - 1).map_or(end, |(at, _)| at);
        shown = &whole[..end];
    }
    let rest = whole[shown.len()..].trim().chars().count();
    let more = match rest {
        0 => String::new(),
        n => desk.screen.paint(Paint::Faint, &format!("… {n} more characters; {all}\n")),
    };
    let title = desk.screen.paint(Paint::Head, title);
    format!("\n{title}\n{}\n{more}", text::lines(shown).trim_end_matches('\n'))
}
