//! `bloom-runtime tasks`: the newest tasks that match, one a line.
//!
//! The server filters, by one status; of several they are picked out here, page by page. Must stay true: `--json` gives each record in the server's own bytes.

use super::screen::status_paint;
use super::server::{TASKS, field, number};
use super::table::{Cell, Column, cell, painted, table};
use super::{Desk, Trouble, print, print_json, tell, times};
use crate::cli::people::TasksFlags;
use crate::client::segment;
use crate::exit;
use serde_json::Value;
use serde_json::value::RawValue;

const LIMIT: usize = 20;
/// Pages that are asked for: a page of those that match may be empty and still have a next one.
const PAGES_MAX: usize = 500;

const COLUMNS: [Column; 6] = [
    Column::Whole("ID"),
    Column::Whole("STATUS"),
    Column::Whole("AGE"),
    Column::GivesWay("AGENT"),
    Column::GivesWay("WORKER"),
    Column::GivesWay("PROMPT"),
];

pub fn tasks(desk: &Desk, flags: &TasksFlags) -> Result<u8, Trouble> {
    let Found { rows, more } = find(desk, flags)?;
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
        More::NotLooked => tell("only the newest part of the tasks was looked at"),
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
}

fn find(desk: &Desk, flags: &TasksFlags) -> Result<Found, Trouble> {
    let limit = flags.limit.unwrap_or(LIMIT);
    let path = first_page(flags, limit);
    let mut found = Found { rows: Vec::new(), more: More::None };
    let mut cursor = String::new();
    for _ in 0..PAGES_MAX {
        let answer = desk.server.get(&format!("{path}{cursor}"));
        let answer = answer.map_err(|error| desk.server.trouble(error))?;
        let page: Vec<Box<RawValue>> = answer.json().map_err(|error| desk.server.trouble(error))?;
        for text in page {
            let task: Value = serde_json::from_str(text.get()).unwrap_or_default();
            let wanted = &flags.status;
            if !wanted.is_empty() && !wanted.iter().any(|status| status == field(&task, "status")) {
                continue;
            }
            if found.rows.len() == limit {
                found.more = More::Rows;
                return Ok(found);
            }
            found.rows.push((text, task));
        }
        match answer.next_cursor {
            None => return Ok(found),
            Some(_) if found.rows.len() == limit => {
                found.more = More::Rows;
                return Ok(found);
            }
            Some(next) => cursor = format!("&cursor={next}"),
        }
    }
    found.more = More::NotLooked;
    Ok(found)
}

fn first_page(flags: &TasksFlags, limit: usize) -> String {
    let mut path = format!("{TASKS}?limit={}", limit.min(1_000));
    let status = if let [status] = &flags.status[..] { Some(status) } else { None };
    let filters = [
        ("status", status),
        ("agent_slug", flags.agent.as_ref()),
        ("context_id", flags.context.as_ref()),
        ("worker_id", flags.worker.as_ref()),
        ("q", flags.text.as_ref()),
    ];
    for (name, value) in filters {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", segment(value)));
        }
    }
    path
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
