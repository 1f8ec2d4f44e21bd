//! What an examination found, in the operator's words.
//!
//! Must stay true: each problem names the file, the record and what is wrong with it, in one line; its
//! kind says what that means and what to do; no secret and no text of a task is ever a part of one
//! (P10). Not here: how it is found.

use std::fmt;

/// Problems, and notes, that are kept with their words; the other problems are counted.
const PROBLEMS_KEPT: usize = 200;

/// Where a problem lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFile {
    Hot,
    Archive,
    Both,
}

impl fmt::Display for InFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InFile::Hot => "hot.redb",
            InFile::Archive => "archive.redb",
            InFile::Both => "both files",
        })
    }
}

/// What kind of promise is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemKind {
    /// A layout that this version does not examine.
    Format,
    /// Bytes that cannot be read as what they should be.
    Unreadable,
    /// A record stands under a key that is not its own, or in the wrong table.
    Misplaced,
    /// Something that a task needs is not there.
    Missing,
    /// A record or a row that belongs to nothing.
    Orphan,
    /// A task's status, leases and attempts contradict each other.
    Contradiction,
    /// A number was given out twice, or will be.
    Sequence,
    /// The counts differ from what is counted.
    Count,
    /// The journal and the audit trail have a hole, or do not fit together.
    Journal,
    /// A list's table differs from the tasks.
    Index,
    /// An idempotency key stands for a task that was not created under it.
    Key,
    /// The two files are not of one time.
    Apart,
}

impl ProblemKind {
    /// What it means, and what to do.
    pub fn advice(self) -> &'static str {
        const BACKUP: &str = "restore both files from one backup";
        match self {
            ProblemKind::Format => {
                "start the server of this version once, which brings the file to its own format, and examine it again"
            }
            ProblemKind::Unreadable => {
                "bytes on the disk have changed, so what is concerned answers 500 or stops the server; check the disk, then restore both files from one backup"
            }
            ProblemKind::Misplaced => {
                "what is concerned is shown under a wrong id or not at all; restore both files from one backup"
            }
            ProblemKind::Missing => {
                "what is concerned cannot be shown or carried out; restore both files from one backup, or cancel the task and create it again"
            }
            ProblemKind::Orphan => {
                "it takes space and is shown by nothing; the server can go on with it"
            }
            ProblemKind::Contradiction => {
                "the task may hang or be carried out twice; cancel it, or restore both files from one backup"
            }
            ProblemKind::Sequence => {
                "two records would share one number and one would hide the other; do not start the server on these files: restore both from one backup"
            }
            ProblemKind::Count => {
                "statistics are wrong and stay so; tasks themselves are not concerned, so the server can go on, or restore both files from one backup"
            }
            ProblemKind::Journal => {
                "the audit trail does not tell everything; tasks themselves are not concerned, so the server can go on, or restore both files from one backup"
            }
            ProblemKind::Index => {
                "a list shows too much or too little, and retention may pass over a task; the records themselves are whole, so the server can go on, or restore both files from one backup"
            }
            ProblemKind::Key => {
                "a task that is sent again under that key may be refused, or created twice; tasks themselves are not concerned, so the server can go on"
            }
            ProblemKind::Apart => BACKUP,
        }
    }
}

/// One thing that should not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub kind: ProblemKind,
    pub file: InFile,
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.text)
    }
}

/// How much there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Tasks of both files, each once, by status in the order of `TaskStatus::ALL`.
    pub tasks_by_status: [u64; 7],
    pub tasks_in_hot: u64,
    pub tasks_in_archive: u64,
    /// In the hot file and, as an older or equal copy, in the archive.
    pub tasks_in_both: u64,
    /// In the archive and counted no more: retention has begun to remove them.
    pub tasks_being_removed: u64,
    pub leases_active: u64,
    pub leases_ended: u64,
    pub outcomes: u64,
    pub journal_records: u64,
    /// Entries of the journal records, and of the archive.
    pub audit_in_journal: u64,
    pub audit_in_archive: u64,
    /// Entries that retention has removed.
    pub audit_removed: u64,
    pub workers: u64,
    pub idempotency_keys: u64,
    /// Bytes of keys and records in each file.
    pub hot_record_bytes: u64,
    pub archive_record_bytes: u64,
}

/// All that an examination found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub contents: Contents,
    /// The first of them, in the order in which they were found.
    pub problems: Vec<Problem>,
    pub problems_total: u64,
    /// What is unusual and still right, the first of it.
    pub notes: Vec<String>,
}

impl Findings {
    pub fn is_healthy(&self) -> bool {
        self.problems_total == 0
    }

    pub(super) fn note(&mut self, text: String) {
        if self.notes.len() < PROBLEMS_KEPT {
            self.notes.push(text);
        }
    }

    pub(in crate::store) fn problem(
        &mut self,
        kind: ProblemKind,
        file: InFile,
        text: impl fmt::Display,
    ) {
        self.problems_total += 1;
        if self.problems.len() < PROBLEMS_KEPT {
            self.problems.push(Problem { kind, file, text: text.to_string() });
        }
    }
}

impl fmt::Display for Findings {
    /// Every kept problem, one a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        let more = self.problems_total - self.problems.len() as u64;
        if more > 0 {
            writeln!(f, "and {more} more")?;
        }
        Ok(())
    }
}
