//! `bloom-runtime tasks`: the newest tasks that match, one a line.
//!
//! The server filters by one status; what else was asked for is picked out here, page by page. Must stay
//! true: `--json` gives each record in the server's own bytes.

use super::screen::status_paint;
use super::server::{TASKS, field, number};
use super::table::{Cell, Column, cell, painted, table};
use super::{Desk, Trouble, print, print_json, tell, times};
use crate::cli::people::TasksFlags;
use crate::exit;
use serde_json::Value;
use serde_json::value::RawValue;

const LIMIT: usize = 20;
/// Rows of a page where most may not match.
const PAGE: usize = 500;
/// Rows that are looked at for those that match.
const LOOKED_AT_MAX: usize = 50_000;

const COLUMNS: [Column; 6] = [
    Column::Whole("ID"),
    Column::Whole("STATUS"),
    Column::Whole("AGE"),
    Column::GivesWay("AGENT"),
    Column::GivesWay("WORKER"),
    Column::GivesWay("PROMPT"),
];

pub fn tasks(desk: &Desk, flags: &TasksFlags) -> Result<u8, Trouble> {
    let Found { rows, more, looked_at } = find(desk, flags)?;
    if flags.json {
        let texts: Vec<_> = rows.iter().map(|(text, _)| text.get()).collect();
        print_json(format!("[{}]", texts.join(",")).as_bytes())?;
        return Ok(exit::OK);
    }
    if rows.is_empty() {
        tell("no task matches");
    } else {
        let now = desk.now();
        let rows: Vec<_> = rows.iter().map(|(_, task)| row(task, now)).collect();
        print(table(&desk.screen, &COLUMNS, &rows).as_bytes())?;
    }
    match more {
        More::None => {}
        More::NotLooked => tell(format!("only the newest {looked_at} tasks were looked at")),
        More::Rows if desk.screen.is_terminal => tell("there are more: see --limit and --status"),
        More::Rows => {}
    }
    Ok(exit::OK)
}

/// Why the list ended.
enum More {
    None,
    Rows,
    NotLooked,
}

struct Found {
    rows: Vec<(Box<RawValue>, Value)>,
    more: More,
    looked_at: usize,
}

fn find(desk: &Desk, flags: &TasksFlags) -> Result<Found, Trouble> {
    let limit = flags.limit.unwrap_or(LIMIT);
    let picky = flags.status.len() > 1 || flags.agent.is_some() || flags.context.is_some();
    let mut path = format!("{TASKS}?limit={}", if picky { PAGE } else { limit.min(1_000) });
    if let [status] = &flags.status[..] {
        path.push_str(&format!("&status={status}"));
    }
    let mut found = Found { rows: Vec::new(), more: More::None, looked_at: 0 };
    let mut cursor = String::new();
    loop {
        let answer = desk.server.get(&format!("{path}{cursor}"));
        let answer = answer.map_err(|error| desk.server.trouble(error))?;
        let page: Vec<Box<RawValue>> = answer.json().map_err(|error| desk.server.trouble(error))?;
        found.looked_at += page.len();
        for text in page {
            let task: Value = serde_json::from_str(text.get()).unwrap_or_default();
            if !matches(&task, flags) {
                continue;
            }
            if found.rows.len() == limit {
                found.more = More::Rows;
                return Ok(found);
            }
            found.rows.push((text, task));
        }
        let Some(next) = answer.next_cursor else { return Ok(found) };
        if found.rows.len() == limit {
            found.more = More::Rows;
            return Ok(found);
        }
        if found.looked_at >= LOOKED_AT_MAX {
            found.more = More::NotLooked;
            return Ok(found);
        }
        cursor = format!("&cursor={next}");
    }
}

fn matches(task: &Value, flags: &TasksFlags) -> bool {
    let is = |name, wanted: &Option<String>| {
        wanted.as_ref().is_none_or(|wanted| field(task, name) == wanted)
    };
    let status = flags.status.is_empty() || flags.status.iter().any(|s| s == field(task, "status"));
    status && is("agent_slug", &flags.agent) && is("context_id", &flags.context)
}

fn row(task: &Value, now: i64) -> Vec<Cell> {
    let status = field(task, "status");
    vec![
        cell(field(task, "id")),
        painted(status_paint(status), status),
        cell(times::age(now, number(task, "created_at"))),
        cell(beginning(field(task, "agent_slug"))),
        cell(field(task, "worker_id")),
        cell(beginning(field(task, "prompt"))),
    ]
}

/// A list shows what a text is about, not a megabyte of it.
fn beginning(text: &str) -> String {
    const CHARS: usize = 200;
    let mut start: String = text.trim_start().chars().take(CHARS).collect();
    if start.len() < text.trim().len() {
        start.push('…');
    }
    start
}
