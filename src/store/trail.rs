//! The audit trail's age, and its oldest entries' end.
//!
//! Must stay true: an entry goes only when it is older than the whole time that it is kept, counted on
//! served time (P4), and never while its journal record may still be in the hot file; what is removed is
//! counted in the same commit, so that an examination still adds up. Not here: how long (`engine`), how
//! the trail is read (`archive`).

use super::archive::Archive;
use super::hot::JournalKey;
use super::schema::{AUDIT, AUDIT_AGES, AuditRemoved, META, META_AUDIT_REMOVED};
use super::{Counters, JournalRecord, Store, StoreError};
use crate::domain::EventKind;
use redb::{ReadTransaction, ReadableDatabase, ReadableTable, TableError, WriteTransaction};
use serde::Deserialize;

/// Entries share a row for so much of the store's age.
const ROW_MS: u64 = 3_600_000;

/// The part of an entry that is counted.
#[derive(Deserialize)]
struct Told {
    action: String,
}

impl AuditRemoved {
    /// Counts an entry with this action as one more.
    pub fn take(&mut self, action: &str) {
        self.entries += 1;
        self.created += u64::from(action == EventKind::TaskCreated.as_str());
        self.leased += u64::from(action == EventKind::TaskLeased.as_str());
        let made = [EventKind::TaskCompleted, EventKind::ArtifactAdded];
        self.artifacts += u64::from(made.iter().any(|kind| kind.as_str() == action));
    }
}

/// In the commit that brings the entries of these records: they were told before the end of an hour of
/// service.
pub(super) fn note_age_of_trail(
    txn: &WriteTransaction,
    journal: &[(JournalKey, JournalRecord)],
) -> Result<(), StoreError> {
    if let Some((_, newest)) = journal.last() {
        let Counters { age_ms, last_change, .. } = newest.counters;
        let end_ms = (age_ms / ROW_MS + 1).saturating_mul(ROW_MS);
        txn.open_table(AUDIT_AGES)?.insert(end_ms, last_change)?;
    }
    Ok(())
}

/// What was removed so far.
fn audit_removed(txn: &ReadTransaction) -> Result<AuditRemoved, StoreError> {
    match txn.open_table(META)?.get(META_AUDIT_REMOVED)? {
        Some(bytes) => Ok(serde_json::from_slice(bytes.value())?),
        None => Ok(AuditRemoved::default()),
    }
}

impl Archive {
    /// The newest change that was told, as all before it, when the store had this age.
    pub fn told_until(&self, age_ms: u64) -> Result<Option<u64>, StoreError> {
        let ages = match self.txn.open_table(AUDIT_AGES) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            ages => ages?,
        };
        let row = ages.range(..=age_ms)?.next_back().transpose()?;
        Ok(row.map(|(_, change)| change.value()))
    }

    /// The store's age when the oldest entries were all told.
    pub fn oldest_told_age_ms(&self) -> Result<Option<u64>, StoreError> {
        match self.txn.open_table(AUDIT_AGES) {
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            ages => Ok(ages?.range::<u64>(..)?.next().transpose()?.map(|(age, _)| age.value())),
        }
    }

    pub fn audit_removed(&self) -> Result<AuditRemoved, StoreError> {
        audit_removed(&self.txn)
    }

    /// How many entries there are until this change, counted to `most`.
    pub fn audit_until(&self, change: u64, most: usize) -> Result<usize, StoreError> {
        Ok(self.txn.open_table(AUDIT)?.range(..=change)?.take(most).count())
    }

    /// When the oldest entry was told, by the clock on the wall.
    pub fn oldest_audit_at(&self) -> Result<Option<i64>, StoreError> {
        #[derive(Deserialize)]
        struct Stamp {
            timestamp: i64,
        }
        let Some(row) = self.txn.open_table(AUDIT)?.range::<u64>(..)?.next() else {
            return Ok(None);
        };
        Ok(Some(serde_json::from_slice::<Stamp>(row?.1.value())?.timestamp))
    }
}

impl Store {
    /// Removes at most `most` entries, the oldest, of those until the change `until`, whose journal records
    /// have left the hot file, and says how many. When there are none nothing is written.
    pub fn remove_audit(&self, until: u64, most: usize) -> Result<usize, StoreError> {
        let archive = self.archive.write()?;
        let mut removed = audit_removed(&archive.begin_read()?)?;
        let mut txn = archive.begin_write()?;
        txn.set_quick_repair(true);
        let mut count = 0;
        {
            let mut audit = txn.open_table(AUDIT)?;
            let mut gone = Vec::new();
            for row in audit.range(..=until)?.take(most) {
                let (change, bytes) = row?;
                removed.take(&serde_json::from_slice::<Told>(bytes.value())?.action);
                gone.push(change.value());
            }
            if let Some(last) = gone.last() {
                removed.through = *last;
                audit.retain_in(..=*last, |_, _| false)?;
                count = gone.len();
            }
        }
        // Rows that tell of nothing any more go too, the last one with the last of its entries.
        let is_last = count < most;
        if is_last {
            removed.through = removed.through.max(until);
        }
        let through = removed.through;
        let mut ages_gone = 0;
        txn.open_table(AUDIT_AGES)?.retain(|_, change| {
            ages_gone += u32::from(change <= through);
            change > through
        })?;
        if count == 0 && ages_gone == 0 {
            txn.abort()?;
            return Ok(0);
        }
        let bytes = serde_json::to_vec(&removed)?;
        txn.open_table(META)?.insert(META_AUDIT_REMOVED, bytes.as_slice())?;
        txn.commit()?;
        Ok(count)
    }
}
