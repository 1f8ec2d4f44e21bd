//! `bloom-runtime stats` and `audit`: the counts, and what was done.

use super::screen::status_paint;
use super::server::{field, number};
use super::table::{Column, cell, table};
use super::{Desk, Trouble, print, print_json, tell, text, times};
use crate::cli::people::{AuditFlags, StatsFlags};
use crate::exit;
use serde_json::Value;
use serde_json::value::RawValue;

const LIMIT: usize = 20;
/// Ids stand whole on a terminal; a worker's long name does not.
const ID_COLUMNS: usize = 36;

pub fn stats(desk: &Desk, flags: &StatsFlags) -> Result<u8, Trouble> {
    let answer = desk.server.get("/api/runtime/stats");
    let answer = answer.map_err(|error| desk.server.trouble(error))?;
    if flags.json {
        print_json(answer.body())?;
        return Ok(exit::OK);
    }
    let stats = desk.server.read(&answer)?;
    let by_status = stats["tasks"]["by_status"].as_object().into_iter().flatten();
    let by_status: Vec<_> = by_status
        .map(|(status, count)| {
            let status = text::one_line(status);
            format!("{} {count}", desk.screen.paint(status_paint(&status), &status))
        })
        .collect();
    let total = |name: &str| number(&stats[name], "total");
    let by_status = by_status.join(", ");
    let lines = [
        format!("{:<8} {:>8}  {by_status}", "tasks", total("tasks")),
        format!(
            "{:<8} {:>8}  active {}",
            "leases",
            total("leases"),
            number(&stats["leases"], "active")
        ),
        format!(
            "{:<8} {:>8}  online {}",
            "workers",
            total("workers"),
            number(&stats["workers"], "online")
        ),
    ];
    for line in lines {
        print(format!("{}\n", line.trim_end()).as_bytes())?;
    }
    Ok(exit::OK)
}

pub fn audit(desk: &Desk, flags: &AuditFlags) -> Result<u8, Trouble> {
    let limit = flags.limit.unwrap_or(LIMIT);
    let mut entries: Vec<Box<RawValue>> = Vec::new();
    let mut cursor = String::new();
    while entries.len() < limit {
        let page = (limit - entries.len()).min(1_000);
        let answer = desk.server.get(&format!("/api/runtime/audit?limit={page}{cursor}"));
        let answer = answer.map_err(|error| desk.server.trouble(error))?;
        let found: Vec<_> = answer.json().map_err(|error| desk.server.trouble(error))?;
        entries.extend(found);
        let Some(next) = answer.next_cursor else { break };
        cursor = format!("&cursor={next}");
    }
    if flags.json {
        let texts: Vec<_> = entries.iter().map(|entry| entry.get()).collect();
        print_json(format!("[{}]", texts.join(",")).as_bytes())?;
        return Ok(exit::OK);
    }
    let columns = [
        Column::Whole("AGE"),
        Column::Whole("ACTION"),
        Column::GivesWay("ACTOR"),
        Column::Whole("ENTITY"),
        Column::GivesWay("DETAIL"),
    ];
    let now = desk.now();
    let entity = |id: &str| match desk.screen.is_terminal {
        true => text::cut(&text::one_line(id), ID_COLUMNS),
        false => id.to_owned(),
    };
    let row = |entry: &RawValue| {
        let entry: Value = serde_json::from_str(entry.get()).unwrap_or_default();
        vec![
            cell(times::age(now, number(&entry, "timestamp"))),
            cell(field(&entry, "action")),
            cell(field(&entry, "actor")),
            cell(entity(field(&entry, "entity_id"))),
            cell(field(&entry, "detail")),
        ]
    };
    match entries.is_empty() {
        true => tell("nothing was done yet"),
        false => {
            let rows: Vec<_> = entries.iter().map(|entry| row(entry)).collect();
            print(table(&desk.screen, &columns, &rows).as_bytes())?;
        }
    }
    Ok(exit::OK)
}
