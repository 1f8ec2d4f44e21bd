//! One of the two files: open, or broken and to be opened anew, or to be replaced by a smaller copy.
//!
//! After an I/O error redb refuses everything until its file is opened again. Must stay true: nothing is
//! written to a file that could only be opened for reading; the old handle is gone before the new one
//! comes, unless the file itself was replaced: then those who read the old one read on. Not here: when to
//! try again (`engine`), what is in the files, how a smaller one is made (`compact`).

use super::StoreError;
use super::place::Place;
use redb::{Database, ReadTransaction, ReadableDatabase};
use std::fs::{self, File};
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

/// When a replaced file is closed whoever reads it: a snapshot is held for one page.
const READERS_GONE: Duration = Duration::from_secs(30);

/// What a file is to be opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Write,
    /// Repairs and everything else that redb wants to write stay in memory.
    Read,
}

/// A file and the way to open it again.
pub struct Slot {
    held: RwLock<Held>,
    /// Held by who writes, and by a compaction from its first look to the end.
    turn: Mutex<()>,
    /// Somebody must not wait for the end of a compaction.
    hurry: AtomicBool,
    writes: AtomicU64,
    place: Place,
}

struct Held {
    /// None after the file could not be opened at all.
    database: Option<Database>,
    access: Access,
    /// Each snapshot of this database has a clone; when all are gone, `readers_gone` hears of it.
    readers: Reader,
    readers_gone: Mutex<Receiver<()>>,
}

impl Held {
    fn new(database: Database, access: Access) -> Held {
        let (readers, gone) = channel();
        Held { database: Some(database), access, readers, readers_gone: Mutex::new(gone) }
    }
}

/// Keeps a replaced file open while it lives.
pub type Reader = Sender<()>;

/// The turn to write.
pub type Turn<'s> = MutexGuard<'s, ()>;

/// The open file, which stays open until this is dropped.
pub struct InUse<'s>(RwLockReadGuard<'s, Held>);

impl Deref for InUse<'_> {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.0.database.as_ref().expect("looked at before it was given out")
    }
}

/// The open file and the turn to write to it.
pub struct Writing<'s> {
    file: InUse<'s>,
    _turn: Turn<'s>,
}

impl Deref for Writing<'_> {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.file
    }
}

impl Slot {
    pub fn new(database: Database, place: Place) -> Slot {
        Slot {
            held: RwLock::new(Held::new(database, Access::Write)),
            turn: Mutex::default(),
            hurry: AtomicBool::new(false),
            writes: AtomicU64::new(0),
            place,
        }
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    fn held(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().expect("no holder panics")
    }

    /// The file for reading.
    pub fn read(&self) -> Result<InUse<'_>, StoreError> {
        let held = self.held();
        match held.database {
            Some(_) => Ok(InUse(held)),
            None => Err(StoreError::Io("the file is closed after an error".into())),
        }
    }

    /// A snapshot, and what keeps its file open; to be dropped after it.
    pub fn snapshot(&self) -> Result<(ReadTransaction, Reader), StoreError> {
        let file = self.read()?;
        Ok((file.begin_read()?, file.0.readers.clone()))
    }

    /// The turn to write, once nobody else has it.
    pub fn turn(&self) -> Turn<'_> {
        // It guards no data, so a holder that panicked left nothing half done.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file for writing.
    pub fn write(&self) -> Result<Writing<'_>, StoreError> {
        let turn = self.turn();
        self.writes.fetch_add(1, Ordering::Relaxed);
        match self.held().access {
            Access::Write => Ok(Writing { file: self.read()?, _turn: turn }),
            Access::Read => Err(StoreError::ReadOnly),
        }
    }

    /// How often it was written to since it was opened.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    pub fn is_writable(&self) -> bool {
        let held = self.held();
        held.access == Access::Write && held.database.is_some()
    }

    /// Whether somebody waits who must not.
    pub fn is_hurried(&self) -> bool {
        self.hurry.load(Ordering::Relaxed)
    }

    /// Opens the file anew if it is of no use as it is, for reading if nothing else can be had. Says
    /// whether it was opened.
    pub fn mend(&self) -> Result<bool, StoreError> {
        self.hurry.store(true, Ordering::Relaxed);
        let _turn = self.turn();
        self.hurry.store(false, Ordering::Relaxed);
        if self.is_writable() && self.read()?.begin_write().is_ok() {
            return Ok(false);
        }
        let mut held = self.held.write().expect("no holder panics");
        held.database = None;
        let found = self.open(Access::Write).map(|database| (database, Access::Write));
        let (database, access) = match found {
            Ok(found) => found,
            Err(why) => {
                let database = self.open(Access::Read)?;
                log::warn!("store: opened for reading only, since {why}");
                (database, Access::Read)
            }
        };
        *held = Held::new(database, access);
        Ok(true)
    }

    fn open(&self, access: Access) -> Result<Database, StoreError> {
        // A file that is gone is not made anew: an empty one would look like a healthy store.
        if self.place.size()? == 0 {
            let gone = io::ErrorKind::NotFound.into();
            return Err(StoreError::Unusable(self.place.path().to_path_buf(), gone));
        }
        self.place.open(access)
    }

    /// Puts the closed file `smaller`, which holds the same, into the place of this one. Those who have a
    /// snapshot of the old one read on; it is closed, and its space free, when the last of them is done.
    pub fn replace(&self, _turn: &Turn<'_>, smaller: &Path) -> Result<(), StoreError> {
        let path = self.place.path();
        let unusable = |error| StoreError::Unusable(path.to_path_buf(), error);
        let dir = path.parent().unwrap_or(Path::new("."));
        let mut held = self.held.write().expect("no holder panics");
        fs::rename(smaller, path).map_err(unusable)?;
        // From here on the new file is the one. Nothing may be written to it before its name is durable,
        // or power loss would bring the old one back without that.
        let renamed = File::open(dir).and_then(|dir| dir.sync_all()).map_err(unusable);
        match renamed.and_then(|()| self.open(Access::Write)) {
            Ok(opened) => {
                let old = std::mem::replace(&mut *held, Held::new(opened, Access::Write));
                drop(held);
                close_later(old);
                Ok(())
            }
            Err(error) => {
                held.database = None;
                Err(error)
            }
        }
    }
}

/// Closes a file that has no name any more when nobody reads it.
fn close_later(Held { database, readers, readers_gone, .. }: Held) {
    drop(readers);
    let close = move || {
        let gone = readers_gone.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Nothing is ever sent: it ends with the last reader.
        let _ = gone.recv_timeout(READERS_GONE);
        drop(database);
    };
    // Without a thread it is closed at once: who reads it still is told, and reads anew.
    let _ = std::thread::Builder::new().name("closing".into()).spawn(close);
}
