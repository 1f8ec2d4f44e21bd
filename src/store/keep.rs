//! Copies of the files as they were before a migration (`hot.redb.format1`).
//!
//! Must stay true: a copy has its name only when it is whole and on disk; there is room for it, or
//! nothing is changed. Not here: when a copy is due (`open`), what a migration does (`migrate`).

use super::StoreError;
use rustix::fs::statvfs;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Free space beside the copies, for what the migration adds: a part of the files.
const SPARE_PART: u64 = 16;

/// Copies these files of one directory, each of which has this format and which nobody has open, and says
/// what the copies are called.
pub fn keep_copies(files: &[(&Path, u64)]) -> Result<Vec<PathBuf>, StoreError> {
    let Some((first, format)) = files.first() else { return Ok(Vec::new()) };
    let Some(dir) = first.parent() else { return Ok(Vec::new()) };
    let unusable = |error: io::Error| StoreError::Unusable(dir.to_path_buf(), error);
    let sizes = files.iter().map(|(file, _)| fs::metadata(file).map(|found| found.len()));
    let bytes = sizes.sum::<io::Result<u64>>().map_err(unusable)?;
    let needed = bytes + bytes / SPARE_PART;
    let no_room = || StoreError::NoRoomForCopy { dir: dir.to_path_buf(), needed, format: *format };
    let disk = statvfs(dir).map_err(|error| unusable(error.into()))?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < needed {
        return Err(no_room());
    }
    let mut kept = Vec::new();
    for (file, format) in files {
        let mut name = file.as_os_str().to_owned();
        name.push(format!(".format{format}"));
        let name = PathBuf::from(name);
        copy(file, &name, dir).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => no_room(),
            _ => unusable(error),
        })?;
        kept.push(name);
    }
    Ok(kept)
}

fn copy(file: &Path, name: &Path, dir: &Path) -> io::Result<()> {
    let mut unfinished = name.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let copied = fs::copy(file, &unfinished).and_then(|_| {
        File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, name)?;
        File::open(dir)?.sync_all()
    });
    if copied.is_err() {
        // What is left of it would only take up the room that is missing.
        let _ = fs::remove_file(&unfinished);
    }
    copied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_same_file_under_a_name_that_tells_its_format() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hot.redb");
        fs::write(&file, b"as it was").unwrap();
        let kept = keep_copies(&[(&file, 1)]).unwrap();
        assert_eq!(kept, [dir.path().join("hot.redb.format1")]);
        assert_eq!(fs::read(&kept[0]).unwrap(), b"as it was");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "and nothing else is left");
    }

    #[test]
    fn a_file_that_cannot_be_copied_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hot.redb");
        fs::write(&file, b"as it was").unwrap();
        // A directory in its place: the rename fails after the whole copy was made.
        fs::create_dir(dir.path().join("hot.redb.format1")).unwrap();
        let refused = keep_copies(&[(&file, 1)]).unwrap_err();
        assert!(matches!(refused, StoreError::Unusable(..)), "{refused}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
