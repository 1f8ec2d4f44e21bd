//! Compaction: giving the space of removed records back to the filesystem.
//!
//! redb moves the pages at the end of a file to free places before them and cuts the file off. It
//! needs the database for itself, so this is an operator's command on a stopped server. Must stay
//! true: nothing is lost whenever it is cut off, the next open repairs the file. Not here: the reuse
//! of free pages while running, which redb does by itself.

use super::StoreError;
use super::open::{ARCHIVE_CACHE_BYTES, HOT_CACHE_BYTES, Store, check, open_file, size};
use super::slot::Access;
use redb::Database;
use std::path::{Path, PathBuf};

/// What the compaction of one file did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compacted {
    pub path: PathBuf,
    pub before_bytes: u64,
    pub after_bytes: u64,
}

/// Compacts both files of a data directory, which no server may have open. `begins` hears each file
/// and its size before it is worked on.
pub fn compact(
    dir: &Path,
    mut begins: impl FnMut(&Path, u64),
) -> Result<Vec<Compacted>, StoreError> {
    let files =
        [(dir.join("hot.redb"), HOT_CACHE_BYTES), (dir.join("archive.redb"), ARCHIVE_CACHE_BYTES)];
    if let Some((missing, _)) = files.iter().find(|(path, _)| size(path) == 0) {
        let why = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(StoreError::Unusable(missing.clone(), why));
    }
    let before: Vec<u64> = files.iter().map(|(path, _)| size(path)).collect();
    // Refuses what a start would refuse, and holds nothing afterwards.
    drop(Store::open(dir)?);
    // Both are held to the end, so that no server starts on one of them in between.
    let mut open = Vec::new();
    for (path, cache_bytes) in &files {
        check(path)?;
        open.push(open_file(path, *cache_bytes, Access::Write)?);
    }
    for ((path, _), db) in files.iter().zip(&mut open) {
        begins(path, size(path));
        compact_database(db)?;
    }
    // Closing trims them once more.
    drop(open);
    let compacted = files.into_iter().zip(before).map(|((path, _), before_bytes)| Compacted {
        after_bytes: size(&path),
        path,
        before_bytes,
    });
    Ok(compacted.collect())
}

/// Compacts an open database, of which nobody holds a snapshot.
pub fn compact_database(db: &mut Database) -> Result<bool, StoreError> {
    db.compact().map_err(|error| match error {
        redb::CompactionError::Storage(error) => error.into(),
        other => StoreError::Io(other.to_string()),
    })
}
