//! A disk as one process has it open: it works until it is told to fail, and then for good.
//!
//! A killed process writes nothing any more, not even when its store is dropped; a broken cable or a
//! full disk fails in the middle of a commit. What reached the disk stays on it for the next process.
//! Not here: what survives power loss (`disk`).

use crate::disk::Disk;
use redb::StorageBackend;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const NEVER: u64 = u64::MAX;

/// One process's way to a disk.
#[derive(Clone, Debug)]
pub struct Drive {
    disk: Disk,
    /// Writes, syncs and changes of length until it fails.
    left: Arc<AtomicU64>,
}

impl Drive {
    pub fn open(disk: &Disk) -> Self {
        Drive { disk: disk.clone(), left: Arc::new(AtomicU64::new(NEVER)) }
    }

    /// From the next-but-so-many operation on everything fails.
    pub fn fail_after(&self, operations: u64) {
        self.left.store(operations, Ordering::SeqCst);
    }

    pub fn is_dead(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    fn operate(&self) -> io::Result<()> {
        let spend = |left| match left {
            NEVER => Some(NEVER),
            0 => None,
            left => Some(left - 1),
        };
        let spent = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend);
        spent.map(|_| ()).map_err(|_| io::Error::other("the drive is gone"))
    }
}

impl StorageBackend for Drive {
    fn len(&self) -> io::Result<u64> {
        if self.is_dead() {
            return Err(io::Error::other("the drive is gone"));
        }
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.is_dead() {
            return Err(io::Error::other("the drive is gone"));
        }
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.operate()?;
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.operate()?;
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.operate()?;
        self.disk.write(offset, data)
    }
}
