//! One of the two files: open, or broken and to be opened anew.
//!
//! After an I/O error redb refuses everything until its file is opened again. Must stay true: nothing is
//! written to a file that could only be opened for reading; the old handle is gone before the new one
//! comes. Not here: when to try again (`engine`), what is in the files.

use super::StoreError;
use redb::Database;
use std::ops::Deref;
use std::sync::{RwLock, RwLockReadGuard};

/// What a file is to be opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Write,
    /// Repairs and everything else that redb wants to write stay in memory.
    Read,
}

type Opener = Box<dyn Fn(Access) -> Result<Database, StoreError> + Send + Sync>;

/// A file and the way to open it again.
pub struct Slot {
    held: RwLock<Held>,
    open: Opener,
}

struct Held {
    /// None after the file could not be opened at all.
    database: Option<Database>,
    access: Access,
}

/// The open file, which stays open until this is dropped.
pub struct InUse<'s>(RwLockReadGuard<'s, Held>);

impl Deref for InUse<'_> {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.0.database.as_ref().expect("looked at before it was given out")
    }
}

impl Slot {
    pub fn new(database: Database, open: Opener) -> Slot {
        let held = Held { database: Some(database), access: Access::Write };
        Slot { held: RwLock::new(held), open }
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

    /// The file for writing.
    pub fn write(&self) -> Result<InUse<'_>, StoreError> {
        match self.held().access {
            Access::Write => self.read(),
            Access::Read => Err(StoreError::ReadOnly),
        }
    }

    pub fn is_writable(&self) -> bool {
        self.write().is_ok()
    }

    /// Opens the file anew if it is of no use as it is, for reading if nothing else can be had. Says
    /// whether it was opened.
    pub fn mend(&self) -> Result<bool, StoreError> {
        if self.write().is_ok_and(|database| database.begin_write().is_ok()) {
            return Ok(false);
        }
        let mut held = self.held.write().expect("no holder panics");
        held.database = None;
        let found = (self.open)(Access::Write).map(|database| (database, Access::Write));
        let (database, access) = match found {
            Ok(found) => found,
            Err(why) => {
                let database = (self.open)(Access::Read)?;
                log::warn!("store: opened for reading only, since {why}");
                (database, Access::Read)
            }
        };
        *held = Held { database: Some(database), access };
        Ok(true)
    }
}
