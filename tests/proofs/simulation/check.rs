//! What is compared after a step: the engine's visible state with the model's, both files with what
//! should be in them, and the promises that need no model.
//!
//! Must stay true: a check only reads. A difference is said in words that name the promise. Not here:
//! the answers of a step, which the world compares with the model's before anything else.

use super::facts::{self, Answer, WorkerFacts};
use super::model::{Change, Model, Row};
use super::promises;
use super::server::{Server, Stepped};
use bloom_runtime::domain::{LeaseEnd, LeaseStatus, TaskStatus, WorkerId};
use bloom_runtime::engine::{EngineError, Page};
use bloom_runtime::store::{AuditEntry, Hot};
use std::collections::BTreeMap;

pub type Checked = Result<(), String>;

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}
pub(super) use ensure;

pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, seen: T, expected: T) -> Checked {
    ensure!(seen == expected, "{what}:\n  seen     {seen:?}\n  expected {expected:?}");
    Ok(())
}

/// The first row in which two lists differ.
fn same_rows<T: PartialEq + std::fmt::Debug>(what: &str, seen: &[T], expected: &[T]) -> Checked {
    for place in 0..seen.len().max(expected.len()) {
        same(what, seen.get(place), expected.get(place)).map_err(|why| {
            format!("row {place} of {} and {}: {why}", seen.len(), expected.len())
        })?;
    }
    Ok(())
}

fn read<T>(result: Result<T, impl std::fmt::Display>) -> Result<T, String> {
    result.map_err(|error| format!("cannot be read: {error}"))
}

/// Every caller is told exactly what the model says, and nobody else is told anything.
pub fn answers(seen: &BTreeMap<u64, Answer>, expected: &BTreeMap<u64, Answer>) -> Checked {
    for call in seen.keys().chain(expected.keys()) {
        same("an answer", seen.get(call), expected.get(call))
            .map_err(|why| format!("call {call}: {why}"))?;
    }
    Ok(())
}

/// P1, P8: a step that changes something syncs before its answers leave and not after; one that
/// changes nothing syncs not at all.
pub fn syncs(stepped: &Stepped, model: &Model) -> Checked {
    let [before, delivered, after] = stepped.syncs;
    if model.writes {
        ensure!(delivered > before, "P1: answers left before the commit was synced");
        same("P1: syncs after the answers left", after, delivered)
    } else {
        same("P8: syncs of a step that changed nothing", after - before, 0)
    }
}

/// P1, P6: after a step whose commit failed readers and listeners see what they saw before it.
pub fn nothing_shows(server: &Server, before: &Model) -> Checked {
    let stats = server.query.stats();
    same("P6: tasks by status after a failed commit", stats.tasks_by_status, before.counts)?;
    same("P6: leases after a failed commit", stats.leases_total, before.last_lease)?;
    let active = before.live.values().filter(|row| row.facts.lease.is_some()).count();
    same("P6: active leases after a failed commit", stats.leases_active, active as u64)?;
    same("P6: events after a failed commit", server.core.events.latest(), before.last_change)?;
    listed_workers(server, before).map(drop)
}

/// P6: the events of the step are its changes, without gaps, and its audit entries stand beside them.
/// Which of several workers that fall silent at once is named first is nobody's promise.
pub fn told(server: &Server, model: &Model, seen: u64) -> Checked {
    let limit = model.told.len() + 1;
    let events = server.core.events.after(seen, limit);
    let events = events.map_err(|_| "P6: the events of the last step are not known".to_string())?;
    let mut told: Vec<_> = events.into_iter().map(|event| (event.kind, event.id)).collect();
    let mut expected: Vec<_> =
        model.told.iter().map(|change| (change.kind, change.id.clone())).collect();
    let silent = |(kind, _): &&mut (&str, String)| *kind == "worker_offline";
    for list in [&mut told, &mut expected] {
        let mut ids: Vec<String> = list.iter_mut().filter(silent).map(|e| e.1.clone()).collect();
        ids.sort_unstable();
        list.iter_mut().filter(silent).zip(ids).for_each(|(event, id)| event.1 = id);
    }
    same_rows("P6: events of the step", &told, &expected)?;
    same("P6: the newest event", server.core.events.latest(), model.last_change)?;
    if model.told.is_empty() {
        return Ok(());
    }
    let audited = model.told.iter().filter(|change| change.audit.is_some()).count();
    let page = read(server.query.audit(u64::MAX, audited.max(1)))?;
    let mut entries: Vec<AuditEntry> =
        page.rows.into_iter().filter(|e| e.id.seq() > seen).collect();
    entries.reverse();
    same("P6: audit entries of the step", entries.len(), audited)?;
    let changes = model.told.iter().filter(|change| change.audit.is_some());
    entries.iter().zip(changes).try_for_each(|(entry, change)| audit_entry(entry, change))
}

fn audit_entry(entry: &AuditEntry, change: &Change) -> Checked {
    let line = change.audit.as_ref().expect("filtered");
    same("P6: an audit entry's place", entry.id.seq(), change.seq)?;
    same("an audit entry's action", entry.action.as_str(), change.kind)?;
    same("an audit entry's time", entry.timestamp, line.at)?;
    if change.kind == "worker_offline" {
        return Ok(());
    }
    let seen = (entry.entity_type.as_str(), entry.entity_id.as_str(), entry.actor.as_str());
    same("an audit entry", seen, (line.entity, line.id.as_str(), line.actor.as_str()))?;
    match &line.detail {
        Some(detail) => same("an audit entry's detail", &entry.detail, detail),
        None => Ok(()),
    }
}

/// What the step touched.
pub fn touched(server: &Server, model: &Model) -> Checked {
    let hot = read(server.store.hot())?;
    for number in &model.touched {
        let row = model.row(*number).expect("touched");
        task(server, row)?;
        if row.in_hot {
            parts(&hot, row)?;
        }
    }
    Ok(())
}

/// What belongs to a task of the hot file stands in it too, also when it came back from the archive,
/// which may forget it.
fn parts(hot: &Hot, row: &Row) -> Checked {
    let number = row.facts.number;
    let spec = read(hot.spec(number))?;
    ensure!(spec.is_some(), "conservation: task {number} is in the hot file without its spec");
    for past in row.facts.past.iter().filter(|past| past.outcome.is_some()) {
        let outcome = read(hot.outcome(number, past.lease.fence))?;
        ensure!(
            outcome.is_some(),
            "conservation: task {number} is in the hot file without an outcome of it"
        );
    }
    Ok(())
}

/// The counts, and the next time to wake.
pub fn counts(server: &Server, model: &Model) -> Checked {
    let stats = server.query.stats();
    same("conservation: tasks by status", stats.tasks_by_status, model.counts)?;
    same("leases given so far", stats.leases_total, model.last_lease)?;
    let active = model.live.values().filter(|row| row.facts.lease.is_some()).count();
    same("active leases", stats.leases_active, active as u64)?;
    same("workers", stats.workers_total, model.workers.len() as u64)?;
    wakes(server, model)
}

/// P5: the server wakes no later than the next thing is due.
fn wakes(server: &Server, model: &Model) -> Checked {
    let leases = model.live.values().filter(|row| row.facts.lease.is_some()).map(|row| row.due);
    let silences = model.workers.values().filter(|member| member.alive).map(|m| m.silent_at);
    let waits = model.waiting.iter().map(|wait| wait.until);
    let rests = model.workers.values().filter_map(|member| Some(member.rest.as_ref()?.due));
    let all = leases.chain(silences).chain(waits).chain(rests).chain(model.times());
    let Some(due) = all.min() else { return Ok(()) };
    let wake = server.core.next_wake().map(|wake| wake.0);
    ensure!(
        wake.is_some_and(|wake| wake <= due),
        "P5: wakes at {wake:?} although something is due at {due}"
    );
    Ok(())
}

fn task(server: &Server, row: &Row) -> Checked {
    let number = row.facts.number;
    let view = read(server.query.task(facts::task_id(number)))?;
    same("a task", &facts::task(&view.task), &row.facts)?;
    same("what its author wrote", &facts::spec(&view), &row.spec)
}

/// Every record of both files, each as it must be there and in no other place. A lease in the hot file
/// is as old as its last write, so what is shown of it is asked for.
pub fn records<'a>(
    server: &Server,
    model: &Model,
    rows: impl Iterator<Item = (&'a u64, &'a Row)>,
) -> Checked {
    let hot = read(server.store.hot())?;
    let archive = read(server.store.archive(std::sync::Arc::default()))?;
    for (number, row) in rows {
        let stands = read(hot.task(*number))?.as_ref().map(facts::task);
        let archived = read(archive.task(*number))?.as_ref().map(facts::task);
        same("conservation: stands in the hot file", stands.is_some(), row.in_hot)
            .map_err(|why| format!("task {number}: {why}"))?;
        same("conservation: its copy in the archive", archived.as_ref(), row.archived.as_ref())?;
        match stands.or(archived) {
            Some(_) if row.facts.lease.is_some() => task(server, row)?,
            Some(record) => same("a record", &record, &row.facts)?,
            None => return Err(format!("conservation: task {number} is in neither file")),
        }
        promises::history(row)?;
    }
    let beyond = read(hot.task(model.last_task + 1))?;
    ensure!(beyond.is_none(), "conservation: there is a task that nobody created");
    let journal = read(hot.journal())?.0;
    same("journal records in the hot file", journal, model.journal.len())?;
    workers(server, model)
}

/// The same of what the hot file holds, for runs whose archive is large.
pub fn hot_records(server: &Server, model: &Model) -> Checked {
    let stats = server.query.stats();
    same("conservation: tasks by status", stats.tasks_by_status, model.counts)?;
    records(server, model, model.hot_rows())
}

/// Everything there is, in memory and in both files, and every way to read it.
pub fn all(server: &Server, model: &Model) -> Checked {
    records(server, model, model.rows())?;
    for (number, row) in model.rows() {
        task(server, row)?;
        let id = facts::task_id(*number);
        let found = read(server.query.artifacts_of(id, u64::MAX, 1_000))?.rows;
        let kept = |outcome: &u64| row.outcomes.iter().find(|known| known.number == *outcome);
        let past = row.facts.past.iter().rev();
        let expected: Vec<_> = past.filter_map(|past| past.outcome.as_ref()).map(kept).collect();
        let found: Vec<_> = found.iter().map(facts::artifact).collect();
        same("P7: the outcomes of a task", found.iter().map(Some).collect(), expected)?;
    }
    (0..LISTS).try_for_each(|which| list(server, model, which))?;
    same("settings", read(server.query.settings())?, model.settings.clone())
}

/// Every row of a list, page by page.
fn every<T>(mut page: impl FnMut(u64) -> Result<Page<T>, EngineError>) -> Result<Vec<T>, String> {
    let (mut rows, mut before) = (Vec::new(), u64::MAX);
    loop {
        let found = read(page(before))?;
        rows.extend(found.rows);
        match found.next {
            Some(next) => {
                ensure!(next < before, "a list does not go on below {next}");
                before = next;
            }
            None => return Ok(rows),
        }
    }
}

/// What `bloom-runtime doctor` would say of both files.
pub fn examined(server: &Server) -> Checked {
    let findings = read(server.store.examine(&mut |_, _| {}))?;
    ensure!(findings.is_healthy(), "conservation: the doctor finds {findings:?}");
    Ok(())
}

/// How many lists there are to look at.
pub const LISTS: u64 = 20;

/// One of all lists, page by page, with exactly the rows that it should have.
pub fn list(server: &Server, model: &Model, which: u64) -> Checked {
    let statuses = TaskStatus::ALL.len() as u64;
    match which {
        0..7 => list_of_status(server, model, TaskStatus::ALL[which as usize]),
        7..14 => archived_with(server, model, TaskStatus::ALL[(which - statuses) as usize]),
        14..17 => leases(server, model, LeaseStatus::ALL[which as usize - 14]),
        17 => {
            let rows = every(|before| server.query.tasks(None, before, 400))?;
            let seen: Vec<u64> = rows.iter().map(|view| view.task.id.seq()).collect();
            let expected: Vec<u64> = (1..=model.last_task).rev().collect();
            same_rows("conservation: the list of all tasks", &seen, &expected)
        }
        18 => outcomes(server, model),
        _ => workers(server, model),
    }
}

fn newest_first(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    numbers
}

fn list_of_status(server: &Server, model: &Model, status: TaskStatus) -> Checked {
    let rows = every(|before| server.query.tasks(Some(status), before, 400))?;
    let seen: Vec<u64> = rows.iter().map(|view| view.task.id.seq()).collect();
    let with = model.rows().filter(|(_, row)| row.facts.status == status);
    let expected = newest_first(with.map(|(number, _)| *number).collect());
    same_rows("conservation: the list of a status", &seen, &expected)
        .map_err(|why| format!("{status:?}: {why}"))
}

/// The archive's own lists name exactly its copies.
fn archived_with(server: &Server, model: &Model, status: TaskStatus) -> Checked {
    let archive = read(server.store.archive(std::sync::Arc::default()))?;
    let rows = read(archive.tasks_below(Some(status), u64::MAX, usize::MAX, |_| false))?;
    let is = |row: &Row| row.archived.as_ref().is_some_and(|copy| copy.status == status);
    let with = model.rows().filter(|(_, row)| is(row));
    let expected = newest_first(with.map(|(number, _)| *number).collect());
    same_rows("conservation: the archive's list of a status", &rows, &expected)
}

fn leases(server: &Server, model: &Model, status: LeaseStatus) -> Checked {
    let rows = every(|before| server.query.leases(&[status], before, 400))?;
    let seen: Vec<_> =
        rows.iter().map(|view| (facts::lease_view(view), view.task_id.seq())).collect();
    let mut expected = Vec::new();
    for (number, row) in model.rows() {
        let ended = row.facts.past.iter().filter(|past| {
            let released = past.end != LeaseEnd::Expired;
            status == if released { LeaseStatus::Released } else { LeaseStatus::Expired }
        });
        expected.extend(ended.map(|past| (past.lease.clone(), *number)));
        let active = row.facts.lease.clone().filter(|_| status == LeaseStatus::Active);
        expected.extend(active.map(|lease| (lease, *number)));
    }
    expected.sort_unstable_by_key(|(lease, _)| std::cmp::Reverse(lease.number));
    same_rows("the list of leases", &seen, &expected)
}

fn outcomes(server: &Server, model: &Model) -> Checked {
    let rows = every(|before| server.query.artifacts(before, 400))?;
    let seen: Vec<u64> = rows.iter().map(|artifact| artifact.id().seq()).collect();
    let kept =
        |row: &Row| row.facts.past.iter().filter_map(|past| past.outcome).collect::<Vec<_>>();
    let expected = newest_first(model.rows().flat_map(|(_, row)| kept(row)).collect());
    same_rows("P7: the list of outcomes", &seen, &expected)
}

fn listed_workers(server: &Server, model: &Model) -> Result<Vec<WorkerFacts>, String> {
    let seen = server.query.workers(0, usize::MAX).rows;
    let mut expected: Vec<_> = model.workers.keys().map(|name| model.worker_facts(name)).collect();
    expected.sort_unstable_by_key(|worker| worker.seq);
    let listed: Vec<_> = seen.iter().map(facts::worker).collect();
    same_rows("the list of workers", &listed, &expected)?;
    Ok(expected)
}

/// P2: nobody holds more than is counted, and all that is counted is held.
fn workers(server: &Server, model: &Model) -> Checked {
    let expected = listed_workers(server, model)?;
    let online = expected.iter().filter(|w| w.shown.as_str() == "online").count();
    same("workers online", server.query.stats().workers_online, online as u64)?;
    for worker in expected {
        let (_, leases) = read(server.query.worker(&WorkerId(worker.name.clone())))?;
        same("P2: a worker's leases", leases.len(), worker.active as usize)?;
        ensure!(
            leases.iter().all(|lease| lease.worker_id.0 == worker.name),
            "P2: a worker is shown another's lease"
        );
    }
    Ok(())
}
