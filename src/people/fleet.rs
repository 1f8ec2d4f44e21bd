//! `bloom-runtime workers`, `drain` and `undrain`.

use super::screen::{Paint, status_paint};
use super::server::{WORKERS, field, number, worker_path};
use super::table::{Column, cell, painted, table};
use super::task::{ago, facts};
use super::{Desk, Trouble, print, print_json, tell, text, times};
use crate::cli::people::WorkersFlags;
use crate::exit;
use serde_json::{Value, json};

pub fn workers(desk: &Desk, flags: &WorkersFlags) -> Result<u8, Trouble> {
    let path = match &flags.name {
        Some(name) => worker_path(name, ""),
        None => WORKERS.to_owned(),
    };
    let answer = desk.server.get(&path).map_err(|error| desk.server.trouble(error))?;
    if flags.json {
        print_json(answer.body())?;
        return Ok(exit::OK);
    }
    let read = desk.server.read(&answer)?;
    match (&flags.name, read.as_array()) {
        (Some(_), _) => print(one(desk, &read).as_bytes())?,
        (None, Some(workers)) if !workers.is_empty() => print(list(desk, workers).as_bytes())?,
        _ => tell(
            "no worker is registered; start one with: bloom-runtime worker --server URL --name NAME",
        ),
    }
    Ok(exit::OK)
}

/// `drain` and `undrain`.
pub fn set_draining(desk: &Desk, worker: &str, verb: &str, json: bool) -> Result<u8, Trouble> {
    let answer = desk.server.post(&worker_path(worker, &format!("/{verb}")), &json!({}));
    let answer = answer.map_err(|error| desk.server.trouble(error))?;
    if json {
        print_json(answer.body())?;
        return Ok(exit::OK);
    }
    let read = desk.server.read(&answer)?;
    let running = match number(&read, "active_leases") {
        0 => "runs nothing".to_owned(),
        1 => "runs 1 task".to_owned(),
        n => format!("runs {n} tasks"),
    };
    let line = match verb {
        "drain" => format!("{worker} gets no more tasks; it {running}"),
        _ => format!("{worker} gets tasks again; it {running}"),
    };
    print(format!("{}\n", text::one_line(&line)).as_bytes())?;
    Ok(exit::OK)
}

/// What the worker is, in the word that matters most to who has a task for it.
fn state(worker: &Value, now: i64) -> (String, Paint) {
    let status = field(worker, "status");
    let cooling = &worker["cooling"];
    let (text, word) = match (status, worker["draining"] == true, cooling.is_object()) {
        ("online", true, _) => ("draining".to_owned(), "draining"),
        ("online", _, true) => {
            (format!("cooling {}", times::age(number(cooling, "until"), now)), "cooling")
        }
        _ => (status.to_owned(), status),
    };
    (text, status_paint(word))
}

fn labels(worker: &Value) -> String {
    let labels = worker["capabilities"]["labels"].as_array().into_iter().flatten();
    labels.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

fn load(worker: &Value) -> String {
    let most = number(&worker["capabilities"], "max_concurrency");
    format!("{}/{most}", number(worker, "active_leases"))
}

fn list(desk: &Desk, workers: &[Value]) -> String {
    let columns = [
        Column::GivesWay("NAME"),
        Column::Whole("STATUS"),
        Column::Whole("TASKS"),
        Column::Whole("SEEN"),
        Column::GivesWay("LABELS"),
        Column::GivesWay("VERSION"),
    ];
    let now = desk.now();
    let row = |worker: &Value| {
        let (state, paint) = state(worker, now);
        let seen = match number(worker, "last_heartbeat") {
            0 => "never".to_owned(),
            at => times::age(now, at),
        };
        vec![
            cell(field(worker, "id")),
            painted(paint, state),
            cell(load(worker)),
            cell(seen),
            cell(labels(worker)),
            cell(field(worker, "agent_version")),
        ]
    };
    table(&desk.screen, &columns, &workers.iter().map(row).collect::<Vec<_>>())
}

fn one(desk: &Desk, worker: &Value) -> String {
    let now = desk.now();
    let cooling = &worker["cooling"];
    let cooling = match cooling.is_object() {
        true => {
            let why = format!("{} {}", field(cooling, "code"), field(cooling, "message"));
            format!("until {}: {why}", ago(now, number(cooling, "until")))
        }
        false => String::new(),
    };
    let addresses = worker["ip_addrs"].as_array().into_iter().flatten();
    let addresses: Vec<_> = addresses.filter_map(Value::as_str).collect();
    let pushed = if worker["pushed"] == true { "tasks are pushed to it" } else { "" };
    let claude = worker["capabilities"]["claude_cli"] == true;
    let page = facts(
        desk,
        &[
            ("Worker", field(worker, "id").to_owned()),
            ("Status", state(worker, now).0),
            ("Cooling", cooling),
            ("Tasks", load(worker)),
            ("Seen", ago(now, number(worker, "last_heartbeat"))),
            ("Registered", ago(now, number(worker, "registered_at"))),
            ("Labels", labels(worker)),
            ("Claude CLI", if claude { "yes" } else { "no" }.to_owned()),
            ("Address", field(worker, "url").to_owned()),
            ("Delivery", pushed.to_owned()),
            ("Addresses", addresses.join(", ")),
            ("Version", field(worker, "agent_version").to_owned()),
            ("System", field(worker, "os_info").to_owned()),
        ],
    );
    let Some(leases) = worker["leases"].as_array().filter(|leases| !leases.is_empty()) else {
        return page;
    };
    let columns = [
        Column::Whole("TASK"),
        Column::Whole("STARTED"),
        Column::Whole("LEASE ENDS"),
        Column::GivesWay("CONTEXT"),
    ];
    let row = |lease: &Value| {
        vec![
            cell(field(lease, "task_id")),
            cell(format!("{} ago", times::age(now, number(lease, "started_at")))),
            cell(format!("in {}", times::age(number(lease, "expires_at"), now))),
            cell(field(lease, "context_id")),
        ]
    };
    let rows: Vec<_> = leases.iter().map(row).collect();
    format!("{page}\n{}", table(&desk.screen, &columns, &rows))
}
