//! What power loss may leave of two disks: every image that a tape allows at a point of it.
//!
//! Must stay true: what was synced before the point is there; of what was only written, any part may be,
//! in sectors of 512 or 4,096 bytes, whatever came before or after it; a change of length is kept or
//! lost by itself; each disk has its own fate. Not here: which points and how many (`power_loss`).
//!
//! Not promised, and so not tried: a drive that acknowledges a flush that it has not done, one that
//! tears within 512 bytes, and one that damages bytes that nobody was writing.

use crate::disk::{Entry, Image, Operation, Which};
use crate::power_loss::dice::Dice;

/// What becomes of what was written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// All of it is lost.
    Dropped,
    /// All of it is there.
    Kept,
    /// The last that was written is there up to some point, as if it had gone out in order.
    Prefix,
    /// Some operations are there and others are not, whichever came first.
    Reordered,
    /// Of each write some sectors are there and others are not.
    Torn512,
    Torn4096,
}

impl Fate {
    pub const ALL: [Fate; 6] =
        [Fate::Dropped, Fate::Kept, Fate::Prefix, Fate::Reordered, Fate::Torn512, Fate::Torn4096];
}

/// One disk at a point of the tape.
struct Half {
    synced: Image,
    unsynced: Vec<Operation>,
}

impl Half {
    fn after(&self, fate: Fate, dice: &mut Dice) -> Image {
        let mut image = self.synced.clone();
        let n = self.unsynced.len();
        let first = match fate {
            Fate::Dropped => 0,
            Fate::Prefix => dice.roll(n + 1),
            _ => n,
        };
        // Rare losses and rare survivors are as interesting as halves.
        let kept_of_8 = [1, 4, 7][dice.roll(3)];
        for operation in &self.unsynced[..first] {
            match (fate, operation) {
                (Fate::Reordered, _) if dice.roll(8) >= kept_of_8 => {}
                (Fate::Torn512 | Fate::Torn4096, Operation::SetLen(_))
                    if dice.roll(8) >= kept_of_8 => {}
                (Fate::Torn512, Operation::Write { offset, bytes }) => {
                    tear(&mut image, *offset, bytes, 512, kept_of_8, dice);
                }
                (Fate::Torn4096, Operation::Write { offset, bytes }) => {
                    tear(&mut image, *offset, bytes, 4_096, kept_of_8, dice);
                }
                _ => operation.apply(&mut image),
            }
        }
        image
    }
}

/// Writes some of the sectors that these bytes touch.
fn tear(
    image: &mut Image,
    offset: usize,
    bytes: &[u8],
    sector: usize,
    kept_of_8: usize,
    dice: &mut Dice,
) {
    let mut at = offset;
    while at < offset + bytes.len() {
        let end = ((at / sector + 1) * sector).min(offset + bytes.len());
        if dice.roll(8) < kept_of_8 {
            image.write(at, &bytes[at - offset..end - offset]);
        }
        at = end;
    }
}

/// Both disks at a point of the tape, before power fails.
pub struct Moment {
    hot: Half,
    archive: Half,
}

impl Moment {
    /// The beginning of a tape, with this on the disks.
    pub fn new((hot, archive): &(Image, Image)) -> Moment {
        let half = |synced: &Image| Half { synced: synced.clone(), unsynced: Vec::new() };
        Moment { hot: half(hot), archive: half(archive) }
    }

    fn half(&mut self, which: Which) -> &mut Half {
        match which {
            Which::Hot => &mut self.hot,
            Which::Archive => &mut self.archive,
        }
    }

    pub fn pass(&mut self, entry: &Entry) {
        match entry {
            Entry::Operation(which, operation) => {
                self.half(*which).unsynced.push(operation.clone());
            }
            Entry::Sync(which) => {
                let Half { synced, unsynced } = self.half(*which);
                unsynced.drain(..).for_each(|operation| operation.apply(synced));
            }
            Entry::Mark => {}
        }
    }

    /// How much of it is at stake.
    pub fn unsynced(&self) -> usize {
        self.hot.unsynced.len() + self.archive.unsynced.len()
    }

    /// What is left of both disks. `fate` is that of the disk that was written; the other one's is its
    /// own, and rolled.
    pub fn cut(&self, fate: Fate, dice: &mut Dice) -> (Image, Image) {
        let other = Fate::ALL[dice.roll(Fate::ALL.len())];
        let (hot, archive) = match (self.hot.unsynced.is_empty(), self.archive.unsynced.is_empty())
        {
            (false, true) => (fate, other),
            (true, false) => (other, fate),
            _ if dice.roll(2) == 0 => (fate, other),
            _ => (fate, fate),
        };
        (self.hot.after(hot, dice), self.archive.after(archive, dice))
    }
}
