//! The hot file's idempotency keys, held against the journal and against each other.
//!
//! Must stay true: each table is walked in its own order and asked for one row, never held in memory; no
//! key is a part of a text. A key whose task is in neither file is none: retention may take a task before
//! its key is old. Not here: the tasks themselves.

use super::findings::{Findings, InFile, ProblemKind};
use crate::store::StoreError;
use crate::store::schema::{Counters, KEYS, KEYS_BY_TASK};
use redb::{ReadTransaction, ReadableTableMetadata};

/// Bytes of a row's numbers, over both tables.
const NUMBERS_BYTES: u64 = 24;

pub fn check(
    findings: &mut Findings,
    hot: &ReadTransaction,
    counters: Option<Counters>,
) -> Result<(), StoreError> {
    let (keys, by_task) = (hot.open_table(KEYS)?, hot.open_table(KEYS_BY_TASK)?);
    let counters = counters.unwrap_or_default();
    let mut right = 0;
    let mut youngest_ms = 0;
    for row in by_task.range::<u64>(..)? {
        let (seq, row) = row?;
        let (seq, (age_ms, key)) = (seq.value(), row.value());
        findings.contents.idempotency_keys += 1;
        findings.contents.hot_record_bytes += 2 * key.len() as u64 + NUMBERS_BYTES;
        let mut wrong = |text: &str| {
            let text = format!("the idempotency key of task number {seq} {text}");
            findings.problem(ProblemKind::Key, InFile::Hot, text);
        };
        if seq > counters.last_task {
            wrong("is there, the task never was");
        }
        if age_ms > counters.age_ms || age_ms < youngest_ms {
            wrong(&format!("has the age {age_ms}, at which it was not created"));
        }
        youngest_ms = youngest_ms.max(age_ms);
        match keys.get(key)?.map(|found| found.value()) {
            Some(found) if found == seq => right += 1,
            Some(found) => wrong(&format!("leads to task number {found}")),
            None => wrong("leads to no task"),
        }
    }
    if keys.len()? == right {
        return Ok(());
    }
    for row in keys.range::<&str>(..)? {
        let (key, seq) = row?;
        let (key, seq) = (key.value(), seq.value());
        if by_task.get(seq)?.is_none_or(|found| found.value().1 != key) {
            let text = format!(
                "an idempotency key leads to task number {seq}, which was not created under it"
            );
            findings.problem(ProblemKind::Key, InFile::Hot, text);
        }
    }
    Ok(())
}
