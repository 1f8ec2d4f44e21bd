//! The rows of a file in the order of their tasks, one task at a time.
//!
//! Must stay true: of all texts only one is in memory at a time; what cannot be read is a finding and
//! the walk goes on. Not here: what must hold of what is read.

use super::findings::{Findings, InFile, ProblemKind};
use crate::domain::{Outcome, ReturnedFile, Task, TaskSpec};
use crate::store::StoreError;
use crate::store::schema::{ArchivedFacts, FILES, JOURNAL, PART_SPEC, PART_TASK, part_of_file};
use redb::{Key, ReadOnlyTable};
use serde::de::DeserializeOwned;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::iter::Peekable;

pub type Row<T> = Result<((u64, u64), T), StoreError>;
pub type Rows = Peekable<Box<dyn Iterator<Item = Row<Vec<u8>>>>>;

/// All rows of a table, each key as (task, part).
pub fn rows<K: Key + 'static>(
    table: &ReadOnlyTable<K, &'static [u8]>,
    place: impl for<'a> Fn(K::SelfType<'a>) -> (u64, u64) + 'static,
) -> Result<Rows, StoreError> {
    let rows = table.range::<K::SelfType<'_>>(..)?.map(move |row| {
        let (key, bytes) = row?;
        Ok((place(key.value()), bytes.value().to_vec()))
    });
    Ok((Box::new(rows) as Box<dyn Iterator<Item = _>>).peekable())
}

/// The next key of rows that are walked side by side; an error is the next thing to hear of.
pub fn next_task<T>(rows: &mut Peekable<impl Iterator<Item = Row<T>>>) -> Option<u64> {
    rows.peek().map(|row| row.as_ref().map_or(0, |((task, _), _)| *task))
}

/// All that one file holds of one task, without its texts, and the journal behind it.
#[derive(Default)]
pub struct Group {
    pub seq: u64,
    pub task: Option<Task>,
    /// Something stands where the task's record should, readable or not.
    pub has_record: bool,
    /// The store's age when the task came to the archive.
    pub archived_age_ms: u64,
    /// Part, what it says in short, and the outcome if it is a readable one.
    seen: Vec<(u64, u64, Option<Outcome>)>,
    pub journal: Vec<(u64, Vec<u8>)>,
}

impl Group {
    pub fn parts(&self) -> impl Iterator<Item = u64> {
        self.seen.iter().map(|(part, ..)| *part)
    }

    pub fn has(&self, part: u64) -> bool {
        self.parts().any(|seen| seen == part)
    }

    /// A number that tells two contents of this part apart.
    pub fn fingerprint(&self, part: u64) -> Option<u64> {
        self.seen.iter().find(|(seen, ..)| *seen == part).map(|(_, print, _)| *print)
    }

    /// Whether this part is an outcome whose content went to S3.
    pub fn is_stored(&self, part: u64) -> bool {
        let stored = |outcome: &Outcome| outcome.stored.is_some();
        self.seen
            .iter()
            .any(|(seen, _, outcome)| *seen == part && outcome.as_ref().is_some_and(stored))
    }

    /// What was completed under this fence, without its texts.
    pub fn outcome(&self, fence: u32) -> Option<&Outcome> {
        let part = crate::store::schema::part_of_outcome(fence);
        self.seen.iter().find(|(seen, ..)| *seen == part).and_then(|(.., outcome)| outcome.as_ref())
    }

    fn take(&mut self, findings: &mut Findings, file: InFile, part: u64, bytes: &[u8]) {
        let seq = self.seq;
        if part != PART_TASK && self.has(part) {
            let text = format!("part {part} of task number {seq} stands in two tables");
            findings.problem(ProblemKind::Misplaced, file, text);
        }
        match part {
            PART_TASK => {
                self.has_record = true;
                let what = format!("the record of task number {seq}");
                self.task = parse(findings, file, &what, bytes);
                if self.task.is_some() && file == InFile::Archive {
                    let facts: Option<ArchivedFacts> = parse(findings, file, &what, bytes);
                    self.archived_age_ms = facts.map_or(0, |facts| facts.archived_age_ms);
                }
            }
            PART_SPEC => {
                let what = format!("the prompt and settings of task number {seq}");
                let spec: Option<TaskSpec> = parse(findings, file, &what, bytes);
                // Written anew, so that a field that a later version adds makes no difference.
                let print = spec.map_or(0, |spec| fingerprint(&serde_json::to_vec(&spec)));
                self.seen.push((part, print, None));
            }
            FILES.. => {
                let what = format!("file {} of task number {seq}", part - FILES);
                let found: Option<ReturnedFile> = parse(findings, file, &what, bytes);
                let is_of = |f: &ReturnedFile| {
                    f.task_id.seq() == seq && part_of_file(f.artifact_id.seq()) == part
                };
                if found.as_ref().is_some_and(|found| !is_of(found)) {
                    let text = format!("{what} is that of something else");
                    findings.problem(ProblemKind::Misplaced, file, text);
                }
                // Noted to lie in S3 in the archive alone.
                let print = found.map_or(0, |file| {
                    let as_it_came = ReturnedFile { on_disk: None, stored: None, ..file };
                    fingerprint(&serde_json::to_vec(&as_it_came))
                });
                self.seen.push((part, print, None));
            }
            _ => {
                let what = format!("outcome {} of task number {seq}", part - PART_SPEC);
                let outcome: Option<Outcome> = parse(findings, file, &what, bytes);
                let print = outcome.as_ref().map_or(0, |o| fingerprint(&serde_json::to_vec(o)));
                let short =
                    outcome.map(|outcome| Outcome { output: None, error_message: None, ..outcome });
                self.seen.push((part, print, short));
            }
        }
    }
}

fn fingerprint(json: &Result<Vec<u8>, serde_json::Error>) -> u64 {
    let mut hasher = DefaultHasher::new();
    json.as_ref().ok().hash(&mut hasher);
    hasher.finish()
}

/// Reads a record; one that cannot be read is a finding. The cause quotes no text of it.
pub fn parse<T: DeserializeOwned>(
    findings: &mut Findings,
    file: InFile,
    what: &str,
    bytes: &[u8],
) -> Option<T> {
    match serde_json::from_slice(bytes) {
        Ok(record) => Some(record),
        Err(error) => {
            let (kind, column) = (error.classify(), error.column());
            let text = format!("{what} cannot be read ({kind:?} at byte {column})");
            findings.problem(ProblemKind::Unreadable, file, text);
            None
        }
    }
}

/// Both tables of one file, walked side by side.
pub struct Walk {
    pub file: InFile,
    pub main: Rows,
    pub other: Rows,
    pub bytes: u64,
    pub rows: u64,
}

impl Walk {
    pub fn new(file: InFile, main: Rows, other: Rows) -> Self {
        Walk { file, main, other, bytes: 0, rows: 0 }
    }

    pub fn next_task(&mut self) -> Option<u64> {
        let both = [next_task(&mut self.main), next_task(&mut self.other)];
        both.into_iter().flatten().min()
    }

    /// Takes all rows of this task from both tables.
    pub fn group(&mut self, findings: &mut Findings, seq: u64) -> Result<Group, StoreError> {
        let mut group = Group { seq, ..Group::default() };
        let file = self.file;
        let is_hot = file == InFile::Hot;
        while next_task(&mut self.main) == Some(seq) {
            let Some(row) = self.main.next() else { break };
            let ((_, part), bytes) = row?;
            self.count(&bytes);
            if is_hot && part >= JOURNAL {
                group.journal.push((part - JOURNAL, bytes));
            } else {
                group.take(findings, file, part, &bytes);
            }
        }
        while next_task(&mut self.other) == Some(seq) {
            let Some(row) = self.other.next() else { break };
            let ((_, part), bytes) = row?;
            self.count(&bytes);
            if part == PART_TASK || part >= JOURNAL {
                let text = format!("part {part} of task number {seq} stands in the table of texts");
                findings.problem(ProblemKind::Misplaced, file, text);
            } else {
                group.take(findings, file, part, &bytes);
            }
        }
        Ok(group)
    }

    fn count(&mut self, bytes: &[u8]) {
        self.rows += 1;
        self.bytes += bytes.len() as u64 + 16;
    }
}
