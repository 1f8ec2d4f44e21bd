//! What can go wrong with the files, in the operator's words.
//!
//! Must stay true: each text names the file, the cause and the way out, and is one line.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A failure of the store.
#[derive(Debug)]
pub enum StoreError {
    /// Another process has the data directory open.
    InUse(PathBuf),
    /// The directory or a file cannot be created, read or written.
    Unusable(PathBuf, io::Error),
    /// The file was written by a newer version.
    Newer { path: PathBuf, found: u64, known: u64 },
    /// The file is no store of ours, or bytes in it have changed.
    Damaged(PathBuf, String),
    /// One of the two files is gone.
    Missing { path: PathBuf, beside: PathBuf },
    /// A file must be migrated, and there is no space to keep a copy of it first.
    NoRoomForCopy { dir: PathBuf, needed: u64, format: u64 },
    /// No space left on the device, or the quota is used up.
    Full,
    /// The file could only be opened for reading.
    ReadOnly,
    /// Reading or writing failed while running.
    Io(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::InUse(dir) => write!(
                f,
                "the data directory {} is in use by another bloom-runtime; stop that one, or give this one its own with --data-dir",
                dir.display()
            ),
            StoreError::Unusable(path, cause) => write!(
                f,
                "cannot use {}: {cause}; check that it exists, is writable for this user and on a disk with space, or choose another with --data-dir",
                path.display()
            ),
            StoreError::Newer { path, found, known } => write!(
                f,
                "{} has format {found}, this version knows up to {known}; nothing was changed: start the newer bloom-runtime, or restore the copy that was kept at the upgrade",
                path.display()
            ),
            StoreError::Damaged(path, why) => write!(
                f,
                "{} is damaged or not a bloom-runtime file ({why}); it was left as it is: restore it from a backup, or move it away to start empty",
                path.display()
            ),
            StoreError::Missing { path, beside } => write!(
                f,
                "{} is missing although {} holds data; nothing was changed: restore it from a backup, or move both away to start empty",
                path.display(),
                beside.display()
            ),
            StoreError::NoRoomForCopy { dir, needed, format } => write!(
                f,
                "the data files in {} have format {format} and are copied before they are migrated, which needs {} MiB of free space; nothing was changed: free some, or start the older bloom-runtime",
                dir.display(),
                needed.div_ceil(1 << 20)
            ),
            StoreError::Full => f.write_str(
                "no space is left on the disk of the data directory; free some: what was answered is safe",
            ),
            StoreError::ReadOnly => f.write_str(
                "the disk of the data directory takes no writes; see what the kernel says (dmesg), repair or replace it: what was answered is safe",
            ),
            StoreError::Io(what) => write!(
                f,
                "the data files cannot be read or written: {what}; check the disk, then start again: what was answered is safe"
            ),
        }
    }
}

impl std::error::Error for StoreError {}

/// ENOSPC and EDQUOT of Linux.
const NO_SPACE: [i32; 2] = [28, 122];

fn is_no_space(code: i32) -> bool {
    NO_SPACE.contains(&code)
}

impl StoreError {
    fn from_redb(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(cause) if cause.raw_os_error().is_some_and(is_no_space) => {
                StoreError::Full
            }
            other => StoreError::Io(other.to_string()),
        }
    }

    /// The same failure while `path` was opened.
    pub(super) fn opening(path: &Path, error: redb::DatabaseError) -> Self {
        match error {
            redb::DatabaseError::DatabaseAlreadyOpen => {
                StoreError::InUse(path.parent().unwrap_or(path).to_path_buf())
            }
            redb::DatabaseError::Storage(redb::StorageError::Io(cause))
                if cause.kind() != io::ErrorKind::InvalidData
                    && cause.kind() != io::ErrorKind::UnexpectedEof =>
            {
                StoreError::Unusable(path.to_path_buf(), cause)
            }
            other => StoreError::Damaged(path.to_path_buf(), other.to_string()),
        }
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                StoreError::from_redb(error.into())
            }
        }
    )*};
}

from_redb!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::SetDurabilityError
);

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        StoreError::Io(format!("a stored record cannot be read: {error}"))
    }
}
