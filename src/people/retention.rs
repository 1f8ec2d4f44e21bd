//! `bloom-runtime retention`: what would be removed now, and when the next will be.

use super::screen::status_paint;
use super::table::{Column, cell, painted, table};
use super::{Desk, Trouble, print, print_json, text, times};
use crate::cli::people::RetentionFlags;
use crate::exit;
use serde_json::Value;

pub fn retention(desk: &Desk, flags: &RetentionFlags) -> Result<u8, Trouble> {
    let answer = desk.server.get("/api/runtime/retention");
    let answer = answer.map_err(|error| desk.server.trouble(error))?;
    if flags.json {
        print_json(answer.body())?;
        return Ok(exit::OK);
    }
    let outlook = desk.server.read(&answer)?;
    print(page(desk, &outlook).as_bytes())?;
    Ok(exit::OK)
}

fn page(desk: &Desk, outlook: &Value) -> String {
    let columns = [
        Column::Whole("WHAT"),
        Column::Whole("KEPT"),
        Column::Whole("DUE NOW"),
        Column::Whole("OLDEST"),
    ];
    let more = outlook["more"] == true;
    let row = |what: &str, days: &Value, due: &Value, oldest_at: &Value| {
        let kept = days.as_u64().map_or("for ever".to_owned(), |days| format!("{days} days"));
        let due = due.as_u64().unwrap_or_default();
        let due = if more && due > 0 { format!("{due} or more") } else { due.to_string() };
        let oldest = oldest_at.as_i64();
        let oldest = oldest.map_or("-".to_owned(), |at| times::age(desk.now(), at));
        vec![painted(status_paint(what), text::one_line(what)), cell(kept), cell(due), cell(oldest)]
    };
    let statuses = outlook["due"].as_object().into_iter().flatten();
    let mut rows: Vec<_> = statuses
        .map(|(status, due)| {
            row(status, &outlook["days"][status], due, &outlook["oldest_at"][status])
        })
        .collect();
    let audit = &outlook["audit"];
    rows.push(row("audit trail", &audit["days"], &audit["due"], &audit["oldest_at"]));
    format!("{}\n{}\n", table(&desk.screen, &columns, &rows), next(outlook))
}

/// In words, with what is special about the time that counts.
fn next(outlook: &Value) -> String {
    match outlook["next_due_ms"].as_u64() {
        None if outlook["days"].is_null() && outlook["audit"]["days"].is_null() => {
            "nothing is removed: neither RETENTION_DAYS nor AUDIT_RETENTION_DAYS is set".to_owned()
        }
        None => "nothing is there whose time could be over".to_owned(),
        Some(0) => "what is due is being removed".to_owned(),
        Some(ms) => format!(
            "the next is due when the server has run for {} more",
            times::age(ms.try_into().unwrap_or(i64::MAX), 0)
        ),
    }
}
