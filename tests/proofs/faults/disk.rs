//! A disk whose nth operation fails, once or until it is repaired.
//!
//! Must stay true: a failed operation leaves nothing behind; operations of both files are counted in one
//! row, so that every one of them is hit in turn. Not here: what power loss leaves (`crate::disk`).

use crate::disk::Disk;
use redb::StorageBackend;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing can be read, written or synced (EIO).
    Io,
    /// What takes space fails (ENOSPC), the rest works.
    Full,
    /// What changes anything fails (EROFS), reads work.
    ReadOnly,
}

/// From which operation on, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub kind: Kind,
    pub at: u64,
    pub lasts: bool,
}

/// Counts the operations of all its disks and lets some fail.
#[derive(Debug, Default)]
pub struct Trouble {
    operations: AtomicU64,
    fault: Mutex<Option<Fault>>,
    struck: AtomicBool,
}

impl Trouble {
    pub fn plan(&self, fault: Option<Fault>) {
        *self.fault.lock().expect("no holder panics") = fault;
    }

    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::SeqCst)
    }

    /// Whether an operation has failed.
    pub fn has_struck(&self) -> bool {
        self.struck.load(Ordering::SeqCst)
    }

    fn pass(&self, changes: bool, takes_space: bool) -> io::Result<()> {
        let now = self.operations.fetch_add(1, Ordering::SeqCst);
        let mut planned = self.fault.lock().expect("no holder panics");
        let Some(fault) = *planned else { return Ok(()) };
        let (hits, code) = match fault.kind {
            Kind::Io => (true, 5),
            Kind::Full => (takes_space, 28),
            Kind::ReadOnly => (changes, 30),
        };
        if now < fault.at || !hits {
            return Ok(());
        }
        if !fault.lasts {
            *planned = None;
        }
        self.struck.store(true, Ordering::SeqCst);
        Err(io::Error::from_raw_os_error(code))
    }
}

/// One of the disks that share a trouble.
#[derive(Clone, Debug)]
pub struct FaultyDisk {
    pub disk: Disk,
    trouble: Arc<Trouble>,
}

impl FaultyDisk {
    pub fn new(trouble: Arc<Trouble>) -> Self {
        FaultyDisk { disk: Disk::default(), trouble }
    }
}

impl StorageBackend for FaultyDisk {
    fn len(&self) -> io::Result<u64> {
        self.trouble.pass(false, false)?;
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.trouble.pass(false, false)?;
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let grows = len > self.disk.len()?;
        self.trouble.pass(true, grows)?;
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.trouble.pass(true, false)?;
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.trouble.pass(true, true)?;
        self.disk.write(offset, data)
    }
}
