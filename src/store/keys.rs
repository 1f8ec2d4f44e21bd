//! Idempotency keys in the hot file: which task was created under which key, and how old it is.
//!
//! Must stay true: a key is written in the commit that creates its task (P6); both tables say the same;
//! age is the store's (P4). Not here: how long a key counts, and what a repeated one answers
//! (`engine::core`).

use super::schema::{KEYS, KEYS_BY_TASK};
use super::{Hot, HotChanges, StoreError};
use crate::domain::IdempotencyKey;
use redb::{ReadableTableMetadata, WriteTransaction};

/// What was created under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyedTask {
    pub seq: u64,
    /// The store's age at the creation.
    pub age_ms: u64,
}

impl HotChanges {
    pub(super) fn write_keys(&self, txn: &WriteTransaction) -> Result<(), StoreError> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let mut keys = txn.open_table(KEYS)?;
        let mut by_task = txn.open_table(KEYS_BY_TASK)?;
        for seq in &self.old_keys {
            if let Some(row) = by_task.remove(seq)? {
                keys.remove(row.value().1)?;
            }
        }
        for (key, KeyedTask { seq, age_ms }) in &self.keys {
            if let Some(older) = keys.insert(key.as_str(), seq)? {
                by_task.remove(older.value())?;
            }
            by_task.insert(seq, (*age_ms, key.as_str()))?;
        }
        Ok(())
    }
}

impl Hot {
    /// What was created under this key last.
    pub fn keyed_task(&self, key: &IdempotencyKey) -> Result<Option<KeyedTask>, StoreError> {
        let Some(seq) = self.txn.open_table(KEYS)?.get(key.as_str())? else { return Ok(None) };
        let seq = seq.value();
        let row = self.txn.open_table(KEYS_BY_TASK)?.get(seq)?;
        Ok(row.map(|row| KeyedTask { seq, age_ms: row.value().0 }))
    }

    /// The oldest tasks from `from` on whose keys are older than `age_ms`.
    pub fn old_keys(&self, from: u64, age_ms: u64, limit: usize) -> Result<Vec<u64>, StoreError> {
        let mut old = Vec::new();
        for row in self.txn.open_table(KEYS_BY_TASK)?.range(from..)?.take(limit) {
            let (seq, row) = row?;
            if row.value().0 >= age_ms {
                break;
            }
            old.push(seq.value());
        }
        Ok(old)
    }

    pub fn keys_held(&self) -> Result<u64, StoreError> {
        Ok(self.txn.open_table(KEYS_BY_TASK)?.len()?)
    }
}
