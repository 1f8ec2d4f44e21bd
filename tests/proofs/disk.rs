//! A disk in memory that keeps what was synced apart from what was only written.
//!
//! Must stay true: reads see what was written; only a sync makes it survive `cut_power`; clones are the
//! same disk. Not here: where redb lies on it.

use redb::StorageBackend;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// The same disk in every clone.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    /// What reads see.
    written: Vec<u8>,
    /// What is there after power loss: `written` as it was at the last sync.
    synced: Vec<u8>,
    /// What has happened since the last sync, in order.
    unsynced: Vec<Operation>,
    syncs: u64,
}

#[derive(Clone, Debug)]
enum Operation {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Operation {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Operation::Write { offset, bytes } => {
                image[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Operation::SetLen(len) => image.resize(*len, 0),
        }
    }
}

impl Disk {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        // A panic of redb over a damaged image may have left the lock poisoned; the bytes are whole.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// How often something was made durable.
    pub fn syncs(&self) -> u64 {
        self.platter().syncs
    }

    /// What was written since the last sync is gone. Whoever has the disk open must be gone too.
    pub fn cut_power(&self) {
        let mut platter = self.platter();
        platter.unsynced.clear();
        platter.written = platter.synced.clone();
    }

    fn run(&self, operation: Operation) {
        let mut platter = self.platter();
        operation.apply(&mut platter.written);
        platter.unsynced.push(operation);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter().written.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.platter();
        let offset = offset as usize;
        match platter.written.get(offset..offset + out.len()) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.run(Operation::SetLen(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.platter();
        let Platter { synced, unsynced, .. } = &mut *platter;
        unsynced.drain(..).for_each(|operation| operation.apply(synced));
        platter.syncs += 1;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.run(Operation::Write { offset: offset as usize, bytes: data.to_vec() });
        Ok(())
    }
}

#[test]
fn only_what_was_synced_survives_a_power_cut() {
    let disk = Disk::default();
    disk.set_len(4).unwrap();
    disk.write(0, b"abcd").unwrap();
    disk.sync_data().unwrap();
    disk.write(1, b"xy").unwrap();
    let mut seen = [0; 4];
    disk.read(0, &mut seen).unwrap();
    assert_eq!(&seen, b"axyd");
    disk.cut_power();
    disk.read(0, &mut seen).unwrap();
    assert_eq!((&seen, disk.syncs()), (b"abcd", 1));
}
