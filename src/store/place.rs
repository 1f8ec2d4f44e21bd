//! Where one of the two files lies: in a data directory, or in a backend that was handed in.
//!
//! Must stay true: both are opened by the same steps, so that what is tried on backends is what happens
//! to files; looking changes nothing; a file whose creation was cut off counts as not there. Not here:
//! what is in the files, and in which order they are opened (`open`).

use super::StoreError;
use super::overlay::Overlay;
use super::slot::Access;
use crate::logging::quietly;
use redb::backends::FileBackend;
use redb::{BackendError, Builder, Database, DatabaseError, StorageBackend};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What every file of redb begins with.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
/// A new file is not longer than this before its first commit.
const NEW_FILE_BYTES_MAX: u64 = 2 << 20;
/// Memory for pages of a copy that is being made.
const COPY_CACHE_BYTES: usize = 4 << 20;
/// Bytes of a new file that its creation writes before it is a file of redb.
const HEADER_BYTES: u64 = 512;

/// The way to one of the two files.
pub struct Place {
    path: PathBuf,
    cache_bytes: usize,
    /// None for a file in a directory.
    backend: Option<Shared>,
}

/// One storage for several handles, one after the other.
#[derive(Clone, Debug)]
pub struct Shared(Arc<dyn StorageBackend>);

impl Place {
    pub fn file(path: PathBuf, cache_bytes: usize) -> Self {
        Place { path, cache_bytes, backend: None }
    }

    /// `name` stands for it where a file would be named.
    pub fn backend(name: &str, backend: impl StorageBackend, cache_bytes: usize) -> Self {
        let backend = Some(Shared(Arc::new(backend)));
        Place { path: name.into(), cache_bytes, backend }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, where it is one.
    pub fn file_path(&self) -> Option<&Path> {
        self.backend.is_none().then_some(&self.path)
    }

    /// Where a copy of this file is made before it takes its name.
    pub fn copy(&self) -> Place {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".smaller");
        Place::file(name.into(), COPY_CACHE_BYTES)
    }

    /// Removes the file, if it is there.
    pub fn remove(&self) -> Result<(), StoreError> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.unusable(error)),
            _ => Ok(()),
        }
    }

    fn unusable(&self, error: io::Error) -> StoreError {
        StoreError::Unusable(self.path.clone(), error)
    }

    /// Bytes of the file; 0 when it is not there, or when power failed while it was being created.
    pub fn size(&self) -> Result<u64, StoreError> {
        let len = match &self.backend {
            Some(backend) => backend.len(),
            // One that may not be looked at is found out about when it is opened.
            None => Ok(std::fs::metadata(&self.path).map_or(0, |found| found.len())),
        };
        let len = len.map_err(|error| self.unusable(error))?;
        let is_new = len > 0
            && len <= NEW_FILE_BYTES_MAX
            && was_cut_off(&self.storage(Access::Read)?).map_err(|error| self.unusable(error))?;
        Ok(if is_new { 0 } else { len })
    }

    fn storage(&self, access: Access) -> Result<Shared, StoreError> {
        if let Some(backend) = &self.backend {
            return Ok(backend.clone());
        }
        let file = match access {
            Access::Write => private_file(&self.path),
            Access::Read => File::open(&self.path),
        };
        let file = FileBackend::new(file.map_err(|error| self.unusable(error))?);
        file.map(|file| Shared(Arc::new(file)))
            .map_err(|error| StoreError::opening(&self.path, error))
    }

    fn builder(&self) -> Builder {
        let mut builder = Builder::new();
        builder.set_cache_size(self.cache_bytes);
        builder
    }

    /// Opens the file, or creates it. What is opened for reading keeps all writes in memory.
    pub fn open(&self, access: Access) -> Result<Database, StoreError> {
        let name = self.path.clone();
        let mut builder = self.builder();
        let how = if access == Access::Write { "repairing" } else { "repairing in memory" };
        builder.set_repair_callback(move |session| {
            let progress = session.progress() * 100.0;
            log::info!("{how} file={} progress={progress:.0}%", name.display());
        });
        self.guarded(|| {
            let storage = self.storage(access)?;
            let opened = match access {
                Access::Write => {
                    make_way(&storage).map_err(|error| self.unusable(error))?;
                    builder.create_with_backend(storage)
                }
                Access::Read => {
                    let over = Overlay::over(storage).map_err(|error| self.unusable(error))?;
                    builder.create_with_backend(over)
                }
            };
            opened.map_err(|error| StoreError::opening(&self.path, error))
        })
    }

    /// Shows the file as it was closed; None when it was not closed cleanly and must be repaired first.
    pub fn look<T>(
        &self,
        look: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut builder = self.builder();
        builder.set_repair_callback(|session| session.abort());
        self.guarded(|| {
            let over = Overlay::over(self.storage(Access::Read)?);
            let over = over.map_err(|error| self.unusable(error))?;
            match builder.create_with_backend(over) {
                Ok(database) => look(&database).map(Some),
                Err(DatabaseError::RepairAborted) => Ok(None),
                Err(error) => Err(StoreError::opening(&self.path, error)),
            }
        })
    }

    /// redb asserts what a healthy file guarantees; on a damaged one such a panic is a finding.
    fn guarded<T>(&self, open: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        quietly(open).unwrap_or_else(|| {
            Err(StoreError::Damaged(self.path.clone(), "its structure contradicts itself".into()))
        })
    }
}

fn private_file(path: &Path) -> io::Result<File> {
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

/// Whether this is what is left of a creation that power loss cut off: redb writes its mark last, after
/// a sync, and nothing but zeros stands behind the header until then. No data can be in it.
fn was_cut_off(storage: &Shared) -> io::Result<bool> {
    let len = storage.len()?;
    if len == 0 || len > NEW_FILE_BYTES_MAX {
        return Ok(false);
    }
    let mut bytes = vec![0; MAGIC.len().min(len as usize)];
    storage.read(0, &mut bytes)?;
    if bytes.iter().any(|byte| *byte != 0) {
        return Ok(false);
    }
    let mut rest = vec![0; len.saturating_sub(HEADER_BYTES) as usize];
    storage.read(HEADER_BYTES.min(len), &mut rest)?;
    Ok(rest.iter().all(|byte| *byte == 0))
}

/// Empties a file whose creation was cut off, so that it is created again.
fn make_way(storage: &Shared) -> io::Result<()> {
    if was_cut_off(storage)? {
        storage.set_len(0)?;
        storage.sync_data()?;
    }
    Ok(())
}

impl StorageBackend for Shared {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}
