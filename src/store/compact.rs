//! Compaction: giving the space of removed records back to the filesystem.
//!
//! redb moves the pages at the end of a file to free places before them and cuts the file off. It
//! needs the database for itself, so this is an operator's command on a stopped server. Must stay
//! true: nothing is lost whenever it is cut off, the next open repairs the file. Not here: the reuse
//! of free pages while running, which redb does by itself.

use super::StoreError;
use super::open::{Store, check, files_of};
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
    let (hot, archive) = files_of(dir);
    let files = [hot, archive];
    let mut before = Vec::new();
    for file in &files {
        before.push(file.size()?);
        if before.last() == Some(&0) {
            let why = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(StoreError::Unusable(file.path().to_path_buf(), why));
        }
    }
    // Refuses what a start would refuse, and holds nothing afterwards.
    drop(Store::open(dir)?);
    // Both are held to the end, so that no server starts on one of them in between.
    let mut open = Vec::new();
    for file in &files {
        check(file)?;
        open.push(file.open(Access::Write)?);
    }
    for (file, db) in files.iter().zip(&mut open) {
        begins(file.path(), file.size()?);
        compact_database(db)?;
    }
    // Closing trims them once more.
    drop(open);
    let compacted = files.iter().zip(before).map(|(file, before_bytes)| {
        let after_bytes = file.size()?;
        Ok(Compacted { path: file.path().to_path_buf(), before_bytes, after_bytes })
    });
    compacted.collect()
}

/// Compacts an open database, of which nobody holds a snapshot.
pub fn compact_database(db: &mut Database) -> Result<bool, StoreError> {
    db.compact().map_err(|error| match error {
        redb::CompactionError::Storage(error) => error.into(),
        other => StoreError::Io(other.to_string()),
    })
}
