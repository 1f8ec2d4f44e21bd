//! The examination of a data directory: everything that must hold of both files and between them.
//!
//! A pure function of two snapshots, the same for `bloom-runtime doctor` and for the proofs, which run
//! it on what every crash leaves. Must stay true: it changes nothing; memory is a bit for each lease
//! and outcome, whatever the files hold; a file in which something cannot be read is read on where
//! that is possible; what a running server may leave at any moment is no problem. Not here: the
//! command and its words for a terminal (`doctor` of the crate), rules about what may happen next.

mod copies;
mod findings;
mod indexes;
mod journal;
mod keys;
mod numbers;
mod rows;
mod rules;
mod uploads;

pub use findings::{Contents, Findings, InFile, Problem, ProblemKind};

use super::schema::{
    Counters, FORMAT, HOT, LARGE, META, META_FORMAT, META_REMOVING, META_SESSIONS, META_SETTINGS,
    PARTS, Removing, Settings, StoredWorker, TASKS, WORKERS,
};
use super::{Store, StoreError};
use crate::domain::{Sessions, Task, TaskStatus, WorkerId};
use indexes::Indexes;
use journal::Journal;
use numbers::Numbers;
use redb::{ReadTransaction, ReadableDatabase, ReadableTableMetadata};
use rows::{Group, Walk, parse, rows};
use std::collections::{BTreeMap, BTreeSet};

/// No worker may hold more leases than this (`CONTRACT §3`), unless it has registered for more.
const CONCURRENCY_MAX: u32 = 32;
/// Tasks and entries between two reports of progress.
const PROGRESS_EVERY: u64 = 4_096;

impl Store {
    /// Examines both files. `progress` hears how many rows were read of how many.
    pub fn examine(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Findings, StoreError> {
        let hot = self.hot.read()?.begin_read()?;
        Ok(examine(&hot, &self.archive.read()?.begin_read()?, progress))
    }
}

/// Examines two snapshots, the hot one taken first.
pub fn examine(
    hot: &ReadTransaction,
    archive: &ReadTransaction,
    progress: &mut dyn FnMut(u64, u64),
) -> Findings {
    let mut findings = Findings::default();
    if formats_are_known(&mut findings, hot, archive)
        && let Err(error) = examine_tables(&mut findings, hot, archive, progress)
    {
        let text = format!("the examination broke off: {}", cause(&error));
        findings.problem(ProblemKind::Unreadable, InFile::Both, text);
    }
    findings
}

fn cause(error: &StoreError) -> String {
    match error {
        StoreError::Io(what) => what.clone(),
        other => other.to_string(),
    }
}

fn formats_are_known(
    findings: &mut Findings,
    hot: &ReadTransaction,
    archive: &ReadTransaction,
) -> bool {
    let mut known = true;
    for (file, txn) in [(InFile::Hot, hot), (InFile::Archive, archive)] {
        let found = txn.open_table(META).ok().and_then(|meta| {
            let bytes = meta.get(META_FORMAT).ok()??;
            Some(String::from_utf8_lossy(bytes.value()).into_owned())
        });
        if found.as_deref() != Some(FORMAT.to_string().as_str()) {
            let found = found.unwrap_or_else(|| "none".into());
            let text = format!("its format is {found}, this version examines {FORMAT}");
            findings.problem(ProblemKind::Format, file, text);
            known = false;
        }
    }
    known
}

fn examine_tables(
    findings: &mut Findings,
    hot: &ReadTransaction,
    archive: &ReadTransaction,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), StoreError> {
    let (parts, large) = (hot.open_table(HOT)?, hot.open_table(LARGE)?);
    let (tasks, texts) = (archive.open_table(TASKS)?, archive.open_table(PARTS)?);
    let trail = archive.open_table(super::schema::AUDIT)?;
    let all = parts.len()? + large.len()? + tasks.len()? + texts.len()? + trail.len()?;
    let mut examination = Examination {
        live: Walk::new(InFile::Hot, rows(&parts, |key| key)?, rows(&large, |key| key)?),
        archived: Walk::new(
            InFile::Archive,
            rows(&tasks, |seq| (seq, 0))?,
            rows(&texts, |key| key)?,
        ),
        indexes: Indexes::new(archive)?,
        journal: Journal::new(findings, archive)?,
        removing: removing(findings, hot)?,
        seen: Seen::default(),
    };
    let mut reported = 0;
    while examination.next_task(findings)? {
        let done = examination.live.rows + examination.archived.rows;
        if done - reported >= PROGRESS_EVERY {
            reported = done;
            progress(done, all);
        }
    }
    let Examination { live, archived, indexes, journal, mut seen, .. } = examination;
    findings.contents.hot_record_bytes = live.bytes;
    findings.contents.archive_record_bytes = archived.bytes;
    indexes.finish(findings)?;
    uploads::check(findings, archive)?;
    let mut done = live.rows + archived.rows;
    let counters = journal.finish(findings, || {
        done += 1;
        if done.is_multiple_of(PROGRESS_EVERY) {
            progress(done, all);
        }
    })?;
    check_settings(findings, hot)?;
    keys::check(findings, hot, counters)?;
    seen.check_workers(findings, hot, counters)?;
    seen.check_counters(findings, counters);
    Ok(())
}

fn removing(findings: &mut Findings, hot: &ReadTransaction) -> Result<BTreeSet<u64>, StoreError> {
    let Some(bytes) = hot.open_table(META)?.get(META_REMOVING)? else { return Ok(BTreeSet::new()) };
    let note: Option<Removing> =
        parse(findings, InFile::Hot, "the note of tasks that are being removed", bytes.value());
    Ok(note.unwrap_or_default().tasks.into_iter().collect())
}

fn check_settings(findings: &mut Findings, hot: &ReadTransaction) -> Result<(), StoreError> {
    if let Some(bytes) = hot.open_table(META)?.get(META_SETTINGS)? {
        let _: Option<Settings> =
            parse(findings, InFile::Hot, "the record of saved settings", bytes.value());
    }
    if let Some(bytes) = hot.open_table(META)?.get(META_SESSIONS)? {
        let _: Option<Sessions> =
            parse(findings, InFile::Hot, "the record of sessions", bytes.value());
    }
    Ok(())
}

/// Both files, walked side by side.
struct Examination {
    live: Walk,
    archived: Walk,
    indexes: Indexes,
    journal: Journal,
    /// Tasks whose removal has begun: they count no more, whether the archive still has them or not.
    removing: BTreeSet<u64>,
    seen: Seen,
}

impl Examination {
    /// Examines the next task of either file; false when there is none.
    fn next_task(&mut self, findings: &mut Findings) -> Result<bool, StoreError> {
        let both = [self.live.next_task(), self.archived.next_task()];
        let Some(seq) = both.into_iter().flatten().min() else { return Ok(false) };
        let live = self.live.group(findings, seq)?;
        let archived = self.archived.group(findings, seq)?;
        for (file, group) in [(InFile::Hot, &live), (InFile::Archive, &archived)] {
            match &group.task {
                Some(task) => rules::check(findings, file, group, task),
                None if !group.has_record => tell_of_orphans(findings, file, group),
                None => {}
            }
        }
        if archived.has_record {
            self.indexes.take(findings, &archived)?;
        }
        copies::check(findings, &live, &archived);
        let contents = &mut findings.contents;
        contents.tasks_in_hot += u64::from(live.has_record);
        contents.tasks_in_archive += u64::from(archived.has_record);
        contents.tasks_in_both += u64::from(live.has_record && archived.has_record);
        let is_gone = self.removing.contains(&seq);
        if is_gone && live.has_record {
            let text = format!("task number {seq} lives although retention has removed it");
            findings.problem(ProblemKind::Contradiction, InFile::Both, text);
        } else if is_gone {
            findings.contents.tasks_being_removed += u64::from(archived.has_record);
        }
        // The hot copy is the one that counts.
        let counts = if live.has_record { &live.task } else { &archived.task };
        if let Some(task) = counts.as_ref().filter(|_| live.has_record || !is_gone) {
            self.seen.take(findings, task);
        }
        for (first, bytes) in &live.journal {
            self.journal.take(findings, seq, *first, bytes)?;
        }
        Ok(true)
    }
}

fn tell_of_orphans(findings: &mut Findings, file: InFile, group: &Group) {
    for part in group.parts() {
        let text = format!("part {part} of task number {} is there, the task is not", group.seq);
        findings.problem(ProblemKind::Orphan, file, text);
    }
}

/// What was seen of the tasks that count, for what must hold between them.
#[derive(Default)]
struct Seen {
    last_task: u64,
    grants: u64,
    leases: Numbers,
    outcomes: Numbers,
    held: BTreeMap<WorkerId, u32>,
}

impl Seen {
    fn take(&mut self, findings: &mut Findings, task: &Task) {
        self.last_task = self.last_task.max(task.seq());
        self.grants += u64::from(task.grants);
        findings.contents.tasks_by_status[task.status as usize] += 1;
        findings.contents.leases_ended += task.ended.len() as u64;
        let outcomes = task.ended.iter().filter(|ended| ended.outcome.is_some());
        findings.contents.outcomes += outcomes.count() as u64;
        let id = task.id;
        let mut twice = |what: &str, number: u64| {
            let text = format!("{what} number {number} of task {id} is also that of another");
            findings.problem(ProblemKind::Sequence, InFile::Both, text);
        };
        for ended in &task.ended {
            if !self.leases.insert(ended.lease.id.seq()) {
                twice("lease", ended.lease.id.seq());
            }
            let Some(outcome) = ended.outcome else { continue };
            if !self.outcomes.insert(outcome) {
                twice("outcome", outcome);
            }
        }
        for file in &task.files {
            if !self.outcomes.insert(file.seq) {
                twice("artifact", file.seq);
            }
        }
        if let Some(lease) = &task.lease {
            if !self.leases.insert(lease.id.seq()) {
                twice("lease", lease.id.seq());
            }
            *self.held.entry(lease.worker_id.clone()).or_default() += 1;
            findings.contents.leases_active += 1;
        }
    }

    fn check_workers(
        &mut self,
        findings: &mut Findings,
        hot: &ReadTransaction,
        counters: Option<Counters>,
    ) -> Result<(), StoreError> {
        let last_change = counters.unwrap_or_default().last_change;
        let mut places = BTreeSet::new();
        let mut offered = BTreeMap::new();
        for row in hot.open_table(WORKERS)?.range::<&str>(..)? {
            let (key, bytes) = row?;
            let name = key.value();
            findings.contents.workers += 1;
            findings.contents.hot_record_bytes += (name.len() + bytes.value().len()) as u64;
            let what = format!("the record of worker {name:?}");
            let stored: Option<StoredWorker> = parse(findings, InFile::Hot, &what, bytes.value());
            let Some(StoredWorker { worker, .. }) = stored else { continue };
            if worker.id.0 != name {
                let text = format!("{what} is that of {:?}", worker.id.0);
                findings.problem(ProblemKind::Misplaced, InFile::Hot, text);
            }
            if worker.seq > last_change || !places.insert(worker.seq) {
                let text = format!("{what} has the number {}, which is not its own", worker.seq);
                findings.problem(ProblemKind::Sequence, InFile::Hot, text);
            }
            offered.insert(worker.id, worker.capabilities.max_concurrency);
        }
        for (worker, held) in &self.held {
            // One that was removed while it held some offers nothing, and keeps what it holds.
            let most = offered.get(worker).copied().unwrap_or(CONCURRENCY_MAX);
            if *held > most.max(CONCURRENCY_MAX) {
                let text =
                    format!("worker {:?} holds {held} leases, more than anybody may", worker.0);
                findings.problem(ProblemKind::Contradiction, InFile::Hot, text);
            } else if *held > most {
                // A registration may lower it while more leases run.
                findings.note(format!(
                    "worker {:?} holds {held} leases and offers {most}: it has offered more before",
                    worker.0
                ));
            }
        }
        Ok(())
    }

    fn check_counters(&self, findings: &mut Findings, counters: Option<Counters>) {
        let Some(counters) = counters else {
            let (tasks, workers) = (self.last_task, findings.contents.workers);
            if tasks > 0 || workers > 0 {
                let text = "there are records but no journal record: sequences and counts are lost";
                findings.problem(ProblemKind::Sequence, InFile::Hot, text);
            }
            return;
        };
        for (what, last, largest) in [
            ("task", counters.last_task, self.last_task),
            ("lease", counters.last_lease, self.leases.largest),
            ("outcome", counters.last_outcome, self.outcomes.largest),
        ] {
            if largest > last {
                let text =
                    format!("there is {what} number {largest}, but the journal knows {last}");
                findings.problem(ProblemKind::Sequence, InFile::Both, text);
            }
        }
        for status in TaskStatus::ALL {
            let (counted, found) = (
                counters.tasks_by_status[status as usize],
                findings.contents.tasks_by_status[status as usize],
            );
            if counted != found {
                let word = status.as_str();
                let text = format!("the journal counts {counted} {word} tasks, there are {found}");
                findings.problem(ProblemKind::Count, InFile::Both, text);
            }
        }
        let (granted, removed, told) = (self.grants, counters.removed_leases, counters.last_lease);
        if granted + removed != told {
            let text = format!(
                "the journal knows {told} leases of which {removed} are removed, the tasks were granted {granted}"
            );
            findings.problem(ProblemKind::Count, InFile::Both, text);
        }
    }
}
