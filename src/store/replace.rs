//! Giving space back beside a running server: what is in use of a file is copied, row by row, to a new
//! file beside it, which then takes its name.
//!
//! Readers are not disturbed, and a copy can be given up between any two chunks. Must stay true: a copy
//! takes the name only when it is whole and on disk, and from its beginning to then nothing is written to
//! the file (`Slot::turn`); a table that is not copied stops it. Not here: when (`background::compaction`),
//! the reuse of free pages, which redb does by itself, and what needs no room beside the file (`compact`).

use super::place::Place;
use super::schema::{
    AUDIT, AUDIT_AGES, DELETIONS, HOT, KEYS, KEYS_BY_TASK, LARGE, LEASES, META, OUTCOMES,
    PART_SPEC, PARTS, TASKS, TASKS_BY_AGE, TASKS_BY_STATUS, UPLOADS, WORKERS,
};
use super::slot::{Access, Slot};
use super::{Compacted, Store, StoreError};
use redb::{
    Database, Durability, Key, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, TableDefinition, TableError, TableHandle, Value,
};
use rustix::fs::statvfs;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

/// Below this a file is not worth it.
const WORTH_BYTES: u64 = 64 << 20;
/// Of a file that is worth it less than this part is in use.
const IN_USE_PART: u64 = 2;
/// The writer copies the hot file itself, and callers wait meanwhile; so it must be little.
const HOT_IN_USE_MAX: u64 = 16 << 20;
/// What is copied between two looks whether to go on: some tens of milliseconds.
const CHUNK_BYTES: usize = 2 << 20;
const ROW_OVERHEAD_BYTES: usize = 32;
/// Tasks by which it is guessed what is in use of the archive.
const GUESSED_BY: u64 = 64;
/// Room that a copy leaves on the disk.
const SPARE_BYTES: u64 = 64 << 20;

impl Store {
    /// How often either file was written to since it was opened.
    pub fn writes(&self) -> u64 {
        self.hot.writes() + self.archive.writes()
    }

    /// Replaces the archive by a copy of what is in use of it, if that gives much back; `go_on` is asked
    /// after each chunk. Who wants to write to it waits meanwhile, who reads does not.
    pub fn compact_archive(
        &self,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Compacted>, StoreError> {
        let slot = &self.archive;
        let go_on = || !slot.is_hurried() && go_on();
        replace(slot, archive_in_use, &go_on, |copy| {
            Ok(copy.table(META)?
                && copy.table(TASKS)?
                && copy.table(PARTS)?
                && copy.table(TASKS_BY_STATUS)?
                && copy.table(TASKS_BY_AGE)?
                && copy.table(LEASES)?
                && copy.table(OUTCOMES)?
                && copy.table(AUDIT)?
                && copy.table(AUDIT_AGES)?
                && copy.table(UPLOADS)?
                && copy.table(DELETIONS)?)
        })
    }

    /// Whether `compact_hot` would do something.
    pub fn hot_is_worth_compacting(&self) -> Result<bool, StoreError> {
        let file_bytes = self.hot.place().size()?;
        let in_use = hot_in_use(&*self.hot.read()?, file_bytes)?;
        Ok(in_use <= HOT_IN_USE_MAX && is_worth(file_bytes, in_use))
    }

    /// The same for the hot file, by the writer, between two commits.
    pub fn compact_hot(&self) -> Result<Option<Compacted>, StoreError> {
        if !self.hot_is_worth_compacting()? {
            return Ok(None);
        }
        replace(&self.hot, hot_in_use, &|| true, |copy| {
            Ok(copy.table(META)?
                && copy.table(HOT)?
                && copy.table(LARGE)?
                && copy.table(WORKERS)?
                && copy.table(KEYS)?
                && copy.table(KEYS_BY_TASK)?)
        })
    }
}

fn is_worth(file_bytes: u64, in_use_bytes: u64) -> bool {
    file_bytes > WORTH_BYTES && in_use_bytes < file_bytes / IN_USE_PART
}

/// A generous guess.
pub(super) fn hot_in_use(hot: &Database, _file_bytes: u64) -> Result<u64, StoreError> {
    const SMALL_PART: u64 = 1 << 10;
    const LARGE_PART: u64 = 64 << 10;
    let txn = hot.begin_read()?;
    let small = rows(&txn, HOT)? + rows(&txn, KEYS)?;
    Ok(small * SMALL_PART + rows(&txn, LARGE)? * LARGE_PART)
}

fn rows<K: Key, V: Value>(
    txn: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<u64, StoreError> {
    match txn.open_table(table) {
        Ok(table) => Ok(table.len()?),
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        Err(other) => Err(other.into()),
    }
}

/// Guessed, and counted only where that promises something: for that every page in use is read.
fn archive_in_use(archive: &Database, file_bytes: u64) -> Result<u64, StoreError> {
    let guess = guess_archive_in_use(archive)?;
    if !is_worth(file_bytes, guess) {
        return Ok(guess);
    }
    let stats = archive.begin_write()?.stats()?;
    // Pages are not full, and a file grows in steps.
    Ok((stats.stored_bytes() + stats.metadata_bytes()) * 3 / 2)
}

/// By the size of some tasks, evenly among all.
fn guess_archive_in_use(archive: &Database) -> Result<u64, StoreError> {
    let txn = archive.begin_read()?;
    let (tasks, parts) = (txn.open_table(TASKS)?, txn.open_table(PARTS)?);
    let (Some((first, _)), Some((last, _))) = (tasks.first()?, tasks.last()?) else {
        return Ok(0);
    };
    let (first, last) = (first.value(), last.value());
    let (mut bytes, mut looked_at) = (0, 0);
    for n in 0..GUESSED_BY {
        let from = first + (last - first) / GUESSED_BY * n;
        let Some(row) = tasks.range(from..)?.next() else { break };
        let (seq, record) = row?;
        looked_at += 1;
        bytes += record.value().len() as u64;
        for part in parts.range((seq.value(), PART_SPEC)..=(seq.value(), u64::MAX))? {
            bytes += part?.1.value().len() as u64;
        }
    }
    Ok(bytes / looked_at.max(1) * tasks.len()?)
}

/// A file and its copy that is being made.
struct Copying<'c> {
    from: ReadTransaction,
    to: Database,
    copied: BTreeSet<String>,
    go_on: &'c dyn Fn() -> bool,
}

impl Copying<'_> {
    /// Copies a table; false when the copy is given up.
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<bool, StoreError> {
        self.copied.insert(table.name().to_owned());
        let from = match self.from.open_table(table) {
            Ok(from) => from,
            Err(TableError::TableDoesNotExist(_)) => return Ok(true),
            Err(other) => return Err(other.into()),
        };
        let mut rows = from.iter()?;
        let mut is_done = false;
        while !is_done {
            if !(self.go_on)() {
                return Ok(false);
            }
            let mut txn = self.to.begin_write()?;
            // The last commit makes all of them durable.
            txn.set_durability(Durability::None)?;
            {
                let mut to = txn.open_table(table)?;
                let mut bytes = 0;
                while bytes < CHUNK_BYTES && !is_done {
                    let Some(row) = rows.next() else {
                        is_done = true;
                        break;
                    };
                    let (key, value) = row?;
                    let (key, value) = (key.value(), value.value());
                    bytes += V::as_bytes(&value).as_ref().len() + ROW_OVERHEAD_BYTES;
                    to.insert(key, value)?;
                }
            }
            txn.commit()?;
        }
        Ok(true)
    }

    /// Makes the copy durable and closes it.
    fn finish(self) -> Result<(), StoreError> {
        for table in self.from.list_tables()? {
            if !self.copied.contains(table.name()) {
                return Err(StoreError::Io(format!("table {} would be lost", table.name())));
            }
        }
        let mut txn = self.to.begin_write()?;
        txn.set_quick_repair(true);
        txn.commit()?;
        Ok(())
    }
}

fn replace(
    slot: &Slot,
    in_use: impl Fn(&Database, u64) -> Result<u64, StoreError>,
    go_on: &dyn Fn() -> bool,
    copy_tables: impl Fn(&mut Copying<'_>) -> Result<bool, StoreError>,
) -> Result<Option<Compacted>, StoreError> {
    // A storage that was handed in has no name to be replaced.
    let Some(path) = slot.place().file_path() else { return Ok(None) };
    let before_bytes = slot.place().size()?;
    if before_bytes <= WORTH_BYTES || !slot.is_writable() {
        return Ok(None);
    }
    let turn = slot.turn();
    let in_use = in_use(&*slot.read()?, before_bytes)?;
    if !is_worth(before_bytes, in_use) || !has_room(path, in_use)? {
        return Ok(None);
    }
    let copy = slot.place().copy();
    copy.remove()?;
    let made = make_copy(slot, &copy, go_on, copy_tables).and_then(|is_whole| {
        if is_whole {
            let synced = File::open(copy.path()).and_then(|file| file.sync_all());
            synced.map_err(|error| StoreError::Unusable(copy.path().to_path_buf(), error))?;
            slot.replace(&turn, copy.path())?;
        }
        Ok(is_whole)
    });
    // One that has taken the name is not there any more.
    let removed = copy.remove();
    let is_whole = made?;
    removed?;
    let after_bytes = slot.place().size()?;
    let compacted = Compacted { path: path.to_path_buf(), before_bytes, after_bytes };
    Ok(is_whole.then_some(compacted))
}

/// False when it was given up.
fn make_copy(
    slot: &Slot,
    copy: &Place,
    go_on: &dyn Fn() -> bool,
    copy_tables: impl Fn(&mut Copying<'_>) -> Result<bool, StoreError>,
) -> Result<bool, StoreError> {
    let (from, to) = (slot.read()?.begin_read()?, copy.open(Access::Write)?);
    let mut copying = Copying { from, to, copied: BTreeSet::new(), go_on };
    if !copy_tables(&mut copying)? {
        return Ok(false);
    }
    copying.finish()?;
    Ok(true)
}

fn has_room(path: &Path, in_use: u64) -> Result<bool, StoreError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let disk = statvfs(dir).map_err(|error| StoreError::Unusable(dir.into(), error.into()))?;
    // A file grows by a third more than it needs, at most.
    let needed = in_use + in_use / 3 + SPARE_BYTES;
    let has_room = disk.f_bavail.saturating_mul(disk.f_frsize) >= needed;
    if !has_room {
        log::warn!(
            "compaction of {} needs {} MiB of free space; free some, or stop the server and run bloom-runtime compact, which needs none",
            path.display(),
            needed >> 20
        );
    }
    Ok(has_room)
}
