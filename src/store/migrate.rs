//! Files of an older format, brought to the present one.
//!
//! Format 2 gives each archived task a row in `TASKS_BY_AGE`. Works on open databases, so that a
//! migration can be cut off at every point. Must stay true: steps are bounded and each is one commit
//! that also says how far it came, so a migration that was cut off goes on where it was; the format
//! is raised in the commit of the last step, and the hot file's after the archive's. Not here: the
//! copies that are kept before (`keep`).

use super::StoreError;
use super::open::stored_format;
use super::schema::{FORMAT, META, META_FORMAT, META_MIGRATED, TASKS_BY_AGE, TASKS_BY_STATUS};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata};

/// Rows of one step: some tens of milliseconds of work.
const ROWS_AT_ONCE: usize = 20_000;

/// Brings both files from any older format to the present one. `progress` hears the tasks that are
/// done and how many there are, after each step.
pub fn migrate(
    hot: &Database,
    archive: &Database,
    mut progress: impl FnMut(u64, u64),
) -> Result<(), StoreError> {
    if stored_format(archive)? == Some(1) {
        let all = archive.begin_read()?.open_table(TASKS_BY_STATUS)?.len()?;
        let mut done = 0;
        while let Some(rows) = give_ages(archive)? {
            done += rows;
            progress(done.min(all), all);
        }
    }
    if stored_format(hot)? == Some(1) {
        let mut txn = hot.begin_write()?;
        txn.set_two_phase_commit(true);
        txn.open_table(META)?.insert(META_FORMAT, FORMAT.to_string().as_bytes())?;
        txn.commit()?;
    }
    Ok(())
}

/// Whether a migration of this file has begun, after which it is no file to keep a copy of.
pub fn has_begun(archive: &Database) -> Result<bool, StoreError> {
    Ok(archive.begin_read()?.open_table(META)?.get(META_MIGRATED)?.is_some())
}

/// One step: rows for the next tasks, all at the age 0 of a store that has not counted it so far.
/// None when that was the last step.
fn give_ages(archive: &Database) -> Result<Option<u64>, StoreError> {
    let mut txn = archive.begin_write()?;
    txn.set_quick_repair(true);
    let mut done = 0;
    {
        let mut meta = txn.open_table(META)?;
        let by_status = txn.open_table(TASKS_BY_STATUS)?;
        let mut by_age = txn.open_table(TASKS_BY_AGE)?;
        let last: Option<(u8, u64)> = match meta.get(META_MIGRATED)? {
            Some(bytes) => Some(serde_json::from_slice(bytes.value())?),
            None => None,
        };
        let from = last.map_or((0, 0), |(status, seq)| (status, seq + 1));
        let mut last = None;
        for row in by_status.range(from..)?.take(ROWS_AT_ONCE) {
            let (status, seq) = row?.0.value();
            by_age.insert((status, 0, seq), ())?;
            last = Some((status, seq));
            done += 1;
        }
        match last {
            Some(last) => {
                meta.insert(META_MIGRATED, serde_json::to_vec(&last)?.as_slice())?;
            }
            None => {
                meta.remove(META_MIGRATED)?;
                meta.insert(META_FORMAT, FORMAT.to_string().as_bytes())?;
            }
        }
    }
    txn.commit()?;
    Ok((done > 0).then_some(done))
}
