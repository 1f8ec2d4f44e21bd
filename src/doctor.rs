//! `bloom-runtime doctor`: examines a data directory offline and says in words what it found.
//!
//! Must stay true: it writes nothing into the data directory and holds it as a server does, so neither
//! starts beside the other; 0 means that everything holds, and 74 that something does not or that it
//! could not be examined. Not here: what must hold (`store::doctor`).

use crate::cli::{DoctorFlags, ServeFlags};
use crate::clock::{Clock, Mono, SystemClock};
use crate::config::Config;
use crate::domain::TaskStatus;
use crate::store::{Contents, Findings, Looked, Lying, ProblemKind, Store};
use crate::{exit, logging};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, Write};

/// Time between two lines of progress.
const PROGRESS_MS: u64 = 1_000;

/// Examines both files and says what they hold and what is wrong. Returns the exit code.
pub fn doctor(flags: &DoctorFlags) -> u8 {
    let settings = ServeFlags::of_directory(&flags.data_dir, &flags.env_file);
    let config = match Config::from_process(&settings) {
        Ok(config) => config,
        Err(error) => return refuse(&error, exit::CONFIG),
    };
    logging::start(config.log_level);
    let looked = match Store::look(&config.data_dir, flags.deep) {
        Ok(looked) => looked,
        Err(error) => return refuse(&error, exit::STORE),
    };
    let clock = SystemClock::new();
    let mut due = clock.now().mono.after_ms(PROGRESS_MS);
    let findings = looked.examine(&mut |done, all| tell_progress(&clock, &mut due, done, all));
    match findings {
        Ok(findings) => report(&looked, &findings),
        Err(error) => refuse(&error, exit::STORE),
    }
}

fn tell_progress(clock: &SystemClock, due: &mut Mono, done: u64, all: u64) {
    let now = clock.now().mono;
    if now >= *due {
        *due = now.after_ms(PROGRESS_MS);
        let percent = done * 100 / all.max(1);
        let _ =
            writeln!(io::stderr(), "bloom-runtime: examined {done} of {all} rows ({percent} %)");
    }
}

fn report(looked: &Looked, findings: &Findings) -> u8 {
    let contents = &findings.contents;
    say(file(&looked.hot, contents.hot_record_bytes));
    say(file(&looked.archive, contents.archive_record_bytes));
    inventory(contents).into_iter().for_each(say);
    for lying in [&looked.hot, &looked.archive].into_iter().filter(|lying| !lying.was_closed) {
        say(format!(
            "note: {} was not closed (a kill, a crash or power loss): the next start repairs it, which loses nothing; it was examined as repaired in memory",
            lying.path.display()
        ));
    }
    findings.notes.iter().for_each(|note| say(format!("note: {note}")));
    if findings.is_healthy() {
        say("healthy: everything holds that must hold");
        return exit::OK;
    }
    say("");
    let mut by_kind: BTreeMap<ProblemKind, Vec<_>> = BTreeMap::new();
    for problem in &findings.problems {
        by_kind.entry(problem.kind).or_default().push(problem);
    }
    for (kind, problems) in by_kind {
        problems.iter().for_each(say);
        say(format!("  -> {}", kind.advice()));
    }
    let total = findings.problems_total;
    let more = total - findings.problems.len() as u64;
    let kept = if more > 0 { format!(", {more} of them not shown") } else { String::new() };
    let problems = if total == 1 { "problem" } else { "problems" };
    say(format!("{total} {problems}{kept}; nothing was changed"));
    exit::STORE
}

fn file(lying: &Lying, record_bytes: u64) -> String {
    let whole = match lying.is_whole {
        Some(true) => ", every page as its checksum says",
        _ => "",
    };
    format!(
        "{}: {}, of which {} are records{whole}",
        lying.path.display(),
        size(lying.bytes),
        size(record_bytes)
    )
}

fn inventory(contents: &Contents) -> Vec<String> {
    let by_status = TaskStatus::ALL.into_iter().zip(contents.tasks_by_status);
    let by_status: Vec<String> =
        by_status.map(|(status, count)| format!("{count} {}", status.as_str())).collect();
    let removed = match contents.tasks_being_removed {
        0 => String::new(),
        count => format!(", {count} being removed"),
    };
    let trail = match contents.audit_removed {
        0 => String::new(),
        count => format!("; {count} older ones were removed"),
    };
    vec![
        format!("tasks: {}", by_status.join(", ")),
        format!(
            "  in hot.redb {}, in archive.redb {}, of these in both {}{removed}",
            contents.tasks_in_hot, contents.tasks_in_archive, contents.tasks_in_both
        ),
        format!(
            "leases: {} active, {} ended; outcomes: {}; workers: {}; idempotency keys: {}",
            contents.leases_active,
            contents.leases_ended,
            contents.outcomes,
            contents.workers,
            contents.idempotency_keys
        ),
        format!(
            "audit: {} entries in the archive, {} in {} journal records{trail}",
            contents.audit_in_archive, contents.audit_in_journal, contents.journal_records
        ),
    ]
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// A reader that is gone has read enough.
fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn refuse(line: &impl Display, code: u8) -> u8 {
    let _ = writeln!(io::stderr(), "bloom-runtime: {line}");
    code
}
