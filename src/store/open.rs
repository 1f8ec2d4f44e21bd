//! Opening the two files of a data directory, or of any two backends.
//!
//! Must stay true: one process at a time; a file that is newer, damaged or alone is refused and left
//! as it is; nothing is created beside data that is there. The backends are handed in at
//! `open_backends`, which is how power loss and full disks are tried. Not here: what is in the files.

use super::files::Folder;
use super::objects::ObjectRules;
use super::place::Place;
use super::replace::hot_in_use;
use super::schema::{
    AUDIT, AUDIT_AGES, DELETIONS, FORMAT, HOT, KEYS, KEYS_BY_TASK, LARGE, LEASES, META,
    META_FORMAT, OUTCOMES, PARTS, TASKS, TASKS_BY_AGE, TASKS_BY_STATUS, UPLOADS, WORKERS,
};
use super::slot::{Access, Slot};
use super::{StoreError, keep, migrate};
use redb::{Database, ReadableDatabase, ReadableTableMetadata, StorageBackend};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Memory for pages of the hot file; redb's own default is 1 GiB. Six times as much made nothing faster,
/// since the kernel keeps the file's pages too; with half of it commits write more (docs/decisions/0012).
const HOT_CACHE_BYTES: usize = 1 << 20;
const ARCHIVE_CACHE_BYTES: usize = 1 << 20;
/// Tasks that a migration does between two lines.
const SAID_EVERY_TASKS: u64 = 200_000;

/// Both files, open.
pub struct Store {
    pub(super) hot: Slot,
    pub(super) archive: Slot,
    pub(super) objects: OnceLock<ObjectRules>,
    pub(super) files: Option<Arc<Folder>>,
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

/// What may differ between a server and a proof.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A hot file above this size is compacted at the start, if little of it is in use.
    pub compact_above_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { compact_above_bytes: 32 << 20 }
    }
}

impl Store {
    /// Opens the data directory, creating it (0700) and its files (0600) when they are new.
    pub fn open(dir: &Path) -> Result<(Store, Opened), StoreError> {
        make_directory(dir).map_err(|error| StoreError::Unusable(dir.to_path_buf(), error))?;
        let (hot, archive) = files_of(dir);
        let (mut store, opened) = open_places(hot, archive, Limits::default())?;
        let folder =
            Folder::open(dir).map_err(|error| StoreError::Unusable(dir.join("files"), error))?;
        store.files = Some(Arc::new(folder));
        Ok((store, opened))
    }

    /// Opens, or creates, a store in any two backends, as it is opened in a directory.
    pub fn open_backends(
        hot: impl StorageBackend,
        archive: impl StorageBackend,
    ) -> Result<Store, StoreError> {
        Ok(Store::open_backends_within(hot, archive, Limits::default())?.0)
    }

    /// The same within other limits.
    pub fn open_backends_within(
        hot: impl StorageBackend,
        archive: impl StorageBackend,
        limits: Limits,
    ) -> Result<(Store, Opened), StoreError> {
        let hot = Place::backend("hot.redb", hot, HOT_CACHE_BYTES);
        let archive = Place::backend("archive.redb", archive, ARCHIVE_CACHE_BYTES);
        open_places(hot, archive, limits)
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

/// Where the two files of a data directory lie.
pub(super) fn files_of(dir: &Path) -> (Place, Place) {
    (
        Place::file(dir.join("hot.redb"), HOT_CACHE_BYTES),
        Place::file(dir.join("archive.redb"), ARCHIVE_CACHE_BYTES),
    )
}

/// Creates the directory, in such a way that its name survives power loss.
fn make_directory(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for new in missing {
        let parent = new.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

fn open_places(hot: Place, archive: Place, limits: Limits) -> Result<(Store, Opened), StoreError> {
    let missing = |gone: &Place, beside: &Place| {
        let (path, beside) = (gone.path().to_path_buf(), beside.path().to_path_buf());
        Err(StoreError::Missing { path, beside })
    };
    let (hot_is_there, archive_is_there) = (hot.size()? > 0, archive.size()? > 0);
    if hot_is_there && !archive_is_there {
        return missing(&archive, &hot);
    }
    let archive_is_clean = !archive_is_there || check(&archive)?;
    let hot_is_clean = !hot_is_there || check(&hot)?;
    let (hot_db, archive_db) = if hot_is_there {
        // What must be repaired first, and may turn out to be damaged, is tried before the other is
        // touched.
        if hot_is_clean && !archive_is_clean {
            let archive_db = archive.open(Access::Write)?;
            (hot.open(Access::Write)?, archive_db)
        } else {
            (hot.open(Access::Write)?, archive.open(Access::Write)?)
        }
    } else {
        // A hot file is never made without an archive, whenever the first start is cut off.
        let archive_db = archive.open(Access::Write)?;
        if !is_empty(&archive_db)? {
            return missing(&hot, &archive);
        }
        (hot.open(Access::Write)?, archive_db)
    };
    for place in [&hot, &archive].into_iter().filter(|place| place.file_path().is_some()) {
        // A crash may have left one unfinished; now that both are held it is nobody's.
        place.copy().remove()?;
    }
    refuse_newer(archive.path(), stored_format(&archive_db)?)?;
    refuse_newer(hot.path(), stored_format(&hot_db)?)?;
    let (mut hot_db, archive_db, kept) = keep_old((&hot, hot_db), (&archive, archive_db))?;
    let grown = hot.size()?;
    // Small work for much space.
    if grown > limits.compact_above_bytes && hot_in_use(&hot_db, grown)? < grown / 4 {
        hot_db.compact().map_err(|error| StoreError::Io(error.to_string()))?;
    }
    prepare(&hot_db, &archive_db)?;
    let hot_bytes = hot.size()?;
    let opened = Opened {
        hot_bytes,
        archive_bytes: archive.size()?,
        given_back_bytes: grown.saturating_sub(hot_bytes),
        kept,
    };
    let (hot, archive) = (Slot::new(hot_db, hot), Slot::new(archive_db, archive));
    Ok((Store { hot, archive, objects: OnceLock::new(), files: None }, opened))
}

/// Keeps copies of files of an older format, before anything of them is changed.
fn keep_old(
    (hot, hot_db): (&Place, Database),
    (archive, archive_db): (&Place, Database),
) -> Result<(Database, Database, Vec<PathBuf>), StoreError> {
    let older = |db| Ok::<_, StoreError>(stored_format(db)?.filter(|format| *format < FORMAT));
    let hot_format = older(&hot_db)?;
    let archive_format = match older(&archive_db)? {
        Some(_) if migrate::has_begun(&archive_db)? => None,
        found => found,
    };
    let found = [(hot, hot_format), (archive, archive_format)];
    let old = found.into_iter().filter_map(|(place, format)| Some((place.file_path()?, format?)));
    let old: Vec<(&Path, u64)> = old.collect();
    if old.is_empty() {
        return Ok((hot_db, archive_db, Vec::new()));
    }
    // Closed, so that the copies are whole files that need no repair.
    drop((hot_db, archive_db));
    let kept = keep::keep_copies(&old)?;
    Ok((hot.open(Access::Write)?, archive.open(Access::Write)?, kept))
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
        txn.open_table(UPLOADS)?;
        txn.open_table(DELETIONS)?;
        txn.open_table(AUDIT_AGES)?;
        txn.commit()?;
    }
    if stored_format(hot)?.is_none() {
        let mut txn = hot.begin_write()?;
        txn.set_two_phase_commit(true);
        txn.open_table(META)?.insert(META_FORMAT, FORMAT.to_string().as_bytes())?;
        txn.open_table(HOT)?;
        txn.open_table(LARGE)?;
        txn.open_table(WORKERS)?;
        txn.open_table(KEYS)?;
        txn.open_table(KEYS_BY_TASK)?;
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

/// Refuses a file of a newer version before anything is written to it, and tells whether it was
/// closed cleanly: otherwise it is looked at again once it is repaired.
pub(super) fn check(place: &Place) -> Result<bool, StoreError> {
    match place.look(stored_format) {
        Ok(Some(found)) => refuse_newer(place.path(), found).map(|()| found.is_some()),
        Ok(None) => Ok(false),
        Err(StoreError::Io(why)) => Err(StoreError::Damaged(place.path().to_path_buf(), why)),
        Err(other) => Err(other),
    }
}

pub(super) fn refuse_newer(path: &Path, found: Option<u64>) -> Result<(), StoreError> {
    match found {
        Some(found) if found > FORMAT => {
            Err(StoreError::Newer { path: path.to_path_buf(), found, known: FORMAT })
        }
        _ => Ok(()),
    }
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
        Ok(audit) => Ok(audit.is_empty()?),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(true),
        Err(other) => Err(other.into()),
    }
}
