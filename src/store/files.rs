//! Returned files, each under a name of its own in `DATA_DIR/files`.
//!
//! A name is `<task sequence>-<SHA-256>-<random>`: the digest is in it, so that a file can be checked by
//! itself, and it has one owner, so that it goes with its record and nothing is counted. Must stay true:
//! a file has such a name only when it is whole and on disk, before any record names it; what no record
//! names is removed after a start; all of them together keep within a limit (P9). Not here: the records
//! (`HOT`, `PARTS`), who may add one (`domain::artifact`).

use super::{Store, StoreError};
use crate::domain::{ReturnedFile, Task};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a file is called while it arrives.
const ARRIVING: &str = "arriving-";

/// The folder, and how much lies in it.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    bytes: AtomicU64,
    /// Names that were there at the start.
    found: Vec<String>,
}

/// Why a file was not taken.
#[derive(Debug)]
pub enum NotKept {
    /// All files together would be more than the limit.
    NoRoom,
    Disk(io::Error),
}

impl From<io::Error> for NotKept {
    fn from(error: io::Error) -> Self {
        NotKept::Disk(error)
    }
}

/// A file that is whole and on disk; no record names it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub on_disk: String,
    pub bytes: u64,
    pub sha256: String,
}

/// A file on its way in; what is not finished is removed.
pub struct Arriving {
    folder: Arc<Folder>,
    file: File,
    path: PathBuf,
    digest: Sha256,
    bytes: u64,
    limit: u64,
    random: String,
    finished: bool,
}

/// Small hexadecimal digits of these bytes.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

impl Folder {
    /// Opens the folder below the data directory, creating it (0700).
    pub fn open(data_dir: &Path) -> io::Result<Folder> {
        let dir = data_dir.join("files");
        if !dir.exists() {
            fs::DirBuilder::new().mode(0o700).create(&dir)?;
            File::open(data_dir)?.sync_all()?;
        }
        let (mut found, mut bytes) = (Vec::new(), 0);
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            bytes += entry.metadata()?.len();
            found.push(name);
        }
        Ok(Folder { dir, bytes: AtomicU64::new(bytes), found })
    }

    /// Bytes of all files, those that arrive included.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Begins to take a file, while all together stay within `limit` bytes. `random` tells it from others
    /// that are the same.
    pub fn begin(self: &Arc<Self>, limit: u64, random: u64) -> Result<Arriving, NotKept> {
        let random = format!("{random:016x}");
        let path = self.dir.join(format!("{ARRIVING}{random}"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Arriving {
            folder: self.clone(),
            file,
            path,
            digest: Sha256::new(),
            bytes: 0,
            limit,
            random,
            finished: false,
        })
    }

    /// Opens a file for reading.
    pub fn read(&self, name: &str) -> io::Result<File> {
        File::open(self.dir.join(name))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Removes a file that no record names.
    pub fn remove(&self, name: &str) {
        let path = self.dir.join(name);
        let bytes = fs::metadata(&path).map_or(0, |found| found.len());
        match fs::remove_file(&path) {
            Ok(()) => {
                self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // The next start finds it.
            Err(error) => log::warn!("{} cannot be removed: {error}", path.display()),
        }
    }
}

impl Arriving {
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), NotKept> {
        let more = bytes.len() as u64;
        let before = self.folder.bytes.fetch_add(more, Ordering::Relaxed);
        // Given back with the rest, when this is dropped.
        self.bytes += more;
        if before.saturating_add(more) > self.limit {
            return Err(NotKept::NoRoom);
        }
        self.digest.update(bytes);
        Ok(self.file.write_all(bytes)?)
    }

    /// Gives the file its name, once it is on disk.
    pub fn finish(mut self, task: u64) -> Result<Kept, NotKept> {
        self.file.sync_all()?;
        let sha256 = hexadecimal(&std::mem::take(&mut self.digest).finalize());
        let on_disk = format!("{task}-{sha256}-{}", self.random);
        fs::rename(&self.path, self.folder.dir.join(&on_disk))?;
        self.finished = true;
        File::open(&self.folder.dir)?.sync_all()?;
        Ok(Kept { on_disk, bytes: self.bytes, sha256 })
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.path);
            self.folder.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

impl Store {
    /// The folder of returned files; a store without a directory has none.
    pub fn files(&self) -> Option<&Arc<Folder>> {
        self.files.as_ref()
    }

    pub(super) fn remove_files(&self, names: &[String]) {
        if let Some(folder) = &self.files {
            names.iter().for_each(|name| folder.remove(name));
        }
    }

    /// Removes what a crash left in the folder before this start, and says how many files that were.
    pub fn remove_strays(&self) -> Result<usize, StoreError> {
        let Some(folder) = &self.files else { return Ok(0) };
        let mut known: HashMap<u64, Vec<ReturnedFile>> = HashMap::new();
        let mut removed = 0;
        for name in &folder.found {
            let task = name.split('-').next().and_then(|seq| seq.parse::<u64>().ok());
            let is_named = match task {
                None => false,
                Some(task) => {
                    let files = match known.entry(task) {
                        std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                        std::collections::hash_map::Entry::Vacant(new) => {
                            new.insert(self.files_of(task)?)
                        }
                    };
                    files.iter().any(|file| file.on_disk.as_ref() == Some(name))
                }
            };
            if !is_named {
                folder.remove(name);
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn files_of(&self, seq: u64) -> Result<Vec<ReturnedFile>, StoreError> {
        let hot = self.hot()?;
        // One that is being removed is still named: it goes with its record.
        let archive = self.archive(Arc::default())?;
        let task: Option<Task> =
            hot.task(seq)?.map_or_else(|| archive.task(seq), |t| Ok(Some(t)))?;
        let mut files = Vec::new();
        for file in task.map(|task| task.files).unwrap_or_default() {
            let found = hot.file(seq, file.seq)?;
            files.extend(found.map_or_else(|| archive.file(seq, file.seq), |f| Ok(Some(f)))?);
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir.join("files")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_has_its_digest_in_its_name_and_one_that_is_not_finished_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(dir.path()).unwrap());
        let mut file = folder.begin(100, 7).unwrap();
        file.write(b"ab").unwrap();
        file.write(b"c").unwrap();
        let kept = file.finish(7).unwrap();
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((kept.bytes, kept.sha256.as_str()), (3, sha256));
        assert!(kept.on_disk.starts_with(&format!("7-{sha256}-")), "{kept:?}");
        assert_eq!(names(dir.path()), [kept.on_disk.as_str()]);
        assert_eq!(folder.bytes(), 3);

        let mut cut_off = folder.begin(100, 7).unwrap();
        cut_off.write(b"abc").unwrap();
        drop(cut_off);
        assert_eq!(names(dir.path()), [kept.on_disk.as_str()]);
        assert_eq!(folder.bytes(), 3);
        folder.remove(&kept.on_disk);
        folder.remove(&kept.on_disk);
        assert_eq!((names(dir.path()).len(), folder.bytes()), (0, 0));
    }

    #[test]
    fn all_files_together_stay_within_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(dir.path()).unwrap());
        let mut first = folder.begin(10, 1).unwrap();
        first.write(b"123456").unwrap();
        let mut second = folder.begin(10, 2).unwrap();
        second.write(b"1234").unwrap();
        assert!(matches!(second.write(b"5"), Err(NotKept::NoRoom)));
        drop(second);
        assert_eq!(folder.bytes(), 6, "what did not fit is given back");
        first.write(b"7890").unwrap();
        first.finish(1).unwrap();
        assert_eq!(Folder::open(dir.path()).unwrap().bytes(), 10, "and a start counts anew");
    }
}
