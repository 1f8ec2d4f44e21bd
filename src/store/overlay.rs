//! A file that is read where it lies while everything written stays in memory.
//!
//! A disk that takes no more writes (the kernel made it read-only after an error) still has everything
//! that was answered, but redb cannot open an unclean file without writing to it. Must stay true: nothing
//! reaches the file below; what memory holds is bounded (P9). Not here: when this is used (`slot`).

use redb::{BackendError, StorageBackend};
use std::collections::HashMap;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard};

/// Bytes that are kept at a time.
const PIECE: u64 = 4_096;
/// Bytes that repairs may hold.
const HELD_MAX: usize = 64 << 20;

/// `below` with what was written laid over it.
#[derive(Debug)]
pub struct Overlay<B> {
    below: B,
    above: Mutex<Above>,
}

#[derive(Debug)]
struct Above {
    len: u64,
    /// Up to here `below` shows; what lies beyond was cut off and is zero when it comes back.
    below_len: u64,
    pieces: HashMap<u64, Box<[u8]>>,
}

impl<B: StorageBackend> Overlay<B> {
    pub fn over(below: B) -> io::Result<Self> {
        let len = below.len()?;
        let above = Above { len, below_len: len, pieces: HashMap::new() };
        Ok(Overlay { below, above: Mutex::new(above) })
    }

    fn above(&self) -> MutexGuard<'_, Above> {
        self.above.lock().expect("no holder panics")
    }

    fn piece_below(&self, above: &Above, number: u64) -> io::Result<Box<[u8]>> {
        let start = number * PIECE;
        let there = above.below_len.saturating_sub(start).min(PIECE) as usize;
        let mut piece = vec![0; PIECE as usize];
        if there > 0 {
            self.below.read(start, &mut piece[..there])?;
        }
        Ok(piece.into())
    }
}

/// The pieces that a range touches: number, where in the piece, how much of it.
fn touched(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + len as u64;
    (offset / PIECE..end.div_ceil(PIECE)).map(move |number| {
        let start = offset.max(number * PIECE);
        let stop = end.min((number + 1) * PIECE);
        (number, (start - number * PIECE) as usize, (stop - start) as usize)
    })
}

impl<B: StorageBackend> StorageBackend for Overlay<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.above().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let above = self.above();
        if offset + out.len() as u64 > above.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = out;
        for (number, start, len) in touched(offset, rest.len()) {
            let (now, later) = rest.split_at_mut(len);
            rest = later;
            match above.pieces.get(&number) {
                Some(piece) => now.copy_from_slice(&piece[start..start + len]),
                None => {
                    let piece = self.piece_below(&above, number)?;
                    now.copy_from_slice(&piece[start..start + len]);
                }
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut above = self.above();
        if len < above.len {
            above.below_len = above.below_len.min(len);
            above.pieces.retain(|number, _| number * PIECE < len);
            if let Some(last) = above.pieces.get_mut(&(len / PIECE)) {
                last[(len % PIECE) as usize..].fill(0);
            }
        }
        above.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut above = self.above();
        let mut rest = data;
        for (number, start, len) in touched(offset, data.len()) {
            let (now, later) = rest.split_at(len);
            rest = later;
            if !above.pieces.contains_key(&number) {
                if above.pieces.len() * PIECE as usize >= HELD_MAX {
                    return Err(io::ErrorKind::OutOfMemory.into());
                }
                let piece = self.piece_below(&above, number)?;
                above.pieces.insert(number, piece);
            }
            let piece = above.pieces.get_mut(&number).expect("put there above");
            piece[start..start + len].copy_from_slice(now);
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.below.close()
    }

    // Whoever only reads shares the file below with others who do, and keeps out who would write.

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.below.try_lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.below.unlock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;

    #[derive(Clone, Debug)]
    enum Operation {
        Write(u64, Vec<u8>),
        SetLen(u64),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            3 => (0..12_000u64, prop::collection::vec(1..=255u8, 1..9_000))
                .prop_map(|(offset, bytes)| Operation::Write(offset, bytes)),
            1 => (0..20_000u64).prop_map(Operation::SetLen),
        ]
    }

    fn image(backend: &impl StorageBackend) -> Vec<u8> {
        let mut bytes = vec![0; backend.len().unwrap() as usize];
        backend.read(0, &mut bytes).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn it_reads_as_if_it_had_been_written_and_the_file_below_stays_as_it_was(
            first in prop::collection::vec(1..=255u8, 0..10_000),
            operations in prop::collection::vec(operation(), 1..12),
        ) {
            let below = InMemoryBackend::new();
            below.set_len(first.len() as u64).unwrap();
            below.write(0, &first).unwrap();
            let overlay = Overlay::over(below).unwrap();
            let mut expected = first.clone();
            for operation in operations {
                match operation {
                    Operation::Write(offset, bytes) => {
                        let end = offset as usize + bytes.len();
                        if end > expected.len() {
                            overlay.set_len(end as u64).unwrap();
                            expected.resize(end, 0);
                        }
                        overlay.write(offset, &bytes).unwrap();
                        expected[offset as usize..end].copy_from_slice(&bytes);
                    }
                    Operation::SetLen(len) => {
                        overlay.set_len(len).unwrap();
                        expected.resize(len as usize, 0);
                    }
                }
                prop_assert_eq!(image(&overlay), expected.clone());
            }
            prop_assert_eq!(image(&overlay.below), first);
        }
    }
}
