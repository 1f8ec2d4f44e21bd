//! Opening the two files of a data directory, or of any two backends.
//!
//! Must stay true: one process at a time; a file that is newer, damaged or alone is refused and left
//! as it is; nothing is created beside data that is there. The backends are handed in at
//! `open_backends`, which is how power loss and full disks are tried. Not here: what is in the files.

use super::overlay::Overlay;
use super::schema::{
    AUDIT, FORMAT, HOT, LARGE, LEASES, META, META_FORMAT, OUTCOMES, PARTS, TASKS, TASKS_BY_AGE,
    TASKS_BY_STATUS, WORKERS,
};
use super::slot::{Access, Slot};
use super::{StoreError, keep, migrate};
use crate::logging::quietly;
use redb::backends::FileBackend;
use redb::{Builder, Database, ReadOnlyDatabase, ReadableDatabase, StorageBackend};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Memory for pages of the hot file; redb's own default is 1 GiB.
pub(super) const HOT_CACHE_BYTES: usize = 6 << 20;
pub(super) const ARCHIVE_CACHE_BYTES: usize = 2 << 20;
/// A hot file above this size is compacted at the start, if little of it is in use.
const COMPACT_ABOVE_BYTES: u64 = 32 << 20;

/// Tasks that a migration does between two lines.
const SAID_EVERY_TASKS: u64 = 200_000;

/// Both files, open.
pub struct Store {
    pub(super) hot: Slot,
    pub(super) archive: Slot,
}

/// What opening found, for the start's lines.
#[derive(Clone, Debug)]
pub struct Opened {
    pub hot_bytes: u64,
    pub archive_bytes: u64,
    /// Bytes that compaction gave back.
    pub given_back_bytes: u64,
    /// Copies that were kept before a migration.
    pub kept: Vec<PathBuf>,
}

impl Store {
    /// Opens the data directory, creating it (0700) and its files (0600) when they are new.
    pub fn open(dir: &Path) -> Result<(Store, Opened), StoreError> {
        let unusable = |error| StoreError::Unusable(dir.to_path_buf(), error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable)?;
        let (hot, archive) = (dir.join("hot.redb"), dir.join("archive.redb"));
        let before = (size(&hot), size(&archive));
        if before.0 > 0 && before.1 == 0 {
            return Err(StoreError::Missing { path: archive, beside: hot });
        }
        let archive_is_clean = check(&archive)?;
        let hot_is_clean = check(&hot)?;
        let open_hot = || open_file(&hot, HOT_CACHE_BYTES, Access::Write);
        let open_archive = || open_file(&archive, ARCHIVE_CACHE_BYTES, Access::Write);
        let (hot_db, archive_db) = if before.0 > 0 {
            // What must be repaired first, and may turn out to be damaged, is tried before the other
            // is touched.
            if hot_is_clean && !archive_is_clean {
                let archive_db = open_archive()?;
                (open_hot()?, archive_db)
            } else {
                (open_hot()?, open_archive()?)
            }
        } else {
            // A hot file is never made without an archive, whenever the first start is cut off.
            let archive_db = open_archive()?;
            if !is_empty(&archive_db)? {
                return Err(StoreError::Missing { path: hot, beside: archive });
            }
            (open_hot()?, archive_db)
        };
        refuse_newer(&archive, stored_format(&archive_db)?)?;
        refuse_newer(&hot, stored_format(&hot_db)?)?;
        let old_hot = stored_format(&hot_db)? == Some(1);
        let old_archive =
            stored_format(&archive_db)? == Some(1) && !migrate::has_begun(&archive_db)?;
        let (mut hot_db, archive_db, kept) = if old_hot || old_archive {
            // Closed, so that the copies are whole files that need no repair.
            drop((hot_db, archive_db));
            let old = [(old_hot, hot.as_path()), (old_archive, archive.as_path())];
            let old: Vec<&Path> =
                old.iter().filter(|(old, _)| *old).map(|(_, path)| *path).collect();
            let kept = keep::keep_copies(&old, 1)?;
            (open_hot()?, open_archive()?, kept)
        } else {
            (hot_db, archive_db, Vec::new())
        };
        let grown = size(&hot);
        if grown > COMPACT_ABOVE_BYTES && is_mostly_free(&hot_db, grown)? {
            hot_db.compact().map_err(|error| StoreError::Io(error.to_string()))?;
        }
        let opened = Opened {
            hot_bytes: size(&hot),
            archive_bytes: size(&archive),
            given_back_bytes: grown.saturating_sub(size(&hot)),
            kept,
        };
        prepare(&hot_db, &archive_db)?;
        let store = Store {
            hot: slot_of_file(hot_db, hot, HOT_CACHE_BYTES),
            archive: slot_of_file(archive_db, archive, ARCHIVE_CACHE_BYTES),
        };
        Ok((store, opened))
    }

    /// Opens, or creates, a store in any two backends, whose clones are the same storage.
    pub fn open_backends(
        hot: impl StorageBackend + Clone,
        archive: impl StorageBackend + Clone,
    ) -> Result<Store, StoreError> {
        let archive = slot_of_backend(archive, ARCHIVE_CACHE_BYTES)?;
        let hot = slot_of_backend(hot, HOT_CACHE_BYTES)?;
        prepare(&*hot.read()?, &*archive.read()?)?;
        Ok(Store { hot, archive })
    }

    /// Opens anew what an I/O error has made useless, for reading if it cannot be written. Says whether
    /// the hot file was opened anew. While one of them cannot be opened at all, nothing can be done.
    pub fn mend(&self) -> Result<bool, StoreError> {
        self.archive.mend()?;
        self.hot.mend()
    }

    /// Whether the hot file can be written, as far as is known.
    pub fn is_writable(&self) -> bool {
        self.hot.is_writable()
    }
}

fn slot_of_file(database: Database, path: PathBuf, cache_bytes: usize) -> Slot {
    let open = move |access| {
        // A file that is gone is not made anew: an empty one would look like a healthy store.
        if size(&path) == 0 {
            let gone = std::io::ErrorKind::NotFound.into();
            return Err(StoreError::Unusable(path.clone(), gone));
        }
        open_file(&path, cache_bytes, access)
    };
    Slot::new(database, Box::new(open))
}

fn slot_of_backend(
    backend: impl StorageBackend + Clone,
    cache_bytes: usize,
) -> Result<Slot, StoreError> {
    let name = Path::new("backend");
    let open = move |access| {
        let result = match access {
            Access::Write => builder(cache_bytes).create_with_backend(backend.clone()),
            Access::Read => {
                let overlay = Overlay::over(backend.clone()).map_err(redb::StorageError::from);
                overlay
                    .map_err(redb::DatabaseError::from)
                    .and_then(|overlay| builder(cache_bytes).create_with_backend(overlay))
            }
        };
        result.map_err(|error| StoreError::opening(name, error))
    };
    let open = move |access| guarded(name, || open(access));
    Ok(Slot::new(open(Access::Write)?, Box::new(open)))
}

/// Creates the tables of a new file, so that every reader finds them, and migrates an old one.
fn prepare(hot: &Database, archive: &Database) -> Result<(), StoreError> {
    if stored_format(archive)?.is_none() {
        let mut txn = archive.begin_write()?;
        txn.set_quick_repair(true);
        txn.open_table(META)?.insert(META_FORMAT, FORMAT.to_string().as_bytes())?;
        txn.open_table(TASKS)?;
        txn.open_table(PARTS)?;
        txn.open_table(TASKS_BY_STATUS)?;
        txn.open_table(TASKS_BY_AGE)?;
        txn.open_table(LEASES)?;
        txn.open_table(OUTCOMES)?;
        txn.open_table(AUDIT)?;
        txn.commit()?;
    }
    if stored_format(hot)?.is_none() {
        let mut txn = hot.begin_write()?;
        txn.set_two_phase_commit(true);
        txn.open_table(META)?.insert(META_FORMAT, FORMAT.to_string().as_bytes())?;
        txn.open_table(HOT)?;
        txn.open_table(LARGE)?;
        txn.open_table(WORKERS)?;
        txn.commit()?;
    }
    let mut said = 0;
    migrate::migrate(hot, archive, |done, all| {
        // A line a second or so, and none for a small archive.
        if done - said >= SAID_EVERY_TASKS {
            said = done;
            log::info!("migrating the archive: {done} of {all} tasks");
        }
    })
}

fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes);
    builder
}

pub(super) fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

pub(super) fn open_file(
    path: &Path,
    cache_bytes: usize,
    access: Access,
) -> Result<Database, StoreError> {
    let unusable = |error| StoreError::Unusable(path.to_path_buf(), error);
    let opening = |error| StoreError::opening(path, error);
    let name = path.to_path_buf();
    let mut builder = builder(cache_bytes);
    builder.set_repair_callback(move |session| {
        log::info!("repairing file={} progress={:.0}%", name.display(), session.progress() * 100.0);
    });
    guarded(path, || match access {
        Access::Write => {
            let file = FileBackend::new(private_file(path).map_err(unusable)?).map_err(opening)?;
            builder.create_with_backend(file).map_err(opening)
        }
        Access::Read => {
            let file = FileBackend::new(File::open(path).map_err(unusable)?).map_err(opening)?;
            let overlay = Overlay::over(file).map_err(unusable)?;
            builder.create_with_backend(overlay).map_err(opening)
        }
    })
}

fn private_file(path: &Path) -> std::io::Result<File> {
    let existed = path.exists();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    if !existed && let Some(dir) = path.parent() {
        // The name itself must survive power loss before anything is answered from the file.
        File::open(dir)?.sync_all()?;
    }
    Ok(file)
}

/// redb asserts what a healthy file guarantees; on a damaged one such a panic is a finding.
pub(super) fn guarded<T>(
    path: &Path,
    open: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    quietly(open).unwrap_or_else(|| {
        Err(StoreError::Damaged(path.to_path_buf(), "its structure contradicts itself".into()))
    })
}

/// Refuses a file of a newer version before anything is written to it, and tells whether it was
/// closed cleanly: otherwise it cannot be read this way, and is looked at again once it is repaired.
pub(super) fn check(path: &Path) -> Result<bool, StoreError> {
    if size(path) == 0 {
        return Ok(true);
    }
    let found = guarded(path, || match ReadOnlyDatabase::open(path) {
        Ok(db) => stored_format(&db),
        Err(redb::DatabaseError::RepairAborted) => Ok(None),
        Err(error) => Err(StoreError::opening(path, error)),
    });
    match found {
        Ok(found) => refuse_newer(path, found).map(|()| found.is_some()),
        Err(StoreError::Io(why)) => Err(StoreError::Damaged(path.to_path_buf(), why)),
        Err(other) => Err(other),
    }
}

fn refuse_newer(path: &Path, found: Option<u64>) -> Result<(), StoreError> {
    match found {
        Some(found) if found > FORMAT => {
            Err(StoreError::Newer { path: path.to_path_buf(), found, known: FORMAT })
        }
        _ => Ok(()),
    }
}

/// Whether compaction would be small work for much space, by a generous guess at what is in use.
fn is_mostly_free(hot: &Database, file_bytes: u64) -> Result<bool, StoreError> {
    const SMALL_PART: u64 = 1 << 10;
    const LARGE_PART: u64 = 64 << 10;
    let txn = hot.begin_read()?;
    let rows = |table| match txn.open_table(table) {
        Ok(table) => Ok(redb::ReadableTableMetadata::len(&table)?),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(0),
        Err(other) => Err(StoreError::from(other)),
    };
    let in_use = rows(HOT)? * SMALL_PART + rows(LARGE)? * LARGE_PART;
    Ok(in_use < file_bytes / 4)
}

pub(super) fn stored_format(db: &impl ReadableDatabase) -> Result<Option<u64>, StoreError> {
    let meta = match db.begin_read()?.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(other) => return Err(other.into()),
    };
    let Some(bytes) = meta.get(META_FORMAT)? else { return Ok(None) };
    let text = String::from_utf8_lossy(bytes.value());
    text.parse().map(Some).map_err(|_| StoreError::Io(format!("format '{text}' is no number")))
}

fn is_empty(archive: &Database) -> Result<bool, StoreError> {
    let txn = archive.begin_read()?;
    match txn.open_table(AUDIT) {
        Ok(audit) => Ok(redb::ReadableTableMetadata::is_empty(&audit)?),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(true),
        Err(other) => Err(other.into()),
    }
}
