//! A look at a data directory that changes nothing, for its examination.
//!
//! Must stay true: no byte of either file is written: what a start would repair is repaired in memory;
//! no server can run beside it. Not here: what must hold (`doctor`).

use super::doctor::{self, Findings, InFile, ProblemKind};
use super::open::{files_of, refuse_newer, stored_format};
use super::place::Place;
use super::slot::Access;
use super::{Store, StoreError};
use crate::logging::quietly;
use redb::{Database, ReadableDatabase};
use std::path::{Path, PathBuf};

/// One of the two files as it lies there.
#[derive(Clone, Debug)]
pub struct Lying {
    pub path: PathBuf,
    pub bytes: u64,
    /// Whether a server closed it; otherwise the next start repairs it.
    pub was_closed: bool,
    /// Whether redb's own structure is whole, when that was asked for.
    pub is_whole: Option<bool>,
}

/// Both files, looked at.
pub struct Looked {
    hot_db: Database,
    archive_db: Database,
    pub hot: Lying,
    pub archive: Lying,
}

impl Store {
    /// Looks at the files of a data directory, which no server may have open. With `deep` every page is
    /// held against its checksum.
    pub fn look(dir: &Path, deep: bool) -> Result<Looked, StoreError> {
        let (hot, archive) = files_of(dir);
        let (hot_is_there, archive_is_there) = (hot.size()? > 0, archive.size()? > 0);
        match (hot_is_there, archive_is_there) {
            (true, true) => {}
            (false, false) => {
                let gone = std::io::ErrorKind::NotFound.into();
                return Err(StoreError::Unusable(hot.path().to_path_buf(), gone));
            }
            (true, false) => return Err(missing(&archive, &hot)),
            (false, true) => return Err(missing(&hot, &archive)),
        }
        let (archive_db, archive) = look_at(&archive, deep)?;
        let (hot_db, hot) = look_at(&hot, deep)?;
        Ok(Looked { hot_db, archive_db, hot, archive })
    }
}

fn missing(gone: &Place, beside: &Place) -> StoreError {
    let (path, beside) = (gone.path().to_path_buf(), beside.path().to_path_buf());
    StoreError::Missing { path, beside }
}

fn look_at(place: &Place, deep: bool) -> Result<(Database, Lying), StoreError> {
    let damaged = |why| StoreError::Damaged(place.path().to_path_buf(), why);
    let was_closed = place.look(|_| Ok(()))?.is_some();
    let mut database = place.open(Access::Read)?;
    let format = match quietly(|| stored_format(&database)) {
        Some(Err(StoreError::Io(why))) => Err(damaged(why)),
        Some(found) => found,
        None => Err(damaged("its structure contradicts itself".into())),
    };
    refuse_newer(place.path(), format?)?;
    // What it would mend is mended in memory.
    let is_whole = deep.then(|| quietly(|| database.check_integrity().unwrap_or(false)));
    let lying = Lying {
        path: place.path().to_path_buf(),
        bytes: place.size()?,
        was_closed,
        is_whole: is_whole.map(|whole| whole.unwrap_or(false)),
    };
    Ok((database, lying))
}

impl Looked {
    /// Examines both files. `progress` hears how many rows were read of how many.
    pub fn examine(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Findings, StoreError> {
        let (hot, archive) = (self.hot_db.begin_read()?, self.archive_db.begin_read()?);
        // redb asserts what a healthy file guarantees.
        let examined = quietly(|| doctor::examine(&hot, &archive, progress));
        let mut findings = examined.unwrap_or_else(|| {
            let mut findings = Findings::default();
            let text = "the structure of a file contradicts itself, so the examination broke off";
            findings.problem(ProblemKind::Unreadable, InFile::Both, text);
            findings
        });
        for (file, lying) in [(InFile::Hot, &self.hot), (InFile::Archive, &self.archive)] {
            if lying.is_whole == Some(false) {
                let text = "pages differ from their checksums";
                findings.problem(ProblemKind::Unreadable, file, text);
            }
        }
        Ok(findings)
    }
}
