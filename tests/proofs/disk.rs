//! A disk in memory that keeps what was synced apart from what was only written, and may write down
//! everything that happens to it.
//!
//! Must stay true: reads see what was written; only a sync makes it survive `cut_power`; clones are the
//! same disk. A tape has the operations of all its disks in their one order. Not here: what is left
//! after power loss beyond "only what was synced" (`power_loss::cuts`).

use redb::StorageBackend;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// Bytes that images share until one of them is written.
const PAGE: usize = 4_096;

/// What a disk holds; a clone costs next to nothing.
#[derive(Clone, Debug, Default)]
pub struct Image {
    len: usize,
    pages: Vec<Arc<[u8; PAGE]>>,
}

impl Image {
    pub fn len(&self) -> usize {
        self.len
    }

    fn read(&self, offset: usize, out: &mut [u8]) -> io::Result<()> {
        if offset + out.len() > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < out.len() {
            let (page, start) = ((offset + done) / PAGE, (offset + done) % PAGE);
            let n = (PAGE - start).min(out.len() - done);
            out[done..done + n].copy_from_slice(&self.pages[page][start..start + n]);
            done += n;
        }
        Ok(())
    }

    /// Writes within the file; what lies beyond its end is not kept.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(self.len.saturating_sub(offset))];
        let mut done = 0;
        while done < bytes.len() {
            let (page, start) = ((offset + done) / PAGE, (offset + done) % PAGE);
            let n = (PAGE - start).min(bytes.len() - done);
            let page = Arc::make_mut(&mut self.pages[page]);
            page[start..start + n].copy_from_slice(&bytes[done..done + n]);
            done += n;
        }
    }

    /// Takes over these pages of another image of the same length.
    fn copy_pages(&mut self, from: &Image, pages: impl Iterator<Item = usize>) {
        pages.for_each(|page| self.pages[page] = from.pages[page].clone());
    }

    pub fn set_len(&mut self, len: usize) {
        if len < self.len && !len.is_multiple_of(PAGE) {
            Arc::make_mut(&mut self.pages[len / PAGE])[len % PAGE..].fill(0);
        }
        self.pages.resize_with(len.div_ceil(PAGE), || Arc::new([0; PAGE]));
        self.len = len;
    }
}

/// Which of the two files a disk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Hot,
    Archive,
}

/// What happens to a disk's bytes.
#[derive(Clone, Debug)]
pub enum Operation {
    Write { offset: usize, bytes: Arc<[u8]> },
    SetLen(usize),
}

impl Operation {
    pub fn apply(&self, image: &mut Image) {
        match self {
            Operation::Write { offset, bytes } => image.write(*offset, bytes),
            Operation::SetLen(len) => image.set_len(*len),
        }
    }
}

#[derive(Clone, Debug)]
pub enum Entry {
    Operation(Which, Operation),
    Sync(Which),
    /// Something that the world outside sees happened here.
    Mark,
}

/// What happened to several disks, in order; the same tape in every clone.
#[derive(Clone, Debug, Default)]
pub struct Tape(Arc<Mutex<Vec<Entry>>>);

impl Tape {
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn push(&self, entry: Entry) {
        self.entries().push(entry);
    }

    /// How much has happened so far.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    pub fn mark(&self) {
        self.push(Entry::Mark);
    }

    pub fn played(&self) -> Vec<Entry> {
        self.entries().clone()
    }
}

/// The same disk in every clone.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    /// What reads see.
    written: Image,
    /// What is there after power loss: `written` as it was at the last sync.
    synced: Image,
    /// The pages that were written since then, so that a sync costs what was written, however long the
    /// disk is.
    unsynced: BTreeSet<usize>,
    /// Its length was changed since then.
    resized: bool,
    syncs: u64,
    tape: Option<(Tape, Which)>,
}

impl Disk {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        // A panic of redb over a damaged image may have left the lock poisoned; the bytes are whole.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A disk that holds this, synced.
    pub fn holding(image: Image) -> Disk {
        let platter = Platter { written: image.clone(), synced: image, ..Platter::default() };
        Disk(Arc::new(Mutex::new(platter)))
    }

    /// From now on everything that happens is written down.
    pub fn record(self, tape: &Tape, which: Which) -> Disk {
        self.platter().tape = Some((tape.clone(), which));
        self
    }

    /// What reads see.
    pub fn written(&self) -> Image {
        self.platter().written.clone()
    }

    /// From now on nothing is written down.
    pub fn stop_recording(&self) {
        self.platter().tape = None;
    }

    /// How often something was made durable.
    pub fn syncs(&self) -> u64 {
        self.platter().syncs
    }

    /// What was written since the last sync is gone. Whoever has the disk open must be gone too.
    pub fn cut_power(&self) {
        let mut platter = self.platter();
        platter.written = platter.synced.clone();
        platter.unsynced.clear();
        platter.resized = false;
    }

    fn run(&self, operation: Operation) {
        let mut platter = self.platter();
        operation.apply(&mut platter.written);
        match &operation {
            Operation::Write { offset, bytes } => {
                let end = offset + bytes.len();
                platter.unsynced.extend(offset / PAGE..end.div_ceil(PAGE));
            }
            Operation::SetLen(_) => platter.resized = true,
        }
        if let Some((tape, which)) = &platter.tape {
            tape.push(Entry::Operation(*which, operation));
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter().written.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.platter().written.read(offset as usize, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.run(Operation::SetLen(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.platter();
        let Platter { written, synced, unsynced, resized, syncs, tape } = &mut *platter;
        if !std::mem::take(resized) {
            synced.copy_pages(written, std::mem::take(unsynced).into_iter());
        } else {
            *synced = written.clone();
            unsynced.clear();
        }
        *syncs += 1;
        if let Some((tape, which)) = tape {
            tape.push(Entry::Sync(*which));
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset as usize + data.len() > self.platter().written.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.run(Operation::Write { offset: offset as usize, bytes: data.into() });
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

#[test]
fn what_is_cut_off_is_zero_when_it_comes_back() {
    let mut image = Image::default();
    image.set_len(10_000);
    image.write(4_000, &[7; 5_000]);
    image.set_len(5_000);
    image.set_len(10_000);
    let mut seen = [1; 6_000];
    image.read(4_000, &mut seen).unwrap();
    assert!(seen[..1_000].iter().all(|byte| *byte == 7));
    assert!(seen[1_000..].iter().all(|byte| *byte == 0));
}
