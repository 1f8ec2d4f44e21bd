//! The journal in the hot file and the audit trail in the archive, which are one.
//!
//! Must stay true: changes are numbered without a hole over both files; a change is told in both only
//! while its record moves, and then alike; what retention has removed is its beginning, and adds up with
//! the rest. A change without an entry is a first heartbeat, so there
//! are at most as many as leases. Not here: the tasks that the entries tell of.

use super::findings::{Contents, Findings, InFile, ProblemKind};
use super::rows::parse;
use crate::store::StoreError;
use crate::store::schema::{
    AUDIT, AuditEntry, AuditRemoved, Counters, JournalRecord, META, META_AUDIT_REMOVED,
};
use redb::{ReadOnlyTable, ReadTransaction};

/// What was read of the journal so far.
pub struct Journal {
    archived: ReadOnlyTable<u64, &'static [u8]>,
    /// The newest change whose entry stands in the archive; 0 when there is none.
    last_archived: u64,
    newest: Option<Counters>,
    oldest: Option<u64>,
    records: u64,
    entries: u64,
    /// Entries of both files, each once, and those that retention has removed.
    told: AuditRemoved,
    /// The trail begins after this change.
    removed_through: u64,
}

impl Journal {
    pub fn new(findings: &mut Findings, archive: &ReadTransaction) -> Result<Self, StoreError> {
        let archived = archive.open_table(AUDIT)?;
        let last = archived.range::<u64>(..)?.next_back().transpose()?;
        let last_archived = last.map_or(0, |(key, _)| key.value());
        let removed = match archive.open_table(META)?.get(META_AUDIT_REMOVED)? {
            Some(bytes) => {
                let what = "the note of removed audit entries";
                parse(findings, InFile::Archive, what, bytes.value()).unwrap_or_default()
            }
            None => AuditRemoved::default(),
        };
        findings.contents.audit_removed = removed.entries;
        Ok(Journal {
            archived,
            last_archived: last_archived.max(removed.through),
            newest: None,
            oldest: None,
            records: 0,
            entries: 0,
            told: removed,
            removed_through: removed.through,
        })
    }

    /// Takes the next record: `task` and `first` are its key.
    pub fn take(
        &mut self,
        findings: &mut Findings,
        task: u64,
        first: u64,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        self.records += 1;
        let what = format!("the journal record of change {first}");
        let Some(record): Option<JournalRecord> = parse(findings, InFile::Hot, &what, bytes) else {
            return Ok(());
        };
        let mut wrong = |text: &str| {
            findings.problem(ProblemKind::Journal, InFile::Hot, format!("{what} {text}"));
        };
        let counters = record.counters;
        let last = first + (record.changes.len() as u64).saturating_sub(1);
        if record.changes.is_empty() {
            wrong("tells of no change");
        }
        if counters.last_task != task {
            wrong(&format!("stands behind task number {task}, not {}", counters.last_task));
        }
        if counters.last_change != last {
            wrong(&format!("ends with change {last}, but counts {}", counters.last_change));
        }
        if let Some(before) = self.newest {
            if before.last_change.checked_add(1) != Some(first) {
                let (from, to) = (before.last_change.saturating_add(1), first.saturating_sub(1));
                wrong(&format!("does not follow the one before: changes {from} to {to} are gone"));
            }
            if !is_not_less(&counters, &before) {
                wrong("counts less than the one before it");
            }
        }
        self.oldest.get_or_insert(first);
        self.newest = Some(counters);
        for (seq, entry) in (first..).zip(record.changes) {
            self.take_change(findings, seq, entry)?;
        }
        Ok(())
    }

    fn take_change(
        &mut self,
        findings: &mut Findings,
        seq: u64,
        entry: Option<AuditEntry>,
    ) -> Result<(), StoreError> {
        self.entries += u64::from(entry.is_some());
        if let Some(entry) = &entry {
            if entry.id.seq() != seq {
                let text = format!("the entry of change {seq} has the id {}", entry.id);
                findings.problem(ProblemKind::Journal, InFile::Hot, text);
            }
            if seq > self.last_archived {
                self.told.take(&entry.action);
            }
        }
        if seq <= self.last_archived {
            // Its record is on its way: the archive must tell the same.
            let there = match self.archived.get(seq)? {
                Some(bytes) => serde_json::from_slice::<AuditEntry>(bytes.value()).ok(),
                None => None,
            };
            if there != entry {
                let text =
                    format!("change {seq} is told otherwise in the journal than in the archive");
                findings.problem(ProblemKind::Journal, InFile::Both, text);
            }
        }
        Ok(())
    }

    /// Reads the archive's trail and compares both with the newest counters.
    pub fn finish(
        mut self,
        findings: &mut Findings,
        mut progress: impl FnMut(),
    ) -> Result<Option<Counters>, StoreError> {
        let mut archived = 0;
        for row in self.archived.range::<u64>(..)? {
            let (key, bytes) = row?;
            let seq = key.value();
            archived += 1;
            if seq <= self.removed_through {
                let text = format!(
                    "change {seq} is told, although the trail was removed through change {}",
                    self.removed_through
                );
                findings.problem(ProblemKind::Journal, InFile::Archive, text);
            }
            findings.contents.archive_record_bytes += bytes.value().len() as u64 + 8;
            let what = format!("the audit entry of change {seq}");
            let entry: Option<AuditEntry> = parse(findings, InFile::Archive, &what, bytes.value());
            if let Some(entry) = entry {
                if entry.id.seq() != seq {
                    let text = format!("{what} has the id {}", entry.id);
                    findings.problem(ProblemKind::Journal, InFile::Archive, text);
                }
                self.told.take(&entry.action);
            }
            progress();
        }
        findings.contents = Contents {
            journal_records: self.records,
            audit_in_journal: self.entries,
            audit_in_archive: archived,
            ..std::mem::take(&mut findings.contents)
        };
        self.compare(findings, archived);
        Ok(self.newest)
    }

    fn compare(&self, findings: &mut Findings, archived: u64) {
        let mut problem = |kind, file, text: String| findings.problem(kind, file, text);
        let Some(counters) = self.newest else {
            if archived > 0 {
                let text = "there is no journal record, although the archive tells of changes: sequences and counts are lost";
                problem(ProblemKind::Sequence, InFile::Hot, text.into());
            }
            return;
        };
        let last = counters.last_change;
        if self.last_archived > last {
            let text = format!(
                "the archive tells of change {}, the journal ends with {last}: hot.redb is older than archive.redb",
                self.last_archived
            );
            return problem(ProblemKind::Apart, InFile::Both, text);
        }
        let oldest = self.oldest.unwrap_or(last + 1);
        if self.last_archived == 0 && oldest > 1 {
            let text = format!("the changes 1 to {} are told nowhere", oldest - 1);
            problem(ProblemKind::Journal, InFile::Both, text);
        }
        // A change without an entry is the first heartbeat of a lease.
        let silent = last.saturating_sub(self.told.entries);
        if self.told.entries > last || silent > counters.last_lease {
            let text = format!(
                "{last} changes were made under {} leases, but the trail has {} entries",
                counters.last_lease, self.told.entries
            );
            problem(ProblemKind::Journal, InFile::Both, text);
        }
        for (what, told, made) in [
            ("tasks were created", self.told.created, counters.last_task),
            ("leases were granted", self.told.leased, counters.last_lease),
            ("outcomes and files were made", self.told.artifacts, counters.last_outcome),
        ] {
            if told != made {
                let text = format!("{made} {what}, but the trail tells of {told}");
                problem(ProblemKind::Journal, InFile::Both, text);
            }
        }
    }
}

fn is_not_less(now: &Counters, before: &Counters) -> bool {
    now.last_task >= before.last_task
        && now.last_lease >= before.last_lease
        && now.last_outcome >= before.last_outcome
        && now.removed_leases >= before.removed_leases
        && now.age_ms >= before.age_ms
        && now.last_change > before.last_change
}
